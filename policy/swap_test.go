package policy

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestSwap pushes one tenant's policy again and again, while the others'
// requests are decided. The long form paces it at ten a second, and is for
// reading: go test ./policy -run TestSwap -v -tenants 100000.
func TestSwap(t *testing.T) {
	e := testEngine(t, patient)
	live := make([]atomic.Pointer[Policy], *tenants)
	for i := range live {
		k := -(i % 20)
		if i%10 == 0 {
			k = 1 + i
		}
		live[i].Store(compiledFromSource(t, e, ownModule(k)))
	}
	pushes, rounds := 20, 2000
	long := *tenants > 1000
	if long {
		pushes, rounds = 100, 400_000
	}
	r := rand.New(rand.NewPCG(3, 3))
	who := NewPrincipal("user", "user-0", "acme", []string{"viewer"}, nil, nil, nil)
	// Each request is of a tenant chosen among 500, half of them new.
	others := func(until func() bool) []time.Duration {
		var took []time.Duration
		for i := 0; !until() || len(took) < rounds; i++ {
			in := &Input{Tenant: "acme", Auth: "required", Method: []byte("GET"), Path: []byte("/x"), Principal: who}
			if i%2 == 0 {
				in.Path = fmt.Appendf(nil, "/projects/%d", i)
			}
			p := live[1+r.IntN(min(500, *tenants-1))].Load()
			start := time.Now()
			d := p.Decide(in)
			took = append(took, time.Since(start))
			if d.Err != nil {
				t.Fatalf("%+v", d)
			}
		}
		return took
	}
	others(func() bool { return true }) // warm
	alone := others(func() bool { return true })
	var pushed []time.Duration
	var over atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		defer over.Store(true)
		pace := time.NewTicker(100 * time.Millisecond)
		defer pace.Stop()
		for i := range pushes {
			if long {
				<-pace.C
			}
			start := time.Now()
			id := fmt.Sprintf("user-%d", 1_000_000+i)
			p, faults := e.Compile(tenantModules(ownModule(1_000_000 + i)))
			if p == nil {
				t.Error(faults)
				return
			}
			live[0].Store(p)
			in := &Input{Tenant: "acme", Auth: "required", Method: []byte("PUT"), Path: []byte("/x"), Principal: NewPrincipal("user", id, "acme", nil, nil, nil, nil)}
			if d := live[0].Load().Decide(in); !d.Allow {
				t.Errorf("push %d is not live: %+v", i, d)
			}
			pushed = append(pushed, time.Since(start))
		}
	})
	beside := others(over.Load)
	wg.Wait()
	t.Logf("%d tenants: push to live p50 %v p99 %v; others' p99 %v alone, %v beside (p50 %v, %v)", *tenants,
		quantile(pushed, 0.5), quantile(pushed, 0.99), quantile(alone, 0.99), quantile(beside, 0.99), quantile(alone, 0.5), quantile(beside, 0.5))
	if q := quantile(pushed, 0.99); q > time.Second {
		t.Errorf("a push takes %v at the 99th percentile", q)
	}
}

func compiledFromSource(tb testing.TB, e *Engine, source string) *Policy {
	tb.Helper()
	p, faults := e.Compile(tenantModules(source))
	if p == nil {
		tb.Fatal(faults)
	}
	return p
}
