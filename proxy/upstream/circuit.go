package upstream

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// circuit is the breaker of one endpoint by one set of rules. Safe for
// concurrent use.
type circuit struct {
	rules gatehouse.Circuit // with its defaults

	// until is 0 while the circuit is closed, else the instant before which
	// no request passes: while open, when it may be tried; during a trial,
	// when there may be another. Written under mu.
	until atomic.Int64
	// term counts the changes between closed and open. What began in an
	// earlier term does not count. Written under mu.
	term atomic.Uint32

	mu     sync.Mutex // guards the below
	half   bool       // tried, or about to be, since it opened
	trials uint32     // ever begun; numbered from 1
	window [circuitParts]part
}

// circuitParts is how many parts the window moves in. It is between one part
// short and whole.
const circuitParts = 10

// part is the results of one part of the window.
type part struct {
	at         int64 // the number of the part since the clock's epoch
	total, bad int
}

// admits reports whether a request may pass at the instant now.
func (c *circuit) admits(now time.Duration) bool {
	until := c.until.Load()
	return until == 0 || int64(now) >= until
}

// enter takes a request in, which is a trial unless the circuit is closed.
// Trials come one at a time. One that has no result in time keeps others from
// trying no longer: a caller that sends its body slowly must not keep the
// endpoint from everyone. changed says that it is the first since the circuit
// opened.
func (c *circuit) enter(t *ticket, clock clock) (passed, changed bool) {
	t.term = c.term.Load()
	if c.until.Load() == 0 {
		return true, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	t.term = c.term.Load()
	until := c.until.Load()
	if until == 0 {
		return true, false
	}
	now := clock.now()
	if int64(now) < until {
		return false, false
	}
	changed = !c.half
	c.half = true
	c.trials++
	t.trial = c.trials
	c.until.Store(int64(now + time.Duration(c.rules.OpenFor)))
	return true, changed
}

// circuitChange is what a result did to a circuit.
type circuitChange uint8

const (
	unchanged circuitChange = iota
	opened
	reopened
	closed
)

// leave counts the result of a request that entered with t.
func (c *circuit) leave(t ticket, v verdict, now time.Duration) circuitChange {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case t.term != c.term.Load():
		return unchanged
	case t.trial != 0 && v == good:
		c.window = [circuitParts]part{}
		c.turn(0)
		return closed
	case t.trial != 0 && v == bad:
		c.turn(now + time.Duration(c.rules.OpenFor))
		return reopened
	case t.trial != 0:
		if t.trial == c.trials {
			c.until.Store(1) // long over: the next may try
		}
		return unchanged
	case v == neither || c.until.Load() != 0:
		return unchanged
	}
	if !c.count(v == bad, now) {
		return unchanged
	}
	c.turn(now + time.Duration(c.rules.OpenFor))
	return opened
}

// turn begins a term. The caller holds mu.
func (c *circuit) turn(until time.Duration) {
	c.half = false
	c.term.Add(1)
	c.until.Store(int64(until))
}

// count adds a result to the window and reports whether that opens the
// circuit. The caller holds mu.
func (c *circuit) count(failed bool, now time.Duration) bool {
	at := int64(now / max(time.Duration(c.rules.Window)/circuitParts, 1))
	p := &c.window[at%circuitParts]
	if p.at != at {
		*p = part{at: at}
	}
	p.total++
	if failed {
		p.bad++
	}
	total, failures := 0, 0
	for _, p := range c.window {
		if p.at > at-circuitParts {
			total += p.total
			failures += p.bad
		}
	}
	// As shares of 10,000, so that nothing is rounded.
	return total >= c.rules.MinRequests && int64(failures)*10_000 >= int64(c.rules.FailureRatio)*int64(total)
}

// The values of EndpointStats.Circuit.
const (
	circuitClosed = "closed"
	circuitOpen   = "open"
	circuitHalf   = "half_open"
)

func (c *circuit) state(now time.Duration) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch until := c.until.Load(); {
	case until == 0:
		return circuitClosed
	case c.half || int64(now) >= until:
		return circuitHalf
	default:
		return circuitOpen
	}
}

// settle tells m's circuit how an attempt ended.
func (b *Backend) settle(m *member, t ticket, v verdict) {
	now := b.client.clock.now()
	switch m.circuit.leave(t, v, now) {
	case unchanged:
	case opened:
		b.log().Warn("circuit is open", "endpoint", m.url, "span", time.Duration(b.circuit.OpenFor))
	case reopened:
		b.log().Warn("circuit is open again", "endpoint", m.url, "span", time.Duration(b.circuit.OpenFor))
	case closed:
		m.rise(now)
		b.log().Info("circuit is closed", "endpoint", m.url)
	}
}
