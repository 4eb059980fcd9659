package proxy

import (
	"cmp"
	"maps"
	"math"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// Tally is what requests of one kind came to on one route.
type Tally struct {
	Tenant gatehouse.TenantID
	// Route is empty for requests that no route took.
	Route gatehouse.RouteID
	// Method is one of RFC 9110 or PATCH; OTHER stands for every other.
	Method string
	// Class is the first digit of the status; 0: the client had gone.
	Class int
	// Requests are all; Denied of them were answered by the gateway in place of
	// a backend, and Limited of those by a limit.
	Requests, Denied, Limited int64
	// BytesIn and BytesOut are of bodies.
	BytesIn, BytesOut int64
	// Times are the requests by the time from their head to the answer's, where
	// that is still to come when the line is over, else to its end. Each has
	// the bucket's upper bound; empty ones are left out.
	Times []TimeCount
}

// TimeCount is how many requests took at most Micros microseconds, and longer
// than the bucket before.
type TimeCount struct{ Micros, Count int64 }

// Buckets of time: four to each power of two, from 16 µs to over four minutes.
// A quantile is off by 12 % at most.
const (
	firstBit    = 4
	timeBuckets = 96
)

// bucketOf is the bucket of a duration; the last has all that is longer.
func bucketOf(d time.Duration) int {
	us := uint64(max(d, 0) / time.Microsecond)
	if us < 1<<firstBit {
		return 0
	}
	top := bits.Len64(us) - 1
	return min((top-firstBit)*4+int(us>>(top-2)&3)+1, timeBuckets-1)
}

// boundOf is the upper bound of bucket i in microseconds.
func boundOf(i int) int64 {
	if i == 0 {
		return 1<<firstBit - 1
	}
	top := (i-1)/4 + firstBit
	return 1<<top + int64((i-1)%4+1)<<(top-2) - 1
}

var tallyMethods = [...]string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "OTHER"}

// methodIndex is a method's place in tallyMethods.
func methodIndex(method []byte) int {
	for i := range len(tallyMethods) - 1 {
		if string(method) == tallyMethods[i] {
			return i
		}
	}
	return len(tallyMethods) - 1
}

const statusClasses = 6

// cell counts requests on one route with one method and class of status. A
// reader takes each count out, so that it is read once.
type cell struct {
	denied, limited, in, out atomic.Int64
	times                    [timeBuckets]atomic.Uint32 // their sum is the requests
}

// tally are the cells of one route. They are made when they are first counted
// in: a route without requests has none.
type tally struct {
	route gatehouse.RouteID
	cells atomic.Pointer[[len(tallyMethods) * statusClasses]atomic.Pointer[cell]]
}

// cell returns the cell of a method and class.
func (t *tally) cell(method, class int) *cell {
	all := t.cells.Load()
	if all == nil {
		t.cells.CompareAndSwap(nil, new([len(tallyMethods) * statusClasses]atomic.Pointer[cell]))
		all = t.cells.Load()
	}
	p := &all[method*statusClasses+class]
	c := p.Load()
	if c == nil {
		p.CompareAndSwap(nil, new(cell))
		c = p.Load()
	}
	return c
}

// tally counts an exchange that is over.
func (x *Exchange) tally(now time.Time) {
	if x.table == nil {
		return // nobody's
	}
	t := &x.table.slot.tallies.none
	if x.route != nil {
		t = x.route.tally
	}
	class := x.Status / 100
	if class < 0 || class >= statusClasses || x.code == gatehouse.CodeClientGone {
		class = 0
	}
	c := t.cell(methodIndex(x.In.Method), class)
	took := now.Sub(x.start)
	if x.lined > 0 && x.code == "" {
		took = x.lined
	}
	if x.code != "" && x.code != gatehouse.CodeClientGone {
		c.denied.Add(1)
		if codePhase[phaseLetters(x.code)] == phaseLimit {
			c.limited.Add(1)
		}
	}
	if n := x.bodyIn.Load(); n > 0 {
		c.in.Add(n)
	}
	if x.bodyOut > 0 {
		c.out.Add(x.bodyOut)
	}
	c.times[bucketOf(took)].Add(1)
}

// keptTallies is how many takings are kept for live figures.
const keptTallies = 5

// tallies are those of a tenant, by route. They outlive its tables.
type tallies struct {
	none tally // of requests that no route took

	mu     sync.Mutex
	routes []*tally // guarded by mu
	// taken are those of the last takings that counted anything, the newest
	// last; guarded by mu.
	taken []taking
}

// taking is what was counted in a time that began at from.
type taking struct {
	from time.Time
	list []Tally
}

// of returns the tally of a route.
func (s *tallies) of(route gatehouse.RouteID) *tally {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.routes, func(t *tally) bool { return t.route == route })
	if i < 0 {
		i = len(s.routes)
		s.routes = append(s.routes, &tally{route: route})
	}
	return s.routes[i]
}

// read lists what has been counted; with take it is taken out. s.mu is held.
func (s *tallies) read(id gatehouse.TenantID, take bool) []Tally {
	list := s.none.read(nil, id, take)
	for _, t := range s.routes {
		list = t.read(list, id, take)
	}
	return list
}

func (t *tally) read(dst []Tally, id gatehouse.TenantID, take bool) []Tally {
	all := t.cells.Load()
	if all == nil {
		return dst
	}
	get := func(v *atomic.Int64) int64 {
		if take {
			return v.Swap(0)
		}
		return v.Load()
	}
	for i := range all {
		c := all[i].Load()
		if c == nil {
			continue
		}
		r := Tally{Tenant: id, Route: t.route, Method: tallyMethods[i/statusClasses], Class: i % statusClasses}
		// A request counts its time last: what is read of it before belongs to
		// this taking or to the next, and to one of them alone.
		for b := range c.times {
			n := c.times[b].Load()
			if n == 0 {
				continue
			}
			if take {
				n = c.times[b].Swap(0)
			}
			r.Times = append(r.Times, TimeCount{boundOf(b), int64(n)})
			r.Requests += int64(n)
		}
		r.Denied, r.Limited, r.BytesIn, r.BytesOut = get(&c.denied), get(&c.limited), get(&c.in), get(&c.out)
		if r.Requests|r.Denied|r.BytesIn|r.BytesOut != 0 {
			dst = append(dst, r)
		}
	}
	return dst
}

// TakeTallies returns what has been counted of every tenant since the call
// before, each request once. The caller keeps it; a gateway whose tallies
// nobody takes counts on. What a tenant counted between the last call and its
// removal is lost, and so is a request that ends after its route went.
func (g *Gateway) TakeTallies(now time.Time) []Tally {
	g.mu.Lock()
	slots := slices.SortedFunc(maps.Values(g.slots), func(a, b *slot) int { return cmp.Compare(a.id, b.id) })
	g.takings = append(g.takings, now)
	if n := len(g.takings) - 1 - keptTallies; n > 0 {
		g.takings = slices.Delete(g.takings, 0, n)
	}
	from, oldest := g.takings[len(g.takings)-2], g.takings[0]
	g.mu.Unlock()
	var all []Tally
	for _, s := range slots {
		all = append(all, s.take(from, oldest)...)
	}
	return all
}

// take takes the tenant's tallies, and forgets those of routes that it no
// longer has once they count nothing.
func (s *slot) take(from, oldest time.Time) []Tally {
	t := s.table.Load()
	ts := &s.tallies
	ts.mu.Lock()
	defer ts.mu.Unlock()
	list := ts.read(s.id, true)
	ts.taken = slices.DeleteFunc(ts.taken, func(k taking) bool { return k.from.Before(oldest) })
	if len(list) > 0 {
		ts.taken = append(ts.taken, taking{from, list})
	}
	if t == nil || len(ts.routes) == len(t.routes) {
		return list
	}
	ts.routes = slices.DeleteFunc(ts.routes, func(r *tally) bool {
		return !slices.ContainsFunc(t.routes, func(d routeTable) bool { return d.id == r.route }) &&
			!slices.ContainsFunc(list, func(c Tally) bool { return c.Route == r.route })
	})
	return list
}

// recent returns what the tenant's requests came to since the oldest taking
// that is kept.
func (s *slot) recent(oldest time.Time) []Tally {
	ts := &s.tallies
	ts.mu.Lock()
	defer ts.mu.Unlock()
	list := ts.read(s.id, false)
	for _, k := range ts.taken {
		if !k.from.Before(oldest) {
			list = append(list, k.list...)
		}
	}
	return list
}

// Quantile returns the time in milliseconds within which a share q of the
// requests ended, linear within a bucket; 0 of none.
func Quantile(times []TimeCount, q float64) float64 {
	var total int64
	for _, t := range times {
		total += t.Count
	}
	if total == 0 {
		return 0
	}
	rank := max(int64(math.Ceil(q*float64(total))), 1)
	var below int64
	for _, t := range times {
		if below+t.Count < rank {
			below += t.Count
			continue
		}
		// A bucket begins a quarter or a fifth below its bound, or less.
		lower := float64(0)
		if b := bucketOf(time.Duration(t.Micros) * time.Microsecond); b > 0 {
			lower = float64(boundOf(b - 1))
		}
		share := float64(rank-below) / float64(t.Count)
		return math.Round(lower+(float64(t.Micros)-lower)*share) / 1000
	}
	return 0
}

// merged adds up buckets of several tallies, in ascending order.
func merged(lists ...[]TimeCount) []TimeCount {
	sums := map[int64]int64{}
	for _, list := range lists {
		for _, t := range list {
			sums[t.Micros] += t.Count
		}
	}
	out := make([]TimeCount, 0, len(sums))
	for _, bound := range slices.Sorted(maps.Keys(sums)) {
		out = append(out, TimeCount{bound, sums[bound]})
	}
	return out
}
