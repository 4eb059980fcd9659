package ratelimit

import (
	"errors"
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
	// Named are the limits that are OnDemand and asked for.
	Named []string
	// Gone is asked now and then, while the request waits for a place,
	// whether nobody waits for its answer any more. Nil: it is not known.
	Gone func() bool
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
	// Beyond is the first soft or overage quota that the request exceeds
	// although it is allowed; nil: none.
	Beyond *Limit
	// Over is how many units of the request lie beyond a quota of mode
	// overage, to be billed; and of requests before it that were served while
	// the store was away.
	Over int64
	// Away: the store could not be asked, and its limits were held to as
	// their Away says. Unasked: the refusal comes of that alone.
	Away, Unasked bool
}

// Code returns CodeQuotaExceeded or CodeReducedCapacity for a refusal, and ""
// when allowed.
func (v *Verdict) Code() gatehouse.Code {
	switch {
	case v.Allowed:
		return ""
	case v.Unasked || v.Binding.Kind.Capacity():
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
	bounded bool // some limit is of concurrency
}

// Limits returns the limits in stack order as they were compiled. The slice
// must not be changed.
func (s *Stack) Limits() []Limit { return s.facts }

// Unknown returns the first of names that no limit on demand of the stack has,
// "" for none.
func (s *Stack) Unknown(names []string) string {
	for _, name := range names {
		if !slices.ContainsFunc(s.facts, func(f Limit) bool { return f.OnDemand && f.Name == name }) {
			return name
		}
	}
	return ""
}

// Ticket holds the places that one request takes in limits of concurrency and
// users. The zero value is empty and ready; it must not be copied.
type Ticket struct {
	// held is the stack to give back to, nil when nothing is held. Whoever
	// swaps it to nil gives back, so that it happens once.
	held atomic.Pointer[Stack]
	user digest
	// alone are the limits, by bit, that the store does not know of. Three
	// scopes of twenty rules and their bounds are more than 64.
	alone [2]uint64
}

// Take charges every limit, or none. It fills t, which must be empty or done,
// when it allows the request; the caller then calls t.Done when the request
// has ended, on every path. It panics if t still holds places.
//
// It blocks while the store is asked, for its patience at most, and while the
// request waits for a place of concurrency, where the limits let it. It does
// not allocate once each counted value and user has been seen, unless it
// blocks.
func (s *Stack) Take(r *Request, t *Ticket) Verdict {
	if t.held.Load() != nil {
		panic("ratelimit: ticket is still held")
	}
	if len(s.limits) == 0 {
		return Verdict{Allowed: true}
	}
	var keyBuf [8]digest
	keys, gone := s.digests(keyBuf[:0], r)
	p := pass{s: s, r: r, cost: max(r.Cost, 1), gone: gone}
	if s.hasUser {
		p.user = s.local.digestUser(r.Principal)
	}

	l := s.local
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.advance(r.Now)
	l.table.turn++
	l.fetched = s.prefetch()
	var d decision
	asks := p.look(&d, now, keys)
	if d.refusedBy == nil && asks == 0 {
		p.charge(now)
		return p.finish(&d, t, now)
	}
	return p.insist(&d, t, keys, asks, now)
}

// insist goes on where the first look was not enough: limits have to be asked
// of the store, or a place waited for. l.mu is held, and let go of in between.
func (p *pass) insist(d *decision, t *Ticket, keys []digest, asks int, now time.Time) Verdict {
	l := p.s.local
	ended := false
	defer func() {
		if p.held && !ended { // what the request brought along has panicked
			p.s.quit(l.now)
		}
	}()
	v := p.decide(d, t, keys, asks, now)
	ended = true
	return v
}

// decide is insist, but for what panics.
func (p *pass) decide(d *decision, t *Ticket, keys []digest, asks int, now time.Time) Verdict {
	l := p.s.local
	for {
		if d.refusedBy == nil && asks > 0 {
			p.charge(now)
			call := p.call(now)
			l.shared.count.asked.Add(1)
			var err error
			now = p.unlocked(now, func() {
				l.shared.store.Submit(call)
				err = call.wait(l.shared.store.Patience())
			})
			if err != nil {
				p.undo(now)
				p.unanswered()
				p.away, p.busy = true, errors.Is(err, ErrBusy)
			} else {
				p.absorb(call, d, now)
				l.shared.free(call)
				if d.refusedBy == nil {
					return p.finish(d, t, now)
				}
				p.undo(now)
			}
		}
		if d.refusedBy != nil {
			if d.hard || p.held || !l.mayWait(p.s) || !p.queue(d, &now) {
				return p.refuse(d, now)
			}
		}
		*d = decision{}
		l.table.turn++
		asks = p.look(d, now, keys)
		if d.refusedBy == nil && asks == 0 {
			p.charge(now)
			return p.finish(d, t, now)
		}
	}
}

// unlocked runs f without the lock and returns the time after it. Others have
// gone on meanwhile: the time is not before theirs.
func (p *pass) unlocked(now time.Time, f func()) time.Time {
	l := p.s.local
	began := time.Now()
	func() {
		l.mu.Unlock()
		defer l.mu.Lock()
		f()
	}()
	return l.advance(now.Add(time.Since(began)))
}

// queue waits for a place, and reports whether the request has it.
func (p *pass) queue(d *decision, now *time.Time) bool {
	l := p.s.local
	if p.undone { // those that came before are not to wait for what went back
		p.s.settlePlaces(*now)
	}
	p.undone = false
	w := l.join(p.s)
	ended := false
	defer func() {
		if !ended && !l.leave(w) { // Gone has panicked
			p.s.quit(l.now)
		}
	}()
	*now = p.unlocked(*now, func() { p.held = l.await(w, d.fullBy.spec.wait, p.r.Gone) })
	ended = true
	return p.held
}

// refuse ends a request that is not allowed.
func (p *pass) refuse(d *decision, now time.Time) Verdict {
	switch {
	case p.held:
		p.s.quit(now)
	case p.undone:
		p.s.settlePlaces(now)
	}
	v := d.refusal()
	v.Away, v.Unasked = p.away, d.shut == d.refusedBy
	if p.away {
		p.s.local.shared.count.away.Add(1)
	}
	return v
}

// finish ends a request that was charged.
func (p *pass) finish(d *decision, t *Ticket, now time.Time) Verdict {
	if p.s.tickets {
		t.user, t.alone = p.user, [2]uint64{}
		if p.away {
			for i := range p.s.limits {
				if w := p.at(i).way; w == alone || w == open {
					t.alone[i/64] |= 1 << (i % 64)
				}
			}
		}
		t.held.Store(p.s)
	}
	v := d.admission(now)
	if p.s.local.shared != nil {
		p.s.overdue(&v)
	}
	if v.Away = p.away; p.away {
		p.s.local.shared.count.away.Add(1)
	}
	return v
}

// overdue bills what lay beyond quotas of mode overage while the store was
// away: it is known only now.
func (s *Stack) overdue(v *Verdict) {
	most := int64(0)
	for _, lim := range s.limits {
		if lim.over == 0 {
			continue
		}
		if most = max(most, lim.over); v.Beyond == nil {
			v.Beyond = &lim.spec.facts
		}
		lim.over = 0
	}
	v.Over += most
}

// Held reports whether there is something to give back.
func (t *Ticket) Held() bool { return t.held.Load() != nil }

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
	for i, lim := range s.limits {
		if t.alone[i/64]>>(i%64)&1 != 0 {
			lim = lim.away
		}
		lim.release(now, t.user)
		if lim.remote && lim.users != nil {
			l.touch(lim, now, t.user)
		}
	}
	if s.bounded {
		s.settlePlaces(now)
	}
}

// touch keeps a user active in the store whose request has ended.
func (l *Local) touch(lim *limit, now time.Time, user digest) {
	u := lim.users.all[user]
	if u == nil || now.Sub(u.touched) < touched/2 || u.touched.IsZero() {
		return
	}
	u.touched = now
	s := lim.one.shared
	s.ids = append(s.ids, u.sum[0], u.sum[1])
	l.tend(lim.one, now, false, false)
}

// Prefetch reads what Take will read first, before it is needed: who calls it
// together with others of its kind has memory fetched side by side.
func (s *Stack) Prefetch() uint64 {
	sum := uint64(s.local.due.Load()) + uint64(len(s.facts))
	for _, lim := range s.limits {
		if lim.local != nil {
			sum++
		}
	}
	return sum
}

// prefetch reads what the first look will read of each limit. s.local.mu is
// held.
func (s *Stack) prefetch() (sum uint64) {
	for _, lim := range s.limits {
		sum += uint64(lim.spec.facts.Quota) + uint64(lim.spec.facts.Window)
		if c := lim.one; c != nil {
			sum += c.seen
		}
	}
	return sum
}
