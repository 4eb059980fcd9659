package http2

import "encoding/binary"

// take acts on a frame. An error ends the connection.
func (c *Conn) take(f *frame) *Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.greeted && (f.kind != kindSettings || f.has(flagAck)) {
		return fault(ProtocolError, "the first frame is not SETTINGS")
	}
	if c.block.id != 0 && (f.kind != kindContinuation || f.id != c.block.id) {
		return fault(ProtocolError, "a header block does not go on")
	}
	switch f.kind {
	case kindData:
		return c.takeData(f)
	case kindHeaders:
		return c.takeHeaders(f)
	case kindContinuation:
		if c.block.id == 0 {
			return fault(ProtocolError, "CONTINUATION without HEADERS")
		}
		return c.takeFragment(f.payload, f.has(flagEndHeaders))
	case kindPriority:
		return c.takePriority(f)
	case kindReset:
		return c.takeReset(f)
	case kindSettings:
		return c.takeSettings(f)
	case kindPing:
		return c.takePing(f)
	case kindGoAway:
		switch {
		case f.id != 0:
			return fault(ProtocolError, "GOAWAY on a stream")
		case len(f.payload) < 8:
			return fault(FrameSizeError, "GOAWAY is too short")
		}
		return c.void() // it opens no streams, or it does: this side opens none
	case kindWindowUpdate:
		return c.takeWindowUpdate(f)
	case kindPushPromise:
		return fault(ProtocolError, "PUSH_PROMISE of a client")
	}
	return c.void() // unknown frames are ignored (RFC 9113, 5.5)
}

// refuse resets a stream that the client used wrongly.
func (c *Conn) refuse(id uint32, code Code) *Error {
	if err := c.churn(); err != nil {
		return err
	}
	const size = frameHeader + 4
	c.reset(id, code)
	return c.answer(c.output(), size)
}

// idle reports whether the client has never opened the stream.
func (c *Conn) idle(id uint32) bool { return id > c.last || id%2 == 0 }

func (c *Conn) takeData(f *frame) *Error {
	if f.id == 0 || c.idle(f.id) {
		return fault(ProtocolError, "DATA on an idle stream")
	}
	size := len(f.payload)
	p, err := f.unpad()
	if err != nil {
		return err
	}
	if size > c.credit {
		return fault(FlowControlError, "more DATA than the connection's window")
	}
	c.credit -= size
	if ends := f.has(flagEndStream); len(p) >= 1<<10 || len(p) > 0 && ends {
		c.voids.give(1) // less of a body is no excuse for anything else
	} else if len(p) == 0 && !ends {
		if err := c.void(); err != nil {
			return err
		}
	}
	s := c.streams[f.id]
	if s == nil || s.theirEnd || size > s.credit {
		c.refund(nil, size)
	}
	switch {
	case s == nil:
		return c.late(f.id)
	case s.theirEnd:
		return c.refuse(f.id, StreamClosed)
	case size > s.credit:
		return c.refuse(f.id, FlowControlError)
	}
	s.credit -= size
	s.received += int64(len(p))
	ends := f.has(flagEndStream)
	if s.declared >= 0 && (s.received > s.declared || ends && s.received < s.declared) {
		c.refund(nil, size)
		return c.refuse(f.id, ProtocolError) // the body is not as long as declared (RFC 9113, 8.1.1)
	}
	s.theirEnd = ends
	if s.interrupted {
		c.refund(nil, size)
	} else {
		s.body.add(c.cfg, p)
		c.refund(s, size-len(p)) // padding
	}
	c.settle(s)
	signal(s.readable)
	return nil
}

// late is a frame on a stream that is closed (RFC 9113, 5.1).
func (c *Conn) late(id uint32) *Error {
	switch c.closed.of(id) {
	case closedByUs: // the client could not know
		return c.void()
	case closedByEnd:
		return fault(StreamClosed, "a frame on a stream that has ended")
	default:
		return c.refuse(id, StreamClosed)
	}
}

func (c *Conn) takePriority(f *frame) *Error {
	if f.id == 0 {
		return fault(ProtocolError, "PRIORITY of the connection")
	}
	if len(f.payload) != priorityPayloadBytes {
		return c.refuse(f.id, FrameSizeError)
	}
	if binary.BigEndian.Uint32(f.payload)&maxID == f.id {
		return c.refuse(f.id, ProtocolError)
	}
	return c.void()
}

func (c *Conn) takeReset(f *frame) *Error {
	if len(f.payload) != 4 {
		return fault(FrameSizeError, "RST_STREAM is not of 4 bytes")
	}
	if f.id == 0 || c.idle(f.id) {
		return fault(ProtocolError, "RST_STREAM on an idle stream")
	}
	s := c.streams[f.id]
	if s == nil {
		return c.void()
	}
	c.fail(s, errReset)
	c.forget(s, closedByThem)
	return c.churn()
}

func (c *Conn) takePing(f *frame) *Error {
	switch {
	case len(f.payload) != 8:
		return fault(FrameSizeError, "PING is not of 8 bytes")
	case f.id != 0:
		return fault(ProtocolError, "PING on a stream")
	case !f.has(flagAck):
		if err := c.void(); err != nil {
			return err
		}
		return c.answer(appendPing(c.output(), flagAck, f.payload), frameHeader+len(f.payload))
	case string(f.payload) == pingDrain && c.drain == drainAnnounced:
		c.finalGoAway()
		return nil
	}
	return c.void()
}

func (c *Conn) takeWindowUpdate(f *frame) *Error {
	if len(f.payload) != 4 {
		return fault(FrameSizeError, "WINDOW_UPDATE is not of 4 bytes")
	}
	n := int(binary.BigEndian.Uint32(f.payload) & maxWindow)
	if err := c.void(); err != nil {
		return err
	}
	if f.id == 0 {
		if n == 0 || c.window > maxWindow-n {
			if n == 0 {
				return fault(ProtocolError, "WINDOW_UPDATE of nothing")
			}
			return fault(FlowControlError, "the connection's window is larger than a window may be")
		}
		c.window += n
		c.advance()
		return nil
	}
	if c.idle(f.id) {
		return fault(ProtocolError, "WINDOW_UPDATE on an idle stream")
	}
	s := c.streams[f.id]
	switch {
	case s == nil:
		return nil // it may have crossed our end
	case n == 0:
		return c.refuse(f.id, ProtocolError)
	case s.window > maxWindow-n:
		return c.refuse(f.id, FlowControlError)
	}
	s.window += n
	signal(s.writable)
	return nil
}

func (c *Conn) takeSettings(f *frame) *Error {
	switch {
	case f.id != 0:
		return fault(ProtocolError, "SETTINGS on a stream")
	case f.has(flagAck) && len(f.payload) > 0:
		return fault(FrameSizeError, "an acknowledgement of SETTINGS with a payload")
	case len(f.payload)%settingBytes != 0:
		return fault(FrameSizeError, "SETTINGS are not a multiple of 6 bytes")
	}
	if err := c.void(); err != nil {
		return err
	}
	if f.has(flagAck) {
		if !c.acked {
			c.acked = true
			c.allow(c.cfg.streamWindow())
		}
		return nil
	}
	window := int64(c.theirInitial)
	for p := f.payload; len(p) > 0; p = p[settingBytes:] {
		v := int64(binary.BigEndian.Uint32(p[2:]))
		switch binary.BigEndian.Uint16(p) {
		case settingTableSize:
			c.enc.resize(int(min(v, defaultTableSize)))
		case settingPush:
			if v > 1 {
				return fault(ProtocolError, "SETTINGS_ENABLE_PUSH is neither 0 nor 1")
			}
		case settingWindow:
			if v > maxWindow {
				return fault(FlowControlError, "SETTINGS_INITIAL_WINDOW_SIZE is larger than a window may be")
			}
			window = v // the last one counts
		case settingFrameSize:
			if v < maxFrame || v > largestMaxFrame {
				return fault(ProtocolError, "SETTINGS_MAX_FRAME_SIZE is out of bounds")
			}
		}
	}
	c.greeted = true
	if err := c.shift(int(window)); err != nil {
		return err
	}
	return c.answer(appendFrame(c.output(), 0, kindSettings, flagAck, 0), frameHeader)
}

// shift changes the window of new streams, and of all there are by as much,
// which may become negative (RFC 9113, 6.9.2).
func (c *Conn) shift(initial int) *Error {
	by := initial - c.theirInitial
	c.theirInitial = initial
	if by == 0 {
		return nil
	}
	for _, s := range c.streams {
		if s.window > maxWindow-by {
			return fault(FlowControlError, "SETTINGS make a window larger than it may be")
		}
		s.window += by
		signal(s.writable)
	}
	return nil
}

// allow changes the credit of new streams, and of all there are by as much.
func (c *Conn) allow(initial int) {
	by := initial - c.initial
	c.initial = initial
	for _, s := range c.streams {
		s.credit += by
	}
}
