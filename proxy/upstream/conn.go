package upstream

import (
	"errors"
	"io"
	"math"
	"net"
	"syscall"
	"time"
)

// poll is how long a wait goes on before the client is asked for again.
const poll = 250 * time.Millisecond

// never is the instant of no deadline.
const never = time.Duration(math.MaxInt64)

// conn is one connection to an endpoint. It is owned by one request at a
// time, or by the pool; fields are not guarded otherwise.
type conn struct {
	nc       net.Conn // TLS or plain
	gate     *gate    // below TLS; nil without
	endpoint *endpoint
	clock    clock
	reused   bool // it has answered a request before
	apart    bool // it is in no pool
	quiet    bool // result of probe

	raw syscall.RawConn // nil where the socket cannot be asked
	req *Request        // being made on it; nil otherwise, and for a health check

	// in.b[r:w] is read and not yet consumed. in.b[:base] holds the header
	// section until the release, unless the body has moved to a buffer of its
	// own: then kept does. Both are nil while idle.
	in, kept   *buffer
	base, r, w int

	probe           func(fd uintptr)
	readBy, writeBy time.Duration // the deadlines armed; 0 for none
	taken           time.Duration // when the request got it
	firstByte       time.Duration // when the answer began
	idleSince       time.Duration
	idleFor         time.Duration

	turn turn

	watcher watcher
}

func newConn(e *endpoint, nc net.Conn) *conn {
	c := &conn{nc: nc, endpoint: e, clock: e.client.clock}
	if s, ok := nc.(syscall.Conn); ok {
		if raw, err := s.SyscallConn(); err == nil {
			c.raw = raw
			c.probe = func(fd uintptr) { c.quiet = quiet(fd) }
			c.turn.step = c.step
		}
	}
	return c
}

// open readies c for a request.
func (c *conn) open() {
	c.in = c.endpoint.client.buffers.take(0)
	c.base, c.r, c.w, c.firstByte = 0, 0, 0, 0
}

// strip gives the buffers back.
func (c *conn) strip() {
	c.endpoint.client.buffers.put(c.in)
	c.endpoint.client.buffers.put(c.kept)
	c.in, c.kept, c.req = nil, nil, nil
}

// usable reports whether c, idle, may carry another request now. A connection
// that has ended, or on which something was sent that nobody asked for, may
// not: those bytes would answer the next request.
func (c *conn) usable(now time.Duration) bool {
	c.taken = now
	if now-c.idleSince >= c.idleFor {
		return false
	}
	if c.gate != nil && !c.gate.drained(c.nc) {
		return false
	}
	if c.raw == nil {
		return true
	}
	c.quiet = false
	// Control, unlike Read, does not mind a deadline that passed meanwhile.
	return c.raw.Control(c.probe) == nil && c.quiet
}

// read reads once into p. It fails at the instant by, which is span or less
// from now. Deadlines armed before are left where they are close enough, and
// moved when one strikes early: arming costs more than reading. Where the
// request says whether its client is gone, it is asked at every strike.
func (c *conn) read(p []byte, by, span time.Duration) (int, error) {
	asking := c.req != nil && c.req.Gone != nil
	// Of the first round by tells the time: should it be old, the round ends
	// at once.
	for now := by - span; ; now = c.clock.now() {
		until, slack := by, span/2
		if asking && by != never {
			if next := now + poll; next < by {
				until, slack = next, poll/2
			}
		}
		if until != never && (c.readBy > until || c.readBy < until-slack) {
			if err := c.nc.SetReadDeadline(c.clock.at(until)); err != nil {
				return 0, err
			}
			c.readBy = until
		}
		n, err := c.receive(p)
		switch {
		case n > 0:
			return n, nil
		case c.turn.failed != nil:
			return 0, c.turn.failed
		case err == nil:
			return 0, io.ErrNoProgress
		case by != never && timedOut(err) && c.clock.now() < by:
			c.readBy = 0
			if asking && c.req.Gone() {
				return 0, errGone
			}
		default:
			return 0, err
		}
	}
}

// arm sets the write deadline to span from now, or up to a quarter later.
func (c *conn) arm(now, span time.Duration) error {
	by := now + span
	if c.writeBy >= by && c.writeBy <= by+span/4 {
		return nil
	}
	c.writeBy = by + span/4
	return c.nc.SetWriteDeadline(c.clock.at(c.writeBy))
}

func (c *conn) write(p []byte, span time.Duration) (int, error) {
	if err := c.arm(c.clock.now(), span); err != nil {
		return 0, err
	}
	return c.nc.Write(p)
}

// readHead reads the header section of the final answer into h and leaves r
// behind it. Before the first byte its errors are those of the connection;
// afterwards the connection's end is errTruncated.
func (c *conn) readHead(h *head, by, span time.Duration) error {
	interim, seen := 0, 0
	for {
		var end int
		if b := c.in.b[c.r:c.w]; len(b) > 0 {
			var err error
			if end, err = headEnd(b, seen); err != nil {
				return err
			}
			seen = len(b)
		}
		if end == 0 {
			if err := c.moreHead(by, span); err != nil {
				return err
			}
			continue
		}
		if err := h.parse(c.in.b[c.r : c.r+end]); err != nil {
			return err
		}
		c.r += end
		seen = 0
		switch {
		case h.status >= 200, h.status == 101 && c.req != nil && c.req.upgrade:
			c.base = c.r
			return nil
		case h.status == 101:
			return errSwitching
		}
		if interim++; interim > maxInterim {
			return errInterim
		}
		if h.status != 100 && c.req != nil && c.req.Interim != nil {
			c.req.Interim(h.status, h.fields)
		}
	}
}

// moreHead reads once behind what there is of a header section.
func (c *conn) moreHead(by, span time.Duration) error {
	switch {
	case c.r == c.w:
		c.r, c.w = 0, 0
	case c.w < len(c.in.b):
	case c.r > 0:
		c.w = copy(c.in.b, c.in.b[c.r:c.w])
		c.r = 0
	case c.w == maxHead:
		return errHeadSize
	default:
		bigger := c.endpoint.client.buffers.take(len(c.in.b) + 1)
		copy(bigger.b, c.in.b)
		c.endpoint.client.buffers.put(c.in)
		c.in = bigger
	}
	n, err := c.read(c.in.b[c.w:], by, span)
	if n > 0 && c.firstByte == 0 {
		c.firstByte = c.clock.now()
	}
	c.w += n
	if err != nil && c.firstByte != 0 && !timedOut(err) {
		return errTruncated
	}
	if errors.Is(err, io.EOF) {
		return errNoAnswer
	}
	return err
}

// close ends the connection at once: without TLS's parting alert, which could
// block, and which HTTP's own framing makes needless.
func (c *conn) close() {
	if c.gate != nil {
		c.gate.Close()
		return
	}
	c.nc.Close()
}
