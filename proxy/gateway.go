// Package proxy is the data plane: it takes requests in, finds their tenant,
// identifies, decides, limits, forwards and counts them.
//
// Gateway.clear and Gateway.carry are the life of one request, top to bottom.
// Everything that a request needs of its tenant is in one immutable table
// that it loads once. Apply swaps tables; it takes no lock that a request
// takes.
package proxy

import (
	"io"
	"runtime/debug"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/policy"
)

// clear takes a request through everything that its head decides: after it
// the request may be forwarded, or the error is its answer. No byte of the
// body has been read, and nothing has been charged unless it passed.
func (g *Gateway) clear(x *Exchange) error {
	x.enter(phaseAdmit)
	if err := x.transport.parse(&x.In); err != nil {
		x.Close = true
		return err
	}
	x.identifyRequest()
	x.client = g.clientAddress(x)
	x.In.Hide(!g.trusts(x.Peer))
	if x.looped() {
		return refuse(gatehouse.CodeLoop, "the request has passed this gateway too often")
	}

	x.enter(phaseResolve)
	if err := g.resolve(x); err != nil {
		return err
	}

	if err := x.admit(); err != nil {
		return err
	}

	x.enter(phaseMatch)
	if err := x.match(); err != nil {
		return err
	}
	if err := x.countable(); err != nil {
		return err
	}
	if x.In.BodyLength > x.route.maxBody {
		return errBodyTooLarge
	}
	if err := x.findUpgrade(); err != nil {
		return err
	}

	x.enter(phaseIdentify)
	if err := g.identify(x); err != nil {
		return err
	}

	x.enter(phaseDecide)
	d := x.decide()
	x.obliged = d.Obligations
	if !d.Allow {
		return x.denied(&d)
	}

	x.enter(phaseLimit)
	return x.limit()
}

// carry forwards a cleared request and takes the answer in up to its first
// byte. The request is counted before that byte leaves.
func (g *Gateway) carry(x *Exchange) error {
	x.enter(phaseForward)
	if x.endsHere() {
		x.answerOptions()
	} else {
		x.writeHead()
		if err := x.send(); err != nil {
			return x.unforwarded(err)
		}
		if err := x.takeAnswer(); err != nil {
			return x.unforwarded(err)
		}
	}

	x.enter(phaseCount)
	x.count()
	return nil
}

// Begin runs the phases that need only the request head. When it reports
// false the exchange already holds its answer.
func (g *Gateway) Begin(x *Exchange) (cleared bool) {
	defer g.rescue(x)
	g.metrics.inFlight.Add(1)
	if err := g.clear(x); err != nil {
		x.answer(err)
		x.mark()
		return false
	}
	return true
}

// Carry forwards a request that Begin cleared. The exchange then holds its
// answer, the backend's or an error.
func (g *Gateway) Carry(x *Exchange) {
	defer g.rescue(x)
	if err := g.carry(x); err != nil {
		x.answer(err)
	}
	x.mark()
}

// rescue turns a panic of the line into an answer: one request fails, the
// process does not.
func (g *Gateway) rescue(x *Exchange) {
	if p := recover(); p != nil {
		g.log.Error("panic while serving a request", "panic", p, "phase", x.phase.String(), "request_id", x.requestID(), "stack", string(debug.Stack()))
		x.Close = true
		x.answer(refuse(gatehouse.CodeInternal, "the gateway failed on this request"))
	}
}

// panicked ends an exchange whose transport has panicked.
func (g *Gateway) panicked(x *Exchange, p any) {
	g.log.Error("panic while answering a request", "panic", p, "request_id", x.requestID(), "stack", string(debug.Stack()))
	if x.Tunnel != nil {
		_ = x.Tunnel.Close() // it may be closed
	}
	if !x.finished {
		x.code, x.failure = gatehouse.CodeInternal, gatehouse.Problems[gatehouse.CodeInternal].ProxyStatus
		g.Finish(x, nil)
	}
}

// yield gives back the places that a request held among others, before its
// whole answer is written: who reads it may ask again at once.
func (x *Exchange) yield() {
	if x.ticket.Held() {
		x.ticket.Done(time.Now())
	}
	x.depart()
}

// outward is the stream of an answer on its way to the client. With the last
// of it the request gives back its places, before those bytes leave.
type outward struct {
	x    *Exchange
	left int64 // bytes still to come; below 0: not known
}

// outwards returns what the transport reads the answer's stream from.
func (x *Exchange) outwards() io.Reader {
	x.out = outward{x, x.Length}
	return &x.out
}

// Read reads from the stream.
func (o *outward) Read(p []byte) (int, error) {
	n, err := o.x.Stream.Read(p)
	if o.left > 0 {
		o.left -= int64(n)
	}
	if err != nil || o.left == 0 {
		o.x.yield()
	}
	return n, err
}

// Finish ends an exchange whose answer has been written, or abandoned with
// err: it gives back what the request held and writes its record.
func (g *Gateway) Finish(x *Exchange, err error) {
	now := time.Now()
	x.finished = true
	defer func() { // whatever happens below
		x.ticket.Done(now)
		x.depart()
		x.leaveTunnels()
		if x.flight != nil {
			x.flight.End()
			x.flight = nil
		}
		g.metrics.inFlight.Add(-1)
	}()
	x.resp.Release()
	if err != nil && x.failure == "" {
		x.failure = failureOf(err)
	}
	if x.series != nil {
		x.series.AddBytes(x.bodyIn.Load()-x.countedIn, 0)
		x.series.AddTime(now.Sub(x.start))
	}
	g.access.write(x, now)
	g.metrics.finish(x, now)
	x.tally(now)
}

// policyInput fills what policy may read. The slices hold until the request
// is over.
func (x *Exchange) policyInput() *policy.Input {
	t := x.table
	x.input = policy.Input{
		Tenant: t.id, Plan: string(t.planID), Route: string(x.route.id), Auth: string(x.route.auth), Features: t.features,
		Method: x.In.Method, Host: x.In.Host, Path: x.In.Path, Query: x.In.Query, Protocol: x.protocol(),
		BodySize: x.In.BodyLength, Headers: &x.In, Principal: x.principal(), Client: x.client, TLS: x.TLS, Time: x.start,
		Cert: x.clientCertificate(),
	}
	return &x.input
}
