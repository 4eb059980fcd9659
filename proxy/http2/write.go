package http2

import (
	"errors"
	"os"
	"slices"
	"time"
)

// writer is what a connection is about to send. It is guarded by Conn.mu.
type writer struct {
	out     *output // frames, whole; nil: none
	control int     // bytes in it that only answer the client
	writing bool    // somebody is, or is about to
	enc     encoder
	heads   []*Stream     // writers of header blocks that wait for room
	queue   []*Stream     // writers of bodies that wait for room or the connection's window
	turns   int           // writers taken from there that have not had their turn yet
	writeBy time.Duration // the write deadline
}

// output is memory that frames are put together in.
type output struct{ b []byte }

const (
	maxOut     = 32 << 10 // bytes that wait to be written before writers wait too
	maxControl = 32 << 10 // of them, answers to what the client need not have sent
	spareOut   = 64 << 10 // the largest output that is kept
)

// output returns what is pending, to be appended to and stored in c.out.b. The
// caller holds mu.
func (c *Conn) output() []byte {
	if c.out == nil {
		o, ok := c.cfg.outputs.Get().(*output)
		if !ok {
			o = &output{make([]byte, 0, 4<<10)}
		}
		c.out = o
	}
	return c.out.b
}

func (c *Conn) pending() int {
	if c.out == nil {
		return 0
	}
	return len(c.out.b)
}

// answer appends a control frame that the client brought about, and has it
// sent. The caller holds mu.
func (c *Conn) answer(b []byte, frame int) *Error {
	c.out.b = b
	if c.control += frame; c.control > maxControl {
		return fault(EnhanceYourCalm, "the client does not read what it asks for")
	}
	c.kick()
	return nil
}

// kick has what is pending written by a goroutine of its own, for those who
// must not wait. The caller holds mu.
func (c *Conn) kick() {
	if c.writing || c.over || c.out == nil {
		return
	}
	c.writing = true
	c.wg.Add(1)
	go c.flusher()
}

func (c *Conn) flusher() {
	defer c.wg.Done()
	c.mu.Lock()
	for c.out != nil {
		c.writeOut()
	}
	c.writing = false
	c.mu.Unlock()
}

// flush writes what is pending, unless somebody is writing already and will do
// it. What comes up meanwhile is left to another goroutine: one stream shall
// not work for all. The caller holds mu, and is a handler; mu is let go of
// while it writes.
func (c *Conn) flush() {
	if c.writing || c.out == nil {
		return
	}
	c.writing = true
	c.writeOut()
	if c.out == nil {
		c.writing = false
		return
	}
	c.wg.Add(1)
	go c.flusher()
}

// writeOut writes once. The client must take some of it within Config.Idle, or
// what end allows. The caller holds mu, which is let go of meanwhile.
func (c *Conn) writeOut() {
	o := c.out
	c.out, c.control = nil, 0
	err := c.broken
	slack := min(time.Second, c.cfg.Idle/4)
	if left := c.writeBy - c.now(); err == nil && (left < c.cfg.Idle-slack || left > c.cfg.Idle) {
		err = c.patient()
	}
	for b := o.b; len(b) > 0 && err == nil; {
		c.mu.Unlock()
		n, werr := c.nc.Write(b)
		c.mu.Lock()
		b, err = b[n:], werr
		if n > 0 {
			c.wrote = c.now()
		}
		if n > 0 && errors.Is(err, os.ErrDeadlineExceeded) {
			err = c.patient()
		}
	}
	if cap(o.b) <= spareOut {
		o.b = o.b[:0]
		c.cfg.outputs.Put(o)
	}
	if err != nil {
		c.spoil(err)
	}
	c.advance()
}

// patient puts the write deadline off to Config.Idle from now, unless end has
// set the last. The caller holds mu.
func (c *Conn) patient() error {
	if c.over {
		if c.now() >= c.writeBy {
			return os.ErrDeadlineExceeded
		}
		return nil
	}
	c.writeBy = c.now() + c.cfg.Idle
	return c.nc.SetWriteDeadline(c.began.Add(c.writeBy))
}

// advance gives the first writer that waits its turn, if there is something to
// be had. The caller holds mu.
func (c *Conn) advance() {
	if c.turns > 0 || c.pending() >= maxOut {
		return // who has the turn will pass it on, or what is written will
	}
	q := &c.heads
	if len(*q) == 0 {
		q = &c.queue
	}
	if len(*q) == 0 || q == &c.queue && c.window <= 0 {
		return
	}
	s := (*q)[0]
	*q = (*q)[:copy(*q, (*q)[1:])]
	s.queued, s.turn = false, true
	c.turns++
	signal(s.writable)
}

// leave takes s out of the queues, or passes its turn on. The caller holds mu.
func (c *Conn) leave(s *Stream) {
	if s.queued {
		is := func(x *Stream) bool { return x == s }
		c.heads, c.queue = slices.DeleteFunc(c.heads, is), slices.DeleteFunc(c.queue, is)
		s.queued = false
	}
	if s.turn {
		s.turn = false
		c.turns--
		c.advance()
	}
}

// room waits until s may append a frame, and returns how much of a body of
// want bytes it may carry: up to want, at least 1 unless want is 0. Streams
// that compete take turns, of a frame each. What is pending is sent before s
// waits for what may take long. The caller holds mu, and is s's handler.
func (c *Conn) room(s *Stream, want int) (int, error) {
	by := time.Duration(0)
	for {
		if s.err != nil || c.broken != nil {
			c.leave(s)
			return 0, s.cause()
		}
		full, blocked := c.pending() >= maxOut, want > 0 && s.window <= 0
		alone := len(c.heads)+len(c.queue)+c.turns == 0
		switch {
		case !full && want == 0:
			c.leave(s) // it may have been woken for another reason
			return 0, nil
		case !full && !blocked && c.window > 0 && (alone || s.turn):
			return min(want, maxFrame, c.window, s.window), nil
		case alone && !c.writing && c.out != nil:
			c.flush()
			continue
		case blocked: // by itself: others need not wait for it
			c.leave(s)
		case !s.queued:
			c.enqueue(s, want == 0)
		}
		c.kick()
		if by == 0 {
			by = c.now() + c.cfg.Idle
		}
		if !c.wait(s.writable, s.writeTimer(by-c.now())) {
			if s.err == nil && !blocked && c.now()-c.moved < c.cfg.Idle {
				by = c.now() + c.cfg.Idle // it waits for others, who get on
				continue
			}
			c.leave(s)
			return 0, os.ErrDeadlineExceeded
		}
	}
}

// enqueue has s wait. A turn that came too early is lost: what made it so will
// advance the queue when it is over. The caller holds mu.
func (c *Conn) enqueue(s *Stream, head bool) {
	if s.turn {
		s.turn = false
		c.turns--
	}
	s.queued = true
	if head {
		c.heads = append(c.heads, s)
	} else {
		c.queue = append(c.queue, s)
	}
}

// wait lets go of mu until there is a signal; it returns false when the timer
// was first.
func (c *Conn) wait(ch chan struct{}, t *time.Timer) bool {
	c.mu.Unlock()
	defer c.mu.Lock()
	defer t.Stop()
	select {
	case <-ch:
		return true
	case <-t.C:
		return false
	}
}

// signal wakes who waits, or who will wait next.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
