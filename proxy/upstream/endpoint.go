package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync/atomic"
	"time"
)

// target is an endpoint's URL, taken apart.
type target struct {
	host   string // for TLS and Host, without port or brackets
	addr   string // host:port
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
	t.addr = net.JoinHostPort(t.host, port)
	return t, nil
}

// endpoint is the live part of one URL of a backend: what outlives a change
// of the document.
type endpoint struct {
	url    string
	target target
	tls    *tls.Config // nil for http
	client *Client
	pool   pool
	seed   uint64 // for consistent_hash
	refs   int    // backends that use it; guarded by Client.mu

	inFlight atomic.Int64  // requests from their first attempt here to their release
	dials    atomic.Uint64 // connections opened for requests, or tried to
	sick     atomic.Bool   // set by the endpoint's health check alone
}

func newEndpoint(c *Client, rawURL string, t target) *endpoint {
	e := &endpoint{url: rawURL, target: t, client: c, seed: hashURL(rawURL)}
	if t.tls {
		e.tls = c.tlsConfig(t.host)
	}
	e.pool.clock = c.clock
	e.pool.open = map[*conn]struct{}{}
	return e
}

// dial opens a connection, and TLS on it, before the instant by. It belongs
// to no pool yet.
func (e *endpoint) dial(ctx context.Context, by time.Time) (*conn, *Error) {
	ctx, cancel := context.WithDeadline(ctx, by)
	defer cancel()
	nc, err := e.client.dial(ctx, "tcp", e.target.addr)
	if err != nil {
		return nil, explain(fmt.Errorf("connect to %s: %w", e.target.addr, err), connecting, e.url)
	}
	c := newConn(e, nc)
	if e.tls == nil {
		return c, nil
	}
	c.gate = &gate{Conn: nc}
	secure := tls.Client(c.gate, e.tls)
	c.nc = secure
	if err = secure.HandshakeContext(ctx); err != nil {
		nc.Close()
		return nil, explain(fmt.Errorf("TLS handshake with %s: %w", e.target.addr, err), handshaking, e.url)
	}
	return c, nil
}
