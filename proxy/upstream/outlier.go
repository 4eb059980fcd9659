package upstream

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// verdict is what an attempt says of its endpoint.
type verdict uint8

const (
	// neither is for what the endpoint has no part in: the client's own
	// failure, a full pool. It is also for an answer that this client does not
	// accept, for what a caller asks may bring one about, and no caller is to
	// take endpoints from others.
	neither verdict = iota
	good
	bad
)

// judge is the one place that says what counts as a failure of an endpoint,
// for outliers and circuits alike. status is looked at where f has no error.
func judge(f failure, status int) verdict {
	switch {
	case f.err == nil && (status == 502 || status == 503 || status == 504):
		return bad
	case f.err == nil:
		return good
	}
	switch f.err.Code {
	case gatehouse.CodeBackendUnreachable, gatehouse.CodeBackendTimeout, gatehouse.CodeBackendProhibited:
		return bad
	case gatehouse.CodeBackendProtocol:
		if f.err.Token == "http_response_incomplete" { // it broke within the header section
			return bad
		}
	}
	return neither
}

// report ends what choose began: t's attempt came to f, or to an answer of
// status. Each ticket is reported once; one that is not holds a trial of its
// endpoint's circuit until the trial's time is over.
func (b *Backend) report(t ticket, f failure, status int) {
	m, v := &b.members[t.member], judge(f, status)
	if m.circuit != nil {
		b.settle(m, t, v)
	}
	o := m.outlier
	switch {
	case o == nil || v == neither || o.rounds.Load() != t.round:
	case v == good:
		if o.streak.Load() != 0 {
			o.streak.Store(0)
		}
	case o.fails() >= b.outliers.Failures:
		b.eject(m)
	}
}

// outlier is the passive health of one endpoint by one set of rules. It may
// be shared between versions of a backend, and then ward is as well.
type outlier struct {
	streak atomic.Int32  // failures in a row
	rounds atomic.Uint32 // ejections ever; what began before the last says nothing new
	until  atomic.Int64  // the instant when the ejection ends; 0 while there is none. Written under ward.mu

	span time.Duration // of the last ejection; guarded by ward.mu
	back time.Duration // when that ended; guarded by ward.mu
}

// fails counts a failure and returns how many there are in a row, or enough.
func (o *outlier) fails() int {
	if n := o.streak.Load(); n > math.MaxInt32/2 {
		return int(n) // a dead endpoint that may not be ejected must not overflow it
	}
	return int(o.streak.Add(1))
}

// out reports whether the endpoint is ejected at the instant now.
func (o *outlier) out(now time.Duration) bool {
	until := o.until.Load()
	return until != 0 && int64(now) < until
}

// over reports whether an ejection has ended that nobody has noticed yet.
func (o *outlier) over(now time.Duration) bool {
	until := o.until.Load()
	return until != 0 && int64(now) >= until
}

// next is the time of an ejection that begins at now: twice the last, which
// halves for each time of its own length that the endpoint was well since.
func (o *outlier) next(now, first time.Duration) time.Duration {
	span, calm := 2*o.span, now-o.back
	for span > first && calm >= span/2 {
		calm -= span / 2
		span /= 2
	}
	return min(max(span, first), max(first, gatehouse.MaxEjectFor))
}

// ward is the versions of a backend that may eject endpoints they share.
type ward struct {
	mu       sync.Mutex // serialises ejections; guards the below
	versions []*Backend // those not retired
}

// join makes b a version whose share counts. Endpoints of it that are ejected
// beyond that share, for others are gone, are taken back, the first to return
// first.
func (w *ward) join(b *Backend) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.versions = append(w.versions, b)
	now := b.client.clock.now()
	for {
		var first *outlier
		n := int64(0)
		for i := range b.members {
			if o := b.members[i].outlier; o != nil && o.out(now) {
				n++
				if first == nil || o.until.Load() < first.until.Load() {
					first = o
				}
			}
		}
		if first == nil || n <= b.most() {
			return
		}
		first.back = now
		first.until.Store(int64(now))
	}
}

func (w *ward) leave(b *Backend) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.versions = slices.DeleteFunc(w.versions, func(v *Backend) bool { return v == b })
}

// most is how many members may be ejected at once.
func (b *Backend) most() int64 {
	n := int64(len(b.members))
	return min(b.outliers.MaxEjected.Of(n), n-1)
}

// spare reports whether m may be ejected without more than the share of b's
// members being out. Members that fail their active checks count: both kinds
// of health together must not take so many that the rest are overrun, or that
// none is left and the sick are used again. The caller holds ward.mu.
func (b *Backend) spare(m *member, now time.Duration) bool {
	n := int64(1)
	for i := range b.members {
		o := &b.members[i]
		if o.endpoint != m.endpoint && (!b.well(i) || o.outlier != nil && o.outlier.out(now)) {
			n++
		}
	}
	return n <= b.most()
}

// eject takes m out of the balance, unless too many are.
func (b *Backend) eject(m *member) {
	o, w := m.outlier, &b.load.ward
	w.mu.Lock()
	now := b.client.clock.now()
	if o.until.Load() != 0 && !o.over(now) || int(o.streak.Load()) < b.outliers.Failures {
		w.mu.Unlock()
		return
	}
	for _, v := range w.versions {
		if v.has(o) && !v.spare(m, now) {
			w.mu.Unlock()
			return
		}
	}
	span := o.next(now, time.Duration(b.outliers.EjectFor))
	failures := o.streak.Swap(0)
	o.span, o.back = span, now+span
	o.rounds.Add(1)
	o.until.Store(int64(o.back))
	w.mu.Unlock()
	b.log().Warn("endpoint is ejected", "endpoint", m.url, "failures", failures, "span", span)
}

// readmit ends an ejection whose time is over.
func (b *Backend) readmit(m *member, now time.Duration) {
	w := &b.load.ward
	w.mu.Lock()
	if !m.outlier.over(now) {
		w.mu.Unlock()
		return
	}
	m.outlier.back = time.Duration(m.outlier.until.Swap(0))
	w.mu.Unlock()
	m.rise(now)
	b.log().Info("endpoint is back from ejection", "endpoint", m.url)
}

func (b *Backend) has(o *outlier) bool {
	for i := range b.members {
		if b.members[i].outlier == o {
			return true
		}
	}
	return false
}
