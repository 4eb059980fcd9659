package upstream

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"net"
	"sync"
	"time"
)

// Upgrade sends req, whose Head asks for the protocol UpgradeTo and which has
// no body, on a connection of its own: one that was in no pool, counts against
// none, and never joins one. Only failures to connect are retried.
//
// If the backend switches, the connection is returned, without a deadline. Its
// first reads give what came behind the answer. It counts as a request in
// flight until it is closed. Then resp needs no release, its Status is 101 and
// its Fields are valid as long as resp is not used again; Client.Abort does not
// reach it. Otherwise the connection is nil and resp is an answer as from
// Do, whose release ends the connection.
//
// An answer of 101 that names another protocol, or that proves no knowledge of
// WebSocketKey, is an Error of http_upgrade_failed, and so is any Upgrade of a
// backend that speaks HTTP/2.
func (b *Backend) Upgrade(req *Request, resp *Response) (net.Conn, error) {
	asked := *req
	asked.upgrade = true
	if err := b.Do(&asked, resp); err != nil {
		return nil, err
	}
	if resp.Status != 101 {
		return nil, nil
	}
	if !resp.switched(req) {
		err := explain(errNotSwitched, awaiting, resp.Endpoint)
		resp.Release()
		return nil, err
	}
	return resp.tunnel()
}

var (
	errNotSwitched = &malformed{"http_upgrade_failed", "101 does not switch to the protocol asked for"}
	errNoUpgrade   = &malformed{"http_upgrade_failed", "a backend of HTTP/2 takes no upgrade"}
)

// separate dials a connection that no pool knows.
func (b *Backend) separate(e *endpoint, resp *Response) (*conn, *Error) {
	start := b.client.clock.now()
	resp.Dialed = true
	e.dials.Add(1)
	b.client.dials.Add(1)
	c, err := e.dial(context.Background(), b.client.clock.at(start+b.connect))
	if err != nil {
		return nil, err
	}
	c.apart = true
	c.taken = b.client.clock.now()
	resp.Connect = c.taken - start
	return c, nil
}

// switched reports whether r, a 101, switches to what req asked for: each
// field that says so is there once, and only says so (RFC 9110, section 7.8).
func (r *Response) switched(req *Request) bool {
	var upgrades, accepts int
	for _, f := range r.Fields {
		switch {
		case equalFold(f.Name, "upgrade"):
			upgrades++
			if !bytes.EqualFold(f.Value, req.UpgradeTo) {
				return false
			}
		case equalFold(f.Name, "sec-websocket-accept"):
			accepts++
			if req.WebSocketKey != nil && !accepted(f.Value, req.WebSocketKey) {
				return false
			}
		}
	}
	return upgrades == 1 && r.head.upgrade && (req.WebSocketKey == nil || accepts == 1)
}

// accepted reports whether value is that of Sec-WebSocket-Accept for key (RFC
// 6455, section 4.2.2).
func accepted(value, key []byte) bool {
	sum := sha1.Sum(append(bytes.Clone(key), "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"...))
	return base64.StdEncoding.EncodeToString(sum[:]) == string(value)
}

// tunnel is a connection that has switched.
type tunnel struct {
	net.Conn
	rest   []byte    // received, not yet read; the reader's
	closed sync.Once // counts and the socket
	count  func()
}

// tunnel takes the connection out of r. Its buffers are not used again: what
// was returned of them may be read for as long as the caller likes.
func (r *Response) tunnel() (net.Conn, error) {
	c, b := r.conn, r.backend
	if err := c.nc.SetDeadline(time.Time{}); err != nil {
		err := explain(err, awaiting, r.Endpoint)
		r.Release()
		return nil, err
	}
	counted := &Response{retrying: r.retrying}
	t := &tunnel{Conn: c.nc, rest: c.in.b[c.r:c.w], count: func() {
		c.endpoint.inFlight.Add(-1)
		b.finish(counted)
	}}
	r.conn, r.retrying, c.req = nil, false, nil
	return t, nil
}

func (t *tunnel) Read(p []byte) (int, error) {
	if len(t.rest) > 0 && len(p) > 0 {
		n := copy(p, t.rest)
		t.rest = t.rest[n:]
		return n, nil
	}
	return t.Conn.Read(p)
}

// Close ends the connection, over TLS with its parting alert, and the count of
// the request as in flight. It is idempotent.
func (t *tunnel) Close() error {
	err := net.ErrClosed
	t.closed.Do(func() {
		err = t.Conn.Close()
		t.count()
	})
	return err
}
