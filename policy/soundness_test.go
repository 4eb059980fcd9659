package policy

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/policies"
)

// The long form: go test ./policy -run TestSoundOnRandom -sound 1000000 -timeout 1h.
var soundDecisions = flag.Int("sound", shortSound, "decisions on random modules that kept ones are held against")

const shortSound = 5_000

func testEngine(tb testing.TB, c Config) *Engine {
	tb.Helper()
	for name, source := range policies.Baseline() {
		c.Baseline = append(c.Baseline, gatehouse.Module{Name: name, Source: source})
	}
	e, err := NewEngine(c)
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

// patient is a budget that random modules do not exhaust.
var patient = Config{Deadline: time.Minute, MaxSteps: 10_000_000}

func tenantModules(sources ...string) []gatehouse.Module {
	var ms []gatehouse.Module
	for i, s := range sources {
		ms = append(ms, gatehouse.Module{Name: fmt.Sprintf("m%d.rego", i), Source: s})
	}
	return ms
}

// unsound returns how p's kept or narrowed decisions differ from decisions on
// the whole document, over random inputs; "" if they do not.
func unsound(p *Policy, r *rand.Rand, inputs int) (difference string, hits int) {
	// Buckets are part of what a policy means.
	whole, own := &readSet{fields: fieldsAll, bucket: p.engine.reads.bucket}, &readSet{fields: fieldsAll}
	if p.own != nil {
		own.bucket = p.own.own.bucket
	}
	reference := &Policy{engine: p.engine, own: p.own, platformDoc: whole, ownDoc: own}
	type kept struct {
		in *Input
		d  Decision
	}
	byKey := map[string]kept{}
	var drawn []*Input
	for range inputs {
		in := randomInput(r)
		if len(drawn) > 0 && r.IntN(2) == 0 {
			in = mutate(r, drawn[r.IntN(len(drawn))])
		}
		drawn = append(drawn, in)
		want := reference.evaluate(in)
		if d := p.Decide(in); !d.Equal(want) {
			return fmt.Sprintf("input %+v\n got %+v\nwant %+v", in, d, want), hits
		}
		if p.reads.uncached != "" || want.Err != nil {
			continue
		}
		k := string(appendKey(nil, p.reads, in))
		if first, ok := byKey[k]; ok {
			hits++
			if !first.d.Equal(want) {
				return fmt.Sprintf("inputs %+v\n and %+v\nhave one key but %+v\n and %+v", first.in, in, first.d, want), hits
			}
			continue
		}
		byKey[k] = kept{in, want}
	}
	return "", hits
}

func TestSoundOnRandomModules(t *testing.T) {
	e := testEngine(t, patient)
	seed := uint64(20261127)
	if *soundDecisions != shortSound {
		seed = rand.Uint64()
	}
	t.Logf("seed %d", seed)
	var last gatehouse.Faults
	r := rand.New(rand.NewPCG(seed, 1))
	compiled, uncached, decisions, hits := 0, 0, 0, 0
	for i := 0; decisions < *soundDecisions; i++ {
		if i > 100+30*compiled {
			t.Fatalf("only %d of %d random modules compile: %v", compiled, i, last)
		}
		source := (&modules{r: r}).source()
		p, faults := e.Compile(tenantModules(source))
		if p == nil {
			last = faults
			continue
		}
		compiled++
		if p.reads.uncached != "" {
			uncached++
		}
		const inputs = 100
		difference, n := unsound(p, r, inputs)
		if difference != "" {
			t.Fatalf("%s\nkey %+v\n%s", source, p.reads, difference)
		}
		decisions += inputs
		hits += n
	}
	t.Logf("%d modules, %d of them not kept; %d decisions, %d with a key seen before", compiled, uncached, decisions, hits)
	if hits < decisions/50 {
		t.Errorf("%d hits in %d decisions put nothing to the test", hits, decisions)
	}
}

// adversarial are modules that hide what they read.
var adversarial = []string{
	`cache_seconds := 60
allow if input.time >= 60000000000`,
	`cache_seconds := 1
allow if time.now_ns() == 59000000000`,
	`cache_seconds := 60
f(t) if t == 60000000000
allow if f(input.time)`,
	`cache_seconds := 90
reason := sprintf("%d", [input.time])
allow if input.plan == "a"`,
	`cache_seconds := 60
allow if { [x, _] = [input.time, 1]; x == 0 }`,
	`allow if { x := input.principal.claims; not x.a.b }`,
	`allow if { _ = input.principal.claims.a; not input.principal.claims.a.b }`,
	`allow if { x := input; x.plan == "a" }`,
	`f(i) if i.plan == "a"
allow if f(input)`,
	`f(i) := i.a
allow if { y := input.principal.claims; f(y) == 2 }`,
	`allow if input[input.plan] == "a"`,
	`allow if input.principal.claims[input.plan] == 1`,
	`allow if input.features[input.plan]`,
	`allow if { some k, v in input.principal.claims; k == "a"; v == "b" }`,
	`allow if { walk(input, [_, v]); v == "b" }`,
	`allow if { walk(input.principal.claims, [["a", "b"], v]); v == 1 }`,
	`p if input.plan == "a"
allow if p with input as {"plan": input.route}`,
	`p if { input.request.method == "GET"; input.plan == "a" }
allow if p with input.request as {"method": input.principal.id} with input.plan as input.route`,
	`allow := true if { input.plan == "b" } else := true if { input.request.method == "GET"; input.client.tls } else := false`,
	`default f(_) := false
f(x) if x == input.plan
allow if f("a")`,
	`allow if { s := {x | some x in input.principal.roles}; "a" in s }`,
	`allow if "a" in input.principal.roles`,
	`p if { input.plan == "a"; input.client.tls }
allow if p with input.nothing as "b"`,
	`m := {k: v | some k, v in input.principal.claims}
allow if m.a == 1`,
	`allow if { every r in input.principal.roles { r != input.plan } }`,
	`p[input.plan].q := input.route
allow if p.a.q == "public"`,
	`p contains input.plan if input.client.tls
allow if p.a`,
	`r.a := input.plan
r.b := input.route
allow if r[input.principal.id] == "a"`,
	`allow if { ["a", x] = input.request.segments; x == input.plan }`,
	`allow if input.request.segments[1] == "b"`,
	`allow if input.request.segments[input.request.body_size] == "b"`,
	`allow if { {"a": x} = input.principal.claims; x == 1 }`,
	`allow if not input.principal.claims.a`,
	`allow if input.principal.claims.a == null`,
	`allow if { not f(input.plan) }
f(x) if x == input.route`,
	`allow if count(input.principal.claims) == 2`,
	`allow if object.get(input, ["principal", "claims", "a"], 0) == 1`,
	`allow if object.get(input.principal.claims, input.plan, 0) == 1`,
	`allow if json.filter(input.principal, ["claims/a/b"]) == {"claims": {"a": {"b": 1}}}`,
	`allow if { some k; input.principal.claims[k] == 2 }`,
	`allow if $"{input.plan} {input.route}" == "a public"`,
	`allow if sprintf("%v", [input.principal.claims.a]) == "1"`,
	`allow if { input.plan = input.principal.id }`,
	`default allow := false
allow := x if { x := count([1 | input.client.tls]) > 0 }`,
	`allow if { s := {input.plan, input.route}; count(s) == 1 }`,
	`allow if { [input.plan, input.principal.id][_] == "b" }`,
	`allow if input.request.headers["x-a"] == "a"`,
	`allow if contains(input.request.headers.cookie, "; ")`,
	`allow if { some n, v in input.request.headers; startswith(n, "x-"); v == "a" }`,
	`allow if input.request.query.q == ["a", "b"]`,
	`allow if input.request.query.q[0] == "a"`,
	`allow if input.request.query[input.plan]`,
	`allow if { some n; input.request.query[n][0] == "a" }`,
	`allow if { input.client.ip == "192.0.2.1" }`,
	`allow if { startswith(input.client.ip, "::ffff") }`,
	`allow if { input.time == 1 }`,
	`allow if { time.now_ns() == 1 }`,
	`allow if data.gatehouse.tenant.inner.deep[input.plan]
inner.deep.a := input.client.tls
inner.deep.b := input.request.method == "GET"`,
	`reason := input.plan
public if input.client.tls
status := 400 + input.request.body_size
allow if input.route == "public"`,
	`reason := $"not {input.principal.id}"
allow if input.principal.roles[_] == "a"`,
	`import input.principal as who
allow if who.id == "a"`,
	`import input.principal.claims
allow if claims.a == claims.b`,
	`f(x, x) if true
allow if f(input.plan, input.principal.id)`,
	`allow if { some i; input.principal.roles[i] == input.principal.scopes[i] }`,
	`allow if input.principal == {"kind": "anonymous", "id": "", "tenant": "", "roles": [], "scopes": [], "groups": [], "claims": {}}`,
	`allow if input.features == {"beta": true}`,
	`allow if not input.features.beta`,
	`allow if input.request.path == "/a"`,
	`allow if { p := [x | some x in input.request.segments; x != ""]; p == ["a"] }`,
	`allow if input.request["method"] == "GET"`,
	`allow if input["request"]["host"] == "a"`,
	`allow if input.request.body_size > 0`,
	`allow := true
obligations := {"log": {"plan": input.plan}, "cost": input.request.body_size}`,
	`allow if input.route == "public"
obligations.headers.remove contains "x-a" if input.client.tls
obligations.step_up := "mfa" if not input.principal.claims.a`,
	`allow if input.client.cert`,
	`allow if not input.client.cert.subject`,
	`allow if { c := input.client.cert; c.serial == "1" }`,
	`allow if "a" in input.client.cert.san.dns`,
	`allow if input.client.cert[input.plan] == "b"`,
	`allow if input.client.cert.fingerprint == input.plan`,
	`allow if input.client == {"ip": "", "tls": true}`,
	`allow if { some k, v in input.client.cert; k == "not_after"; v == 2 }`,
	`allow if input.principal.claims.jti`,
	`allow if input.request.headers["x-request-id"]`,
}

// coarse are modules of which the analysis says more than it must.
var coarse = []string{
	`allow if not input.principal.claims`,
	`allow if input.request.headers["X-A"] == "a"`,
	`allow if { c := input.client; c.tls }`,
	`p if { input.principal.claims.a.b == 1 }
allow if p with input.principal.claims.a.b as 1`,
	`p if { input.principal.claims.a.c }
allow if p with input.principal.claims.a.b as 1`,
	`p if { input.request.segments[0] == "a" }
allow if p with input.request.segments.x as 1`,
	`p contains input.plan if input.client.tls
allow if count(p) == 1`,
	`p if { input.principal.claims.a.b == 1; input.principal.claims.a.c == "a" }
allow if p with input.principal.claims.a.b as input.request.body_size`,
}

func adversarialModule(rules string) []gatehouse.Module {
	return tenantModules("package gatehouse.tenant\n" + rules + "\n")
}

func TestSoundOnAdversarialModules(t *testing.T) {
	e := testEngine(t, patient)
	r := rand.New(rand.NewPCG(7, 7))
	for _, rules := range slices.Concat(adversarial, coarse) {
		p, faults := e.Compile(adversarialModule(rules))
		if p == nil {
			t.Errorf("%s\n%v", rules, faults)
			continue
		}
		if difference, _ := unsound(p, r, 100); difference != "" {
			t.Errorf("%s\nkey %+v\n%s", rules, p.reads, difference)
		}
	}
}

// noticed reports whether inputs show that q is not sound; some need many.
func noticed(q *Policy, r *rand.Rand) bool {
	for range 5 {
		if difference, _ := unsound(q, r, 2000); difference != "" {
			return true
		}
	}
	return false
}

// TestBrokenAnalysisIsCaught leaves one thing out of what the analysis found,
// in each way that there is, and wants the tests above to notice.
func TestBrokenAnalysisIsCaught(t *testing.T) {
	c := patient
	// One that reads nothing, so that each part matters to the tenant's rules.
	c.Baseline = tenantModules("package gatehouse.baseline\nallow := true\n")
	e, err := NewEngine(c)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(8, 8))
	broken := 0
	for _, rules := range adversarial {
		p, faults := e.Compile(adversarialModule(rules))
		if p == nil {
			t.Fatalf("%s\n%v", rules, faults)
		}
		if p.reads.uncached != "" {
			continue
		}
		for i := range p.reads.key {
			reads := &readSet{key: slices.Delete(slices.Clone(p.reads.key), i, i+1)}
			reads.ready()
			q := e.newPolicy(p.own)
			q.reads = reads
			broken++
			if !noticed(q, r) {
				t.Errorf("not noticed: without %+v\n%s", p.reads.key[i], rules)
			}
		}
		for f := fieldTenant; f <= fieldTime; f <<= 1 {
			if p.ownDoc.fields&f == 0 {
				continue
			}
			doc, q := *p.ownDoc, e.newPolicy(p.own)
			doc.fields &^= f
			q.ownDoc = &doc
			broken++
			if !noticed(q, r) {
				t.Errorf("not noticed: a document without field %b\n%s", f, rules)
			}
		}
	}
	t.Logf("%d broken analyses", broken)
}
