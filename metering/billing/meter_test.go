package billing_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

func TestMeter(t *testing.T) {
	of := func(gateway, consumer, window string, value int64) metering.Cell {
		c := cell(window, metering.MeterUnits, value)
		c.Gateway, c.Series.Consumer = gateway, consumer
		return c
	}
	cells := billing.Fold([]metering.Cell{
		of("gw1", "ann", "2026-01-05T00:00:00Z", 3_000_000), of("gw2", "ann", "2026-01-05T00:00:00Z", 2_000_000),
		of("gw1", "bob", "2026-01-06T00:00:00Z", 4_500_000), of("gw1", "bob", "2026-01-30T00:00:00Z", 1_000_000), of("gw2", "bob", "2026-01-30T00:00:00Z", 500_000),
		of("gw2", "eve", "2026-02-01T00:00:00Z", 9_000_000), of("gw2", "eve", "2025-12-31T23:59:00Z", 9_000_000),
	})
	january := billing.Period{Start: at("2026-01-01T00:00:00Z"), End: at("2026-02-01T00:00:00Z")}
	f := func(p billing.Price, want string) {
		t.Helper()
		p.Meter = metering.MeterUnits
		m := billing.Meter(cells, "acme", &p, january, time.UTC, true)
		if got := fmt.Sprint(m.Quantity, m.Buckets, m.Cells); got != want {
			t.Errorf("%s %s: got %s, want %s", p.Aggregation, p.Bucket, got, want)
		}
	}
	f(billing.Price{}, "11 [] 5")
	f(billing.Price{Aggregation: billing.Total}, "11 [] 5")
	f(billing.Price{Aggregation: billing.Count}, "5 [] 5")
	f(billing.Price{Aggregation: billing.Max}, "5 [] 5") // two gateways in one minute
	f(billing.Price{Aggregation: billing.Latest}, "0.5 [] 5")
	f(billing.Price{Aggregation: billing.Unique}, "2 [] 5")
	f(billing.Price{Bucket: billing.Day}, "11 [5 4.5 1.5] 5")
	f(billing.Price{Bucket: billing.Day, Aggregation: billing.Max}, "11 [5 4.5 1.5] 5")
	f(billing.Price{Route: "elsewhere"}, "0 [] 0")
	trued := billing.Price{Bucket: billing.Day, Commitment: &billing.Commitment{Units: billing.Int(1), Windowed: true, TrueUp: true}}
	trued.Meter = metering.MeterUnits
	if m := billing.Meter(cells, "acme", &trued, january, time.UTC, true); len(m.Buckets) != 31 {
		t.Errorf("%d days of January", len(m.Buckets))
	}
	if m := billing.Meter(cells, "other", &trued, january, time.UTC, true); m.Cells != 0 {
		t.Errorf("another tenant has %d cells", m.Cells)
	}
	one, two := billing.Meter(cells, "acme", &billing.Price{Meter: metering.MeterUnits}, january, time.UTC, true), billing.Meter(cells[1:], "acme", &billing.Price{Meter: metering.MeterUnits}, january, time.UTC, true)
	if cells[0].Window.Before(january.Start) && one.Hash != two.Hash {
		t.Error("the hash depends on cells of another period")
	}
}

func TestLatestAndMax(t *testing.T) {
	p := billing.Period{Start: at("2026-01-01T00:00:00Z"), End: at("2026-02-01T00:00:00Z")}
	s := []billing.Sample{
		{Time: at("2026-01-03T00:00:00Z"), Value: dec("7"), Order: "b"},
		{Time: at("2026-01-03T00:00:00Z"), Value: dec("6"), Order: "a"},
		{Time: at("2026-01-02T00:00:00Z"), Value: dec("10")},
		{Time: at("2026-03-02T00:00:00Z"), Value: dec("99")},
	}
	f := func(a billing.Aggregation, want string) {
		t.Helper()
		for range 2 {
			if got := billing.Aggregate(a, s, p, billing.Decimal{}).String(); got != want {
				t.Errorf("%s: got %s, want %s", a, got, want)
			}
			s[0], s[1] = s[1], s[0]
		}
	}
	f(billing.Latest, "7")
	f(billing.Max, "13")
	f(billing.Count, "3")
	if got := billing.Aggregate(billing.Max, nil, p, billing.Decimal{}); !got.IsZero() {
		t.Errorf("nothing is %s", got)
	}
	below := []billing.Sample{{Time: p.Start, Value: dec("-3")}}
	if got := billing.Aggregate(billing.Max, below, p, billing.Decimal{}); got.Cmp(dec("-3")) != 0 {
		t.Errorf("the largest of -3 is %s", got)
	}
}

func TestBurnOrder(t *testing.T) {
	f := func(grants []billing.Grant, at time.Time, want string) {
		t.Helper()
		w := &billing.Wallet{Currency: "EUR"}
		for _, g := range grants {
			g.Amount = billing.Int(1)
			if err := w.Add(g); err != nil {
				t.Fatal(err)
			}
		}
		got := ""
		for _, u := range w.Burn("i", at, billing.Int(99)) {
			got += u.ID
		}
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	a, b, c := at("2026-01-01T00:00:00Z"), at("2026-02-01T00:00:00Z"), at("2026-03-01T00:00:00Z")
	f([]billing.Grant{{ID: "y", Granted: b}, {ID: "x", Granted: a}}, c, "xy")
	f([]billing.Grant{{ID: "x", Granted: a, Expires: c.Add(2)}, {ID: "y", Granted: b, Expires: c.Add(1)}}, c, "yx")
	f([]billing.Grant{{ID: "x", Granted: a}, {ID: "y", Granted: b, Expires: c.Add(1)}}, c, "yx")
	f([]billing.Grant{{ID: "x", Granted: a, Expires: c.Add(1), Priority: 2}, {ID: "y", Granted: b, Priority: 1}}, c, "yx")
	f([]billing.Grant{{ID: "x", Granted: a, Expires: c}, {ID: "y", Granted: c}, {ID: "z", Granted: c.Add(1)}}, c, "y")
	w := &billing.Wallet{Currency: "EUR"}
	for _, bad := range []billing.Grant{{ID: "g"}, {ID: "g", Amount: dec("-1")}, {ID: "g", Amount: dec("0.001")}} {
		if err := w.Add(bad); gatehouse.CodeOf(err) != gatehouse.CodeInvalid {
			t.Errorf("%s: %v", bad.Amount, err)
		}
	}
	if err := w.Add(billing.Grant{ID: "g", Amount: dec("1")}); err != nil {
		t.Fatal(err)
	}
	if err := w.Add(billing.Grant{ID: "g", Amount: dec("1")}); err == nil {
		t.Error("an id was granted twice")
	}
	w.Entries[0].Postings[0].Amount = dec("-2")
	if w.Check() == nil {
		t.Error("a ledger that does not balance was accepted")
	}
}

func TestTaxOfCreditNotesAddsUp(t *testing.T) {
	s := billing.Settle([]billing.Line{{ID: "a", Amount: dec("0.10")}, {ID: "b", Amount: dec("-0.05")}}, billing.Terms{Currency: "EUR", Taxes: func(billing.Line) []billing.Tax { return []billing.Tax{{Code: "VAT", Percent: dec("25")}} }})
	inv := finalize(t, billing.Invoice{Status: billing.Drafted, Currency: "EUR", Sheet: s}, 1, "")
	// 0.10 + 0.03 - 0.05 - 0.01 = 0.07 in all.
	first, err := billing.Note(inv, nil, []billing.CreditAsk{{Line: "a", Net: dec("0.05")}}, "", "", billing.HalfUp, inv.Issued)
	if err != nil || first.Tax.Cmp(dec("0.01")) != 0 {
		t.Fatalf("tax %s, %v", first.Tax, err)
	}
	if _, err := billing.Note(inv, []billing.CreditNote{first}, []billing.CreditAsk{{Line: "a", Net: dec("0.05")}}, "", "", billing.HalfUp, inv.Issued); err == nil {
		t.Error("more was credited than the invoice came to")
	}
	inv.Lines, inv.Total = inv.Lines[:1], dec("0.13")
	second, err := billing.Note(inv, []billing.CreditNote{first}, []billing.CreditAsk{{Line: "a", Net: dec("0.05")}}, "", "", billing.HalfUp, inv.Issued)
	if err != nil || second.Tax.Cmp(dec("0.02")) != 0 {
		t.Errorf("tax %s, %v", second.Tax, err)
	}
}

func TestProgressiveInvoicesSumToOne(t *testing.T) {
	p := plan(t, premium)
	p.Prices[2].Minimum, p.Prices[2].Maximum = dec("15"), ptr(dec("18"))
	sub := &billing.Subscription{ID: "s1", Tenant: "acme", Plan: p.Ref(), Start: at("2026-01-01T00:00:00Z")}
	for _, calls := range []int64{10, 900, 1700, 9000} {
		var cells []metering.Cell
		for day := range 30 {
			cells = append(cells, cell("2026-01-01T00:00:00Z", "requests", calls/30))
			cells[day].Window = cells[day].Window.AddDate(0, 0, day)
		}
		run := billing.Run{Book: book(p), Subscription: sub, Cells: cells}
		whole := draft(t, run)
		sum := billing.Decimal{}
		for _, through := range []string{"2026-01-08T00:00:00Z", "2026-01-08T00:00:00Z", "2026-01-22T05:00:00Z", ""} {
			part := run
			if through != "" {
				part.Kind, part.Through = billing.Progressive, at(through)
			}
			inv := draft(t, part)
			sum = sum.Add(inv.Subtotal)
			run.Earlier = append(run.Earlier, inv)
		}
		if sum.Cmp(whole.Subtotal) != 0 {
			t.Errorf("%d calls: parts sum to %s, the whole is %s", calls, sum, whole.Subtotal)
		}
	}
}

// TestTextOfTheRest holds that a line which charges what others have left says
// so, with a quantity and a unit price that come to its amount.
func TestTextOfTheRest(t *testing.T) {
	f := func(price, want string) {
		t.Helper()
		p := thirty(t, "p", `{"id":"calls","meter":"requests",`+price+`}`)
		run := billing.Run{Book: book(p), Subscription: subscribed(p), Cells: []metering.Cell{cell("2026-01-03T00:00:00Z", "requests", 10), cell("2026-01-20T00:00:00Z", "requests", 15)}}
		part := run
		part.Kind, part.Through = billing.Progressive, at("2026-01-10T00:00:00Z")
		run.Earlier = []billing.Invoice{draft(t, part)}
		l := draft(t, run).Lines[0]
		unit := "none"
		if l.UnitPrice != nil {
			unit = l.UnitPrice.String()
		}
		if got := fmt.Sprintf("%s: %s x %s = %s", l.Text, l.Quantity, unit, l.Amount); got != want {
			t.Errorf("%s\n got %s\nwant %s", price, got, want)
		}
	}
	f(`"model":"per_unit","amount":"0.01"`, "calls: 25 in all, 10 of them billed before for 0.10: 15 x 0.01 = 0.15")
	f(`"model":"per_unit","amount":"0"`, "calls: 25 in all, 10 of them billed before for 0.00: 15 x 0 = 0")
	f(`"model":"volume","tiers":[{"up_to":"10","unit_price":"1"},{"unit_price":"0.1"}]`, "calls: 25 in all, 10 of them billed before for 10.00: 15 x none = -7.5")
	f(`"model":"per_unit","amount":"0.01","included":"5"`, "calls: 20 in all, 0.09 billed before: 20 x none = 0.11")
	f(`"model":"per_unit","amount":"0.01","bucket":"day"`, "calls: 25 in all, 10 of them billed before for 0.10: 15 x none = 0.15")
}

// TestTextOfSigns holds that what others have charged of units and of money is
// called what it is, each by its sign, and that no part is more than the whole.
func TestTextOfSigns(t *testing.T) {
	p := thirty(t, "p", `{"id":"calls","meter":"requests","model":"per_unit","amount":"0.01"}`)
	f := func(quantity, amount, want string) {
		t.Helper()
		run := billing.Run{Book: book(p), Subscription: subscribed(p), Cells: []metering.Cell{cell("2026-01-03T00:00:00Z", "requests", 25)}}
		l := draft(t, run).Lines[0]
		l.Kind, l.Quantity, l.Amount = billing.LineAdjustment, dec(quantity), dec(amount)
		run.Earlier = []billing.Invoice{{Kind: billing.Closing, Status: billing.Finalized, Sheet: billing.Sheet{Lines: []billing.Line{l}}}}
		now := draft(t, run).Lines[0]
		if got := fmt.Sprintf("%s: %s = %s", now.Text, now.Quantity, now.Amount); got != want {
			t.Errorf("%s for %s\n got %s\nwant %s", quantity, amount, got, want)
		}
	}
	f("10", "0.1", "calls: 25 in all, 10 of them billed before for 0.10: 15 = 0.15")
	f("30", "0.3", "calls: 25 in all, 30 billed before for 0.30: -5 = -0.05")
	f("-10", "-0.1", "calls: 25 in all, 10 given back before for 0.10: 35 = 0.35")
	f("10", "-0.1", "calls: 25 in all, 10 of them billed before, and 0.10 given back before: 15 = 0.35")
	f("-10", "0.1", "calls: 25 in all, 10 given back before, and 0.10 billed before: 35 = 0.15")
	f("0", "-0.1", "calls: 25 in all, 0 of them billed before, and 0.10 given back before: 25 = 0.35")
}

// TestLateBuckets holds that usage which comes late is stated where days are
// priced each on its own, and so is usage that is taken back.
func TestLateBuckets(t *testing.T) {
	p := thirty(t, "p", `{"id":"calls","meter":"requests","model":"per_unit","amount":"0.01","bucket":"day"}`)
	run := billing.Run{Book: book(p), Subscription: subscribed(p), Cells: []metering.Cell{cell("2026-01-03T00:00:00Z", "requests", 10), cell("2026-01-20T00:00:00Z", "requests", 15)}}
	january := draft(t, run)
	if l := january.Lines[0]; l.Quantity.String() != "25" || l.Trace.Metered.String() != "25" {
		t.Errorf("%s, metered %s", l.Quantity, l.Trace.Metered)
	}
	for late, want := range map[int64]string{22: "7 = 0.07", 11: "-4 = -0.04"} {
		cells := []metering.Cell{run.Cells[0], cell("2026-01-20T00:00:00Z", "requests", late)}
		again := billing.Run{Book: run.Book, Subscription: run.Subscription, Index: 1, Cells: cells, CompleteFrom: run.Subscription.Start, Earlier: []billing.Invoice{january}}
		if l := draft(t, again).Lines[0]; fmt.Sprintf("%s = %s", l.Quantity, l.Amount) != want {
			t.Errorf("%s = %s, want %s", l.Quantity, l.Amount, want)
		}
	}
}

// TestCompleteUntil holds that nothing is rated again that ends later.
func TestCompleteUntil(t *testing.T) {
	p := thirty(t, "p", `{"id":"calls","meter":"requests","model":"per_unit","amount":"0.01"}`)
	s := subscribed(p)
	run := billing.Run{Book: book(p), Subscription: s}
	for n := range 3 {
		run.Index = n
		run.Earlier = append(run.Earlier, draft(t, run))
	}
	late := cell("2026-01-03T00:00:00Z", "requests", 10)
	for n := range 3 {
		of := s.Whole(p.Cadence, n)
		c := late
		c.Window = of.Start
		run.Cells = append(run.Cells, c)
	}
	for n := range 3 {
		of := s.Whole(p.Cadence, n)
		run.Kind, run.CompleteFrom, run.CompleteUntil = billing.Correction, of.Start, of.End
		lines := draft(t, run).Lines
		if len(lines) != 1 || !lines[0].Period.Start.Equal(of.Start) || lines[0].Quantity.String() != "10" {
			t.Errorf("period %d: %+v", n, lines)
		}
	}
}

func TestTwoChangesInAPeriod(t *testing.T) {
	p := plan(t, premium)
	sub := &billing.Subscription{ID: "s1", Tenant: "acme", Plan: p.Ref(), Start: at("2026-06-01T00:00:00Z")}
	opening := draft(t, billing.Run{Book: book(p), Subscription: sub, Kind: billing.Opening})
	sub.Changes = []billing.Change{
		{At: at("2026-06-11T00:00:00Z"), Plan: p.Ref(), Quantities: map[string]billing.Decimal{"base": dec("1"), "seats": dec("4")}},
		{At: at("2026-06-21T00:00:00Z"), Plan: p.Ref(), Quantities: map[string]billing.Decimal{"seats": dec("0")}},
	}
	see(t, draft(t, billing.Run{Book: book(p), Subscription: sub, Earlier: []billing.Invoice{opening}}), `usage calls 06-01..07-01 0
		recurring seats 06-01..06-11 1.67 (1/3)
		recurring seats 06-11..06-21 6.67 (1/3)
		recurring seats 06-21..07-01 0 (1/3)
		recurring base 07-01..08-01 30
		subtotal 38.34 tax 7.66 total 46 due 46`)
}

func TestAFeeInAdvanceChangesItsQuantity(t *testing.T) {
	p := plan(t, premium)
	p.Prices[1].Advance = true
	cet := time.FixedZone("CET", 3600)
	sub := &billing.Subscription{ID: "s1", Tenant: "acme", Plan: p.Ref(), Start: at("2026-06-01T00:00:00Z").In(cet), Quantities: map[string]billing.Decimal{"seats": dec("2")}}
	opening := draft(t, billing.Run{Book: book(p), Subscription: sub, Kind: billing.Opening})
	see(t, opening, `recurring base 06-01..07-01 30
		recurring seats 06-01..07-01 10
		subtotal 40 tax 8 total 48 due 48`)
	sub.Changes = []billing.Change{{At: at("2026-06-11T00:00:00Z").In(cet), Plan: p.Ref(), Quantities: map[string]billing.Decimal{"seats": dec("5")}}}
	run := billing.Run{Book: book(p), Subscription: sub, Earlier: []billing.Invoice{opening}}
	inv := draft(t, run)
	see(t, inv, `usage calls 06-01..07-01 0
		credit seats 06-11..07-01 -6.67 (2/3)
		charge seats 06-11..07-01 16.67 (2/3)
		recurring base 07-01..08-01 30
		recurring seats 07-01..08-01 25
		subtotal 65 tax 13 total 78 due 78`)
	utc := *sub
	utc.Start, utc.Changes = sub.Start.UTC(), []billing.Change{{At: sub.Changes[0].At.UTC(), Plan: p.Ref(), Quantities: sub.Changes[0].Quantities}}
	run.Subscription = &utc
	a, errA := billing.Canonical(inv)
	b, errB := billing.Canonical(draft(t, run))
	if errA != nil || errB != nil || string(a) != string(b) {
		t.Errorf("the zone in which times are written changes the invoice:\n%s\n%s", a, b)
	}
}
