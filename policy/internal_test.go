package policy

import (
	"fmt"
	"hash/maphash"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
)

// TestDocument compares the whole document with the shape that is promised.
func TestDocument(t *testing.T) {
	in := &Input{
		Tenant: "acme", Plan: "gold", Route: "r", Auth: "optional", Features: []string{"a", "b"},
		Method: []byte("GET"), Host: []byte("h"), Path: []byte("/x%2Fy/%C3%A9/"), Query: []byte("q=1&q=%32+3&r&%zz=%zz&&=e"),
		Protocol: []byte("HTTP/1.1"), BodySize: -1,
		Headers: header{"X-A", "1", "Cookie", "a=b", "x-a", "2", "COOKIE", "c=d"},
		Principal: NewPrincipal("jwt", "bob", "acme", []string{"r"}, []string{"s"}, nil,
			map[string]any{"n": 1.5, "l": []any{nil, true}, "o": map[string]any{"k": "v"}}),
		Client: netip.MustParseAddr("2001:db8::1"), TLS: true, Time: time.Unix(1, 5), Cert: newCertificate(map[string]any{"subject": "CN=c"}),
	}
	want := ast.MustParseTerm(`{
		"tenant": "acme", "plan": "gold", "route": "r", "auth": "optional", "features": {"a": true, "b": true},
		"request": {"method": "GET", "host": "h", "path": "/x%2Fy/%C3%A9/", "segments": ["x/y", "é", ""],
			"query": {"q": ["1", "2 3"], "r": [""], "%zz": ["%zz"], "": ["e"]},
			"headers": {"x-a": "1, 2", "cookie": "a=b; c=d"}, "body_size": -1, "protocol": "HTTP/1.1"},
		"principal": {"kind": "jwt", "id": "bob", "tenant": "acme", "roles": ["r"], "scopes": ["s"], "groups": [],
			"claims": {"n": 1.5, "l": [null, true], "o": {"k": "v"}}},
		"client": {"ip": "2001:db8::1", "tls": true, "cert": {"subject": "CN=c"}}, "time": 1000000005}`)
	if got := in.document(&readSet{fields: fieldsAll}, &words{}); !got.Equal(want) {
		t.Errorf("got\n%v\nwant\n%v", got, want)
	}
	empty := ast.MustParseTerm(`{
		"tenant": "", "plan": "", "route": "", "auth": "", "features": {},
		"request": {"method": "", "host": "", "path": "", "segments": [], "query": {}, "headers": {}, "body_size": 0, "protocol": ""},
		"principal": {"kind": "anonymous", "id": "", "tenant": "", "roles": [], "scopes": [], "groups": [], "claims": {}},
		"client": {"ip": "", "tls": false}, "time": 0}`)
	if got := (&Input{Time: time.Unix(0, 0)}).document(&readSet{fields: fieldsAll}, &words{}); !got.Equal(empty) {
		t.Errorf("got\n%v\nwant\n%v", got, empty)
	}
}

// TestReads shows what the analysis makes of references.
func TestReads(t *testing.T) {
	c := patient
	c.Baseline = tenantModules("package gatehouse.baseline\nallow := true\n")
	e, err := NewEngine(c)
	if err != nil {
		t.Fatal(err)
	}
	f := func(rules, want string) {
		t.Helper()
		p, faults := e.Compile(adversarialModule(rules))
		if p == nil {
			t.Fatal(faults)
		}
		got := p.reads.uncached
		if got == "" {
			got = fmt.Sprint(p.reads.key)
		}
		if got != want {
			t.Errorf("%s\n got %s\nwant %s", rules, got, want)
		}
	}
	f(`allow := true`, `[]`)
	f(`allow if input.nothing.at.all`, `[]`)
	f(`allow if input.tenant.x`, fmt.Sprint([]part{{kind: partTenant}}))
	f(`allow if input.request.segments[2] == input.request.query.q[0]`, fmt.Sprint([]part{{kind: partSegment, index: 2}, {kind: partParameter, name: "q"}}))
	f(`allow if input.principal.claims.org.id == input.principal.claims.org.name`,
		fmt.Sprint([]part{{kind: partOfPrincipal, index: 6, path: []string{"org", "id"}}, {kind: partOfPrincipal, index: 6, path: []string{"org", "name"}}}))
	f(`allow if input.principal.claims.org.id == input.principal.claims.org[input.plan]`,
		fmt.Sprint([]part{{kind: partPlan}, {kind: partOfPrincipal, index: 6, path: []string{"org"}}}))
	f(`allow if { x := input; x.plan }`, "reads input as a whole")
	f(`allow if { x := input.request; x.method }`, "reads input.request as a whole")
	f(`allow if { some h in input.request.headers; h == "a" }`, "reads input.request.headers as a whole")
	f(`allow if time.now_ns() > 1`, "calls time.now_ns, which every request has its own of")
	f(`allow if input.time > 1`, "reads input.time, which every request has its own of")
	f(`allow if input.principal.claims.jti == "a"`, "reads input.principal.claims.jti, which every token has its own of")
	f(`allow if input.request.headers["x-request-id"]`, "reads the header x-request-id, which every request has its own of")
}

// TestKeysDiffer: parts that could run into one another do not.
func TestKeysDiffer(t *testing.T) {
	parts := []part{{kind: partHeader, name: "a"}, {kind: partHeader, name: "b"}, {kind: partParameter, name: "q"}, {kind: partSegment, index: 0}, {kind: partFeatures}, {kind: partPrincipal}}
	reads := &readSet{key: parts}
	reads.ready()
	seen := map[string]int{}
	claims := func(c map[string]any) *Principal { return NewPrincipal("k", "", "", nil, nil, nil, c) }
	for i, in := range []*Input{
		{},
		{Headers: header{"a", ""}},
		{Headers: header{"b", ""}},
		{Headers: header{"a", "", "b", ""}},
		{Headers: header{"a", "x", "a", "y"}},
		{Headers: header{"a", "x, y"}},
		{Headers: header{"a", "x\x02y"}},
		{Query: []byte("q")},
		{Query: []byte("q&q")},
		{Query: []byte("q=\x01")},
		{Path: []byte("//")},
		{Path: []byte("/a")},
		{Path: []byte("/" + strings.Repeat("a", 300))},
		{Features: []string{"a", "b"}},
		{Features: []string{"a\x02b"}},
		{Principal: claims(nil)},
		{Principal: claims(map[string]any{"a": nil})},
		{Principal: claims(map[string]any{"a": []any{}})},
		{Principal: claims(map[string]any{"a": map[string]any{}})},
		{Principal: claims(map[string]any{"a": "1"})},
		{Principal: claims(map[string]any{"a": 1})},
		{Principal: claims(map[string]any{"a": []any{"1", "2"}})},
		{Principal: claims(map[string]any{"a": []any{"1"}, "b": "2"})},
		{Principal: claims(map[string]any{"a": []any{[]any{"1"}, "2"}})},
		{Principal: claims(map[string]any{"a": []any{[]any{"1", "2"}}})},
	} {
		k := string(appendKey(nil, reads, in))
		if first, ok := seen[k]; ok {
			t.Errorf("inputs %d and %d have one key %q", first, i, k)
		}
		seen[k] = i
	}
}

// TestPrincipalOfManyPolicies: what a principal keeps of one policy's key is
// not taken for another's.
func TestPrincipalOfManyPolicies(t *testing.T) {
	e := testEngine(t, patient)
	var ps []*Policy
	for _, claim := range []string{"a", "b"} {
		p, faults := e.Compile(adversarialModule(`allow if input.principal.claims.` + claim + ` == 1`))
		if p == nil {
			t.Fatal(faults)
		}
		ps = append(ps, p)
	}
	for _, claims := range []map[string]any{{"a": 1, "b": 0}, {"a": 1, "b": 1}, {"a": 0, "b": 1}, {"a": 0, "b": 0}} {
		who := NewPrincipal("user", "u", "acme", nil, nil, nil, claims)
		for range 2 {
			for i, claim := range []string{"a", "b"} {
				in := &Input{Tenant: "acme", Auth: "required", Principal: who}
				if d := ps[i].Decide(in); d.Allow != (claims[claim] == 1) || d.Err != nil {
					t.Errorf("claim %s of %v: %+v", claim, claims, d)
				}
			}
		}
	}
}

// TestCache: bounded, every kept decision its own, and whatever the hash.
func TestCache(t *testing.T) {
	seed := maphash.MakeSeed()
	for _, hash := range []func([]byte) uint64{
		func(k []byte) uint64 { return maphash.Bytes(seed, k) },
		func([]byte) uint64 { return 42 }, // all collide
	} {
		c := &cache{limit: slotsFor(1000)}
		if c.limit != 512 {
			t.Fatalf("%d slots for 1000 entries", c.limit)
		}
		for i := range 5000 {
			k := fmt.Appendf(nil, "key %d", i%1500)
			h := hash(k)
			if d := c.get(h, k); d != nil && d.Status != i%1500 {
				t.Fatalf("%s: %+v", k, d)
			}
			c.put(h, k, Decision{Status: i % 1500})
			if d := c.get(h, k); d == nil || d.Status != i%1500 {
				t.Fatalf("%s: %+v", k, d)
			}
		}
		if n := len(c.table.Load().slots); n > c.limit {
			t.Errorf("%d slots, limit %d", n, c.limit)
		}
	}
	none := &cache{}
	none.put(1, []byte("k"), Decision{})
	if none.get(1, []byte("k")) != nil {
		t.Error("kept without a limit")
	}
}

// TestUsedStays: a key that is read between others outlives them.
func TestUsedStays(t *testing.T) {
	c := &cache{limit: ways}
	c.put(0, []byte("used"), Decision{Allow: true})
	for i := range 100 {
		if c.get(0, []byte("used")) == nil {
			t.Fatalf("gone after %d others", i)
		}
		c.put(0, fmt.Appendf(nil, "%d", i), Decision{})
	}
}

// TestFailuresAreNotKept: the next request is evaluated again.
func TestFailuresAreNotKept(t *testing.T) {
	c := patient
	c.Deadline = time.Nanosecond
	e := testEngine(t, c)
	p, faults := e.Compile(adversarialModule(`allow if { xs := numbers.range(1, 100); count([1 | some a in xs; some b in xs; a == b]) == 100 }`))
	if p == nil {
		t.Fatal(faults)
	}
	in := &Input{Auth: "none"}
	if d := p.Decide(in); d.Err == nil {
		t.Fatalf("%+v", d)
	}
	e.deadline = time.Minute
	if d := p.Decide(in); !d.Allow {
		t.Errorf("%+v", d)
	}
}

// TestPrograms: equal modules share a compiled form, and one that no policy
// uses is let go.
func TestPrograms(t *testing.T) {
	e := testEngine(t, patient)
	p, _ := e.Compile(adversarialModule(`allow := true`))
	q, _ := e.Compile(adversarialModule(`allow := true`))
	if p.own != q.own || &p.cache == &q.cache {
		t.Error("equal modules are compiled twice, or decisions shared")
	}
	if r, _ := e.Compile(adversarialModule(`allow := false`)); r.own == p.own {
		t.Error("different modules share a program")
	}
	runtime.KeepAlive(p)
	runtime.KeepAlive(q)
	p, q = nil, nil
	for range 100 { // cleanups run some time after a collection
		runtime.GC()
		runtime.Gosched()
		e.compiled.mu.Lock()
		n := len(e.compiled.contents) + len(e.compiled.ring) + e.compiled.total
		e.compiled.mu.Unlock()
		if n == 0 {
			return
		}
	}
	t.Error("programs without a policy are kept")
}

func TestBudget(t *testing.T) {
	b := &budget{steps: 10, deadline: time.Now().Add(time.Hour)}
	for i := range 10 {
		if b.Cancelled() {
			t.Fatalf("cut at step %d", i)
		}
	}
	if first, again := b.Cancelled(), b.Cancelled(); !first || !again {
		t.Error("more steps than there were")
	}
	b = &budget{steps: 5000, patient: 3, deadline: time.Now()}
	for range 3 {
		if b.Cancelled() {
			t.Error("the deadline counted too early")
		}
	}
	for range 2 * clockSteps {
		b.Cancelled()
	}
	if !b.Cancelled() {
		t.Error("the deadline was not seen")
	}
}
