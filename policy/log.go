package policy

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// LogConfig bounds the decisions that are kept. A reload does not change it.
type LogConfig struct {
	// TenantBytes bounds the log of one tenant. Default 8 MiB: some fifteen
	// thousand decisions. Half of it is for denials, so that neither they nor
	// the allowed requests drive the others out.
	TenantBytes int
	// TotalBytes bounds the logs of all. Where they are more than fit, each that
	// holds something gets an equal share. Default 256 MiB.
	TotalBytes int
}

// Defaults of LogConfig, and the number of denials that a tenant's log takes
// per second.
const (
	DefaultTenantLogBytes = 8 << 20
	DefaultTotalLogBytes  = 256 << 20
	MaxLoggedDenials      = 100
)

// Logs are the decision logs of all tenants. They are safe for concurrent use.
type Logs struct {
	tenantBytes, totalBytes int64
	used                    atomic.Int64 // bytes of all chunks
	holding                 atomic.Int64 // logs that have any

	mu   sync.Mutex // guards logs
	logs map[gatehouse.TenantID]*Log
}

// NewLogs makes empty logs.
func NewLogs(c LogConfig) *Logs {
	return &Logs{
		tenantBytes: int64(cmp.Or(c.TenantBytes, DefaultTenantLogBytes)),
		totalBytes:  int64(cmp.Or(c.TotalBytes, DefaultTotalLogBytes)),
		logs:        map[gatehouse.TenantID]*Log{},
	}
}

// Log returns the tenant's log, which is made if there is none. It outlives
// the revisions of the tenant's policy.
func (ls *Logs) Log(tenant gatehouse.TenantID) *Log {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l := ls.logs[tenant]
	if l == nil {
		l = &Log{logs: ls, tenant: tenant}
		ls.logs[tenant] = l
	}
	return l
}

// Drop forgets the tenant's log. What is recorded in it later is lost.
func (ls *Logs) Drop(tenant gatehouse.TenantID) {
	ls.mu.Lock()
	l := ls.logs[tenant]
	delete(ls.logs, tenant)
	ls.mu.Unlock()
	if l != nil {
		l.close()
	}
}

// share is what each half of a log may hold.
func (ls *Logs) share() int64 {
	return min(ls.tenantBytes, ls.totalBytes/max(1, ls.holding.Load())) / 2
}

// trim cuts every log to its share.
func (ls *Logs) trim() {
	share := ls.share()
	ls.mu.Lock()
	logs := make([]*Log, 0, len(ls.logs))
	for _, l := range ls.logs {
		logs = append(logs, l)
	}
	ls.mu.Unlock()
	for _, l := range logs {
		l.mu.Lock()
		l.denied.cut(l, share)
		l.allowed.cut(l, share)
		l.mu.Unlock()
	}
}

// Log keeps the last decisions of a tenant, within bounds of memory: the oldest
// go first. It is safe for concurrent use.
type Log struct {
	logs   *Logs
	tenant gatehouse.TenantID
	// dropped counts the denials that were over MaxLoggedDenials or too large.
	dropped atomic.Uint64
	// denials holds the second that was last counted, and in its low 16 bits
	// the denials in it.
	denials atomic.Uint64

	mu              sync.Mutex // guards what follows
	denied, allowed half
	bytes           int64 // capacity of the chunks of both
	last            uint64
	closed          bool
}

// half holds the denials of a log, or its other decisions. Its log's mu guards
// it.
type half struct {
	chunks []chunk // the oldest first; the last is written
	bytes  int64   // capacity of chunks
}

// chunk holds records, each after its size and its number. Bytes once written
// do not change: readers take no lock.
type chunk []byte

// chunkHead is the bytes before a record: its size, and its number among all of
// the log.
const chunkHead = 4 + 8

// next splits the first record off.
func (c chunk) next() (number uint64, record, rest []byte) {
	end := chunkHead + int(binary.LittleEndian.Uint32(c))
	return binary.LittleEndian.Uint64(c[4:]), c[chunkHead:end], c[end:]
}

// Sizes of chunks: the first is small, since most tenants log little.
const (
	minChunk = 4 << 10
	maxChunk = 256 << 10
)

// Dropped is the number of denials that should have been kept and were not.
func (l *Log) Dropped() uint64 { return l.dropped.Load() }

// admits counts a denial, and reports whether it is within the rate.
func (l *Log) admits(now time.Time) bool {
	const low = 1<<16 - 1
	second := uint64(now.Unix()) << 16
	for {
		old := l.denials.Load()
		next := second | 1
		if old&^low == second {
			if old&low >= MaxLoggedDenials {
				return false
			}
			next = old + 1
		}
		if l.denials.CompareAndSwap(old, next) {
			return true
		}
	}
}

func (l *Log) add(record []byte) {
	if l.append(record) && l.logs.used.Load() > l.logs.totalBytes {
		l.logs.trim()
	}
}

// append reports whether it took more memory.
func (l *Log) append(record []byte) (grew bool) {
	need := chunkHead + len(record)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	h := &l.denied
	if record[recordHead-1]&recordAllow != 0 {
		h = &l.allowed
	}
	last := len(h.chunks) - 1
	if last < 0 || cap(h.chunks[last])-len(h.chunks[last]) < need {
		if l.bytes == 0 {
			l.logs.holding.Add(1) // so that it has its own share
		}
		share := l.logs.share()
		// A quarter of what there is, so that little goes at once when one goes.
		c := int(min(max(minChunk, h.bytes/4), maxChunk, share/4))
		c = max(c, need)
		h.chunks = append(h.chunks, make(chunk, 0, c))
		h.account(l, int64(c))
		h.cut(l, max(share, int64(c)))
		last, grew = len(h.chunks)-1, true
	}
	l.last++
	to := binary.LittleEndian.AppendUint32(h.chunks[last], uint32(len(record)))
	h.chunks[last] = append(binary.LittleEndian.AppendUint64(to, l.last), record...)
	return grew
}

// cut lets the oldest chunks go until limit holds.
func (h *half) cut(l *Log, limit int64) {
	gone, had := 0, l.bytes
	for ; gone < len(h.chunks) && h.bytes > limit; gone++ {
		h.account(l, -int64(cap(h.chunks[gone])))
	}
	h.chunks = slices.Delete(h.chunks, 0, gone)
	if had > 0 && l.bytes == 0 {
		l.logs.holding.Add(-1)
	}
}

func (h *half) account(l *Log, n int64) {
	h.bytes += n
	l.bytes += n
	l.logs.used.Add(n)
}

func (l *Log) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.denied.cut(l, -1)
	l.allowed.cut(l, -1)
}

// Filter says which entries are wanted.
type Filter struct {
	// Since and Until bound the instant of the request: from Since to before
	// Until; the zero Time does not bound.
	Since, Until time.Time
	// Denied leaves the allowed requests out.
	Denied bool
	// Last bounds the number of entries, to those kept last; 0 does not.
	Last int
}

// keeps looks at the head of a record.
func (f *Filter) keeps(record []byte) bool {
	if f.Denied && record[recordHead-1]&recordAllow != 0 {
		return false
	}
	at := recordTime(record)
	return (f.Since.IsZero() || !at.Before(f.Since)) && (f.Until.IsZero() || at.Before(f.Until))
}

// Entries returns the decisions that are kept when it is ranged over, the
// oldest first. Recording goes on meanwhile.
func (l *Log) Entries(f Filter) iter.Seq[*Entry] {
	return func(yield func(*Entry) bool) {
		l.mu.Lock()
		denied, allowed := slices.Clone(l.denied.chunks), slices.Clone(l.allowed.chunks)
		l.mu.Unlock()
		if f.Denied {
			allowed = nil
		}
		known := map[string]*Principal{}
		for _, k := range merge(f.kept(denied), f.kept(allowed), f.Last) {
			e := (&reader{k.record}).entry(known)
			e.Tenant = string(l.tenant)
			if len(known) > maxKnown {
				clear(known)
			}
			if !yield(e) {
				return
			}
		}
	}
}

// kept is a record and its number in its log.
type kept struct {
	number uint64
	record []byte
}

// kept returns the wanted records, oldest first: at least the last Last.
func (f *Filter) kept(chunks []chunk) []kept {
	var newest [][]kept
	for n := 0; len(chunks) > 0 && (f.Last <= 0 || n < f.Last); chunks = chunks[:len(chunks)-1] {
		var ks []kept
		for data := chunks[len(chunks)-1]; len(data) > 0; {
			number, record, rest := data.next()
			if data = rest; f.keeps(record) {
				ks = append(ks, kept{number, record})
			}
		}
		n += len(ks)
		newest = append(newest, ks)
	}
	slices.Reverse(newest)
	return slices.Concat(newest...)
}

// merge returns the last of both, all if last is 0, by number.
func merge(a, b []kept, last int) []kept {
	all := append(a, b...)
	slices.SortFunc(all, func(x, y kept) int { return cmp.Compare(x.number, y.number) })
	if last > 0 && len(all) > last {
		all = all[len(all)-last:]
	}
	return all
}

// maxKnown bounds the principals that a reader of a log remembers.
const maxKnown = 1024

// Recorder writes the decisions of one revision of a tenant's policy to its
// log. It is safe for concurrent use; a nil *Recorder keeps nothing.
type Recorder struct {
	log      *Log
	mask     *Mask
	policy   *Policy
	revision string
	sample   uint32 // of 1<<32-1
	free     pool[recording]
}

// RecorderConfig is what a Recorder is made of.
type RecorderConfig struct {
	// Policy is the one that decides.
	Policy *Policy
	// Revision names it.
	Revision string
	// Log says what is kept; nothing if its Sample is absent.
	Log gatehouse.DecisionLog
	// Credentials are header fields with which the tenant's callers prove who
	// they are, beside those that NewMask knows.
	Credentials []string
}

// Recorder returns the writer for a policy; nil if nothing is to be kept. An
// error says which mask is none.
func (l *Log) Recorder(c RecorderConfig) (*Recorder, error) {
	m, err := NewMask(c.Log.Mask, c.Credentials...)
	if err != nil || c.Log.Sample <= 0 {
		return nil, err
	}
	const whole, most = 10_000, 1<<32 - 1
	return &Recorder{
		log: l, mask: m, policy: c.Policy, revision: c.Revision,
		sample: uint32(c.Log.Sample.Of(whole) * most / whole),
	}, nil
}

// Record keeps the decision on in, which id names, if it is sampled or a
// denial. Took is what deciding took; 0: not measured. It keeps nothing of
// its arguments.
func (r *Recorder) Record(id []byte, in *Input, d *Decision, took time.Duration) {
	if r == nil || d.Allow && rand.Uint32() > r.sample {
		return
	}
	if !d.Allow && !r.log.admits(in.Time) {
		r.log.dropped.Add(1)
		return
	}
	rec := r.free.take()
	if rec == nil {
		rec = &recording{}
	}
	if record := rec.record(in, *d, r.mask, r.policy, nil, meta{id, r.revision, took}); record != nil {
		r.log.add(record)
	} else {
		r.log.dropped.Add(1)
	}
	if cap(rec.buf) <= 2*maxRecord {
		r.free.put(rec)
	}
}

// MaskFault returns what is wrong with the masks of a tenant's document, for
// /policy/log/mask.
func MaskFault(pointers []string) gatehouse.Faults {
	var faults gatehouse.Faults
	for i, p := range pointers {
		if _, err := NewMask([]string{p}); err != nil {
			faults = append(faults, gatehouse.Fault{
				Pointer: gatehouse.Pointer(i), Reason: fmt.Sprintf("%q does not name a part of input", p),
				Hint: "name it by a JSON Pointer such as /principal/claims/email",
			})
		}
	}
	return faults
}
