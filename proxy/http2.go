package proxy

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/proxy/edge"
	"github.com/gatehouse-gateway/gatehouse/proxy/identity"
	"github.com/gatehouse-gateway/gatehouse/proxy/ingress"
	"github.com/gatehouse-gateway/gatehouse/proxy/upstream"
)

// http2Server speaks HTTP/2 to clients: frames, flow control and header
// compression are net/http's, which serves no HTTP/1.1 here. Connections come
// from fasthttp's workers, decrypted, and requests go down the same line.
type http2Server struct {
	g      *Gateway
	server *http.Server
	conns  chan net.Conn // to Accept
	closed chan struct{} // closed by Close
	once   sync.Once     // guards the closing of closed
	start  sync.Once     // guards the start of Serve, with the first connection
	serves sync.WaitGroup
}

func newHTTP2(g *Gateway) *http2Server {
	h := &http2Server{g: g, conns: make(chan net.Conn), closed: make(chan struct{})}
	l := &g.cfg.Limits
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true) // TLS has been taken off
	h.server = &http.Server{
		Handler: http.HandlerFunc(h.serveStream), Protocols: protocols,
		MaxHeaderBytes: int(l.HeaderBytes), IdleTimeout: g.http1.Idle, ReadHeaderTimeout: g.http1.Header,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: g.cfg.HTTP2.Streams, WriteByteTimeout: g.http1.Idle,
			SendPingTimeout: g.http1.Idle, PingTimeout: g.http1.Header,
			// What a client may send before it is read, per stream and in all.
			MaxReceiveBufferPerStream: 256 << 10, MaxReceiveBufferPerConnection: 1 << 20,
		},
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
		ErrorLog:    log.New(io.Discard, "", 0), // what it says of clients is in the records and metrics
	}
	return h
}

// connKey finds the *http2Conn of a request in its context.
type connKey struct{}

// Accept gives net/http a connection.
func (h *http2Server) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (h *http2Server) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

// Addr is nobody's.
func (h *http2Server) Addr() net.Addr { return &net.TCPAddr{} }

// drain tells clients to go elsewhere (GOAWAY); streams under way go on.
func (h *http2Server) drain(ctx context.Context) { _ = h.server.Shutdown(ctx) }

// end closes what is left, and returns when nothing runs any more.
func (h *http2Server) end() {
	h.start.Do(func() {}) // not any more
	_ = h.Close()
	_ = h.server.Close()
	h.serves.Wait()
}

// http2Conn is one client connection of HTTP/2.
type http2Conn struct {
	net.Conn // the edge's, without its TLS, which net/http has no part in
	edge     *edge.Conn
	over     chan struct{} // closed by Close
	once     sync.Once     // guards the closing of over

	mu   sync.Mutex
	cert certified // guarded by mu: streams share it
}

// Close ends the connection.
func (c *http2Conn) Close() error {
	c.once.Do(func() { close(c.over) })
	return c.edge.Close()
}

// abandon does nothing: GOAWAY ends a connection without streams.
func (c *http2Conn) abandon() {}

func (c *http2Conn) cut() { _ = c.Close() }

// serveHTTP2 hands a connection over, and returns when it has ended.
func (g *Gateway) serveHTTP2(nc net.Conn) error {
	e, ok := nc.(*edge.Conn)
	if !ok {
		return errors.New("a connection of another listener")
	}
	c := &http2Conn{Conn: e.Bare(), edge: e, over: make(chan struct{})}
	g.sessions.add(c)
	defer g.sessions.remove(c)
	if err := c.SetReadDeadline(time.Now().Add(g.http1.Header)); err != nil { // until the preface is read
		return err
	}
	g.http2.start.Do(func() {
		g.http2.serves.Go(func() { _ = g.http2.server.Serve(g.http2) }) // ends with Close
	})
	select {
	case g.http2.conns <- c:
	case <-g.http2.closed:
		return c.Close()
	}
	<-c.over
	return nil
}

// stream is one request over HTTP/2: its transport.
type stream struct {
	g    *Gateway
	conn *http2Conn
	w    http.ResponseWriter
	r    *http.Request
	rc   *http.ResponseController
	arm  time.Time // when the read deadline was last set
}

func (h *http2Server) serveStream(w http.ResponseWriter, r *http.Request) {
	g := h.g
	c, ok := r.Context().Value(connKey{}).(*http2Conn)
	if !ok {
		panic(http.ErrAbortHandler) // ConnContext has set it
	}
	s := &stream{g: g, conn: c, w: w, r: r, rc: http.NewResponseController(w)}
	x := g.NewExchange()
	defer x.Release()
	x.transport = s
	x.Peer, x.ServerName = c.edge.Peer(), c.edge.ServerName()
	x.secured = c.edge.TLS()
	x.TLS = x.secured != nil
	if g.Begin(x) {
		if x.In.BodyLength != 0 {
			x.RequestBody = (*streamBody)(s)
		}
		g.Carry(x)
	}
	err := s.write(x)
	g.Finish(x, err)
	if err != nil {
		panic(http.ErrAbortHandler) // resets the stream: a broken body has no clean end
	}
}

// parse puts the head together from what net/http has of it. The order of
// fields is not kept: it is that of their names.
func (s *stream) parse(in *ingress.Request) error {
	size := len(s.r.Method) + len(s.r.Host) + len(s.r.RequestURI)
	count := 0
	for name, values := range s.r.Header {
		for _, v := range values {
			size += len(name) + len(v)
			count++
		}
	}
	text := make([]byte, 0, size+64)
	add := func(v string) []byte {
		start := len(text)
		text = append(text, v...)
		return text[start:len(text):len(text)]
	}
	fields := make([]ingress.Field, 0, count+1)
	for name, values := range s.r.Header {
		lower := add(strings.ToLower(name))
		for _, v := range values {
			fields = append(fields, ingress.Field{Name: lower, Value: add(v)})
		}
	}
	if len(s.r.Trailer) > 0 { // net/http takes the field away
		var names []string
		for name := range s.r.Trailer {
			names = append(names, strings.ToLower(name))
		}
		slices.Sort(names)
		fields = append(fields, ingress.Field{Name: add("trailer"), Value: add(strings.Join(names, ", "))})
	}
	slices.SortStableFunc(fields, func(a, b ingress.Field) int { return cmp.Compare(string(a.Name), string(b.Name)) })
	scheme := "http"
	if s.conn.edge.TLS() != nil {
		scheme = "https"
	}
	return in.ParseHTTP2(add(s.r.Method), []byte(scheme), add(s.r.Host), add(s.r.RequestURI), fields, s.r.ContentLength == 0)
}

func (s *stream) interim(status int, fields []upstream.Field) {
	h := s.w.Header()
	for i := range fields {
		if ingress.KindOf(fields[i].Name) == ingress.Other {
			h.Add(string(fields[i].Name), string(fields[i].Value))
		}
	}
	s.w.WriteHeader(status)
	clear(h)
}

func (s *stream) gone() bool { return s.r.Context().Err() != nil }

// interrupt ends the stream's body: net/http lets a read and a close meet.
func (s *stream) interrupt() { _ = s.r.Body.Close() }

// proceed is net/http's, with the first read.
func (s *stream) proceed() error { return nil }

func (s *stream) trailer() []ingress.Field {
	var fields []ingress.Field
	for name, values := range s.r.Trailer {
		for _, v := range values {
			fields = append(fields, ingress.Field{Kind: ingress.KindOf([]byte(name)), Name: []byte(strings.ToLower(name)), Value: []byte(v)})
		}
	}
	return fields
}

func (s *stream) certificate(v *identity.Verifier, now time.Time) (*identity.Verified, error) {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return s.conn.cert.of(v, s.conn.edge.TLS(), now)
}

// streamBody is the request body, under the idle timeout.
type streamBody stream

// Read reads the next part.
func (b *streamBody) Read(p []byte) (int, error) {
	s := (*stream)(b)
	if now := time.Now(); now.Sub(s.arm) >= min(time.Second, s.g.http1.Idle/4) {
		s.arm = now
		if err := s.rc.SetReadDeadline(now.Add(s.g.http1.Idle)); err != nil {
			return 0, err
		}
	}
	return s.r.Body.Read(p)
}

// write writes the answer.
func (s *stream) write(x *Exchange) error {
	if x.code == gatehouse.CodeClientGone {
		return context.Canceled
	}
	h := s.w.Header()
	h["Content-Type"] = nil // none is invented
	for i := range x.Fields {
		f := &x.Fields[i]
		name := http.CanonicalHeaderKey(string(f.Name))
		h[name] = append(h[name], string(f.Value))
	}
	length := x.Length
	if x.Stream == nil {
		length = int64(len(x.Body))
	}
	isHead := string(x.In.Method) == "HEAD"
	if (isHead || x.Status == 304) && x.code == "" {
		length = x.declared
	}
	if x.Status != 204 && length >= 0 && (x.Stream != nil || length > 0 || isHead) {
		h["Content-Length"] = []string{strconv.FormatInt(length, 10)}
	}
	s.w.WriteHeader(cmp.Or(x.wire, x.Status))
	if x.Stream == nil {
		if len(x.Body) > 0 && !isHead {
			if _, err := s.w.Write(x.Body); err != nil {
				return err
			}
		}
		s.addTrailer(x)
		return nil
	}
	if err := s.rc.Flush(); err != nil { // the head of an answer that begins slowly
		return err
	}
	buf := s.g.http1.Buffer()
	defer s.g.http1.Recycle(buf)
	for {
		n, err := x.Stream.Read(buf.Bytes())
		if n > 0 {
			if _, werr := s.w.Write(buf.Bytes()[:n]); werr != nil {
				return werr
			}
			if werr := s.rc.Flush(); werr != nil {
				return werr
			}
		}
		if err == io.EOF { //nolint:errorlint // io.Reader's contract
			s.addTrailer(x)
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (s *stream) addTrailer(x *Exchange) {
	for _, f := range x.resp.Trailer() {
		if x.passesTrailer(f.Name) {
			s.w.Header().Add(http.TrailerPrefix+string(f.Name), string(f.Value))
		}
	}
}
