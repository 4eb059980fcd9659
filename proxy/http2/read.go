package http2

import (
	"encoding/binary"
	"errors"
	"io"
	"time"
)

// input is what a connection reads into: one frame, or many small ones.
type input struct{ b [frameHeader + maxFrame]byte }

// settled is how long a connection on which nothing comes keeps its buffer and
// its workers.
const settled = time.Second

var errSilent = errors.New("the client has gone silent")

func (c *Conn) readPreface() error {
	for checked := 0; ; {
		got := c.w - c.r
		if n := min(got, len(preface)); string(c.bytes(n)[checked:]) != preface[checked:n] {
			return fault(ProtocolError, "no preface of HTTP/2")
		}
		if got >= len(preface) {
			c.r += len(preface)
			return nil
		}
		checked = got
		if err := c.fill(); err != nil {
			return err
		}
	}
}

func (c *Conn) bytes(n int) []byte {
	if n == 0 {
		return nil
	}
	return c.in.b[c.r : c.r+n]
}

// next reads a frame. The error is io.EOF where the client ended between two.
func (c *Conn) next(f *frame) error {
	c.pause, f.payload = false, nil // or a connection that rests would hold on to its buffer
	if err := c.need(frameHeader); err != nil {
		return err
	}
	h := c.in.b[c.r : c.r+frameHeader]
	n := int(h[0])<<16 | int(h[1])<<8 | int(h[2])
	f.kind, f.flags, f.id = kind(h[3]), h[4], binary.BigEndian.Uint32(h[5:])&maxID
	if n > maxFrame {
		return fault(FrameSizeError, "a frame is larger than SETTINGS_MAX_FRAME_SIZE")
	}
	c.pause = f.kind == kindData
	if err := c.need(frameHeader + n); err != nil {
		return err
	}
	f.payload = c.in.b[c.r+frameHeader : c.r+frameHeader+n]
	c.r += frameHeader + n
	if c.block.id == 0 {
		c.partial = 0
	}
	return nil
}

// need makes n bytes follow r.
func (c *Conn) need(n int) error {
	for c.w-c.r < n {
		if c.partial == 0 && c.w > c.r {
			c.partial = c.heard
		}
		whole := c.w == c.r
		if err := c.fill(); err != nil {
			if err == io.EOF && (!whole || c.block.id != 0) { //nolint:errorlint // io.Reader's contract
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		if whole && c.partial == 0 && c.w-c.r < n {
			c.partial = c.heard
		}
	}
	return nil
}

// fill reads once, for as long as what there is to wait for allows.
func (c *Conn) fill() error {
	if c.r == c.w {
		c.r, c.w = 0, 0
	}
	for {
		err := c.await()
		if err != nil {
			return err
		}
		var n int
		if c.in != nil {
			if c.w == len(c.in.b) {
				c.w = copy(c.in.b[:], c.in.b[c.r:c.w])
				c.r = 0
			}
			n, err = c.nc.Read(c.in.b[c.w:])
		} else if n, err = c.nc.Read(c.one[:]); n > 0 {
			c.in = c.input()
			c.in.b[0] = c.one[0]
		}
		if n > 0 {
			c.w += n
			c.heard, c.asked = c.now(), false
			return nil
		}
		if err == nil {
			return io.ErrNoProgress
		}
		if e, ok := errors.AsType[interface {
			error
			Timeout() bool
		}](err); !ok || !e.Timeout() {
			return err
		}
	}
}

func (c *Conn) input() *input {
	if b, ok := c.cfg.inputs.Get().(*input); ok {
		return b
	}
	return new(input)
}

// await does what has become due, and sets the read deadline to when the next
// thing will be. The error ends the connection.
func (c *Conn) await() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken != nil {
		return c.broken
	}
	now := c.now()
	by, err := c.due(now)
	if err != nil {
		return err
	}
	if c.r == c.w && c.partial == 0 {
		if at := c.heard + min(settled, c.cfg.Idle/4); c.in != nil && now >= at {
			c.rest()
		} else if c.in != nil {
			by = min(by, at)
		}
	}
	// A deadline that stands may be too early: then this is done again. It is
	// not set for each read, which costs more than reading the clock.
	if c.readBy > now && c.readBy <= by {
		return nil
	}
	c.readBy = by
	return c.nc.SetReadDeadline(c.began.Add(by))
}

// due does what is due now, and returns when the next thing will be.
func (c *Conn) due(now time.Duration) (by time.Duration, err error) {
	idle, header := c.cfg.Idle, c.cfg.Header
	by = now + idle
	at := func(t time.Duration) bool {
		if now >= t {
			return true
		}
		by = min(by, t)
		return false
	}
	if !c.acked && at(header) {
		if !c.greeted {
			return 0, fault(SettingsTimeout, "no SETTINGS in time")
		}
		return 0, fault(SettingsTimeout, "our SETTINGS were not acknowledged in time")
	}
	if c.partial != 0 {
		switch {
		case c.pause && c.block.id == 0:
			if at(c.heard + idle) {
				return 0, fault(Cancel, "a frame did not go on")
			}
		case at(c.partial + header):
			return 0, fault(Cancel, "a frame did not arrive in time")
		}
	}
	if c.drain == drainAnnounced && at(c.drainAt+time.Second) {
		c.finalGoAway()
	}
	if c.running == 0 {
		if c.drain == drainFinal && c.block.id == 0 { // a head that has begun was promised to be served
			return 0, errDrained
		}
		if !c.writing && at(c.rested+idle) {
			return 0, errIdle
		}
		return by, nil
	}
	// Who takes what is sent is alive, though a PING waits behind it.
	switch {
	case c.asked && c.writing:
		at(now + idle/2) // the PING may not be out yet, and the write has a time of its own
	case c.asked:
		if at(max(c.pinged, c.wrote) + idle/2) {
			return 0, errSilent
		}
	case at(max(c.heard, c.wrote) + idle/2):
		c.pinged, c.asked = now, true
		c.out.b = appendPing(c.output(), 0, []byte(pingAlive))
		c.kick()
		at(now + idle/2)
	}
	return by, nil
}
