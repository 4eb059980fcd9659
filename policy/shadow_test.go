package policy

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func noMask(tb testing.TB) *Mask {
	tb.Helper()
	m, err := NewMask(nil)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

// TestShadow: what is counted and kept; the request's memory is the caller's
// again at once, and Run leaves no goroutine.
func TestShadow(t *testing.T) {
	e := testEngine(t, patient)
	active := compiledFrom(t, e, `allow if input.request.method == "GET"`)
	draft := compiledFrom(t, e, `allow if { input.request.method == "GET"; input.request.headers["x-team"] == "blue" }
allow := false if input.request.path == "/conflict"
reason := sprintf("%s %s", [input.request.headers.authorization, input.request.headers["x-team"]])`)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		ss := NewShadows(ShadowConfig{})
		done := make(chan error)
		go func() { done <- ss.Run(ctx) }()
		s := ss.Shadow("acme", active, draft, noMask(t))
		observe := func(method, path, team string) {
			in := richInput()
			in.Method, in.Path = []byte(method), []byte(path)
			value := []byte(team)
			in.Headers = bytesHeader{[]byte("X-Team"), value, []byte("X-Other"), []byte("not copied"), []byte("Authorization"), []byte("secret")}
			d := active.Decide(in)
			s.Observe(in, &d)
			clear(value)
			clear(in.Method)
			clear(in.Path)
			synctest.Wait()
		}
		for range 3 {
			observe("GET", "/a", "blue")
		}
		observe("GET", "/b", "red")
		observe("PUT", "/b", "blue")
		observe("GET", "/conflict", "blue")
		r := s.Report()
		var got strings.Builder
		fmt.Fprintf(&got, "same %d different %d failed %d dropped %d\n", r.Same, r.Different, r.Failed, r.Dropped)
		for _, c := range r.Changes {
			doc, err := c.Entry.document()
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(&got, doc["request"], c.Old.Allow, c.New.Allow, c.New.Reason, c.Entry.Replayable, c.Entry.Tenant)
		}
		// The draft's reason may repeat a credential: it is not kept.
		const want = `same 3 different 2 failed 1 dropped 0
map[headers:map[x-team:red] method:GET path:/b] true false  false acme
map[headers:map[x-team:blue] method:PUT path:/b] false false  false acme
map[headers:map[x-team:blue] method:GET path:/conflict] true false  false acme
`
		if got.String() != want {
			t.Errorf("got %s\nwant %s", got.String(), want)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	var none *Shadow
	none.Observe(richInput(), &Decision{})
}

type bytesHeader [][]byte

func (h bytesHeader) Len() int { return len(h) / 2 }

func (h bytesHeader) At(i int) (name, value []byte) { return h[2*i], h[2*i+1] }

func inBytes(h Fields) Fields {
	var out bytesHeader
	for i := range h.Len() {
		name, value := h.At(i)
		out = append(out, name, value)
	}
	return out
}

// TestShadowReport compares the picture of one difference.
func TestShadowReport(t *testing.T) {
	e := testEngine(t, patient)
	active, draft := compiledFrom(t, e, `allow if input.request.method == "GET"`), compiledFrom(t, e, "allow if input.plan == \"x\"\nreason := \"plan\"")
	ss := NewShadows(ShadowConfig{})
	s := ss.Shadow("acme", active, draft, noMask(t))
	in := richInput()
	d := active.Decide(in)
	s.Observe(in, &d)
	sm := <-ss.queue
	s.decide(sm)
	ss.release(sm)
	r := s.Report()
	doc, err := r.Changes[0].Entry.document()
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintln(doc, r.Changes[0].Old.Allow, r.Changes[0].New.Allow, r.Changes[0].New.Reason)
	want := `map[auth:required plan:gold principal:map[claims:map[email:secret11 list:[secret12] n:1] groups:[] id:bob kind:user roles:[r] scopes:[] tenant:acme] request:map[method:GET] tenant:acme] true false plan
`
	if got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}

	// Of many, as many are kept as there are places.
	few := NewShadows(ShadowConfig{Keep: 2})
	s = few.Shadow("acme", active, draft, noMask(t))
	for i := range 100 {
		in.Plan = fmt.Sprint(i)
		s.Observe(in, &d)
		sm := <-few.queue
		s.decide(sm)
		few.release(sm)
	}
	if r := s.Report(); len(r.Changes) != 2 || r.Different != 100 || r.Changes[0].Entry.Input().Plan == "0" && r.Changes[1].Entry.Input().Plan == "1" {
		t.Errorf("%d different, kept %+v", r.Different, r.Changes)
	}
}

// TestShadowQueue: nobody waits, and one tenant takes a quarter.
func TestShadowQueue(t *testing.T) {
	e := testEngine(t, patient)
	p := compiledFrom(t, e, `allow := true`)
	ss := NewShadows(ShadowConfig{Queue: 8})
	a, b := ss.Shadow("a", p, p, noMask(t)), ss.Shadow("b", p, p, noMask(t))
	in := richInput()
	d := p.Decide(in)
	for range 10 {
		a.Observe(in, &d)
		b.Observe(in, &d)
	}
	if a.Report().Dropped != 8 || b.Report().Dropped != 8 || len(ss.queue) != 4 {
		t.Errorf("%+v %+v %d", a.Report(), b.Report(), len(ss.queue))
	}
	for range 4 {
		sm := <-ss.queue
		sm.shadow.decide(sm)
		ss.release(sm)
	}
	a.Observe(in, &d) // is kept by now
	if r := a.Report(); r.Same != 3 || r.Dropped != 8 || len(ss.free) != 8 || a.waiting.Load() != 0 {
		t.Errorf("%+v, %d are free", r, len(ss.free))
	}
}

func TestShadowRest(t *testing.T) {
	for share, want := range map[int]time.Duration{10: 9 * time.Millisecond, 50: time.Millisecond, 100: 0, 1000: 0} {
		if got := NewShadows(ShadowConfig{Share: share}).rest(time.Millisecond); got != want {
			t.Errorf("share %d: %v", share, got)
		}
	}
}

// TestShadowCopiesEnough: the copy of what is read is decided as the input is.
func TestShadowCopiesEnough(t *testing.T) {
	e := testEngine(t, patient)
	r := rand.New(rand.NewPCG(12, 12))
	ss := NewShadows(ShadowConfig{})
	active := compiledFrom(t, e, `allow := true`)
	n := 0
	check := func(source string) {
		draft, _ := e.Compile(tenantModules(source))
		if draft == nil {
			return
		}
		n++
		for range 10 {
			in := randomInput(r)
			d := active.Decide(in)
			s := ss.Shadow("acme", active, draft, noMask(t))
			s.Observe(in, &d)
			sm := <-ss.queue
			want := draft.evaluate(in)
			clear(in.Method)
			if got := s.draft.Decide(&sm.in); !got.Equal(want) {
				t.Fatalf("%s\n%+v\n got %+v\nwant %+v", source, sm.in, got, want)
			}
			ss.release(sm)
		}
	}
	for n < 15 {
		check((&modules{r: r}).source())
	}
	for _, rules := range slices.Concat(adversarial, coarse) {
		check("package gatehouse.tenant\n" + rules + "\n")
	}
}

// TestObserveAllocatesNothing once a sample has the memory that it needs.
func TestObserveAllocatesNothing(t *testing.T) {
	e := testEngine(t, patient)
	c := patient
	c.CacheEntries = -1
	active := compiledFrom(t, e, `allow := true`)
	draft := compiledFrom(t, testEngine(t, c), `allow if input.request.headers["x-a"] == input.request.path`)
	seen := compiledFrom(t, e, `allow if input.request.headers["x-a"] == input.request.path`)
	ss := NewShadows(ShadowConfig{Queue: 4})
	in := richInput()
	in.Headers = bytesHeader{[]byte("X-A"), []byte("1")}
	d := active.Decide(in)
	s := ss.Shadow("acme", active, draft, noMask(t))
	if n := testing.AllocsPerRun(100, func() {
		s.Observe(in, &d)
		ss.release(<-ss.queue)
	}); n != 0 {
		t.Errorf("%v allocations for one that is not kept", n)
	}
	s = ss.Shadow("acme", active, seen, noMask(t))
	s.draft.Decide(in)
	no := s.draft.Decide(in)
	if n := testing.AllocsPerRun(100, func() { s.Observe(in, &no) }); n != 0 {
		t.Errorf("%v allocations for one that is kept", n)
	}
}

func BenchmarkObserve(b *testing.B) {
	e := testEngine(b, patient)
	active := compiledFrom(b, e, `allow if input.request.method == "GET"`)
	draft := compiledFrom(b, e, `allow if { input.request.headers["x-a"] == "1"; input.request.path == "/a"; input.principal.claims.n == 1 }`)
	in := richInput()
	in.Headers = inBytes(in.Headers)
	d := active.Decide(in)
	ss := NewShadows(ShadowConfig{})
	f := func(name string, s *Shadow, after func()) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.Observe(in, &d)
				after()
			}
		})
	}
	f("none", nil, func() {})
	f("queued", ss.Shadow("acme", active, draft, noMask(b)), func() { ss.release(<-ss.queue) })
	kept := ss.Shadow("acme", active, active, noMask(b))
	kept.draft.Decide(in)
	f("seen", kept, func() {})
	full := ss.Shadow("acme", active, draft, noMask(b))
	for range ss.perShadow {
		full.Observe(in, &d)
	}
	f("dropped", full, func() {})
}
