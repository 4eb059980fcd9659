// Package http1 is the server's side of HTTP/1.1 on one connection: it finds
// heads and bodies in the bytes of a client, strictly, and writes answers.
//
// A connection that could be read in two ways is refused and closed. Nothing
// is read ahead of what is asked for but what the kernel gives in one call, and
// an idle connection holds no buffer.
//
// Sources: RFC 9112 (framing), RFC 9110 (Expect, trailers, interim answers).
package http1

import (
	"errors"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/proxy/ingress"
)

// Config is what the connections of one gateway have in common. It is safe
// for concurrent use and must not be copied.
type Config struct {
	// HeaderBytes is the largest head.
	HeaderBytes int
	// Header is the time for a whole head, from its first byte.
	Header time.Duration
	// Idle is the time between requests, between two parts of a body, and in
	// which a client must take some of an answer.
	Idle time.Duration

	small, large sync.Pool             // of *buffer
	dated        atomic.Pointer[today] // the Date of this second; written by whoever finds it old
}

// buffer is what a connection reads into, or writes from.
type buffer struct{ b []byte }

// Buffer is memory to copy a body through. Config.Recycle takes it back.
type Buffer struct{ b *buffer }

// Buffer returns a buffer of 32 KiB or more.
func (c *Config) Buffer() Buffer { return Buffer{c.take(writeBuffer)} }

// Recycle takes a buffer back, which must not be used any more.
func (c *Config) Recycle(b Buffer) { c.put(b.b) }

// Bytes returns the memory.
func (b Buffer) Bytes() []byte { return b.b.b }

const (
	smallBuffer = 4 << 10
	// The largest answer written in one piece, and a part of a longer one.
	writeBuffer = 32 << 10
)

func (c *Config) take(size int) *buffer {
	pool := &c.small
	if size > smallBuffer {
		pool, size = &c.large, max(size, c.HeaderBytes, writeBuffer)
	} else {
		size = smallBuffer
	}
	if b, ok := pool.Get().(*buffer); ok {
		return b
	}
	return &buffer{make([]byte, size)}
}

func (c *Config) put(b *buffer) {
	switch {
	case b == nil:
	case len(b.b) == smallBuffer:
		c.small.Put(b)
	default:
		c.large.Put(b)
	}
}

// Conn is one connection. It belongs to one goroutine, but for Interim, which
// another may call before the answer begins, for Interrupt, and, after Share,
// for Read and Trailer.
//
// The order of calls is Await, Head, Expect, then reads of the body and writes of the
// answer, then Done. Slices of a head hold until Done.
type Conn struct {
	nc  net.Conn
	cfg *Config

	in   *buffer // what was read; nil while the connection is idle
	r, w int     // in.b[r:w] is read and not used yet
	kept *buffer // the head's, where the body needed another
	one  [1]byte // what an idle connection waits with

	readBy, writeBy time.Time // deadlines that are set

	body    body
	request *ingress.Request // of the head; nil between requests
	begun   bool             // the head of the final answer has been written
	out     *buffer          // what is being written; nil between answers

	interim     sync.Mutex  // held while an interim answer is written
	answered    bool        // it has carried a request
	now         time.Time   // when the last write began, or its answer
	ended       atomic.Bool // the body has been read to its end; set by its reader
	interrupted atomic.Bool // set by Interrupt, for good: the connection takes no other request
}

// NewConn returns the HTTP side of a connection just accepted. Close ends it.
func NewConn(nc net.Conn, cfg *Config) *Conn { return &Conn{nc: nc, cfg: cfg} }

// Close gives back the connection's memory. It does not close the socket.
func (c *Conn) Close() {
	c.cfg.put(c.in)
	c.cfg.put(c.kept)
	c.cfg.put(c.out)
	c.in, c.kept, c.out, c.r, c.w = nil, nil, nil, 0, 0
}

// Buffered returns the bytes that were read beyond the request. After a
// change of protocol they belong to the new one. They hold until Close.
func (c *Conn) Buffered() []byte {
	if c.in == nil {
		return nil
	}
	return c.in.b[c.r:c.w]
}

// settled is how long an idle connection keeps its buffer: within it the next
// request costs one system call, and after it no memory.
const settled = time.Second

// Await waits for the first byte of the next request, up to Config.Idle. The
// error is io.EOF when the connection ended or stayed idle.
func (c *Conn) Await() error {
	if c.r < c.w {
		return nil
	}
	if c.in == nil {
		c.in = c.cfg.take(smallBuffer)
	}
	c.r, c.w = 0, 0
	if c.answered {
		// While others have work the client may ask again, and then it is read
		// without a wait in between.
		runtime.Gosched()
	} else {
		c.now = time.Now()
	}
	// The answer has been written since now, which took longer only where the
	// client is slow: then the wait for it is short, and goes on below.
	err := c.readWithin(c.now, min(settled, c.cfg.Idle/2))
	if err == nil || !isTimeout(err) {
		return ended(err)
	}
	c.cfg.put(c.in)
	c.in = nil
	if err := c.setRead(time.Now().Add(max(c.cfg.Idle-2*settled, time.Millisecond))); err != nil {
		return io.EOF
	}
	if n, err := c.nc.Read(c.one[:]); n == 0 {
		if err == nil {
			err = io.EOF
		}
		return ended(err)
	}
	c.in = c.cfg.take(smallBuffer)
	c.in.b[0], c.w = c.one[0], 1
	return nil
}

// ended makes every way in which an idle connection may end one.
func ended(err error) error {
	if err == nil {
		return nil
	}
	return io.EOF
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[interface {
		error
		Timeout() bool // connections in memory have no more of net.Error
	}](err)
	return ok && e.Timeout()
}

// readWithin reads once into the buffer, for at most d, or up to twice as long
// where an earlier deadline stands: setting one costs more than reading the
// clock.
func (c *Conn) readWithin(now time.Time, d time.Duration) error {
	if left := c.readBy.Sub(now); left < d || left > 2*d {
		if err := c.setRead(now.Add(2 * d)); err != nil {
			return err
		}
	}
	return c.read()
}

func (c *Conn) setRead(by time.Time) error {
	c.readBy = by
	return c.nc.SetReadDeadline(by)
}

// read reads once into what room the buffer has.
func (c *Conn) read() error {
	n, err := c.nc.Read(c.in.b[c.w:])
	c.w += n
	if n > 0 {
		return nil
	}
	if err == nil {
		return io.ErrNoProgress
	}
	return err
}

func refuse(code gatehouse.Code, message string, err error) error {
	return &gatehouse.Error{Code: code, Message: message, Err: err}
}

// Head returns the head of the request that Await saw the beginning of: from
// its request line through its empty line, not validated beyond that. The
// error is a *gatehouse.Error, after which the connection must be closed, or
// io.EOF where nothing came but an empty line.
func (c *Conn) Head() ([]byte, error) {
	c.request, c.begun = nil, false
	c.body.reset()
	skipped, timed := false, false
	for from := 0; ; {
		got := c.in.b[c.r:c.w]
		more := len(got) == 0
		if !skipped && len(got) > 0 && got[0] == '\r' {
			// One empty line in front is forgiven (RFC 9112, 2.2).
			if more = len(got) == 1; !more && got[1] == '\n' {
				c.r += 2
				skipped = true
				continue
			}
		}
		if !more {
			end, err := ingress.HeadEnd(got, from)
			if err != nil {
				return nil, err
			}
			if end > c.cfg.HeaderBytes || end == 0 && len(got) >= c.cfg.HeaderBytes {
				return nil, refuse(gatehouse.CodeHeaderTooLarge, "the request head is larger than this gateway takes", nil)
			}
			if end > 0 {
				c.r += end
				return got[:end:end], nil
			}
			from = len(got)
		}
		if !timed {
			timed = true
			if err := c.setRead(time.Now().Add(c.cfg.Header)); err != nil {
				return nil, incomplete(err)
			}
		}
		c.grow()
		if err := c.read(); err != nil {
			if len(got) == 0 {
				return nil, io.EOF
			}
			return nil, incomplete(err)
		}
	}
}

func incomplete(err error) error {
	if isTimeout(err) {
		return refuse(gatehouse.CodeRequestTimeout, "the request did not arrive in time", err)
	}
	return refuse(gatehouse.CodeBadRequest, "the request broke off", err)
}

// grow makes room behind a head that is not complete yet.
func (c *Conn) grow() {
	if c.w < len(c.in.b) {
		return
	}
	if c.r > 0 {
		c.w = copy(c.in.b, c.in.b[c.r:c.w])
		c.r = 0
		return
	}
	b := c.cfg.take(len(c.in.b) + 1)
	c.w = copy(b.b, c.in.b[:c.w])
	c.cfg.put(c.in)
	c.in = b
}

// room makes n bytes of buffer follow what is read, without moving the head.
func (c *Conn) room(n int) {
	if len(c.in.b)-c.w >= n {
		return
	}
	b := c.cfg.take(n + c.w - c.r)
	c.w = copy(b.b, c.in.b[c.r:c.w])
	c.r = 0
	if c.kept == nil {
		c.kept = c.in
	} else {
		c.cfg.put(c.in)
	}
	c.in = b
}

// Done ends a request whose answer is written, and reports whether another
// may follow: the body must have been read to its end, or be short enough to
// be read now.
func (c *Conn) Done() bool {
	whole := c.drain()
	c.answered = true
	c.request = nil
	c.cfg.put(c.kept)
	c.kept = nil
	c.cfg.put(c.out)
	c.out = nil
	if whole && c.r < c.w && c.r > 0 { // a pipelined request moves to the front
		c.w = copy(c.in.b, c.in.b[c.r:c.w])
		c.r = 0
	}
	return whole
}
