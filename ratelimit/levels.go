package ratelimit

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// Level is where a limit stands.
type Level struct {
	Limit *Limit
	// Used and Remaining are units; requests or users for capacity. Of a
	// limit `by` value they belong to the request's own value.
	Used, Remaining int64
	// Reset is as in Verdict.
	Reset time.Duration
	// Key is the name of the count: gh:{tenant}:limit-name, and
	// :by-value-digest where it is known.
	Key string
	// Keys is the number of values counted apart in this process, for a limit
	// `by` value.
	Keys int
	// Aside: the request is not held to the limit, because it does not name it
	// or lacks a value.
	Aside bool
	// Refuses: the request would be refused by this limit alone; after Retry,
	// as in Verdict, it would not. Beyond: it would be served beyond a quota
	// that is soft or of overage. Unasked is as in Verdict.
	Refuses, Beyond, Unasked bool
	Retry                    time.Duration
	// Known: Used, Remaining and Reset are those of the request.
	Known bool
	// Stale: the store did not answer, and they are what it said last.
	Stale bool
}

// viewed is how many counts the store is asked about at once.
const viewed = 64

// Levels returns the level of every limit in force, by scope, route and name,
// as Stack.Levels does without Values.
func (l *Local) Levels(now time.Time) []Level {
	l.mu.Lock()
	defer l.mu.Unlock()
	limits := slices.SortedFunc(maps.Values(l.limits), func(a, b *limit) int {
		f, g := &a.spec.facts, &b.spec.facts
		return cmp.Or(
			cmp.Compare(f.Scope.floor(), g.Scope.floor()), cmp.Compare(f.Route, g.Route),
			cmp.Compare(f.Kind, g.Kind), cmp.Compare(f.Name, g.Name), cmp.Compare(selectorText(f.By), selectorText(g.By)))
	})
	var levels []Level
	for some := range slices.Chunk(limits, viewed) {
		s := &Stack{local: l}
		for _, lim := range some {
			s.add(lim)
		}
		levels = s.levels(levels, &Request{Now: now})
	}
	return levels
}

// Levels appends the level of each limit that still stands, in stack order,
// and charges nothing. It asks the store, and shows what was last heard where
// that does not answer. Without Values only Keys is known of a limit `by`
// value.
func (s *Stack) Levels(dst []Level, r *Request) []Level {
	l := s.local
	l.mu.Lock()
	defer l.mu.Unlock()
	return s.levels(dst, r)
}

// levels is called with the lock, which it lets go of in between.
func (s *Stack) levels(dst []Level, r *Request) []Level {
	dst = slices.Grow(dst, len(s.limits))
	keys, gone := s.digests(nil, r)
	l := s.local
	now := l.advance(r.Now)
	p := pass{s: s, r: r, cost: max(r.Cost, 1), gone: gone, user: l.digestUser(r.Principal)}
	p.view(now, keys)
	for i, lim := range s.limits {
		if lim.dropped {
			continue
		}
		lv := Level{Limit: &lim.spec.facts, Key: lim.name, Keys: len(lim.cells)}
		if p.counts(i) {
			var key digest
			if at := s.places[i]; at >= 0 {
				key = keys[at]
			}
			if lim.remote {
				lv = lim.sharedLevel(now, p.at(i).c)
			} else {
				lv = lim.level(now, key)
			}
			lv.Known = true
			lv.Stale = lim.remote && !p.heard
			p.weigh(&lv, i, now, key)
		}
		dst = append(dst, lv)
	}
	return dst
}

// weigh says what limit i alone would make of the request.
func (p *pass) weigh(lv *Level, i int, now time.Time, key digest) {
	lim := p.s.limits[i]
	sp := lim.spec
	if sp.facts.OnDemand && !slices.Contains(p.r.Named, sp.facts.Name) {
		lv.Aside = true
		return
	}
	if at := p.s.places[i]; at >= 0 && p.gone>>at&1 != 0 {
		switch sp.facts.Absent {
		case gatehouse.AbsentSkip:
			lv.Aside = true
			return
		case gatehouse.AbsentDeny:
			lv.Refuses, lv.Retry = true, Never
			return
		}
	}
	var d decision
	switch {
	case lv.Stale:
		lim.checkAway(&d, now, p.cost, key, p.user, p.r.Values)
	case !lim.remote:
		lim.check(&d, now, p.cost, key, p.user, p.r.Values)
	case sp.facts.Kind == Users && lim.users.all[p.user] != nil: // one of those that are counted
	case sp.facts.Kind.Capacity():
		if lv.Remaining < 1 {
			d.full(lim)
		}
	case sp.facts.Kind == Quota:
		d.quota(sp, nil, sp.facts.Quota-lv.Remaining, lv.Reset, p.cost)
	case p.cost > sp.facts.Burst:
		d.refuse(sp, lv.Remaining, lv.Reset, Never)
	case lv.Remaining < p.cost:
		more := float64(p.cost - lv.Remaining - 1)
		d.refuse(sp, lv.Remaining, lv.Reset, lv.Reset+time.Duration(more/sp.perSecond*float64(time.Second)))
	}
	lv.Refuses, lv.Retry = d.refusedBy != nil, max(d.retry, d.reset)
	lv.Beyond, lv.Unasked = d.beyond != nil, d.shut != nil
}

// view asks the store where the shared limits of the stack stand. l.mu is
// held, and let go of in between.
func (p *pass) view(now time.Time, keys []digest) {
	l := p.s.local
	p.more = make([]step, max(len(p.s.limits)-len(p.first), 0))
	asks := 0
	for i, lim := range p.s.limits {
		if !lim.remote || lim.dropped || !p.counts(i) {
			continue
		}
		var key digest
		if at := p.s.places[i]; at >= 0 {
			key = keys[at]
		}
		*p.at(i) = step{way: ask, c: lim.cell(now, key, p.r.Values)}
		asks++
	}
	if asks == 0 || l.shared.store.Away(l.shard) {
		return
	}
	call := l.shared.calls.take(l)
	call.Made, call.now = time.Now(), now
	for i := range p.s.limits {
		if st := p.at(i); st.way == ask {
			call.Asks = append(call.Asks, st.c.question(Take, st.c.limit.spec, now))
		}
	}
	var err error
	now = p.unlocked(now, func() {
		l.shared.store.Submit(call)
		err = call.wait(l.shared.store.Patience())
	})
	if err != nil {
		return
	}
	p.heard = true
	for i := range call.Asks {
		a := &call.Asks[i]
		refused := a.cell.shared.refusedCost
		a.cell.shared.absorb(a, call, now)
		a.cell.shared.refusedCost = refused // it was not asked for anything
	}
	l.shared.free(call)
}

// counts reports whether the request belongs to a count of limit i: there is
// one for all, or the values are known.
func (p *pass) counts(i int) bool {
	return len(p.s.limits[i].spec.facts.By) == 0 || p.r.Values != nil
}

// question returns an Ask about c, by sp, that takes nothing.
func (c *cell) question(do Action, sp *spec, now time.Time) Ask {
	return Ask{
		Action: do, Kind: sp.facts.Kind, Key: c.name(), Terms: sp.terms, Quota: sp.facts.Quota, Forced: sp.soft(),
		Age: max(now.Sub(sp.since).Microseconds(), 0), spec: sp, cell: c,
	}
}

// sharedLevel is level of a limit in the store, as far as it is known.
func (lim *limit) sharedLevel(now time.Time, c *cell) Level {
	f, s := &lim.spec.facts, c.shared
	lv := Level{Limit: f, Key: c.name(), Remaining: f.Burst, Keys: len(lim.cells)}
	if s.at.IsZero() {
		return lv
	}
	if f.Kind == Rate {
		var d decision
		s.tell(&d, now, 0)
		lv.Remaining, lv.Reset = int64(d.leastLeft), d.leastEnd
		lv.Used = max(f.Burst-lv.Remaining, 0)
		if lv.Used == 0 {
			lv.Reset = 0
		}
		return lv
	}
	lv.Used = s.left - s.hand
	if f.Kind == Quota {
		lv.Reset = max(s.end.Sub(now), 0)
		if s.end.Before(now) {
			lv.Used = 0
		}
	}
	lv.Remaining = max(f.Quota-lv.Used, 0)
	lv.Used = max(lv.Used, 0)
	return lv
}
