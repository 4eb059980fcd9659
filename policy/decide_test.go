package policy_test

import (
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/policies"
	"github.com/gatehouse-gateway/gatehouse/policy"
)

func baseline() []gatehouse.Module {
	var ms []gatehouse.Module
	for name, source := range policies.Baseline() {
		ms = append(ms, gatehouse.Module{Name: name, Source: source})
	}
	return ms
}

func engine(tb testing.TB, c policy.Config) *policy.Engine {
	tb.Helper()
	c.Baseline = baseline()
	e, err := policy.NewEngine(c)
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

// roomy is an engine whose budget a slow machine does not exhaust.
func roomy(tb testing.TB) *policy.Engine {
	return engine(tb, policy.Config{Deadline: time.Minute})
}

func compile(tb testing.TB, e *policy.Engine, sources ...string) *policy.Policy {
	tb.Helper()
	var ms []gatehouse.Module
	for i, s := range sources {
		ms = append(ms, gatehouse.Module{Name: string(rune('a'+i)) + ".rego", Source: s})
	}
	p, faults := e.Compile(ms)
	if p == nil {
		tb.Fatalf("%v\n%s", faults, strings.Join(sources, "\n----\n"))
	}
	return p
}

const example = `package gatehouse.tenant
import rego.v1
default allow := false
allow if input.route == "public"
allow if { input.request.method == "GET"; "listener" in input.principal.roles }
allow if "editor" in input.principal.roles
`

func TestExample(t *testing.T) {
	p := compile(t, roomy(t), example)
	f := func(method, route string, roles []string, want bool) {
		t.Helper()
		in := &policy.Input{
			Tenant: "acme", Auth: "required", Route: route, Method: []byte(method),
			Principal: policy.NewPrincipal("jwt", "bob", "acme", roles, nil, nil, nil),
		}
		if d := p.Decide(in); d.Allow != want || d.Err != nil {
			t.Errorf("%s %s %v: %+v", method, route, roles, d)
		}
	}
	f("GET", "x", nil, false)
	f("GET", "public", nil, true)
	f("GET", "x", []string{"listener"}, true)
	f("POST", "x", []string{"listener"}, false)
	f("POST", "x", []string{"viewer", "editor"}, true)
}
