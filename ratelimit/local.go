package ratelimit

import (
	"cmp"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// DefaultMaxKeys is the default bound of Local on values counted apart.
const DefaultMaxKeys = 65536

// Local is the live state of one tenant's limits in this process. It outlives
// every recompilation of the tenant. It is safe for concurrent use.
type Local struct {
	// due is when the sweep has something to do next, in ns since 1970.
	due    atomic.Int64
	seeds  [2]maphash.Seed
	shared *Shared // nil without a store

	tenant  gatehouse.TenantID
	maxKeys int
	shard   int // of the tenant, in the store

	// mu guards everything below, and every limit, cell and user reached
	// from it.
	mu sync.Mutex
	// now is the latest instant seen. Time given to limits never runs
	// backwards: rate.Limiter would refill the same span twice.
	now      time.Time
	fetched  uint64 // what prefetch returns, so that it is not left out
	table    table
	limits   map[limitKey]*limit
	restored restored
	waiting  int      // requests that wait for a place
	came     uint64   // the number of the last one that came to wait
	queues   []*limit // those that requests wait for
	holding  []*cell  // of the store, with something held ahead
	// overflowed counts requests that found no place for a count of their own.
	overflowed int64
	// lastPlace is the newest name of a place in the store.
	lastPlace uint64
}

// limitKey finds a limit again when its tenant is compiled anew.
type limitKey struct {
	scope ScopeKind
	route gatehouse.RouteID
	kind  Kind
	name  string
	by    string // the selectors as text
	store gatehouse.LimitStore
}

// NewLocal returns the state of a tenant without history. At most maxKeys
// values are counted apart, over all limits `by` value; 0 stands for
// DefaultMaxKeys. Values beyond that share one overflow count per limit until
// counts that are full again make room.
func NewLocal(tenant gatehouse.TenantID, maxKeys int) *Local {
	if maxKeys <= 0 {
		maxKeys = DefaultMaxKeys
	}
	return &Local{
		tenant:  tenant,
		maxKeys: maxKeys,
		seeds:   [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()},
	}
}

// Stack compiles scopes, outermost first, and makes their limits the ones in
// force from now on, for older stacks too. A limit that has changed keeps its
// count: a raised quota leaves the difference, a lowered one applies at once,
// a rate and its burst change as rate.Limiter has it (what is in the bucket
// stays, up to the new burst). A quota whose window changes keeps its count
// if that is not over and began within the new window. A limit that moves to another store
// begins a new count. Calendar windows lie in loc; nil is UTC.
func (l *Local) Stack(now time.Time, loc *time.Location, scopes ...Scope) *Stack {
	if loc == nil {
		loc = time.UTC
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now = l.advance(now)
	n := 0
	for i := range scopes {
		n += scopes[i].size()
	}
	s := &Stack{local: l, limits: make([]*limit, 0, n), places: make([]int, 0, n), facts: make([]Limit, 0, n)}
	anchor := 1
	for i := range scopes {
		anchor = max(anchor, scopes[i].Limits.AnchorDay) // one of them at most has it
	}
	for i := range scopes {
		sc := &scopes[i]
		rules := sc.Limits.AllRules()
		for j := range rules {
			r := &rules[j]
			sp := &spec{
				facts: factsOf(sc, r), perSecond: r.Rate.PerSecond(), rate: r.Rate,
				window: r.Window, anchor: anchor, loc: loc, since: now,
			}
			s.add(l.define(sp))
		}
		if n := int64(sc.Limits.Concurrency); n > 0 {
			sp := &spec{facts: sc.capacity(Concurrency, concurrencyName, n), loc: loc}
			sp.wait = sc.Limits.Wait.Or(0)
			sp.maxWaiting = cmp.Or(sc.Limits.MaxWaiting, sc.Limits.Concurrency)
			s.add(l.define(sp))
		}
		if n := int64(sc.Limits.MaxConcurrentUsers); n > 0 {
			sp := &spec{facts: sc.capacity(Users, usersName, n), loc: loc}
			sp.facts.Window = int64(userWindow / time.Second)
			s.add(l.define(sp))
		}
	}
	l.serve() // a bound may have been raised
	return s
}

// size is the number of limits of the scope.
func (s *Scope) size() int {
	n := len(s.Limits.Rules)
	for _, more := range []bool{s.Limits.MaxAPICallsPerHour != 0, s.Limits.Concurrency > 0, s.Limits.MaxConcurrentUsers > 0} {
		if more {
			n++
		}
	}
	return n
}

// define puts sp in force and returns its limit. l.mu is held.
func (l *Local) define(sp *spec) *limit {
	f := &sp.facts
	f.Store, f.Away = cmp.Or(f.Store, l.mode()), cmp.Or(f.Away, gatehouse.AwayLocalShare)
	if l.shared == nil {
		f.Store = gatehouse.StoreLocal
	}
	k := limitKey{f.Scope, f.Route, f.Kind, f.Name, selectorText(f.By), f.Store}
	lim := l.limits[k]
	if lim != nil && lim.spec.same(sp) {
		return lim
	}
	switch f.Kind {
	case Rate:
		sp.terms = rateTerms(sp.rate, f.Burst)
	case Quota:
		sp.terms = quotaTerms(sp)
	}
	if lim != nil {
		lim.spec = sp
		for _, c := range l.holding {
			if c.limit == lim && !f.Kind.Capacity() {
				c.shared.settle(sp)
			}
		}
		return lim
	}
	lim = &limit{local: l, name: l.nameOf(f), spec: sp, remote: f.Store != gatehouse.StoreLocal}
	if f.Kind == Users {
		lim.users = newUsers()
	}
	if lim.remote && f.Kind.Capacity() {
		lim.one = newCell(lim, digest{})
	}
	if l.limits == nil {
		l.limits = map[limitKey]*limit{}
	}
	l.limits[k] = lim
	if k.by != "" {
		l.table.by++
	}
	return lim
}

// mode is how limits are counted that do not say.
func (l *Local) mode() gatehouse.LimitStore {
	if l.shared == nil {
		return gatehouse.StoreLocal
	}
	return l.shared.mode
}

// add appends a limit to a stack under construction.
func (s *Stack) add(lim *limit) {
	f := &lim.spec.facts
	place := -1
	if len(f.By) > 0 {
		place = slices.IndexFunc(s.selects, func(by []gatehouse.Selector) bool { return slices.Equal(by, f.By) })
		if place < 0 {
			place = len(s.selects)
			s.selects = append(s.selects, f.By)
		}
	}
	s.limits = append(s.limits, lim)
	s.places = append(s.places, place)
	s.facts = append(s.facts, *f)
	s.hasUser = s.hasUser || f.Kind == Users
	s.tickets = s.tickets || f.Kind.Capacity()
	s.bounded = s.bounded || f.Kind == Concurrency
}

// Retain drops every limit, and its count, that stands in none of the stacks.
// It is called with the stacks of a tenant's table once that is in use. Older
// stacks keep working, without the dropped limits. A table without stacks says
// nothing of the plan's and the tenant's limits: those stay.
func (l *Local) Retain(stacks ...*Stack) {
	live := map[*limit]bool{}
	for _, s := range stacks {
		for _, lim := range s.limits {
			live[lim] = true
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, lim := range l.limits {
		if live[lim] || len(stacks) == 0 && k.scope != RouteScope {
			continue
		}
		lim.dropped, lim.cells, lim.overflow = true, nil, nil
		if lim.away != nil {
			lim.away.dropped, lim.away.cells, lim.away.overflow = true, nil, nil
		}
		delete(l.limits, k)
		if k.by != "" {
			l.table.by--
		}
	}
	l.table.sweep()
	l.serve()
}

// advance returns the later of now and the latest instant seen, and remembers
// it. l.mu is held.
func (l *Local) advance(now time.Time) time.Time {
	if now.After(l.now) {
		l.now = now
	}
	return l.now
}
