package policy_test

import (
	"context"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/policies"
)

func TestAuthorizer(t *testing.T) {
	e := roomy(t)
	f := func(source string, input any, want string) {
		t.Helper()
		a, err := e.Authorizer([]gatehouse.Module{{Name: "roles.rego", Source: source}})
		got := ""
		if err == nil {
			var allow bool
			allow, got, err = a.Decide(t.Context(), input)
			if allow {
				got = "allow"
			}
		}
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%s\nof %v: %q, want %q", source, input, got, want)
		}
	}
	const head = "package gatehouse.operators\n"
	one := map[string]any{"operation": "getTenant", "caller": map[string]any{"role": "viewer"}}
	f(head+`allow if input.caller.role == "viewer"`, one, "allow")
	f(head+`allow if input.caller.role == "owner"`, one, "")
	f(head+"allow if input.caller.role == \"owner\"\nreason := \"not an owner\"", one, "not an owner")
	f(head+`allow := "yes"`, one, "")
	f(head+`allow if data.gatehouse.baseline.allow`, one, "is not the")
	f("package gatehouse.tenant\nallow := true", one, "not in package gatehouse.operators")
	f(head+`allow if http.send({"method": "GET", "url": "http://127.0.0.1"})`, one, "http.send")
	f(head+`allow if { some i in numbers.range(1, 5000); some j in numbers.range(1, 5000); i * j == 0 }`, one, "budget")
	f(head+`allow := true`, func() {}, "input")
}

// The shipped roles compile, pass their tests, and deny when nobody waits.
func TestRoles(t *testing.T) {
	e := roomy(t)
	var modules []gatehouse.Module
	for name, source := range policies.Roles() {
		modules = append(modules, gatehouse.Module{Name: name, Source: source})
	}
	a, err := e.Authorizer(modules)
	if err != nil {
		t.Fatal(err)
	}
	owner := map[string]any{"operation": "createToken", "tenant": "", "caller": map[string]any{"role": "owner", "tenants": []string{}}}
	if allow, reason, err := a.Decide(t.Context(), owner); !allow || err != nil {
		t.Error(allow, reason, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if allow, _, err := a.Decide(ended, owner); allow || err == nil {
		t.Error("an operation was allowed to nobody")
	}
	// The engine runs tests of tenants only: with the packages' names changed
	// the module is one.
	tenant := func(name string) gatehouse.Module {
		source, err := policies.FS.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return gatehouse.Module{Name: name, Source: strings.NewReplacer(
			"gatehouse.operators_test", "gatehouse.tenant_test", "data.gatehouse.operators", "data.gatehouse.tenant.operators", "package gatehouse.operators", "package gatehouse.tenant.operators",
		).Replace(string(source))}
	}
	main := gatehouse.Module{Name: "main.rego", Source: "package gatehouse.tenant\nallow if data.gatehouse.tenant.operators.allow\n"}
	report, faults := e.Test([]gatehouse.Module{tenant("roles.rego"), main}, []gatehouse.Module{tenant("roles_test.rego")})
	if len(faults) > 0 || report.Failed > 0 || report.Passed < 7 {
		t.Errorf("%v %+v", faults, report)
	}
}

func BenchmarkAuthorizer(b *testing.B) {
	e := roomy(b)
	source, err := policies.FS.ReadFile("roles.rego")
	if err != nil {
		b.Fatal(err)
	}
	a, err := e.Authorizer([]gatehouse.Module{{Name: "roles.rego", Source: string(source)}})
	if err != nil {
		b.Fatal(err)
	}
	in := map[string]any{"operation": "getTenant", "tenant": "acme", "caller": map[string]any{"id": "t", "role": "viewer", "tenants": []string{"acme"}}}
	b.ReportAllocs()
	for b.Loop() {
		if allow, _, err := a.Decide(b.Context(), in); !allow || err != nil {
			b.Fatal(allow, err)
		}
	}
}
