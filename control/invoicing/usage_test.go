package invoicing_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/invoicing"
	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/metering/ledger"
)

// TestAdjustmentsOverlap holds that what adjustments take back is given back,
// whichever of them came first: of a route, of a consumer, or of all usage; and
// that what could not be taken back beside the others is refused.
func TestAdjustmentsOverlap(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.price(metered)
		h.subscribe("acme", "metered")
		h.subscribe("other", "metered")
		for _, tenant := range []string{"acme", "other"} {
			for route, consumers := range map[gatehouse.RouteID]map[string]int64{"r1": {"c1": 30, "c2": 20}, "r2": {"c1": 50}} {
				for consumer, n := range consumers {
					h.write(metering.Batch{Cells: []metering.Cell{{
						Gateway: "gw", Epoch: metering.Epoch{Counter: 1, Nonce: 7}, Window: at("2026-01-10 12:00"), Meter: "requests", Value: n,
						Series: metering.SeriesKey{Tenant: gatehouse.TenantID(tenant), Route: route, Consumer: consumer, Plan: "p"},
					}}})
				}
			}
		}
		n := 0
		adjust := func(tenant, route, consumer, value, code string) {
			t.Helper()
			n++
			// Earlier, so that minute by minute it would come first.
			a := ledger.Adjustment{
				ID: fmt.Sprint(n), Tenant: gatehouse.TenantID(tenant), Route: gatehouse.RouteID(route), Consumer: consumer, Meter: "requests",
				Time: at("2026-01-10 12:00").Add(-time.Duration(n) * time.Minute), Value: value, Reason: "outage",
			}
			if _, err := h.Adjust(ctx, a, as); string(gatehouse.CodeOf(err)) != code {
				t.Errorf("%s of %s/%s/%s: %v", value, tenant, route, consumer, err)
			}
		}
		invalid := string(gatehouse.CodeInvalid)
		adjust("acme", "r1", "", "-50", "")
		adjust("acme", "", "", "-30", "")
		adjust("acme", "", "c2", "-1", invalid) // the route has it
		adjust("acme", "", "c1", "-20", "")
		adjust("acme", "", "", "-1", invalid)
		adjust("other", "", "", "-60", "")
		adjust("other", "r1", "c1", "-30", "")
		adjust("other", "r1", "c1", "-1", invalid)
		adjust("other", "r1", "", "-10", "")
		adjust("other", "", "", "-1", invalid)
		h.close("2026-02-01")
		for _, tenant := range []string{"acme", "other"} {
			page, err := h.Invoices(ctx, invoicing.InvoiceFilter{Tenant: gatehouse.TenantID(tenant)})
			if err != nil || len(page.Items) != 1 || page.Items[0].Total.Sign() != 0 {
				t.Errorf("%s: %v %v", tenant, page.Items, err)
			}
		}
		sound(t, h)
	})
}
