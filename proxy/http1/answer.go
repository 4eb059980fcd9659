package http1

import (
	"io"
	"net/http"
	"strconv"
	"time"
)

// Out is an answer's head being put together. It belongs to a Conn.
type Out struct {
	c *Conn
	b []byte
}

// Begin begins the head of the final answer. body is the length of what is to
// be written with it, 0 when that is not known.
func (c *Conn) Begin(status, body int) Out {
	const head = 1 << 10 // of most answers
	size := smallBuffer
	if body+head > smallBuffer && body+head <= writeBuffer {
		size = writeBuffer
	}
	if c.out != nil && len(c.out.b) < size {
		c.cfg.put(c.out)
		c.out = nil
	}
	if c.out == nil {
		c.out = c.cfg.take(size)
	}
	c.now = time.Now()
	return Out{c, appendStatus(c.out.b[:0], status)}
}

func appendStatus(b []byte, status int) []byte {
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(status), 10)
	b = append(append(b, ' '), http.StatusText(status)...)
	return append(b, "\r\n"...)
}

// Field adds a header line. Neither part may hold a line end.
func (o *Out) Field(name, value []byte) {
	o.b = append(append(o.b, name...), ": "...)
	o.b = append(append(o.b, value...), "\r\n"...)
}

// Date adds the time (RFC 9110, 6.6.1).
func (o *Out) Date() {
	o.b = append(append(o.b, "Date: "...), o.c.cfg.date(o.c.now)...)
	o.b = append(o.b, "\r\n"...)
}

// Length adds Content-Length.
func (o *Out) Length(n int64) {
	o.b = strconv.AppendInt(append(o.b, "Content-Length: "...), n, 10)
	o.b = append(o.b, "\r\n"...)
}

// Chunked says that the body comes in chunks.
func (o *Out) Chunked() { o.b = append(o.b, "Transfer-Encoding: chunked\r\n"...) }

// Connection says what becomes of the connection.
func (o *Out) Connection(value string) {
	o.b = append(append(o.b, "Connection: "...), value...)
	o.b = append(o.b, "\r\n"...)
}

// today is a second and its text, as Date has it.
type today struct {
	second int64
	text   string
}

func (c *Config) date(now time.Time) string {
	d := c.dated.Load()
	if d == nil || d.second != now.Unix() {
		d = &today{now.Unix(), now.UTC().Format(http.TimeFormat)}
		c.dated.Store(d)
	}
	return d.text
}

// Whole ends the head and writes it with the whole body.
func (o *Out) Whole(body []byte) error {
	o.b = append(o.b, "\r\n"...)
	o.c.begun = true
	if len(o.b)+len(body) <= writeBuffer {
		o.b = append(o.b, body...)
		return o.c.put(o.b)
	}
	if err := o.c.put(o.b); err != nil {
		return err
	}
	return o.c.write(body)
}

func (c *Conn) write(b []byte) error {
	c.now = time.Now()
	return c.put(b)
}

// put writes at c.now.
func (c *Conn) put(b []byte) error {
	slack := min(time.Second, c.cfg.Idle/4)
	if left := c.writeBy.Sub(c.now); left < c.cfg.Idle-slack || left > c.cfg.Idle {
		c.writeBy = c.now.Add(c.cfg.Idle)
		if err := c.nc.SetWriteDeadline(c.writeBy); err != nil {
			return err
		}
	}
	for len(b) > 0 {
		n, err := c.nc.Write(b)
		b = b[n:]
		if err == nil {
			continue
		}
		if n == 0 || !isTimeout(err) {
			return err
		}
		// The deadline is of a part, not of the whole: the client took some.
		c.writeBy = time.Now().Add(c.cfg.Idle)
		if err := c.nc.SetWriteDeadline(c.writeBy); err != nil {
			return err
		}
	}
	return nil
}

// Interim writes an interim answer (RFC 9110, 15.2), if the client knows them
// and the final one has not begun. It may be called while another goroutine
// calls Read.
func (c *Conn) Interim(status int, fields func(*Out)) error {
	if c.begun || c.request == nil || c.request.Minor == 0 {
		return nil
	}
	c.interim.Lock() // the reader of the body writes one too
	defer c.interim.Unlock()
	if c.out == nil {
		c.out = c.cfg.take(smallBuffer)
	}
	o := Out{c, appendStatus(c.out.b[:0], status)}
	if fields != nil {
		fields(&o)
	}
	o.b = append(o.b, "\r\n"...)
	return c.write(o.b)
}

// Flush ends the head and writes it; Stream then writes the body alone.
func (o *Out) Flush() error {
	o.c.begun = true
	err := o.c.write(append(o.b, "\r\n"...))
	o.b = nil
	return err
}

// How a body of unknown length is delimited.
const (
	ByChunks = -1 // to HTTP/1.1
	ByClose  = -2 // to HTTP/1.0: it ends with the connection
)

// chunkRoom is for the size line in front of a chunk.
const chunkRoom = len("7fffffff\r\n")

// Stream ends the head and writes it, unless Flush has, then body as it comes: every part that
// is read is written at once. length is that of the body, or ByChunks or
// ByClose. trailer, for chunks, may add trailer lines at the end; nil: none.
//
// readErr is why body could not be read, io.ErrUnexpectedEOF where it is
// shorter than length; err why the client could not be written to. After
// either, the connection must be aborted.
func (o *Out) Stream(body io.Reader, length int64, trailer func(*Out)) (readErr, err error) {
	c := o.c
	head := o.b
	if head != nil { // not flushed
		head = append(head, "\r\n"...)
	}
	large := c.cfg.take(writeBuffer)
	b := large.b
	defer func() { c.cfg.put(large) }()
	c.begun = true
	n := 0
	if len(head) <= len(b)/2 {
		n = copy(b, head)
	} else if err := c.write(head); err != nil {
		return nil, err
	}
	if length == ByChunks {
		// Chunks are put together from the beginning of b.
		if err := c.write(b[:n]); err != nil {
			return nil, err
		}
		return c.chunks(b, body, trailer)
	}
	for left := length; left != 0; {
		room := b[n:]
		if left > 0 && int64(len(room)) > left {
			room = room[:left]
		}
		got, rerr := body.Read(room)
		if n+got > 0 {
			if err := c.write(b[:n+got]); err != nil {
				return nil, err
			}
			n = 0
		}
		if left > 0 {
			left -= int64(got)
		}
		switch {
		case rerr == nil || left == 0:
		case rerr == io.EOF && left < 0:
			return nil, nil
		case rerr == io.EOF:
			return io.ErrUnexpectedEOF, nil
		default:
			return rerr, nil
		}
	}
	return nil, nil
}

func (c *Conn) chunks(b []byte, body io.Reader, trailer func(*Out)) (readErr, err error) {
	for {
		n, rerr := body.Read(b[chunkRoom : len(b)-len("\r\n")])
		if n > 0 {
			start := chunkRoom - 2
			b[start], b[start+1] = '\r', '\n'
			for size := n; size > 0; size >>= 4 {
				start--
				b[start] = "0123456789abcdef"[size&15]
			}
			b[chunkRoom+n], b[chunkRoom+n+1] = '\r', '\n'
			if err := c.write(b[start : chunkRoom+n+2]); err != nil {
				return nil, err
			}
		}
		if rerr == nil {
			continue
		}
		if rerr != io.EOF {
			return rerr, nil
		}
		o := Out{c, append(b[:0], "0\r\n"...)}
		if trailer != nil {
			trailer(&o)
		}
		return nil, c.write(append(o.b, "\r\n"...))
	}
}
