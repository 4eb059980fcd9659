package invoicing_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/invoicing"
	"github.com/gatehouse-gateway/gatehouse/metering"
)

// TestTrace holds that the invoices of all tenants are traced page by page,
// that a changed cell is told with its invoice and what it comes to, and that
// a filter leaves out what is not of its tenant or span.
func TestTrace(t *testing.T) {
	mostly(t, func(t *testing.T, h *house) {
		h.price(premium)
		for _, tenant := range []string{"acme", "beta", "poor"} {
			h.subscribe(tenant, "premium")
			h.use(tenant, "2026-01-10", "requests", 100)
			h.use(tenant, "2026-02-10", "requests", 200)
		}
		h.close("2026-02-01")
		h.close("2026-03-01")
		altered := invoicing.New(invoicing.Parts{Store: h.journal, Now: h.clock, Usage: altered{h.ledger, func(c *metering.Cell) {
			if c.Series.Tenant == "beta" && c.Window.Equal(at("2026-02-10")) {
				c.Value -= 50
			}
		}}})
		see := func(a *invoicing.Accounts, f invoicing.TraceFilter, want string) {
			t.Helper()
			out, pages := "", 0
			subscriptions, lines := 0, 0
			for {
				got, err := a.Trace(t.Context(), f)
				if err != nil {
					t.Fatal(err)
				}
				pages, subscriptions, lines = pages+1, subscriptions+got.Subscriptions, lines+got.Lines
				for _, d := range got.Items {
					out += fmt.Sprintf("%s/%s %s of %s %s..%s %s = %s %s; ", d.Tenant, d.Subscription, d.Price, d.Invoice, d.Period.Start.Format("0102"), d.Period.End.Format("0102"), d.Quantity, d.Amount, d.Currency)
				}
				if f.After = got.Next; f.After == "" {
					break
				}
			}
			if got := strings.TrimSpace(fmt.Sprintf("%d of %d in %d: %s", lines, subscriptions, pages, out)); got != want {
				t.Errorf("%+v:\n%s, want\n%s", f, got, want)
			}
		}
		see(h.Accounts, invoicing.TraceFilter{}, "6 of 3 in 1:")
		see(h.Accounts, invoicing.TraceFilter{Limit: 1}, "6 of 3 in 3:")
		see(h.Accounts, invoicing.TraceFilter{Tenant: "acme"}, "2 of 1 in 1:")
		see(h.Accounts, invoicing.TraceFilter{From: at("2026-02-01")}, "3 of 3 in 1:")
		number := h.numberOf("beta", "2026-02-01")
		differs := "beta/main calls of " + number + " 0201..0301 -50 = -0.5 EUR;"
		see(altered, invoicing.TraceFilter{}, "6 of 3 in 1: "+differs)
		see(altered, invoicing.TraceFilter{Limit: 2}, "6 of 3 in 2: "+differs)
		see(altered, invoicing.TraceFilter{Tenant: "beta"}, "2 of 1 in 1: "+differs)
		see(altered, invoicing.TraceFilter{Tenant: "acme"}, "2 of 1 in 1:")
		see(altered, invoicing.TraceFilter{From: at("2026-02-28"), To: at("2026-03-29")}, "3 of 3 in 1: "+differs)
		see(altered, invoicing.TraceFilter{To: at("2026-02-01")}, "3 of 3 in 1:")
		if _, err := h.Trace(t.Context(), invoicing.TraceFilter{Tenant: "none"}); gatehouse.CodeOf(err) != gatehouse.CodeNotFound {
			t.Errorf("a tenant without subscriptions: %v", err)
		}
		if _, err := h.Trace(t.Context(), invoicing.TraceFilter{After: "x"}); gatehouse.CodeOf(err) != gatehouse.CodeBadRequest {
			t.Errorf("a cursor of another list: %v", err)
		}
	})
}

// numberOf is the number of a tenant's invoice of the period that begins on a
// day.
func (h *house) numberOf(tenant, day string) string {
	h.t.Helper()
	page, err := h.Invoices(h.t.Context(), invoicing.InvoiceFilter{Tenant: gatehouse.TenantID(tenant)})
	if err != nil {
		h.t.Fatal(err)
	}
	for _, inv := range page.Items {
		if inv.Kind == "closing" && inv.Period.Start.Equal(at(day)) {
			return inv.Number
		}
	}
	h.t.Fatalf("no invoice of %s", day)
	return ""
}
