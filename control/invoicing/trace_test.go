package invoicing_test

import (
	"context"
	"fmt"
	"iter"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/invoicing"
	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
	"github.com/gatehouse-gateway/gatehouse/metering/ledger"
)

// altered is a ledger in which somebody has changed a cell.
type altered struct {
	*ledger.Ledger
	change func(*metering.Cell)
}

func (a altered) TenantCells(ctx context.Context, tenant gatehouse.TenantID, from, to time.Time) iter.Seq2[metering.Cell, error] {
	return func(yield func(metering.Cell, error) bool) {
		for c, err := range a.Ledger.TenantCells(ctx, tenant, from, to) {
			if a.change(&c); !yield(c, err) {
				return
			}
		}
	}
}

// TestDifferences holds that every metered line is of the cells that are in
// the ledger, late ones too, and that a cell that is changed behind its back is
// found, even where nothing costs more by it.
func TestDifferences(t *testing.T) {
	mostly(t, func(t *testing.T, h *house) {
		h.price(enterprise)
		h.price(free)
		for _, p := range [][2]string{{"acme", "enterprise"}, {"poor", "free"}} {
			h.subscribe(p[0], p[1])
			h.use(p[0], "2026-01-10", "requests", 1500)
			h.use(p[0], "2026-01-11", "requests", 10)
		}
		h.close("2026-02-01")
		for _, tenant := range []string{"acme", "poor"} {
			h.use(tenant, "2026-01-12", "requests", 20)
			h.use(tenant, "2026-02-12", "requests", 30)
		}
		differences := func(tenant gatehouse.TenantID, change func(*metering.Cell)) string {
			t.Helper()
			a := invoicing.New(invoicing.Parts{Store: h.journal, Usage: altered{h.ledger, change}, Now: h.clock})
			lines, err := a.Differences(t.Context(), tenant, "main", billing.Period{})
			if err != nil {
				t.Fatal(err)
			}
			out := ""
			for _, l := range lines {
				out += fmt.Sprintf("%s of %s: %s = %s; ", l.Price, l.Corrects, l.Quantity, l.Amount)
			}
			return out
		}
		asIs := func(*metering.Cell) {}
		if got := differences("acme", asIs); got != "calls of GH-2026-000002: 20 = 0.1; " && got != "calls of GH-2026-000003: 20 = 0.1; " {
			t.Error("before it is billed:", got)
		}
		h.close("2026-03-01")
		less := func(c *metering.Cell) {
			if c.Window.Equal(at("2026-01-11")) {
				c.Value--
			}
		}
		moved := func(c *metering.Cell) {
			if c.Window.Equal(at("2026-01-11")) {
				c.Window = c.Window.Add(time.Minute)
			}
		}
		for _, tenant := range []gatehouse.TenantID{"acme", "poor"} {
			if got := differences(tenant, asIs); got != "" {
				t.Errorf("%s: %s", tenant, got)
			}
			if got := differences(tenant, less); got == "" {
				t.Errorf("%s: one request less is not found", tenant)
			}
			if got := differences(tenant, moved); got == "" {
				t.Errorf("%s: a cell of another minute is not found", tenant)
			}
		}
	})
}
