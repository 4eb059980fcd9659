package policy_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/policy"
)

func module(name, source string) gatehouse.Module {
	return gatehouse.Module{Name: name, Source: source}
}

// TestTest compares the report of a tenant's tests as text.
func TestTest(t *testing.T) {
	e := engine(t, policy.Config{Deadline: time.Minute, MaxSteps: 5000})
	mine := []gatehouse.Module{module("a.rego", "package gatehouse.tenant\nallow if input.plan == \"gold\"\nf(x) := x + 1\n")}
	f := func(test, want string) {
		t.Helper()
		report, faults := e.Test(mine, []gatehouse.Module{module("a_test.rego", test)})
		var b strings.Builder
		for _, fault := range faults {
			fmt.Fprintf(&b, "%s:%d:%d %s\n", fault.Pointer, fault.Line, fault.Column, fault.Reason)
		}
		for _, r := range report.Results {
			fmt.Fprintf(&b, "%s %s:%d %v %s\n", r.Name, r.Module, r.Line, r.Passed, r.Failure)
		}
		if b.String() != want {
			t.Errorf("%s\n got %s\nwant %s", test, b.String(), want)
		}
		if passed := strings.Count(want, " true \n"); len(faults) == 0 && (report.Passed != passed || report.Failed != len(report.Results)-passed) {
			t.Errorf("%+v", report)
		}
	}
	const plain = "package gatehouse.tenant_test\n\n"
	const head = "package gatehouse.tenant_test\nimport data.gatehouse.tenant\n"
	f(head+`test_gold if tenant.allow with input as {"plan": "gold"}
test_other if not tenant.allow with input as {"plan": "free"}
test_f if tenant.f(1) == 2
todo_test_x if false
helper if false
`, "gatehouse.tenant_test.test_gold a_test.rego:3 true \n"+
		"gatehouse.tenant_test.test_other a_test.rego:4 true \n"+
		"gatehouse.tenant_test.test_f a_test.rego:5 true \n")
	f("package gatehouse.tenant\ntest_within if allow with input.plan as \"gold\"\n", "gatehouse.tenant.test_within a_test.rego:2 true \n")
	f(head+"test_wrong if {\n\tx := 1\n\ttenant.f(x) == 3\n}\n", "gatehouse.tenant_test.test_wrong a_test.rego:3 false line 5: tenant.f(x) == 3\n")
	f(plain+"test_text := \"true\"\n", "gatehouse.tenant_test.test_text a_test.rego:3 false not true\n")
	f(plain+"test_conflict := true\ntest_conflict := false\n",
		"gatehouse.tenant_test.test_conflict a_test.rego:3 false tenant/a_test.rego:4: eval_conflict_error: rule data.gatehouse.tenant_test.test_conflict produced conflicting values:\n  true at tenant/a_test.rego:3\n  false at tenant/a_test.rego:4\n")
	f(plain+"test_loop if { xs := numbers.range(1, 1000); count([1 | some a in xs; some b in xs; some c in xs; a + b + c < 0]) == 0 }\n",
		"gatehouse.tenant_test.test_loop a_test.rego:3 false policy: evaluation ran out of its budget of steps, memory or time\n")
	f(plain+"test_x if http.send({})\n", "/tests/0/source:3:11 undefined function http.send\n")
	f("package other\ntest_x := true\n", "/tests/0/source:1:1 other is not a tenant's package\n")
	f("package gatehouse.tenant_test\ntest_x if data.gatehouse.baseline.allow\n", "/tests/0/source:2:11 data.gatehouse.baseline.allow is not the tenant's to read\n")
	f("package gatehouse.tenant_test\ntest_x if true with data.gatehouse.tenant.allow as true\n", "/tests/0/source:2:16 with may replace input only\n")

	// A tenant's modules do not read tests.
	_, faults := e.Test([]gatehouse.Module{module("a.rego", "package gatehouse.tenant\nallow if data.gatehouse.tenant_test.x")}, nil)
	if len(faults) != 1 || faults[0].Pointer != "/modules/0/source" {
		t.Errorf("%v", faults)
	}
	var many strings.Builder
	many.WriteString("package gatehouse.tenant_test\n")
	for i := range policy.MaxTests + 1 {
		fmt.Fprintf(&many, "test_%d := true\n", i)
	}
	if _, faults := e.Test(mine, []gatehouse.Module{module("a_test.rego", many.String())}); len(faults) != 1 || faults[0].Pointer != "/tests" {
		t.Errorf("%v", faults)
	}
}

// TestExplain names the rule and the line that decided.
func TestExplain(t *testing.T) {
	e := roomy(t)
	f := func(source string, change func(*policy.Input), want string) {
		t.Helper()
		in := salary()
		change(in)
		p := compile(t, e, source)
		x := e.Explain(p, in)
		var b strings.Builder
		if d := p.Decide(in); !d.Equal(x.Decision) {
			t.Errorf("explained %+v, decided %+v", x.Decision, d)
		}
		if x.Decided != nil {
			fmt.Fprintf(&b, "%v %s %s:%d;", x.Decision.Allow, x.Decided.Rule, x.Decided.Module, x.Decided.Line)
		}
		for _, s := range x.Steps {
			if strings.HasPrefix(s.Rule, "data.gatehouse.tenant") {
				fmt.Fprintf(&b, " %d:%d %v", s.Line, s.Column, s.Holds)
				if s.Failed != "" {
					fmt.Fprintf(&b, " at %d %s", s.FailedLine, s.Failed)
				}
			}
		}
		if b.String() != want {
			t.Errorf("%s\n got %s\nwant %s", source, b.String(), want)
		}
	}
	const source = `package gatehouse.tenant
default allow := false
allow if input.plan == "silver"
allow if {
	input.request.method == "GET"
	team
}
team if "eng" in input.principal.groups
reason := "not for you" if not team
`
	f(source, func(*policy.Input) {}, `true data.gatehouse.tenant.allow a.rego:4; 3:1 false at 3 input.plan == "silver" 4:1 true 8:1 true`)
	f(source, func(in *policy.Input) { in.Method = []byte("PUT") },
		`false data.gatehouse.tenant.allow a.rego:2; 3:1 false at 3 input.plan == "silver" 4:1 false at 5 input.request.method == "GET" 2:1 true 9:1 false at 9 not team 8:1 true`)
	f(source, func(in *policy.Input) { in.Principal = policy.NewPrincipal("key", "k", "acme", nil, nil, nil, nil) },
		`false data.gatehouse.tenant.reason a.rego:9; 3:1 false at 3 input.plan == "silver" 4:1 false at 6 team 8:1 false at 8 "eng" in input.principal.groups 2:1 true 9:1 true`)
	f(source, func(in *policy.Input) { in.Principal = nil }, `false data.gatehouse.baseline.reason baseline.rego:30;`)
}

// TestDiff replays inputs against a draft.
func TestDiff(t *testing.T) {
	e := roomy(t)
	old := compile(t, e, "package gatehouse.tenant\nallow if input.request.method == \"GET\"")
	draft := compile(t, e, "package gatehouse.tenant\nallow if input.request.path == \"/a\"\nreason := \"new\"")
	var inputs []*policy.Input
	for _, request := range []string{"GET /a", "PUT /a", "GET /b", "PUT /b"} {
		in := salary()
		method, path, _ := strings.Cut(request, " ")
		in.Method, in.Path = []byte(method), []byte(path)
		inputs = append(inputs, in)
	}
	var got []string
	for d := range policy.Diff(old, draft, slices.Values(inputs)) {
		got = append(got, fmt.Sprintf("%d %s %v->%v %s", d.Index, d.Input.Path, d.Old.Allow, d.New.Allow, d.New.Reason))
	}
	if want := "1 /a false->true |2 /b true->false new|3 /b false->false new"; strings.Join(got, "|") != want {
		t.Errorf("%q", got)
	}
	for range policy.Diff(old, old, slices.Values(inputs)) {
		t.Error("a policy differs from itself")
	}
	n := 0
	for range policy.Diff(old, draft, slices.Values(inputs)) {
		n++
		break
	}
	if n != 1 {
		t.Error("the replay did not stop")
	}
}
