package http2

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/gatehouse-gateway/gatehouse/proxy/ingress"
)

// Stream is one request and its answer. It belongs to the goroutine of its
// handler, but for Read, Proceed and Trailer, which another may call while the
// answer is written, and Interrupt, Reset and Gone, which any may. Nothing of
// it may be used after the handler has returned, and no Read be under way.
type Stream struct {
	// Method and so on are the pseudo-header fields as received, empty where
	// there was none. They have passed what RFC 9113, 8.2 and 8.3 ask for, but
	// not more: Path, Host and Content-Length are still to be validated.
	Method, Scheme, Authority, Path []byte
	// Fields are in the order received, with names in lower case. Their Kind is
	// not set.
	Fields []ingress.Field
	// Ended says that there is no body.
	Ended bool
	// TooLarge says that the head is larger than Config.HeaderBytes, or has
	// more than ingress.MaxFields fields. What is beyond is missing.
	TooLarge bool

	conn *Conn
	id   uint32
	text []byte // what the head points into

	readable, writable    chan struct{} // signals; they have room for one
	readAlarm, writeAlarm *time.Timer   // of those who wait
	head                  answer        // of the handler

	// Guarded by Conn.mu.
	awaited              bool  // the client waits for 100 before it sends the body
	queued, turn         bool  // among Conn.heads or queue; taken from there
	counted              bool  // it counts in Conn.open
	gone                 bool  // not in Conn.streams any more
	begun                bool  // the head of the final answer is written
	theirEnd, ourEnd     bool  // the request, the answer has ended
	interrupted          bool  // the body is not read any more
	err                  error // why it is over before its end
	body                 body
	trailer              []ingress.Field
	declared, received   int64 // the length of the body as declared, -1: it is not; and so far
	credit, used, window int   // as Conn's
}

var (
	errGone        = fmt.Errorf("the connection has ended: %w", io.ErrUnexpectedEOF)
	errReset       = fmt.Errorf("the client has reset the stream: %w", io.ErrUnexpectedEOF)
	errClosed      = errors.New("the stream has been reset")
	errInterrupted = errors.New("the body is not wanted any more")
)

func (c *Conn) stream(id uint32) *Stream {
	s, ok := c.cfg.streams.Get().(*Stream)
	if !ok {
		s = &Stream{readable: make(chan struct{}, 1), writable: make(chan struct{}, 1)}
	}
	s.conn, s.id, s.declared = c, id, -1
	return s
}

// largestText is how much memory for a head a stream keeps.
const largestText = 8 << 10

// recycle gives s back, which nobody may know any more.
func (s *Stream) recycle() {
	c := s.conn
	for _, ch := range []chan struct{}{s.readable, s.writable} {
		select {
		case <-ch:
		default:
		}
	}
	if cap(s.text) > largestText {
		s.text = nil
	}
	clear(s.Fields)
	clear(s.trailer)
	s.head.reset()
	*s = Stream{
		Fields: s.Fields[:0], trailer: s.trailer[:0], text: s.text[:0], head: s.head,
		readable: s.readable, writable: s.writable, readAlarm: s.readAlarm, writeAlarm: s.writeAlarm,
	}
	c.cfg.streams.Put(s)
}

// keep copies v to where it holds as long as the stream.
func (s *Stream) keep(v string) []byte {
	if cap(s.text)-len(s.text) < len(v) {
		const first = 1 << 10
		s.text = make([]byte, 0, max(first, 2*cap(s.text), len(v))) // what is out stays in the old
	}
	n := len(s.text)
	s.text = append(s.text, v...)
	return s.text[n:len(s.text):len(s.text)]
}

func alarm(t **time.Timer, d time.Duration) *time.Timer {
	if *t == nil {
		*t = time.NewTimer(d)
	} else {
		(*t).Reset(d)
	}
	return *t
}

func (s *Stream) readTimer(d time.Duration) *time.Timer { return alarm(&s.readAlarm, d) }

func (s *Stream) writeTimer(d time.Duration) *time.Timer { return alarm(&s.writeAlarm, d) }

// Read reads the next part of the request body, and so allows the client to
// send more. The error is io.EOF at the end; one that is io.ErrUnexpectedEOF
// where the client has reset the stream or left; os.ErrDeadlineExceeded where
// it pauses for Config.Idle. A client that waits for 100 is told to go on.
func (s *Stream) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	s.proceed()
	by := time.Duration(0)
	for {
		switch {
		case s.interrupted:
			return 0, errInterrupted
		case s.err != nil:
			return 0, s.err
		case s.body.n > 0:
			n := s.body.read(c.cfg, p)
			c.refund(s, n)
			return n, nil
		case s.theirEnd:
			return 0, io.EOF
		}
		if by == 0 {
			by = c.now() + c.cfg.Idle
		}
		if !c.wait(s.readable, s.readTimer(by-c.now())) && s.body.n == 0 && !s.theirEnd && s.err == nil {
			return 0, os.ErrDeadlineExceeded
		}
	}
}

// Proceed tells a client that waits for 100 to send the body. The first Read
// does so too.
func (s *Stream) Proceed() {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	s.proceed()
}

func (s *Stream) proceed() {
	if s.awaited && !s.begun && !s.theirEnd && s.received == 0 && s.err == nil {
		s.appendBlock(http.StatusContinue, nil, false)
		s.conn.kick()
	}
	s.awaited = false
}

// Trailer returns the fields that followed the body, without those that may
// not (ingress.MayTrail), once Read has returned io.EOF. Their Kind is not set.
func (s *Stream) Trailer() []ingress.Field {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return s.trailer
}

// Interrupt makes a Read under way, and any later one, fail.
func (s *Stream) Interrupt() {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	s.interrupted = true
	c.refund(nil, s.body.drop(c.cfg))
	signal(s.readable)
}

// Gone reports whether nobody waits for the answer any more: the client has
// reset the stream, broken the protocol on it, or left.
func (s *Stream) Gone() bool {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return s.err != nil || s.conn.broken != nil
}

// Reset ends the stream, both ways, before its time.
func (s *Stream) Reset(code Code) {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if !s.gone {
		c.reset(s.id, code)
		c.kick()
	}
}

func (s *Stream) cause() error {
	if s.err != nil {
		return s.err
	}
	return gone(s.conn.broken)
}

// gone is what the end of the connection is to its streams.
func gone(err error) error {
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return errGone
}

// refund lets the client send n bytes more, as soon as it is worth a frame:
// when that is half of a window, or when the connection's is short since other
// streams hold the rest, and s has no more. s is nil where the stream's own
// window does not matter any more. The caller holds mu.
func (c *Conn) refund(s *Stream, n int) {
	c.used += n
	if n == 0 || c.over {
		return
	}
	if 2*c.used >= c.cfg.connWindow() || c.used >= c.credit && (s == nil || s.body.n == 0) {
		c.out.b = appendWindowUpdate(c.output(), 0, c.used)
		c.credit, c.used = c.credit+c.used, 0
		c.kick()
	}
	if s == nil || s.gone || s.theirEnd {
		return
	}
	if s.used += n; 2*s.used >= c.cfg.streamWindow() {
		c.out.b = appendWindowUpdate(c.output(), s.id, s.used)
		s.credit, s.used = s.credit+s.used, 0
		c.kick()
	}
}

// run is the life of a stream's handler.
func (c *Conn) run(s *Stream) {
	defer c.finish(s)
	c.handle(s)
}

// finish ends what the handler has left open.
func (c *Conn) finish(s *Stream) {
	_ = recover() // the stream is reset: see NewConn
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leave(s)
	if !s.gone {
		// The client need not send the rest (RFC 9113, 8.1).
		code := NoError
		if !s.ourEnd {
			code = InternalError
		}
		c.reset(s.id, code)
	}
	c.refund(nil, s.body.drop(c.cfg))
	if s.counted {
		c.open--
	}
	if c.running--; c.running == 0 {
		c.rested = c.now()
		if c.drain == drainFinal {
			c.wake()
		}
	}
	s.recycle()
	if !c.over {
		c.flush()
	}
}

// reset sends RST_STREAM. The caller holds mu, and has it sent.
func (c *Conn) reset(id uint32, code Code) {
	if c.over {
		return
	}
	c.out.b = appendReset(c.output(), id, code)
	if s := c.streams[id]; s != nil {
		c.fail(s, errClosed)
		c.forget(s, closedByUs)
	} else if id <= c.last {
		c.closed.add(id, closedByUs)
	}
}

// fail makes everything that is done with s fail. The caller holds mu.
func (c *Conn) fail(s *Stream, err error) {
	if s.err == nil {
		s.err = err
		c.refund(nil, s.body.drop(c.cfg))
		signal(s.readable)
		signal(s.writable)
	}
}

// forget takes s from the streams that frames may be for. Its handler may go
// on. The caller holds mu.
func (c *Conn) forget(s *Stream, how closing) {
	s.gone = true
	delete(c.streams, s.id)
	if how != closedQuietly {
		c.closed.add(s.id, how)
	}
}

// settle closes s if both sides have ended it. The caller holds mu.
func (c *Conn) settle(s *Stream) {
	if s.theirEnd && s.ourEnd && !s.gone {
		c.forget(s, closedByEnd)
		c.open--
		s.counted = false
		c.resets.give(1)
	}
}
