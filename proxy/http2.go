package proxy

import (
	"cmp"
	"context"
	"crypto/sha256"
	"io"
	"net"
	"sync"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/proxy/edge"
	"github.com/gatehouse-gateway/gatehouse/proxy/http2"
	"github.com/gatehouse-gateway/gatehouse/proxy/identity"
	"github.com/gatehouse-gateway/gatehouse/proxy/ingress"
)

// session2 is one client connection of HTTP/2.
type session2 struct {
	g    *Gateway
	edge *edge.Conn
	http *http2.Conn

	mu   sync.Mutex
	cert certified // guarded by mu: requests share it
}

// serveHTTP2 serves the requests of one connection until it ends. fasthttp
// closes it.
func (g *Gateway) serveHTTP2(c net.Conn) error {
	e, ok := c.(*edge.Conn)
	if !ok {
		return errForeign
	}
	s := &session2{g: g, edge: e}
	s.http = http2.NewConn(e, &g.http2, s.serve)
	g.sessions.add(s)
	defer g.sessions.remove(s)
	if g.draining.Load() {
		s.http.GoAway()
	}
	_ = s.http.Serve()            // the client has been told why, as far as it can be
	e.Linger(lingerTime, 256<<10) // so that it reads that, and the last answer
	return nil
}

// leave sends the client elsewhere; requests under way go on.
func (s *session2) leave() { s.http.GoAway() }

// abandon is not needed: a connection that was sent away ends without
// requests.
func (s *session2) abandon() {}

func (s *session2) cut() { _ = s.edge.NetConn().Close() }

// stream is one request over HTTP/2: its transport.
type stream struct {
	*http2.Stream
	session *session2
}

func (s *session2) serve(st *http2.Stream) {
	g := s.g
	x := g.NewExchange()
	defer x.Release()
	defer func() {
		if p := recover(); p != nil {
			g.panicked(x, p)
			st.Reset(http2.InternalError)
		}
	}()
	t := &stream{st, s}
	x.transport = t
	x.Peer, x.ServerName = s.edge.Peer(), s.edge.ServerName()
	x.secured = s.edge.TLS()
	x.TLS = x.secured != nil
	if g.Begin(x) {
		if x.In.BodyLength != 0 {
			x.RequestBody = st
		}
		g.Carry(x)
	}
	err := t.write(x)
	if err == nil {
		x.written()
	}
	g.Finish(x, err)
}

func (s *stream) parse(in *ingress.Request) error {
	if s.TooLarge {
		return refuse(gatehouse.CodeHeaderTooLarge, "the request head is larger than this gateway takes")
	}
	return in.ParseHTTP2(s.Method, s.Scheme, s.Authority, s.Path, s.Fields, s.Ended)
}

func (s *stream) interim(status int, fields []ingress.Field) {
	_ = s.Interim(status, fields) // a client that is gone is noticed with the answer
}

func (s *stream) gone() bool { return s.Gone() }

func (s *stream) interrupt() { s.Interrupt() }

func (s *stream) share() error {
	s.Proceed()
	return nil
}

func (s *stream) trailer() []ingress.Field { return s.Trailer() }

func (s *stream) certificate(v *identity.Verifier, now time.Time) (*identity.Verified, error) {
	s.session.mu.Lock()
	defer s.session.mu.Unlock()
	return s.session.cert.of(v, s.session.edge.TLS(), now)
}

func (s *stream) thumbprint() *[sha256.Size]byte {
	s.session.mu.Lock()
	defer s.session.mu.Unlock()
	return s.session.cert.thumbprint(s.session.edge.TLS())
}

// write writes the answer.
func (s *stream) write(x *Exchange) error {
	if x.code == gatehouse.CodeClientGone {
		s.Reset(http2.Cancel)
		return context.Canceled
	}
	s.Begin(cmp.Or(x.wire, x.Status))
	dated := false
	for i := range x.Fields {
		f := &x.Fields[i]
		dated = dated || len(f.Name) == len("Date") && ingress.EqualFold(f.Name, "Date")
		s.Field(f.Name, f.Value)
	}
	if !dated {
		s.Date()
	}
	isHead := string(s.Method) == "HEAD"
	length := x.Length
	switch {
	case x.wire != 0, x.Status == 204:
		length = -1
	case (isHead || x.Status == 304) && x.code == "":
		length = x.declared
	case x.Stream == nil:
		length = int64(len(x.Body))
	}
	if length >= 0 {
		s.Length(length)
	}
	switch {
	case x.Stream == nil && (isHead || len(x.Body) == 0):
		x.yield()
		return s.End()
	case x.Stream == nil:
		x.yield()
		return s.Whole(x.Body)
	}
	return s.stream(x)
}

// stream writes a long answer as it comes, and its trailers.
func (s *stream) stream(x *Exchange) error {
	if len(x.resp.Buffered()) == 0 { // it may begin slowly
		if err := s.Flush(); err != nil {
			return err
		}
	}
	buf := x.gateway.http1.Buffer()
	defer x.gateway.http1.Recycle(buf)
	for body := x.outwards(); ; {
		n, err := body.Read(buf.Bytes())
		if n > 0 {
			if _, werr := s.Write(buf.Bytes()[:n]); werr != nil {
				return werr
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			s.Reset(http2.InternalError) // a broken body has no clean end
			return err
		}
	}
	trailer := x.resp.Trailer()
	for i := range trailer {
		if x.passesTrailer(trailer[i].Name) {
			s.Field(trailer[i].Name, trailer[i].Value)
		}
	}
	return s.End()
}
