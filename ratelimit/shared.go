package ratelimit

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

const (
	sweepEvery = 25 * time.Millisecond
	// renewEvery is how often places and users in use are renewed in the
	// store: several times within the time that it keeps them.
	renewEvery = 5 * time.Second
	// touched users need no question for as long.
	touched = 10 * time.Second
	// partingTime bounds the giving back at the end.
	partingTime = time.Second
	// settled is how many counts of a tenant tell the store what is owed in
	// one sweep.
	settled = 64
	// restFor is how long a count is left alone whose telling has failed.
	restFor = 250 * time.Millisecond
	// turn is how long places are handed on within this gateway while requests
	// wait for them, here and maybe elsewhere.
	turn = 100 * time.Millisecond
)

// Shared is this process' part in a store of limits: what it holds ahead of
// all tenants. It is safe for concurrent use.
type Shared struct {
	store Store
	mode  gatehouse.LimitStore
	calls calls
	count struct{ asked, ahead, returned, away atomic.Int64 }
	// serials names what is owed to the store, in this process.
	serials atomic.Uint64

	mu      sync.Mutex
	holders map[*Local]struct{} // guarded by mu: the tenants with something held ahead
}

// NewShared returns the part of a process that holds nothing yet. Limits that
// do not say how they are counted are counted in mode: StoreLease, also for
// "", or StoreExact.
func NewShared(store Store, mode gatehouse.LimitStore) *Shared {
	if mode != gatehouse.StoreExact {
		mode = gatehouse.StoreLease
	}
	return &Shared{store: store, mode: mode, holders: map[*Local]struct{}{}}
}

// Local returns the state of a tenant whose limits are in the store. maxKeys
// is as in NewLocal.
func (s *Shared) Local(tenant gatehouse.TenantID, maxKeys int) *Local {
	l := NewLocal(tenant, maxKeys)
	l.shared, l.shard = s, s.store.Shard(tenant)
	l.lastPlace = rand.Uint64N(1 << 50) // a tenant that goes and comes back has places of both
	return l
}

// Run gives back, renews and asks for what requests do not wait for, until
// ctx ends; then it gives everything back, for at most a second. The store
// must run longer.
func (s *Shared) Run(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			now := time.Now()
			s.each(func(l *Local) {
				if now.UnixNano() >= l.due.Load() {
					l.sweep(now, false)
				}
			})
		case <-ctx.Done():
			for end := time.Now().Add(partingTime); ; <-tick.C {
				s.each(func(l *Local) { l.sweep(time.Now(), true) })
				if len(s.all()) == 0 || time.Now().After(end) {
					return nil
				}
			}
		}
	}
}

func (s *Shared) all() (ls []*Local) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for l := range s.holders {
		ls = append(ls, l)
	}
	return ls
}

func (s *Shared) each(f func(*Local)) {
	for _, l := range s.all() {
		f(l)
	}
}

// Overshoot returns the units of rates and quotas that this process has taken
// from the store and not spent. In any span of time the gateways together let
// through at most what the limit allows and the sum of their overshoot at its
// beginning.
func (s *Shared) Overshoot() (units int64) {
	s.each(func(l *Local) {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, c := range l.holding {
			units += c.shared.hand
		}
	})
	return units
}

// Counts are sums since the start of the process.
type Counts struct {
	// Asked are the questions that requests waited for; Ahead and Returned
	// are units taken ahead and given back; Away are the requests that were
	// decided while the store could not be asked.
	Asked, Ahead, Returned, Away int64
}

// Counts returns what has happened so far.
func (s *Shared) Counts() Counts {
	c := &s.count
	return Counts{c.asked.Load(), c.ahead.Load(), c.returned.Load(), c.away.Load()}
}

// free puts a call back that no one uses any more.
func (s *Shared) free(c *Call) { s.calls.free(c) }

// hold makes the sweep see c until nothing is held of it. l.mu is held.
func (l *Local) hold(c *cell) {
	l.due.Store(0)
	if c.shared.listed {
		return
	}
	c.shared.listed = true
	if l.holding = append(l.holding, c); len(l.holding) == 1 {
		l.shared.mu.Lock()
		l.shared.holders[l] = struct{}{}
		l.shared.mu.Unlock()
	}
}

// sweep looks after everything that the tenant holds. At the end of the
// process nothing is kept.
func (l *Local) sweep(now time.Time, parting bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	due := now.Add(renewEvery / 4)
	settles := settled
	for _, c := range l.holding {
		s := c.shared
		if parting {
			s.until = now
		}
		if !s.owes() || settles > 0 {
			if s.owes() {
				settles-- // a store that comes back is not stormed
			}
			l.tend(c, now, true, parting)
		}
		if s.hand > 0 || s.busy || s.owes() || len(s.gone) > 0 || c.limit.waiting > 0 || int64(len(s.ids)) > c.limit.inFlight {
			due = now
		}
	}
	l.due.Store(due.UnixNano())
	l.holding = slices.DeleteFunc(l.holding, func(c *cell) bool {
		if s := c.shared; s.hand > 0 || s.busy || s.owes() || len(s.gone) > 0 || len(s.ids) > 0 && !parting || c.limit.waiting > 0 || c.limit.userCount() > 0 && !parting {
			return false
		}
		c.shared.listed = false
		return true
	})
	if len(l.holding) == 0 {
		l.shared.mu.Lock()
		delete(l.shared.holders, l)
		l.shared.mu.Unlock()
	}
}

func (lim *limit) userCount() int {
	if lim.users == nil {
		return 0
	}
	return len(lim.users.all)
}

// tend sends the question that is due about one count, if any. l.mu is held.
func (l *Local) tend(c *cell, now time.Time, swept, parting bool) {
	s := c.shared
	if s.busy || now.Before(s.rest) || l.shared.store.Away(l.shard) {
		return
	}
	lim := c.limit
	if s.spec == nil {
		s.spec = lim.spec
	}
	kind := lim.spec.facts.Kind
	if s.hand > 0 && !kind.Capacity() && (!now.Before(s.until) || lim.dropped) {
		l.handBack(s, now)
	}
	s.lapse(now)
	if !kind.Capacity() && !s.owes() && (swept || lim.dropped || s.hand > s.low || !lim.spec.lease()) {
		return
	}
	a := c.question(Take, s.spec, now)
	switch {
	case kind == Concurrency:
		if !l.tendPlaces(&a, now, swept, parting) {
			return
		}
	case kind == Users:
		if !l.tendUsers(&a, now, swept) {
			return
		}
	case s.owes():
		l.bill(s, &a, now)
	default:
		if a.Ahead = s.aim(now, lim.spec.most(l.shared.gateways())); a.Ahead == 0 {
			return
		}
		s.pending += a.Ahead
	}
	l.send(c, &a, now)
}

// gateways returns among how many what is taken ahead is divided.
func (s *Shared) gateways() int64 {
	if t, ok := s.store.(Settler); ok && !t.Settled() {
		return math.MaxInt64 // nothing is
	}
	return s.store.Gateways()
}

// tendPlaces fills a with what is due about places. They are kept in use
// first, so that those at the end are free.
func (l *Local) tendPlaces(a *Ask, now time.Time, swept, parting bool) bool {
	c := a.cell
	s, lim := c.shared, c.limit
	free := int64(len(s.ids)) - lim.inFlight
	keep := int64(0)
	if !parting && !lim.dropped && now.Before(s.until) {
		keep = lim.spec.most(l.shared.gateways())
	}
	if free > keep && lim.waiting == 0 {
		s.cede(free - keep)
	}
	switch {
	case len(s.gone) > 0:
		a.Action = Return
		a.IDs = slices.Clone(s.gone)
	case swept && len(s.ids) > 0 && now.Sub(s.renewed) >= renewEvery:
		a.Action = Renew
		a.IDs = slices.Clone(s.ids)
		s.renewed = now
	case swept && lim.waiting > 0 && free <= 0:
		a.Ahead = min(int64(lim.waiting), lim.spec.facts.Quota)
		a.ID = l.places(uint64(a.Ahead))
		s.pending += a.Ahead
	default:
		return false
	}
	return true
}

// tendUsers fills a with the users to be kept as active.
func (l *Local) tendUsers(a *Ask, now time.Time, swept bool) bool {
	c := a.cell
	s, us := c.shared, c.limit.users
	if swept && now.Sub(s.renewed) >= renewEvery {
		s.renewed = now
		for _, u := range us.all {
			if u.inFlight > 0 && now.Sub(u.touched) >= touched {
				u.touched = now
				s.ids = append(s.ids, u.sum[0], u.sum[1])
			}
		}
		us.expire(now)
	}
	if len(s.ids) == 0 {
		return false
	}
	a.Action, a.IDs, s.ids = Renew, s.ids, nil
	return true
}

// places returns the first of n new names of places. l.mu is held.
func (l *Local) places(n uint64) uint64 {
	l.lastPlace += n
	return l.lastPlace - n + 1
}

// send submits a as a call that nobody waits for. l.mu is held.
func (l *Local) send(c *cell, a *Ask, now time.Time) {
	s := c.shared
	if s.async == nil {
		s.async = &Call{local: l, Shard: l.shard, async: true, Asks: make([]Ask, 1)}
	}
	s.async.Asks[0], s.async.Made, s.async.now, s.async.Allowed = *a, time.Now(), now, false
	s.busy = true
	l.hold(c)
	l.shared.store.Submit(s.async)
}

// cede makes n free places go back.
func (s *share) cede(n int64) {
	at := int64(len(s.ids)) - n
	s.gone = append(s.gone, s.ids[at:]...)
	s.ids = s.ids[:at]
}

// answered takes in the answer to a call that nobody waited for. Without one,
// what was owed and places that went back are sent again, and places that were
// asked for go back: the store may have given them.
func (l *Local) answered(call *Call, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := &call.Asks[0]
	c := a.cell
	s := c.shared
	s.busy = false
	if err != nil {
		s.rest = l.advance(time.Now()).Add(restFor) // no request may have come since
		s.pending -= a.Ahead
		if a.Action == Take && a.Kind == Concurrency {
			s.reject(a.ID, a.Ahead)
		}
		return
	}
	now := l.advance(time.Now())
	switch {
	case a.Action == Return:
		s.gone = slices.DeleteFunc(s.gone, func(id uint64) bool { return slices.Contains(a.IDs, id) })
	case a.Action != Take:
		return
	case a.Kind == Concurrency:
		s.pending -= a.Ahead
		for i := range uint64(min(max(a.Got, 0), a.Ahead)) {
			s.ids = append(s.ids, a.ID+i)
			s.tenure = now
		}
		s.until = now.Add(hold)
		l.serve()
	default:
		s.absorb(a, call, now)
		l.shared.count.ahead.Add(a.Got)
		return
	}
	if c.limit.waiting > 0 && (a.Action == Return || a.Got > 0) {
		l.tend(c, now, true, false) // those that wait have waited for it
	}
}

// reject makes n places from id on go back.
func (s *share) reject(id uint64, n int64) {
	for i := range uint64(n) {
		s.gone = append(s.gone, id+i)
	}
}

// late takes in the answer to a call that its request has given up: what it
// was charged for goes back.
func (l *Local) late(call *Call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.advance(time.Now())
	for i := range call.Asks {
		a := &call.Asks[i]
		s := a.cell.shared
		if a.Action != Take {
			continue // a top-up that was late is one
		}
		s.paid(a)
		if a.spec.facts.Mode == gatehouse.Overage {
			a.cell.limit.over += max(a.Over, 0)
		}
		if !call.Allowed || s.spec == nil || a.Kind == Rate && a.spec != s.spec {
			continue
		}
		switch a.Kind {
		case Users: // the user did come
		case Concurrency:
			s.reject(a.ID, a.Cost)
		default:
			until := call.now.Add(a.until(call)).Add(now.Sub(call.now))
			if a.Kind == Rate {
				until = s.counts(now)
			}
			s.owe(-(a.Cost + min(max(a.Got, 0), a.Ahead)), a.Begin, until)
		}
		if s.owes() || len(s.gone) > 0 {
			l.hold(a.cell)
		}
	}
}
