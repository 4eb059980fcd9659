package metering

import (
	"sync/atomic"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// Series counts the requests of one principal on one route. Its methods may
// be called from any goroutine and neither allocate nor block. It lives as
// long as its Meter.
type Series struct {
	route     gatehouse.RouteID
	principal string // as Usage shows it
	other     bool   // the route's series for principals beyond the bound

	requests atomic.Int64
	classes  [5]atomic.Int64 // by status class, 1xx first
	denied   atomic.Int64
	bytesIn  atomic.Int64
	bytesOut atomic.Int64
	nanos    atomic.Int64
	units    atomic.Int64 // millionths
}

// Count adds one request that was answered with status, and what is known of
// it by then; the rest follows through the Add methods. It is called before
// the first byte of the answer leaves. A status outside 100 to 599 is in no
// class. No amount may be negative.
func (s *Series) Count(status int, bytesIn, bytesOut, units int64, d time.Duration) {
	s.requests.Add(1)
	if class := status/100 - 1; class >= 0 && class < len(s.classes) {
		s.classes[class].Add(1)
	}
	s.AddBytes(bytesIn, bytesOut)
	s.AddUnits(units)
	s.AddTime(d)
}

// Deny marks a counted request as one that the gateway refused itself.
func (s *Series) Deny() { s.denied.Add(1) }

// AddBytes adds bytes of bodies: in from the caller, out to the caller.
func (s *Series) AddBytes(in, out int64) {
	if in != 0 {
		s.bytesIn.Add(in)
	}
	if out != 0 {
		s.bytesOut.Add(out)
	}
}

// AddUnits adds custom units in millionths, as ParseUnits returns them. The
// count stays at the end of int64 when it comes there.
func (s *Series) AddUnits(units int64) {
	for units != 0 {
		old := s.units.Load()
		if s.units.CompareAndSwap(old, plus(old, units)) {
			return
		}
	}
}

// AddTime adds the time that the backend spent on a request.
func (s *Series) AddTime(d time.Duration) {
	if d != 0 {
		s.nanos.Add(int64(d))
	}
}

// counts reads the counters.
func (s *Series) counts() Counts {
	c := Counts{
		Requests: s.requests.Load(),
		Denied:   s.denied.Load(),
		BytesIn:  s.bytesIn.Load(),
		BytesOut: s.bytesOut.Load(),
		Compute:  s.nanos.Load() / int64(time.Microsecond),
		Units:    s.units.Load(),
	}
	c.Status = Status{
		s.classes[0].Load(), s.classes[1].Load(), s.classes[2].Load(), s.classes[3].Load(), s.classes[4].Load(),
	}
	return c
}

// restore adds what was counted before a restart.
func (s *Series) restore(c *Counts) {
	s.requests.Add(c.Requests)
	for i, n := range c.Status.byClass() {
		s.classes[i].Add(n)
	}
	s.denied.Add(c.Denied)
	s.bytesIn.Add(c.BytesIn)
	s.bytesOut.Add(c.BytesOut)
	s.nanos.Add(c.Compute * int64(time.Microsecond))
	s.AddUnits(c.Units)
}
