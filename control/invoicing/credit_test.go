package invoicing_test

import (
	"testing"

	"github.com/gatehouse-gateway/gatehouse/control/invoicing"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

// TestCreditBeforeIssue holds that credit pays the invoices that are issued
// while it can be used, whenever what they charge began; that what could be
// used within a period pays for it though it has expired since; and that other
// credit does not, such as what is stated to begin when the period has ended.
func TestCreditBeforeIssue(t *testing.T) {
	mostly(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.price(premium)
		grant := func(id, amount, from, until string) {
			t.Helper()
			g := billing.Grant{ID: id, Amount: dec(amount)}
			if from != "" {
				g.Granted = at(from)
			}
			if until != "" {
				g.Expires = at(until)
			}
			if _, err := h.Grant(ctx, "acme", invoicing.Credit{Currency: "EUR", Grant: g}, as); err != nil {
				t.Fatal(err)
			}
		}
		h.set("2026-01-05")
		if _, err := h.Subscribe(ctx, "acme", invoicing.NewSubscription{Plan: "premium", Start: at("2026-01-01")}, as); err != nil {
			t.Fatal(err)
		}
		grant("after-the-start", "12", "", "")
		grant("later", "100", "2026-03-10", "2026-03-11")
		h.round()
		h.use("acme", "2026-01-10", "requests", 500)
		grant("within", "1", "2026-01-20", "2026-01-21")
		h.set("2026-02-01 06:00") // the period has ended, and a gateway is not there yet
		grant("over", "3", "2026-02-01 01:00", "2026-02-01 02:00")
		grant("in-the-time-of-grace", "4", "", "")
		grant("from-february", "7", "2026-02-01", "")
		h.round()
		h.seal("2026-02-01")
		h.round()
		want := `GH-2026-000001 opening finalized 0101..0201 total 30 due 18
  recurring base x 1 = 30
GH-2026-000002 closing finalized 0101..0201 total 35 due 30
  usage calls x 500 = 5
  recurring base x 1 = 30
`
		if got := h.invoices("acme"); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
		h.set("2026-03-01 06:00")
		h.seal("2026-03-01")
		h.round()
		want += `GH-2026-000003 closing finalized 0201..0301 total 30 due 20
  usage calls x 0 = 0
  recurring base x 1 = 30
`
		if got := h.invoices("acme"); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
		sound(t, h)
	})
}
