package policy

import (
	"sync"
	"sync/atomic"
	"time"
)

// aside keeps a policy whose evaluations are cut from taking more than its
// share of the processors. Cuts within cutWindow of one another count
// together, whatever succeeds between them. From cutsAside on each sets the
// policy aside for asideFactor times what it took, on top of what is left: so
// evaluations that are cut take no more than a tenth of one core, however many
// of them run at once. It never grows beyond that: a policy that one caller can
// make costly denies the others no longer than for ten times what he spent.
type aside struct {
	// until is the instant, since Engine.start, before which nothing is tried.
	until atomic.Int64

	mu   sync.Mutex // guards what follows
	cuts int
	last time.Duration // instant of the last cut
}

const (
	cutWindow   = time.Minute
	cutsAside   = 3
	asideFactor = 9
	// minCut is what a cut counts for at least.
	minCut = 100 * time.Microsecond
)

func (a *aside) holds(e *Engine) bool {
	until := a.until.Load()
	return until != 0 && time.Since(e.start) < time.Duration(until)
}

// cut records an evaluation that was cut.
func (a *aside) cut(e *Engine, took time.Duration) Cut {
	took = max(took, minCut)
	now := time.Since(e.start)
	a.mu.Lock()
	defer a.mu.Unlock()
	if now-a.last > cutWindow {
		a.cuts = 0
	}
	a.cuts++
	a.last = now
	if a.cuts < cutsAside {
		return Cut{Took: took}
	}
	until := max(now, time.Duration(a.until.Load())) + asideFactor*took
	a.until.Store(int64(until))
	return Cut{Took: took, Aside: until - now}
}
