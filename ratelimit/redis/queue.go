package redis

import (
	"strings"
	"sync"

	"github.com/gatehouse-gateway/gatehouse/ratelimit"
)

const (
	// batch is how many questions are taken from a queue at once, at most.
	batch = 256
	// perTenant is how many questions of requests of one tenant may wait.
	// Those beyond are refused: who asks as much is not to be held to a part.
	perTenant = 2048
)

// queue holds the calls that wait for one shard: those of a tenant in the order
// in which they came, tenants by turns.
type queue struct {
	work chan struct{} // has an element while the queue may have one

	mu     sync.Mutex
	lines  map[string]*line // guarded by mu: by the tenant's part of the keys
	turns  []*line          // guarded by mu: those with calls, the next one first
	closed bool             // guarded by mu: nothing is taken any more
}

// line is the calls of one tenant.
type line struct {
	tenant string
	calls  []*ratelimit.Call
}

// add takes a call, or says why not.
func (q *queue) add(c *ratelimit.Call) error {
	tenant, _, _ := strings.Cut(c.Asks[0].Key, "}")
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return ratelimit.ErrAway
	}
	l := q.lines[tenant]
	if l == nil {
		l = &line{tenant: tenant}
		q.lines[tenant] = l
		q.turns = append(q.turns, l)
	}
	if len(l.calls) >= perTenant && !c.Async() {
		return ratelimit.ErrBusy
	}
	l.calls = append(l.calls, c)
	return nil
}

func (q *queue) wake() {
	select {
	case q.work <- struct{}{}:
	default:
	}
}

// next appends the next calls to dst, one of each tenant by turns, and reports
// whether more are left.
func (q *queue) next(dst []*ratelimit.Call) (_ []*ratelimit.Call, more bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	at := 0
	for ; len(dst) < batch && len(q.turns) > 0; at++ {
		if at >= len(q.turns) {
			at = 0
		}
		l := q.turns[at]
		dst = append(dst, l.calls[0])
		l.calls[0] = nil
		if l.calls = l.calls[1:]; len(l.calls) == 0 {
			delete(q.lines, l.tenant)
			q.turns = append(q.turns[:at], q.turns[at+1:]...)
			at--
		}
	}
	if at > 0 && at < len(q.turns) { // who was not served is first
		q.turns = append(append(make([]*line, 0, len(q.turns)), q.turns[at:]...), q.turns[:at]...)
	}
	return dst, len(q.turns) > 0
}

// close takes nothing any more, and returns what is left.
func (q *queue) close() (left []*ratelimit.Call) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for _, l := range q.turns {
		left = append(left, l.calls...)
	}
	q.turns, q.lines = nil, nil
	return left
}
