package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// target is an endpoint's URL, taken apart.
type target struct {
	host   string // for TLS and Host, without port or brackets
	addr   string // host:port
	port   string
	header string // the Host field of a health check
	tls    bool
}

func parseTarget(raw string) (target, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return target{}, err
	}
	t := target{host: u.Hostname(), header: u.Host, tls: u.Scheme == "https"}
	port := u.Port()
	switch {
	case t.host == "":
		return target{}, errors.New("no host")
	case u.Scheme != "http" && u.Scheme != "https":
		return target{}, errors.New("neither http nor https")
	case port == "" && t.tls:
		port = "443"
	case port == "":
		port = "80"
	}
	t.port = port
	t.addr = net.JoinHostPort(t.host, port)
	return t, nil
}

// endpoint is the live part of one URL of a backend: what outlives a change
// of the document.
//
// What every request reads comes first: it lies together.
type endpoint struct {
	url      string
	client   *Client
	streams  *streams      // in place of pool where the protocol is HTTP/2; nil otherwise
	inFlight atomic.Int64  // requests from their first attempt here to their release
	risen    atomic.Int64  // the instant when its slow start began; 0: it is over, or there was none
	dials    atomic.Uint64 // connections opened for requests, or tried to
	sick     atomic.Bool   // set by the endpoint's health check alone
	pool     pool

	tls    *tls.Config // nil for http
	target target
	id     identity
	seed   uint64 // for consistent_hash
	refs   int    // backends that use it; guarded by Client.mu
	name   *name  // nil where the URL has an address
}

func newEndpoint(c *Client, rawURL string, t target, id identity, secure *tls.Config) *endpoint {
	e := &endpoint{url: rawURL, target: t, id: id, client: c, seed: hashURL(rawURL)}
	if t.tls {
		e.tls = forHost(secure, t.host)
	}
	e.pool.clock = c.clock
	if id.protocol == gatehouse.HTTP2 {
		e.streams = newStreams(c.clock)
	}
	return e
}

// retire closes what is idle, now and from now on, and ends look-ups.
func (e *endpoint) retire() {
	if e.name != nil {
		e.name.retire()
	}
	e.pool.retire()
	if e.streams != nil {
		e.streams.retire()
	}
}

// confine closes the connections to other addresses than these, now or when
// they are free.
func (e *endpoint) confine(addrs []netip.Addr) {
	e.pool.confine(addrs)
	if e.streams != nil {
		e.streams.confine(addrs)
	}
}

// abort breaks the connections of requests.
func (e *endpoint) abort() {
	e.pool.abort()
	if e.streams != nil {
		e.streams.abort()
	}
}

// empty reports whether there is no connection, nor one being dialled.
func (e *endpoint) empty() bool {
	return e.pool.empty() && (e.streams == nil || e.streams.empty())
}

// connect opens a connection to the endpoint's address, or one of its name's.
func (e *endpoint) connect(ctx context.Context) (net.Conn, error) {
	if e.name == nil {
		return e.client.dial(ctx, "tcp", e.target.addr)
	}
	return e.name.dial(ctx)
}

// dial opens a connection, and TLS on it, before the instant by. It belongs
// to no pool yet.
func (e *endpoint) dial(ctx context.Context, by time.Time) (*conn, *Error) {
	ctx, cancel := context.WithDeadline(ctx, by)
	defer cancel()
	nc, err := e.connect(ctx)
	if err != nil {
		return nil, explain(fmt.Errorf("connect to %s: %w", e.target.addr, err), connecting, e.url)
	}
	c := newConn(e, nc)
	if e.tls == nil {
		return c, nil
	}
	if err = c.secure(ctx, e.tls); err != nil {
		nc.Close()
		return nil, explain(err, handshaking, e.url)
	}
	return c, nil
}
