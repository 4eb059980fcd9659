package metering

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Series counts the requests of one consumer on one route under one plan. Its
// methods may be called from any goroutine and do not allocate; they may wait
// for another thread that counts for the same series. It lives as long as its
// Meter.
type Series struct {
	// What every request reads comes first, in one line of the cache.
	meter     *Meter
	more      atomic.Pointer[[]stripe]  // used instead of first once threads have met there
	units     atomic.Pointer[[]*Series] // of Unit; nil: none. Added to under the TenantMeter's mu
	contended atomic.Uint32             // how often threads have met in first
	dirty     atomic.Bool               // it is in Meter.dirty
	first     stripe

	key SeriesKey
	id  uint32 // within the epoch

	records []*record // that count for it; guarded by live.mu

	// Guarded by Meter.past.
	before values // of other epochs
	sealed values // of this epoch's sealed windows

	// Of the flusher alone.
	defined uint64 // number of the log's segment that names the series
}

// stripe is a series' counts of some threads.
type stripe struct {
	mu  sync.Mutex
	rec *record // of the latest window; guarded by mu
	// nanos is what AddTime has left below a microsecond; guarded by mu.
	nanos int64
	_     [40]byte // a cache line of its own
}

// promoteAt is how often threads meet in a series before it is striped.
const promoteAt = 64

const maxStripes = 16

// lock returns a stripe of s whose mu is held.
func (s *Series) lock() *stripe {
	if more := s.more.Load(); more != nil {
		st := &(*more)[rand.Uint32()&uint32(len(*more)-1)]
		st.mu.Lock()
		return st
	}
	if s.first.mu.TryLock() {
		return &s.first
	}
	if s.contended.Add(1) == promoteAt {
		n := 2
		for n < runtime.GOMAXPROCS(0) && n < maxStripes {
			n *= 2
		}
		more := make([]stripe, n)
		s.more.Store(&more)
	}
	s.first.mu.Lock()
	return &s.first
}

// open returns the record of st for the current window; st.mu is held.
func (s *Series) open(st *stripe) *record {
	if r := st.rec; r != nil && r.window == s.meter.window.Load() {
		return r
	}
	st.rec = s.meter.live.take(s.meter, s, st)
	return st.rec
}

// add counts v; st.mu is held and given back.
func (s *Series) add(st *stripe, v *values) {
	r := s.open(st)
	r.prepare(v)
	r.publish()
	s.touch()
	st.mu.Unlock()
}

// touch has the next flush write the series. The stripe's mu is held: a flush
// that clears the mark now reads the stripe after this.
func (s *Series) touch() {
	if !s.dirty.Load() && s.dirty.CompareAndSwap(false, true) {
		s.meter.dirty.add(s)
	}
}

// dirty are the series that have counted since the last flush.
type dirty struct {
	mu   sync.Mutex
	list []*Series // guarded by mu
}

func (d *dirty) add(s ...*Series) {
	d.mu.Lock()
	d.list = append(d.list, s...)
	d.mu.Unlock()
}

// swap takes the list and leaves an empty one in spare's memory.
func (d *dirty) swap(spare []*Series) []*Series {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := d.list
	d.list = spare[:0]
	return list
}

// Unit returns the series that counts one more custom unit for the same
// consumer, route and plan: what AddUnits adds to it is of the meter of that
// name, and in no Usage. It does not count among a tenant's series, whose
// bound it follows: who counts for all does so here too. Its other methods
// must not be called. Unit does not allocate for a name seen before.
func (s *Series) Unit(name string) *Series {
	if list := s.units.Load(); list != nil {
		if u := unitOf(*list, name); u != nil {
			return u
		}
	}
	t := s.meter.Tenant(s.key.Tenant)
	t.mu.Lock()
	defer t.mu.Unlock()
	var known []*Series
	if list := s.units.Load(); list != nil {
		known = *list
	}
	if u := unitOf(known, name); u != nil {
		return u
	}
	k := s.key
	k.unit = strings.Clone(name)
	u := t.add(k)
	known = append(slices.Clone(known), u)
	s.units.Store(&known)
	return u
}

func unitOf(list []*Series, name string) *Series {
	for _, u := range list {
		if u.key.unit == name {
			return u
		}
	}
	return nil
}

// Count adds one request that a backend answered with status, and what is
// known of it by then; the rest follows through the Add methods. It is called
// before the first byte of the answer leaves. No amount may be negative. A
// Flight does the same and is listed if the process ends before the request.
func (s *Series) Count(status int, bytesIn, bytesOut, units int64, d time.Duration) {
	a := Answer{Status: status, BytesIn: bytesIn, BytesOut: bytesOut, Units: units}
	var v values
	a.values(&v)
	st := s.lock()
	v[atCompute] = st.micros(d)
	s.add(st, &v)
}

// Deny marks a counted request as one that the gateway refused itself.
func (s *Series) Deny() { s.add(s.lock(), &values{atDenied: 1}) }

// AddBytes adds bytes of bodies: in from the caller, out to the caller.
func (s *Series) AddBytes(in, out int64) {
	if in != 0 || out != 0 {
		s.add(s.lock(), &values{atIn: in, atOut: out})
	}
}

// AddUnits adds custom units in millionths, as ParseUnits returns them.
func (s *Series) AddUnits(units int64) {
	if units != 0 {
		s.add(s.lock(), &values{atUnits: units})
	}
}

// AddTime adds the time that the backend spent on a request.
func (s *Series) AddTime(d time.Duration) {
	if d == 0 {
		return
	}
	st := s.lock()
	s.add(st, &values{atCompute: st.micros(d)})
}

// micros returns whole microseconds and keeps what is left; st.mu is held.
func (st *stripe) micros(d time.Duration) int64 {
	st.nanos += int64(d)
	us := st.nanos / int64(time.Microsecond)
	st.nanos %= int64(time.Microsecond)
	return us
}
