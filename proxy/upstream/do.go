package upstream

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// parting is how long an answer is waited for on a connection that no longer
// takes the request: a backend may refuse a request and close.
const parting = time.Second

// Request is one request to a backend. The client only reads it, until the
// response is released.
type Request struct {
	// Head is the request line, all fields and the empty line, with framing
	// fields that agree with BodyLength. Every attempt sends it as it is.
	Head []byte
	// IsHead says that the method is HEAD: the answer has no body.
	IsHead bool
	// Idempotent says that the request may be made twice (RFC 9110, section
	// 9.2.2). It is not, all the same, when it has a body.
	Idempotent bool
	// Body is read by the goroutine that calls Do, and not after Do returns.
	//
	// Where the backend speaks HTTP/2 it is read by another goroutine, and
	// also after Do, until its end or Release: both directions flow at once,
	// as gRPC needs. A Body that is an io.Closer is then closed when a Read is
	// to be interrupted, for nothing else; with any other, Release waits for
	// the Read to return.
	Body io.Reader
	// BodyLength is the number of bytes that are copied from Body; 0: none,
	// -1: all, as chunks.
	BodyLength int64
	// HashKey decides under consistent_hash.
	HashKey uint64
	// Interim gets each 1xx answer before the final one, but for 100 and 101.
	// Nil: they are dropped. The fields are valid during the call. It is called
	// before Do returns, once at a time, and where there is a body possibly by
	// another goroutine than Do's, while that reads from Body.
	Interim func(status int, fields []Field)
	// Trailer appends the trailer fields, each as "Name: value\r\n", to dst. It
	// is called by the reader of Body when that has returned io.EOF, and only
	// for a body whose length is -1. Nil: there are none.
	Trailer func(dst []byte) []byte
	// Gone reports whether the client no longer waits for the answer. It is
	// asked every 250 ms while Do waits for the answer's head, and Read for the
	// body, by one goroutine at a time; true ends the wait with an Error of
	// ClientGone, and the connection, or the stream of HTTP/2, which tells the
	// backend. Waits for a connection are not cut short. Nil: never.
	Gone func() bool
	// UpgradeTo is the one protocol that Upgrade asks for, as in Head.
	UpgradeTo []byte
	// WebSocketKey is the Sec-WebSocket-Key in Head, where UpgradeTo is
	// websocket.
	WebSocketKey []byte

	upgrade bool // 101 is an answer; no pool is used
}

func (r *Request) replayable() bool { return r.Idempotent && r.BodyLength == 0 && !r.upgrade }

// cause is what a retry rule goes by.
type cause uint8

const (
	noRetry   cause = iota
	byConnect       // nothing was sent
	byReset         // no byte of an answer
	byStatus        // an answer; there is no error
)

// failure is the end of an attempt. The zero value is success.
type failure struct {
	err   *Error
	cause cause
	stale bool // a connection that had been idle turned out to be dead
}

// Do sends req and returns when the header section of the final answer is in
// resp, which Release ends. The error is always an *Error, and then there is
// nothing to release. resp may be reused from request to request; it must not
// be in use.
func (b *Backend) Do(req *Request, resp *Response) error {
	resp.reset(b)
	b.load.live.Add(1)
	var wire []byte
	var joint *buffer
	var err *Error
	if !b.streams {
		wire, joint, err = b.joinBody(req)
	}
	if err == nil {
		err = b.try(req, wire, joint != nil, resp)
		b.client.buffers.put(joint)
	}
	if err != nil {
		b.finish(resp)
		return err
	}
	return nil
}

// joinBody puts a small body behind the head, so that both go in one write,
// and before a connection is taken, so that a slow client holds none. The
// backend can take as much without reading it: there is no deadlock with an
// answer that it writes first. It returns what to write, and a buffer to put
// back when it is done.
func (b *Backend) joinBody(req *Request) (wire []byte, joint *buffer, _ *Error) {
	const small = 16 << 10
	n := len(req.Head) + int(min(req.BodyLength, small))
	if req.BodyLength <= 0 || req.BodyLength > small || n > bufferSizes[1] {
		return req.Head, nil, nil
	}
	joint = b.client.buffers.take(n)
	wire = joint.b[:n]
	copy(wire, req.Head)
	if _, err := io.ReadFull(req.Body, wire[len(req.Head):]); err != nil {
		b.client.buffers.put(joint)
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, nil, bodyError(err)
	}
	return wire, joint, nil
}

// bodyError is the client's failure to send its body.
func bodyError(err error) *Error {
	return &Error{Code: gatehouse.CodeBadRequest, Token: "http_request_error", RequestBody: true, Err: err}
}

// try makes attempts until one succeeds or no other is due.
func (b *Backend) try(req *Request, wire []byte, joint bool, resp *Response) *Error {
	t, err := b.choose(req.HashKey, resp.tried)
	if err != nil {
		return explain(err, connecting, "")
	}
	fresh, refreshed := false, false
	for retries := 0; ; {
		f := b.attempt(b.members[t.member].endpoint, req, wire, joint, fresh, resp)
		if f.stale && !refreshed {
			// Not a retry by rule: the backend merely closed first.
			fresh, refreshed = true, true
			continue
		}
		b.report(t, f, resp.Status)
		if f.cause == noRetry || retries == b.retries.attempts || !b.budgeted(resp) {
			return f.err
		}
		resp.tried = append(resp.tried, t.member)
		if t, err = b.choose(req.HashKey, resp.tried); err != nil {
			return f.err
		}
		if f.cause == byStatus {
			resp.detach()
			resp.Status = 0
		}
		retries++
		fresh = false
	}
}

// budgeted reports whether one more live request may be a retry, and counts
// it as one until it is finished.
func (b *Backend) budgeted(resp *Response) bool {
	const always = 3
	if resp.retrying {
		return true
	}
	if b.load.retrying.Add(1) > max(always, b.retries.budget.Of(b.load.live.Load())) {
		b.load.retrying.Add(-1)
		return false
	}
	resp.retrying = true
	return true
}

// finish ends the count of a request as live.
func (b *Backend) finish(resp *Response) {
	b.load.live.Add(-1)
	if resp.retrying {
		resp.retrying = false
		b.load.retrying.Add(-1)
	}
}

// attempt sends the request once. On success resp owns the connection.
func (b *Backend) attempt(e *endpoint, req *Request, wire []byte, joint, fresh bool, resp *Response) failure {
	resp.Attempts++
	resp.Endpoint = e.url
	e.inFlight.Add(1)
	if e.streams != nil {
		return b.attemptStream(e, req, fresh, resp)
	}
	var c *conn
	var err *Error
	if req.upgrade {
		c, err = b.separate(e, resp)
	} else {
		c, err = b.connection(e, fresh, resp)
	}
	if err != nil {
		e.inFlight.Add(-1)
		f := failure{err: err}
		if b.retries.connect && (err.Code != gatehouse.CodeBackendBusy || len(b.members) > 1) {
			f.cause = byConnect
		}
		return f
	}
	resp.conn = c
	c.open()
	c.req = req
	f := b.exchange(c, req, wire, joint, resp)
	if f.err != nil {
		resp.detach()
	}
	return f
}

// connection takes a connection to e out of the pool, or dials one.
func (b *Backend) connection(e *endpoint, fresh bool, resp *Response) (*conn, *Error) {
	start := b.client.clock.now()
	by := start + b.connect
	c, err := e.pool.take(b.limit, b.waiting, fresh, start, by)
	resp.Dialed = c == nil && err == nil
	if err != nil {
		return nil, explain(err, connecting, e.url)
	}
	if c == nil {
		e.dials.Add(1)
		b.client.dials.Add(1)
		var failed *Error
		if c, failed = e.dial(context.Background(), b.client.clock.at(by)); failed != nil {
			e.pool.vacate(b.limit)
			return nil, failed
		}
		c.taken = b.client.clock.now()
		e.pool.join(c)
	}
	resp.Connect = c.taken - start
	return c, nil
}

// exchange sends the request on c and reads the answer's header section.
func (b *Backend) exchange(c *conn, req *Request, wire []byte, joint bool, resp *Response) failure {
	began := c.taken // an answer may come before a write returns
	complete := req.BodyLength == 0 || joint
	n, sent, err := 0, began, error(nil)
	if complete && c.takesTurns() {
		if err = c.arm(began, b.idle); err == nil {
			c.turn.begin(wire)
			answer := c.readHead(&resp.head, began+b.firstByte, b.firstByte)
			n, err = c.turn.end(answer)
			if err == nil {
				return b.answered(c, req, true, answer, awaiting, began, resp)
			}
			sent = c.clock.now()
		}
	} else {
		n, err = c.write(wire, b.idle)
		sent = c.clock.now()
	}
	whole, during := true, awaiting
	switch {
	case err != nil && n == 0:
		err = c.refusal(&resp.head, sent, err)
		f := failure{err: explain(err, writing, c.endpoint.url), stale: c.reused}
		if b.retries.connect {
			f.cause = byConnect
		}
		return f
	case err != nil && (timedOut(err) || c.reused && req.replayable()):
		return b.broken(c, req, err, writing)
	case err != nil:
		whole = false
		if answer := c.readHead(&resp.head, sent+parting, parting); answer == nil || alerted(answer) {
			err = answer
		} else {
			during = writing
		}
	case complete:
		err = c.readHead(&resp.head, sent+b.firstByte, b.firstByte)
	default:
		whole, during, err = c.send(req, &resp.head, b)
		began = c.clock.now()
	}
	return b.answered(c, req, whole, err, during, began, resp)
}

// answered takes the answer's header section over, or the error that came in
// its place.
func (b *Backend) answered(c *conn, req *Request, whole bool, err error, during phase, began time.Duration, resp *Response) failure {
	if err != nil {
		return b.broken(c, req, err, during)
	}
	resp.begin(req, whole)
	resp.FirstByte = max(c.firstByte-began, 0)
	if b.retries.on(resp.Status) && req.replayable() {
		return failure{cause: byStatus}
	}
	return failure{}
}

// broken is the failure of a connection that the request was sent on.
func (b *Backend) broken(c *conn, req *Request, err error, during phase) failure {
	if e, ok := errors.AsType[*Error](err); ok {
		e.Endpoint = c.endpoint.url
		return failure{err: e}
	}
	f := failure{err: explain(err, during, c.endpoint.url)}
	if f.err.Token == "connection_terminated" && req.replayable() {
		f.stale = c.reused
		if b.retries.reset {
			f.cause = byReset
		}
	}
	return f
}
