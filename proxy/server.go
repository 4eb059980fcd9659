package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/policy"
	"github.com/gatehouse-gateway/gatehouse/proxy/identity"
	"github.com/gatehouse-gateway/gatehouse/proxy/route"
	"github.com/gatehouse-gateway/gatehouse/proxy/upstream"
	"github.com/valyala/fasthttp"
)

// Parts are what a gateway is built of.
type Parts struct {
	// Engine decides.
	Engine *policy.Engine
	// Meter counts. It stays the caller's to run and close.
	Meter *metering.Meter
	// Log takes what an operator should know; requests go to Access.
	Log *slog.Logger
	// Access takes one JSON line per request; nil: none.
	Access io.Writer
	// Headers is how limits are told. Default HeadersIETF.
	Headers HeaderStyle
	// Upstream configures the client of the backends. Its Allow is set from
	// Config.UpstreamAllow.
	Upstream upstream.Config
}

// Gateway is a data plane. Its methods are safe for concurrent use.
type Gateway struct {
	cfg       Config
	engine    *policy.Engine
	meter     *metering.Meter
	log       *slog.Logger
	access    *recorder
	headers   HeaderStyle
	metrics   *gauges
	upstream  *upstream.Client
	keySets   *identity.KeySets
	directory *identity.Directory
	hosts     *route.Hosts[slot] // host to slot; written under mu
	tenants   *route.Hosts[slot] // tenant id to slot; written under mu
	server    *fasthttp.Server
	trusted   []netip.Prefix
	maxBody   int64
	idle      time.Duration // of the client's connection
	revision  atomic.Uint64 // of the last update applied
	serves    atomic.Int32  // calls of Serve under way
	leaving   atomic.Bool   // set once, when Shutdown begins
	draining  atomic.Bool   // set once, when Shutdown has closed the listeners
	exchanges sync.Pool     // of *Exchange

	mu        sync.Mutex // guards the rest, and the writing of tables
	slots     map[gatehouse.TenantID]*slot
	plans     map[gatehouse.PlanID]*gatehouse.Plan
	listeners []*listener
}

// New returns a gateway that serves no tenant yet.
func New(cfg Config, p Parts) (*Gateway, error) {
	p.Upstream.Allow = cfg.UpstreamAllow
	g := &Gateway{
		cfg: cfg, engine: p.Engine, meter: p.Meter, log: p.Log, access: newRecorder(p.Access), headers: p.Headers,
		upstream: upstream.New(p.Upstream), directory: identity.NewDirectory(),
		hosts: route.NewHosts[slot](), tenants: route.NewHosts[slot](),
		trusted: cfg.TrustedProxies, maxBody: int64(cfg.Limits.Body),
		slots: map[gatehouse.TenantID]*slot{}, plans: map[gatehouse.PlanID]*gatehouse.Plan{},
	}
	if g.headers == "" {
		g.headers = HeadersIETF
	}
	transport := &http.Transport{DialContext: g.upstream.Dial, ForceAttemptHTTP2: true, TLSHandshakeTimeout: 10 * time.Second}
	g.keySets = identity.NewKeySets(transport, func(url string, err error) {
		if err != nil {
			g.log.Warn("key set not refreshed", "url", url, "error", err)
		}
	})
	g.access.failing = func(err error) { g.log.Error("access log cannot be written; records are lost", "error", err) }
	platform := map[string]*slot{}
	for i := range cfg.PlatformDomains {
		d := &cfg.PlatformDomains[i]
		if platform[d.Host] != nil {
			return nil, fmt.Errorf("platform domain %q is listed twice", d.Host)
		}
		platform[d.Host] = &slot{platform: d}
	}
	g.hosts.Change(platform, nil)
	g.server = g.newServer()
	g.metrics = newGauges()
	return g, nil
}

// Run does the gateway's work in the background until ctx ends.
func (g *Gateway) Run(ctx context.Context) error {
	if g.access.w != nil {
		g.access.run(ctx)
	}
	return nil
}

// Serve takes connections from ln until Shutdown.
func (g *Gateway) Serve(ln net.Listener) error {
	l := &listener{Listener: ln, emptied: make(chan struct{})}
	g.mu.Lock()
	g.listeners = append(g.listeners, l)
	g.mu.Unlock()
	if g.leaving.Load() {
		l.drain()
	}
	defer l.done() // after the count is right
	g.serves.Add(1)
	defer g.serves.Add(-1)
	if err := g.server.Serve(l); err != nil && !g.leaving.Load() {
		return fmt.Errorf("serve %s: %w", ln.Addr(), err)
	}
	return nil
}

// Revision returns the revision of the last update, 0 before the first.
func (g *Gateway) Revision() uint64 { return g.revision.Load() }

// Ready reports why the gateway should not get traffic: it has no tenants
// yet, or it is draining.
func (g *Gateway) Ready() error {
	switch {
	case g.leaving.Load():
		return errors.New("draining")
	case g.revision.Load() == 0:
		return errors.New("no configuration yet")
	}
	return nil
}

// drainGrace is how long an idle connection is kept at shutdown: a client may
// be about to use it, and gets an answer that closes it.
const drainGrace = time.Second

// Shutdown takes no new connections, lets requests in flight finish until ctx
// ends, closes what is left, and frees what the gateway holds. The error says
// how much was cut off.
//
// Only when the listeners are closed do answers ask their clients to close: a
// client that is told so earlier connects anew, into the closing.
func (g *Gateway) Shutdown(ctx context.Context) error {
	g.leaving.Store(true)
	g.mu.Lock()
	listeners := slices.Clone(g.listeners)
	g.mu.Unlock()
	for _, l := range listeners {
		l.drain()
	}
	for _, l := range listeners {
		select {
		case <-l.emptied:
		case <-ctx.Done():
		}
	}
	g.draining.Store(true)
	g.awaitIdle(ctx)
	err := g.server.ShutdownWithContext(ctx)
	if left := g.metrics.inFlight.Load(); err != nil && left > 0 {
		err = fmt.Errorf("%d requests were cut off at the end of the drain: %w", left, err)
	} else if left == 0 {
		err = nil
	}
	g.upstream.Close()
	if err != nil {
		g.upstream.Abort()
	}
	g.keySets.Close()
	g.FlushRecords()
	return err
}

// openConnections corrects fasthttp's count, in which each Serve is one
// connection and one is always taken off.
func (g *Gateway) openConnections() int64 {
	return max(0, int64(g.server.GetOpenConnectionsCount())+1-int64(g.serves.Load()))
}

// awaitIdle waits until no connection is open, or the grace is over and no
// request is in flight.
func (g *Gateway) awaitIdle(ctx context.Context) {
	began := time.Now()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for g.openConnections() > 0 {
		if time.Since(began) > drainGrace && g.metrics.inFlight.Load() == 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// side is a direction of the client's connection.
type side int

const (
	readSide side = iota
	writeSide
)

// deadlines is the part of a transport that bounds waiting for its client.
type deadlines interface {
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

// rearm puts the idle deadline of a side off, at most every second or fourth
// part of it: setting one costs more than reading the clock.
func (x *Exchange) rearm(s side) {
	if x.deadlines == nil {
		return
	}
	now := time.Now()
	if now.Sub(x.armed[s]) < min(time.Second, x.gateway.idle/4) {
		return
	}
	x.armed[s] = now
	at := now.Add(x.gateway.idle)
	// A deadline that cannot be set means that the connection is gone, which
	// the next read or write reports.
	if s == readSide {
		_ = x.deadlines.SetReadDeadline(at)
	} else {
		_ = x.deadlines.SetWriteDeadline(at)
	}
}
