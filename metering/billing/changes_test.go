package billing_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

// thirty is a plan with periods of 30 days.
func thirty(t testing.TB, id, prices string) *billing.Plan {
	t.Helper()
	return plan(t, `{"id":"`+id+`","version":1,"currency":"EUR","cadence":{"every":30,"unit":"day"},"prices":[`+prices+`]}`)
}

func base(t testing.TB, id, fee string) *billing.Plan {
	t.Helper()
	return thirty(t, id, `{"id":"base","model":"flat","advance":true,"amount":"`+fee+`"}`)
}

const metered = `{"id":"calls","meter":"bytes_out","model":"per_unit","amount":"1"}`

func subscribed(p *billing.Plan) *billing.Subscription {
	return &billing.Subscription{ID: "s1", Tenant: "acme", Plan: p.Ref(), Start: at("2026-01-01T00:00:00Z")}
}

func moved(day string, p *billing.Plan) billing.Change {
	return billing.Change{At: at(day + "T00:00:00Z"), Plan: p.Ref()}
}

// TestDiscountsOfChanges holds that a fee that takes another's place has its
// discounts, and that what was not used is given back at what was paid.
func TestDiscountsOfChanges(t *testing.T) {
	a, b, c := base(t, "a", "10"), base(t, "b", "100"), base(t, "c", "10")
	f := func(d billing.Discount, changes []billing.Change, want string) {
		t.Helper()
		s := subscribed(a)
		s.Discounts, s.End = []billing.Discount{d}, at("2026-01-31T00:00:00Z")
		opening := draft(t, billing.Run{Book: book(a, b, c), Subscription: s, Kind: billing.Opening})
		s.Changes = changes
		see(t, draft(t, billing.Run{Book: book(a, b, c), Subscription: s, Earlier: []billing.Invoice{opening}}), want)
	}
	half := billing.Discount{ID: "half", Percent: dec("50")}
	two := []billing.Change{moved("2026-01-11", b), moved("2026-01-21", c)}
	// 5 + 15 is half of 10/3 + 100/3 + 10/3.
	f(half, two, `credit base 01-11..01-31 -3.33 (2/3)
		charge base 01-11..01-21 33.33 -16.67 (1/3)
		charge base 01-21..01-31 3.33 -1.66 (1/3)
		subtotal 15 tax 0 total 15 due 15`)
	once := half
	once.Times = 1
	f(once, two, `credit base 01-11..01-31 -3.33 (2/3)
		charge base 01-11..01-21 33.33 -16.67 (1/3)
		charge base 01-21..01-31 3.33 -1.66 (1/3)
		subtotal 15 tax 0 total 15 due 15`)
	// Of 6 off, 4 come back with the credit, and are off what takes its place.
	f(billing.Discount{ID: "six", Amount: dec("6")}, []billing.Change{moved("2026-01-11", b)}, `credit base 01-11..01-31 -2.67 (2/3)
		charge base 01-11..01-31 66.67 -4 (2/3)
		subtotal 60 tax 0 total 60 due 60`)
	// There and back: what came back is charged again for its own time.
	f(half, []billing.Change{moved("2026-01-11", b), moved("2026-01-21", a)}, `credit base 01-11..01-31 -3.33 (2/3)
		charge base 01-11..01-21 33.33 -16.67 (1/3)
		charge base 01-21..01-31 3.33 -1.66 (1/3)
		subtotal 15 tax 0 total 15 due 15`)
}

// TestChangeAtABoundary holds that a change on the day that a period begins is
// charged though the fee of that period was paid before it was known.
func TestChangeAtABoundary(t *testing.T) {
	a, b, none := base(t, "a", "10"), base(t, "b", "100"), thirty(t, "none", metered)
	f := func(from *billing.Plan, want string) {
		t.Helper()
		bk, s := book(a, b, none), subscribed(from)
		r := billing.Run{Book: bk, Subscription: s, Kind: billing.Opening}
		r.Earlier = append(r.Earlier, draft(t, r))
		r.Kind = billing.Closing
		r.Earlier = append(r.Earlier, draft(t, r))
		s.Changes, s.End = []billing.Change{moved("2026-01-31", b)}, at("2026-03-02T00:00:00Z")
		r.Index = 1
		see(t, draft(t, r), want)
	}
	f(a, `credit base 01-31..03-02 -10
		charge base 01-31..03-02 100
		subtotal 90 tax 0 total 90 due 90`)
	f(none, `charge base 01-31..03-02 100
		subtotal 100 tax 0 total 100 due 100`)
}

// TestReissueRepeatsWhatIsSettled holds that an invoice that is made anew
// charges for the next period what the closing of that one has settled, and
// what is known by now where that has settled nothing.
func TestReissueRepeatsWhatIsSettled(t *testing.T) {
	a, b, none := base(t, "a", "30"), base(t, "b", "90"), thirty(t, "none", metered)
	f := func(from *billing.Plan, amend func(*billing.Subscription), early bool, want string) {
		t.Helper()
		r := billing.Run{Book: book(a, b, none), Subscription: subscribed(from), Kind: billing.Opening}
		issue := func(kind billing.Kind, index int) (sum billing.Decimal) {
			t.Helper()
			r.Kind, r.Index = kind, index
			inv := finalize(t, draft(t, r), len(r.Earlier)+1, "")
			r.Earlier = append(r.Earlier, inv)
			return inv.Subtotal
		}
		void := func(day string) {
			t.Helper()
			inv, err := r.Earlier[1].Move(billing.Void, at(day+"T00:00:00Z"), "")
			if err != nil {
				t.Fatal(err)
			}
			r.Earlier[1] = inv
		}
		issue(billing.Opening, 0)
		first := issue(billing.Closing, 0)
		if early {
			void("2026-01-31")
		}
		amend(r.Subscription)
		next := issue(billing.Closing, 1)
		if !early {
			void("2026-03-05")
		}
		again := issue(billing.Closing, 0)
		if got := fmt.Sprint(first, " ", next, " ", again); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	end := func(refund bool) func(*billing.Subscription) {
		return func(s *billing.Subscription) { s.End, s.Refund = at("2026-02-15T00:00:00Z"), refund }
	}
	to := func(day string) func(*billing.Subscription) {
		return func(s *billing.Subscription) {
			s.Changes, s.End = []billing.Change{moved(day, b)}, at("2026-03-02T00:00:00Z")
		}
	}
	f(a, end(true), false, "30 -15 30")
	f(a, end(false), false, "30 0 30")
	f(a, to("2026-02-10"), false, "30 40 30")
	f(a, to("2026-01-31"), false, "30 60 30")
	f(none, to("2026-01-31"), false, "0 90 0")
	// Void before the next was closed, which then had nothing to give back.
	f(a, end(true), true, "30 0 15")
}

// TestChangesConserve holds that fees in advance, however often a subscription
// changes, come to what each plan costs for its time.
func TestChangesConserve(t *testing.T) {
	plans := []*billing.Plan{base(t, "a", "30"), base(t, "b", "90"), base(t, "c", "12.60")}
	rapid.Check(t, func(t *rapid.T) {
		s := subscribed(plans[0])
		s.End = at("2026-01-31T00:00:00Z")
		if rapid.Bool().Draw(t, "half off") {
			s.Discounts = []billing.Discount{{ID: "half", Percent: dec("50")}}
		}
		opening, err := billing.Draft(billing.Run{Book: book(plans...), Subscription: s, Kind: billing.Opening})
		if err != nil {
			t.Fatal(err)
		}
		day := 0
		for range rapid.IntRange(0, 4).Draw(t, "changes") {
			if day += rapid.IntRange(1, 7).Draw(t, "days"); day < 30 {
				s.Changes = append(s.Changes, billing.Change{At: s.Start.AddDate(0, 0, day), Plan: rapid.SampledFrom(plans).Draw(t, "plan").Ref()})
			}
		}
		closing, err := billing.Draft(billing.Run{Book: book(plans...), Subscription: s, Earlier: []billing.Invoice{opening}})
		if err != nil {
			t.Fatal(err)
		}
		fair := billing.Decimal{}
		for _, seg := range s.Segments(billing.Period{Start: s.Start, End: s.End}) {
			days := int64(seg.Period.End.Sub(seg.Period.Start) / (24 * time.Hour))
			fair = fair.Add(book(plans...)[seg.Plan].Prices[0].Amount.Mul(billing.Fraction(days, 30)))
		}
		if len(s.Discounts) > 0 {
			fair = fair.Div(billing.Int(2))
		}
		off := opening.Subtotal.Add(closing.Subtotal).Sub(fair)
		if off.Max(off.Neg()).Cmp(dec("0.04")) > 0 { // a rounding for each line
			t.Fatalf("paid %s + %s, fair is %s", opening.Subtotal, closing.Subtotal, fair)
		}
	})
}

// TestDiscountsOfCutPeriods holds that invoices that cut a period take off a
// fixed amount, and count for Times, once.
func TestDiscountsOfCutPeriods(t *testing.T) {
	p := thirty(t, "p", metered)
	f := func(d billing.Discount, first, second int64) {
		t.Helper()
		s := subscribed(p)
		s.Discounts = []billing.Discount{d}
		r := billing.Run{Book: book(p), Subscription: s, Cells: []metering.Cell{cell("2026-01-05T00:00:00Z", "bytes_out", first), cell("2026-01-20T00:00:00Z", "bytes_out", second)}}
		whole := draft(t, r)
		part := r
		part.Kind, part.Through = billing.Progressive, at("2026-01-15T00:00:00Z")
		r.Earlier = []billing.Invoice{draft(t, part)}
		rest := draft(t, r)
		if got := r.Earlier[0].Subtotal.Add(rest.Subtotal); got.Cmp(whole.Subtotal) != 0 {
			t.Errorf("%s: parts come to %s, the whole to %s", d.ID, got, whole.Subtotal)
		}
		r.Earlier, r.Index = append(r.Earlier, rest), 1
		r.Cells = append(r.Cells, cell("2026-02-05T00:00:00Z", "bytes_out", 100))
		after, want := draft(t, r).Subtotal, "90"
		if d.Times > 0 {
			want = "100"
		}
		if after.Cmp(dec(want)) != 0 {
			t.Errorf("%s: the next period comes to %s, want %s", d.ID, after, want)
		}
	}
	f(billing.Discount{ID: "ten", Amount: dec("10")}, 50, 50)
	f(billing.Discount{ID: "ten", Amount: dec("10")}, 4, 50)
	f(billing.Discount{ID: "once", Percent: dec("10"), Times: 1}, 10, 90)
	f(billing.Discount{ID: "ten once", Amount: dec("10"), Times: 1}, 10, 90)
}

// TestPartsOfAPeriod holds that what a price sets for a whole period is split
// over the plans of its parts.
func TestPartsOfAPeriod(t *testing.T) {
	f := func(price, usage string, want string) {
		t.Helper()
		p := thirty(t, "p", `{"id":"x","meter":"bytes_out",`+price+`}`)
		q := *p
		q.Version = 2
		s := subscribed(p)
		s.Changes = []billing.Change{moved("2026-01-11", &q)}
		var cells []metering.Cell
		for i, n := range strings.Fields(usage) {
			c := cell([]string{"2026-01-05T00:00:00Z", "2026-01-20T00:00:00Z"}[i], "bytes_out", 0)
			if _, err := fmt.Sscan(n, &c.Value); err != nil {
				t.Fatal(err)
			}
			cells = append(cells, c)
		}
		if got := draft(t, billing.Run{Book: book(p, &q), Subscription: s, Cells: cells}).Subtotal; got.Cmp(dec(want)) != 0 {
			t.Errorf("%s: got %s, want %s", price, got, want)
		}
	}
	f(`"model":"per_unit","amount":"0","commitment":{"amount":"90","true_up":true}`, "0 0", "90")
	f(`"model":"per_unit","amount":"1","commitment":{"units":"90","true_up":true}`, "0 0", "90")
	f(`"model":"per_unit","amount":"1","included":"90"`, "30 60", "0")
	f(`"model":"per_unit","amount":"1","included":"90"`, "40 60", "10")
	f(`"model":"per_unit","amount":"1","maximum":"90"`, "500 500", "90")
	f(`"model":"per_unit","amount":"1","minimum":"90"`, "0 0", "90")
	f(`"model":"flat","amount":"90"`, "0 0", "90")
	f(`"model":"per_unit","amount":"30","aggregation":"weighted_sum"`, "30 0", "780") // 30 for 26 of 30 days
}

// TestThirtyDays holds that parts of months of 30 days sum to the whole.
func TestThirtyDays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := billing.Cadence{Unit: rapid.SampledFrom([]billing.Unit{billing.Month, billing.Year}).Draw(t, "unit")}
		anchor := at("2026-01-01T00:00:00Z").AddDate(0, 0, rapid.IntRange(0, 800).Draw(t, "anchor"))
		whole := billing.Period{Start: anchor, End: c.Boundary(anchor, time.UTC, 1)}
		sum := billing.Decimal{}
		for from := whole.Start; from.Before(whole.End); {
			to := from.AddDate(0, 0, rapid.IntRange(1, 20).Draw(t, "days"))
			sum = sum.Add(billing.Days30.Of(billing.Period{Start: from, End: to}, whole, time.UTC, c))
			from = to
		}
		if sum.Cmp(billing.Int(1)) != 0 {
			t.Fatalf("parts of %v sum to %s", whole, sum)
		}
	})
}

// TestTaxOfEachPlan holds that a line has its own plan's way with tax.
func TestTaxOfEachPlan(t *testing.T) {
	a := plan(t, `{"id":"a","version":1,"currency":"EUR","cadence":{"unit":"month"},"taxes":[{"code":"VAT","percent":"20"}],"prices":[`+metered+`]}`)
	b := plan(t, `{"id":"b","version":1,"currency":"EUR","cadence":{"unit":"month"},"tax_included":true,"rounding":"half_even","taxes":[{"code":"VAT","percent":"20"}],"prices":[`+metered+`]}`)
	s := subscribed(a)
	s.Changes = []billing.Change{moved("2026-01-11", b)}
	r := billing.Run{Book: book(a, b), Subscription: s, Cells: []metering.Cell{cell("2026-01-05T00:00:00Z", "bytes_out", 100), cell("2026-01-20T00:00:00Z", "bytes_out", 120)}}
	see(t, draft(t, r), `usage calls 01-01..01-11 100 (10/31)
		usage calls 01-11..02-01 120 (21/31)
		subtotal 200 tax 40 total 240 due 240`)
	mode := billing.Settle([]billing.Line{{ID: "a", Amount: dec("0.10")}, {ID: "b", Amount: dec("0.10")}}, billing.Terms{
		Currency: "EUR", Taxes: func(billing.Line) []billing.Tax { return []billing.Tax{{Percent: dec("25")}} },
		Mode: func(l billing.Line) billing.Rounding {
			return map[string]billing.Rounding{"a": billing.HalfUp, "b": billing.HalfEven}[l.ID]
		},
	})
	if got := fmt.Sprint(mode.Lines[0].Tax, mode.Lines[1].Tax); got != "0.03 0.02" {
		t.Errorf("the taxes are %s", got)
	}
}
