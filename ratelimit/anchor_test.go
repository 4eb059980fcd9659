package ratelimit

import (
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// The tenant's anchor day is that of its plan's and routes' months too.
func TestAnchorOfTheStack(t *testing.T) {
	month := gatehouse.Window{Unit: "month"}
	s := NewLocal("acme", 0).Stack(noon, zone(t, "Europe/Rome"),
		rules(PlanScope, quotaRule("plan", 5, month)),
		Scope{Kind: TenantScope, Limits: gatehouse.Limits{AnchorDay: 20}},
		rules(RouteScope, quotaRule("route", 5, month)))
	s.Take(&Request{Now: noon}, new(Ticket))
	for _, lv := range s.Levels(nil, &Request{Now: noon}) {
		// noon is on the 5th of March.
		if want := time.Date(2026, 3, 19, 23, 0, 0, 0, time.UTC).Sub(noon); lv.Reset != want {
			t.Errorf("%s resets in %s, want %s", lv.Limit.Name, lv.Reset, want)
		}
	}
}
