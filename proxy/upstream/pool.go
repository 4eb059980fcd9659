package upstream

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// pool is the connections to one endpoint. Its bounds come with each call:
// they may differ between the versions of a backend that share the pool.
type pool struct {
	mu      sync.Mutex     // guards all but clock and latest
	retired bool           // nothing is kept
	expires bool           // expiry is set
	idle    []*conn        // oldest first; taken from the end
	slots   int            // open, or being dialled
	leaving int            // of open, those that are true
	waiting []*waiter      // first come first served
	open    map[*conn]bool // idle and in use; true: closed when free
	expiry  *time.Timer    // runs expire; nil before the first idle connection
	places  []netip.Addr   // of connections that are kept; nil: all
	clock   clock

	// latest is the connection that was kept last: a guess at what is taken next.
	latest atomic.Pointer[conn]
}

// waiter is a request in the queue. It gets a connection, or nil for the
// right to dial one.
type waiter struct{ got chan *conn }

// take returns an idle connection, or nil for the right to dial one, which
// ends in keep or vacate. fresh asks for the right to dial. It waits from now
// up to the instant by, with fewer than queue others, and fails with errBusy or errQueue.
func (p *pool) take(limit, queue int, fresh bool, now, by time.Duration) (*conn, error) {
	p.mu.Lock()
	for n := len(p.idle); n > 0; n = len(p.idle) {
		if fresh && p.slots < limit {
			break
		}
		c := p.idle[n-1]
		p.idle[n-1] = nil
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		if !fresh && c.usable(now) {
			return c, nil
		}
		c.close()
		p.mu.Lock()
		p.forget(c, limit)
	}
	if p.slots < limit {
		p.slots++
		p.mu.Unlock()
		return nil, nil
	}
	if len(p.waiting) >= queue {
		p.mu.Unlock()
		return nil, errQueue
	}
	w := &waiter{make(chan *conn, 1)}
	p.waiting = append(p.waiting, w)
	p.mu.Unlock()
	return p.wait(w, by)
}

func (p *pool) wait(w *waiter, by time.Duration) (*conn, error) {
	timeout := time.NewTimer(by - p.clock.now())
	defer timeout.Stop()
	var c *conn
	select {
	case c = <-w.got:
	case <-timeout.C:
		p.mu.Lock()
		if i := slices.Index(p.waiting, w); i >= 0 {
			p.waiting = slices.Delete(p.waiting, i, i+1)
			p.mu.Unlock()
			return nil, errBusy
		}
		p.mu.Unlock()
		c = <-w.got
	}
	if c == nil || c.usable(p.clock.now()) {
		return c, nil
	}
	// Its place in the pool passes to the connection dialled instead.
	c.close()
	p.mu.Lock()
	p.remove(c)
	p.mu.Unlock()
	return nil, nil
}

// join puts a connection just dialled under the pool's eyes.
func (p *pool) join(c *conn) {
	p.mu.Lock()
	if p.open == nil {
		p.open = map[*conn]bool{}
	}
	p.open[c] = false
	p.sentence(c)
	p.mu.Unlock()
}

// vacate gives back the right to dial.
func (p *pool) vacate(limit int) {
	p.mu.Lock()
	p.free(limit)
	p.mu.Unlock()
}

// drop closes a connection in use.
func (p *pool) drop(c *conn, limit int) {
	c.close()
	p.mu.Lock()
	p.forget(c, limit)
	p.mu.Unlock()
}

// keep takes back a connection that may be used again.
func (p *pool) keep(c *conn, limit int, idleFor time.Duration) {
	c.idleSince, c.idleFor = c.clock.now(), idleFor
	p.mu.Lock()
	switch {
	case p.retired || p.slots > limit || p.leaving > 0 && p.open[c]:
		p.forget(c, limit)
		p.mu.Unlock()
		c.close()
		return
	case len(p.waiting) > 0:
		p.next() <- c
	default:
		p.idle = append(p.idle, c)
		p.latest.Store(c)
		p.schedule(idleFor)
	}
	p.mu.Unlock()
}

// forget drops a closed connection. The caller holds mu.
func (p *pool) forget(c *conn, limit int) {
	p.remove(c)
	p.free(limit)
}

// remove takes a closed connection off the books. The caller holds mu.
func (p *pool) remove(c *conn) {
	if p.open[c] {
		p.leaving--
	}
	delete(p.open, c)
	p.latest.CompareAndSwap(c, nil)
}

// confine closes the connections to other places than these, now or when they
// are free.
func (p *pool) confine(places []netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.places = places
	for c := range p.open {
		p.sentence(c)
	}
	// Nobody waits while there are idle connections.
	p.idle = slices.DeleteFunc(p.idle, func(c *conn) bool {
		if !p.open[c] {
			return false
		}
		c.close()
		p.remove(c)
		p.slots--
		return true
	})
}

// sentence finds whether c is to be closed when it is free. The caller holds mu.
func (p *pool) sentence(c *conn) {
	if p.places == nil {
		return
	}
	tcp, known := c.nc.RemoteAddr().(*net.TCPAddr)
	leaves := known && !slices.Contains(p.places, tcp.AddrPort().Addr().Unmap())
	switch {
	case leaves && !p.open[c]:
		p.leaving++
	case !leaves && p.open[c]:
		p.leaving--
	}
	p.open[c] = leaves
}

// free passes a slot on to who waits. The caller holds mu.
func (p *pool) free(limit int) {
	p.slots--
	if len(p.waiting) > 0 && p.slots < limit {
		p.slots++
		p.next() <- nil
	}
}

// next removes the first waiter. The caller holds mu.
func (p *pool) next() chan<- *conn {
	w := p.waiting[0]
	p.waiting = slices.Delete(p.waiting, 0, 1)
	return w.got
}

// schedule sets the timer for the oldest idle connection. The caller holds mu.
func (p *pool) schedule(after time.Duration) {
	switch {
	case p.expires:
		return
	case p.expiry == nil:
		p.expiry = time.AfterFunc(after, p.expire)
	default:
		p.expiry.Reset(after)
	}
	p.expires = true
}

// expire closes connections that were idle for too long.
func (p *pool) expire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expires = false
	now := p.clock.now()
	for len(p.idle) > 0 {
		c := p.idle[0]
		if left := c.idleSince + c.idleFor - now; left > 0 {
			p.schedule(left)
			return
		}
		p.idle = slices.Delete(p.idle, 0, 1)
		c.close()
		// Nobody waits while there are idle connections.
		p.remove(c)
		p.slots--
	}
}

// retire closes what is idle, now and from now on.
func (p *pool) retire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.retired = true
	if p.expiry != nil {
		p.expiry.Stop()
	}
	for _, c := range p.idle {
		c.close()
		p.remove(c)
		p.slots--
	}
	p.idle = nil
}

// abort breaks what is in use. The owners find out and drop it.
func (p *pool) abort() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		c.close()
	}
}

// empty reports whether there is no connection, nor one being dialled.
func (p *pool) empty() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.slots == 0
}
