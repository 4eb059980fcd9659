package tunnel

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// flow is one direction of a tunnel. Its goroutine owns it, but for the atomic
// fields, which it writes and the other flow reads.
type flow struct {
	t     *tunnel
	from  source
	to    net.Conn
	other *flow

	frames  frames
	follows bool // frames are followed
	open    bool // to takes bytes: it was sent no end, and no write failed
	bytes   int64

	closed atomic.Bool // the Close of this flow's source has been passed on or dropped
	amid   atomic.Bool // a message has begun and not ended
	busy   atomic.Bool // a write may be waiting for to

	at              time.Duration // of the latest look at the clock
	readBy, writeBy time.Duration // the deadlines armed; 0 for none that can be relied on
	readAt, writeAt int32         // the stages they were armed for
}

var errStalled = errors.New("a write made no progress within the idle time")

func (f *flow) join(t *tunnel, from, to net.Conn, buffers *sync.Pool) {
	f.t, f.to, f.follows, f.open = t, to, t.options.WebSocket, true
	f.other = &t.up
	if f == &t.up {
		f.other = &t.down
	}
	f.from.open(from, buffers)
}

// run passes bytes on until there is nothing left to do.
func (f *flow) run(early []byte) {
	defer f.hold(false)
	t := f.t
	f.pass(early)
	for {
		// The turn is read before anything that it announces, and once more
		// when the deadline stands: a waker first raises it and then sets the
		// deadline to the past. So no wake is lost.
		turn, stage := t.turn.Load(), t.stage.Load()
		if stage >= ending {
			return
		}
		if stage == closing {
			f.part()
			if f.frames.closed {
				return
			}
		}
		f.armRead(stage)
		if t.turn.Load() != turn {
			continue
		}
		p, err := f.from.next()
		f.pass(p)
		f.from.free()
		switch {
		case err == nil:
		case expired(err):
			f.readBy = 0
			f.look()
		default:
			f.end(err)
			return
		}
	}
}

// pass writes p, which was just read. After the end that to was sent it only
// follows the frames.
func (f *flow) pass(p []byte) {
	if len(p) == 0 {
		return
	}
	f.touch()
	if !f.follows {
		f.write(p, true)
		return
	}
	for len(p) > 0 {
		n := len(p)
		if f.open && f.t.stage.Load() == closing {
			f.part()
			n = f.frames.step(p)
		} else {
			f.frames.walk(p)
		}
		if f.frames.amid() {
			f.hold(true)
		}
		if f.frames.closed && !f.closed.Load() {
			f.t.note(f.gone(io.EOF)) // who says Close first ends the tunnel
		}
		f.write(p[:n], true)
		p = p[n:]
	}
	if f.frames.closed && !f.closed.Load() {
		f.closed.Store(true)
		if f.other.closed.Load() {
			f.t.raise(ebbing, f.gone(io.EOF)) // the connections should follow (RFC 6455, 7.1.1)
		}
	}
	if !f.frames.amid() {
		f.hold(false)
	}
}

// hold says whether the other flow's Close should wait: from a message's first
// byte until its last is written.
func (f *flow) hold(on bool) {
	if f.amid.Load() == on {
		return
	}
	f.amid.Store(on)
	if !on && f.t.stage.Load() == closing {
		f.t.turn.Add(1)
		_ = f.other.from.conn.SetReadDeadline(past())
	}
}

func (f *flow) touch() {
	f.at = f.t.now()
	f.t.last.Store(int64(f.at))
}

// look sees what time it is, after a deadline.
func (f *flow) look() {
	t := f.t
	f.at = t.now()
	f.from.rest(f.at)
	switch stage := t.stage.Load(); {
	case stage > flowing:
		if f.at >= t.cutAt {
			t.raise(cut, finale{})
		}
	case f.at >= t.ageAt:
		t.raise(closing, finale{reason: Age, within: grace, push: patience})
	case f.at < t.idleAt():
	case f.other.busy.Load(): // that write has a deadline of its own
		t.last.Store(int64(f.at))
	default:
		t.raise(closing, finale{reason: Idle, within: grace, push: patience})
	}
}

// idleAt is when the tunnel has been silent for too long.
func (t *tunnel) idleAt() time.Duration {
	if t.options.Idle <= 0 {
		return never
	}
	return time.Duration(t.last.Load()) + t.options.Idle
}

// armRead sees to it that the next read ends when there is something to look
// at. While bytes flow that moment only moves away, and the deadline stays
// until it strikes: one is set for each idle time, not for each read.
func (f *flow) armRead(stage int32) {
	t := f.t
	var by time.Duration
	switch {
	case stage == flowing:
		by = min(t.idleAt(), t.ageAt)
	case stage == closing && f.open && t.now() < t.pushAt:
		by = min(t.pushAt, t.cutAt)
	default:
		by = t.cutAt
	}
	by = f.from.by(f.at, by)
	if f.readBy != 0 && f.readBy <= by && f.readAt == stage {
		return
	}
	f.readBy, f.readAt = by, stage
	_ = f.from.conn.SetReadDeadline(t.at(by)) // if this fails, the read tells why
}

// armWrite sets the write deadline to the idle time from now, or up to a
// quarter later.
func (f *flow) armWrite(stage int32) {
	t := f.t
	var by, least time.Duration
	switch idle := t.options.Idle; {
	case stage > flowing:
		by, least = t.cutAt, t.cutAt
	case idle > 0:
		by, least = min(t.ageAt, f.at+idle+idle/4), min(t.ageAt, f.at+idle)
	default:
		by, least = t.ageAt, t.ageAt
	}
	if f.writeBy >= least && f.writeAt == stage {
		return
	}
	f.writeBy, f.writeAt = by, stage
	_ = f.to.SetWriteDeadline(t.at(by)) // if this fails, the write tells why
}

// write writes all of p, unless to is closed to it or closes.
func (f *flow) write(p []byte, counts bool) {
	if !f.open {
		return
	}
	f.busy.Store(true)
	for len(p) > 0 && f.open {
		turn, stage := f.t.turn.Load(), f.t.stage.Load()
		if stage == cut {
			f.open = false
			break
		}
		f.armWrite(stage)
		if f.t.turn.Load() != turn {
			continue
		}
		n, err := f.to.Write(p)
		p = p[n:]
		if counts && n > 0 {
			f.count(int64(n))
		}
		if err == nil && len(p) > 0 {
			err = io.ErrShortWrite
		}
		if err != nil {
			f.stuck(n, err)
		}
	}
	f.busy.Store(false)
}

func (f *flow) count(n int64) {
	f.bytes += n
	switch bytes := f.t.options.Bytes; {
	case bytes == nil:
	case f == &f.t.up:
		bytes(n, 0)
	default:
		bytes(0, n)
	}
}

// stuck is told of a write that ended early, after n bytes.
func (f *flow) stuck(n int, err error) {
	t := f.t
	if !expired(err) {
		f.fail(err)
		return
	}
	f.writeBy = 0
	f.at = t.now()
	switch stage := t.stage.Load(); {
	case stage > flowing:
		if f.at >= t.cutAt {
			t.raise(cut, finale{})
		}
	case f.at >= t.ageAt:
		t.raise(closing, finale{reason: Age, within: grace, push: patience})
	case n > 0:
		f.touch()
	default:
		f.fail(errStalled)
	}
}

// part ends the stream to f.to, because the gateway wants it so.
func (f *flow) part() {
	t := f.t
	switch {
	case !f.open:
	case !f.follows || f.frames.broken:
		if !f.finish() {
			t.raise(ending, finale{})
		}
	case f.frames.closed || f.other.closed.Load():
		// One side has said Close; the other's answer is on its way.
	case !f.frames.between():
	case (f.frames.message || f.other.amid.Load()) && t.now() < t.pushAt:
		// A side that is told to go in the middle of its own message might.
	default:
		f.write(goingAway(f == &t.up), false)
		f.open = false
	}
}

// finish passes the end of the stream on, if the connection has a way to.
func (f *flow) finish() bool {
	f.open = false
	c, ok := f.to.(closer)
	if ok {
		_ = c.CloseWrite() // to is gone, or it is told
	}
	return ok
}

// gone is the finale when f.from has ended or failed.
func (f *flow) gone(err error) finale {
	ended, failed := ClientClosed, ClientError
	if f == &f.t.down {
		ended, failed = BackendClosed, BackendError
	}
	if errors.Is(err, io.EOF) {
		return finale{reason: ended, within: grace}
	}
	return finale{reason: failed, err: err, within: grace}
}

// end is told that nothing more can be read.
func (f *flow) end(err error) {
	t := f.t
	why := f.gone(err)
	t.note(why) // before the other side hears of it, and ends too
	told := !f.open || f.finish()
	switch {
	case !told:
		t.raise(ending, why)
	case why.err != nil || f.follows:
		t.raise(ebbing, why)
	}
}

// fail is told that nothing more can be written. What comes is read on for a
// while and dropped: to close on unread bytes is to reset the connection, and
// what was sent to its other side last could be lost.
func (f *flow) fail(err error) {
	f.open = false
	f.t.raise(ebbing, f.other.gone(err))
}

// expired tells a deadline of ours from the network's own ETIMEDOUT.
func expired(err error) bool {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return true
	}
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout() && !errors.Is(err, syscall.ETIMEDOUT)
}
