package proxy

import (
	"crypto/sha256"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/policy"
	"github.com/gatehouse-gateway/gatehouse/proxy/identity"
	"github.com/gatehouse-gateway/gatehouse/proxy/ingress"
	"github.com/gatehouse-gateway/gatehouse/proxy/upstream"
	"github.com/gatehouse-gateway/gatehouse/ratelimit"
)

// phase is a stage in the life of a request. The names are those of
// ARCHITECTURE.md, metrics and records.
type phase uint8

const (
	phaseAdmit phase = iota
	phaseResolve
	phaseMatch
	phaseIdentify
	phaseDecide
	phaseLimit
	phaseForward
	phaseCount
	phaseCountOf // how many there are
)

var phaseNames = [phaseCountOf]string{"admit", "resolve", "match", "identify", "decide", "limit", "forward", "count"}

func (p phase) String() string { return phaseNames[p] }

// transport is what the line needs of the connection that an exchange is on.
type transport interface {
	// parse validates the request head into in.
	parse(in *ingress.Request) error
	// interim writes an interim answer, best effort.
	interim(status int, fields []ingress.Field)
	// gone reports whether the client has left.
	gone() bool
	// interrupt makes a read of the request body fail that another goroutine
	// may be waiting in.
	interrupt()
	// share says that another goroutine will read the body.
	share() error
	// trailer returns what followed the request body, once it has been read.
	trailer() []ingress.Field
	// certificate returns who the client's certificate says it is, as v takes
	// it; nil for no certificate.
	certificate(v *identity.Verifier, now time.Time) (*identity.Verified, error)
	// thumbprint returns the SHA-256 of that certificate, whoever issued it;
	// nil for no certificate.
	thumbprint() *[sha256.Size]byte
}

// Exchange is one request and its answer, whatever transport carries them.
// A transport fills the exported request fields, runs Begin, Carry and, when
// the answer is out, Finish, and writes the exported answer fields.
//
// It belongs to one goroutine; of its hooks and its bodyReader says which may
// call them. Its slices hold until Finish.
type Exchange struct {
	// Filled by the transport, and In by Begin.
	In          ingress.Request
	Peer        netip.Addr
	TLS         bool                 // to the client, or to the trusted proxy that it came through
	secured     *tls.ConnectionState // of this connection; nil: none
	ServerName  string               // of the TLS handshake; empty: none was given
	RequestBody io.Reader
	transport   transport

	// The answer. Body is whole when Stream is nil; else Stream is the rest,
	// of Length bytes, -1 when not known.
	Status int
	wire   int // the status on the wire where that is another; 0: it is not
	Fields []Field
	Body   []byte
	Stream io.Reader
	Length int64
	// declared is the Content-Length of an answer that has no body, to HEAD or
	// 304; -1: the backend did not say.
	declared int64
	// Close asks for the connection to be closed after the answer.
	Close bool
	// Tunnel is the backend's side of an upgraded connection. The answer is
	// 101, without a body, and what follows belongs to both ends.
	Tunnel net.Conn

	// What outlives a request, for its memory.
	resp      upstream.Response
	id, trace []byte
	head      []byte // request head to the backend
	scratch   []byte // backing of values made for this request
	hooks     hooks

	passing
}

// passing is what of an exchange is of one request alone.
type passing struct {
	start time.Time
	phase phase
	table *table
	// fetched keeps what prefetch returns.
	fetched uint64
	route   *routeTable
	domain  *PlatformDomain // set when the host is a platform domain
	who     *identity.Verified
	// presented is what the request shows beside its token; spent says that
	// the Authorization was judged here.
	presented identity.Presented
	spent     bool
	assertion identity.Assertion // what the backend is told of it
	client    netip.Addr
	input     policy.Input
	obliged   *policy.Obligations // what policy asks for beside; nil: nothing
	take      ratelimit.Request
	verdict   ratelimit.Verdict
	ticket    ratelimit.Ticket
	up        upstream.Request
	series    *metering.Series
	flight    *metering.Flight                   // from the count to Finish
	units     [1 + gatehouse.MaxRouteUnits]int64 // of the route's meters, in millionths
	code      gatehouse.Code                     // of the error answered; "" when the backend's answer was
	failure   string                             // RFC 9209 token of what went wrong
	cause     error                              // for the operator
	closing   bool                               // the gateway is draining

	bodyIn                atomic.Int64 // bytes of request body read; by the goroutine that reads it
	bodyOut               int64        // bytes of body answered
	countedIn, countedOut int64        // of these, already metered
	marks                 [phaseCountOf]time.Duration
	sampled               bool          // phases are timed
	lined                 time.Duration // from the start to the end of the line, when sampled
	gateway               *Gateway
	reader                bodyReader
	out                   outward
	upgrade               []byte // the protocol asked for, when the route takes it
	finished              bool   // Finish has begun
	newTrace              bool   // the trace is not the client's
	tunneled              bool   // it counts among the tenant's tunnels
	admitted              *gate  // where the request holds a place; nil: none
	dry                   bool   // it is only described: nothing is noted of it
}

// hooks are the exchange's methods as the client of the backends takes them,
// bound once. That client may call them on goroutines of its own, until Do
// returns; trailer, with a backend of HTTP/2, until the answer is released.
type hooks struct {
	interim func(int, []upstream.Field)
	gone    func() bool
	trailer func([]byte) []byte
}

// Field is one header line of an answer. Its slices hold until Finish.
type Field struct{ Name, Value []byte }

// NewExchange returns an exchange that begins now. Release gives it back.
func (g *Gateway) NewExchange() *Exchange {
	x, ok := g.exchanges.Get().(*Exchange)
	if !ok {
		x = new(Exchange)
		x.hooks = hooks{
			interim: x.passInterim,
			gone:    func() bool { return x.transport.gone() },
			trailer: x.appendTrailer,
		}
	}
	x.gateway, x.start = g, time.Now()
	x.closing = g.draining.Load()
	x.sampled = g.metrics.sample()
	return x
}

// Release makes the exchange's memory free for another. Nothing of it may be
// used afterwards.
func (x *Exchange) Release() {
	g := x.gateway
	x.In.Reset()
	x.resp.Release()
	clear(x.Fields)
	x.resp.Endpoint, x.resp.Attempts, x.resp.Dialed, x.resp.Connect, x.resp.FirstByte = "", 0, false, 0, 0
	// Not *x = Exchange{...}: that is made beside it first, and then copied.
	x.Peer, x.TLS, x.secured, x.ServerName, x.RequestBody, x.transport = netip.Addr{}, false, nil, "", nil, nil
	x.Status, x.wire, x.Fields, x.Body, x.Stream, x.Length, x.declared, x.Close, x.Tunnel = 0, 0, x.Fields[:0], nil, nil, 0, 0, false, nil
	x.id, x.trace, x.head, x.scratch = x.id[:0], x.trace[:0], x.head[:0], x.scratch[:0]
	x.passing = passing{}
	g.exchanges.Put(x)
}

var protocols = [3][2][]byte{1: {[]byte("HTTP/1.0"), []byte("HTTP/1.1")}, 2: {[]byte("HTTP/2.0"), []byte("HTTP/2.0")}}

// protocol returns the version that the request was made in, "" when that
// could not be read.
func (x *Exchange) protocol() []byte { return protocols[x.In.Major][x.In.Minor&1] }

func (x *Exchange) enter(p phase) {
	x.phase = p
	if x.sampled {
		x.marks[p] = time.Since(x.start)
	}
}

// mark notes that the line is over: what follows is writing the answer, which
// may take long where it is not at hand.
func (x *Exchange) mark() {
	if x.sampled || x.Stream != nil || x.Tunnel != nil {
		x.lined = time.Since(x.start)
	}
}

func (x *Exchange) add(name, value string) {
	x.Fields = append(x.Fields, Field{[]byte(name), []byte(value)})
}

var anonymous = policy.Anonymous()

func (x *Exchange) principal() *policy.Principal {
	if x.who == nil {
		return anonymous
	}
	return x.who.Principal
}

func (x *Exchange) principalID() []byte {
	if x.who == nil {
		return nil
	}
	return x.text(x.who.Principal.ID)
}

// match finds the route.
func (x *Exchange) match() error {
	t := x.table
	if t.suspended {
		return refuse(gatehouse.CodeTenantSuspended, "this tenant is suspended")
	}
	if len(t.routes) == 0 {
		return refuse(gatehouse.CodeNotProvisioned, "no route has been set up for this host yet")
	}
	i := t.router.Match(&x.In)
	if i < 0 {
		if allow := t.router.Allow(&x.In); len(allow) > 0 {
			return &methodError{allow}
		}
		return refuse(gatehouse.CodeNoRoute, "no route takes this request")
	}
	x.route = &t.routes[i]
	if len(t.routes) > 1 {
		x.fetched += x.route.prefetch()
	}
	changed, err := x.In.ApplyPathMode(x.route.pathMode)
	if err != nil {
		x.Close = true
		return err
	}
	if changed && t.router.Match(&x.In) != i {
		x.Close = true
		return refuse(gatehouse.CodeBadRequest, "the path is of another route once its separators are decoded")
	}
	return nil
}

// limitRequest describes the request to the limiter.
func (x *Exchange) limitRequest() *ratelimit.Request {
	x.take = ratelimit.Request{Now: x.start, Cost: x.route.cost, Values: (*limitValues)(x), Gone: x.hooks.gone}
	if x.obliged != nil {
		x.take.Cost += x.obliged.Cost
		x.take.Named = x.obliged.Limits
	}
	if x.who != nil {
		x.take.Principal = x.text(x.who.Principal.ID)
	} else {
		x.take.Principal = x.counted()
	}
	return &x.take
}

// text returns s as bytes in scratch.
func (x *Exchange) text(s string) []byte {
	start := len(x.scratch)
	x.scratch = append(x.scratch, s...)
	return x.scratch[start:len(x.scratch):len(x.scratch)]
}

// counted returns what the client's address is counted as: one of IPv6 stands
// for its /64, which is one subscriber's.
func (x *Exchange) counted() []byte {
	if !x.client.Is6() {
		return x.address()
	}
	p, _ := x.client.WithZone("").Prefix(64) // 64 bits are there
	start := len(x.scratch)
	x.scratch = p.AppendTo(x.scratch)
	return x.scratch[start:len(x.scratch):len(x.scratch)]
}

// address returns the client's address as text.
func (x *Exchange) address() []byte {
	start := len(x.scratch)
	x.scratch = x.client.AppendTo(x.scratch)
	return x.scratch[start:len(x.scratch):len(x.scratch)]
}
