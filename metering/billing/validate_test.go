package billing_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

func TestPlanFaults(t *testing.T) {
	f := func(change, want string) {
		t.Helper()
		text := `{"id":"p","version":1,"currency":"EUR","cadence":{"unit":"month"},"prices":[{"id":"a","meter":"requests","model":"per_unit","amount":"1"}]}`
		var p billing.Plan
		if err := json.Unmarshal([]byte(text), &p); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(change, "prices") {
			p.Prices = nil
		}
		if err := json.Unmarshal([]byte(change), &p); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, x := range p.Validate() {
			line := x.Pointer + ": " + x.Reason
			if x.Warning {
				line = "warning " + line
			}
			got = append(got, line)
		}
		if all := strings.Join(got, "; "); all != want {
			t.Errorf("%s\n got %s\nwant %s", change, all, want)
		}
	}
	price := func(s string) string { return `{"prices":[{"id":"a","meter":"requests",` + s + `}]}` }
	f(`{}`, "")
	f(`{"currency":"EURO"}`, `/currency: "EURO" is not a currency`)
	f(`{"version":0}`, `/version: must be 1 or more`)
	f(`{"cadence":{"unit":"moon"}}`, `/cadence/unit: "moon" is not known`)
	f(`{"rounding":"down"}`, `/rounding: "down" is not known`)
	f(`{"minimum":"-1"}`, `/minimum: -1 is negative`)
	f(price(`"model":"per_unit","amount":"0.0000000000001"`), `/prices/0/amount: 0.0000000000001 has more than 12 digits after the point`)
	f(price(`"model":"per_unit","amount":"0.000000000001"`), ``)
	f(price(`"model":"per_unit","amount":"1/3"`), `/prices/0/amount: 1/3 has more than 12 digits after the point`)
	f(price(`"model":"per_unit","amount":"1000000000000001"`), `/prices/0/amount: 1000000000000001 is more than 10^15`)
	f(price(`"model":"per_unit","amount":"-1"`), `/prices/0/amount: -1 is negative`)
	f(price(`"model":"lottery"`), `/prices/0/model: "lottery" is not known`)
	f(price(`"model":"package","amount":"1"`), `/prices/0/size: must be more than 0`)
	f(price(`"model":"graduated"`), `/prices/0/tiers: is missing`)
	f(price(`"model":"graduated","tiers":[{"up_to":"10"},{"up_to":"10"},{}]`), `/prices/0/tiers/1/up_to: 10 is not above the bound before, 10`)
	f(price(`"model":"graduated","tiers":[{"up_to":"10"},{"up_to":"5"},{}]`), `/prices/0/tiers/1/up_to: 5 is not above the bound before, 10`)
	f(price(`"model":"graduated","tiers":[{"up_to":"10"},{"from":"8","up_to":"20"},{"from":"21"}]`), `/prices/0/tiers/1/from: overlaps the tier before, which ends at 10; /prices/0/tiers/2/from: leaves a gap: the tier before ends at 20`)
	f(price(`"model":"volume","tiers":[{},{"up_to":"5"}]`), `/prices/0/tiers/0/up_to: is missing: only the last tier has no bound; /prices/0/tiers/1/up_to: usage above the last bound would have no price`)
	f(price(`"model":"volume","tiers":[{"up_to":"20","unit_price":"2"},{"unit_price":"1"}]`), `warning /prices/0/tiers/1: the price falls from 40 to 20 where the tier begins`)
	f(price(`"model":"volume","tiers":[{"up_to":"20","unit_price":"1"},{"unit_price":"2"}]`), ``)
	f(price(`"model":"blocks","blocks":[{"size":"0","price":"1"}]`), `/prices/0/blocks/0/size: must be more than 0`)
	f(price(`"model":"blocks","blocks":[{"size":"1","price":"1"},{"size":"1","price":"1"}]`), `/prices/0/blocks/0/max: every tier of blocks but the last has a bound`)
	f(price(`"model":"per_unit","minimum":"5","maximum":"4"`), `/prices/0/maximum: 4 is less than the minimum 5`)
	f(price(`"model":"per_unit","discount_percent":"101"`), `/prices/0/discount_percent: 101 is more than 100 percent`)
	f(price(`"model":"per_unit","convert":{"divide":"0"}`), `/prices/0/convert/divide: must be more than 0`)
	f(price(`"model":"per_unit","commitment":{}`), `/prices/0/commitment: needs either an amount or units`)
	f(price(`"model":"flat","advance":true`), `/prices/0/advance: usage cannot be charged before it is known`)
	f(`{"prices":[{"id":"a","model":"flat"},{"id":"a","model":"flat"}]}`, `/prices/1/id: "a" is taken`)
	f(`{"prices":[{"id":"a","model":"flat","route":"r"}]}`, `/prices/0/meter: is missing: a recurring fee has no aggregation, bucket or route`)
	f(`{"entitlements":[{"feature":"","at":"maybe"}]}`, `/entitlements/0/feature: is missing; /entitlements/0/at: "maybe" is not known`)
	f(`{"taxes":[{"code":"VAT","percent":"120"}]}`, `/taxes/0/percent: 120 is more than 100 percent`)
}

func TestSubscriptionFaults(t *testing.T) {
	p, q := plan(t, free), plan(t, strings.Replace(free, "EUR", "USD", 1))
	q.ID = "dollars"
	b := book(p, q)
	base := billing.Subscription{ID: "s", Tenant: "acme", Plan: p.Ref(), Start: at("2026-01-01T00:00:00Z")}
	f := func(change func(s *billing.Subscription), closed, want string) {
		t.Helper()
		s := base
		change(&s)
		end := time.Time{}
		if closed != "" {
			end = at(closed)
		}
		var got []string
		for _, x := range base.Amend(&s, b, end) {
			got = append(got, x.Pointer+": "+x.Reason)
		}
		if all := strings.Join(got, "; "); all != want {
			t.Errorf("got %s\nwant %s", all, want)
		}
	}
	f(func(*billing.Subscription) {}, "2026-03-01T00:00:00Z", "")
	f(func(s *billing.Subscription) { s.End = at("2025-12-01T00:00:00Z") }, "", `/end: 2025-12-01T00:00:00Z is not after the start 2026-01-01T00:00:00Z`)
	f(func(s *billing.Subscription) {
		s.Pauses = []billing.Period{{Start: at("2026-02-02T00:00:00Z"), End: at("2026-02-01T00:00:00Z")}}
	}, "", `/pauses/0/end: the period ends at 2026-02-01T00:00:00Z, before it begins at 2026-02-02T00:00:00Z`)
	f(func(s *billing.Subscription) { s.TimeZone = "Mars/Olympus" }, "", `/time_zone: "Mars/Olympus" is not a time zone`)
	f(func(s *billing.Subscription) {
		s.Changes = []billing.Change{{At: at("2026-01-15T00:00:00Z"), Plan: p.Ref()}}
	}, "2026-02-01T00:00:00Z", `/changes/0/at: 2026-01-15T00:00:00Z lies in a period that is finalized`)
	f(func(s *billing.Subscription) {
		s.Changes = []billing.Change{{At: at("2026-02-01T00:00:00Z"), Plan: p.Ref()}}
	}, "2026-02-01T00:00:00Z", ``)
	f(func(s *billing.Subscription) {
		s.Changes = []billing.Change{{At: at("2026-02-01T00:00:00Z"), Plan: q.Ref()}}
	}, "", `/changes/0/plan: dollars/1 has another currency or cadence`)
	f(func(s *billing.Subscription) { s.End = at("2026-01-20T00:00:00Z") }, "2026-02-01T00:00:00Z", `/end: 2026-01-20T00:00:00Z lies in a period that is finalized`)
	f(func(s *billing.Subscription) { s.Quantities = map[string]billing.Decimal{"a": dec("-1")} }, "", `/quantities/a: -1 is negative; /quantities/a: plan free/1 has no recurring fee "a"`)
	f(func(s *billing.Subscription) { s.Discounts = []billing.Discount{{ID: "x"}} }, "", `/discounts/0: needs either a percent or an amount`)
	f(func(s *billing.Subscription) { s.Anchor = at("2026-01-05T00:00:00Z") }, "2026-02-01T00:00:00Z", `/start: 2026-01-01T00:00:00Z lies in a period that is finalized`)
	f(func(s *billing.Subscription) { s.Plan.Version = 9 }, "", `/plan: there is no plan free/9`)
	changed := base
	changed.Changes = []billing.Change{{At: at("2026-01-15T00:00:00Z"), Plan: p.Ref()}}
	if fs := changed.Amend(&base, b, at("2026-02-01T00:00:00Z")); len(fs) != 1 || fs[0].Pointer != "/changes" {
		t.Errorf("a change was taken away: %v", fs)
	}
}

func TestEntitlements(t *testing.T) {
	e := billing.Entitlement{Feature: "calls", Meter: "requests", Limit: ptr(dec("100")), Window: billing.Cadence{Unit: billing.Day}}
	now := at("2026-03-29T12:00:00Z")
	rome, err := time.LoadLocation("Europe/Rome")
	if err != nil {
		t.Fatal(err)
	}
	w := e.WindowAt(now, at("2025-12-31T23:00:00Z"), rome, billing.Cadence{Unit: billing.Month})
	if w.End.Sub(w.Start) != 23*time.Hour {
		t.Errorf("the window is %v", w)
	}
	f := func(at billing.Enforcement, used, want, answer string) {
		t.Helper()
		e.At = at
		a := e.Check(dec(used), dec(want), now, w)
		if got := fmt.Sprint(a.Allowed, " ", a.Balance, " ", a.Overage); got != answer {
			t.Errorf("%s, %s used, %s wanted: got %s, want %s", at, used, want, got, answer)
		}
	}
	f(billing.Hard, "99", "1", "true 1 0")
	f("", "99", "2", "false 1 0")
	f(billing.Hard, "100", "0", "false 0 0")
	f(billing.Hard, "100", "1", "false 0 0")
	f(billing.Soft, "120", "1", "true 0 20")
	f(billing.Overage, "120", "1", "true 0 20")
	e.Until = now
	f(billing.Hard, "0", "1", "false <nil> 0")
	e.Until, e.Limit = time.Time{}, nil
	f(billing.Hard, "1000000", "1", "true <nil> 0")
}
