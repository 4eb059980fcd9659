package proxy

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Those who wait get in, in order; those beyond the queue do not, and those
// who wait for too long do not.
func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(&TenantBounds{Requests: 1, Queue: 3})
		if !g.enter(0) {
			t.Fatal("a free place is not given")
		}
		var order []int
		var waiting sync.WaitGroup
		for i := range 3 {
			waiting.Go(func() {
				if g.enter(time.Duration(i+1) * time.Second) {
					order = append(order, i)
					g.leave()
				}
			})
			synctest.Wait()
		}
		if g.enter(time.Hour) {
			t.Error("one beyond the queue waited")
		}
		<-time.After(1500 * time.Millisecond) // the first has given up
		g.leave()
		waiting.Wait()
		if got := fmt.Sprint(order); got != "[1 2]" {
			t.Errorf("got in: %s", got)
		}
		if g.inFlight.Load() != 0 || g.waiters.Load() != 0 || len(g.waiting) != 0 {
			t.Errorf("left over: %d, %d, %d", g.inFlight.Load(), g.waiters.Load(), len(g.waiting))
		}
	})
}

// Never more than the bound are in, and no place is lost.
func TestGateUnderLoad(t *testing.T) {
	g := newGate(&TenantBounds{Requests: 3, Queue: 5})
	var in, most, entered int64
	var mu sync.Mutex
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for range 2000 {
				if !g.enter(time.Millisecond) {
					continue
				}
				mu.Lock()
				in++
				entered++
				most = max(most, in)
				mu.Unlock()
				mu.Lock()
				in--
				mu.Unlock()
				g.leave()
			}
		})
	}
	all.Wait()
	if most > 3 || entered == 0 || g.inFlight.Load() != 0 || g.waiters.Load() != 0 {
		t.Errorf("at most %d were in, of %d; %d in and %d waiting at the end", most, entered, g.inFlight.Load(), g.waiters.Load())
	}
}

func BenchmarkGate(b *testing.B) {
	g := newGate(&TenantBounds{Requests: 100, Queue: 10})
	b.ReportAllocs()
	for b.Loop() {
		g.enter(time.Second)
		g.leave()
	}
}
