package metering

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/gatehouse-gateway/gatehouse"
)

// MaxSeries bounds the pairs of route and principal that a tenant's usage
// tells apart. Principals beyond it count in one more series per route.
const MaxSeries = 10_000

// TenantMeter counts for one tenant. It lives as long as its Meter and is safe
// for concurrent use.
type TenantMeter struct {
	since time.Time // guarded by the Meter's mu
	seeds [2]maphash.Seed

	// slots finds a series by open addressing. It is read without a lock;
	// entries are added, and it is replaced by a larger one, under mu.
	slots atomic.Pointer[[]slot]

	// mu guards the fields below and every write to slots.
	mu      sync.Mutex
	series  []*Series // in order of creation
	told    int       // series in slots, at most MaxSeries
	entries int       // in slots
	others  map[gatehouse.RouteID]*Series
}

// key stands for a route and principal in this process: 128 bits, keyed, so
// that no caller can find a name that shares another's series.
type key [2]uint64

type slot = atomic.Pointer[entry]

// entry is immutable. A principal that is shown by its hash has two: one for
// itself and one for the hash, which is all that a flush keeps of it.
type entry struct {
	key    key
	series *Series
}

const minSlots = 16 // a power of two, as every number of slots

func newTenant(since time.Time) *TenantMeter {
	t := &TenantMeter{
		since:  since,
		seeds:  [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()},
		others: map[gatehouse.RouteID]*Series{},
	}
	slots := make([]slot, minSlots)
	t.slots.Store(&slots)
	return t
}

// Series returns the series of a principal on a route; both may be empty. It
// keeps neither argument and does not allocate for a pair seen before.
func (t *TenantMeter) Series(route gatehouse.RouteID, principal []byte) *Series {
	k := t.keyOf(route, principal)
	if s := find(*t.slots.Load(), k); s != nil {
		return s
	}
	return t.open(k, route, principal)
}

// open returns the series for k, which was not found without the lock.
func (t *TenantMeter) open(k key, route gatehouse.RouteID, principal []byte) *Series {
	name, byName := principal, k
	if !plain(principal) {
		name = hashed(principal)
		byName = t.keyOf(route, name)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := find(*t.slots.Load(), k); s != nil {
		return s
	}
	s := t.named(byName, route, name)
	if byName != k && !s.other {
		t.insert(&entry{k, s})
	}
	return s
}

// named returns the series of a principal by its shown name; t.mu is held.
func (t *TenantMeter) named(k key, route gatehouse.RouteID, name []byte) *Series {
	if s := find(*t.slots.Load(), k); s != nil {
		return s
	}
	if t.told == MaxSeries {
		return t.other(route)
	}
	s := &Series{route: route, principal: string(name)}
	t.told++
	t.series = append(t.series, s)
	t.insert(&entry{k, s})
	return s
}

func (t *TenantMeter) keyOf(route gatehouse.RouteID, principal []byte) key {
	var k key
	for i, seed := range t.seeds {
		// The odd factor tells the route's hash from the principal's.
		k[i] = maphash.String(seed, string(route))*0x9e3779b97f4a7c15 + maphash.Bytes(seed, principal)
	}
	return k
}

// find returns the series under k, or nil. Some slot is always empty.
func find(slots []slot, k key) *Series {
	for i := k[0]; ; i++ {
		e := slots[i&uint64(len(slots)-1)].Load()
		if e == nil {
			return nil
		}
		if e.key == k {
			return e.series
		}
	}
}

// insert adds an entry whose key is not in slots; t.mu is held.
func (t *TenantMeter) insert(e *entry) {
	slots := *t.slots.Load()
	t.entries++
	if 2*t.entries > len(slots) {
		larger := make([]slot, 2*len(slots))
		for i := range slots {
			if old := slots[i].Load(); old != nil {
				place(larger, old)
			}
		}
		t.slots.Store(&larger)
		slots = larger
	}
	place(slots, e)
}

func place(slots []slot, e *entry) {
	i := e.key[0]
	for slots[i&uint64(len(slots)-1)].Load() != nil {
		i++
	}
	slots[i&uint64(len(slots)-1)].Store(e)
}

// other returns the overflow series of route; t.mu is held.
func (t *TenantMeter) other(route gatehouse.RouteID) *Series {
	s := t.others[route]
	if s == nil {
		s = &Series{route: route, other: true}
		t.others[route] = s
		t.series = append(t.series, s)
	}
	return s
}

// all returns every series, in order of creation.
func (t *TenantMeter) all() []*Series {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.series[:len(t.series):len(t.series)]
}

const (
	maxShown   = 128 // bytes
	hashPrefix = "sha256:"
)

// plain reports whether usage lists a principal as it is.
func plain(principal []byte) bool {
	return len(principal) <= maxShown && utf8.Valid(principal) &&
		!bytes.HasPrefix(principal, []byte(hashPrefix)) && !bytes.ContainsFunc(principal, unprintable)
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }

// hashed returns the name under which usage lists any other principal.
func hashed(principal []byte) []byte {
	sum := sha256.Sum256(principal)
	return hex.AppendEncode([]byte(hashPrefix), sum[:])
}

// restore adds what was stored of a series.
func (t *TenantMeter) restore(ss *seriesSnapshot) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if ss.Other {
		t.other(ss.Route).restore(&ss.Counts)
		return
	}
	name := []byte(ss.Principal)
	t.named(t.keyOf(ss.Route, name), ss.Route, name).restore(&ss.Counts)
}
