// Package upstream is Gatehouse's client to the backends: its own for HTTP/1.1,
// and for HTTP/2 net/http's connections in pools of its own. What follows is
// said of HTTP/1.1; a request over HTTP/2 has goroutines of the library's too,
// which end with the stream and the connection.
//
// A request runs on its caller's goroutine: the client takes a connection,
// writes the head that the caller has serialised, copies the body, and parses
// the answer strictly. There is one pool for each endpoint of each backend of
// each tenant, and none is shared. Other goroutines exist in two places only:
// one for each active health check and for each look-up of a name while it
// goes on, owned by the Client, and one that waits for the answer while a large
// request body is copied, which ends before Do returns.
package upstream

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// Config is what all backends of a Client have in common.
type Config struct {
	// Allow lists the addresses that a backend may have. Empty: all. Some are
	// never allowed, see Prohibited.
	Allow []netip.Prefix
	// RootCAs verify https endpoints. Nil: the system's.
	RootCAs *x509.CertPool
	// Dial opens connections in place of the resolver, the guard of addresses
	// and TCP: for listeners in memory. Nil: TCP, both families.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Resolver finds the addresses of endpoints that are named. Nil:
	// net.DefaultResolver. It is not asked where Dial is set.
	Resolver Resolver
	// Log receives one record for each change of an endpoint's health: by its
	// checks, ejections, circuit, and whether its name is resolved. Nil:
	// discarded.
	Log *slog.Logger
}

// Client makes backends. Its methods are safe for concurrent use.
type Client struct {
	dial     func(ctx context.Context, network, addr string) (net.Conn, error)
	resolver Resolver // nil: names are left to dial
	roots    *x509.CertPool
	log      *slog.Logger
	clock    clock
	buffers  buffers
	dials    atomic.Uint64  // of all endpoints, those that are gone among them
	checks   sync.WaitGroup // the goroutines of health checks, and of look-ups of names

	mu        sync.Mutex             // guards the below, refs of endpoints and of checks
	closed    bool                   // no more backends
	endpoints map[*endpoint]struct{} // those that a backend refers to
	leaving   map[*endpoint]struct{} // others, while requests are in flight there
	running   map[*check]struct{}    // the checks to end at Close
}

// New returns a client that has no backends yet. Close ends it.
func New(cfg Config) *Client {
	c := &Client{
		dial:      cfg.Dial,
		roots:     cfg.RootCAs,
		log:       cfg.Log,
		clock:     clock{time.Now()},
		endpoints: map[*endpoint]struct{}{},
		leaving:   map[*endpoint]struct{}{},
		running:   map[*check]struct{}{},
	}
	if c.dial == nil {
		own, _ := cfg.Resolver.(*net.Resolver)
		c.dial = (&net.Dialer{ControlContext: guard(cfg.Allow), Resolver: own}).DialContext
		c.resolver = cfg.Resolver
		if c.resolver == nil {
			c.resolver = net.DefaultResolver
		}
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Backend returns the live form of doc, a valid document, for a tenant. It
// opens no connection.
//
// With prev, an earlier live form of the same backend, endpoints of equal URL,
// protocol and TLS are shared between both: pool, health and requests in flight. Both serve
// until retired; the caller retires the one it does not keep. The error is
// about an endpoint's URL or the texts of TLS, or says that the client is
// closed.
func (c *Client) Backend(tenant gatehouse.TenantID, doc gatehouse.Backend, prev *Backend) (*Backend, error) {
	b := newBackend(c, tenant, doc)
	secure, err := secureConfig(doc, c.roots)
	if err != nil {
		return nil, fmt.Errorf("backend %s/%s: %w", tenant, doc.ID, err)
	}
	targets := make([]target, len(doc.Endpoints))
	for i, e := range doc.Endpoints {
		var err error
		if targets[i], err = parseTarget(e.URL); err != nil {
			return nil, fmt.Errorf("backend %s/%s: endpoint %s: %w", tenant, doc.ID, e.URL, err)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, fmt.Errorf("backend %s/%s: %w", tenant, doc.ID, net.ErrClosed)
	}
	if prev != nil {
		b.load = prev.load
	}
	for i, doc := range doc.Endpoints {
		m := prev.shared(doc.URL, b)
		if m.endpoint == nil {
			m.endpoint = newEndpoint(c, doc.URL, targets[i], b.id, secure)
			c.endpoints[m.endpoint] = struct{}{}
			if prev != nil {
				m.rise(c.clock.now())
			}
			if _, err := netip.ParseAddr(m.target.host); err != nil && c.resolver != nil {
				m.name = newName(m.endpoint, b.log())
			}
		}
		m.refs++
		if m.name != nil {
			m.name.every(b.resolve)
		}
		if m.outlier == nil && !b.outliers.Off {
			m.outlier = &outlier{}
		}
		if m.circuit == nil && b.circuit.FailureRatio > 0 {
			m.circuit = &circuit{rules: b.circuit}
		}
		if m.check == nil && b.checked() {
			m.check = c.startCheck(m.endpoint, b.health, b.log())
		}
		if m.check != nil {
			m.check.refs++
		}
		m.weight = int64(max(doc.Weight, 1))
		b.members[i] = m
	}
	b.load.ward.join(b)
	return b, nil
}

// Dial opens a connection under the guard of addresses, for others who fetch
// from addresses that a tenant names.
func (c *Client) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return c.dial(ctx, network, addr)
}

// Dials returns how many connections were opened for requests, or tried to,
// since the client was made.
func (c *Client) Dials() uint64 { return c.dials.Load() }

// retire takes back b's references, and closes what no backend refers to.
func (c *Client) retire(b *Backend) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if b.retired || c.closed {
		return
	}
	b.retired = true
	b.load.ward.leave(b)
	for i := range b.members {
		m := &b.members[i] // a copy would read turn
		if k := m.check; k != nil {
			if k.refs--; k.refs == 0 {
				k.stop()
				delete(c.running, k)
			}
		}
		if m.refs--; m.refs == 0 {
			m.retire()
			delete(c.endpoints, m.endpoint)
			c.leaving[m.endpoint] = struct{}{}
		}
	}
	maps.DeleteFunc(c.leaving, func(e *endpoint, _ struct{}) bool { return e.empty() })
}

// Close retires all backends and returns when their health checks have ended.
// Requests in flight go on; their connections close as they are released.
func (c *Client) Close() {
	c.mu.Lock()
	c.closed = true
	for k := range c.running {
		k.stop()
	}
	for e := range c.endpoints {
		e.retire()
	}
	c.mu.Unlock()
	c.checks.Wait()
}

// Abort breaks the connections of all requests in flight, whose Do or Read
// then fails. It is for the end of a drain, after Close.
func (c *Client) Abort() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for e := range c.endpoints {
		e.abort()
	}
	for e := range c.leaving {
		e.abort()
	}
}
