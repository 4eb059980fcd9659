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

// MaxSeries is the default bound of the series that a tenant's usage tells
// apart. Consumers beyond it count in one more series per route and plan.
const MaxSeries = 10_000

// TenantMeter counts for one tenant. It lives as long as its Meter and is safe
// for concurrent use.
type TenantMeter struct {
	meter *Meter
	id    gatehouse.TenantID
	since time.Time // guarded by the Meter's mu
	seeds [2]maphash.Seed

	// slots finds a series by open addressing. It is read without a lock;
	// entries are added, and it is replaced by a larger one, under mu.
	slots atomic.Pointer[[]slot]

	// mu guards the fields below and every write to slots.
	mu      sync.Mutex
	series  []*Series // in order of creation
	told    int       // series in slots, at most the bound
	entries int       // in slots
	others  map[SeriesKey]*Series
}

// key stands for a plan, route and principal in this process: 128 bits, keyed, so
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

// noSlots are those of a tenant that has counted nothing. No entry is put
// there: the first finds them too few.
var noSlots = make([]slot, 1)

func newTenant(m *Meter, id gatehouse.TenantID, since time.Time) *TenantMeter {
	t := &TenantMeter{
		meter: m, id: id, since: since,
		seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()},
	}
	t.slots.Store(&noSlots)
	return t
}

// Series returns the series of a principal on a route under a plan; each may
// be empty. It keeps no argument and does not allocate for one seen before.
func (t *TenantMeter) Series(plan gatehouse.PlanID, route gatehouse.RouteID, principal []byte) *Series {
	k := t.keyOf(plan, route, principal)
	if s := find(*t.slots.Load(), k); s != nil {
		return s
	}
	return t.open(k, plan, route, principal)
}

// open returns the series for k, which was not found without the lock.
func (t *TenantMeter) open(k key, plan gatehouse.PlanID, route gatehouse.RouteID, principal []byte) *Series {
	name, byName := principal, k
	if !plain(principal) {
		name = hashed(principal)
		byName = t.keyOf(plan, route, name)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := find(*t.slots.Load(), k); s != nil {
		return s
	}
	s := t.named(byName, SeriesKey{Tenant: t.id, Route: route, Consumer: string(name), Plan: plan})
	if byName != k && s.key.Consumer != Overflow {
		t.insert(&entry{k, s})
	}
	return s
}

// named returns the series of a principal by its shown name; t.mu is held.
func (t *TenantMeter) named(k key, sk SeriesKey) *Series {
	if s := find(*t.slots.Load(), k); s != nil {
		return s
	}
	if t.told == t.meter.bound {
		sk.Consumer = Overflow
		return t.other(sk)
	}
	s := t.add(sk)
	t.told++
	t.insert(&entry{k, s})
	return s
}

// add makes a series; t.mu is held.
func (t *TenantMeter) add(k SeriesKey) *Series {
	s := &Series{meter: t.meter, key: k}
	t.meter.live.enter(s)
	t.series = append(t.series, s)
	return s
}

func (t *TenantMeter) keyOf(plan gatehouse.PlanID, route gatehouse.RouteID, principal []byte) key {
	var k key
	for i, seed := range t.seeds {
		// The odd factors tell the hashes from each other.
		k[i] = maphash.Bytes(seed, principal) + 0x9e3779b97f4a7c15*
			(maphash.String(seed, string(route))+0xbf58476d1ce4e5b9*maphash.String(seed, string(plan)))
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
		larger := make([]slot, max(minSlots, 2*len(slots)))
		for i := range slots {
			if old := slots[i].Load(); old != nil {
				put(larger, old)
			}
		}
		t.slots.Store(&larger)
		slots = larger
	}
	put(slots, e)
}

func put(slots []slot, e *entry) {
	i := e.key[0]
	for slots[i&uint64(len(slots)-1)].Load() != nil {
		i++
	}
	slots[i&uint64(len(slots)-1)].Store(e)
}

// other returns the overflow series of a route and plan; t.mu is held.
func (t *TenantMeter) other(k SeriesKey) *Series {
	s := t.others[k]
	if s == nil {
		s = t.add(k)
		if t.others == nil {
			t.others = map[SeriesKey]*Series{}
		}
		t.others[k] = s
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

// Overflow is the consumer of the series that count for everyone beyond the
// bound. A principal of this name is shown by its hash.
const Overflow = "__overflow__"

// plain reports whether usage lists a principal as it is.
func plain(principal []byte) bool {
	return len(principal) <= maxShown && utf8.Valid(principal) &&
		!bytes.HasPrefix(principal, []byte(hashPrefix)) && string(principal) != Overflow && !bytes.ContainsFunc(principal, unprintable)
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }

// hashed returns the name under which usage lists any other principal.
func hashed(principal []byte) []byte {
	sum := sha256.Sum256(principal)
	return hex.AppendEncode([]byte(hashPrefix), sum[:])
}

// restored returns the series that stored counts belong to.
func (t *TenantMeter) restored(k SeriesKey) *Series {
	if unit := k.unit; unit != "" {
		k.unit = ""
		return t.restored(k).Unit(unit)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if k.Consumer == Overflow {
		return t.other(k)
	}
	return t.named(t.keyOf(k.Plan, k.Route, []byte(k.Consumer)), k)
}

// Prefetch reads what Series will read first, before it is needed.
func (t *TenantMeter) Prefetch() uint64 {
	slots := *t.slots.Load()
	sum := uint64(len(t.id))
	for i := 0; i < len(slots) && i <= 8; i += 8 {
		if slots[i].Load() != nil {
			sum++
		}
	}
	return sum
}
