package http1

import (
	"bytes"
	"errors"
	"io"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/proxy/ingress"
)

// body is where the reading of a request body stands.
type body struct {
	state    bodyState
	left     int64 // of the body, or of the chunk
	overhead int   // bytes of chunk extensions so far
	awaited  bool  // the client waits for 100 before it sends the body
	shared   bool  // another goroutine reads it; set before that does
	trailer  []ingress.Field
	lines    []byte // what trailer points into
	err      error  // reading failed; it cannot go on
}

type bodyState uint8

const (
	noBody    bodyState = iota // or read to its end
	fixed                      // left bytes
	chunkSize                  // a chunk-size line is next
	chunkData                  // left bytes of a chunk
	chunkEnd                   // the CRLF behind a chunk
)

func (b *body) reset() {
	clear(b.trailer)
	*b = body{trailer: b.trailer[:0], lines: b.lines[:0]}
}

const (
	maxChunkLine = 256      // of a chunk-size line, extensions included
	maxOverhead  = 16 << 10 // of all extensions: more is an attack (CVE-2023-39326)
	maxTrailer   = 8 << 10  // of the trailer section
)

// Expect prepares for the body that r, parsed from the head, announces.
func (c *Conn) Expect(r *ingress.Request) {
	c.request = r
	switch {
	case r.BodyLength < 0:
		c.body.state = chunkSize
	case r.BodyLength > 0:
		c.body.state, c.body.left = fixed, r.BodyLength
	}
	c.body.awaited = r.Expect100
	c.ended.Store(c.body.state == noBody)
}

// Share says that another goroutine will call Read, and tells a client that
// waits for 100 to go on.
func (c *Conn) Share() error {
	c.body.shared = true
	return c.proceed()
}

// Read reads the next part of the request body; a client that waits for 100
// is told to go on. The error is io.EOF at the end, io.ErrUnexpectedEOF where
// the client breaks off, a timeout where it pauses for Config.Idle, and a
// *gatehouse.Error for malformed chunks. After any but io.EOF the connection
// must be closed.
func (c *Conn) Read(p []byte) (int, error) {
	b := &c.body
	if b.err != nil {
		return 0, b.err
	}
	if err := c.proceed(); err != nil {
		return 0, c.spoil(err)
	}
	for {
		switch b.state {
		case noBody:
			return 0, io.EOF
		case fixed:
			n, err := c.take(p)
			if err == nil && b.left == 0 {
				c.finish()
			}
			return n, err
		case chunkData:
			n, err := c.take(p)
			if err == nil && b.left == 0 {
				b.state = chunkEnd
			}
			return n, err
		case chunkEnd:
			if err := c.crlf(); err != nil {
				return 0, err
			}
			b.state = chunkSize
		case chunkSize:
			n, err := c.size()
			if err != nil {
				return 0, err
			}
			if n > 0 {
				b.left, b.state = n, chunkData
				continue
			}
			if err := c.trailerSection(); err != nil {
				return 0, err
			}
			c.finish()
		}
	}
}

// finish notes that the body has been read to its end.
func (c *Conn) finish() {
	c.body.state = noBody
	c.ended.Store(true)
}

// proceed tells a client that waits for 100 to go on.
func (c *Conn) proceed() error {
	if !c.body.awaited {
		return nil
	}
	c.body.awaited = false
	return c.Interim(100, nil)
}

var errInterrupted = errors.New("the body is not wanted any more")

// Interrupt makes a Read under way, and any later one, fail; the connection
// then takes no other request. It does nothing once the body has been read to
// its end. It may be called by another goroutine than the one that reads, not
// later than Done.
func (c *Conn) Interrupt() {
	if c.ended.Load() {
		return // nobody reads any more
	}
	c.interrupted.Store(true) // first: a reader that has set its deadline looks again
	_ = c.nc.SetReadDeadline(time.Unix(1, 0))
}

// spoil makes err the outcome of every read from now on.
func (c *Conn) spoil(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	c.body.err = err
	return err
}

func (c *Conn) malformed(message string) error {
	return c.spoil(refuse(gatehouse.CodeBadRequest, message, nil))
}

// take reads up to left bytes into p: what is buffered, or once from the
// connection.
func (c *Conn) take(p []byte) (int, error) {
	if int64(len(p)) > c.body.left {
		p = p[:c.body.left]
	}
	if c.r < c.w {
		n := copy(p, c.in.b[c.r:c.w])
		c.r += n
		c.body.left -= int64(n)
		return n, nil
	}
	if err := c.patient(); err != nil {
		return 0, c.spoil(err)
	}
	if c.interrupted.Load() {
		return 0, c.spoil(errInterrupted)
	}
	n, err := c.nc.Read(p)
	c.body.left -= int64(n)
	if n > 0 {
		return n, nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return 0, c.spoil(err)
}

// patient puts the read deadline off to about Config.Idle from now.
func (c *Conn) patient() error {
	now := time.Now()
	slack := min(time.Second, c.cfg.Idle/4)
	if left := c.readBy.Sub(now); left >= c.cfg.Idle-slack && left <= c.cfg.Idle {
		return nil
	}
	return c.setRead(now.Add(c.cfg.Idle))
}

// fill reads more of the body's framing into the buffer.
func (c *Conn) fill() error {
	c.room(smallBuffer / 2)
	if err := c.patient(); err != nil {
		return c.spoil(err)
	}
	if c.interrupted.Load() {
		return c.spoil(errInterrupted)
	}
	if err := c.read(); err != nil {
		return c.spoil(err)
	}
	return nil
}

// line returns the next line without its CRLF, of at most limit bytes. A bare
// LF or CR is malformed: what follows could be read as a chunk or not.
func (c *Conn) line(limit int) ([]byte, error) {
	for {
		got := c.in.b[c.r:c.w]
		if end := bytes.IndexByte(got, '\n'); end >= 0 {
			if end == 0 || end > limit || bytes.IndexByte(got[:end], '\r') != end-1 {
				return nil, c.malformed("a line of the chunked body does not end in CR LF, or is too long")
			}
			c.r += end + 1
			return got[:end-1], nil
		}
		if len(got) > limit {
			return nil, c.malformed("a line of the chunked body does not end in CR LF, or is too long")
		}
		if err := c.fill(); err != nil {
			return nil, err
		}
	}
}

func (c *Conn) crlf() error {
	for c.w-c.r < 2 {
		if c.w > c.r && c.in.b[c.r] != '\r' {
			break
		}
		if err := c.fill(); err != nil {
			return err
		}
	}
	if c.in.b[c.r] != '\r' || c.in.b[c.r+1] != '\n' {
		return c.malformed("a chunk is longer than it says")
	}
	c.r += 2
	return nil
}

// size reads a chunk-size line (RFC 9112, 7.1): hexadecimal digits and, behind
// a semicolon, extensions, which are dropped. White space before the semicolon
// is refused: parsers differ on it.
func (c *Conn) size() (int64, error) {
	line, err := c.line(maxChunkLine)
	if err != nil {
		return 0, err
	}
	digits := line
	if at := bytes.IndexByte(line, ';'); at >= 0 {
		digits = line[:at]
		if c.body.overhead += len(line) - at; c.body.overhead > maxOverhead {
			return 0, c.malformed("too many chunk extensions")
		}
		for _, ch := range line[at:] {
			if ch < ' ' && ch != '\t' || ch == 0x7f {
				return 0, c.malformed("control character in a chunk extension")
			}
		}
		if !areExtensions(line[at:]) {
			return 0, c.malformed("malformed chunk extension")
		}
	}
	const most = 15 // hexadecimal digits that fit in an int64
	if len(digits) == 0 || len(digits) > most {
		return 0, c.malformed("malformed chunk size")
	}
	var n int64
	for _, ch := range digits {
		d := ingress.Unhex(ch)
		if d < 0 {
			return 0, c.malformed("malformed chunk size")
		}
		n = n<<4 | int64(d)
	}
	return n, nil
}

// trailerSection reads what follows the last chunk, through the empty line.
func (c *Conn) trailerSection() error {
	b := &c.body
	for {
		line, err := c.line(maxTrailer)
		if err != nil {
			return err
		}
		if len(b.lines)+len(line) > maxTrailer {
			return c.malformed("the trailer section is too large")
		}
		b.lines = append(append(b.lines, line...), '\r', '\n')
		if len(line) == 0 {
			break
		}
	}
	var err error
	if b.trailer, err = ingress.ParseFieldLines(b.trailer[:0], b.lines); err != nil {
		return c.spoil(err)
	}
	return nil
}

// Trailer returns the trailer fields, once Read has returned io.EOF. They
// hold until Done.
func (c *Conn) Trailer() []ingress.Field { return c.body.trailer }

// Whole reports whether the whole request has been read. Nobody may be reading
// it any more.
func (c *Conn) Whole() bool {
	return c.body.state == noBody && c.body.err == nil && !c.interrupted.Load()
}

// drainable is how much of a body that nobody wanted is read so that the
// connection can be used again.
const drainable = 64 << 10

// WillKeep reports whether the connection can take another request once the
// answer is written: the rest of the body is short, and on its way.
func (c *Conn) WillKeep() bool {
	b := &c.body
	if c.interrupted.Load() {
		return false
	}
	if b.shared { // the rest of it is the reader's
		return c.ended.Load()
	}
	return b.err == nil && !b.awaited && (b.state == noBody || b.state == fixed && b.left <= drainable)
}

// drain reads the rest of a short body, at most within Config.Header.
func (c *Conn) drain() bool {
	if c.Whole() {
		return true
	}
	if !c.WillKeep() {
		return false
	}
	if n := int64(c.w - c.r); c.body.left <= n { // it is here already
		c.r += int(c.body.left)
		c.body.state = noBody
		return true
	}
	c.body.left -= int64(c.w - c.r)
	c.r, c.w = 0, 0
	if err := c.setRead(time.Now().Add(c.cfg.Header)); err != nil {
		return false
	}
	for c.body.left > 0 {
		n, err := c.nc.Read(c.in.b[:min(c.body.left, int64(len(c.in.b)))])
		c.body.left -= int64(n)
		if err != nil && c.body.left > 0 {
			return false
		}
	}
	c.body.state = noBody
	return true
}
