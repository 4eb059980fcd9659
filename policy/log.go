package policy

import (
	"cmp"
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
	// thousand decisions.
	TenantBytes int
	// TotalBytes bounds the logs of all. Where they are more than fit, each gets
	// an equal share. Default 256 MiB.
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

// share is what one log may hold.
func (ls *Logs) share() int64 {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return min(ls.tenantBytes, ls.totalBytes/int64(max(1, len(ls.logs))))
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
		l.cut(share)
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

	mu     sync.Mutex // guards what follows
	chunks []chunk    // the oldest first; the last is written
	bytes  int64      // capacity of chunks
	closed bool
}

// chunk holds records, each after its size. Bytes once written do not change:
// readers take no lock.
type chunk struct {
	data []byte
	n    int // records
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
	var head [4]byte
	size := appendUint32(head[:0], len(record))
	need := len(size) + len(record)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	last := len(l.chunks) - 1
	if last < 0 || cap(l.chunks[last].data)-len(l.chunks[last].data) < need {
		share := l.logs.share()
		// A quarter of what there is, so that little goes at once when one goes.
		c := int(min(max(minChunk, l.bytes/4), maxChunk, share/4))
		c = max(c, need)
		l.cut(share - int64(c))
		l.chunks = append(l.chunks, chunk{data: make([]byte, 0, c)})
		l.account(int64(c))
		last, grew = len(l.chunks)-1, true
	}
	to := &l.chunks[last]
	to.data = append(append(to.data, size...), record...)
	to.n++
	return grew
}

func appendUint32(dst []byte, n int) []byte {
	return append(dst, byte(n), byte(n>>8), byte(n>>16), byte(n>>24))
}

// cut lets the oldest chunks go until limit holds. The caller holds mu.
func (l *Log) cut(limit int64) {
	gone := 0
	for ; gone < len(l.chunks) && l.bytes > limit; gone++ {
		l.account(-int64(cap(l.chunks[gone].data)))
	}
	l.chunks = slices.Delete(l.chunks, 0, gone)
}

func (l *Log) account(n int64) {
	l.bytes += n
	l.logs.used.Add(n)
}

func (l *Log) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.cut(-1)
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
		chunks := slices.Clone(l.chunks)
		l.mu.Unlock()
		var records [][]byte // the newest chunk's first
		var starts []int
		n := 0
		for _, c := range slices.Backward(chunks) {
			starts = append(starts, len(records))
			for data := c.data; len(data) > 0; {
				size := int(data[0]) | int(data[1])<<8 | int(data[2])<<16 | int(data[3])<<24
				if record := data[4 : 4+size]; f.keeps(record) {
					records = append(records, record)
					n++
				}
				data = data[4+size:]
			}
			if f.Last > 0 && n >= f.Last {
				break
			}
		}
		skip := 0
		if f.Last > 0 {
			skip = max(0, n-f.Last)
		}
		known := map[string]*Principal{}
		end := len(records)
		for _, start := range slices.Backward(starts) {
			for _, record := range records[start:end] {
				if skip > 0 {
					skip--
					continue
				}
				e := (&reader{record}).entry(known)
				e.Tenant = string(l.tenant)
				if len(known) > maxKnown {
					clear(known)
				}
				if !yield(e) {
					return
				}
			}
			end = start
		}
	}
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
