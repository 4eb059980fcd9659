package proxy

import "time"

// prefetch reads what a request will need of its tenant before it is needed,
// and side by side: lines that are far away are then fetched together, where
// the phases would wait for one after the other. The sum keeps the compiler
// from leaving the reads out. All that is read is immutable or atomic.
func (t *table) prefetch() uint64 {
	sum := uint64(t.slot.gate.inFlight.Load()) + uint64(len(t.id)) + uint64(len(t.features)) +
		t.router.Prefetch() + t.verifier.Prefetch() + t.signer.Prefetch() + t.policy.Prefetch()
	if t.meter != nil {
		sum += t.meter.Prefetch()
	}
	if len(t.routes) == 1 {
		sum += t.routes[0].prefetch()
	}
	return sum
}

// prefetch is that of what belongs to the route.
func (r *routeTable) prefetch() uint64 {
	sum := uint64(len(r.any)) + uint64(len(r.fields.policy)) + r.stack.Prefetch() + r.backend.Prefetch()
	if cells := r.tally.cells.Load(); cells != nil {
		if c := cells[2].Load(); c != nil { // GET, 2xx
			sum += uint64(c.in.Load()) + uint64(c.times[bucketOf(2*time.Millisecond)].Load())
		}
	}
	return sum
}
