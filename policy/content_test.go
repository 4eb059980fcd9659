package policy

import (
	"flag"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// The long form: go test ./policy -run TestTenants -v -tenants 100000.
var tenants = flag.Int("tenants", 1000, "tenants that TestTenants compiles")

// ownModule is the module of tenant i: the size of a small real one.
func ownModule(i int) string {
	return fmt.Sprintf(`package gatehouse.tenant

default allow := false

owner := "user-%d"

allow if input.principal.id == owner

allow if {
	input.request.method in {"GET", "HEAD"}
	some role in input.principal.roles
	role in readers
}

allow if {
	input.request.segments[0] == "projects"
	input.request.segments[1] in input.principal.groups
	input.features.collaboration
}

readers := {"viewer", "editor", "team-%d"}

reason := sprintf("%%s is not for you", [input.request.path]) if not allow

public := true
`, i, i)
}

func (s *compiled) state() (resident, bytes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.ring {
		if c := r.content.Value(); c != nil && c.program.Load() != nil {
			resident++
		}
	}
	return resident, s.total
}

// TestCold: what is over the limit is let go, the least used first, and
// compiled again when it is needed.
func TestCold(t *testing.T) {
	c := patient
	c.CompiledBytes = 1 // keeps one
	e := testEngine(t, c)
	var ps []*Policy
	for i := range 3 {
		p, faults := e.Compile(tenantModules(ownModule(i)))
		if p == nil {
			t.Fatal(faults)
		}
		ps = append(ps, p)
	}
	for range 2 {
		for i, p := range ps {
			for k, other := range ps {
				who := NewPrincipal("user", fmt.Sprint("user-", i), "acme", nil, nil, nil, nil)
				in := &Input{Tenant: "acme", Auth: "required", Method: []byte("PUT"), Path: []byte("/"), Principal: who}
				if d := other.evaluate(in); d.Err != nil || d.Allow != (i == k) {
					t.Errorf("policy %d, user %d: %+v", k, i, d)
				}
			}
			if n, _ := e.compiled.state(); n != 1 {
				t.Errorf("%d programs are kept", n)
			}
			p.evaluate(&Input{Auth: "none"})
			if p.own.program.Load() == nil {
				t.Error("the program just used is not kept")
			}
		}
	}
	runtime.KeepAlive(ps)
}

// TestUsedPrograms: of two that fit, the one in use stays when a third comes.
func TestUsedPrograms(t *testing.T) {
	e := testEngine(t, patient)
	var ps []*Policy
	add := func() *Policy {
		p, faults := e.Compile(tenantModules(ownModule(len(ps))))
		if p == nil {
			t.Fatal(faults)
		}
		ps = append(ps, p)
		return p
	}
	used, idle := add(), add()
	e.compiled.limit = 2*used.own.size + used.own.size/2
	for range 3 {
		used.own.used.Store(false)
		idle.own.used.Store(false)
		used.evaluate(&Input{Auth: "none"})
		last := add()
		if used.own.program.Load() == nil || idle.own.program.Load() != nil || last.own.program.Load() == nil {
			t.Error("not the idle one was let go")
		}
		idle = last
	}
	runtime.KeepAlive(ps)
}

// TestColdCompilesOnce: requests that meet cold modules together wait for one
// compilation.
func TestColdCompilesOnce(t *testing.T) {
	e := testEngine(t, patient)
	p, faults := e.Compile(tenantModules(ownModule(1)))
	if p == nil {
		t.Fatal(faults)
	}
	p.own.program.Store(nil)
	p.own.mu.Lock()
	const n = 8
	programs := make([]*program, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { programs[i], _ = e.programOf(p.own) })
	}
	p.own.mu.Unlock()
	wg.Wait()
	for _, prog := range programs {
		if prog == nil || prog != programs[0] {
			t.Errorf("compiled more than once: %p, %p", prog, programs[0])
		}
	}
	if n := len(e.compiled.ring); n != 1 {
		t.Errorf("counted %d times", n)
	}
}

// TestTenants: one in ten with modules of its own, the others with one of 20
// that they share. The bounds are far: the long form is for reading.
func TestTenants(t *testing.T) {
	e := testEngine(t, patient)
	before := heap()
	var took, cold []time.Duration
	ps := make([]*Policy, *tenants)
	for i := range ps {
		k := -(i % 20)
		if i%10 == 0 {
			k = 1 + i
		}
		start := time.Now()
		p, faults := e.Compile(tenantModules(ownModule(k)))
		if p == nil {
			t.Fatal(faults)
		}
		took = append(took, time.Since(start))
		ps[i] = p
	}
	compiled := heap()
	resident, bytes := e.compiled.state()
	if bytes > e.compiled.limit {
		t.Errorf("%d bytes of programs, limit %d", bytes, e.compiled.limit)
	}
	for i, p := range ps {
		id := fmt.Sprint("user-", 1+i)
		if i%10 != 0 {
			id = fmt.Sprint("user-", -(i % 20))
		}
		in := &Input{
			Tenant: "acme", Auth: "required", Method: []byte("PUT"), Path: []byte("/x"),
			Principal: NewPrincipal("user", id, "acme", nil, nil, nil, nil),
		}
		start := time.Now()
		if d := p.Decide(in); !d.Allow || d.Err != nil {
			t.Fatalf("tenant %d: %+v", i, d)
		}
		cold = append(cold, time.Since(start))
	}
	served := heap()
	perProgram := 0
	if resident > 0 {
		perProgram = int(compiled-before) / resident
	}
	t.Logf("%d tenants, %d programs kept of %d (estimated %d KiB each, measured %d KiB with the policies)",
		len(ps), resident, len(ps)/10+20, bytes/max(1, resident)/1024, perProgram/1024)
	t.Logf("heap: %d MiB compiled, %d MiB after one decision of each", (compiled-before)>>20, (served-before)>>20)
	t.Logf("compile p50 %v p99 %v; first decision p50 %v p99 %v", quantile(took, 0.5), quantile(took, 0.99), quantile(cold, 0.5), quantile(cold, 0.99))
	if q := quantile(took, 0.99); q > time.Second {
		t.Errorf("compiling takes %v at the 99th percentile", q)
	}
	runtime.KeepAlive(ps)
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func quantile(ds []time.Duration, q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(ds))
	return sorted[int(q*float64(len(sorted)-1))]
}

// TestSlowCompile: compilation ends when its time is over.
func TestSlowCompile(t *testing.T) {
	c := patient
	e := testEngine(t, c)
	e.compileTime = time.Nanosecond
	p, faults := e.Compile(tenantModules(ownModule(1)))
	if p != nil || len(faults) != 1 || !strings.Contains(faults[0].Reason, "compiling takes longer than 1ns") {
		t.Errorf("%v", faults)
	}
}
