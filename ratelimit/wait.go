package ratelimit

import (
	"slices"
	"time"
)

// gonePoll is how often a request that waits is asked for its client.
const gonePoll = 50 * time.Millisecond

// waiter is a request that waits for a place in every limit of concurrency of
// its stack; Local.mu guards it.
type waiter struct {
	stack   *Stack
	number  uint64   // those that came before have a lower one
	counted []*limit // whose places were all taken when it came
	granted chan struct{}
	// at is the limit in whose queue it stands, the first without a place;
	// nil once it has left.
	at *limit
}

// mayWait reports whether every limit without room lets the request wait.
func (l *Local) mayWait(s *Stack) bool {
	for _, lim := range s.limits {
		if lim.places() < 1 && (lim.spec.wait <= 0 || lim.waiting >= lim.spec.maxWaiting) {
			return false
		}
	}
	return true
}

// places returns how many more requests lim can take at once; other kinds
// than concurrency any number.
func (lim *limit) places() int64 {
	switch {
	case lim.dropped || lim.spec.facts.Kind != Concurrency:
		return 1
	case lim.remote:
		return int64(len(lim.one.shared.ids)) - lim.inFlight
	}
	return lim.spec.facts.Quota - lim.inFlight
}

// full returns the first limit of the stack without a place, nil for none.
func (s *Stack) full() *limit {
	for _, lim := range s.limits {
		if lim.places() < 1 {
			return lim
		}
	}
	return nil
}

// join makes a request wait. l.mu is held.
func (l *Local) join(s *Stack) *waiter {
	l.came++
	w := &waiter{stack: s, number: l.came, granted: make(chan struct{})}
	for _, lim := range s.limits {
		if lim.places() < 1 {
			w.counted = append(w.counted, lim)
			lim.waiting++
			if lim.remote {
				l.hold(lim.one)
			}
		}
	}
	l.waiting++
	if lim := s.full(); lim != nil {
		l.line(w, lim)
	} else {
		l.grant(w) // places went back on the way here
	}
	return w
}

// line puts w into the queue of lim, at its turn.
func (l *Local) line(w *waiter, lim *limit) {
	w.at = lim
	if len(lim.queue) == 0 {
		l.queues = append(l.queues, lim)
	}
	i, _ := slices.BinarySearchFunc(lim.queue, w.number, (*waiter).compare)
	lim.queue = slices.Insert(lim.queue, i, w)
}

func (w *waiter) compare(number uint64) int {
	switch {
	case w.number < number:
		return -1
	case w.number > number:
		return 1
	}
	return 0
}

// unline takes w out of the queue that it stands in.
func (l *Local) unline(w *waiter) {
	lim := w.at
	w.at = nil
	if i, ok := slices.BinarySearchFunc(lim.queue, w.number, (*waiter).compare); ok {
		lim.queue = slices.Delete(lim.queue, i, i+1)
	}
	if len(lim.queue) == 0 {
		l.queues = slices.DeleteFunc(l.queues, func(o *limit) bool { return o == lim })
	}
}

// leave makes w wait no more; it reports false where it has been granted its
// places already. l.mu is held.
func (l *Local) leave(w *waiter) bool {
	if w.at == nil {
		return false
	}
	l.unline(w)
	l.forget(w)
	return true
}

func (l *Local) forget(w *waiter) {
	l.waiting--
	for _, lim := range w.counted {
		lim.waiting--
	}
}

// grant gives w its places, which are free.
func (l *Local) grant(w *waiter) {
	w.stack.enter()
	l.forget(w)
	close(w.granted)
}

// serve gives free places to those who wait longest. l.mu is held.
func (l *Local) serve() {
	for i := 0; i < len(l.queues); {
		lim := l.queues[i]
		l.serveFor(lim)
		if i < len(l.queues) && l.queues[i] == lim {
			i++
		}
	}
}

// serveFor gives the free places of lim to those who wait longest for it. One
// that finds another limit full keeps its turn there: it is served first once
// there are places in all of its limits.
func (l *Local) serveFor(lim *limit) {
	for len(lim.queue) > 0 && lim.places() > 0 {
		w := lim.queue[0]
		l.unline(w)
		if next := w.stack.full(); next != nil {
			l.line(w, next)
			continue
		}
		l.grant(w)
	}
}

// enter takes a place in every limit of concurrency. l.mu is held.
func (s *Stack) enter() {
	for _, lim := range s.limits {
		if lim.spec.facts.Kind == Concurrency {
			lim.inFlight++
		}
	}
}

// quit gives back what enter took. l.mu is held.
func (s *Stack) quit(now time.Time) {
	for _, lim := range s.limits {
		if lim.spec.facts.Kind == Concurrency && lim.inFlight > 0 {
			lim.inFlight--
		}
	}
	s.settlePlaces(now)
}

// settlePlaces lets others have the places that have become free. Those of the
// store are handed on here for one turn; then they go back, for requests that
// wait at other gateways to have theirs. l.mu is held.
func (s *Stack) settlePlaces(now time.Time) {
	l := s.local
	for _, lim := range s.limits {
		if lim.spec.facts.Kind != Concurrency {
			continue
		}
		if lim.remote && lim.waiting > 0 && now.Sub(lim.one.shared.tenure) >= turn && l.shared.store.Gateways() > 1 {
			if free := lim.places(); free > 0 && !l.shared.store.Away(l.shard) {
				lim.one.shared.cede(free)
			}
		}
		l.serveFor(lim)
	}
	for _, lim := range s.limits {
		if !lim.remote || lim.spec.facts.Kind != Concurrency {
			continue
		}
		if lim.spec.lease() {
			lim.one.shared.until = now.Add(hold)
			l.hold(lim.one)
		}
		l.tend(lim.one, now, false, false)
	}
}

// await returns when w has its places, or the wait is over, or gone reports
// that nobody waits for the answer. It reports whether w has places.
func (l *Local) await(w *waiter, wait time.Duration, gone func() bool) bool {
	end := time.Now().Add(wait)
	step := wait
	if gone != nil {
		step = min(wait, gonePoll)
	}
	timer := time.NewTimer(step)
	defer timer.Stop()
	for {
		select {
		case <-w.granted:
			return true
		case <-timer.C:
		}
		left := time.Until(end)
		if left <= 0 || gone != nil && gone() {
			l.mu.Lock()
			defer l.mu.Unlock()
			return !l.leave(w)
		}
		timer.Reset(min(step, left))
	}
}

// Waiting returns how many requests wait for a place.
func (l *Local) Waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.waiting
}

// Overflowed returns how many requests were counted in an overflow count since
// the start, because all places for counts of their own were taken.
func (l *Local) Overflowed() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.overflowed
}
