package upstream

import (
	"cmp"
	"log/slog"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// Backend is the live form of a gatehouse.Backend. Its settings never change;
// its endpoints' pools and health may be shared with the version before and
// after it. All methods are safe for concurrent use.
//
// What every request reads comes first: it lies together.
type Backend struct {
	client  *Client
	members []member
	load    *load // shared between versions
	limit   int   // connections to each endpoint
	waiting int   // requests for one, at each endpoint

	connect, firstByte, idle time.Duration

	streams bool // HTTP/2 is spoken
	retries retries

	turns     sync.Mutex // guards member.turn
	balance   gatehouse.Balance
	health    gatehouse.Health   // with its defaults; no Path: unchecked
	outliers  gatehouse.Outliers // with its defaults
	circuit   gatehouse.Circuit  // with its defaults; no FailureRatio: there is none
	slowStart time.Duration      // 0: none
	resolve   time.Duration
	tenant    gatehouse.TenantID
	name      gatehouse.BackendID
	id        identity
	retired   bool // guarded by Client.mu
}

// member is an endpoint as one version of a backend uses it.
type member struct {
	*endpoint
	check   *check   // nil when unchecked
	outlier *outlier // nil when off
	circuit *circuit // nil without
	weight  int64
	turn    int64 // standing in the smooth round robin
}

// load counts a backend's requests that hold, or want, a connection, and keeps
// the share of its endpoints that is ejected.
type load struct {
	ward     ward
	live     atomic.Int64 // from Do to Release
	retrying atomic.Int64 // those of them that went beyond their first attempt
}

// retries is gatehouse.Retries, looked up rather than searched.
type retries struct {
	attempts       int
	budget         gatehouse.Percent
	connect, reset bool
	status         [2]uint64 // a bit for each of 500 to 599
}

func newBackend(c *Client, tenant gatehouse.TenantID, doc gatehouse.Backend) *Backend {
	b := &Backend{
		client:    c,
		tenant:    tenant,
		name:      doc.ID,
		members:   make([]member, len(doc.Endpoints)),
		balance:   doc.Balance,
		health:    doc.Health,
		limit:     cmp.Or(doc.MaxConnections, gatehouse.DefaultMaxConnections),
		waiting:   cmp.Or(doc.MaxWaiting, gatehouse.DefaultMaxWaiting),
		outliers:  doc.Outliers,
		circuit:   doc.Circuit,
		slowStart: time.Duration(doc.SlowStart),
		resolve:   doc.Resolve.Or(gatehouse.DefaultResolve),
		load:      &load{},
		id:        newIdentity(doc),
		connect:   doc.Timeouts.Connect.Or(gatehouse.DefaultConnectTimeout),
		firstByte: doc.Timeouts.FirstByte.Or(gatehouse.DefaultFirstByteTimeout),
		idle:      doc.Timeouts.Idle.Or(gatehouse.DefaultIdleTimeout),
	}
	b.health.Interval = gatehouse.Duration(b.health.Interval.Or(gatehouse.DefaultHealthInterval))
	b.health.HealthyAfter = cmp.Or(b.health.HealthyAfter, gatehouse.DefaultHealthyAfter)
	b.health.UnhealthyAfter = cmp.Or(b.health.UnhealthyAfter, gatehouse.DefaultUnhealthyAfter)
	b.outliers.Failures = cmp.Or(b.outliers.Failures, gatehouse.DefaultOutlierFailures)
	b.outliers.EjectFor = gatehouse.Duration(b.outliers.EjectFor.Or(gatehouse.DefaultEjectFor))
	b.outliers.MaxEjected = cmp.Or(b.outliers.MaxEjected, gatehouse.DefaultMaxEjected)
	b.circuit.MinRequests = cmp.Or(b.circuit.MinRequests, gatehouse.DefaultCircuitRequests)
	b.circuit.Window = gatehouse.Duration(b.circuit.Window.Or(gatehouse.DefaultCircuitWindow))
	b.circuit.OpenFor = gatehouse.Duration(b.circuit.OpenFor.Or(gatehouse.DefaultCircuitOpenFor))
	b.retries = newRetries(doc.Retries)
	b.streams = b.id.protocol == gatehouse.HTTP2
	return b
}

// ID is the backend's in its tenant's document.
func (b *Backend) ID() gatehouse.BackendID { return b.name }

// log is where what happens to the backend is told. It is made when it is
// needed: a thousand backends that are well take no memory for it.
func (b *Backend) log() *slog.Logger {
	return b.client.log.With("tenant", string(b.tenant), "backend", string(b.name))
}

// on reports whether an answer of this status is a reason to try again.
func (r *retries) on(status int) bool {
	s := status - 500
	return s >= 0 && s < 100 && r.status[s/64]>>(s%64)&1 != 0
}

func newRetries(doc gatehouse.Retries) retries {
	r := retries{attempts: doc.Attempts, budget: doc.Budget, connect: len(doc.On) == 0}
	if r.budget == 0 {
		r.budget = gatehouse.DefaultRetryBudget
	}
	for _, on := range doc.On {
		switch on {
		case gatehouse.RetryConnect:
			r.connect = true
		case gatehouse.RetryReset:
			r.reset = true
		default:
			if status, err := strconv.Atoi(on); err == nil && status >= 500 && status < 600 {
				r.status[(status-500)/64] |= 1 << ((status - 500) % 64)
			}
		}
	}
	return r
}

// checked reports whether endpoints have active health checks.
func (b *Backend) checked() bool { return b.health.Path != "" }

// shared returns what b, which may be nil, has of an endpoint for a later
// version: its live part, and its check, outlier and circuit where they are of
// the same settings. The caller holds Client.mu.
func (b *Backend) shared(url string, later *Backend) member {
	if b == nil {
		return member{}
	}
	for i := range b.members {
		m := &b.members[i] // a copy would read turn
		if m.url != url || m.id != later.id || m.refs == 0 {
			continue
		}
		shared := member{endpoint: m.endpoint}
		if b.health == later.health {
			shared.check = m.check
		}
		if b.outliers == later.outliers {
			shared.outlier = m.outlier
		}
		if b.circuit == later.circuit {
			shared.circuit = m.circuit
		}
		if !b.checked() {
			m.sick.Store(false) // what an older check left
		}
		return shared
	}
	return member{}
}

// Retire ends b: health checks and idle connections that no later version
// shares end now, and connections in use when they are released. Requests may
// still be made; they open connections of their own. Retire is idempotent.
func (b *Backend) Retire() { b.client.retire(b) }

// Stats is a picture of a backend, for metrics.
type Stats struct {
	// Live counts requests from Do to Release; Retrying, those of them that
	// went beyond their first attempt.
	Live, Retrying int
	// Endpoints are in document order.
	Endpoints []EndpointStats
}

// EndpointStats is a picture of one endpoint.
type EndpointStats struct {
	URL string
	// Healthy is false when active checks say so.
	Healthy bool
	// Ejected is true while the endpoint gets no requests for those that
	// failed.
	Ejected bool
	// Circuit is closed, open or half_open; empty where the backend has none.
	Circuit string
	// SlowStart is the part of its weight that the endpoint has by now: 1,
	// but for a slow start.
	SlowStart float64
	// Addresses are what the endpoint's name was last resolved to; none where
	// the URL has an address, or before the first look-up.
	Addresses []netip.Addr
	// Dials counts attempts to open a connection for a request, ever.
	Dials uint64
	// Open connections, those of them that are Idle, and requests Waiting for
	// one.
	Open, Idle, Waiting int
	// InFlight counts requests being tried or answered here.
	InFlight int
}

// Stats allocates; it is not for the request path.
func (b *Backend) Stats() Stats {
	s := Stats{Live: int(b.load.live.Load()), Retrying: int(b.load.retrying.Load())}
	now := b.client.clock.now()
	for i := range b.members {
		m := &b.members[i]
		e := EndpointStats{
			URL:      m.url,
			Healthy:  b.well(i),
			Dials:    m.dials.Load(),
			InFlight: int(m.inFlight.Load()),
			Ejected:  m.outlier != nil && m.outlier.out(now),

			SlowStart: float64(b.share(m, now)) / wholeShare,
		}
		if m.circuit != nil {
			e.Circuit = m.circuit.state(now)
		}
		if m.name != nil {
			e.Addresses = m.name.known()
		}
		m.pool.mu.Lock()
		e.Open, e.Idle, e.Waiting = len(m.pool.open), len(m.pool.idle), len(m.pool.waiting)
		m.pool.mu.Unlock()
		if m.streams != nil {
			e.Open, e.Idle, e.Waiting = m.streams.count()
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	return s
}

// Prefetch reads what Do will read first, before it is needed: who calls it
// together with others of its kind has memory fetched side by side.
func (b *Backend) Prefetch() uint64 {
	sum := uint64(b.idle) + uint64(b.retries.attempts) + uint64(b.load.live.Load())
	for i := range min(len(b.members), 2) {
		m := &b.members[i]
		sum += uint64(m.inFlight.Load())
		if m.outlier != nil {
			sum += uint64(m.outlier.rounds.Load())
		}
		if c := m.pool.latest.Load(); c != nil {
			sum += c.prefetch()
		}
	}
	return sum
}

// prefetch reads what nobody writes of each line.
func (c *conn) prefetch() (sum uint64) {
	if c.nc.LocalAddr() != nil && c.raw != nil {
		sum++
	}
	if c.probe != nil && c.turn.step != nil {
		sum++
	}
	return sum
}
