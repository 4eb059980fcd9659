package proxy

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/proxy/edge"
	"github.com/gatehouse-gateway/gatehouse/proxy/http1"
	"github.com/gatehouse-gateway/gatehouse/proxy/identity"
	"github.com/gatehouse-gateway/gatehouse/proxy/ingress"
	"github.com/gatehouse-gateway/gatehouse/proxy/tunnel"
)

// session is one client connection of HTTP/1.1: the transport of its requests,
// one after the other, on one goroutine.
type session struct {
	g     *Gateway
	edge  *edge.Conn
	http  *http1.Conn
	state atomic.Int32 // sessionIdle and so on; Gateway.closeIdle takes it from idle to over

	head    []byte // of the request being served
	headErr error  // why there is none
	parsed  bool   // the head is good: where the request ends is known
	cert    certified
}

const (
	sessionIdle int32 = iota
	sessionBusy
	sessionOver
)

var errForeign = errors.New("a connection of another listener")

// serveHTTP1 serves the requests of one connection until it ends. fasthttp
// closes it.
func (g *Gateway) serveHTTP1(c net.Conn) error {
	e, ok := c.(*edge.Conn)
	if !ok {
		return errForeign
	}
	s := &session{g: g, edge: e, http: http1.NewConn(e, &g.http1)}
	g.sessions.add(s)
	defer func() {
		g.sessions.remove(s)
		s.http.Close()
	}()
	for s.http.Await() == nil && s.state.CompareAndSwap(sessionIdle, sessionBusy) {
		if !s.serve() {
			return nil
		}
		s.state.Store(sessionIdle)
	}
	return nil
}

// abandon closes the connection if no request is being served on it.
func (s *session) abandon() {
	if s.state.CompareAndSwap(sessionIdle, sessionOver) {
		_ = s.edge.NetConn().Close() // past TLS, which may wait to say goodbye; its goroutine finds out
	}
}

// leave does nothing: the next answer asks the client to close.
func (s *session) leave() {}

func (s *session) cut() { _ = s.edge.NetConn().Close() }

// serve serves one request and reports whether another may follow.
func (s *session) serve() (again bool) {
	s.parsed = false
	s.head, s.headErr = s.http.Head()
	if s.headErr == io.EOF { //nolint:errorlint // the end, as http1.Conn says it
		return false
	}
	g := s.g
	x := g.NewExchange()
	defer x.Release()
	x.transport = s
	x.Peer, x.ServerName = s.edge.Peer(), s.edge.ServerName()
	x.secured = s.edge.TLS()
	x.TLS = x.secured != nil
	defer func() {
		if p := recover(); p != nil { // fasthttp would let the process end
			g.panicked(x, p)
			s.abort()
			again = false
		}
	}()
	if g.Begin(x) {
		if x.In.BodyLength != 0 {
			x.RequestBody = s.http
		}
		g.Carry(x)
	}
	if x.Tunnel != nil {
		s.tunnel(x)
		return false
	}
	keep, err := s.write(x)
	if err == nil {
		x.written()
	}
	g.Finish(x, err)
	switch {
	case err != nil:
		return false
	case keep && s.http.Done():
		return true
	case !s.http.Whole() || !s.parsed || len(s.http.Buffered()) > 0:
		// A client that is still sending reads its answer before the end.
		s.edge.Linger(lingerTime, lingerBytes)
	}
	return false
}

// How much of a request that nobody wants is taken in so that the client
// reads its answer: closing on unread bytes makes the kernel reset the
// connection, and the answer is lost with it.
const (
	lingerTime  = 2 * time.Second
	lingerBytes = 4 << 20
)

// parse is the line's first step.
func (s *session) parse(in *ingress.Request) error {
	if s.headErr != nil {
		return s.headErr
	}
	if err := in.ParseHead(s.head); err != nil {
		return err
	}
	s.http.Expect(in)
	s.parsed = true
	return nil
}

func (s *session) interim(status int, fields []ingress.Field) {
	// A client that cannot be written to is noticed when the answer is.
	_ = s.http.Interim(status, func(o *http1.Out) {
		for i := range fields {
			o.Field(fields[i].Name, fields[i].Value)
		}
	})
}

func (s *session) gone() bool { return s.edge.Gone() }

func (s *session) interrupt() { s.http.Interrupt() }

func (s *session) share() error { return s.http.Share() }

func (s *session) trailer() []ingress.Field { return s.http.Trailer() }

func (s *session) certificate(v *identity.Verifier, now time.Time) (*identity.Verified, error) {
	return s.cert.of(v, s.edge.TLS(), now)
}

func (s *session) thumbprint() *[sha256.Size]byte { return s.cert.thumbprint(s.edge.TLS()) }

// write writes the answer, and reports whether the connection may be kept.
func (s *session) write(x *Exchange) (keep bool, err error) {
	if x.code == gatehouse.CodeClientGone {
		return false, nil
	}
	old := x.In.Minor == 0
	length := x.Length
	if x.Stream != nil && length < 0 {
		length = http1.ByChunks
		if old {
			length = http1.ByClose
		}
	}
	keep = !x.Close && !x.closing && length != http1.ByClose && s.http.WillKeep() && !x.In.Close
	o := s.http.Begin(x.Status, len(x.Body))
	dated := false
	for i := range x.Fields {
		f := &x.Fields[i]
		dated = dated || len(f.Name) == len("Date") && ingress.EqualFold(f.Name, "Date")
		o.Field(f.Name, f.Value)
	}
	if !dated {
		o.Date()
	}
	isHead := string(x.In.Method) == "HEAD"
	switch bodiless := x.Status == 204 || x.Status == 304; {
	case bodiless && (x.Status == 204 || x.declared < 0):
	case isHead && x.code == "" && x.declared < 0:
		// What a GET would have got is not known.
	case bodiless, isHead && x.code == "":
		o.Length(x.declared)
	case length == http1.ByChunks:
		o.Chunked()
	case length >= 0:
		o.Length(length)
	}
	if !keep {
		o.Connection("close")
	}
	if x.Stream == nil {
		x.yield()
		body := x.Body
		if isHead {
			body = nil
		}
		return keep, o.Whole(body)
	}
	var trailer func(*http1.Out)
	if length == http1.ByChunks && x.takesTrailers() {
		trailer = s.answerTrailer(x)
	}
	if len(x.resp.Buffered()) == 0 { // the body may begin slowly
		if err := o.Flush(); err != nil {
			return false, err
		}
	}
	broken, err := o.Stream(x.outwards(), length, trailer)
	if broken != nil {
		if length == http1.ByClose {
			s.abort()
		}
		return false, broken
	}
	return keep, err
}

// abort has the connection end in a reset, where a clean end would look like
// that of the body.
func (s *session) abort() {
	socket := s.edge.NetConn()
	if tcp, ok := socket.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // else it is gone already
	}
	_ = socket.Close() // past TLS, which would say goodbye
}

// answerTrailer returns what adds the answer's trailers that may pass.
func (s *session) answerTrailer(x *Exchange) func(*http1.Out) {
	return func(o *http1.Out) {
		for _, f := range x.resp.Trailer() {
			if x.passesTrailer(f.Name) {
				o.Field(f.Name, f.Value)
			}
		}
	}
}

// tunnel writes the 101 and joins both ends until one of them, or the
// gateway, is done.
func (s *session) tunnel(x *Exchange) {
	g := s.g
	defer x.Tunnel.Close() // Join has; this is for the ways around it
	x.depart()             // a tunnel is bounded by its own count
	o := s.http.Begin(x.Status, 0)
	for i := range x.Fields {
		o.Field(x.Fields[i].Name, x.Fields[i].Value)
	}
	o.Connection("Upgrade")
	o.Field([]byte("Upgrade"), x.upgrade)
	if err := o.Whole(nil); err != nil {
		g.Finish(x, err)
		return
	}
	g.metrics.tunnels.Add(1)
	defer g.metrics.tunnels.Add(-1)
	// What follows may take days: it holds no buffer of HTTP, and so nothing
	// of the head but what has memory of its own.
	early := bytes.Clone(s.http.Buffered())
	x.In.Forget(methodGet)
	s.http.Close()
	r := g.tunnels.Join(s.edge.Stripped(), x.Tunnel, tunnel.Options{
		Idle: x.route.terms.tunnelIdle, MaxAge: x.route.terms.tunnelAge,
		WebSocket: string(x.upgrade) == gatehouse.DefaultUpgrade, ClientEarly: early,
		Bytes: x.passed,
	})
	x.bodyIn.Store(r.FromClient)
	x.bodyOut = r.FromBackend
	x.countedIn, x.countedOut = r.FromClient, r.FromBackend
	x.failure = ""
	if r.Err != nil {
		x.failure, x.cause = "tunnel_"+string(r.Reason), r.Err
	}
	g.Finish(x, nil)
}

var methodGet = []byte("GET") // of every upgrade

// declaredLength is the Content-Length that an answer declares, -1 for none.
func declaredLength(value []byte) int64 {
	n, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil {
		return -1 // the client of the backends has checked it
	}
	return n
}

// failureOf names why an answer could not be written out.
func failureOf(err error) string {
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return "client_timeout"
	}
	return "client_gone"
}
