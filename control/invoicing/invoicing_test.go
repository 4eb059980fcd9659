package invoicing_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/invoicing"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
	"github.com/gatehouse-gateway/gatehouse/metering/ledger"
)

// TestLife follows one tenant from its first invoice over a change of plan,
// late usage and adjustments to its end.
func TestLife(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.price(premium)
		h.price(enterprise)
		h.subscribe("acme", "premium")
		h.round()
		h.use("acme", "2026-01-10 12:00", "requests", 500)
		h.set("2026-01-16 12:00")
		if _, err := h.Change(ctx, "acme", "main", invoicing.Move{Plan: "enterprise"}, as); err != nil {
			t.Fatal(err)
		}
		h.use("acme", "2026-01-20 12:00", "requests", 1500)
		h.set("2026-02-01")
		if d := h.round(); d.Waiting != 1 || d.Finalized != 0 {
			t.Fatalf("closed before it is sealed: %+v", d)
		}
		h.seal("2026-02-01")
		if d := h.round(); d.Finalized != 1 {
			t.Fatalf("not closed when it is sealed: %+v", d)
		}
		// 100 requests are late; 200 of those that are billed are taken back.
		h.use("acme", "2026-01-21 12:00", "requests", 100)
		h.use("acme", "2026-02-10 12:00", "requests", 100)
		adjustment := ledger.Adjustment{ID: "x1", Tenant: "acme", Meter: "requests", Time: at("2026-01-10 12:00"), Value: "-200", Reason: "outage"}
		if _, err := h.Adjust(ctx, adjustment, as); err != nil {
			t.Fatal(err)
		}
		adjustment.ID, adjustment.Value = "x2", "-301"
		if _, err := h.Adjust(ctx, adjustment, as); gatehouse.CodeOf(err) != gatehouse.CodeInvalid {
			t.Errorf("more is taken back than was used: %v", err)
		}
		h.set("2026-02-15")
		if _, err := h.Cancel(ctx, "acme", "main", invoicing.Cancellation{At: at("2026-02-20"), Refund: true}, as); err != nil {
			t.Fatal(err)
		}
		h.set("2026-02-22") // the time of grace is over, gw silent
		h.round()
		want := `GH-2026-000001 opening finalized 0101..0201 total 30 due 30
  recurring base x 1 = 30
GH-2026-000002 closing finalized 0101..0201 total 182.15 due 182.15
  usage calls x 500 = 5
  usage calls x 1500 = 22.5
  credit base x 1 = -15
  charge base x 1 = 45
  recurring base x 1 = 90
GH-2026-000003 closing paid 0201..0220 total -34.24 due 0
  adjustment calls x -200 = -2 corrects GH-2026-000002
  adjustment calls x 100 = 0.5 corrects GH-2026-000002
  usage calls x 100 = 2
  credit base x 1 = -28.93
`
		if got := h.invoices("acme"); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
		s, err := h.Subscription(ctx, "acme", "main")
		if err != nil || !s.Done || s.State != billing.Ended {
			t.Errorf("%+v %v", s, err)
		}
		late, err := h.Late(ctx, "acme")
		if err != nil || len(late) != 2 || late[0].Invoice != "GH-2026-000002" || late[0].ChargedBy != "GH-2026-000003" {
			t.Errorf("%v %v", late, err)
		}
		third, err := h.Invoice(ctx, "acme", "GH-2026-000003")
		if err != nil || fmt.Sprint(third.Watermark.Missing) != "[gw]" {
			t.Errorf("%v %v", third.Watermark, err)
		}
		balances, err := h.Balances(ctx, "acme")
		if got := fmt.Sprint(balances); err != nil || got != "[{EUR [{GH-2026-000003  34.24}]}]" {
			t.Errorf("%v %v", got, err)
		}
		sound(t, h)
	})
}

// TestMoney follows credit, payment, credit notes and a void invoice through
// wallet, balance and books.
func TestMoney(t *testing.T) {
	mostly(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.price(premium)
		if _, err := h.Grant(ctx, "acme", invoicing.Credit{Currency: "EUR", Grant: billing.Grant{ID: "welcome", Amount: dec("10"), Expires: at("2026-03-15")}}, as); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Grant(ctx, "acme", invoicing.Credit{Currency: "EUR", Grant: billing.Grant{ID: "bought", Amount: dec("12"), Cost: dec("10"), Priority: 1}}, as); err != nil {
			t.Fatal(err)
		}
		h.subscribe("acme", "premium")
		h.round()
		if got := books(t, h); got != "cash 10, given 12, prepaid 0, receivable 8, revenue -30" {
			t.Error(got)
		}
		if _, err := h.Mark(ctx, "acme", "GH-2026-000001", invoicing.Mark{Status: billing.Void, Ref: "wrong", Reissue: true}, as); err != nil {
			t.Fatal(err)
		}
		if got := books(t, h); got != "cash 10, given 12, prepaid -22, receivable 0, revenue 0" {
			t.Error(got)
		}
		h.round() // bills it anew
		inv, err := h.Mark(ctx, "acme", "GH-2026-000002", invoicing.Mark{Status: billing.Uncollectible}, as)
		if err != nil || inv.Due.String() != "8" {
			t.Fatal(inv, err)
		}
		if _, err := h.Mark(ctx, "acme", "GH-2026-000002", invoicing.Mark{Status: billing.Paid, Ref: "tr_1"}, as); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Mark(ctx, "acme", "GH-2026-000002", invoicing.Mark{Status: billing.Paid, Ref: "tr_1"}, as); err != nil {
			t.Error("a payment that is told twice:", err)
		}
		if _, err := h.Mark(ctx, "acme", "GH-2026-000002", invoicing.Mark{Status: billing.Void}, as); gatehouse.CodeOf(err) != gatehouse.CodeConflict {
			t.Error("a paid invoice is void:", err)
		}
		note := invoicing.NewNote{Invoice: "GH-2026-000002", Lines: []billing.CreditAsk{{Line: inv.Lines[0].ID, Net: dec("4")}}, Reason: "courtesy"}
		if _, err := h.Credit(ctx, "acme", note, as); err != nil {
			t.Fatal(err)
		}
		note.Lines[0].Net = dec("26.01")
		if _, err := h.Credit(ctx, "acme", note, as); gatehouse.CodeOf(err) != gatehouse.CodeInvalid {
			t.Error("more is credited than was billed:", err)
		}
		note.Lines, note.To = nil, billing.ToRefund
		if _, err := h.Credit(ctx, "acme", note, as); gatehouse.CodeOf(err) != gatehouse.CodeInvalid {
			t.Error("more is refunded than was paid:", err)
		}
		h.seal("2026-02-01")
		h.set("2026-02-01")
		h.round() // the credit note pays for a part
		if got := books(t, h); got != "bad-debt 0, balance 0, cash 18, given 12, prepaid 0, receivable 26, revenue -56" {
			t.Error(got)
		}
		h.set("2026-02-16")
		if d := h.round(); d.Overdue != 1 {
			t.Errorf("%+v", d)
		}
		if d := h.round(); d.Overdue != 0 {
			t.Errorf("reminded twice: %+v", d)
		}
		notes, err := h.Notes(ctx, "acme")
		if err != nil || len(notes) != 1 || notes[0].Number != "GH-CN-2026-000001" {
			t.Error(notes, err)
		}
		if _, err := h.NoteDocument(ctx, notes[0], invoicing.JSON); err != nil {
			t.Error(err)
		}
		last, err := h.Invoice(ctx, "acme", "GH-2026-000003")
		if err != nil || fmt.Sprint(last.CreditNotes, last.Overdue[0].Days) != "[{GH-CN-2026-000001  4}] 0" {
			t.Error(last, err)
		}
		for format := range invoicing.Formats {
			if text, err := last.Document(format); err != nil || len(text) < 100 {
				t.Errorf("%s: %d bytes, %v", format, len(text), err)
			}
		}
		sound(t, h)
	})
}

// TestExpiry holds that credit pays for the periods that its life overlaps, and
// that what nobody used is booked as earned after that.
func TestExpiry(t *testing.T) {
	t.Parallel()
	h := open(t, stores["SQLite"](t))
	h.price(strings.Replace(premium, ", advance: true", "", 1))
	h.subscribe("acme", "premium")
	for id, end := range map[string]string{"long": "2026-02-02", "short": "2026-01-20", "own": "2026-02-01"} {
		if _, err := h.Grant(t.Context(), "acme", invoicing.Credit{Currency: "EUR", Grant: billing.Grant{ID: id, Amount: dec("10"), Expires: at(end)}}, as); err != nil {
			t.Fatal(err)
		}
	}
	h.seal("2026-02-03")
	h.set("2026-02-03 10:00")
	h.round()
	if got := books(t, h); got != "given 30, prepaid 0, revenue -30" {
		t.Error(got)
	}
	sound(t, h)
}

// TestVersions holds that a version does not change once it is used, and that
// what is wrong with one is named.
func TestVersions(t *testing.T) {
	mostly(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		p := h.price(premium)
		p.Name = "Premium 2"
		if _, err := h.ReplaceVersion(ctx, p.Ref(), p, as); err != nil {
			t.Fatal(err)
		}
		h.subscribe("acme", "premium")
		p.Name = "Premium 3"
		if _, err := h.ReplaceVersion(ctx, p.Ref(), p, as); gatehouse.CodeOf(err) != gatehouse.CodeConflict {
			t.Error("a version in use was changed:", err)
		}
		p.Version = 0
		if v, err := h.AddVersion(ctx, "premium", p, as); err != nil || v.Version != 2 {
			t.Error(v.Version, err)
		}
		if s := h.subscribe("other", "premium"); s.Plan.Version != 2 {
			t.Error("not the newest version:", s.Plan)
		}
		all, err := h.Versions(ctx, "premium")
		if err != nil || len(all) != 2 || all[0].Name != "Premium 2" || !all[0].Used {
			t.Error(all, err)
		}
	})
}

// TestRefusals holds that bad input is named and changes nothing.
func TestRefusals(t *testing.T) {
	t.Parallel()
	h := open(t, stores["SQLite"](t))
	ctx := t.Context()
	h.price(premium)
	h.subscribe("acme", "premium")
	h.seal("2026-02-01")
	h.set("2026-02-01 01:00")
	h.round()
	add := func(text string) func() error {
		return func() error {
			_, err := h.AddVersion(ctx, "premium", plan(t, text), as)
			return err
		}
	}
	subscribe := func(in invoicing.NewSubscription) func() error {
		return func() error {
			in.Plan, in.ID = "premium", "second"
			_, err := h.Subscribe(ctx, "acme", in, as)
			return err
		}
	}
	for _, tt := range []struct {
		name, want string
		do         func() error
	}{
		{"13 decimals", "/prices/0/amount", add(strings.Replace(premium, `"30"`, `"0.0000000000001"`, 1))},
		{"overlapping tiers", "/prices/1/tiers/1/from", add(strings.Replace(enterprise, "{unit_price", `{from: "999", unit_price`, 1)[len("\nid: enterprise"):])},
		{"unknown currency", "/currency", add(strings.Replace(premium, "EUR", "EUX", 1))},
		{"amount beyond 10^15", "/prices/0/amount", add(strings.Replace(premium, `"30"`, `"1000000000000001"`, 1))},
		{"another plan", "/id", add(enterprise)},
		{"negative quantity", "/quantities/base", subscribe(invoicing.NewSubscription{Quantities: map[string]billing.Decimal{"base": dec("-1")}})},
		{"ends before it begins", "/end", subscribe(invoicing.NewSubscription{Start: at("2026-03-01"), End: at("2026-02-01")})},
		{"unknown zone", "/time_zone", subscribe(invoicing.NewSubscription{TimeZone: "Mars/Olympus"})},
		{"no such version", "/plan", subscribe(invoicing.NewSubscription{Version: 9})},
		{"change in a finalized period", "/at", func() error {
			_, err := h.Change(ctx, "acme", "main", invoicing.Move{Plan: "premium", At: at("2026-01-20")}, as)
			return err
		}},
		{"pause in a finalized period", "/at", func() error {
			_, err := h.Pause(ctx, "acme", "main", invoicing.Pause{At: at("2026-01-20")}, as)
			return err
		}},
		{"pause that ends before it begins", "/until", func() error {
			_, err := h.Pause(ctx, "acme", "main", invoicing.Pause{At: at("2026-02-20"), Until: at("2026-02-10")}, as)
			return err
		}},
		{"end in a finalized period", "/at", func() error {
			_, err := h.Cancel(ctx, "acme", "main", invoicing.Cancellation{At: at("2026-01-20")}, as)
			return err
		}},
		{"credit beyond 10^15", "/amount", func() error {
			_, err := h.Grant(ctx, "acme", invoicing.Credit{Currency: "EUR", Grant: billing.Grant{ID: "g", Amount: dec("1000000000000001")}}, as)
			return err
		}},
		{"credit finer than a cent", "/amount", func() error {
			_, err := h.Grant(ctx, "acme", invoicing.Credit{Currency: "EUR", Grant: billing.Grant{ID: "g", Amount: dec("0.001")}}, as)
			return err
		}},
		{"alert without thresholds", "/thresholds", func() error {
			_, err := h.SetAlert(ctx, "acme", invoicing.NewAlert{ID: "a", Watch: invoicing.WatchMoney}, as)
			return err
		}},
	} {
		before, err := h.journal.Head(ctx)
		if err != nil {
			t.Fatal(err)
		}
		err = tt.do()
		got := ""
		if err != nil {
			got = err.Error()
		}
		if gatehouse.CodeOf(err) != gatehouse.CodeInvalid || !strings.Contains(got, tt.want) {
			t.Errorf("%s: no %s in %q", tt.name, tt.want, got)
		}
		if after, err := h.journal.Head(ctx); err != nil || after.Seq != before.Seq {
			t.Errorf("%s: something was saved", tt.name)
		}
	}
}

// TestAlerts holds that each threshold is told once in a period, whatever
// restarts.
func TestAlerts(t *testing.T) {
	mostly(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.price(strings.Replace(premium, "prices:", `entitlements: [{feature: calls, meter: requests, limit: "1000"}]
prices:`, 1))
		h.subscribe("acme", "premium")
		if _, err := h.SetAlert(ctx, "acme", invoicing.NewAlert{ID: "quota", Watch: invoicing.WatchUsage, Feature: "calls", Resolve: true}, as); err != nil {
			t.Fatal(err)
		}
		if _, err := h.SetAlert(ctx, "acme", invoicing.NewAlert{ID: "spend", Watch: invoicing.WatchMoney, Thresholds: []billing.Decimal{dec("35"), dec("43.01")}}, as); err != nil {
			t.Fatal(err)
		}
		if _, err := h.SetAlert(ctx, "acme", invoicing.NewAlert{ID: "credit", Watch: invoicing.WatchWallet, Currency: "EUR", Thresholds: []billing.Decimal{dec("5")}}, as); err != nil {
			t.Fatal(err)
		}
		h.round()
		h.use("acme", "2026-01-02", "requests", 499)
		h.set("2026-01-02")
		h.round()
		h.use("acme", "2026-01-03", "requests", 801) // 1,300 in all: 43.00 with the fee that is next
		h.set("2026-01-03")
		h.round()
		h.Accounts = h.accounts(h.openJournal()) // a restart
		h.round()
		if _, err := h.Grant(ctx, "acme", invoicing.Credit{Currency: "EUR", Grant: billing.Grant{ID: "g", Amount: dec("50")}}, as); err != nil {
			t.Fatal(err)
		}
		h.round()
		h.seal("2026-02-01")
		h.set("2026-02-01 00:01")
		h.round() // the next fee leaves 7 in the wallet
		h.round()
		want := `alert.triggered credit 5 of 0
alert.triggered quota 50% of 1300
alert.triggered quota 80% of 1300
alert.triggered quota 100% of 1300
alert.triggered quota 120% of 1300
alert.triggered spend 35 of 43
alert.resolved quota 50% of 0
alert.resolved quota 80% of 0
alert.resolved quota 100% of 0
alert.resolved quota 120% of 0
`
		if got := messages(t, h, "alert."); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
		v, err := h.Entitled(ctx, "acme", "", "calls", dec("1"))
		if err != nil || !v.Allowed || v.Balance.String() != "1000" || !v.Reset.Equal(at("2026-03-01")) {
			t.Errorf("%+v %v", v, err)
		}
		h.use("acme", "2026-02-01", "requests", 1000)
		if v, err := h.Entitled(ctx, "acme", "", "calls", dec("1")); err != nil || v.Allowed {
			t.Errorf("%+v %v", v, err)
		}
		if v, err := h.Entitled(ctx, "acme", "", "other", dec("1")); err != nil || v.Allowed {
			t.Errorf("%+v %v", v, err)
		}
	})
}

// TestOperator holds revenue, costs and the replay of a rate card against
// figures that were worked out by hand.
func TestOperator(t *testing.T) {
	t.Parallel()
	h := open(t, stores["SQLite"](t))
	ctx := t.Context()
	h.price(premium)
	h.price(enterprise)
	h.subscribe("a", "premium")
	h.subscribe("b", "premium")
	h.subscribe("c", "enterprise")
	h.use("a", "2026-01-10", "requests", 2000)
	h.use("a", "2026-01-10", "requests_billable", 1000)
	h.use("c", "2026-01-10", "compute_us", 7_200_000_000)
	h.set("2026-02-10")
	h.seal("2026-02-01")
	h.round()
	if _, err := h.Change(ctx, "a", "main", invoicing.Move{Plan: "enterprise"}, as); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Cancel(ctx, "b", "main", invoicing.Cancellation{}, as); err != nil {
		t.Fatal(err)
	}
	h.set("2026-02-20")
	h.subscribe("d", "premium")
	h.set("2026-03-02")
	r, err := h.Revenue(ctx, at("2026-02-14"), "EUR", billing.Int(1))
	if err != nil {
		t.Fatal(err)
	}
	b := r.Bridge
	if got := fmt.Sprint(b.Start, b.New, b.Expansion, b.Contraction, b.Churned, b.End, b.Balance(), r.Metrics.ARR, r.Metrics.NRR, r.Metrics.GRR, r.Metrics.Churn); got != "150 30 60 0 30 210 210 2520 1.2 0.8 1/3" {
		t.Error(got)
	}
	if _, err := h.SetCostSheet(ctx, invoicing.NewCostSheet{Currency: "EUR", CostSheet: billing.CostSheet{CostRates: billing.CostRates{ComputeHour: dec("0.5"), Call: dec("0.001")}}}, as); err != nil {
		t.Fatal(err)
	}
	c, err := h.Costs(ctx, billing.Period{Start: at("2026-01-01"), End: at("2026-02-01")})
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	for _, m := range append(c.Tenants, c.Plans...) {
		got += fmt.Sprintf("%s %s-%s=%s\n", m.Of, m.Revenue, m.Cost, m.Margin)
	}
	want := "a 80-1=79\nb 60-0=60\nc 180-1=179\nenterprise 180-1=179\npremium 140-1=139\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	cheap := plan(t, strings.NewReplacer("premium", "cheap", `"30"`, `"20"`, "0.01", "0.02").Replace(premium))
	replay, err := h.Replay(ctx, "premium", []*billing.Plan{&cheap}, at("2026-01-20"))
	if err != nil {
		t.Fatal(err)
	}
	got = fmt.Sprint(replay.Paid, replay.Would)
	for _, row := range replay.Tenants {
		got += fmt.Sprintf("; %s %s %s best %d saves %s", row.Tenant, row.Paid, row.Would, row.Best, row.Saves)
	}
	if got != "80 [80]; a 50 [60] best -1 saves 0; b 30 [20] best 0 saves 10" {
		t.Error(got)
	}
	h.price(strings.Replace(strings.Replace(premium, "id: premium", "id: yearly", 1), "month", "year", 1))
	if _, err := h.Subscribe(ctx, "b", invoicing.NewSubscription{ID: "other", Plan: "yearly", Start: at("2026-01-01")}, as); err != nil {
		t.Fatal(err)
	}
	replay, err = h.Replay(ctx, "", []*billing.Plan{&cheap}, at("2026-01-20"))
	if err != nil || replay.Paid.IsZero() || len(replay.Failed) != 1 {
		t.Fatalf("%+v, %v", replay, err)
	}
	if f := replay.Failed[0]; f.Tenant != "b" || f.Subscription != "other" || !strings.Contains(f.Faults[0].Reason, "bills every 1 month, not every 1 year") {
		t.Errorf("%+v", f)
	}
}

// TestTrialAndPause holds that neither is charged for, in the zone of the
// tenant.
func TestTrialAndPause(t *testing.T) {
	t.Parallel()
	h := open(t, stores["SQLite"](t))
	ctx := t.Context()
	h.price(strings.Replace(premium, "cadence:", "trial_days: 10\nproration: days\ncadence:", 1))
	s, err := h.Subscribe(ctx, "acme", invoicing.NewSubscription{Plan: "premium", Start: at("2026-01-10T23:00:00Z"), Anchor: at("2025-12-31T23:00:00Z"), TimeZone: "Europe/Rome"}, as)
	if err != nil || s.State != billing.Pending {
		t.Fatal(s.State, err)
	}
	h.set("2026-01-15")
	h.round()
	if s, err := h.Subscription(ctx, "acme", "main"); err != nil || s.State != billing.Trialing {
		t.Fatal(s.State, err)
	}
	h.set("2026-02-03 23:00")
	if _, err := h.Pause(ctx, "acme", "main", invoicing.Pause{At: at("2026-02-10T23:00:00Z")}, as); err != nil {
		t.Fatal(err)
	}
	h.set("2026-02-16 23:00")
	if _, err := h.Resume(ctx, "acme", "main", time.Time{}, as); err != nil {
		t.Fatal(err)
	}
	h.seal("2026-03-01")
	h.set("2026-03-01")
	h.round()
	want := `GH-2026-000001 opening finalized 0110..0131 total 10.65 due 10.65
  recurring base x 1 = 10.65
GH-2026-000002 closing finalized 0110..0131 total 30 due 30
  usage calls x 0 = 0
  recurring base x 1 = 30
GH-2026-000003 closing finalized 0131..0228 total 23.57 due 23.57
  usage calls x 0 = 0
  credit base x 1 = -19.29
  charge base x 1 = 12.86
  recurring base x 1 = 30
`
	if got := h.invoices("acme"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	sound(t, h)
}
