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
	"github.com/gatehouse-gateway/gatehouse/proxy/edge"
	"github.com/gatehouse-gateway/gatehouse/proxy/http1"
	"github.com/gatehouse-gateway/gatehouse/proxy/http2"
	"github.com/gatehouse-gateway/gatehouse/proxy/identity"
	"github.com/gatehouse-gateway/gatehouse/proxy/route"
	"github.com/gatehouse-gateway/gatehouse/proxy/tunnel"
	"github.com/gatehouse-gateway/gatehouse/proxy/upstream"
	"github.com/gatehouse-gateway/gatehouse/ratelimit"
	"github.com/valyala/fasthttp"
)

// Parts are what a gateway is built of.
type Parts struct {
	// Engine decides.
	Engine *policy.Engine
	// Meter counts. It stays the caller's to run and close. nil: nothing is
	// counted.
	Meter *metering.Meter
	// Log takes what an operator should know; requests go to Access.
	Log *slog.Logger
	// Access takes one JSON line per request; nil: none.
	Access io.Writer
	// Headers is how limits are told. Default HeadersIETF.
	Headers HeaderStyle
	// Limits is the part in a shared store that counts limits, which the caller
	// runs for as long as the gateway serves; nil: they are counted in memory.
	Limits *ratelimit.Shared
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
	limits    *ratelimit.Shared // nil: none
	metrics   *gauges
	upstream  *upstream.Client
	keySets   *identity.KeySets
	directory *identity.Directory
	hosts     *route.Hosts[slot] // host to slot; written under mu
	tenants   *route.Hosts[slot] // tenant id to slot; written under mu
	server    *fasthttp.Server
	http1     http1.Config
	tls       *edge.TLS // nil: not configured
	http2     http2.Config
	sessions  sessions
	tunnels   *tunnel.Set
	trusted   []netip.Prefix
	revision  atomic.Uint64 // of the last update applied
	shadows   *policy.Shadows
	decisions *policy.Logs
	leaving   atomic.Bool // set once, when Shutdown begins
	draining  atomic.Bool // set once, when Shutdown has closed the listeners
	succeeded atomic.Bool // set by Succeeded
	exchanges sync.Pool   // of *Exchange
	validator gatehouse.Validator
	zones     zones

	mu    sync.Mutex // guards the rest, and the writing of tables
	slots map[gatehouse.TenantID]*slot
	// keys are those that stand in no document, also of tenants that are not
	// served; guarded by mu.
	keys      map[gatehouse.TenantID]map[gatehouse.KeyID]gatehouse.Key
	plans     map[gatehouse.PlanID]*gatehouse.Plan
	quotas    map[gatehouse.TenantID][]ratelimit.QuotaState // loaded, and not yet taken up; guarded by mu
	listeners []*listener
	takings   []time.Time // the start, or the last of TakeTallies; guarded by mu
}

// New returns a gateway that serves no tenant yet.
func New(cfg Config, p Parts) (*Gateway, error) {
	p.Upstream.Allow = cfg.UpstreamAllow
	p.Upstream.Log = p.Log
	g := &Gateway{
		cfg: cfg, engine: p.Engine, meter: p.Meter, log: p.Log, access: newRecorder(p.Access), headers: p.Headers, limits: p.Limits,
		upstream: upstream.New(p.Upstream), directory: identity.NewDirectory(),
		hosts: route.NewHosts[slot](), tenants: route.NewHosts[slot](),
		trusted: cfg.TrustedProxies, tunnels: tunnel.NewSet(),
		shadows: policy.NewShadows(policy.ShadowConfig{}), decisions: policy.NewLogs(policy.LogConfig{}),
		takings: []time.Time{time.Now()},
		slots:   map[gatehouse.TenantID]*slot{}, keys: map[gatehouse.TenantID]map[gatehouse.KeyID]gatehouse.Key{}, plans: map[gatehouse.PlanID]*gatehouse.Plan{},
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
	g.metrics = newGauges()
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
	g.http1.HeaderBytes = int(cfg.Limits.HeaderBytes)
	g.http1.Header, g.http1.Idle = cfg.Timeouts.Header.Or(10*time.Second), cfg.Timeouts.Idle.Or(time.Minute)
	g.http2.HeaderBytes, g.http2.Streams = g.http1.HeaderBytes, cfg.HTTP2.Streams
	g.http2.Header, g.http2.Idle = g.http1.Header, g.http1.Idle
	g.server = g.newServer()
	if cfg.TLS.Certificates != "" {
		var err error
		if g.tls, err = g.newTLS(); err != nil {
			return nil, err
		}
	}
	return g, nil
}

// Run does the gateway's work in the background until ctx ends.
func (g *Gateway) Run(ctx context.Context) error {
	var parts sync.WaitGroup
	defer parts.Wait()
	parts.Go(func() {
		if err := g.shadows.Run(ctx); err != nil {
			g.log.Error("shadow policies are no longer asked", "error", err)
		}
	})
	if g.tls != nil {
		parts.Go(func() {
			if err := g.tls.Run(ctx); err != nil {
				g.log.Error("certificates are no longer watched", "error", err)
			}
		})
	}
	if g.access.w != nil {
		g.access.run(ctx)
	}
	return nil
}

// Serve takes connections from ln until Shutdown.
func (g *Gateway) Serve(ln net.Listener) error { return g.serve(ln, nil) }

// ServeTLS is Serve over TLS, as Config.TLS has it.
func (g *Gateway) ServeTLS(ln net.Listener) error {
	if g.tls == nil {
		return errors.New("no certificates are configured")
	}
	return g.serve(ln, g.tls)
}

func (g *Gateway) serve(ln net.Listener, secure *edge.TLS) error {
	l := &listener{Listener: ln, emptied: make(chan struct{})}
	g.mu.Lock()
	g.listeners = append(g.listeners, l)
	g.mu.Unlock()
	if g.leaving.Load() {
		l.drain()
	}
	defer l.done()
	if err := g.server.Serve(edge.Listen(l, g.edgeConfig(secure))); err != nil && !g.leaving.Load() {
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

// How long an idle connection is kept at shutdown: a client may be about to
// use it, and gets an answer that closes it. There is more time where another
// process serves meanwhile.
const (
	drainGrace   = time.Second
	succeedGrace = 5 * time.Second
)

// Warm waits until what is fetched for the tenants has been, or could not be,
// or ctx ends: the key sets of issuers. A gateway is of use before.
func (g *Gateway) Warm(ctx context.Context) { g.keySets.Warm(ctx) }

// Reload reads again what the gateway reads itself: the certificates.
func (g *Gateway) Reload() {
	if g.tls == nil {
		return
	}
	if err := g.tls.Reload(); err != nil {
		g.log.Error("certificates with faults; what was in use stays", "error", err)
	}
}

// Succeeded tells the gateway, before Shutdown, that another process takes
// the connections now.
func (g *Gateway) Succeeded() { g.succeeded.Store(true) }

// partingGrace is for connections without requests to be taken leave of.
const partingGrace = 2 * time.Second

// tunnelGrace is the end of a drain, in which WebSockets are asked to close.
// Until then they live on: their clients lose nothing by it.
const tunnelGrace = 5 * time.Second

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
	for _, c := range g.sessions.all() {
		c.leave()
	}
	err := g.awaitIdle(ctx)
	if left := g.metrics.inFlight.Load(); left > 0 {
		err = errors.Join(err, fmt.Errorf("%d requests were cut off at the end of the drain: %w", left, context.Cause(ctx)))
	}
	g.upstream.Close()
	for _, c := range g.sessions.all() {
		c.cut()
	}
	if err != nil {
		g.upstream.Abort()
	}
	ended, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = g.server.ShutdownWithContext(ended) // its connections are closed: this waits for its goroutines
	g.keySets.Close()
	g.FlushRecords()
	return err
}

// awaitIdle waits until no connection is open, or ctx ends. Connections that
// rest are closed after a while, and tunnels are asked to end in time; the
// error says how many did not.
func (g *Gateway) awaitIdle(ctx context.Context) (err error) {
	grace := drainGrace
	if g.succeeded.Load() {
		grace = succeedGrace
	}
	rest := time.NewTimer(grace)
	defer rest.Stop()
	parting := time.NewTimer(g.tunnelTime(ctx))
	defer parting.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	var tunnels sync.WaitGroup
	var cut atomic.Pointer[error]
	defer func() {
		tunnels.Wait()
		if e := cut.Load(); e != nil {
			err = *e
		}
	}()
	rested, silent := false, false
	last := time.NewTimer(grace + partingGrace)
	defer last.Stop()
	// Connections that have not got as far as a request count too: one may be
	// on its way.
	for g.sessions.count() > 0 || !rested && g.metrics.edge.Open.Load() > 0 {
		select {
		case <-rest.C:
			rested = true
		case <-last.C:
			silent = true
		case <-parting.C:
			tunnels.Go(func() {
				if err := g.tunnels.Drain(ctx); err != nil {
					cut.Store(&err)
				}
			})
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if silent && g.metrics.inFlight.Load() == 0 {
			return nil // who is left takes not even a farewell
		}
		if rested {
			for _, c := range g.sessions.all() {
				c.abandon()
			}
		}
	}
	return nil
}

// tunnelTime is how long tunnels live on in a drain that ctx bounds.
func (g *Gateway) tunnelTime(ctx context.Context) time.Duration {
	end, ok := ctx.Deadline()
	if !ok {
		return drainGrace
	}
	left := time.Until(end)
	return max(0, left-min(tunnelGrace, left/2))
}
