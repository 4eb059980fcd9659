package upstream

import (
	"errors"
	"io"
	"time"
)

// Response is an answer whose body is still to be read from the connection.
// The zero value is ready for Do. It is used by one goroutine at a time.
type Response struct {
	// Status is 200 to 999; 101 after Upgrade where that returns a connection.
	Status int
	// Fields are all header lines of the final answer in their order, framing
	// and connection fields among them; those of HTTP/2 are sorted by name, for
	// the library does not keep their order. What gRPC calls trailers-only is
	// such a header section, with no trailer. They are slices of the
	// connection's buffer, valid until Release.
	Fields []Field
	// ContentLength is the length of the body that follows: 0 for an answer
	// that has none, such as any to HEAD whatever its Content-Length says;
	// -1 when it is not known.
	ContentLength int64
	// Endpoint is the URL of the endpoint tried last, also after an error.
	Endpoint string
	// Attempts counts all attempts, also after an error.
	Attempts int
	// Dialed says that the last attempt opened a connection.
	Dialed bool
	// Connect is how long the last attempt took to get its connection;
	// FirstByte, from the end of the request to the answer's beginning.
	Connect, FirstByte time.Duration

	backend  *Backend
	conn     *conn   // nil before Do and after Release, and where there is a stream
	stream   *stream // the same, of HTTP/2
	head     head
	tried    []int // members
	retrying bool

	body     framing
	stage    stage
	left     int64 // bytes of the body, or of the chunk
	overhead int64 // bytes of chunk lines beyond what the data excuses
	trailing trailing
	ended    bool  // the body was read to its clean end
	failed   error // ended otherwise
	whole    bool  // the request was sent entirely, and keep-alive holds
}

// framing is how the end of a body is found.
type framing uint8

const (
	noBody framing = iota
	byLength
	byChunks
	byClose
	byStream
)

func (r *Response) reset(b *Backend) {
	r.Release()
	*r = Response{backend: b, head: head{fields: r.head.fields[:0]}, tried: r.tried[:0], trailing: r.trailing.reset()}
}

// begin takes over the parsed head.
func (r *Response) begin(req *Request, whole bool) {
	h := &r.head
	r.Status, r.Fields, r.ContentLength = h.status, h.fields, 0
	r.stage, r.overhead = chunkSize, 0
	r.whole = whole && !h.close && !req.upgrade
	switch {
	case req.IsHead, h.status == 304, h.status == 204, h.status == 101:
	case h.chunked:
		r.body = byChunks
	case h.length > 0:
		r.body = byLength
	case h.length < 0:
		r.body = byClose
		r.whole = false
	}
	r.ended = r.body == noBody
	switch r.body {
	case noBody:
	case byLength:
		r.ContentLength, r.left = h.length, h.length
	default:
		r.ContentLength = -1
	}
}

// Buffered returns what has been received of a body of known length and not
// been read, without reading it; of HTTP/2, nothing. It is valid until the next
// call.
func (r *Response) Buffered() []byte {
	if r.conn == nil || r.body != byLength || r.failed != nil {
		return nil
	}
	b := r.conn.in.b[r.conn.r:r.conn.w]
	return b[:min(int64(len(b)), r.left)]
}

// Whole returns the rest of the body if ContentLength is known and at most
// limit, and waits for it; true says so. The slice is valid until Release.
// Otherwise nothing is read. The error is an *Error.
func (r *Response) Whole(limit int) ([]byte, bool, error) {
	switch {
	case r.conn == nil && r.stream == nil:
		return nil, false, errClosed
	case r.failed != nil:
		return nil, false, r.failed
	case r.ContentLength < 0 || r.ContentLength > int64(limit):
		return nil, false, nil
	case r.ended:
		return nil, true, nil
	case r.stream != nil:
		b, err := r.wholeStream(int(r.left))
		if err != nil {
			return nil, false, r.fail(err)
		}
		return b, true, nil
	}
	c, n := r.conn, int(r.left)
	c.room(n)
	for c.w-c.r < n {
		if err := c.fill(r.backend.idle); err != nil {
			return nil, false, r.fail(err)
		}
	}
	b := c.in.b[c.r : c.r+n : c.r+n]
	c.r += n
	r.left, r.ended = 0, true
	return b, true, nil
}

// Read reads the body without its framing. It returns io.EOF at the body's
// clean end only; if the body breaks off, an *Error, which for an early end
// is also an io.ErrUnexpectedEOF.
func (r *Response) Read(p []byte) (int, error) {
	switch {
	case r.conn == nil && r.stream == nil:
		return 0, errClosed
	case r.failed != nil:
		return 0, r.failed
	case r.ended:
		return 0, io.EOF
	case len(p) == 0:
		return 0, nil
	}
	var n int
	var err error
	switch r.body {
	case byStream:
		n, err = r.readStream(p)
	case byChunks:
		n, err = r.readChunks(p)
	case byLength:
		n, err = r.some(p)
		r.ended = r.left == 0
	default:
		n, err = r.conn.take(p, r.backend.idle)
		// RFC 9112, section 8: an incomplete close of TLS is no end.
		r.ended = err == io.EOF && (r.conn.gate == nil || !r.conn.gate.cut) //nolint:errorlint // io.Reader's contract
	}
	if err != nil && !r.ended {
		return n, r.fail(err)
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// some reads up to left bytes.
func (r *Response) some(p []byte) (int, error) {
	if int64(len(p)) > r.left {
		p = p[:r.left]
	}
	n, err := r.conn.take(p, r.backend.idle)
	r.left -= int64(n)
	return n, err
}

func (r *Response) fail(err error) error {
	if err == io.EOF { //nolint:errorlint // io.Reader's contract
		err = io.ErrUnexpectedEOF
	}
	if e, ok := errors.AsType[*Error](err); ok {
		r.failed = e
	} else {
		r.failed = explain(err, reading, r.Endpoint)
	}
	return r.failed
}

// Trailer returns the trailer fields, of which names and values are
// well-formed, once Read has returned io.EOF; before that, and where there
// are none, nothing. The slices are valid until Release.
func (r *Response) Trailer() []Field {
	if !r.ended {
		return nil
	}
	return r.trailing.fields
}

// Release ends the request, and nothing reads its Body any more. The connection goes back to the pool if the body
// was read to its clean end, or has been received entirely, and nothing came
// behind it; otherwise it is closed. Fields and bodies returned are no longer
// valid. Release is idempotent.
func (r *Response) Release() {
	if r.conn == nil && r.stream == nil {
		return
	}
	r.detach()
	r.backend.finish(r)
}

// detach parts with the connection.
func (r *Response) detach() {
	if r.stream != nil {
		r.detachStream()
		return
	}
	c := r.conn
	if n := r.left; r.body == byLength && !r.ended && int64(c.w-c.r) >= n {
		c.r += int(n)
		r.ended = true
	}
	keep := r.whole && r.ended && r.failed == nil && c.r == c.w
	r.conn, r.Fields, r.whole, r.ended = nil, nil, false, false
	r.body, r.left, r.failed = noBody, 0, nil
	c.strip()
	e := c.endpoint
	e.inFlight.Add(-1)
	if c.apart {
		c.close()
		return
	}
	if keep {
		c.reused = true
		e.pool.keep(c, r.backend.limit, r.backend.idle)
	} else {
		e.pool.drop(c, r.backend.limit)
	}
}
