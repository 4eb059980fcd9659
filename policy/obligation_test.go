package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/policy"
)

// TestObligations compares what becomes of a rule obligations; want is an
// error's text where the decision fails closed.
func TestObligations(t *testing.T) {
	e := roomy(t)
	f := func(rules, want string) {
		t.Helper()
		d := compile(t, e, "package gatehouse.tenant\n"+rules).Decide(salary())
		got := fmt.Sprintf("%v %d %v", d.Allow, d.Status, d.Obligations)
		if d.Obligations != nil {
			got = strings.NewReplacer("Name:", "", "Value:", "").Replace(fmt.Sprintf("%v %d %+v", d.Allow, d.Status, *d.Obligations))
		}
		if d.Err != nil {
			got = strings.TrimPrefix(d.Err.Error(), "policy: tenant: obligations")
			if d.Allow || d.Status != 403 || d.Obligations != nil {
				t.Errorf("%s: a failure that is no denial: %+v", rules, d)
			}
		}
		if got != want {
			t.Errorf("%s\n got %s\nwant %s", rules, got, want)
		}
	}
	g := func(obligations, want string) {
		t.Helper()
		f("allow := true\nobligations := "+obligations, want)
	}
	const nothing = "true 0 <nil>"
	f("allow := true", nothing)
	f("allow := true\nobligations := {} if input.nothing", nothing)
	g(`{}`, nothing)
	g(`{"cost": 0}`, nothing)
	g(`{"headers": {"set": {}, "remove": []}, "log": {}}`, nothing)
	g(`{"cost": 3}`, "true 0 {Set:[] Remove:[] Cost:3 Log:[] Limits:[] StepUp:}")
	g(`{"headers": {"set": {"x-tier": input.plan, "authorization": "Bearer x"}, "remove": ["cookie", "x-a", "cookie"]}}`,
		"true 0 {Set:[{authorization Bearer x} {x-tier gold}] Remove:[cookie x-a] Cost:0 Log:[] Limits:[] StepUp:}")
	g(`{"headers": {"remove": {"x-b", "x-a"}}, "log": {"who": input.principal.id}}`,
		"true 0 {Set:[] Remove:[x-a x-b] Cost:0 Log:[{who bob}] Limits:[] StepUp:}")
	f("allow := true\nobligations.cost := 2\nobligations.log.a := \"b\"", "true 0 {Set:[] Remove:[] Cost:2 Log:[{a b}] Limits:[] StepUp:}")
	f("allow := true\nobligations[k] := v if some k, v in {\"cost\": 4}", "true 0 {Set:[] Remove:[] Cost:4 Log:[] Limits:[] StepUp:}")
	g(`{"limit": "gpu-minutes"}`, "true 0 {Set:[] Remove:[] Cost:0 Log:[] Limits:[gpu-minutes] StepUp:}")
	g(`{"limit": ["b", "a", "b"]}`, "true 0 {Set:[] Remove:[] Cost:0 Log:[] Limits:[a b] StepUp:}")
	g(`{"limit": {"b", "a"}}`, "true 0 {Set:[] Remove:[] Cost:0 Log:[] Limits:[a b] StepUp:}")
	g(`{"limit": []}`, nothing)
	// A step-up denies.
	g(`{"step_up": "mfa"}`, "false 401 {Set:[] Remove:[] Cost:0 Log:[] Limits:[] StepUp:mfa}")
	f("allow := false\nobligations := {\"step_up\": \"mfa\"}", "false 401 {Set:[] Remove:[] Cost:0 Log:[] Limits:[] StepUp:mfa}")
	f("allow := false\nstatus := 404\nobligations := {\"step_up\": \"mfa\"}", "false 404 {Set:[] Remove:[] Cost:0 Log:[] Limits:[] StepUp:mfa}")
	f("allow := false\nobligations := {\"log\": {\"a\": \"b\"}}", "false 403 {Set:[] Remove:[] Cost:0 Log:[{a b}] Limits:[] StepUp:}")

	// What is not an obligation fails closed.
	g(`[]`, " is not an object")
	g(`"cost"`, " is not an object")
	g(`{1: 2}`, " has a key that is not a string")
	g(`{"costs": 3}`, ".costs is not known")
	g(`{"cost": "3"}`, ".cost is not an integer from 0 to 1000000")
	g(`{"cost": 1.5}`, ".cost is not an integer from 0 to 1000000")
	g(`{"cost": -1}`, ".cost is not an integer from 0 to 1000000")
	g(`{"cost": 1000001}`, ".cost is not an integer from 0 to 1000000")
	g(`{"headers": {"add": {}}}`, ".headers.add is not known")
	g(`{"headers": {"set": ["x"]}}`, ".headers.set is not an object")
	g(`{"headers": {"set": {"x-a": 1}}}`, ".headers.set.x-a is not a printable string of at most 1024 bytes")
	g(`{"headers": {"set": {"x-a": "a\r\nhost: b"}}}`, ".headers.set.x-a is not a printable string of at most 1024 bytes")
	g(`{"headers": {"remove": "x-a"}}`, ".headers.remove is not an array or set")
	g(`{"headers": {"remove": [1]}}`, ".headers.remove has 1, which is no name of a header that policy may change")
	g(`{"headers": {"set": {"x-a": "1"}, "remove": ["x-a"]}}`, ".headers both sets and removes x-a")
	g(`{"headers": {"remove": [x | some n in numbers.range(1, 17); x := sprintf("x-%d", [n])]}}`, ".headers.remove has more than 16 names")
	g(`{"log": {x: "" | some n in numbers.range(1, 17); x := sprintf("x_%d", [n])}}`, ".log has more than 16 members")
	g(`{"log": {"a-b": "c"}}`, `.log has "a-b", which is no name to use there`)
	g(`{"log": {"a": "\u0000"}}`, ".log.a is not a printable string of at most 1024 bytes")
	g(`{"limit": 1}`, ".limit is not a name, array or set")
	g(`{"limit": ["a", 1]}`, ".limit has 1, which is no name of a limit")
	g(`{"limit": [x | some n in numbers.range(1, 9); x := sprintf("l-%d", [n])]}`, ".limit has more than 8 names")
	for _, name := range []string{"", "A", "a_b", "-a", "a-", "a.b", "a b", strings.Repeat("a", 64)} {
		g(fmt.Sprintf(`{"limit": %q}`, name), fmt.Sprintf(".limit has %.64s, which is no name of a limit", fmt.Sprintf("%q", name)))
	}
	g(`{"step_up": ""}`, ".step_up is not a printable string of 1 to 1024 bytes")
	g(`{"step_up": true}`, ".step_up is not a printable string of 1 to 1024 bytes")
	for _, name := range []string{
		"Host", "host", "X-A", "x a", "x:a", "", "é", "content-length", "transfer-encoding", "connection", "te", "upgrade",
		"x-forwarded-for", "x-gatehouse-tenant", "x_gatehouse_tenant", "forwarded", "x-request-id", strings.Repeat("x", 65),
	} {
		g(fmt.Sprintf(`{"headers": {"set": {%q: "1"}}}`, name), fmt.Sprintf(".headers.set has %.64q, which is no name to use there", name))
	}
}

// TestObligationsOfBoth: the baseline's count where the two differ, and are
// kept with the decision.
func TestObligationsOfBoth(t *testing.T) {
	base := baseline()
	base = append(base, gatehouse.Module{Name: "more.rego", Source: `package gatehouse.baseline
obligations := {"cost": 2, "limit": "base", "headers": {"set": {"x-a": "base"}, "remove": ["x-r"]}, "log": {"plan": input.plan}}`})
	e, err := policy.NewEngine(policy.Config{Baseline: base})
	if err != nil {
		t.Fatal(err)
	}
	own := compile(t, e, `package gatehouse.tenant
allow := true
obligations := {"cost": 3, "limit": ["own", "base"], "headers": {"set": {"x-b": "own", "x-r": "own"}, "remove": ["x-a", "x-q"]}, "log": {"plan": "x", "who": "me"}}`)
	want := policy.Decision{Allow: true, By: policy.ByTenant, Obligations: &policy.Obligations{
		Set: []policy.Field{{Name: "x-a", Value: "base"}, {Name: "x-b", Value: "own"}}, Remove: []string{"x-q", "x-r"}, Cost: 5,
		Log: []policy.Field{{Name: "plan", Value: "gold"}, {Name: "who", Value: "me"}}, Limits: []string{"base", "own"},
	}}
	for range 2 {
		if d := own.Decide(salary()); !d.Equal(want) {
			t.Errorf("%+v %+v", d, d.Obligations)
		}
	}
	if a, b := own.Decide(salary()), own.Decide(salary()); a.Obligations != b.Obligations {
		t.Error("obligations were made anew")
	}
	silent := compile(t, e, "package gatehouse.tenant\nallow := true")
	if d := silent.Decide(salary()); !d.Allow || d.Obligations == nil || d.Obligations.Cost != 2 {
		t.Errorf("%+v", d)
	}
	alone := compile(t, e)
	if d := alone.Decide(salary()); d.Obligations == nil || d.Obligations.Cost != 2 || d.By != policy.ByBaseline {
		t.Errorf("%+v", d)
	}
}
