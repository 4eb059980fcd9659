package billing_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

func dec(s string) billing.Decimal {
	d, err := billing.ParseDecimal(s)
	if err != nil {
		panic(err)
	}
	return d
}

func at(s string) time.Time {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		panic(err)
	}
	return t
}

// plan reads a plan from JSON and refuses one with faults.
func plan(t testing.TB, text string) *billing.Plan {
	t.Helper()
	var p billing.Plan
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		t.Fatal(err)
	}
	if fs := p.Validate().Errors(); len(fs) > 0 {
		t.Fatal(fs)
	}
	return &p
}

func book(plans ...*billing.Plan) billing.Book {
	b := billing.Book{}
	for _, p := range plans {
		b[p.Ref()] = p
	}
	return b
}

const free = `{"id":"free","version":1,"currency":"EUR","cadence":{"unit":"month"},"prices":[
	{"id":"calls","name":"Calls","meter":"requests","model":"per_unit","amount":"0.01","included":"1000"}]}`

const premium = `{"id":"premium","version":1,"currency":"EUR","cadence":{"unit":"month"},"taxes":[{"code":"VAT","percent":"20"}],"prices":[
	{"id":"base","name":"Base fee","advance":true,"model":"flat","amount":"30"},
	{"id":"seats","name":"Seats","model":"per_unit","amount":"5"},
	{"id":"calls","name":"Calls","meter":"requests","model":"graduated","tiers":[{"up_to":"1000","unit_price":"0.01"},{"unit_price":"0.005"}]}]}`

func cell(window, meter string, value int64) metering.Cell {
	return metering.Cell{Gateway: "gw1", Epoch: metering.Epoch{Counter: 1, Nonce: 7}, Window: at(window), Series: metering.SeriesKey{Tenant: "acme", Route: "r", Consumer: "c", Plan: "premium"}, Meter: meter, Value: value}
}

// picture is an invoice in a few lines.
func picture(inv billing.Invoice) string {
	var b strings.Builder
	for _, l := range inv.Lines {
		fmt.Fprintf(&b, "%s %s %s..%s %s", l.Kind, l.Price, l.Period.Start.Format("01-02"), l.Period.End.Format("01-02"), l.Amount)
		if !l.Discount.IsZero() {
			fmt.Fprintf(&b, " -%s", l.Discount)
		}
		if l.Trace != nil && l.Trace.Fraction != nil {
			fmt.Fprintf(&b, " (%s)", l.Trace.Fraction)
		}
		if l.Corrects != "" {
			fmt.Fprintf(&b, " of %s", l.Corrects)
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "subtotal %s tax %s total %s due %s", inv.Subtotal, inv.Tax, inv.Total, inv.Due)
	if !inv.Carried.IsZero() {
		fmt.Fprintf(&b, " carried %s", inv.Carried)
	}
	return b.String()
}

func draft(t testing.TB, r billing.Run) billing.Invoice {
	t.Helper()
	inv, err := billing.Draft(r)
	if err != nil {
		t.Fatal(err)
	}
	return inv
}

func see(t testing.TB, inv billing.Invoice, want string) {
	t.Helper()
	if got := picture(inv); got != strings.TrimSpace(strings.ReplaceAll(want, "\t", "")) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func finalize(t testing.TB, inv billing.Invoice, n int, previous string) billing.Invoice {
	t.Helper()
	out, err := inv.Finalize(billing.Number("GH", 2026, n), previous, at("2026-02-01T00:00:00Z"), 14*24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestDraftOfAPlainMonth(t *testing.T) {
	b := book(plan(t, premium))
	sub := &billing.Subscription{ID: "s1", Tenant: "acme", Plan: billing.PlanRef{ID: "premium", Version: 1}, Start: at("2026-01-01T00:00:00Z"), Quantities: map[string]billing.Decimal{"seats": billing.Int(3)}}
	opening := draft(t, billing.Run{Book: b, Subscription: sub, Kind: billing.Opening})
	see(t, opening, `recurring base 01-01..02-01 30
		subtotal 30 tax 6 total 36 due 36`)
	cells := []metering.Cell{cell("2026-01-05T10:00:00Z", "requests", 900), cell("2026-01-31T23:59:00Z", "requests", 300), cell("2026-02-01T00:00:00Z", "requests", 5000)}
	closing := draft(t, billing.Run{Book: b, Subscription: sub, Cells: cells, Earlier: []billing.Invoice{opening}})
	see(t, closing, `usage calls 01-01..02-01 11
		recurring seats 01-01..02-01 15
		recurring base 02-01..03-01 30
		subtotal 56 tax 11.2 total 67.2 due 67.2`)
	if l := closing.Lines[0]; l.Trace.Cells != 2 || len(l.Trace.Hash) != 64 || l.Trace.Metered.Cmp(billing.Int(1200)) != 0 {
		t.Errorf("the trace is %+v", l.Trace)
	}
}

func TestDraftOfAChange(t *testing.T) {
	other := plan(t, strings.NewReplacer(`"premium"`, `"enterprise"`, `"30"`, `"90"`).Replace(premium))
	b := book(plan(t, premium), other)
	sub := &billing.Subscription{ID: "s1", Tenant: "acme", Plan: billing.PlanRef{ID: "premium", Version: 1}, Start: at("2026-01-01T00:00:00Z"), Discounts: []billing.Discount{{ID: "hi", Percent: billing.Int(10)}}}
	opening := draft(t, billing.Run{Book: b, Subscription: sub, Kind: billing.Opening})
	sub.Changes = []billing.Change{{At: at("2026-01-11T00:00:00Z"), Plan: other.Ref()}}
	cells := []metering.Cell{cell("2026-01-05T10:00:00Z", "requests", 1000), cell("2026-01-15T10:00:00Z", "requests", 1000)}
	r := billing.Run{Book: b, Subscription: sub, Cells: cells, Earlier: []billing.Invoice{opening}}
	// 27 were paid for January, of which 21/31 are given back.
	see(t, draft(t, r), `usage calls 01-01..01-11 10 -1 (10/31)
		usage calls 01-11..02-01 10 -1 (21/31)
		recurring seats 01-01..01-11 1.61 -0.16 (10/31)
		recurring seats 01-11..02-01 3.39 -0.34 (21/31)
		credit base 01-11..02-01 -18.29 (21/31)
		charge base 01-11..02-01 60.97 -6.1 (21/31)
		recurring base 02-01..03-01 90 -9
		subtotal 140.08 tax 28.01 total 168.09 due 168.09`)
}

func TestDraftOfAnEnd(t *testing.T) {
	b := book(plan(t, premium))
	sub := &billing.Subscription{ID: "s1", Tenant: "acme", Plan: billing.PlanRef{ID: "premium", Version: 1}, Start: at("2026-01-01T00:00:00Z"), Quantities: map[string]billing.Decimal{"seats": {}}}
	opening := draft(t, billing.Run{Book: b, Subscription: sub, Kind: billing.Opening})
	sub.End, sub.Refund = at("2026-01-16T12:00:00Z"), true
	see(t, draft(t, billing.Run{Book: b, Subscription: sub, Earlier: []billing.Invoice{opening}}), `usage calls 01-01..01-16 0 (0.5)
		recurring seats 01-01..01-16 0 (0.5)
		credit base 01-16..02-01 -15 (0.5)
		subtotal -15 tax -3 total -18 due 0 carried 18`)
	if _, err := billing.Draft(billing.Run{Book: b, Subscription: sub, Index: 1}); gatehouse.CodeOf(err) != gatehouse.CodeInvalid {
		t.Errorf("a period after the end: %v", err)
	}
}

func TestDraftOfAPauseAndATrial(t *testing.T) {
	p := plan(t, premium)
	p.TrialDays, p.TrialUsage = 5, billing.TrialFree
	sub := &billing.Subscription{ID: "s1", Tenant: "acme", Plan: p.Ref(), Start: at("2026-04-01T00:00:00Z")}
	opening := draft(t, billing.Run{Book: book(p), Subscription: sub, Kind: billing.Opening})
	see(t, opening, `recurring base 04-06..05-01 25 (5/6)
		subtotal 25 tax 5 total 30 due 30`)
	sub.Pauses = []billing.Period{{Start: at("2026-04-16T00:00:00Z"), End: at("2026-04-19T00:00:00Z")}}
	cells := []metering.Cell{cell("2026-04-02T00:00:00Z", "requests", 1000), cell("2026-04-06T00:00:00Z", "requests", 500)}
	see(t, draft(t, billing.Run{Book: book(p), Subscription: sub, Earlier: []billing.Invoice{opening}, Cells: cells}), `usage calls 04-01..05-01 5
		recurring seats 04-06..04-16 1.67 (1/3)
		recurring seats 04-19..05-01 2 (0.4)
		credit base 04-16..05-01 -15 (0.6)
		charge base 04-19..05-01 12 (0.4)
		recurring base 05-01..06-01 30
		subtotal 35.67 tax 7.13 total 42.8 due 42.8`)
}

func TestLateUsage(t *testing.T) {
	b := book(plan(t, free))
	sub := &billing.Subscription{ID: "s1", Tenant: "acme", Plan: billing.PlanRef{ID: "free", Version: 1}, Start: at("2026-01-01T00:00:00Z")}
	cells := []metering.Cell{cell("2026-01-05T10:00:00Z", "requests", 1500)}
	january := finalize(t, draft(t, billing.Run{Book: b, Subscription: sub, Cells: cells}), 1, "")
	see(t, january, "usage calls 01-01..02-01 5\nsubtotal 5 tax 0 total 5 due 5")
	cells = append(cells, cell("2026-01-06T10:00:00Z", "requests", 100), cell("2026-02-06T10:00:00Z", "requests", 1001))
	february := finalize(t, draft(t, billing.Run{Book: b, Subscription: sub, Index: 1, Cells: cells, CompleteFrom: sub.Start, Earlier: []billing.Invoice{january}}), 2, january.Hash)
	see(t, february, `adjustment calls 01-01..02-01 1 of GH-2026-000001
		usage calls 02-01..03-01 0.01
		subtotal 1.01 tax 0 total 1.01 due 1.01`)
	march := draft(t, billing.Run{Book: b, Subscription: sub, Index: 2, Cells: cells, CompleteFrom: sub.Start, Earlier: []billing.Invoice{january, february}})
	see(t, march, "usage calls 03-01..04-01 0\nsubtotal 0 tax 0 total 0 due 0")
}

func TestLateUsageBelowTheMinimum(t *testing.T) {
	p := plan(t, free)
	p.Prices[0].Minimum = billing.Int(8)
	b := book(p)
	sub := &billing.Subscription{ID: "s1", Tenant: "acme", Plan: p.Ref(), Start: at("2026-01-01T00:00:00Z")}
	cells := []metering.Cell{cell("2026-01-05T10:00:00Z", "requests", 1500)}
	run := billing.Run{Book: b, Subscription: sub, Cells: cells, CompleteFrom: sub.Start}
	bill := func(index int, late ...metering.Cell) billing.Invoice {
		run.Index, run.Cells = index, append(run.Cells, late...)
		inv := finalize(t, draft(t, run), index+1, "")
		run.Earlier = append(run.Earlier, inv)
		return inv
	}
	see(t, bill(0), `usage calls 01-01..02-01 5
		true_up calls 01-01..02-01 3
		subtotal 8 tax 0 total 8 due 8`)
	february := bill(1, cell("2026-01-06T10:00:00Z", "requests", 200))
	see(t, february, `adjustment calls 01-01..02-01 0 of GH-2026-000001
		usage calls 02-01..03-01 0
		true_up calls 02-01..03-01 8
		subtotal 8 tax 0 total 8 due 8`)
	march := bill(2, cell("2026-01-07T10:00:00Z", "requests", 150))
	see(t, march, `adjustment calls 01-01..02-01 0.5 of GH-2026-000001
		usage calls 03-01..04-01 0
		true_up calls 03-01..04-01 8
		subtotal 8.5 tax 0 total 8.5 due 8.5`)
	if a, b := february.Lines[0].Quantity, march.Lines[0].Quantity; a.Cmp(dec("200")) != 0 || b.Cmp(dec("150")) != 0 {
		t.Errorf("%s and %s came late", a, b)
	}
	see(t, bill(3), `usage calls 04-01..05-01 0
		true_up calls 04-01..05-01 8
		subtotal 8 tax 0 total 8 due 8`)
}

func TestMinimumOfThePlan(t *testing.T) {
	p := plan(t, premium)
	p.Minimum = billing.Int(100)
	sub := &billing.Subscription{ID: "s1", Tenant: "acme", Plan: p.Ref(), Start: at("2026-01-01T00:00:00Z")}
	opening := draft(t, billing.Run{Book: book(p), Subscription: sub, Kind: billing.Opening})
	see(t, draft(t, billing.Run{Book: book(p), Subscription: sub, Earlier: []billing.Invoice{opening}}), `usage calls 01-01..02-01 0
		recurring seats 01-01..02-01 5
		recurring base 02-01..03-01 30
		minimum  01-01..02-01 65
		subtotal 100 tax 20 total 120 due 120`)
}

func TestInterruptedRequests(t *testing.T) {
	p := plan(t, free)
	sub := &billing.Subscription{ID: "s1", Tenant: "acme", Plan: p.Ref(), Start: at("2026-01-01T00:00:00Z")}
	cells := []metering.Cell{cell("2026-01-05T10:00:00Z", "requests", 1500), cell("2026-01-05T10:00:00Z", "requests_interrupted", 100)}
	f := func(want string) {
		t.Helper()
		inv := draft(t, billing.Run{Book: book(p), Subscription: sub, Cells: cells})
		if inv.Total.Cmp(dec(want)) != 0 {
			t.Errorf("%s: got %s, want %s", p.Interrupted, inv.Total, want)
		}
	}
	f("4")
	p.Interrupted = billing.Bill
	f("5")
}

func TestWalletOnAnInvoice(t *testing.T) {
	b := book(plan(t, free))
	sub := &billing.Subscription{ID: "s1", Tenant: "acme", Plan: billing.PlanRef{ID: "free", Version: 1}, Start: at("2026-01-01T00:00:00Z"), Discounts: []billing.Discount{{ID: "once", Amount: billing.Int(1), Times: 1}}}
	w := &billing.Wallet{Currency: "EUR"}
	if err := w.Add(billing.Grant{ID: "g", Amount: billing.Int(3), Granted: at("2026-01-01T00:00:00Z"), Cost: billing.Int(2)}); err != nil {
		t.Fatal(err)
	}
	cells := []metering.Cell{cell("2026-01-05T10:00:00Z", "requests", 1800), cell("2026-02-05T10:00:00Z", "requests", 1800)}
	r := billing.Run{Book: b, Subscription: sub, Cells: cells, Wallet: w, At: at("2026-02-01T00:00:00Z"), CreditNotes: []billing.Applied{{ID: "GH-CN-2026-000001", Amount: billing.Int(2)}}}
	inv := finalize(t, draft(t, r), 1, "")
	see(t, inv, "usage calls 01-01..02-01 8 -1\nsubtotal 7 tax 0 total 7 due 2")
	used := w.Burn(inv.Number, r.At, inv.Wallet[0].Amount)
	if again := w.Burn(inv.Number, r.At, inv.Wallet[0].Amount); fmt.Sprint(again) != fmt.Sprint(used) || w.Left("g").Sign() != 0 {
		t.Errorf("burnt %v, again %v, left %s", used, again, w.Left("g"))
	}
	if got := w.Recognized(); got.Cmp(billing.Int(2)) != 0 {
		t.Errorf("recognized %s", got)
	}
	w.Return(inv.Number, r.At)
	w.Return(inv.Number, r.At)
	if w.Left("g").Cmp(billing.Int(3)) != 0 || w.Check() != nil {
		t.Errorf("left %s after the return: %v", w.Left("g"), w.Check())
	}
	r.Index, r.Earlier, r.CreditNotes = 1, []billing.Invoice{inv}, nil
	see(t, draft(t, r), "usage calls 02-01..03-01 8\nsubtotal 8 tax 0 total 8 due 5")
}

func TestDraftRefuses(t *testing.T) {
	b := book(plan(t, free))
	sub := &billing.Subscription{ID: "s1", Tenant: "acme", Plan: billing.PlanRef{ID: "free", Version: 1}, Start: at("2026-01-01T00:00:00Z")}
	f := func(r billing.Run, want string) {
		t.Helper()
		if _, err := billing.Draft(r); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	f(billing.Run{Book: b, Subscription: sub, Cells: []metering.Cell{cell("2026-01-05T10:00:00Z", "requests", -1)}}, "/cells/0/value: a quantity of -1 is negative")
	f(billing.Run{Book: b, Subscription: &billing.Subscription{ID: "s", Tenant: "acme", Plan: billing.PlanRef{ID: "gold", Version: 2}, Start: sub.Start}}, "/subscription/plan: there is no plan gold/2")
	huge := make([]metering.Cell, 20)
	for i := range huge {
		huge[i] = cell("2026-01-05T10:00:00Z", "requests", 1<<62)
		huge[i].Gateway = fmt.Sprint(i)
	}
	f(billing.Run{Book: b, Subscription: sub, Cells: huge}, "more than 10^15")
	f(billing.Run{Book: b, Subscription: sub, Earlier: []billing.Invoice{{Currency: "USD"}}}, "/earlier/0/currency")
}
