package upstream

import (
	"errors"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// beginStream takes over the answer's header section. Fields are in the order
// of their names, for the library does not keep that of the backend.
func (r *Response) beginStream(req *Request) error {
	res := r.stream.res
	if res.StatusCode < 200 || res.StatusCode > 999 {
		return errStatusLine
	}
	if len(res.Trailer) > 0 {
		res.Header["Trailer"] = []string{strings.Join(slices.Sorted(maps.Keys(res.Trailer)), ", ")}
	}
	var err error
	if r.Fields, err = fieldsOf(r.head.fields[:0], res.Header); err != nil {
		return err
	}
	r.head.fields = r.Fields
	r.Status, r.FirstByte = res.StatusCode, r.stream.firstByte
	r.body, r.ContentLength = byStream, res.ContentLength
	if req.IsHead || r.Status == 204 || r.Status == 304 {
		r.body, r.ContentLength, r.ended = noBody, 0, true
	}
	r.left = max(r.ContentLength, 0)
	return nil
}

// fieldsOf appends the fields of h, sorted by name, to fields.
func fieldsOf(fields []Field, h http.Header) ([]Field, error) {
	size, count := 0, 0
	for name, values := range h {
		for _, v := range values {
			size += len(name) + len(v)
			count++
		}
	}
	if count > maxFields {
		return nil, errFields
	}
	if size > maxHead {
		return nil, errHeadSize
	}
	text := make([]byte, 0, size)
	for _, name := range slices.Sorted(maps.Keys(h)) {
		for _, v := range h[name] {
			start := len(text)
			text = append(append(text, name...), v...)
			colon := start + len(name)
			value := trim(text[colon:])
			if !isText(value) {
				return nil, errFieldValue
			}
			fields = append(fields, Field{text[start:colon:colon], value})
		}
	}
	return fields, nil
}

// readStream reads the body, and the trailer section at its end.
func (r *Response) readStream(p []byte) (int, error) {
	n, err := r.stream.read(p)
	if err == io.EOF { //nolint:errorlint // io.Reader's contract
		if r.trailing.fields, err = fieldsOf(r.trailing.fields[:0], r.stream.res.Trailer); err != nil {
			return n, errTrailer
		}
		r.ended = true
		return n, io.EOF
	}
	if err != nil {
		return n, explainStream(err, reading, r.Endpoint)
	}
	return n, nil
}

// wholeStream reads a body of n bytes to its end.
func (r *Response) wholeStream(n int) ([]byte, error) {
	s := r.stream
	s.buf = s.link.conn.endpoint.client.buffers.take(n + 1) // one more, to see the end
	for have := 0; ; {
		more, err := r.readStream(s.buf.b[have : n+1])
		have += more
		switch {
		case err == io.EOF && have == n: //nolint:errorlint // io.Reader's contract
			return s.buf.b[:n:n], nil
		case err == io.EOF: //nolint:errorlint // as above
			return nil, explain(io.ErrUnexpectedEOF, reading, r.Endpoint)
		case err != nil:
			return nil, err
		}
	}
}

// detachStream parts with the stream, which is reset unless it has ended.
func (r *Response) detachStream() {
	s, e := r.stream, r.stream.link.conn.endpoint
	r.stream, r.Fields, r.ended = nil, nil, false
	r.body, r.left, r.failed = noBody, 0, nil
	s.cancel()
	if s.out != nil {
		s.out.stop()
	}
	if s.res != nil {
		s.res.Body.Close()
	}
	e.client.buffers.put(s.buf)
	e.inFlight.Add(-1)
	e.streams.release(s.link)
}

// read reads the body once. It ends when the client is gone, and when for the
// idle timeout nothing moved in either direction.
func (s *stream) read(p []byte) (int, error) {
	s.watch.start()
	n, err := s.res.Body.Read(p)
	if cause := s.watch.end(); cause != nil && err != nil {
		return n, cause
	}
	return n, err
}

// watch interrupts a read that waits for too long. Its timer's goroutine holds
// mu while it runs, and the reader when it begins and ends.
type watch struct {
	stream *stream
	timer  *time.Timer // nil before the first read

	mu     sync.Mutex    // guards the below
	active bool          // a read is under way
	since  time.Duration // when that began
	cause  error         // of the interruption
}

func (w *watch) start() {
	s := w.stream
	w.mu.Lock()
	defer w.mu.Unlock()
	w.active, w.since = true, s.link.conn.clock.now()
	if w.timer == nil {
		w.timer = time.AfterFunc(s.tick(s.idle), w.look)
		return
	}
	w.timer.Reset(s.tick(s.idle))
}

func (w *watch) end() error {
	w.timer.Stop()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.active = false
	return w.cause
}

// look interrupts the read, or comes again.
func (w *watch) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.stream
	if !w.active {
		return
	}
	now, last := s.link.conn.clock.now(), w.since
	if s.out != nil {
		last = max(last, s.out.took())
	}
	switch {
	case s.req.Gone != nil && s.req.Gone():
		w.cause = errGone
	case now >= last+s.idle:
		w.cause = os.ErrDeadlineExceeded
	default:
		w.timer.Reset(s.tick(last + s.idle - now))
		return
	}
	w.active = false
	// The cancellation keeps Close from waiting for the request's body.
	s.cancel()
	s.res.Body.Close()
}

// streamError has the form that net/http makes its own into (golang.org/issue/53896).
type streamError struct {
	StreamID uint32
	Code     uint32
	Cause    error
}

func (e streamError) Error() string { return "stream error" }

// refusedStream says that nothing was done (RFC 9113, section 8.7).
const refusedStream = 7

// unprocessed reports whether err says that the backend has not looked at the
// request, be it that it was refused or that it was never sent. Most of these
// errors of the library's can be told by their texts alone.
func unprocessed(err error) bool {
	if e, ok := errors.AsType[streamError](err); ok {
		return e.Code == refusedStream
	}
	switch strings.TrimPrefix(err.Error(), "http2: ") {
	case "client conn not usable", "client conn could not be established",
		"Transport received Server's graceful shutdown GOAWAY":
		return true
	}
	return false
}

// explainStream is explain for what the library says of a stream or its link.
func explainStream(err error, p phase, endpoint string) *Error {
	if e, ok := errors.AsType[*Error](err); ok { // from the request's body
		e.Endpoint = endpoint
		return e
	}
	text := err.Error()
	if e, ok := errors.AsType[streamError](err); ok && e.Cause != nil {
		if m, ok := errors.AsType[*malformed](e.Cause); ok {
			return explain(m, p, endpoint)
		}
		text = e.Cause.Error()
		if text == "received from peer" {
			return explain(err, p, endpoint)
		}
		if !strings.Contains(text, "header list") {
			text = "connection error: " + text
		}
	}
	for _, of := range []struct{ prefix, token string }{
		{"http2: response header list larger", "http_response_header_section_size"},
		{"header list too large", "http_response_header_section_size"},
		// What one caller sends must not count against the endpoint.
		{"http2: request header list larger", "http_protocol_error"},
		{"connection error: ", "http_protocol_error"},
		{"http2: frame too large", "http_protocol_error"},
		{"http2: invalid", "http_protocol_error"},
	} {
		if strings.HasPrefix(text, of.prefix) {
			return &Error{Code: gatehouse.CodeBackendProtocol, Token: of.token, Endpoint: endpoint, Err: err}
		}
	}
	return explain(err, p, endpoint)
}
