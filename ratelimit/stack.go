package ratelimit

import (
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// Never is a Retry that no wait satisfies: the cost exceeds the whole limit.
const Never = time.Duration(math.MaxInt64)

// busyRetry is the advice where only the end of another request helps.
const busyRetry = time.Second

// Values reads the selected values of one request.
type Values interface {
	// Value returns the value and whether the request has it. The bytes are
	// only read before Take or Levels returns. It must not block and must not
	// use the tenant's limits.
	Value(gatehouse.Selector) ([]byte, bool)
}

// Request is what a stack needs to know about one request.
type Request struct {
	// Now should carry a monotonic reading, as time.Now gives it. A Now that
	// lies before the latest one seen by the tenant counts as that one.
	Now time.Time
	// Cost is the units taken from each rate and quota; below 1 it counts as
	// 1. Concurrency and users take one place whatever the cost.
	Cost int64
	// Values serves the `by` selectors. With nil, every value is absent.
	// Requests without a value share one count.
	Values Values
	// Principal tells users apart for max_concurrent_users. Requests without
	// one count as one user.
	Principal []byte
}

// Verdict is the answer of a stack.
type Verdict struct {
	// Allowed: every limit was charged. Else none was.
	Allowed bool
	// Binding is the limit that refused; among several, the one with the
	// longest Retry, an exhausted rate or quota before a lack of capacity.
	// When allowed it is the rate or quota with the least share left, and nil
	// in a stack without one.
	Binding *Limit
	// Remaining is what Binding has left after this request, in units.
	Remaining int64
	// Reset is the time until Binding has more to give: the next unit of a
	// rate, the end of a quota's window. 0 when it is full.
	Reset time.Duration
	// Retry is the time after which the same request passes if no other comes
	// in between; 0 when allowed. It is never less than Reset. For capacity
	// it is advice.
	Retry time.Duration
}

// Code returns CodeQuotaExceeded or CodeReducedCapacity for a refusal, and ""
// when allowed.
func (v *Verdict) Code() gatehouse.Code {
	switch {
	case v.Allowed:
		return ""
	case v.Binding.Kind.Capacity():
		return gatehouse.CodeReducedCapacity
	}
	return gatehouse.CodeQuotaExceeded
}

// Stack is a compiled stack of limits over one tenant's state. It is
// immutable and safe for concurrent use. A stack that was compiled before a
// limit changed holds requests to the limit as it is now, and no longer holds
// them to a limit that Retain dropped.
type Stack struct {
	local  *Local
	limits []*limit
	// places[i] is the index in selects of the values that limits[i] counts
	// by; -1 without.
	places  []int
	selects [][]gatehouse.Selector
	facts   []Limit
	hasUser bool
	tickets bool // some limit has places to give back
}

// Limits returns the limits in stack order as they were compiled. The slice
// must not be changed.
func (s *Stack) Limits() []Limit { return s.facts }

// Ticket holds the places that one request takes in limits of concurrency and
// users. The zero value is empty and ready; it must not be copied.
type Ticket struct {
	// held is the stack to give back to, nil when nothing is held. Whoever
	// swaps it to nil gives back, so that it happens once.
	held atomic.Pointer[Stack]
	user digest
}

// Take charges every limit, or none. It fills t, which must be empty or done,
// when it allows the request; the caller then calls t.Done when the request
// has ended, on every path. It panics if t still holds places. It does not
// allocate once each counted value and user has been seen.
func (s *Stack) Take(r *Request, t *Ticket) Verdict {
	if t.held.Load() != nil {
		panic("ratelimit: ticket is still held")
	}
	if len(s.limits) == 0 {
		return Verdict{Allowed: true}
	}
	var keyBuf [8]digest
	var stateBuf [8]*cell
	keys := s.digests(keyBuf[:0], r)
	var user digest
	if s.hasUser {
		user = s.local.digestUser(r.Principal)
	}
	cost := max(r.Cost, 1)

	l := s.local
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.advance(r.Now)
	l.table.turn++
	var d decision
	cells := stateBuf[:0]
	for i, lim := range s.limits {
		var c *cell
		if !lim.dropped {
			var key digest
			if p := s.places[i]; p >= 0 {
				key = keys[p]
			}
			c = lim.check(&d, now, cost, key, user, r.Values)
		}
		cells = append(cells, c)
	}
	if d.refusedBy != nil {
		return d.refusal()
	}
	for i, lim := range s.limits {
		if !lim.dropped {
			lim.charge(cells[i], now, cost, user)
		}
	}
	if s.tickets {
		t.user = user
		t.held.Store(s)
	}
	return d.admission(now)
}

// Done gives the places back. It does nothing on an empty ticket, and may be
// called more than once and from any goroutine. The ticket can be used again.
func (t *Ticket) Done(now time.Time) {
	s := t.held.Swap(nil)
	if s == nil {
		return
	}
	l := s.local
	l.mu.Lock()
	defer l.mu.Unlock()
	now = l.advance(now)
	for _, lim := range s.limits {
		lim.release(now, t.user)
	}
}

// Level is where a limit stands.
type Level struct {
	Limit *Limit
	// Used and Remaining are units; requests or users for capacity. Of a
	// limit `by` value they belong to the request's own value.
	Used, Remaining int64
	// Reset is as in Verdict.
	Reset time.Duration
	// Keys is the number of values counted apart, for a limit `by` value.
	Keys int
}

// Levels appends the level of each limit that still stands, in stack order,
// and charges nothing.
func (s *Stack) Levels(dst []Level, r *Request) []Level {
	dst = slices.Grow(dst, len(s.limits))
	keys := s.digests(nil, r)
	l := s.local
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.advance(r.Now)
	for i, lim := range s.limits {
		if lim.dropped {
			continue
		}
		var key digest
		if p := s.places[i]; p >= 0 {
			key = keys[p]
		}
		dst = append(dst, lim.level(now, key))
	}
	return dst
}
