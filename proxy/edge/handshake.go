package edge

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"time"
)

// preface is what an HTTP/2 client with prior knowledge sends first, RFC 9113
// section 3.4.
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// errRefused says that the client's address is over its bound.
var errRefused = errors.New("too many connections of one address")

// Handshake does what comes before HTTP: the PROXY header, where one is
// required, and then the TLS handshake or, on plain connections that may speak
// HTTP/2, reading the bytes that tell. Those are given out by Read again.
//
// It takes no longer than the listener's HeaderTimeout, and leaves no deadline
// behind. When it fails the connection is closed; every call returns the same
// error. Only the goroutine that owns c may call it.
func (c *Conn) Handshake() error {
	if c.handled {
		return c.err
	}
	c.handled = true
	if c.err = c.prepare(); c.err != nil {
		if !errors.Is(c.err, errRefused) {
			c.ln.counters.failures[failureOf(c, c.err)].Add(1)
		}
		_ = c.Close()
	}
	return c.err
}

func (c *Conn) prepare() error {
	cfg := &c.ln.cfg
	if cfg.TLS == nil && !cfg.HTTP2 && !c.proxied {
		return nil
	}
	now := time.Now()
	c.by = now.Add(cfg.HeaderTimeout)
	if c.proxied {
		if err := c.introduce(now); err != nil {
			return err
		}
	}
	if cfg.TLS != nil {
		return c.secure()
	}
	if cfg.HTTP2 {
		if err := c.sniff(); err != nil {
			return err
		}
	}
	_ = c.SetReadDeadline(time.Time{}) // it fails on what is closed, which the next read says
	return nil
}

// introduce reads the PROXY header, and counts the client it names.
func (c *Conn) introduce(now time.Time) error {
	by := now.Add(proxyTimeout)
	if c.by.Before(by) {
		by = c.by
	}
	if err := c.SetReadDeadline(by); err != nil {
		return err
	}
	for {
		p, n, err := parseProxy(c.ahead())
		if err == nil {
			c.head.r += n
			if c.head.r == c.head.w {
				c.drop()
			}
			if p.local {
				return nil
			}
			c.peer, c.local = p.from, p.to
			c.remote, c.target = net.TCPAddrFromAddrPort(p.from), net.TCPAddrFromAddrPort(p.to)
			break
		}
		if !errors.Is(err, errProxyShort) {
			return err
		}
		if err := c.fill(); err != nil {
			return err
		}
	}
	if !c.count() {
		if c.decline() {
			c.Linger(refusalTimeout, refusalBytes)
		}
		return errRefused
	}
	return nil
}

// decline answers a plain connection over a bound, and reports whether it
// could.
func (c *Conn) decline() bool {
	cfg := &c.ln.cfg
	if cfg.TLS != nil || len(cfg.Refusal) == 0 || c.SetDeadline(time.Now().Add(refusalTimeout)) != nil {
		return false
	}
	_, err := c.Conn.Write(cfg.Refusal)
	return err == nil
}

// sniff reads as much as tells the protocol. The first byte of all common
// methods of HTTP/1.1 does; POST, PUT and PATCH take a second.
func (c *Conn) sniff() error {
	if err := c.SetReadDeadline(c.by); err != nil {
		return err
	}
	for {
		b := c.ahead()
		n := min(len(b), len(preface))
		if string(b[:n]) != preface[:n] {
			return nil
		}
		if n == len(preface) {
			c.proto = HTTP2
			return nil
		}
		if err := c.fill(); err != nil {
			return err
		}
	}
}

// ahead is what has been read ahead.
func (c *Conn) ahead() []byte {
	if c.head == nil {
		return nil
	}
	return c.head.b[c.head.r:c.head.w]
}

// fill reads more of it, all that is there: one system call brings the bytes
// that tell and, as a rule, the whole first request with them.
func (c *Conn) fill() error {
	if c.head == nil {
		h := c.ln.heads.Get().(*head)
		h.r, h.w = 0, 0
		c.head = h
	}
	n, err := c.Conn.Read(c.head.b[c.head.w:])
	c.head.w += n
	if n > 0 {
		return nil // an error comes again
	}
	return err
}

// secure does the TLS handshake.
func (c *Conn) secure() error {
	if err := c.SetDeadline(c.by); err != nil {
		return err
	}
	secure := tls.Server((*lower)(c), c.ln.cfg.TLS.entry)
	c.mu.Lock()
	c.tls = secure
	c.mu.Unlock()
	c.opening = true
	err := secure.Handshake()
	c.opening = false
	c.yield()
	if err != nil {
		return err
	}
	state := secure.ConnectionState()
	c.state = &state
	if state.NegotiatedProtocol != "" {
		c.proto = state.NegotiatedProtocol
	}
	c.ln.counters.Handshakes.Add(1)
	if state.DidResume {
		c.ln.counters.Resumed.Add(1)
	}
	_ = c.SetDeadline(time.Time{}) // as above
	return nil
}

// lower is the connection below TLS. During the handshake it holds one of the
// listener's slots except while it waits for its client: clients that dawdle
// cannot keep others out, and what computes is bounded.
type lower Conn

// Read gives TLS what was read ahead, then what comes.
func (l *lower) Read(p []byte) (int, error) {
	c := (*Conn)(l)
	if c.head == nil && !c.opening {
		return c.Conn.Read(p)
	}
	if c.head != nil {
		if err := c.hold(); err != nil {
			return 0, err
		}
		return c.drain(p), nil
	}
	c.yield()
	n, err := c.Conn.Read(p)
	if err != nil {
		return n, err
	}
	return n, c.hold()
}

// hold takes a slot, or fails when none becomes free in time.
func (c *Conn) hold() error {
	if c.ln.slots == nil || c.holding || !c.opening {
		return nil
	}
	select {
	case c.ln.slots <- struct{}{}:
		c.holding = true
		return nil
	default:
	}
	timer := time.NewTimer(time.Until(c.by))
	defer timer.Stop()
	select {
	case c.ln.slots <- struct{}{}:
		c.holding = true
		return nil
	case <-timer.C:
		c.busy = true
		return os.ErrDeadlineExceeded
	}
}

// yield gives the slot back.
func (c *Conn) yield() {
	if c.holding {
		c.holding = false
		<-c.ln.slots
	}
}
