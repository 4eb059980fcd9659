package http2

import (
	"net/http"
	"strconv"
	"time"

	"github.com/gatehouse-gateway/gatehouse/proxy/ingress"
)

// answer is the head of an answer, or its trailer, as it is put together. It
// belongs to the handler.
type answer struct {
	status int
	fields []ingress.Field
	own    [20]byte // the digits of the length
}

func (a *answer) reset() {
	clear(a.fields)
	*a = answer{fields: a.fields[:0]}
}

// Begin begins the head of the final answer.
func (s *Stream) Begin(status int) {
	s.head.reset()
	s.head.status = status
}

// Field adds a field to the head, or to the trailer once the head is written.
// The name is written in lower case. Both slices must hold until what they are
// part of is written. The fields of a connection (RFC 9113, 8.2.2) must not be
// among them.
func (s *Stream) Field(name, value []byte) {
	s.head.fields = append(s.head.fields, ingress.Field{Name: name, Value: value})
}

// Length adds Content-Length.
func (s *Stream) Length(n int64) {
	s.head.fields = append(s.head.fields, ingress.Field{Name: nameLength, Value: strconv.AppendInt(s.head.own[:0], n, 10)})
}

// Date adds the time (RFC 9110, 6.6.1).
func (s *Stream) Date() {
	s.head.fields = append(s.head.fields, ingress.Field{Name: nameDate, Value: s.conn.cfg.date()})
}

var (
	nameLength = []byte("content-length")
	nameDate   = []byte("date")
)

// today is a second and its text, as Date has it.
type today struct {
	second int64
	text   []byte
}

func (c *Config) date() []byte {
	now := time.Now()
	d := c.dated.Load()
	if d == nil || d.second != now.Unix() {
		d = &today{now.Unix(), now.UTC().AppendFormat(nil, http.TimeFormat)}
		c.dated.Store(d)
	}
	return d.text
}

// Interim writes an interim answer (RFC 9110, 15.2), if the final one has not
// begun. Errors are as for Write.
func (s *Stream) Interim(status int, fields []ingress.Field) error {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.begun {
		return nil
	}
	if _, err := c.room(s, 0); err != nil {
		return err
	}
	s.appendBlock(status, fields, false)
	c.leave(s)
	c.flush()
	return nil
}

// Flush writes the head, of an answer that begins slowly.
func (s *Stream) Flush() error { return s.write(nil, false) }

// Write writes the next part of the body, after the head where that has not
// been. It is sent at once, as far as the client allows: where that is not far
// enough Write waits, and fails with os.ErrDeadlineExceeded if nothing moves
// for Config.Idle. Other errors say that the client has gone.
func (s *Stream) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := s.write(p, false); err != nil {
		return 0, err // how much the client got of p cannot be known
	}
	return len(p), nil
}

// End ends the answer: with its head alone, with its last part, or with the
// trailer fields added since the head was written. Errors are as for Write.
func (s *Stream) End() error { return s.write(nil, true) }

// Whole writes the head and the whole body, together where they are small, and
// ends the answer. Errors are as for Write.
func (s *Stream) Whole(body []byte) error { return s.write(body, true) }

func (s *Stream) write(p []byte, end bool) error {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.ourEnd {
		return errClosed
	}
	if !s.begun {
		if _, err := c.room(s, 0); err != nil {
			return err
		}
		last := end && len(p) == 0
		s.begun = true
		s.appendBlock(s.head.status, s.head.fields, last)
		clear(s.head.fields)
		s.head.fields = s.head.fields[:0]
		if last {
			s.end()
			return s.flushed()
		}
	}
	for len(p) > 0 {
		n, err := c.room(s, len(p))
		if err != nil {
			return err
		}
		last := end && n == len(p) && len(s.head.fields) == 0
		s.appendData(p[:n], last)
		const dribble = 1 << 10
		if n == len(p) || n >= dribble {
			c.owed = min(c.owed+updatesOwed(n), mostOwed)
		}
		p = p[n:]
		if last {
			s.end()
			return s.flushed()
		}
		c.leave(s) // the next one's turn
	}
	if end {
		if _, err := c.room(s, 0); err != nil {
			return err
		}
		if len(s.head.fields) > 0 {
			s.appendBlock(0, s.head.fields, true)
		} else {
			s.appendData(nil, true)
		}
		s.end()
	}
	return s.flushed()
}

// end notes that the answer has ended. The caller holds mu.
func (s *Stream) end() {
	s.ourEnd = true
	s.conn.settle(s)
}

// flushed sends what has been put together. The caller holds mu.
func (s *Stream) flushed() error {
	s.conn.leave(s)
	s.conn.flush()
	if s.ourEnd && s.conn.broken == nil {
		return nil // a client may reset what it has got whole
	}
	return s.cause()
}

func (s *Stream) appendData(p []byte, last bool) {
	s.conn.moved = s.conn.now()
	c := s.conn
	flags := uint8(0)
	if last {
		flags = flagEndStream
	}
	c.out.b = append(appendFrame(c.output(), len(p), kindData, flags, s.id), p...)
	c.window -= len(p)
	s.window -= len(p)
}

// appendBlock appends HEADERS, and CONTINUATION where they are needed. status
// is 0 for a trailer. The caller holds mu.
func (s *Stream) appendBlock(status int, fields []ingress.Field, last bool) {
	c := s.conn
	b := c.output()
	start := len(b)
	b = appendFrame(b, 0, kindHeaders, 0, s.id)
	b = c.enc.begin(b)
	if status != 0 {
		b = c.enc.status(b, status)
	}
	for i := range fields {
		b = c.enc.field(b, fields[i].Name, fields[i].Value)
	}
	flags := uint8(0)
	if last {
		flags = flagEndStream
	}
	if n := len(b) - start - frameHeader; n <= maxFrame {
		appendFrame(b[start:start], n, kindHeaders, flags|flagEndHeaders, s.id)
		c.out.b = b
		return
	}
	block := append([]byte(nil), b[start+frameHeader:]...) // rare: an answer's head of 16 KiB
	b = b[:start]
	for k := kindHeaders; ; k, flags = kindContinuation, 0 {
		n := min(len(block), maxFrame)
		if n == len(block) {
			flags |= flagEndHeaders
		}
		b = append(appendFrame(b, n, k, flags, s.id), block[:n]...)
		if block = block[n:]; len(block) == 0 {
			break
		}
	}
	c.out.b = b
}
