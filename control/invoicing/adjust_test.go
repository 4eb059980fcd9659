package invoicing_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/metering/ledger"
)

// No more is taken back than was used by the consumer and on the route that an
// adjustment names, whatever else was used.
func TestAdjustWithinUse(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.price(premium)
		h.subscribe("acme", "premium")
		for i, who := range []string{"ann", "bob"} {
			h.write(metering.Batch{Cells: []metering.Cell{{
				Gateway: "gw", Epoch: metering.Epoch{Counter: 1, Nonce: 7}, Window: at("2026-01-10 12:00"), Meter: "requests", Value: int64(10 * (i + 1)),
				Series: metering.SeriesKey{Tenant: "acme", Route: "r", Consumer: who, Plan: "p"},
			}}})
		}
		h.set("2026-01-11")
		f := func(id, route, consumer, value, want string) {
			t.Helper()
			_, err := h.Adjust(t.Context(), ledger.Adjustment{
				ID: id, Tenant: "acme", Meter: "requests", Route: gatehouse.RouteID(route), Consumer: consumer, Time: at("2026-01-10 12:00"), Value: value, Reason: "outage", Approver: "eve",
			}, as)
			if got := fmt.Sprint(err); want == "" && err != nil || !strings.Contains(got, want) {
				t.Errorf("%s: %v, want %q", id, err, want)
			}
		}
		f("1", "", "ann", "-15", "takes back 15 of requests, and 10 were used")
		f("2", "other", "", "-1", "takes back 1 of requests, and 0 were used")
		f("3", "", "nobody", "-1", "and 0 were used")
		f("4", "r", "bob", "-18", "")
		f("5", "", "", "-13", "and 12 were used")
		f("6", "", "", "-12", "")
		f("7", "", "ann", "-1", "and 0 were used")
		events, err := h.journal.Events(t.Context(), journal.Filter{Kinds: []string{"usage.adjust"}}, 10)
		if err != nil || len(events) != 2 || events[0].Actor != as.Actor || events[0].Why != "outage" {
			t.Errorf("the journal says %+v of who made them, %v", events, err)
		}
	})
}

// Of adjustments at once as many pass as there is to take back.
func TestAdjustAtOnce(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.price(premium)
		h.subscribe("acme", "premium")
		h.use("acme", "2026-01-10 12:00", "requests", 50)
		h.set("2026-01-11")
		errs := make([]error, 12)
		var all sync.WaitGroup
		for i := range errs {
			all.Go(func() {
				_, errs[i] = h.Adjust(t.Context(), ledger.Adjustment{
					ID: fmt.Sprint(i), Tenant: "acme", Meter: "requests", Time: at("2026-01-10 12:00"), Value: "-10", Reason: "outage",
				}, control.Mutation{Actor: fmt.Sprint("token:", i)})
			})
		}
		all.Wait()
		passed := 0
		for _, err := range errs {
			if err == nil {
				passed++
			} else if !strings.Contains(err.Error(), "takes back") {
				t.Error(err)
			}
		}
		if passed != 5 {
			t.Errorf("%d adjustments of 10 passed, of 50 that were used", passed)
		}
	})
}
