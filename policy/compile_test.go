package policy_test

import (
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/policy"
)

// TestFaults compares the first fault: pointer:line:column reason.
func TestFaults(t *testing.T) {
	e := roomy(t)
	f := func(want gatehouse.Fault, sources ...string) {
		t.Helper()
		var ms []gatehouse.Module
		for i, s := range sources {
			ms = append(ms, gatehouse.Module{Name: string(rune('a'+i)) + ".rego", Source: s})
		}
		p, faults := e.Compile(ms)
		if len(faults) == 0 || (p != nil) != faults[0].Warning {
			t.Fatalf("%v %v", p, faults)
		}
		got := faults[0]
		got.Hint = ""
		if got != want {
			t.Errorf("%s\n got %+v\nwant %+v", strings.Join(sources, "\n---\n"), got, want)
		}
	}
	at := func(pointer string, line, column int, reason string) gatehouse.Fault {
		return gatehouse.Fault{Pointer: pointer, Line: line, Column: column, Reason: reason}
	}
	const ok = "package gatehouse.tenant\nallow := true\n"
	f(at("/modules/0/source", 2, 10, "unexpected eof token"), "package gatehouse.tenant\nallow if {")
	f(at("/modules/1/source", 2, 6, "undefined function http.send"), ok, "package gatehouse.tenant.more\nx := http.send({})\n")
	f(at("/modules/1/source", 3, 6, "data.other.x is not the tenant's to read"), ok, "package gatehouse.tenant.more\n\nx := data.other.x\n")
	f(at("/modules/0/source", 1, 1, "acme is not a tenant's package"), "package acme\nallow := true\n")
	f(at("/modules/0/source", 3, 2, "assigned var y unused"), "package gatehouse.tenant\nallow if {\n\ty := 1\n}\n")
	f(at("/modules", 0, 0, "no rule gatehouse.tenant.allow: every request would be denied"), "package gatehouse.tenant\nx := 1\n")
	f(at("/modules", 0, 0, "no rule gatehouse.tenant.allow: every request would be denied"), "package gatehouse.tenant.more\nallow := true\n")
	f(at("/modules/0/source", 0, 0, "262145 bytes are more than 262144"), ok+strings.Repeat("#", policy.MaxModuleBytes+1-len(ok)))
	f(at("/modules/0/source", 2, 65, "brackets or operators nest deeper than 64"), "package gatehouse.tenant\n"+strings.Repeat("[", 65))

	warn := at("/modules/0/source", 2, 10, "decisions cannot be kept, each request is evaluated: reads input.time, which every request has its own of")
	warn.Warning = true
	f(warn, "package gatehouse.tenant\nallow if input.time > 1\n")

	twice := []gatehouse.Module{{Name: "a.rego", Source: ok}, {Name: "a.rego", Source: ok}}
	if _, faults := e.Compile(twice); len(faults) != 1 || faults[0].Pointer != "/modules/1/name" || faults[0].Also != "/modules/0/name" {
		t.Errorf("%v", faults)
	}
	if _, faults := e.Compile(make([]gatehouse.Module, policy.MaxModules+1)); len(faults) != 1 || faults[0].Pointer != "/modules" {
		t.Errorf("%v", faults)
	}
}

func TestEngineNeedsABaseline(t *testing.T) {
	f := func(want string, ms ...gatehouse.Module) {
		t.Helper()
		if _, err := policy.NewEngine(policy.Config{Baseline: ms}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	f("a baseline is needed")
	f("not in package gatehouse.baseline", gatehouse.Module{Name: "b.rego", Source: "package gatehouse.tenant\nallow := true"})
	f("rego_parse_error", gatehouse.Module{Name: "b.rego", Source: "package"})
	f("undefined function http.send", gatehouse.Module{Name: "b.rego", Source: "package gatehouse.baseline\nallow if http.send({})"})
}

// TestModulesTogether: packages below gatehouse.tenant are the tenant's own.
func TestModulesTogether(t *testing.T) {
	p := compile(t, roomy(t), `package gatehouse.tenant
import data.gatehouse.tenant.roles
allow if roles.may[input.request.method] == input.principal.id
`, `package gatehouse.tenant.roles
may := {"GET": "bob"}
`)
	if d := p.Decide(salary()); !d.Allow {
		t.Errorf("%+v", d)
	}
}
