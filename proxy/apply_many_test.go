package proxy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse"
)

// Many tenants are compiled at once, and what comes of each is what came of it
// alone: those with faults, and those that claim what another has, are refused,
// in the order of the update, and all others are live.
func TestApplyMany(t *testing.T) {
	const n = 500
	g := bare(t)
	u := many(n, fullTenant)
	u.Tenants[100].Routes[2].Match.Headers[0].Regex = "("
	u.Tenants[200].Identity.APIKeys = u.Tenants[199].Identity.APIKeys
	u.Tenants[300].Domain = u.Tenants[299].Domain
	u.Tenants[400].Backends[0].Endpoints = nil
	u.Tenants[50].Name = "a name\nof before there was a bound" // it is served
	story := func(out gatehouse.Outcome) string {
		var lines []string
		for _, r := range out.Refused {
			lines = append(lines, fmt.Sprint(r.Tenant, r.Faults[0].Pointer))
		}
		return fmt.Sprint(len(out.Applied), " applied, ", len(out.Removed), " removed; ", strings.Join(lines, " "))
	}
	step := func(u gatehouse.Update, want string) {
		t.Helper()
		if got := story(g.Apply(u)); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	step(u, "496 applied, 0 removed; tenant-100/routes/2/match/headers/0/regex tenant-200/identity/api_keys tenant-300/domain tenant-400/backends/0/endpoints")
	// The plan of all changes, and one of those that were refused is mended.
	next := gatehouse.Update{Revision: 3, Plans: []gatehouse.Plan{{ID: "gold", Name: "other"}}, Tenants: []gatehouse.Tenant{fullTenant(100)}}
	step(next, "497 applied, 0 removed; ")
	// A tenant that is there twice counts as its last.
	last := fullTenant(7)
	last.Domain = "last.example.com"
	step(gatehouse.Update{Revision: 4, Tenants: []gatehouse.Tenant{fullTenant(7), last}}, "1 applied, 0 removed; ")
	if h, err := g.Health("tenant-7"); err != nil || h.Domains[0].Host != "last.example.com" {
		t.Error(h, err)
	}
	step(gatehouse.Update{Revision: 5, RemovedTenants: []gatehouse.TenantID{"tenant-1", "none"}, Plans: []gatehouse.Plan{{ID: "gold"}}}, "496 applied, 1 removed; ")
	step(many(10, fullTenant), "10 applied, 487 removed; ")
}
