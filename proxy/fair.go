package proxy

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// gate holds the requests of one tenant that are in flight, so that a tenant
// with a hanging backend, or a flood, runs out of its own room and not of
// everyone's. Those beyond the bound wait in a queue, in order.
type gate struct {
	bound    int64
	queue    int
	inFlight atomic.Int64 // never above bound; a place is taken by adding to it
	waiters  atomic.Int32 // len(waiting); read without mu by those who leave

	mu      sync.Mutex
	waiting []chan struct{} // guarded by mu; each is closed when a place is its own
}

func newGate(b *TenantBounds) *gate { return &gate{bound: int64(b.Requests), queue: b.Queue} }

// tryEnter takes a place if one is free.
func (g *gate) tryEnter() bool {
	for {
		n := g.inFlight.Load()
		if n >= g.bound {
			return false
		}
		if g.inFlight.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// enter takes a place, waiting for it up to wait. It reports whether it has one.
func (g *gate) enter(wait time.Duration) bool {
	if g.waiters.Load() == 0 && g.tryEnter() {
		return true
	}
	g.mu.Lock()
	if len(g.waiting) >= g.queue {
		g.mu.Unlock()
		return false
	}
	mine := make(chan struct{})
	g.waiting = append(g.waiting, mine)
	g.waiters.Add(1)
	g.serve() // a place may have become free since it was looked for
	g.mu.Unlock()

	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	select {
	case <-mine:
		return true
	case <-timeout.C:
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	i := slices.Index(g.waiting, mine)
	if i < 0 {
		return true // it came with the timeout
	}
	g.waiting = slices.Delete(g.waiting, i, i+1)
	g.waiters.Add(-1)
	return false
}

// serve gives free places to those who wait longest. The caller holds mu.
func (g *gate) serve() {
	for len(g.waiting) > 0 && g.tryEnter() {
		close(g.waiting[0])
		g.waiting = slices.Delete(g.waiting, 0, 1)
		g.waiters.Add(-1)
	}
}

// leave gives a place back.
func (g *gate) leave() {
	g.inFlight.Add(-1)
	if g.waiters.Load() > 0 {
		g.mu.Lock()
		g.serve()
		g.mu.Unlock()
	}
}

// admit takes the request's place among its tenant's.
func (x *Exchange) admit() error {
	s := x.table.slot
	if !s.gate.enter(x.gateway.cfg.Limits.PerTenant.Wait.Or(0)) {
		return refuse(gatehouse.CodeTenantBusy, "this tenant has as many requests in flight as it may")
	}
	x.admitted = s.gate
	return nil
}

// leaveTunnels gives back the place among the tenant's tunnels.
func (x *Exchange) leaveTunnels() {
	if x.tunneled {
		x.tunneled = false
		x.table.slot.tunnels.Add(-1)
	}
}

// depart gives the place back. A tunnel keeps the one it has among tunnels.
func (x *Exchange) depart() {
	if x.admitted != nil {
		x.admitted.leave()
		x.admitted = nil
	}
}
