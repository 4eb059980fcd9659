package invoicing_test

import (
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/invoicing"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

const seats = `
id: %
currency: EUR
cadence: {unit: month}
prices:
  - {id: seats, model: per_unit, amount: "10", advance: true}
`

// TestQuantitiesStay holds that a change that says nothing of quantities leaves
// them as they are, and that one to a plan without such a fee is refused.
func TestQuantitiesStay(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.price(metered)
		h.price(strings.Replace(seats, "%", "team", 1))
		h.price(strings.Replace(strings.Replace(seats, "%", "office", 1), `"10"`, `"20"`, 1))
		quantities := map[string]billing.Decimal{"seats": dec("12")}
		if _, err := h.Subscribe(ctx, "acme", invoicing.NewSubscription{Plan: "team", Quantities: quantities}, as); err != nil {
			t.Fatal(err)
		}
		change := func(day string, move invoicing.Move) error {
			t.Helper()
			move.At = at(day)
			_, err := h.Change(ctx, "acme", "main", move, as)
			return err
		}
		seats := func(day, want string) {
			t.Helper()
			s, err := h.Subscription(ctx, "acme", "main")
			if got := s.At(at(day)).Quantities["seats"].String(); err != nil || got != want {
				t.Errorf("%s seats on %s, not %s: %v", got, day, want, err)
			}
		}
		if err := change("2026-01-11", invoicing.Move{Plan: "office"}); err != nil {
			t.Fatal(err)
		}
		seats("2026-01-12", "12")
		if err := change("2026-02-01", invoicing.Move{Plan: "office", Quantities: map[string]billing.Decimal{"seats": dec("3")}}); err != nil {
			t.Fatal(err)
		}
		if err := change("2026-03-01", invoicing.Move{Plan: "team"}); err != nil {
			t.Fatal(err)
		}
		seats("2026-03-01", "3")
		if err := change("2026-04-01", invoicing.Move{Plan: "metered"}); gatehouse.CodeOf(err) != gatehouse.CodeInvalid || !strings.Contains(err.Error(), "/quantities/seats") {
			t.Errorf("3 seats went: %v", err)
		}
		if err := change("2026-04-01", invoicing.Move{Plan: "metered", Quantities: map[string]billing.Decimal{}}); err != nil {
			t.Error(err)
		}
		h.close("2026-02-01")
		want := `GH-2026-000001 opening finalized 0101..0201 total 120 due 120
  recurring seats x 12 = 120
GH-2026-000002 closing finalized 0101..0201 total 141.29 due 141.29
  credit seats x 12 = -81.29
  charge seats x 12 = 162.58
  recurring seats x 3 = 60
`
		if got := h.invoices("acme"); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
		sound(t, h)
	})
}

// TestCancelWhereItIsBilled holds that no subscription ends at the very instant
// up to which it is billed, for no period would close it; and that one which
// does can be given another end.
func TestCancelWhereItIsBilled(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.price(metered)
		h.subscribe("acme", "metered")
		h.close("2026-02-01")
		if _, err := h.Cancel(ctx, "acme", "main", invoicing.Cancellation{At: at("2026-02-01")}, as); gatehouse.CodeOf(err) != gatehouse.CodeInvalid {
			t.Errorf("it ends where it is billed: %v", err)
		}
		// As an earlier version has left it.
		s, err := h.Subscription(ctx, "acme", "main")
		if err != nil {
			t.Fatal(err)
		}
		s.End = s.Closed
		h.store(journal.Ref{Kind: "subscription", Tenant: "acme", ID: "main"}, s)
		h.set("2026-02-03")
		if _, err := h.Cancel(ctx, "acme", "main", invoicing.Cancellation{At: at("2026-02-02")}, as); err != nil {
			t.Fatal(err)
		}
		h.close("2026-02-03")
		if s, err = h.Subscription(ctx, "acme", "main"); err != nil || !s.Done {
			t.Errorf("it is not done: %+v, %v", s, err)
		}
		if _, err := h.Cancel(ctx, "acme", "main", invoicing.Cancellation{At: at("2026-03-02")}, as); gatehouse.CodeOf(err) != gatehouse.CodeConflict {
			t.Errorf("it ends twice: %v", err)
		}
		want := `GH-2026-000001 closing paid 0101..0201 total 0 due 0
  usage calls x 0 = 0
GH-2026-000002 closing paid 0201..0202 total 0 due 0
  usage calls x 0 = 0
`
		if got := h.invoices("acme"); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
		sound(t, h)
	})
}
