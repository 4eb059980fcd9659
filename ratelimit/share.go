package ratelimit

import (
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

const (
	// hold is how long units taken ahead are kept for requests to come.
	hold = 100 * time.Millisecond
	// hot is the time between two questions about a count under which more
	// is taken ahead, and the use that is taken ahead for at most.
	hot = 20 * time.Millisecond
	// refusedFor bounds how long a refusal of the store is believed without
	// asking again: units may be given back or added meanwhile.
	refusedFor = time.Second
	// aheadShare is the part of a limit that all gateways together take ahead
	// at most: one hundredth.
	aheadShare = 100
)

// share is what this gateway knows, and holds, of a count in the store;
// Local.mu guards it.
type share struct {
	spec *spec // by which the rest is to be read

	hand    int64     // units taken from the store and not spent
	pending int64     // units asked for ahead, in calls that are out
	until   time.Time // when what is in hand goes back
	want    int64     // how many to take ahead next
	low     int64     // with less in hand, more are asked for
	asked   time.Time // the last question

	// Of the last answer: when it was asked for, what was left, and the
	// window, on the store's clock and on ours.
	at    time.Time
	left  int64
	begin int64
	end   time.Time
	// lag is how long the answer took. The store looked at its clock within
	// it, so that what is said to callers counts from its end.
	lag time.Duration

	// A request of refusedCost is not worth a question before refusedUntil.
	refusedCost  int64
	refusedUntil time.Time

	// sent was told to the store, which has not said that it heard; debt was
	// not told yet.
	sent, debt owed

	ids     []uint64 // places held in the store, those in use first; users to be kept
	gone    []uint64 // places that go back
	renewed time.Time
	tenure  time.Time // when places came last
	rest    time.Time // until when nothing is told that nobody waits for: it has failed
	out     int       // questions of requests on their way

	async  *Call // about this count alone; made once
	busy   bool  // async is out
	listed bool  // in Local.holding
}

// settle makes the share forget answers about a limit that has changed. What
// is in hand is not spent by the new one: of a quota it goes back; of a rate it
// is lost, for it may be of a larger bucket than there is now.
func (s *share) settle(sp *spec) {
	if s.spec == sp {
		return
	}
	s.spec, s.refusedCost, s.want, s.until = sp, 0, 0, time.Time{}
	if sp.facts.Kind == Rate {
		s.hand, s.sent, s.debt = 0, owed{}, owed{}
		s.at = time.Time{} // it was told in other parts
	}
}

// idle reports whether nothing is lost by forgetting the share: the store has
// no count for it any more, as far as is known.
func (s *share) idle(now time.Time) bool {
	if s.hand != 0 || s.owes() || s.busy || s.out > 0 || len(s.ids)+len(s.gone) > 0 || now.Before(s.refusedUntil) {
		return false
	}
	if s.at.IsZero() {
		return true
	}
	if s.spec.facts.Kind == Rate {
		return s.parts(now) >= s.spec.terms.Burst*s.spec.terms.Per
	}
	return s.left <= 0 || !now.Before(s.end.Add(s.lag))
}

// parts returns what a bucket in the store holds by now, at least, by the last
// answer.
func (s *share) parts(now time.Time) int64 { return s.partsAfter(now.Sub(s.at) - s.lag) }

// partsAfter returns what the bucket holds a while after the last answer.
func (s *share) partsAfter(while time.Duration) int64 {
	t := &s.spec.terms
	us := max(while.Microseconds(), 0)
	if full := t.Burst * t.Per; float64(us)*float64(t.Count) >= float64(full-s.left) {
		return full
	}
	return s.left + t.Count*us
}

// lease reports whether units may be taken ahead of requests.
func (sp *spec) lease() bool { return sp.facts.Store == gatehouse.StoreLease }

// most returns how many units one of n gateways may hold ahead: all of them
// together a hundredth of the limit, and of a rate what it gives in 20 ms.
func (sp *spec) most(n int64) int64 {
	f := &sp.facts
	if !sp.lease() || f.Kind == Users {
		return 0
	}
	most := f.Quota / aheadShare
	if f.Kind == Rate {
		most = min(most, f.Burst/aheadShare, int64(sp.perSecond*hot.Seconds()))
	}
	return most / n
}

// fits reports whether cost can be paid from what is in hand.
func (s *share) fits(now time.Time, cost int64) bool { return s.hand >= cost && now.Before(s.until) }

// refused reports whether the store has refused as much a moment ago.
func (s *share) refused(now time.Time, cost int64) bool {
	return s.refusedCost > 0 && cost >= s.refusedCost && now.Before(s.refusedUntil)
}

// aim returns how many units to take ahead with the question that is asked
// now, where most may be held. What the last answer gave has lasted since:
// how long the store takes to answer says nothing about the need.
func (s *share) aim(now time.Time, most int64) int64 {
	switch gap := now.Sub(s.asked); {
	case most < 1:
		s.want = 0
	case gap < hot:
		s.want = min(max(2*s.want, 1), most)
	case gap < hold:
		s.want = min(s.want, most)
	default:
		s.want = 0
	}
	return max(min(s.want, most-s.hand-s.pending), 0)
}

// tell tells d what the store was last heard to have, less cost from hand.
func (s *share) tell(d *decision, now time.Time, cost int64) {
	sp := s.spec
	if sp.facts.Kind == Quota {
		d.quota(sp, nil, s.left-s.hand, max(s.end.Add(s.lag).Sub(now), 0), cost)
		return
	}
	left := min(sp.terms.tokens(s.parts(now))+float64(s.hand), float64(sp.facts.Burst)) - float64(cost)
	next := 1 - (left - float64(int64(left)))
	d.admitUntil(sp, max(left, 0), time.Duration(next/sp.perSecond*float64(time.Second)))
}

// tellRefused tells d what the store has refused a moment ago.
func (s *share) tellRefused(d *decision, now time.Time, cost int64) {
	sp := s.spec
	if sp.facts.Kind == Quota {
		d.quota(sp, nil, max(s.left, sp.facts.Quota-cost+1), max(s.end.Add(s.lag).Sub(now), 0), cost)
		return
	}
	a := Ask{Cost: cost, spec: sp, Left: s.partsAfter(now.Sub(s.at)), lag: s.lag}
	if cost <= sp.terms.Burst {
		a.Left = min(a.Left, cost*sp.terms.Per-1)
	}
	a.judge(d, nil)
}

// remind tells d of a limit that is not asked because others refuse already:
// by the last answer it may refuse for longer.
func (s *share) remind(d *decision, now time.Time, cost int64) {
	sp := s.spec
	if s.at.IsZero() || sp.facts.Kind.Capacity() || sp.soft() {
		return
	}
	if sp.facts.Kind == Quota {
		if now.Before(s.end) && sp.facts.Quota-s.left < cost {
			s.tellRefused(d, now, cost)
		}
		return
	}
	if cost > sp.terms.Burst || s.parts(now) < cost*sp.terms.Per {
		s.tellRefused(d, now, cost)
	}
}

// judge tells d what the answer to a says.
func (a *Ask) judge(d *decision, call *Call) {
	sp := a.spec
	switch sp.facts.Kind {
	case Rate:
		t := &sp.terms
		whole := max(a.Left, 0) / t.Per // a clock that was set back makes it less than nothing
		next := t.untilParts(a.Left, min(whole+1, t.Burst)*t.Per)
		if a.OK {
			d.admitUntil(sp, t.tokens(a.Left), next)
			return
		}
		retry := Never
		if a.Cost <= t.Burst {
			retry = min(t.untilParts(a.Left, a.Cost*t.Per), Never-a.lag) + a.lag
		}
		d.refuse(sp, whole, next, retry)
	case Quota:
		used := a.Left + a.unsent
		if a.OK && call.Allowed {
			used -= a.Cost + a.Got
		}
		d.quota(sp, nil, used, a.until(call), a.Cost)
	case Concurrency:
		if !a.OK {
			d.full(a.cell.limit)
		}
	case Users:
		if !a.OK {
			d.refuse(sp, 0, max(a.until(call), 0), max(a.until(call), busyRetry))
		}
	}
}

// until returns the time from the question to the end of the window.
func (a *Ask) until(call *Call) time.Duration {
	if a.End == 0 {
		return 0
	}
	return time.Duration(a.End-call.At) * time.Microsecond
}

// absorb takes in the answer to a, which is about this share.
func (s *share) absorb(a *Ask, call *Call, now time.Time) {
	s.pending -= a.Ahead
	s.asked = now
	s.paid(a)
	a.Got = min(max(a.Got, 0), a.Ahead) // whatever the store says
	if a.spec.facts.Mode == gatehouse.Overage {
		a.cell.limit.over += max(a.Over, 0)
	}
	if a.spec != s.spec {
		// The limit has changed on the way. What was taken ahead goes back
		// with the next sweep, as settle has it.
		if a.Kind == Quota {
			s.hand += a.Got
		}
		return
	}
	if s.begin != a.Begin {
		s.hand = 0 // of a window that is over
	}
	s.at, s.left, s.begin, s.end = call.now, a.Left, a.Begin, call.now.Add(a.until(call))
	s.lag = max(now.Sub(call.now), 0)
	s.hand += a.Got
	if a.Got > 0 {
		s.low = a.Got / 2
		s.until = now.Add(hold)
		if a.Kind == Quota && s.end.Before(s.until) {
			s.until = s.end
		}
	}
	if a.OK || a.Kind == Concurrency || a.Kind == Users {
		s.refusedCost = 0
		return
	}
	var d decision
	a.judge(&d, call)
	// Asked again too early is no harm, refused too long would be.
	s.refusedCost, s.refusedUntil = a.Cost, call.now.Add(min(d.retry, refusedFor))
	if a.Kind == Quota && a.End != 0 && s.end.Before(s.refusedUntil) {
		s.refusedUntil = s.end // what is too much for the next window too is to be told of that one
	}
}
