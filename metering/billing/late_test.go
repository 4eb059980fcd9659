package billing_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

// TestLateUsageUnderThePlansMinimum holds that a period costs the same whether
// its usage comes in time or late.
func TestLateUsageUnderThePlansMinimum(t *testing.T) {
	p := plan(t, `{"id":"p","version":1,"currency":"EUR","cadence":{"unit":"month"},"minimum":"100","prices":[`+metered+`]}`)
	s := subscribed(p)
	run := billing.Run{Book: book(p), Subscription: s, CompleteFrom: s.Start}
	bill := func(index int, cells ...metering.Cell) billing.Invoice {
		run.Index, run.Cells = index, append(run.Cells, cells...)
		inv := finalize(t, draft(t, run), index+1, "")
		run.Earlier = append(run.Earlier, inv)
		return inv
	}
	see(t, bill(0, cell("2026-01-05T00:00:00Z", "bytes_out", 60)), `usage calls 01-01..02-01 60
		minimum  01-01..02-01 40
		subtotal 100 tax 0 total 100 due 100`)
	see(t, bill(1, cell("2026-01-06T00:00:00Z", "bytes_out", 30), cell("2026-02-06T00:00:00Z", "bytes_out", 200)), `adjustment calls 01-01..02-01 30 of GH-2026-000001
		usage calls 02-01..03-01 200
		minimum  01-01..02-01 -30 of GH-2026-000001
		subtotal 200 tax 0 total 200 due 200`)
	see(t, bill(2, cell("2026-01-07T00:00:00Z", "bytes_out", 30), cell("2026-03-06T00:00:00Z", "bytes_out", 90)), `adjustment calls 01-01..02-01 30 of GH-2026-000001
		usage calls 03-01..04-01 90
		minimum  03-01..04-01 10
		minimum  01-01..02-01 -10 of GH-2026-000002
		subtotal 120 tax 0 total 120 due 120`)
}

func TestLateUsageNeverCostsMore(t *testing.T) {
	p := plan(t, `{"id":"p","version":1,"currency":"EUR","cadence":{"unit":"month"},"minimum":"100","prices":[`+metered+`,
		{"id":"more","meter":"bytes_in","model":"graduated","minimum":"20","tiers":[{"up_to":"30","unit_price":"1"},{"unit_price":"0.50"}]}]}`)
	rapid.Check(t, func(t *rapid.T) {
		s := subscribed(p)
		var known, all []metering.Cell
		run := billing.Run{Book: book(p), Subscription: s, CompleteFrom: s.Start}
		paid := billing.Decimal{}
		for index := range 4 {
			for i := range rapid.IntRange(0, 3).Draw(t, "cells") {
				c := cell("2026-01-05T00:00:00Z", rapid.SampledFrom([]string{"bytes_out", "bytes_in"}).Draw(t, "meter"), rapid.Int64Range(0, 60).Draw(t, "n"))
				c.Gateway = fmt.Sprint(index, "-", i)
				known = append(known, c)
			}
			all, run.Index, run.Cells = known, index, known
			inv, err := billing.Draft(run)
			if err != nil {
				t.Fatal(err)
			}
			inv.Number = fmt.Sprint(index)
			run.Earlier = append(run.Earlier, inv)
			for _, l := range inv.Lines {
				if l.Period.Start.Equal(s.Start) {
					paid = paid.Add(l.Amount)
				}
			}
			one, err := billing.Draft(billing.Run{Book: run.Book, Subscription: s, Cells: all})
			if err != nil {
				t.Fatal(err)
			}
			if paid.Cmp(one.Subtotal) != 0 {
				t.Fatalf("january came to %s, in one go to %s", paid, one.Subtotal)
			}
		}
	})
}

// TestCorrection holds that usage that comes after the last period is charged
// by an invoice of its own, once.
func TestCorrection(t *testing.T) {
	p := plan(t, free)
	s := subscribed(p)
	s.End, s.Discounts = at("2026-02-01T00:00:00Z"), []billing.Discount{{ID: "ten", Amount: dec("10")}}
	cells := []metering.Cell{cell("2026-01-05T00:00:00Z", "requests", 5000)}
	january := finalize(t, draft(t, billing.Run{Book: book(p), Subscription: s, Cells: cells}), 1, "")
	run := billing.Run{Book: book(p), Subscription: s, Kind: billing.Correction, CompleteFrom: s.Start, Cells: cells, Earlier: []billing.Invoice{january}}
	if _, err := billing.Draft(run); gatehouse.CodeOf(err) != gatehouse.CodeInvalid {
		t.Errorf("nothing was corrected: %v", err)
	}
	unbilled := run
	unbilled.Earlier = nil
	if _, err := billing.Draft(unbilled); !errors.Is(err, billing.ErrNothing) {
		t.Errorf("of what was never billed: %v", err)
	}
	run.Cells = append(cells, cell("2026-01-06T00:00:00Z", "requests", 300))
	first := draft(t, run)
	see(t, first, `adjustment calls 01-01..02-01 3 of GH-2026-000001
		subtotal 3 tax 0 total 3 due 3`)
	if first.Type != billing.TypeCorrected || first.Key != "s1/2026-02-01T00:00:00Z/correction/1" {
		t.Errorf("type %d, key %s", first.Type, first.Key)
	}
	run.Earlier = append(run.Earlier, first)
	run.Cells = append(run.Cells, cell("2026-01-07T00:00:00Z", "requests", 100))
	if second := draft(t, run); second.Total.Cmp(dec("1")) != 0 || second.Key != "s1/2026-02-01T00:00:00Z/correction/2" {
		t.Errorf("total %s, key %s", second.Total, second.Key)
	}
}

// TestLateUsageThatIsTakenBack holds that the quantities of corrections come to
// the usage that there is, though it has become less and more again.
func TestLateUsageThatIsTakenBack(t *testing.T) {
	for _, amount := range []string{"1", "0"} {
		p := plan(t, `{"id":"p","version":1,"currency":"EUR","cadence":{"unit":"month"},"prices":[{"id":"calls","meter":"requests","model":"per_unit","amount":"`+amount+`"}]}`)
		s := subscribed(p)
		s.End = at("2026-02-01T00:00:00Z")
		run := billing.Run{Book: book(p), Subscription: s, CompleteFrom: s.Start}
		got := ""
		for i, n := range []int64{100, 60, 70, 100} {
			run.Cells = []metering.Cell{cell("2026-01-05T00:00:00Z", "requests", n)}
			inv := finalize(t, draft(t, run), i+1, "")
			got += inv.Lines[0].Quantity.String() + " "
			run.Kind, run.Earlier = billing.Correction, append(run.Earlier, inv)
		}
		if got != "100 -40 10 30 " {
			t.Errorf("at %s: %s", amount, got)
		}
	}
}

// TestAmendKeepsThePast holds the law of Amend: what it accepts leaves the
// segments before closed as they were, and what changes them it refuses.
func TestAmendKeepsThePast(t *testing.T) {
	plans := []*billing.Plan{base(t, "a", "1"), base(t, "b", "2")}
	b := book(plans...)
	start := at("2026-01-01T00:00:00Z")
	instant := rapid.Custom(func(t *rapid.T) time.Time { return start.AddDate(0, 0, rapid.IntRange(1, 90).Draw(t, "day")) })
	states := func(t *rapid.T, name string) *billing.Subscription {
		s := subscribed(plans[0])
		if rapid.IntRange(0, 3).Draw(t, name+" ends") == 0 {
			s.End = instant.Draw(t, name+" end")
		}
		if rapid.IntRange(0, 3).Draw(t, name+" counts") == 0 {
			s.Quantities = map[string]billing.Decimal{"base": dec("2")}
		}
		at := start
		for range rapid.IntRange(0, 2).Draw(t, name+" changes") {
			at = at.AddDate(0, 0, rapid.IntRange(1, 40).Draw(t, name+" after"))
			if s.End.IsZero() || at.Before(s.End) {
				s.Changes = append(s.Changes, billing.Change{At: at, Plan: rapid.SampledFrom(plans).Draw(t, name+" plan").Ref()})
			}
		}
		if rapid.IntRange(0, 2).Draw(t, name+" pauses") == 0 {
			from := instant.Draw(t, name+" pause")
			s.Pauses = []billing.Period{{Start: from}}
			if rapid.Bool().Draw(t, name+" resumes") {
				s.Pauses[0].End = from.AddDate(0, 0, rapid.IntRange(1, 30).Draw(t, name+" for"))
			}
		}
		return s
	}
	accepted, refused := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		was, closed := states(t, "was"), start.AddDate(0, 0, 30*rapid.IntRange(0, 3).Draw(t, "closed"))
		to := *was
		switch other := states(t, "to"); rapid.IntRange(0, 4).Draw(t, "what") {
		case 0:
			to.End = other.End
		case 1:
			to.Changes = other.Changes
		case 2:
			to.Pauses = other.Pauses
		case 3:
			to.Quantities = other.Quantities
		case 4:
			to.Changes = append(was.Changes[:len(was.Changes):len(was.Changes)], billing.Change{At: instant.Draw(t, "at"), Plan: plans[1].Ref()})
		}
		if len(to.Validate(b, time.Time{}).Errors()) > 0 || len(was.Validate(b, time.Time{}).Errors()) > 0 {
			return
		}
		picture := func(s *billing.Subscription) string {
			text, err := billing.Canonical(s.Segments(billing.Period{Start: start, End: closed}))
			if err != nil {
				t.Fatal(err)
			}
			return string(text)
		}
		same, faults := picture(was) == picture(&to), was.Amend(&to, b, closed)
		if len(faults) == 0 {
			if accepted++; !same {
				t.Fatalf("accepted at %s: %s became %s", closed, picture(was), picture(&to))
			}
		} else {
			refused++
		}
	})
	if accepted == 0 || refused == 0 {
		t.Errorf("%d were accepted, %d refused", accepted, refused)
	}
}

// TestAmendOfWhatIsBilled names what is refused, change by change.
func TestAmendOfWhatIsBilled(t *testing.T) {
	a, b := base(t, "a", "1"), base(t, "b", "2")
	was := subscribed(a)
	was.Changes = []billing.Change{moved("2026-01-15", b), moved("2026-03-10", a)}
	was.Pauses = []billing.Period{{Start: at("2026-01-05T00:00:00Z"), End: at("2026-01-10T00:00:00Z")}}
	f := func(change func(*billing.Subscription), want string) {
		t.Helper()
		to := *was
		change(&to)
		got := ""
		for _, fault := range was.Amend(&to, book(a, b), at("2026-02-01T00:00:00Z")) {
			got += fault.Pointer
		}
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	f(func(s *billing.Subscription) { s.Changes = []billing.Change{moved("2026-03-10", b)} }, "/changes")
	f(func(s *billing.Subscription) { s.Changes = []billing.Change{moved("2026-01-15", b)} }, "")
	f(func(s *billing.Subscription) { s.Quantities = map[string]billing.Decimal{"base": dec("9")} }, "/quantities")
	f(func(s *billing.Subscription) { s.Pauses = nil }, "/pauses")
	f(func(s *billing.Subscription) {
		s.Pauses = []billing.Period{{Start: was.Pauses[0].Start, End: at("2026-01-25T00:00:00Z")}}
	}, "/pauses")
	f(func(s *billing.Subscription) {
		s.Pauses = append(s.Pauses, billing.Period{Start: at("2026-02-05T00:00:00Z")})
	}, "")
	was.Changes, was.Pauses, was.End = nil, nil, at("2026-01-20T00:00:00Z")
	f(func(s *billing.Subscription) { s.End = time.Time{} }, "/end")
	f(func(s *billing.Subscription) { s.End = at("2026-02-01T00:00:00Z") }, "/end")
	f(func(s *billing.Subscription) { s.Refund = true }, "/refund")
}
