package policy

import (
	"cmp"
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// ShadowConfig bounds the work for shadow policies. A reload does not change
// it.
type ShadowConfig struct {
	// Queue bounds the requests that wait for their shadow's word, over all
	// tenants; one tenant has at most a quarter of it. Default 256.
	Queue int
	// Share is the part of one core that evaluating shadows takes at most, in
	// hundredths. Default 10.
	Share int
	// Keep bounds the differing requests that are kept for each shadow.
	// Default 32.
	Keep int
}

// Defaults of ShadowConfig.
const (
	DefaultShadowQueue = 256
	DefaultShadowShare = 10
	DefaultShadowKeep  = 32
)

// Shadows evaluate shadow policies beside the active ones: never on the
// goroutine of the request, and never more than their share. They are safe for
// concurrent use.
type Shadows struct {
	share, keep int
	perShadow   int32
	// free and queue hold the same samples: those idle, those waiting.
	free, queue chan *sample
}

// NewShadows makes what Run serves.
func NewShadows(c ShadowConfig) *Shadows {
	n := cmp.Or(c.Queue, DefaultShadowQueue)
	ss := &Shadows{
		share: min(100, cmp.Or(c.Share, DefaultShadowShare)), keep: cmp.Or(c.Keep, DefaultShadowKeep),
		perShadow: int32(max(1, n/4)),
		free:      make(chan *sample, n), queue: make(chan *sample, n),
	}
	for range n {
		ss.free <- &sample{}
	}
	return ss
}

// restAfter is the debt of time from which on Run rests.
const restAfter = time.Millisecond

// Run evaluates what Observe queues until ctx is done; without it requests are
// dropped, and counted, once the queue is full. It returns nil.
func (ss *Shadows) Run(ctx context.Context) error {
	var debt time.Duration
	for {
		select {
		case <-ctx.Done():
			return nil
		case s := <-ss.queue:
			start := time.Now()
			s.shadow.decide(s)
			ss.release(s)
			debt += ss.rest(time.Since(start))
		}
		if debt < restAfter {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(debt):
			debt = 0
		}
	}
}

// rest is the pause that is due for work.
func (ss *Shadows) rest(work time.Duration) time.Duration {
	return work * time.Duration(100-ss.share) / time.Duration(ss.share)
}

func (ss *Shadows) release(s *sample) {
	s.shadow.waiting.Add(-1)
	s.forget()
	ss.free <- s // has room: it came from there
}

// Shadow is a policy that is asked beside a tenant's active one. Its answers
// are counted, those that differ are sampled, and none is applied. It is safe
// for concurrent use; a nil *Shadow observes nothing.
type Shadow struct {
	shadows *Shadows
	tenant  string
	draft   *Policy
	active  *Policy
	// reads is what the two read: all of an input that is copied.
	reads   *readSet
	mask    *Mask
	waiting atomic.Int32 // samples in the queue

	same, different, failed, dropped atomic.Uint64

	mu    sync.Mutex // guards what follows
	kept  [][]byte   // records of the differences; each has its place by chance
	news  []Decision // what the draft said of each
	seen  uint64     // differences that had a chance of a place
	since time.Time
}

// Shadow returns a new shadow of active. Draft is compiled like any policy, and
// may be in use elsewhere: the shadow keeps its own decisions and budget.
func (ss *Shadows) Shadow(tenant string, active, draft *Policy, mask *Mask) *Shadow {
	own := draft.engine.newPolicy(draft.own)
	own.quiet = true
	u := usage{paths: append(append([]inputPath(nil), active.reads.paths...), draft.reads.paths...)}
	return &Shadow{
		shadows: ss, tenant: tenant, active: active, draft: own, reads: u.readSet(), mask: mask, since: time.Now(),
	}
}

// Observe has the shadow decide in as well, some time later, and compares. It
// does not block, and keeps nothing of its arguments. Where the shadow has
// decided such a request before it is compared at once.
func (s *Shadow) Observe(in *Input, d *Decision) {
	if s == nil {
		return
	}
	known := s.draft.kept(in)
	if known != nil && known.Equal(*d) {
		s.same.Add(1)
		return
	}
	if s.waiting.Add(1) > s.shadows.perShadow {
		s.waiting.Add(-1)
		s.dropped.Add(1)
		return
	}
	select {
	case free := <-s.shadows.free:
		free.fill(s, in, d)
		s.shadows.queue <- free // has room: there are no more samples than places
	default:
		s.waiting.Add(-1)
		s.dropped.Add(1)
	}
}

// kept returns the decision on in if it is kept.
func (p *Policy) kept(in *Input) *Decision {
	if p.cache.limit == 0 || in.principal().term == nil {
		return nil
	}
	var buf [512]byte
	key := appendKey(buf[:0], p.reads, in)
	return p.cache.get(p.hash(key), key)
}

// decide is the work for one sample.
func (s *Shadow) decide(sm *sample) {
	d := s.draft.Decide(&sm.in)
	switch {
	case d.Err != nil:
		s.failed.Add(1)
	case d.Equal(sm.decision):
		s.same.Add(1)
		return
	default:
		s.different.Add(1)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen++
	place := len(s.kept)
	if place >= s.shadows.keep {
		if place = int(rand.Uint64N(s.seen)); place >= len(s.kept) {
			return
		}
	}
	var rec recording
	record := rec.record(&sm.in, sm.decision, s.mask, s.active, s.reads, meta{})
	if record == nil {
		return
	}
	// The draft may repeat what the active policy does not read.
	spared := s.draft.reads.spared(rec.erased) && s.draft.reads.spared(rec.masked)
	d = d.redact(!spared, s.mask.secret)
	if place == len(s.kept) {
		s.kept, s.news = append(s.kept, slices.Clone(record)), append(s.news, d)
	} else {
		s.kept[place], s.news[place] = slices.Clone(record), d
	}
}

// ShadowReport is what a shadow has seen.
type ShadowReport struct {
	// Since is when the shadow began.
	Since time.Time `json:"since"`
	// Same and Different count the requests that both decided alike or not,
	// Failed those on which the shadow failed. Dropped were not compared: the
	// queue was full.
	Same      uint64 `json:"same"`
	Different uint64 `json:"different"`
	Failed    uint64 `json:"failed"`
	Dropped   uint64 `json:"dropped"`
	// Changes are a sample of those different or failed, each as likely as any
	// other. Their entries hold only what the two policies read.
	Changes []Change `json:"changes"`
}

// Report returns what was seen until now.
func (s *Shadow) Report() ShadowReport {
	r := ShadowReport{Same: s.same.Load(), Different: s.different.Load(), Failed: s.failed.Load(), Dropped: s.dropped.Load()}
	s.mu.Lock()
	defer s.mu.Unlock()
	r.Since = s.since
	for i, record := range s.kept {
		e := (&reader{record}).entry(nil)
		e.Tenant = s.tenant
		r.Changes = append(r.Changes, Change{e, e.Decision, s.news[i]})
	}
	return r
}

// sample is a request on its way to a shadow: a copy of what is read of it.
type sample struct {
	shadow   *Shadow
	in       Input
	decision Decision
	buf      []byte
	names    []span // of header fields, in buf
	values   []span
}

type span struct{ from, to int }

// maxSample bounds the memory that a sample keeps for the next one.
const maxSample = 16 << 10

// fill copies what the shadow reads of in.
func (sm *sample) fill(s *Shadow, in *Input, d *Decision) {
	sm.shadow, sm.decision = s, *d
	sm.in = Input{
		Tenant: in.Tenant, Plan: in.Plan, Route: in.Route, Auth: in.Auth, Features: in.Features, BodySize: in.BodySize,
		Principal: in.Principal, Client: in.Client, Cert: in.Cert, TLS: in.TLS, Time: in.Time,
	}
	fs := s.reads.fields
	sm.buf, sm.names, sm.values = sm.buf[:0], sm.names[:0], sm.values[:0]
	var parts [5]span
	sources := [5][]byte{in.Method, in.Host, in.Path, in.Query, in.Protocol}
	for i, f := range [...]fields{fieldMethod, fieldHost, fieldPath | fieldSegments, fieldQuery, fieldProtocol} {
		if fs&f != 0 {
			parts[i] = sm.put(sources[i])
		}
	}
	if fs&fieldHeaders != 0 && in.Headers != nil {
		for i := range in.Headers.Len() {
			name, value := in.Headers.At(i)
			if s.reads.wants(name) {
				sm.names, sm.values = append(sm.names, sm.put(name)), append(sm.values, sm.put(value))
			}
		}
		sm.in.Headers = sm
	}
	for i, to := range [...]*[]byte{&sm.in.Method, &sm.in.Host, &sm.in.Path, &sm.in.Query, &sm.in.Protocol} {
		*to = sm.buf[parts[i].from:parts[i].to]
	}
}

// wants reports whether the header field is read.
func (r *readSet) wants(name []byte) bool {
	if r.headers == nil {
		return true
	}
	for _, n := range r.headers {
		if isLowered(name, n) {
			return true
		}
	}
	return false
}

func (sm *sample) put(b []byte) span {
	from := len(sm.buf)
	sm.buf = append(sm.buf, b...)
	return span{from, len(sm.buf)}
}

// Len is the number of header fields copied.
func (sm *sample) Len() int { return len(sm.names) }

// At returns field i.
func (sm *sample) At(i int) (name, value []byte) {
	n, v := sm.names[i], sm.values[i]
	return sm.buf[n.from:n.to], sm.buf[v.from:v.to]
}

// forget lets go of what belongs to the request.
func (sm *sample) forget() {
	sm.shadow, sm.in, sm.decision = nil, Input{}, Decision{}
	if cap(sm.buf) > maxSample {
		sm.buf = nil
	}
}
