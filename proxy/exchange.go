package proxy

import (
	"io"
	"net/netip"
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

// Exchange is one request and its answer, whatever transport carries them.
// A transport fills the exported request fields, runs Begin, Carry and, when
// the answer is out, Finish, and writes the exported answer fields.
//
// It belongs to one goroutine. Its slices hold until Finish.
type Exchange struct {
	// Filled by the transport.
	In                                           ingress.Request
	rawMethod, rawTarget, rawProtocol, rawFields []byte
	Peer                                         netip.Addr
	TLS                                          bool
	RequestBody                                  io.Reader // nil: none

	// The answer. Body is whole when Stream is nil; else Stream is the rest,
	// of Length bytes, -1 when not known.
	Status int
	Fields []Field
	Body   []byte
	Stream io.Reader
	Length int64
	// declared is the Content-Length of an answer that has no body: to HEAD,
	// or 304.
	declared int64
	// Close asks for the connection to be closed after the answer.
	Close bool

	start   time.Time
	phase   phase
	table   *table
	route   *routeTable
	domain  *PlatformDomain // set when the host is a platform domain
	who     *identity.Verified
	client  netip.Addr
	input   policy.Input
	take    ratelimit.Request
	verdict ratelimit.Verdict
	ticket  ratelimit.Ticket
	up      upstream.Request
	resp    upstream.Response
	series  *metering.Series
	units   int64
	code    gatehouse.Code // of the error answered; "" when the backend's answer was
	failure string         // RFC 9209 token of what went wrong
	cause   error          // for the operator
	closing bool           // the gateway is draining

	deadlines deadlines    // nil: the transport bounds waiting itself
	armed     [2]time.Time // when the deadline of each side was last set

	bodyIn, bodyOut       int64 // bytes of body that passed
	countedIn, countedOut int64 // of these, already metered
	id, trace             []byte
	head                  []byte // request head to the backend
	scratch               []byte // backing of values made for this request
	marks                 [phaseCountOf]time.Duration
	sampled               bool          // phases are timed
	lined                 time.Duration // from the start to the end of the line, when sampled
	gateway               *Gateway
	reader                bodyReader
}

// Field is one header line of an answer. Its slices hold until Finish.
type Field struct{ Name, Value []byte }

// NewExchange returns an exchange that begins now. Release gives it back.
func (g *Gateway) NewExchange() *Exchange {
	x, ok := g.exchanges.Get().(*Exchange)
	if !ok {
		x = new(Exchange)
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
	*x = Exchange{
		In: x.In, Fields: x.Fields[:0], resp: x.resp,
		id: x.id[:0], trace: x.trace[:0], head: x.head[:0], scratch: x.scratch[:0],
	}
	g.exchanges.Put(x)
}

// SetHead gives the parts of a request head as they were received.
func (x *Exchange) SetHead(method, target, protocol, fields []byte) {
	x.rawMethod, x.rawTarget, x.rawProtocol, x.rawFields = method, target, protocol, fields
}

func (x *Exchange) enter(p phase) {
	x.phase = p
	if x.sampled {
		x.marks[p] = time.Since(x.start)
	}
}

// mark notes that the line is over: what follows is writing the answer.
func (x *Exchange) mark() {
	if x.sampled {
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
	if t.doc.Status == gatehouse.Suspended {
		return refuse(gatehouse.CodeTenantSuspended, "this tenant is suspended")
	}
	if len(t.routes) == 0 {
		return refuse(gatehouse.CodeNotProvisioned, "no route has been set up for this host yet")
	}
	i := t.router.Match(&x.In)
	if i >= 0 {
		x.route = &t.routes[i]
		return nil
	}
	if allow := t.router.Allow(&x.In); len(allow) > 0 {
		return &methodError{allow}
	}
	return refuse(gatehouse.CodeNoRoute, "no route takes this request")
}

// limitRequest describes the request to the limiter.
func (x *Exchange) limitRequest() *ratelimit.Request {
	x.take = ratelimit.Request{Now: x.start, Cost: x.route.cost, Values: (*limitValues)(x)}
	if x.who != nil {
		x.take.Principal = x.text(x.who.Principal.ID)
	} else {
		x.take.Principal = x.address()
	}
	return &x.take
}

// text returns s as bytes in scratch.
func (x *Exchange) text(s string) []byte {
	start := len(x.scratch)
	x.scratch = append(x.scratch, s...)
	return x.scratch[start:len(x.scratch):len(x.scratch)]
}

// address returns the client's address as text.
func (x *Exchange) address() []byte {
	start := len(x.scratch)
	x.scratch = x.client.AppendTo(x.scratch)
	return x.scratch[start:len(x.scratch):len(x.scratch)]
}
