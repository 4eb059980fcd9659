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

// meddled is a ledger into which usage comes just after its notes or cells were
// read.
type meddled struct {
	*ledger.Ledger
	read func(tenant string)
}

func (m meddled) Late(ctx context.Context, tenant gatehouse.TenantID, after int64) (ledger.LateUsage, error) {
	late, err := m.Ledger.Late(ctx, tenant, after)
	m.read(string(tenant))
	return late, err
}

func (m meddled) TenantCells(ctx context.Context, tenant gatehouse.TenantID, from, to time.Time) iter.Seq2[metering.Cell, error] {
	return func(yield func(metering.Cell, error) bool) {
		for c, err := range m.Ledger.TenantCells(ctx, tenant, from, to) {
			if !yield(c, err) {
				return
			}
		}
		m.read(string(tenant))
	}
}

// Usage that comes while an invoice is made is billed, after whichever of its
// reads it comes: notes are read before the cells, so that what comes between
// or after them is noted anew.
func TestUsageWhileBilling(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.price(enterprise)
		tenants := []string{"after1", "after2", "after3"}
		for _, tenant := range tenants {
			h.subscribe(tenant, "enterprise")
			h.use(tenant, "2026-01-10", "requests", 1500)
			h.use(tenant, "2026-02-10", "requests", 10)
		}
		h.close("2026-02-01")
		reads := map[string]int{}
		meddle := func(tenant string) {
			if reads[tenant]++; fmt.Sprint("after", reads[tenant]) == tenant {
				h.use(tenant, "2026-01-11 12:00", "requests", 100)
			}
		}
		h.set("2026-03-01")
		h.seal("2026-03-01")
		a := invoicing.New(invoicing.Parts{Store: h.journal, Usage: meddled{h.ledger, meddle}, Now: h.clock})
		if _, err := a.Round(t.Context()); err != nil {
			t.Fatal(err)
		}
		if reads["after1"] < 2 {
			t.Fatalf("%v reads", reads)
		}
		h.close("2026-04-01")
		for _, tenant := range tenants {
			lines, err := h.Differences(t.Context(), gatehouse.TenantID(tenant), "main", billing.Period{})
			if err != nil || len(lines) > 0 {
				t.Errorf("%s: this is not billed: %+v, %v", tenant, lines, err)
			}
		}
		sound(t, h)
	})
}
