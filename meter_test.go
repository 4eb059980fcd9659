package gatehouse_test

import (
	"fmt"
	"testing"

	"github.com/gatehouse-gateway/gatehouse"
)

// What is wrong with the meters of a route is told at its place.
func TestUnits(t *testing.T) {
	f := func(m gatehouse.Meter, want string) {
		t.Helper()
		tenant := gatehouse.Tenant{
			ID: "a", Domain: "a.test",
			Backends: []gatehouse.Backend{{ID: "app", Endpoints: []gatehouse.Endpoint{{URL: "http://app"}}}},
			Routes:   []gatehouse.Route{{ID: "all", Match: gatehouse.Match{Path: "/"}, Backend: "app", Meter: m}},
		}
		got := ""
		for _, f := range tenant.Validate().Errors() {
			got += f.Pointer + ": " + f.Reason + "\n"
		}
		if got != want {
			t.Errorf("%+v: %q, want %q", m, got, want)
		}
	}
	const at = "/routes/0/meter/units/"
	units := func(list ...string) (m gatehouse.Meter) {
		for i := 0; i < len(list); i += 2 {
			m.Units = append(m.Units, gatehouse.Unit{Name: list[i], Header: list[i+1]})
		}
		return m
	}
	f(units("tokens_in", "X-In", "tokens_out", "X-Out"), "")
	f(units("Tokens", "X-In"), at+"0/name: meter \"Tokens\" is not of a-z, 0-9 and _, with a letter first and at most 40 long\n")
	f(units("overage", "X-In"), at+"0/name: meter \"overage\" is one of the gateway's own\n")
	f(units("jobs", ""), at+"0/header: header name \"\" is not a token\n")
	f(units("jobs", "X Y"), at+"0/header: header name \"X Y\" is not a token\n")
	f(units("jobs", "X-A", "jobs", "X-B"), at+"1/name: meter \"jobs\" is defined twice\n")
	f(units("jobs", "X-A", "runs", "x-a"), at+"1/header: header \"x-a\" is defined twice\n")
	m := units("jobs", "x-units")
	m.UnitsHeader = "X-Units"
	f(m, at+"0/header: header \"x-units\" is defined twice\n")
	m = gatehouse.Meter{}
	for i := range gatehouse.MaxRouteUnits + 1 {
		m.Units = append(m.Units, gatehouse.Unit{Name: fmt.Sprint("u", i), Header: fmt.Sprint("X-", i)})
	}
	f(m, "/routes/0/meter/units: more than 8 meters\n")
}
