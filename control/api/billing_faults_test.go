package api

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/invoicing"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
)

// What makes no sense is refused with a pointer to it, and nothing is saved:
// no event is in the journal and no correction in the ledger.
func TestBillingFaults(t *testing.T) {
	s := start(t, "")
	clock := s.billAt("2026-01-01")
	const b = "/api/v1/tenants/own/billing"
	prices := func(parts ...string) string {
		return `{"currency": "EUR", "cadence": {"unit": "month"}, "prices": [` + strings.Join(parts, ", ") + `]}`
	}
	base := `{"id": "base", "model": "flat", "amount": "30", "advance": true}`
	calls := `{"id": "calls", "meter": "requests", "model": "per_unit", "amount": "0.5"}`
	s.made("POST /api/v1/tenants\n\n" + `{"id": "own", "plan": "premium"}`)
	s.made("POST /api/v1/plans/premium/versions\n\n" + prices(base, calls))
	s.made("POST " + b + "\n\n" + `{"plan": "premium"}`)
	s.made("POST " + b + "/invoices\n\n" + `{"kind": "opening"}`)
	clock.set(t, "2026-02-10")
	s.made("POST " + b + "/invoices")
	s.made("POST " + b + "/subscriptions/main/pause\n\n" + `{"at": "2026-03-01T00:00:00Z", "until": "2026-03-05T00:00:00Z"}`)

	version := "POST /api/v1/plans/premium/versions\n\n"
	sub := b + "/subscriptions/main"
	const huge = `"1000000000000001"` // 10^15 + 1
	for name, tt := range map[string]struct {
		request string
		want    string // pointers, in order
	}{
		"a price with 13 decimals":        {version + prices(strings.Replace(calls, "0.5", "0.0000000000001", 1)), "/prices/0/amount"},
		"a tier with 13 decimals":         {version + prices(`{"id": "x", "meter": "requests", "model": "volume", "tiers": [{"unit_price": "0.0000000000001"}]}`), "/prices/0/tiers/0/unit_price"},
		"a negative price":                {version + prices(strings.Replace(calls, "0.5", "-1", 1)), "/prices/0/amount"},
		"13 decimals in a number":         {version + prices(strings.Replace(calls, `"0.5"`, "0.0000000000001", 1)), "/prices/0/amount"},
		"an amount beyond 10^15":          {version + prices(strings.Replace(base, `"30"`, huge, 1)), "/prices/0/amount"},
		"a minimum beyond 10^15":          {version + strings.Replace(prices(base), `"currency"`, `"minimum": `+huge+`, "currency"`, 1), "/minimum"},
		"overlapping tiers":               {version + prices(`{"id": "x", "meter": "requests", "model": "graduated", "tiers": [{"up_to": "10", "unit_price": "1"}, {"from": "5", "up_to": "20", "unit_price": "1"}, {"unit_price": "1"}]}`), "/prices/0/tiers/1/from"},
		"tiers that go back":              {version + prices(`{"id": "x", "meter": "requests", "model": "graduated", "tiers": [{"up_to": "10", "unit_price": "1"}, {"up_to": "10", "unit_price": "1"}, {"unit_price": "1"}]}`), "/prices/0/tiers/1/up_to"},
		"an unknown currency":             {version + strings.Replace(prices(base), "EUR", "EURO", 1), "/currency"},
		"two faults at once":              {version + strings.Replace(prices(base, strings.Replace(calls, "0.5", "-1", 1)), "EUR", "eur", 1), "/currency /prices/1/amount"},
		"an unknown model":                {version + prices(strings.Replace(calls, "per_unit", "per_moon", 1)), "/prices/0/model"},
		"an unknown key":                  {version + prices(strings.Replace(calls, `"amount"`, `"amuont"`, 1)), "/prices/0/amuont"},
		"one id twice":                    {version + prices(base, base), "/prices/1/id"},
		"a version that is not next":      {version + strings.Replace(prices(base), `"currency"`, `"version": 7, "currency"`, 1), "/version"},
		"a replay with a fault":           {"POST /api/v1/plans/premium/replay\n\n" + `{"drafts": [` + prices(base) + `, ` + prices(strings.Replace(base, "30", "-30", 1)) + `]}`, "/drafts/1/prices/0/amount"},
		"a replay of nothing":             {"POST /api/v1/plans/premium/replay\n\n" + `{"drafts": []}`, "/drafts"},
		"a plan without prices":           {"POST " + b + "\n\n" + `{"id": "two", "plan": "free"}`, "/plan"},
		"a subscription that ends before": {"POST " + b + "\n\n" + `{"id": "two", "plan": "premium", "start": "2026-03-01T00:00:00Z", "end": "2026-02-01T00:00:00Z"}`, "/end"},
		"a zone on Mars":                  {"POST " + b + "\n\n" + `{"id": "two", "plan": "premium", "time_zone": "Mars/Olympus"}`, "/time_zone"},
		"negative quantities":             {"POST " + b + "\n\n" + `{"id": "two", "plan": "premium", "quantities": {"base": "-1"}}`, "/quantities/base"},
		"quantities beyond 10^15":         {"POST " + b + "\n\n" + `{"id": "two", "plan": "premium", "quantities": {"base": ` + huge + `}}`, "/quantities/base"},
		"a change to negative quantities": {"POST " + sub + "/changes\n\n" + `{"plan": "premium", "quantities": {"base": "-1"}}`, "/quantities/base"},
		"a change in a finalized period":  {"POST " + sub + "/changes\n\n" + `{"plan": "premium", "at": "2026-01-15T00:00:00Z"}`, "/at"},
		"a pause in a finalized period":   {"POST " + sub + "/pause\n\n" + `{"at": "2026-01-15T00:00:00Z"}`, "/at"},
		"an end in a finalized period":    {"POST " + sub + "/cancel\n\n" + `{"at": "2026-01-15T00:00:00Z"}`, "/at"},
		"a pause that ends before":        {"POST " + sub + "/pause\n\n" + `{"at": "2026-04-10T00:00:00Z", "until": "2026-04-05T00:00:00Z"}`, "/until"},
		"a pause that is resumed before":  {"POST " + sub + "/resume\n\n" + `{"at": "2026-01-10T00:00:00Z"}`, "/at"},
		"a discount of 101 percent":       {"POST " + sub + "/discounts\n\n" + `{"id": "d", "percent": "101"}`, "/percent"},
		"a discount beyond 10^15":         {"POST " + sub + "/discounts\n\n" + `{"id": "d", "amount": ` + huge + `}`, "/amount"},
		"credit of nothing":               {"POST " + b + "/credits\n\n" + `{"currency": "EUR", "id": "g", "amount": "0"}`, "/amount"},
		"negative credit":                 {"POST " + b + "/credits\n\n" + `{"currency": "EUR", "id": "g", "amount": "-5"}`, "/amount"},
		"credit beyond 10^15":             {"POST " + b + "/credits\n\n" + `{"currency": "EUR", "id": "g", "amount": ` + huge + `}`, "/amount"},
		"credit in moons":                 {"POST " + b + "/credits\n\n" + `{"currency": "MOO", "id": "g", "amount": "5"}`, "/currency"},
		"credit that has expired":         {"POST " + b + "/credits\n\n" + `{"currency": "EUR", "id": "g", "amount": "5", "expires": "2026-01-01T00:00:00Z"}`, "/expires"},
		"an invoice of no kind":           {"POST " + b + "/invoices\n\n" + `{"kind": "yearly"}`, "/kind"},
		"an invoice of a period before":   {"POST " + b + "/invoices\n\n" + `{"period": -1}`, "/period"},
		"a mark that there is not":        {"POST " + b + "/invoices/GH-2026-000001/marks\n\n" + `{"status": "lost"}`, "/status"},
		"a credit note to the moon":       {"POST " + b + "/credit-notes\n\n" + `{"invoice": "GH-2026-000001", "to": "moon"}`, "/to"},
		"a credit note of no line":        {"POST " + b + "/credit-notes\n\n" + `{"invoice": "GH-2026-000001", "lines": [{"line": "x", "net": "1"}]}`, "/lines/0/line"},
		"a credit note of too much":       {"POST " + b + "/credit-notes\n\n" + `{"invoice": "GH-2026-000001", "lines": [{"line": "recurring/premium/1/base/2026-01-01T00:00:00Z", "net": "31"}]}`, "/lines/0/net"},
		"a negative credit note":          {"POST " + b + "/credit-notes\n\n" + `{"invoice": "GH-2026-000001", "lines": [{"line": "recurring/premium/1/base/2026-01-01T00:00:00Z", "net": "-1"}]}`, "/lines/0/net"},
		"an alert of nothing":             {"PUT " + b + "/alerts/a\n\n" + `{"watch": "moon"}`, "/watch /thresholds"},
		"an alert beyond 10^15":           {"PUT " + b + "/alerts/a\n\n" + `{"watch": "money", "thresholds": [` + huge + `]}`, "/thresholds/0"},
		"an alert of another id":          {"PUT " + b + "/alerts/a\n\n" + `{"id": "b", "watch": "money", "thresholds": ["1"]}`, "/id"},
		"a correction of nothing":         {"POST " + b + "/adjustments\n\n" + `{"id": "x", "meter": "requests", "time": "2026-02-01T00:00:00Z", "value": "0", "reason": "r"}`, "/value"},
		"a correction beyond all":         {"POST " + b + "/adjustments\n\n" + `{"id": "x", "meter": "requests", "time": "2026-02-01T00:00:00Z", "value": "99999999999999999999", "reason": "r"}`, "/value"},
		"a correction of more than used":  {"POST " + b + "/adjustments\n\n" + `{"id": "x", "meter": "requests", "time": "2026-02-01T00:00:00Z", "value": "-1", "reason": "r"}`, "/value"},
		"a correction without a word":     {"POST " + b + "/adjustments\n\n" + `{"meter": "requests", "value": "1"}`, "/id /reason /time"},
		"a correction of another's":       {"POST " + b + "/adjustments\n\n" + `{"id": "x", "tenant": "other", "meter": "requests", "time": "2026-02-01T00:00:00Z", "value": "1", "reason": "r"}`, "/tenant"},
		"the same by the ledger":          {"POST /api/v1/tenants/own/usage/adjustments\n\n" + `{"meter": "requests", "value": "1.5"}`, "/id /reason /time /value"},
		"a seller in lower case":          {"PUT /api/v1/sellers/gh\n\n" + `{"party": {"name": "x"}}`, "/id"},
		"payment in a thousand days":      {"PUT /api/v1/sellers/GH\n\n" + `{"party": {"name": "x"}, "due_days": 1000}`, "/due_days"},
		"a customer of nobody":            {"PUT " + b + "/customer\n\n" + `{"seller": "XX", "party": {"name": "x"}}`, "/seller"},
		"a negative cost":                 {"PUT /api/v1/costs/sheet\n\n" + `{"currency": "EUR", "call": "-1"}`, "/call"},
		"a cost beyond 10^15":             {"PUT /api/v1/costs/sheet\n\n" + `{"currency": "EUR", "routes": {"own/r": {"call": ` + huge + `}}}`, "/routes/own~1r/call"},
		"costs in moons":                  {"PUT /api/v1/costs/sheet\n\n" + `{"currency": "MOO"}`, "/currency"},
		"costs of a span that ends first": {"GET /api/v1/costs?from=2026-02-01T00:00:00Z&to=2026-01-01T00:00:00Z", "/query/to"},
		"a trace that ends first":         {"GET /api/v1/billing/differences?from=2026-02-01T00:00:00Z&to=2026-01-01T00:00:00Z", "/query/to"},
		"revenue in moons":                {"GET /api/v1/revenue?currency=MOO", "/query/currency"},
		"revenue of a month 13":           {"GET /api/v1/revenue?month=2026-13", "/query/month"},
		"less than nothing wanted":        {"GET " + b + "/entitlements/calls?want=-1", "/query/want"},
		"a preview as UBL":                {"GET " + b + "/preview?format=ubl", "/query/format"},
		"a webhook by http":               {"POST /api/v1/webhooks\n\n" + `{"id": "w", "url": "http://erp.test/"}`, "/url"},
		"a webhook of no event":           {"POST /api/v1/webhooks\n\n" + `{"id": "w", "url": "https://erp.test/", "kinds": ["moon.*"]}`, "/kinds/0"},
		"a webhook with four faults":      {"POST /api/v1/webhooks\n\n" + `{"id": "W", "url": "http://erp.test/", "tenant": "none", "kinds": ["invoice.*", "moon.*"]}`, "/id /url /kinds/1 /tenant"},
		"a token with three faults":       {"POST /api/v1/tokens\n\n" + `{"id": "T", "role": "king", "tenants": ["none"], "expires": "2020-01-01T00:00:00Z"}`, "/id /role /tenants/0 /expires"},
		"a token with words for a time":   {"POST /api/v1/tokens\n\n" + `{"role": "king", "expires": "soon"}`, "/expires /role"},
		"a webhook with words for kinds":  {"POST /api/v1/webhooks\n\n" + `{"id": "W", "kinds": "all", "url": "http://erp.test/"}`, "/kinds /id /url"},
		"a credit note with a number":     {"POST " + b + "/credit-notes\n\n" + `{"invoice": "GH-2026-000001", "to": "moon", "reason": 7}`, "/reason /to"},
		"a credit note with three faults": {"POST " + b + "/credit-notes\n\n" + `{"invoice": "GH-2026-000001", "to": "moon", "lines": [{"line": "x", "net": "1"}, {"line": "recurring/premium/1/base/2026-01-01T00:00:00Z", "net": "31"}]}`, "/to /lines/0/line /lines/1/net"},
		"a payment with two faults":       {"POST " + b + "/invoices/GH-2026-000001/marks\n\n" + `{"status": "paid", "amount": "-5"}`, "/ref /amount"},
		"costs with three faults":         {"PUT /api/v1/costs/sheet\n\n" + `{"currency": "MOO", "call": "-1", "routes": {"own/r": {"call": "-1"}}}`, "/currency /call /routes/own~1r/call"},
		"a seller with two faults":        {"PUT /api/v1/sellers/gh\n\n" + `{"party": {"name": "x"}, "due_days": 1000}`, "/id /due_days"},
		"revenue with three faults":       {"GET /api/v1/revenue?month=2026-13&margin=x&currency=MOO", "/query/month /query/margin /query/currency"},
		"a margin in percent":             {"GET /api/v1/revenue?margin=80", "/query/margin"},
		"a discount with two faults":      {"POST " + sub + "/discounts\n\n" + `{"percent": "101"}`, "/percent /id"},
		"a webhook of nobody":             {"POST /api/v1/webhooks\n\n" + `{"id": "w", "url": "https://erp.test/", "tenant": "none"}`, "/tenant"},
	} {
		t.Run(name, func(t *testing.T) {
			before, err := s.plane.Head(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			recorded := s.adjustments()
			w := s.ask(tt.request)
			var p problem
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != http.StatusUnprocessableEntity || w.Header().Get("Content-Type") != problemType {
				t.Fatalf("%s\nanswers %d: %s", tt.request, w.Code, w.Body)
			}
			var pointers []string
			for _, f := range p.Faults {
				pointers = append(pointers, f.Pointer)
				if f.Reason == "" {
					t.Error("no reason at " + f.Pointer)
				}
			}
			if got := strings.Join(slices.Compact(pointers), " "); got != tt.want {
				t.Errorf("%s\npoints to %q, not %q: %s", tt.request, got, tt.want, w.Body)
			}
			after, err := s.plane.Events(t.Context(), control.EventFilter{After: before.Seq}, 10)
			if err != nil || len(after) > 0 || s.adjustments() != recorded {
				t.Errorf("%s\nwas saved: %v, %s corrections more, %v", tt.request, after, strconv.Itoa(s.adjustments()-recorded), err)
			}
		})
	}
}

// away is a store that cannot be read.
type away struct{ invoicing.Store }

func (away) All(context.Context, ...string) iter.Seq2[journal.Resource, error] {
	return func(yield func(journal.Resource, error) bool) {
		yield(journal.Resource{}, errors.New("the disk is away"))
	}
}

// Invoices that cannot be read are no broken chain.
func TestVerifyWithoutStore(t *testing.T) {
	s := start(t, "")
	s.parts.Accounts = invoicing.New(invoicing.Parts{Store: away{s.journal}, Usage: s.ledger})
	s.handler = NewHandler(s.parts)
	if w := s.ask("GET /api/v1/invoices/verify"); w.Code != http.StatusInternalServerError {
		t.Errorf("%d %s, want 500", w.Code, w.Body)
	}
}
