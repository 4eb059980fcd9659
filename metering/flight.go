package metering

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// Answer is what is known of a request when the first byte of its answer is
// about to leave. No amount may be negative.
type Answer struct {
	// Status is of HTTP; one outside 100 to 599 is in no class.
	Status int
	// BytesIn and BytesOut are bytes of bodies, from and to the caller.
	BytesIn, BytesOut int64
	// Units are in millionths, as ParseUnits returns them.
	Units int64
	// Time is what the backend took.
	Time time.Duration
	By   By
}

// By says whose answer it is.
type By uint8

const (
	// Backend answered: billable unless the status is 5xx.
	Backend By = iota
	// Gateway answered by itself, and rightly so; it is not billable.
	Gateway
	// Refusal is the gateway's too; it is not billable, and counts as denied.
	Refusal
)

func (a *Answer) billable() bool { return a.By == Backend && a.Status >= 100 && a.Status < 500 }

func (a *Answer) values(v *values) {
	*v = values{atRequests: 1, atIn: a.BytesIn, atOut: a.BytesOut, atUnits: a.Units}
	if class := a.Status/100 - 1; class >= 0 && class < 5 {
		v[int(atClass1)+class] = 1
	}
	if a.billable() {
		v[atBillable] = 1
	}
	if a.By == Refusal {
		v[atDenied] = 1
	}
}

// Flight is one request from its routing to its end. Begin opens it, Answer
// counts it, End closes it. If the process ends in between, whoever adopts
// its counts lists the request as interrupted. A Flight belongs to one
// goroutine and must not be used after End.
//
// Its place in the live file has 64 bytes:
//
//	0  state
//	1  1 if billable
//	4  series
//	8  start, Unix time in ns
//	16 bytes of the answer so far
//	24 window, segment and index of the record that counts it
//	40 sequence number of the record's copy that counts it
type Flight struct {
	b      *[slotSize]byte
	series *Series
	hangar *hangar
}

const slotSize = 64

// States of a flight, in the order of its life.
const (
	slotFree     = iota
	slotOpen     // routed
	slotAnswered // counted; its head may have been sent
	slotWritten  // the last byte has been handed to the kernel
)

// A hangar keeps free places. There are several, so that threads do not meet.
type hangar struct {
	spare atomic.Pointer[Flight] // one that is free, nil: none
	mu    sync.Mutex
	free  []*Flight // guarded by mu
	_     [24]byte  // a cache line of its own
}

const hangars = 16 // a power of two

// Begin opens a flight of the series, which began at start.
func (s *Series) Begin(start time.Time) *Flight {
	f := s.meter.live.flight()
	f.series = s
	b := f.b
	le.PutUint32(b[4:], s.id)
	le.PutUint64(b[8:], uint64(start.UnixNano()))
	le.PutUint64(b[16:], 0)
	le.PutUint32(b[28:], noSegment)
	b[1] = 0
	b[0] = slotOpen
	return f
}

// Answer counts the request. It is called once, before the first byte of the
// answer leaves.
func (f *Flight) Answer(a *Answer) {
	s, b := f.series, f.b
	var v values
	a.values(&v)
	if a.billable() {
		b[1] = 1
	}
	le.PutUint64(b[16:], uint64(a.BytesOut))
	st := s.lock()
	v[atCompute] = st.micros(a.Time)
	r := s.open(st)
	seq := r.prepare(&v)
	// A kill after publish and before the state is told by the sequence number.
	le.PutUint32(b[24:], r.window)
	le.PutUint32(b[32:], r.index)
	le.PutUint64(b[40:], seq)
	le.PutUint32(b[28:], r.segment)
	r.publish()
	b[0] = slotAnswered
	s.touch()
	st.mu.Unlock()
}

// Sent adds bytes of the answer's body. It is called before they leave.
func (f *Flight) Sent(n int64) {
	f.series.AddBytes(0, n)
	le.PutUint64(f.b[16:], le.Uint64(f.b[16:])+uint64(n))
}

// Written says that the last byte has been handed to the kernel.
func (f *Flight) Written() { f.b[0] = slotWritten }

// Series returns what the flight counts for.
func (f *Flight) Series() *Series { return f.series }

// End closes the flight.
func (f *Flight) End() {
	f.b[0] = slotFree
	f.series = nil
	h := f.hangar
	if h.spare.CompareAndSwap(nil, f) {
		return
	}
	h.mu.Lock()
	h.free = append(h.free, f)
	h.mu.Unlock()
}

// flight returns a free place.
func (l *live) flight() *Flight {
	at := rand.Uint32()
	if f := l.hangars[at%hangars].spare.Swap(nil); f != nil {
		return f
	}
	for {
		for i := range uint32(hangars) {
			h := &l.hangars[(at+i)%hangars]
			if f := h.spare.Swap(nil); f != nil {
				return f
			}
			h.mu.Lock()
			if n := len(h.free); n > 0 {
				f := h.free[n-1]
				h.free = h.free[:n-1]
				h.mu.Unlock()
				return f
			}
			h.mu.Unlock()
		}
		l.mu.Lock()
		l.grow()
		l.mu.Unlock()
	}
}

// flown is what a place in the live file says of a request.
type flown struct {
	state          byte
	billable       bool
	series         uint32
	start          time.Time
	bytes          int64
	window         uint32
	segment, index uint32
	seq            uint64
}

func readSlot(b *[slotSize]byte) flown {
	return flown{
		state: b[0], billable: b[1] == 1, series: le.Uint32(b[4:]), start: time.Unix(0, int64(le.Uint64(b[8:]))).UTC(),
		bytes: int64(le.Uint64(b[16:])), window: le.Uint32(b[24:]), segment: le.Uint32(b[28:]), index: le.Uint32(b[32:]),
		seq: le.Uint64(b[40:]),
	}
}
