package ratelimit

import (
	"slices"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// way is how one limit of a stack takes part in one request.
type way uint8

const (
	aside  way = iota // not held to it
	here              // counted in this process
	inHand            // paid from what was taken from the store ahead
	ask               // asked of the store
	alone             // counted here while the store is away
	open              // let through while the store is away
	kept              // a place that the request has waited for
)

// step is one limit of a stack in one request.
type step struct {
	way  way
	c    *cell // the count; in the store for all but here
	part *cell // the count of this gateway's part, for alone
	// For undo: the window that a quota was charged in, or how long before
	// pass.charged the user was last seen.
	start int64
	known bool
	// The window that a quota is told to have been charged in.
	window int64
	until  time.Time
	ahead  int64 // what a question on its way takes ahead
	place  uint64
}

// pass is one attempt to charge a stack.
type pass struct {
	s     *Stack
	r     *Request
	cost  int64
	user  digest
	first [8]step // of the stack, in order
	more  []step  // the rest; kept apart, so that a pass needs no heap
	gone  uint64  // selects that the request lacks a value of, by bit
	held  bool    // the places of concurrency are the request's already
	away  bool    // the store did not answer
	busy  bool    // it would not take the question
	anew  bool    // what it refused a moment ago is asked again
	// undone: places were given back that nobody was told of.
	undone bool
	heard  bool // it did, for view
	// charged is when charge was called.
	charged time.Time
}

func (p *pass) at(i int) *step {
	if i < len(p.first) {
		return &p.first[i]
	}
	return &p.more[i-len(p.first)]
}

// look finds the count of each limit and gathers what it says. It takes
// nothing. It returns how many limits have to be asked of the store. l.mu is
// held.
func (p *pass) look(d *decision, now time.Time, keys []digest) (asks int) {
	asks = p.survey(d, now, keys)
	if d.refusedBy == nil || asks == 0 {
		return asks
	}
	// Who is refused without a question is told of all that would refuse.
	unknown := false
	for i := range p.s.limits {
		st := p.at(i)
		if st.way == ask {
			d.at = i
			unknown = unknown || st.c.shared.at.IsZero()
			st.c.shared.remind(d, now, p.cost)
		}
	}
	if unknown && d.remembered && !p.anew {
		p.anew = true
		*d = decision{}
		asks = p.survey(d, now, keys)
	}
	return asks
}

// survey is look, as far as the limits can be told one by one.
func (p *pass) survey(d *decision, now time.Time, keys []digest) (asks int) {
	if n := len(p.s.limits) - len(p.first); n > len(p.more) {
		p.more = make([]step, n)
	}
	for i, lim := range p.s.limits {
		st := p.at(i)
		*st = step{}
		d.at = i
		if lim.dropped || lim.spec.facts.OnDemand && !slices.Contains(p.r.Named, lim.spec.facts.Name) {
			continue
		}
		var key digest
		if at := p.s.places[i]; at >= 0 {
			key = keys[at]
			if p.gone>>at&1 != 0 {
				switch lim.spec.facts.Absent {
				case gatehouse.AbsentSkip:
					continue
				case gatehouse.AbsentDeny:
					d.refuse(lim.spec, 0, 0, Never)
					continue
				}
			}
		}
		switch {
		case p.held && lim.spec.facts.Kind == Concurrency:
			st.way = kept
		case lim.remote:
			p.lookShared(d, now, lim, st, key)
			if st.way == ask {
				asks++
			}
		default:
			st.way = here
			st.c = lim.check(d, now, p.cost, key, p.user, p.r.Values)
		}
	}
	return asks
}

// lookShared is look at a limit in the store.
func (p *pass) lookShared(d *decision, now time.Time, lim *limit, st *step, key digest) {
	st.c = lim.cell(now, key, p.r.Values)
	s := st.c.shared
	sp := lim.spec
	switch sp.facts.Kind {
	case Concurrency:
		if lim.places() > 0 {
			st.way = inHand
			return
		}
		if lim.waiting > 0 {
			d.full(lim)
			return
		}
	case Users:
		if u := lim.users.all[p.user]; sp.lease() && u != nil && now.Sub(u.touched) < touched {
			st.way = inHand
			return
		}
	default:
		if s.fits(now, p.cost) {
			st.way = inHand
			s.tell(d, now, p.cost)
			return
		}
		if s.refused(now, p.cost) && !p.anew {
			if s.tellRefused(d, now, p.cost); d.refusedBy != nil {
				d.remembered = true
				return
			}
		}
	}
	if !p.away && !p.s.local.shared.store.Away(p.s.local.shard) {
		st.way = ask
		return
	}
	p.away = true
	st.way = alone
	if sp.facts.Away == gatehouse.AwayOpen {
		st.way = open
	}
	if p.busy {
		d.close(sp)
		return
	}
	st.part = lim.checkAway(d, now, p.cost, key, p.user, p.r.Values)
}

// charge takes what look found to be there, and reserves it where the store
// is still to be asked. l.mu is held.
func (p *pass) charge(now time.Time) {
	p.charged = now
	for i, lim := range p.s.limits {
		st := p.at(i)
		switch st.way {
		case here:
			if us := lim.users; us != nil {
				st.start, st.known = us.lastSeen(now, p.user)
			}
			lim.charge(st.c, now, p.cost, p.user)
			if st.c != nil {
				st.start = st.c.start
			}
		case inHand:
			switch lim.spec.facts.Kind {
			case Concurrency:
				lim.inFlight++
			case Users:
				st.start, st.known = lim.users.lastSeen(now, p.user)
				lim.users.enter(p.user)
			default:
				s := st.c.shared
				s.hand -= p.cost
				st.start = s.begin
				if s.hand <= s.low {
					p.s.local.tend(st.c, now, false, false)
				}
			}
		case alone, open:
			switch lim.spec.facts.Kind {
			case Concurrency, Users:
				lim.away.charge(nil, now, p.cost, p.user)
			}
			if st.part != nil {
				lim.away.charge(st.part, now, p.cost, p.user)
				st.start = st.part.start
			}
			if lim.spec.facts.Kind == Quota {
				s := st.c.shared
				st.window, st.until = s.window(lim.spec, st.part, now)
				s.owe(p.cost, st.window, st.until)
				p.s.local.hold(st.c)
			}
		}
	}
}

// undo gives back what charge took. l.mu is held.
func (p *pass) undo(now time.Time) {
	p.undone = p.s.bounded && !p.held
	for i, lim := range p.s.limits {
		st := p.at(i)
		kind := lim.spec.facts.Kind
		switch st.way {
		case here, inHand:
			switch {
			case kind == Concurrency:
				lim.inFlight--
			case kind == Users:
				lim.users.undo(p.user, p.charged.Add(-time.Duration(st.start)), st.known)
			case st.way == here:
				st.c.refund(now, p.cost, st.start)
			case st.c.shared.begin == st.start:
				st.c.shared.hand += p.cost
				p.s.local.hold(st.c)
			}
		case alone, open:
			if kind.Capacity() {
				lim.away.release(now, p.user)
				continue
			}
			if kind == Quota {
				st.c.shared.owe(-p.cost, st.window, st.until)
			}
			if st.part != nil {
				st.part.refund(now, p.cost, st.start)
			}
		}
	}
}

// call makes the question to the store. l.mu is held.
func (p *pass) call(now time.Time) *Call {
	l := p.s.local
	call := l.shared.calls.take(l)
	call.Made, call.now = time.Now(), now
	n := l.shared.gateways()
	for i, lim := range p.s.limits {
		st := p.at(i)
		if st.way != ask {
			continue
		}
		sp := lim.spec
		s := st.c.shared
		a := st.c.question(Take, sp, now)
		a.Cost, a.step = p.cost, i
		if !a.Kind.Capacity() {
			// What is in hand goes back first, so that no unit of it is
			// missing for this request.
			l.handBack(s, now)
			l.bill(s, &a, now)
		}
		s.out++
		switch a.Kind {
		case Concurrency:
			a.Cost, a.ID = 1, l.places(1)
			st.place = a.ID
		case Users:
			a.Cost, a.User = 1, stableUser(p.r.Principal)
		default:
			a.Ahead = s.aim(now, sp.most(n))
			s.pending += a.Ahead
		}
		st.ahead = a.Ahead
		call.Asks = append(call.Asks, a)
	}
	return call
}

// unanswered takes back what a question that has failed had on its way. What
// was owed is sent again. A place goes back, for the store may have given it;
// units that it may have charged are lost to the callers. l.mu is held.
func (p *pass) unanswered() {
	for i, lim := range p.s.limits {
		st := p.at(i)
		if st.way != ask {
			continue
		}
		s := st.c.shared
		s.out--
		s.pending -= st.ahead
		if lim.spec.facts.Kind == Concurrency {
			s.reject(st.place, 1)
		}
		if s.owes() || len(s.gone) > 0 {
			p.s.local.hold(st.c)
		}
	}
}

// absorb takes in what the store has answered. l.mu is held.
func (p *pass) absorb(call *Call, d *decision, now time.Time) {
	l := p.s.local
	defer func() {
		if !call.Allowed && d.refusedBy == nil { // whatever the store says
			d.close(call.Asks[0].spec)
		}
	}()
	for i := range call.Asks {
		a := &call.Asks[i]
		lim, st := p.s.limits[a.step], p.at(a.step)
		s := a.cell.shared
		d.at = a.step
		a.judge(d, call)
		s.out--
		s.absorb(a, call, now)
		lim.back(a.cell)
		if s.owes() {
			l.hold(a.cell)
			l.tend(a.cell, now, true, false)
		}
		if a.Got > 0 {
			l.shared.count.ahead.Add(a.Got)
			l.hold(a.cell)
		}
		if !call.Allowed {
			continue
		}
		switch a.Kind {
		case Concurrency:
			s.ids = append(s.ids, a.ID)
			s.tenure = now
			lim.inFlight++
			l.hold(a.cell)
			st.way = inHand
		case Users:
			lim.users.enter(p.user)
			if u := lim.users.all[p.user]; u != nil {
				u.touched, u.sum = now, sumPair(a.User)
				l.hold(a.cell)
			}
			st.way = inHand
		}
	}
}
