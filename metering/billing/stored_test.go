package billing_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

// TestStoredInvoicesCanBeRead holds that whatever a valid plan makes of usage
// survives JSON, to the byte: exact amounts may be fractions of many digits.
func TestStoredInvoicesCanBeRead(t *testing.T) {
	twelve := rapid.Custom(func(t *rapid.T) billing.Decimal {
		return billing.Fraction(rapid.Int64Range(1, 2_000_000_000_000_000).Draw(t, "n"), 1_000_000_000_000)
	})
	rapid.Check(t, func(t *rapid.T) {
		part := func(name string) *billing.Decimal {
			if rapid.IntRange(0, 4).Draw(t, name+"?") == 0 {
				return nil
			}
			return ptr(twelve.Draw(t, name))
		}
		p := &billing.Plan{
			ID: "p", Version: 1, Currency: currencies.Draw(t, "currency"), Cadence: billing.Cadence{Unit: billing.Month}, Minimum: twelve.Draw(t, "minimum"),
			Proration: rapid.SampledFrom([]billing.Proration{billing.Seconds, billing.Days}).Draw(t, "proration"), Taxes: []billing.Tax{{Code: "VAT", Percent: dec("7.7")}},
			Prices: []billing.Price{
				{ID: "fee", Advance: true, Model: billing.PerUnit, Amount: twelve.Draw(t, "fee")},
				{
					ID: "calls", Meter: "units", Model: billing.PerUnit, Amount: twelve.Draw(t, "amount"), Convert: &billing.Conversion{Multiply: part("multiply"), Divide: part("divide")},
					Included: twelve.Draw(t, "included"), Discount: dec("12.345678901234").Round(12, billing.Down), Commitment: &billing.Commitment{Amount: twelve.Draw(t, "commitment"), Overage: part("overage"), TrueUp: true},
					Aggregation: rapid.SampledFrom([]billing.Aggregation{"", billing.Weighted, billing.Mean}).Draw(t, "aggregation"),
				},
			},
		}
		s := subscribed(p)
		s.Start = at("2026-01-01T00:00:00Z").Add(time.Duration(rapid.Int64Range(0, int64(20*24*time.Hour)).Draw(t, "start")))
		s.Anchor, s.TimeZone = at("2026-01-01T00:00:00Z"), "Europe/Rome"
		cells := []metering.Cell{
			cell("2026-01-22T00:00:00Z", "units", rapid.Int64Range(0, 1<<40).Draw(t, "units")),
			cell("2026-01-23T00:07:00Z", "units", rapid.Int64Range(0, 1<<40).Draw(t, "more")),
		}
		inv, err := billing.Draft(billing.Run{Book: book(p), Subscription: s, Cells: cells, Watermark: billing.Watermark{SealedUntil: at("2026-02-01T01:00:00+01:00")}})
		if err != nil && strings.Contains(err.Error(), "more than 10^15") {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if inv, err = inv.Finalize("GH-2026-000001", "", at("2026-02-01T01:00:00+01:00"), time.Hour); err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(inv)
		if err != nil {
			t.Fatal(err)
		}
		var back billing.Invoice
		if err := json.Unmarshal(text, &back); err != nil {
			t.Fatal(err)
		}
		again, err := json.Marshal(back)
		if err != nil || string(again) != string(text) {
			t.Fatalf("got\n%s\nwant\n%s\n%v", again, text, err)
		}
		if strings.Contains(string(text), "+01:00") {
			t.Fatalf("a time is not in UTC: %s", text)
		}
		if err := billing.Verify([]billing.Invoice{back}); err != nil {
			t.Fatal(err)
		}
	})
}

// TestLongDecimals holds that what is stored may be longer than what is told,
// and neither without end.
func TestLongDecimals(t *testing.T) {
	f := func(length int, told, stored bool) {
		t.Helper()
		text := strings.Repeat("7", length-2) + "/9"
		_, err := billing.ParseDecimal(text)
		var d billing.Decimal
		if errStored := d.UnmarshalText([]byte(text)); (err == nil) != told || (errStored == nil) != stored {
			t.Errorf("%d bytes: told %v, stored %v", length, err, errStored)
		}
	}
	f(128, true, true)
	f(129, false, true)
	f(4096, false, true)
	f(4097, false, false)
	for text, want := range map[string]string{"010/030": "1/3", "08/3": "8/3", "-010/4": "-2.5", "010": "10"} {
		if d, err := billing.ParseDecimal(text); err != nil || d.String() != want {
			t.Errorf("%s is %s, %v", text, d, err)
		}
	}
}

// TestRefusedInput names what Draft and Validate refuse.
func TestRefusedInput(t *testing.T) {
	p := thirty(t, "p", `{"id":"base","advance":true,"model":"per_unit","amount":"1000000000000"},`+metered)
	s := subscribed(p)
	f := func(change func(*billing.Run), want string) {
		t.Helper()
		r := billing.Run{Book: book(p), Subscription: subscribed(p)}
		change(&r)
		if inv, err := billing.Draft(r); err == nil || !strings.Contains(err.Error(), want) || len(inv.Lines) > 0 {
			t.Errorf("got %v with %d lines, want %s", err, len(inv.Lines), want)
		}
	}
	for _, through := range []time.Time{{}, s.Start, at("2025-12-01T00:00:00Z"), at("2026-03-01T00:00:00Z")} {
		f(func(r *billing.Run) { r.Kind, r.Through = billing.Progressive, through }, "/through: ")
	}
	f(func(r *billing.Run) { r.Kind = "clossing" }, `/kind: "clossing" is not known`)
	f(func(r *billing.Run) {
		r.Kind, r.Subscription.Quantities = billing.Opening, map[string]billing.Decimal{"base": dec("1001")}
	}, "/plans/p~11/prices/base: a fee for 1001 comes to 1001000000000000, more than 10^15")
	f(func(r *billing.Run) { r.Subscription.Quantities = map[string]billing.Decimal{"seats": dec("1")} }, `/subscription/quantities/seats: plan p/1 has no recurring fee "seats"`)
	f(func(r *billing.Run) { r.Subscription.Quantities = map[string]billing.Decimal{"calls": dec("1")} }, `/subscription/quantities/calls: plan p/1 has no recurring fee "calls"`)
	one, two := *p, *p
	one.Cadence, two.ID, two.Cadence = billing.Cadence{Unit: billing.Month}, "q", billing.Cadence{Every: 1, Unit: billing.Month}
	s.Changes = []billing.Change{moved("2026-02-01", &two)}
	if fs := s.Validate(book(&one, &two), time.Time{}); len(fs) > 0 {
		t.Errorf("every month and every 1 month: %v", fs)
	}
}

// TestIgnoredFields holds that a field that its model does not read, or that
// cells cannot answer, is refused.
func TestIgnoredFields(t *testing.T) {
	f := func(price, want string) {
		t.Helper()
		p := billing.Plan{ID: "p", Version: 1, Currency: "EUR", Cadence: billing.Cadence{Unit: billing.Month}, Prices: make([]billing.Price, 1)}
		if err := json.Unmarshal([]byte(`{"id":"x",`+price+`}`), &p.Prices[0]); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, x := range p.Validate() {
			got = append(got, x.Pointer+": "+x.Reason)
		}
		if all := strings.Join(got, "; "); all != want {
			t.Errorf("%s: got %s\nwant %s", price, all, want)
		}
	}
	const m = `"meter":"bytes_out",`
	f(m+`"model":"percentage","rate":"10","included":"50","convert":{"divide":"1000"}`, `/prices/0/convert: means nothing to the model percentage; /prices/0/included: means nothing to the model percentage`)
	f(m+`"model":"graduated","amount":"3","tiers":[{"unit_price":"1","rate":"5"}]`, `/prices/0/amount: means nothing to the model graduated; /prices/0/tiers/0/rate: means nothing to the model graduated`)
	f(m+`"model":"per_unit","amount":"1","size":"5","flat_at_zero":false`, `/prices/0/flat_at_zero: means nothing to the model per_unit; /prices/0/size: means nothing to the model per_unit`)
	f(m+`"model":"percentage","rate":"1","event_min":"5","free_events":3`, `/prices/0/event_min: needs the amounts of single events; /prices/0/free_events: needs the amounts of single events`)
	f(m+`"model":"percentage","rate":"1","fee":"1","free_amount":"3","bucket":"day"`, `/prices/0/bucket: needs the amounts of single events; /prices/0/free_amount: needs the amounts of single events`)
	f(m+`"model":"percentage","rate":"1","fee":"1"`, ``)
	f(m+`"model":"capacity","aggregation":"sum","tiers":[{"flat_fee":"1"}]`, `/prices/0/aggregation: a capacity is that of the largest minute`)
	f(m+`"model":"per_unit","aggregation":"weighted_sum","bucket":"day","amount":"1"`, `/prices/0/bucket: a mean level is that of the whole period`)
}

// TestReplayOfAnotherCadence holds that periods of different lengths are not
// compared, and that a draft without a fee does not mind its quantity.
func TestReplayOfAnotherCadence(t *testing.T) {
	p, cheap := base(t, "p", "20"), thirty(t, "cheap", metered)
	s := subscribed(p)
	s.Quantities = map[string]billing.Decimal{"base": dec("2")}
	rows, err := billing.Replay(book(p), []*billing.Plan{cheap}, []billing.Past{{Subscription: s}}, 0)
	if err != nil || fmt.Sprint(rows[0].Paid, rows[0].Would) != "20 [0]" {
		t.Errorf("%v, %v", rows, err)
	}
	weekly := *p
	weekly.ID, weekly.Cadence = "weekly", billing.Cadence{Unit: billing.Week}
	if _, err := billing.Replay(book(p), []*billing.Plan{&weekly}, []billing.Past{{Subscription: s}}, 0); gatehouse.CodeOf(err) != gatehouse.CodeInvalid {
		t.Errorf("a week was set beside 30 days: %v", err)
	}
}

// TestSealedWithoutANumber holds that no document is issued without one.
func TestSealedWithoutANumber(t *testing.T) {
	if n, err := (billing.CreditNote{}).Seal("", ""); gatehouse.CodeOf(err) != gatehouse.CodeInvalid || n.Hash != "" {
		t.Errorf("sealed %q: %v", n.Hash, err)
	}
	chain := []billing.Invoice{finalize(t, simple("1"), 1, "")}
	f := func(number, want string) {
		t.Helper()
		next, err := simple("1").Finalize(number, chain[0].Hash, at("2026-02-01T00:00:00Z"), 0)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if err := billing.Verify(append(chain[:1:1], next)); err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%s after GH-2026-000001: %s", number, got)
		}
	}
	f("GH-2026-000002", "")
	f("GH-2027-000001", "")
	f("GH-2026-000003", "numbers are missing")
	f("GH-2027-000002", "numbers are missing")
	f("GX-2026-000002", "numbers are missing")
	f("GH-2026-000001", "numbers are missing")
}
