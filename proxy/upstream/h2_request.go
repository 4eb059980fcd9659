package upstream

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

var errHead = errors.New("the request's head cannot be sent over HTTP/2")

// requestOf makes of head, an HTTP/1.1 request in origin or asterisk form,
// what the library sends. Fields of the connection are left out (RFC 9113,
// section 8.2.2), TE stays where it is "trailers".
func requestOf(head []byte, scheme string) (*http.Request, error) {
	end, err := linesEnd(head)
	if err != nil {
		return nil, err
	}
	line, rest := cutLine(head[:end])
	method, after, _ := bytes.Cut(line, []byte(" "))
	target, version, ok := bytes.Cut(after, []byte(" "))
	if !ok || len(method) == 0 || !bytes.HasPrefix(version, []byte("HTTP/1.")) {
		return nil, errHead
	}
	r := &http.Request{Method: string(method), Header: make(http.Header, 16), Proto: "HTTP/2.0", ProtoMajor: 2}
	if r.URL, err = targetURL(string(target)); err != nil {
		return nil, err
	}
	for {
		line, rest = cutLine(rest)
		if len(line) == 0 {
			break
		}
		f, err := parseField(line)
		if err != nil {
			return nil, err
		}
		switch name := http.CanonicalHeaderKey(string(f.Name)); name {
		case "Host":
			r.Host = string(f.Value)
		case "Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Upgrade", "Content-Length":
		case "Te":
			if equalFold(f.Value, "trailers") {
				r.Header[name] = []string{"trailers"}
			}
		default:
			r.Header[name] = append(r.Header[name], string(f.Value))
		}
	}
	if r.Header["User-Agent"] == nil {
		r.Header["User-Agent"] = []string{""} // else the library's own
	}
	r.URL.Scheme, r.URL.Host = scheme, r.Host
	if r.Host == "" {
		return nil, errHead
	}
	return r, nil
}

// linesEnd returns the length of head, which is whole lines to an empty one.
func linesEnd(head []byte) (int, error) {
	if !bytes.HasSuffix(head, []byte("\r\n\r\n")) || bytes.IndexByte(head, '\n') < 1 {
		return 0, errHead
	}
	for rest := head; len(rest) > 0; {
		i := bytes.IndexByte(rest, '\n')
		if i < 1 || rest[i-1] != '\r' {
			return 0, errHead
		}
		rest = rest[i+1:]
	}
	return len(head), nil
}

// targetURL returns a URL whose request target is s to the byte.
func targetURL(s string) (*url.URL, error) {
	if s == "*" || strings.HasPrefix(s, "/") && !strings.HasPrefix(s, "//") {
		return &url.URL{Opaque: s}, nil
	}
	// Opaque would make an authority of the two slashes.
	path, query, asked := strings.Cut(s, "?")
	plain, err := url.PathUnescape(path)
	u := &url.URL{Path: plain, RawPath: path, RawQuery: query, ForceQuery: asked && query == ""}
	if err != nil || !strings.HasPrefix(s, "//") || u.RequestURI() != s {
		return nil, errHead
	}
	return u, nil
}

// outbound is a request's body as the library's goroutine reads it.
type outbound struct {
	body    io.Reader
	left    int64 // bytes; -1: all
	trailer func([]byte) []byte
	fields  http.Header // where trailer's fields go; the reader's
	clock   clock

	mu      sync.Mutex    // guards all below
	still   sync.Cond     // reading has become false
	reading bool          // body.Read is under way
	closed  bool          // it is not called any more
	begun   bool          // it was called
	handed  time.Duration // when the last piece was handed on
	empty   int           // reads of nothing in a row
}

var errStopped = errors.New("the request's body is not wanted any more")

func newOutbound(req *Request, c clock) *outbound {
	o := &outbound{body: req.Body, left: req.BodyLength, clock: c, handed: c.now()}
	o.still.L = &o.mu
	if o.left < 0 && req.Trailer != nil {
		o.trailer, o.fields = req.Trailer, http.Header{}
	}
	return o
}

// Read fails with an *Error that says RequestBody where body does.
func (o *outbound) Read(p []byte) (int, error) {
	o.mu.Lock()
	if o.closed {
		o.mu.Unlock()
		return 0, errStopped
	}
	if o.left == 0 {
		o.mu.Unlock()
		return 0, io.EOF
	}
	if o.left > 0 && int64(len(p)) > o.left {
		p = p[:o.left]
	}
	o.reading, o.begun = true, true
	o.mu.Unlock()

	n, err := o.body.Read(p)
	err = o.passed(n, err)

	o.mu.Lock()
	o.reading, o.handed = false, o.clock.now()
	o.still.Broadcast()
	o.mu.Unlock()
	return n, err
}

// passed keeps account of a read.
func (o *outbound) passed(n int, err error) error {
	const lazy = 100
	if n > 0 {
		o.empty = 0
	} else if o.empty++; err == nil && o.empty == lazy {
		err = io.ErrNoProgress
	}
	if o.left > 0 {
		if o.left -= int64(n); o.left == 0 {
			return io.EOF
		}
		if err == io.EOF { //nolint:errorlint // io.Reader's contract
			err = io.ErrUnexpectedEOF
		}
	}
	if err == io.EOF { //nolint:errorlint // io.Reader's contract
		o.trail()
	} else if err != nil {
		err = bodyError(err)
	}
	return err
}

// trail hands the trailer fields to the library, which sends them next.
func (o *outbound) trail() {
	if o.trailer == nil {
		return
	}
	for rest := o.trailer(nil); bytes.IndexByte(rest, '\n') > 0; {
		var line []byte
		line, rest = cutLine(rest)
		if len(line) == 0 {
			continue
		}
		if f, err := parseField(line); err == nil {
			name := http.CanonicalHeaderKey(string(f.Name))
			o.fields[name] = append(o.fields[name], string(f.Value))
		}
	}
}

// Close ends the reading, and interrupts a Read under way where body can be
// closed. The library calls it at the request's end, or earlier where the
// backend wants no more.
func (o *outbound) Close() error {
	o.mu.Lock()
	interrupt := o.reading && !o.closed
	o.closed = true
	o.mu.Unlock()
	if c, ok := o.body.(io.Closer); ok && interrupt {
		return c.Close()
	}
	return nil
}

// stop is Close, and returns when body is not being read.
func (o *outbound) stop() {
	_ = o.Close() // the body's own affair
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.reading {
		o.still.Wait()
	}
}

// untouched reports whether body was never read.
func (o *outbound) untouched() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return !o.begun
}

// took returns when the library last took a piece.
func (o *outbound) took() time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.handed
}

// moved returns when the library last took a piece, or now while it waits for
// the client's next and has use for it.
func (o *outbound) moved(now time.Duration) time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.reading && !o.closed {
		return now
	}
	return o.handed
}
