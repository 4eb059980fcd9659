package policy_test

import (
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/policies"
	"github.com/gatehouse-gateway/gatehouse/policy"
)

func shipped(tb testing.TB, names ...string) []gatehouse.Module {
	tb.Helper()
	var ms []gatehouse.Module
	for _, name := range names {
		source, err := fs.ReadFile(policies.FS, name+".rego")
		if err != nil {
			tb.Fatal(err)
		}
		ms = append(ms, gatehouse.Module{Name: name + ".rego", Source: string(source)})
	}
	return ms
}

// using is a tenant's own module that allows what the named packages allow.
func using(names ...string) gatehouse.Module {
	var b strings.Builder
	b.WriteString("package gatehouse.tenant\n\nallow if {\n")
	for _, name := range names {
		fmt.Fprintf(&b, "\tdata.gatehouse.tenant.%s.allow\n", name)
	}
	b.WriteString("}\n")
	return gatehouse.Module{Name: "main.rego", Source: b.String()}
}

// TestShippedPolicies compiles each example as a tenant would and runs its
// tests as a push does.
func TestShippedPolicies(t *testing.T) {
	e := roomy(t)
	f := func(reads string, names ...string) {
		t.Helper()
		modules := append(shipped(t, names...), using(names[0]))
		p, faults := e.Compile(modules)
		if p == nil {
			t.Fatal(faults)
		}
		why := strings.Join(p.ReadSet(), " ")
		if ok, reason := p.Cacheable(); !ok {
			why = reason
		}
		if why != reads {
			t.Errorf("%s reads\n%s, want\n%s", names[0], why, reads)
		}
		report, faults := e.Test(modules, shipped(t, names[0]+"_test"))
		if len(faults) > 0 || report.Failed > 0 || report.Passed < 3 {
			t.Errorf("%s: %v %+v", names[0], faults, report)
		}
	}
	const base = "input.auth input.principal.kind "
	f(base+"input.principal.roles input.principal.tenant input.request.method input.tenant", "rbac_roles")
	f(base+"input.principal.roles input.principal.tenant input.request.method input.route input.tenant", "rbac", "rbac_roles")
	f("input.auth input.features input.plan input.principal.kind input.principal.tenant input.request.segments[0] input.tenant", "abac")
	f("input.auth input.principal.kind input.principal.tenant input.request.method input.tenant input.time", "time_window")
	f(base+`input.principal.tenant input.request.headers["x-country"] input.tenant`, "geo")
	f("input.auth input.principal.claims.acr input.principal.claims.amr input.principal.kind input.principal.tenant input.request.method input.request.segments[0] input.tenant", "step_up")
}

// TestShippedTogether: the examples do not get in one another's way, and a
// tenant takes reason and obligations of those that it uses.
func TestShippedTogether(t *testing.T) {
	e := roomy(t)
	main := using("rbac", "geo", "step_up")
	main.Source += "\nobligations := data.gatehouse.tenant.step_up.obligations\nreason := data.gatehouse.tenant.step_up.reason\n"
	p, faults := e.Compile(append(shipped(t, "abac", "geo", "rbac", "rbac_roles", "step_up", "time_window"), main))
	if p == nil {
		t.Fatal(faults)
	}
	in := salary()
	in.Method, in.Headers = []byte("DELETE"), fields("X-Country", "CH")
	in.Principal = policy.NewPrincipal("user", "ada", "acme", []string{"admin"}, nil, nil, map[string]any{"amr": []any{"pwd"}})
	want := policy.Decision{Status: 401, By: policy.ByTenant, Reason: "this needs a login with a second factor", Obligations: &policy.Obligations{StepUp: "urn:example:mfa"}}
	if d := p.Decide(in); !d.Equal(want) {
		t.Errorf("%+v", d)
	}
	in.Principal = policy.NewPrincipal("user", "ada", "acme", []string{"admin"}, nil, nil, map[string]any{"amr": []any{"mfa"}})
	if d := p.Decide(in); !d.Equal(policy.Decision{Allow: true, By: policy.ByTenant}) {
		t.Errorf("%+v", d)
	}
}
