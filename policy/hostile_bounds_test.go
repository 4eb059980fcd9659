package policy_test

import (
	"flag"
	"maps"
	"runtime/metrics"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse/policy"
)

// The long form wants an idle machine:
// go test ./policy -run 'TestHostileBounds|TestNeighbour' -v -idle.
var idle = flag.Bool("idle", false, "hold times against their bounds as well")

const mostAllocated = 64 << 20

// allocated is what was allocated since the process began, freed or not: the
// difference of two is no less than the memory in use between them.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// TestHostileBounds: with the default budget each is cut within twice its
// deadline, and allocates no more than 64 MiB.
func TestHostileBounds(t *testing.T) {
	modules := hostile()
	if len(modules) < 25 {
		t.Errorf("%d modules", len(modules))
	}
	e := engine(t, policy.Config{})
	in := salary()
	in.Path = []byte(strings.Repeat("a", 16))
	for _, name := range slices.Sorted(maps.Keys(modules)) {
		source := "package gatehouse.tenant\n" + modules[name]
		took, most := time.Hour, uint64(0)
		for range 5 { // the quickest is the one least disturbed
			p := compile(t, e, source)
			before, start := allocated(), time.Now()
			d := p.Decide(in)
			took = min(took, time.Since(start))
			most = max(most, allocated()-before)
			if d.Allow || d.Err == nil {
				t.Errorf("%s: %+v", name, d)
			}
		}
		t.Logf("%-22s cut after %8v, %5.1f MiB", name, took.Round(10*time.Microsecond), float64(most)/(1<<20))
		if most > mostAllocated {
			t.Errorf("%s: %d MiB", name, most>>20)
		}
		if *idle && took > 2*policy.DefaultDeadline {
			t.Errorf("%s: took %v", name, took)
		}
	}
}

// TestNeighbour: a tenant whose evaluations run out of budget does not make
// another's slower. Two goroutines send requests to the hostile one as fast
// as they can; the other's requests are new each time.
func TestNeighbour(t *testing.T) {
	e := engine(t, policy.Config{})
	rules := hostile()
	hostiles := []*policy.Policy{
		compile(t, e, "package gatehouse.tenant\n"+rules["cross product"]),
		compile(t, e, "package gatehouse.tenant\n"+rules["hashes in loops"]),
	}
	other := compile(t, e, httpExample)
	rounds := 200
	if *idle {
		rounds = 200_000
	}
	measure := func() time.Duration {
		took := make([]time.Duration, rounds)
		other.KeepNone()
		in := salary()
		for i := range took {
			start := time.Now()
			d := other.Decide(in)
			took[i] = time.Since(start)
			if !d.Allow {
				t.Fatalf("%+v", d)
			}
		}
		slices.Sort(took)
		return took[len(took)*99/100]
	}
	measure() // warm
	alone := measure()
	done := make(chan struct{})
	var wg sync.WaitGroup
	for _, p := range hostiles {
		wg.Go(func() {
			in := salary()
			pause := time.NewTicker(100 * time.Microsecond) // 10,000 requests a second
			defer pause.Stop()
			for {
				select {
				case <-done:
					return
				case <-pause.C:
					if d := p.Decide(in); d.Err == nil {
						t.Errorf("%+v", d)
						return
					}
				}
			}
		})
	}
	beside := measure()
	close(done)
	wg.Wait()
	t.Logf("p99 alone %v, beside two hostile tenants %v", alone, beside)
	if *idle && beside > alone+alone/10 {
		t.Errorf("moved by more than a tenth")
	}
}
