package ratelimit

import (
	"context"
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
)

// Shared is this process' part in a store of limits: what it holds ahead of
// all tenants. It is safe for concurrent use.
type Shared struct {
	store Store
	mode  gatehouse.LimitStore
	calls calls
	count struct{ asked, ahead, returned, away atomic.Int64 }

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
	for _, c := range l.holding {
		s := c.shared
		if parting {
			s.until = now
		}
		l.tend(c, now, true, parting)
		if s.hand > 0 || s.busy || c.limit.waiting > 0 || int64(len(s.ids)) > c.limit.inFlight {
			due = now
		}
	}
	l.due.Store(due.UnixNano())
	l.holding = slices.DeleteFunc(l.holding, func(c *cell) bool {
		if s := c.shared; s.hand > 0 || s.busy || len(s.ids) > 0 && !parting || c.limit.waiting > 0 || c.limit.userCount() > 0 && !parting {
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
	if s.busy || l.shared.store.Away(l.shard) {
		return
	}
	lim := c.limit
	if s.spec == nil {
		s.spec = lim.spec
	}
	kind := lim.spec.facts.Kind
	over := s.hand > 0 && (!now.Before(s.until) || lim.dropped)
	if !kind.Capacity() && !over && (swept || lim.dropped || s.hand > s.low || !lim.spec.lease()) {
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
	case over:
		a.Action, a.Cost, a.Start = Return, s.hand, s.begin
		s.hand = 0
		if kind == Quota && !now.Before(s.end) {
			return // it was of a window that is over
		}
		l.shared.count.returned.Add(a.Cost)
	default:
		if a.Ahead = s.aim(now, lim.spec.most(l.shared.store.Gateways())); a.Ahead == 0 {
			return
		}
		s.pending += a.Ahead
	}
	l.send(c, &a, now)
}

// tendPlaces fills a with what is due about places. They are kept in use
// first, so that those at the end are free.
func (l *Local) tendPlaces(a *Ask, now time.Time, swept, parting bool) bool {
	c := a.cell
	s, lim := c.shared, c.limit
	free := int64(len(s.ids)) - lim.inFlight
	keep := int64(0)
	if !parting && !lim.dropped && now.Before(s.until) {
		keep = lim.spec.most(l.shared.store.Gateways())
	}
	switch {
	case free > keep && lim.waiting == 0:
		n := int64(len(s.ids)) - (free - keep)
		a.Action = Return
		a.IDs = slices.Clone(s.ids[n:])
		s.ids = s.ids[:n]
	case swept && len(s.ids) > 0 && now.Sub(s.renewed) >= renewEvery:
		a.Action = Renew
		a.IDs = slices.Clone(s.ids)
		s.renewed = now
	case swept && lim.waiting > 0 && free == 0:
		a.Ahead, a.ID = 1, l.places(1)
		s.pending++
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

// answered takes in the answer to a call that nobody waited for.
func (l *Local) answered(call *Call, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := &call.Asks[0]
	c := a.cell
	if c == nil {
		return
	}
	s := c.shared
	s.busy = false
	if err != nil {
		s.pending -= a.Ahead
		return
	}
	now := l.advance(time.Now())
	if a.Action != Take {
		if a.Action == Return && !a.Kind.Capacity() && a.spec == s.spec && a.Begin == s.begin {
			s.at, s.left = call.now, a.Left
		}
		return
	}
	if a.Kind == Concurrency {
		s.pending -= a.Ahead
		for i := range uint64(a.Got) {
			s.ids = append(s.ids, a.ID+i)
		}
		s.until = now.Add(hold)
		l.serve()
		return
	}
	l.shared.count.ahead.Add(a.Got)
	s.absorb(a, call, now)
}

// giveBack returns what a call was charged for that nobody waits for any more.
func (l *Local) giveBack(call *Call) {
	for i := range call.Asks {
		a := &call.Asks[i]
		back := Ask{Action: Return, Kind: a.Kind, Key: a.Key, Cost: a.Cost + a.Got, Terms: a.Terms, Quota: a.Quota, Age: a.Age, Forced: a.Forced, Start: a.Begin, spec: a.spec}
		switch a.Kind {
		case Users:
			continue // the user did come
		case Concurrency:
			for id := range uint64(back.Cost) {
				back.IDs = append(back.IDs, a.ID+id)
			}
		}
		l.shared.store.Submit(&Call{local: l, Shard: l.shard, async: true, Asks: []Ask{back}, Made: call.Made})
	}
	l.shared.free(call)
}
