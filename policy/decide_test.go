package policy_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
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

// TestDecision: what the denying package says, and what counts as allowed.
func TestDecision(t *testing.T) {
	e := roomy(t)
	f := func(rules string, want policy.Decision) {
		t.Helper()
		d := compile(t, e, "package gatehouse.tenant\n"+rules).Decide(salary())
		if (d.Err != nil) != (want.Err != nil) {
			t.Errorf("%s: %v", rules, d.Err)
		}
		d.Err, want.Err = nil, nil
		if d != want {
			t.Errorf("%s:\n got %+v\nwant %+v", rules, d, want)
		}
	}
	allowed := policy.Decision{Allow: true, By: policy.ByTenant}
	denied := policy.Decision{Status: 403, By: policy.ByTenant}
	failed := denied
	failed.Err = errors.New("any")
	f(`allow := true`, allowed)
	f("allow := true\nreason := \"not read\"", allowed)
	f(`allow if { print("erased"); input.plan }`, allowed)
	f(`allow := false`, denied)
	f(`default allow := false`, denied)
	f(`allow if input.nothing`, denied)
	f(`allow := "true"`, denied)
	f(`allow := 1`, denied)
	f(`allow := [true]`, denied)
	f(`allow contains true`, denied)
	f("allow := true\nallow := false if input.plan", failed)
	f("allow := false\nreason := \"a\"\nreason := \"b\" if input.plan", failed)
	f("allow := false\nreason := \"no\"\npublic := true\nstatus := 451", policy.Decision{Reason: "no", Public: true, Status: 451, By: policy.ByTenant})
	f("allow := false\nreason := 1\npublic := \"true\"\nstatus := 200", denied)
	f("allow := false\nstatus := 500", denied)
	f("allow := false\nstatus := 404.5", denied)
	f("allow := false\nreason := [\"x\"]\nstatus := \"404\"", denied)
	f("allow := false\nreason := concat(\"\", [\"é\" | some i in numbers.range(1, 300)])",
		policy.Decision{Reason: strings.Repeat("é", 256), Status: 403, By: policy.ByTenant})
}

// TestBaseline: the baseline is heard first, and alone without modules.
func TestBaseline(t *testing.T) {
	e := roomy(t)
	f := func(p *policy.Policy, auth string, who *policy.Principal, want policy.Decision) {
		t.Helper()
		in := salary()
		in.Auth, in.Principal = auth, who
		if d := p.Decide(in); d != want {
			t.Errorf("%s %+v:\n got %+v\nwant %+v", auth, who, d, want)
		}
	}
	bob := policy.NewPrincipal("jwt", "bob", "acme", nil, nil, nil, nil)
	eve := policy.NewPrincipal("jwt", "eve", "globex", nil, nil, nil, nil)
	alone := compile(t, e)
	f(alone, "none", nil, policy.Decision{Allow: true, By: policy.ByBaseline})
	f(alone, "optional", policy.Anonymous(), policy.Decision{Allow: true, By: policy.ByBaseline})
	f(alone, "required", bob, policy.Decision{Allow: true, By: policy.ByBaseline})
	noCredential := policy.Decision{Status: 401, Reason: "a credential is required", By: policy.ByBaseline}
	foreign := policy.Decision{Status: 403, Reason: "the principal belongs to another tenant", By: policy.ByBaseline}
	f(alone, "required", nil, noCredential)
	f(alone, "required", eve, foreign)
	f(alone, "", bob, policy.Decision{Status: 403, By: policy.ByBaseline})
	open := compile(t, e, "package gatehouse.tenant\nallow := true\nreason := \"mine\"\npublic := true")
	f(open, "required", bob, policy.Decision{Allow: true, By: policy.ByTenant})
	f(open, "required", nil, noCredential)
	f(open, "optional", eve, foreign)
	shut := compile(t, e, "package gatehouse.tenant\nallow := false\nreason := \"mine\"\npublic := true")
	f(shut, "none", nil, policy.Decision{Status: 403, Reason: "mine", Public: true, By: policy.ByTenant})
	f(shut, "required", eve, foreign)
}

func TestPrincipalWithoutConstructor(t *testing.T) {
	in := salary()
	in.Auth, in.Principal = "none", &policy.Principal{Kind: "jwt"}
	if d := compile(t, roomy(t)).Decide(in); d.Allow || d.Err == nil {
		t.Errorf("%+v", d)
	}
}

// TestZeroTrust: without modules a route that requires a credential denies the
// anonymous and admits what the baseline says; whatever goes wrong denies.
func TestZeroTrust(t *testing.T) {
	e := engine(t, policy.Config{Deadline: time.Minute, MaxSteps: 1000})
	f := func(source string, who *policy.Principal, want string) {
		t.Helper()
		in := salary()
		in.Principal = who
		var p *policy.Policy
		if p = baselineOr(t, e, source); source == "" && len(p.ReadSet()) != 4 {
			t.Errorf("the baseline alone reads %v", p.ReadSet())
		}
		for range 2 { // evaluated, and kept
			d := p.Decide(in)
			if got := fmt.Sprintf("%v %d %s %s %v", d.Allow, d.Status, d.By, d.Reason, d.Err != nil); got != want {
				t.Errorf("%s %+v\n got %s\nwant %s", source, who, got, want)
			}
		}
	}
	bob := policy.NewPrincipal("key", "key:bob", "acme", nil, nil, nil, nil)
	const anonymous = "false 401 baseline a credential is required false"
	f("", nil, anonymous)
	f("", policy.Anonymous(), anonymous)
	f("", bob, "true 0 baseline  false")
	f("", policy.NewPrincipal("key", "key:eve", "globex", nil, nil, nil, nil), "false 403 baseline the principal belongs to another tenant false")
	f("", policy.NewPrincipal("key", "key:nobody", "", nil, nil, nil, nil), "false 403 baseline the principal belongs to another tenant false")
	f("", &policy.Principal{Kind: "key", Tenant: "acme"}, "false 403 baseline  true")
	const head = "package gatehouse.tenant\n"
	f(head+"allow := true", nil, anonymous)
	f(head+"allow if input.nothing", bob, "false 403 tenant  false")
	f(head+"allow := true\nallow := false if input.plan", bob, "false 403 tenant  true")
	f(head+"allow if count([1 | some a in numbers.range(1, 900); a > 0]) == 900", bob, "false 403 tenant  true")
	f(head+"allow := true\nobligations := {\"admit\": true}", bob, "false 403 tenant  true")
}

type panicking struct{}

func (panicking) Len() int { return 1 }

func (panicking) At(int) (name, value []byte) { panic("no such field") }

func TestPanicIsADenial(t *testing.T) {
	e := engine(t, policy.Config{Deadline: time.Minute, CacheEntries: -1})
	in := salary()
	in.Headers = panicking{}
	p := compile(t, e, "package gatehouse.tenant\nallow if input.request.headers.accept")
	for _, d := range []policy.Decision{p.Decide(in), e.Explain(p, in).Decision} {
		if d.Allow || d.Err == nil || d.Status != 403 {
			t.Errorf("%+v", d)
		}
	}
}

// TestConcurrent is for the race detector: many goroutines, one policy, a
// cache that is too small.
func TestConcurrent(t *testing.T) {
	e := engine(t, policy.Config{Deadline: time.Minute, CacheEntries: 64})
	p := compile(t, e, `package gatehouse.tenant
allow if input.request.path == "/yes"
allow if input.principal.claims.deep == {"a": [1, {"b": input.request.path}]}
allow if walk(input.principal.claims, [_, ["/deep", input.request.path]])
reason := concat(" ", ["not", input.request.path])
`)
	who := policy.NewPrincipal("jwt", "bob", "acme", nil, nil, nil, map[string]any{"deep": map[string]any{"a": []any{1, map[string]any{"b": "/deep"}}}})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 300 {
				in := salary()
				in.Principal = who
				path := fmt.Sprintf("/%d", (i*7+g)%100)
				want := policy.Decision{Status: 403, Reason: "not " + path, By: policy.ByTenant}
				switch i % 3 {
				case 0:
					path, want = "/yes", policy.Decision{Allow: true, By: policy.ByTenant}
				case 1:
					path, want = "/deep", policy.Decision{Allow: true, By: policy.ByTenant}
				}
				in.Path = []byte(path)
				if d := p.Decide(in); d != want {
					t.Errorf("%s: %+v", path, d)
				}
				// The input is the caller's again.
				clear(in.Path)
			}
		})
	}
	wg.Wait()
}

func TestSeenDecisionAllocatesNothing(t *testing.T) {
	for _, source := range []string{example, httpExample, fourteen} {
		p, in := compile(t, roomy(t), source), salary()
		p.Decide(in)
		if n := testing.AllocsPerRun(100, func() { p.Decide(in) }); n != 0 {
			t.Errorf("%v allocations\n%s", n, source)
		}
	}
}
