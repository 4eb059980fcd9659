package billing_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

// TestModelsOfCells holds that every model that a plan may have sees what it
// needs of the cells: events are requests, peaks are the largest minutes.
func TestModelsOfCells(t *testing.T) {
	cells := []metering.Cell{
		cell("2026-01-05T00:00:00Z", "units", 100_000_000), cell("2026-01-05T00:00:00Z", "requests", 10), cell("2026-01-06T00:00:00Z", "requests", 5),
		cell("2026-01-05T00:00:00Z", "bytes_in", 5), cell("2026-01-05T00:00:00Z", "bytes_out", 60), cell("2026-01-06T00:00:00Z", "bytes_out", 70),
	}
	f := func(price, want string) {
		t.Helper()
		p := thirty(t, "p", `{"id":"x",`+price+`}`)
		inv := draft(t, billing.Run{Book: book(p), Subscription: subscribed(p), Cells: cells})
		if got := inv.Subtotal.String(); got != want {
			t.Errorf("%s: got %s, want %s", price, got, want)
		}
	}
	f(`"meter":"units","model":"percentage","rate":"1","fee":"0.10"`, "2.5")
	f(`"meter":"units","model":"percentage","rate":"1"`, "1")
	f(`"meter":"requests","model":"percentage","fee":"0.10","free_events":4`, "1.1")
	const tiers = `"model":"capacity","tiers":[{"limits":{"bytes_out":"70","bytes_in":"%d"},"flat_fee":"5"},{"flat_fee":"20"}]`
	f(`"meter":"bytes_out",`+fmt.Sprintf(tiers, 5), "5")
	f(`"meter":"bytes_out",`+fmt.Sprintf(tiers, 4), "20")
	f(`"meter":"requests",`+fmt.Sprintf(tiers, 5), "5")
	f(`"meter":"bytes_out","model":"per_unit","amount":"1","aggregation":"min"`, "60")
	f(`"meter":"bytes_out","model":"per_unit","amount":"1","aggregation":"avg"`, "65")
}

// TestInterruptedAreTakenOffFirst holds that interrupted requests are taken
// off what their own epoch counted, before anything is made of it.
func TestInterruptedAreTakenOffFirst(t *testing.T) {
	var cells []metering.Cell
	for day := range 3 {
		for n, meter := range []string{"requests", "requests_interrupted"} {
			c := cell("2026-01-02T00:00:00Z", meter, []int64{100, 10}[n])
			c.Window = c.Window.AddDate(0, 0, day)
			cells = append(cells, c)
		}
	}
	f := func(price, want string, more ...metering.Cell) {
		t.Helper()
		p := thirty(t, "p", `{"id":"x","meter":"requests","model":"per_unit","amount":"1"`+price+`}`)
		inv := draft(t, billing.Run{Book: book(p), Subscription: subscribed(p), Cells: append(cells[:len(cells):len(cells)], more...)})
		if got := inv.Subtotal.String(); got != want {
			t.Errorf("%s: got %s, want %s", price, got, want)
		}
	}
	f(``, "270")
	f(`,"aggregation":"max"`, "90")
	f(`,"aggregation":"latest"`, "90")
	f(`,"bucket":"day"`, "270")
	// The end of the epoch may be dated after the minute that counted.
	f(``, "250", cell("2026-01-09T00:00:00Z", "requests_interrupted", 20))
	f(``, "250", cell("2026-02-01T00:00:00Z", "requests_interrupted", 20))
	f(``, "270", cell("2026-01-01T00:00:00Z", "requests_interrupted", 20)) // before anything was counted
	other := cell("2026-01-09T00:00:00Z", "requests_interrupted", 20)
	other.Epoch.Counter++
	f(``, "270", other)
	f(``, "0", cell("2026-01-09T00:00:00Z", "requests_interrupted", 999))
}

// TestLevelsOverCuts holds that a mean level comes to the same however a
// period is cut.
func TestLevelsOverCuts(t *testing.T) {
	p := thirty(t, "p", `{"id":"x","meter":"bytes_out","model":"per_unit","amount":"1","aggregation":"weighted_sum"}`)
	rapid.Check(t, func(t *rapid.T) {
		var cells []metering.Cell
		for i := range rapid.IntRange(0, 5).Draw(t, "cells") {
			c := cell("2026-01-01T00:00:00Z", "bytes_out", rapid.Int64Range(0, 500).Draw(t, "n"))
			c.Window, c.Gateway = c.Window.Add(time.Duration(rapid.IntRange(0, 30*24*60-1).Draw(t, "minute"))*time.Minute), fmt.Sprint(i)
			cells = append(cells, c)
		}
		s := subscribed(p)
		r := billing.Run{Book: book(p), Subscription: s, Cells: cells}
		bill := func(r billing.Run) billing.Invoice {
			inv, err := billing.Draft(r)
			if err != nil {
				t.Fatal(err)
			}
			return inv
		}
		whole, sum := bill(r), billing.Decimal{}
		q := *p
		q.Version = 2
		if at := rapid.IntRange(0, 29).Draw(t, "change"); at > 0 {
			changed := *s
			changed.Changes = []billing.Change{{At: s.Start.AddDate(0, 0, at), Plan: q.Ref()}}
			cut := r
			cut.Book, cut.Subscription = book(p, &q), &changed
			exact := billing.Decimal{}
			for _, l := range bill(cut).Lines {
				exact = exact.Add(l.Trace.Exact)
			}
			if exact.Cmp(whole.Lines[0].Trace.Exact) != 0 {
				t.Fatalf("two plans come to %s, one to %s", exact, whole.Lines[0].Trace.Exact)
			}
		}
		for _, day := range []int{4, 17} {
			part := r
			part.Kind, part.Through = billing.Progressive, s.Start.AddDate(0, 0, day)
			inv := bill(part)
			sum, r.Earlier = sum.Add(inv.Subtotal), append(r.Earlier, inv)
		}
		if sum = sum.Add(bill(r).Subtotal); sum.Cmp(whole.Subtotal) != 0 {
			t.Fatalf("cuts come to %s, the whole to %s", sum, whole.Subtotal)
		}
	})
}

// TestMonthlyGrants holds that credit of a month pays for that month, when its
// invoice is made after the month and even after the credit was written off.
func TestMonthlyGrants(t *testing.T) {
	p := plan(t, `{"id":"p","version":1,"currency":"EUR","cadence":{"unit":"month"},"prices":[`+metered+`]}`)
	w := &billing.Wallet{Currency: "EUR"}
	for _, g := range []billing.Grant{
		{ID: "dec", Amount: dec("3"), Granted: at("2025-12-01T00:00:00Z"), Expires: at("2026-01-01T00:00:00Z")},
		{ID: "jan", Amount: dec("40"), Granted: at("2026-01-01T00:00:00Z"), Expires: at("2026-02-01T00:00:00Z"), Cost: dec("20")},
		{ID: "feb", Amount: dec("7"), Granted: at("2026-02-01T00:00:00Z"), Expires: at("2026-03-01T00:00:00Z")},
	} {
		if err := w.Add(g); err != nil {
			t.Fatal(err)
		}
	}
	now := at("2026-02-03T00:00:00Z")
	w.Expire(now, time.UTC)
	if w.Left("jan").Sign() != 0 || w.Balance(billing.AccountExpired).Cmp(dec("43")) != 0 {
		t.Fatalf("left %s, expired %s", w.Left("jan"), w.Balance(billing.AccountExpired))
	}
	inv := draft(t, billing.Run{Book: book(p), Subscription: subscribed(p), Cells: []metering.Cell{cell("2026-01-05T00:00:00Z", "bytes_out", 30)}, Wallet: w})
	f := func(want string) {
		t.Helper()
		if err := w.Check(); err != nil {
			t.Error(err)
		}
		if got := fmt.Sprint(inv.Wallet, w.Left("jan"), w.Balance(billing.AccountExpired), w.Balance(billing.AccountUsed), w.Recognized()); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	f("[{jan  30}] 0 43 0 0")
	for range 2 {
		if err := w.Book("GH-1", inv.Wallet, now); err != nil {
			t.Fatal(err)
		}
		f("[{jan  30}] 0 13 30 15")
	}
	w.Return("GH-1", now)
	w.Return("GH-1", now)
	f("[{jan  30}] 30 13 0 0")
	if err := w.Book("GH-1", inv.Wallet, now); err != nil {
		t.Fatal(err)
	}
	f("[{jan  30}] 0 13 30 15")
	refused := func(invoice, grant, amount string) {
		t.Helper()
		before := len(w.Entries)
		if err := w.Book(invoice, []billing.Applied{{ID: "feb", Amount: dec("1")}, {ID: grant, Amount: dec(amount)}}, now); gatehouse.CodeOf(err) != gatehouse.CodeInvalid || len(w.Entries) != before {
			t.Errorf("%s of %s: %v, %d entries", amount, grant, err, len(w.Entries)-before)
		}
	}
	refused("GH-1", "jan", "1")
	refused("GH-2", "jan", "11")
	refused("GH-2", "nobody", "1")
	refused("GH-2", "dec", "0")
	for _, e := range w.Entries {
		if e.Time.Location() != time.UTC || strings.Count(fmt.Sprint(w.Entries), e.ID+" ") == 0 {
			t.Errorf("entry %s at %s", e.ID, e.Time)
		}
	}
}

// TestWalletsBookInvoices holds that a wallet books what drafts use, whatever
// was returned and whatever has expired meanwhile.
func TestWalletsBookInvoices(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, start := &billing.Wallet{Currency: "EUR"}, at("2026-01-01T00:00:00Z")
		granted, n := billing.Decimal{}, rapid.IntRange(1, 4).Draw(t, "grants")
		for i := range n {
			g := billing.Grant{ID: fmt.Sprint("g", i), Amount: cents.Draw(t, "amount").Add(dec("0.01")), Granted: start.AddDate(0, 0, rapid.IntRange(0, 60).Draw(t, "from")), Priority: rapid.IntRange(0, 1).Draw(t, "priority")}
			if rapid.Bool().Draw(t, "expires") {
				g.Expires = g.Granted.AddDate(0, 0, rapid.IntRange(1, 40).Draw(t, "for"))
			}
			if rapid.IntRange(0, 2).Draw(t, "rolls") == 0 {
				g.Rollover = &billing.Rollover{Max: ptr(cents.Draw(t, "most"))}
			}
			if err := w.Add(g); err != nil {
				t.Fatal(err)
			}
			granted = granted.Add(g.Amount)
		}
		used := map[string]billing.Decimal{}
		for i := range 6 {
			month := billing.Period{Start: start.AddDate(0, i/2, 0), End: start.AddDate(0, i/2+1, 0)}
			now := month.End.AddDate(0, 0, rapid.IntRange(0, 9).Draw(t, "days later"))
			if rapid.Bool().Draw(t, "expire") {
				w.Expire(now, time.UTC)
			}
			number, left := fmt.Sprint("GH-", i), cents.Draw(t, "due")
			var parts []billing.Applied
			for _, u := range w.Within(month, month.End) {
				if part := u.Amount.Min(left); part.Sign() > 0 {
					parts, left = append(parts, billing.Applied{ID: u.ID, Amount: part}), left.Sub(part)
					used[number] = used[number].Add(part)
				}
			}
			for range rapid.IntRange(1, 2).Draw(t, "times") {
				if err := w.Book(number, parts, now); err != nil {
					t.Fatal(err)
				}
			}
			if void := fmt.Sprint("GH-", rapid.IntRange(0, 5).Draw(t, "void")); rapid.Bool().Draw(t, "voided") {
				w.Return(void, now)
				delete(used, void)
			}
		}
		sum := billing.Decimal{}
		for _, u := range used {
			sum = sum.Add(u)
		}
		in := w.Balance(billing.AccountGift).Add(w.Balance(billing.AccountPaid)).Neg()
		if err := w.Check(); err != nil || w.Balance(billing.AccountUsed).Cmp(sum) != 0 || in.Cmp(granted) != 0 {
			t.Fatalf("used %s, want %s; granted %s of %s: %v", w.Balance(billing.AccountUsed), sum, in, granted, err)
		}
	})
}
