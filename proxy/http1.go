package proxy

import (
	"errors"
	"io"
	"net"
	"net/netip"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/valyala/fasthttp"
)

// newServer returns the HTTP/1.1 transport. fasthttp is the socket and parse
// layer only: what it parsed is not used, the raw head is.
func (g *Gateway) newServer() *fasthttp.Server {
	t := g.cfg.Timeouts
	g.idle = t.Idle.Or(gatehouse.DefaultIdleTimeout)
	return &fasthttp.Server{
		Handler:                      g.serveHTTP1,
		ExpectHandler:                g.expectHTTP1,
		ErrorHandler:                 g.refuseHTTP1,
		Logger:                       quiet{},
		StreamRequestBody:            true,
		DisablePreParseMultipartForm: true,
		NoDefaultServerHeader:        true,
		NoDefaultContentType:         true,
		SecureErrorLogMessage:        true,
		CloseOnShutdown:              true,
		ReadBufferSize:               int(g.cfg.Limits.HeaderBytes),
		WriteBufferSize:              4 << 10,
		ReadTimeout:                  t.Header.Or(0),
		IdleTimeout:                  g.idle,
		LazyRequestTime:              true,   // ours is Exchange.start
		WriteTimeout:                 g.idle, // of a whole answer; a streamed one puts it off itself
		Concurrency:                  g.cfg.Limits.Connections,
		MaxConnsPerIP:                g.cfg.Limits.PerAddress,
		// The line checks lengths itself; with streaming this only bounds what
		// fasthttp waits for before it calls the handler, at least one byte.
		MaxRequestBodySize: 1,
	}
}

// quiet drops fasthttp's own log: what it says of requests is in the records.
type quiet struct{}

func (quiet) Printf(string, ...any) {}

// parkedKey is where an exchange waits between the two halves of a request
// with Expect: 100-continue.
const parkedKey = "gatehouse.parked"

// parked is a cleared exchange whose client has been told to go on. fasthttp
// closes it with the request, so that what it holds is given back even when
// the body never comes and no handler runs.
type parked struct{ x *Exchange }

// take returns the exchange; whoever takes it finishes it.
func (p *parked) take() *Exchange {
	if p == nil {
		return nil
	}
	x := p.x
	p.x = nil
	return x
}

// Close ends an exchange that nobody took.
func (p *parked) Close() error {
	if x := p.take(); x != nil {
		x.answer(refuse(gatehouse.CodeRequestTimeout, "the request body did not arrive"))
		x.gateway.Finish(x, nil)
		x.Release()
	}
	return nil
}

// begin makes the exchange of a request.
func (g *Gateway) begin(ctx *fasthttp.RequestCtx) *Exchange {
	x := g.NewExchange()
	h := &ctx.Request.Header
	x.SetHead(h.Method(), h.RequestURI(), h.Protocol(), h.RawHeaders())
	x.Peer = addressOf(ctx.RemoteAddr())
	x.TLS = ctx.IsTLS()
	x.deadlines = ctx
	return x
}

func addressOf(a net.Addr) netip.Addr {
	if tcp, ok := a.(*net.TCPAddr); ok {
		ip, _ := netip.AddrFromSlice(tcp.IP)
		return ip.Unmap()
	}
	return netip.IPv4Unspecified() // a connection in memory
}

func (g *Gateway) serveHTTP1(ctx *fasthttp.RequestCtx) {
	p, _ := ctx.UserValue(parkedKey).(*parked)
	x := p.take()
	if x == nil {
		x = g.begin(ctx)
		if !g.Begin(x) {
			x.writeHTTP1(ctx)
			return
		}
	}
	if x.In.BodyLength != 0 {
		x.RequestBody = ctx.RequestBodyStream()
	}
	g.Carry(x)
	x.writeHTTP1(ctx)
}

// expectHTTP1 decides from the head whether the client may send its body.
func (g *Gateway) expectHTTP1(ctx *fasthttp.RequestCtx) int {
	x := g.begin(ctx)
	if !g.Begin(x) {
		status := x.Status
		x.writeHTTP1(ctx)
		return status
	}
	ctx.SetUserValue(parkedKey, &parked{x})
	return fasthttp.StatusContinue
}

// writeHTTP1 hands the answer to fasthttp and ends the exchange, at once or
// when a streamed body is out.
func (x *Exchange) writeHTTP1(ctx *fasthttp.RequestCtx) {
	if x.Stream != nil && x.Length < 0 && x.In.Minor == 0 {
		x.settleLength()
	}
	r := &ctx.Response
	r.Header.DisableNormalizing()
	r.SetStatusCode(x.Status)
	for i := range x.Fields {
		r.Header.AddBytesKV(x.Fields[i].Name, x.Fields[i].Value)
	}
	if x.Close || x.closing {
		ctx.SetConnectionClose()
	}
	if x.Stream != nil {
		stream := &streamHTTP1{x: x}
		size := -1
		if x.Length >= 0 {
			size = int(x.Length)
		} else {
			r.ImmediateHeaderFlush = true
		}
		r.SetBodyStream(stream, size)
		return
	}
	if len(x.Body) == 0 && x.declared > 0 { // to HEAD
		r.SkipBody = true
		r.Header.SetContentLength(int(x.declared))
	} else {
		r.SetBody(x.Body)
	}
	x.gateway.Finish(x, nil)
	x.Release()
}

// wholeForOld bounds the answers of unknown length that a client of HTTP/1.0
// gets. Such a client knows no chunks (RFC 9112, 6.1), so the length must be
// found out before the answer begins.
const wholeForOld = 1 << 20

func (x *Exchange) settleLength() {
	body, err := io.ReadAll(io.LimitReader(x.Stream, wholeForOld+1))
	switch {
	case err != nil:
		x.answer(x.unforwarded(err))
	case len(body) > wholeForOld:
		x.answer(refuse(gatehouse.CodeVersion, "this answer is too long for HTTP/1.0"))
	default:
		x.Stream, x.Body, x.Length = nil, body, int64(len(body))
	}
}

// streamHTTP1 is a streamed answer; fasthttp ends it exactly once, when the
// body is out or the client is gone. It has no Close: fasthttp would call it
// first, without the reason.
type streamHTTP1 struct{ x *Exchange }

func (s *streamHTTP1) Read(p []byte) (int, error) { return s.x.Stream.Read(p) }

// CloseWithError ends the exchange; err is why writing stopped.
func (s *streamHTTP1) CloseWithError(err error) error {
	if x := s.x; x != nil {
		s.x = nil
		x.gateway.Finish(x, err)
		x.Release()
	}
	return nil
}

// refuseHTTP1 answers what fasthttp could not parse or wait for.
func (g *Gateway) refuseHTTP1(ctx *fasthttp.RequestCtx, err error) {
	code, message := gatehouse.CodeBadRequest, "malformed request"
	if _, ok := errors.AsType[*fasthttp.ErrSmallBuffer](err); ok {
		code, message = gatehouse.CodeHeaderTooLarge, "the request head is larger than this gateway takes"
	} else if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		code, message = gatehouse.CodeRequestTimeout, "the request did not arrive in time"
	}
	x := g.begin(ctx)
	x.rawMethod, x.rawTarget, x.rawProtocol = nil, nil, nil
	x.Close = true
	g.metrics.inFlight.Add(1)
	x.answer(&gatehouse.Error{Code: code, Message: message, Err: err})
	x.writeHTTP1(ctx)
}

// failureOf names why an answer could not be written out.
func failureOf(err error) string {
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return "client_timeout"
	}
	return "client_gone"
}
