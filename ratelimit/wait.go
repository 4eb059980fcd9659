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
	counted []*limit // whose places were all taken when it came
	granted chan struct{}
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

// join puts a request at the end of the queue. l.mu is held.
func (l *Local) join(s *Stack) *waiter {
	w := &waiter{stack: s, granted: make(chan struct{})}
	for _, lim := range s.limits {
		if lim.places() < 1 {
			w.counted = append(w.counted, lim)
			lim.waiting++
			if lim.remote {
				l.hold(lim.one)
			}
		}
	}
	l.queue = append(l.queue, w)
	return w
}

// leave takes w out of the queue; it reports false where it has been granted
// its places already. l.mu is held.
func (l *Local) leave(w *waiter) bool {
	i := slices.Index(l.queue, w)
	if i < 0 {
		return false
	}
	l.remove(i)
	return true
}

func (l *Local) remove(i int) {
	for _, lim := range l.queue[i].counted {
		lim.waiting--
	}
	l.queue = slices.Delete(l.queue, i, i+1)
}

// serve gives free places to those who wait longest. One that waits for a
// place of another limit is passed over and keeps its turn: it is served
// first once there are places in all of its limits. l.mu is held.
func (l *Local) serve() {
	for i := 0; i < len(l.queue); {
		w := l.queue[i]
		if !slices.ContainsFunc(w.stack.limits, func(lim *limit) bool { return lim.places() < 1 }) {
			w.stack.enter()
			close(w.granted)
			l.remove(i)
			continue
		}
		i++
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

// settlePlaces lets others have the places that have become free. l.mu is
// held.
func (s *Stack) settlePlaces(now time.Time) {
	l := s.local
	if len(l.queue) > 0 {
		l.serve()
	}
	for _, lim := range s.limits {
		if lim.remote && lim.spec.facts.Kind == Concurrency {
			if lim.spec.lease() {
				lim.one.shared.until = now.Add(hold)
				l.hold(lim.one)
			}
			l.tend(lim.one, now, false, false)
		}
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
	return len(l.queue)
}
