package proxy

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/proxy/identity"
	"github.com/gatehouse-gateway/gatehouse/proxy/upstream"
)

// Load is what requests came to within a time.
type Load struct {
	Requests, Errors, Denied, Limited int64
	BytesIn, BytesOut                 int64
	// P50, P90 and P99 are in milliseconds.
	P50, P90, P99 float64
}

// Figures are those of a tenant at this data plane.
type Figures struct {
	// From is since when loads were counted.
	From, At time.Time
	All      Load
	// Routes are those that had requests, by id; "" stands for no route.
	Routes []RouteLoad
	// Classes counts requests by status, as "2xx"; "gone" for clients that left.
	Classes map[string]int64
	// InFlight requests hold a place of the tenant; Queued wait for one, Waiting
	// for a place of a limit.
	InFlight, Queued, Waiting, Tunnels int
	Limits                             []LimitLevel
	// Backends are in the order of the document.
	Backends []Connections
}

// RouteLoad is the load of one route.
type RouteLoad struct {
	Route gatehouse.RouteID
	Load  Load
}

// Connections are those of one backend, and its requests under way.
type Connections struct {
	Backend              gatehouse.BackendID
	Open, Idle, InFlight int
}

// Figures returns live figures of a tenant over the last takings of its
// tallies, five, and what has been counted since. It asks the
// shared store of limits, where there is one, and fails with CodeNotFound.
func (g *Gateway) Figures(id gatehouse.TenantID) (*Figures, error) {
	s, t, err := g.running(id)
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	from := g.takings[0]
	g.mu.Unlock()
	list := s.recent(from)
	f := &Figures{
		From: from, At: time.Now(), All: loadOf(list), Classes: map[string]int64{},
		InFlight: int(s.gate.inFlight.Load()), Queued: int(s.gate.waiters.Load()), Waiting: int(s.limits.Waiting()), Tunnels: int(s.tunnels.Load()),
	}
	by := map[gatehouse.RouteID][]Tally{}
	for i := range list {
		by[list[i].Route] = append(by[list[i].Route], list[i])
		f.Classes[className(list[i].Class)] += list[i].Requests
	}
	for _, route := range slices.Sorted(maps.Keys(by)) {
		f.Routes = append(f.Routes, RouteLoad{route, loadOf(by[route])})
	}
	for _, b := range t.backends {
		c := Connections{Backend: b.ID()}
		for _, e := range b.Stats().Endpoints {
			c.Open, c.Idle, c.InFlight = c.Open+e.Open, c.Idle+e.Idle, c.InFlight+e.InFlight
		}
		f.Backends = append(f.Backends, c)
	}
	f.Limits, err = g.Levels(id)
	return f, err
}

func className(class int) string {
	if class == 0 {
		return "gone"
	}
	return strconv.Itoa(class) + "xx"
}

// loadOf sums tallies.
func loadOf(list []Tally) (l Load) {
	times := make([][]TimeCount, len(list))
	for i := range list {
		t := &list[i]
		l.Requests += t.Requests
		if t.Class == 5 {
			l.Errors += t.Requests
		}
		l.Denied += t.Denied
		l.Limited += t.Limited
		l.BytesIn += t.BytesIn
		l.BytesOut += t.BytesOut
		times[i] = t.Times
	}
	all := merged(times...)
	l.P50, l.P90, l.P99 = Quantile(all, 0.5), Quantile(all, 0.9), Quantile(all, 0.99)
	return l
}

// States of an endpoint.
const (
	stateHealthy   = "healthy"
	stateUnhealthy = "unhealthy"
	stateEjected   = "ejected"
	stateOpen      = "open"
)

func stateOf(e *upstream.EndpointStats) string {
	switch {
	case e.Circuit == stateOpen:
		return stateOpen
	case e.Ejected:
		return stateEjected
	case !e.Healthy:
		return stateUnhealthy
	}
	return stateHealthy
}

var stateReasons = map[string]string{
	stateUnhealthy: "its health check fails",
	stateEjected:   "its answers failed more often than those of others",
	stateOpen:      "its circuit is open after failures",
}

// Health is the state of what a tenant depends on.
type Health struct {
	// Status is healthy, degraded, or down: a backend has no endpoint that
	// takes requests, or issuers have no keys at all.
	Status   string
	Backends []BackendState
	Domains  []DomainState
	KeySets  []identity.KeySetState // in the order of issuers
}

// BackendState is the state of a backend.
type BackendState struct {
	Backend   gatehouse.BackendID
	Status    string
	Endpoints []EndpointState
}

// EndpointState is the state of one endpoint.
type EndpointState struct {
	URL string
	// Status is healthy, unhealthy, ejected or open, Reason why; empty when it
	// is healthy.
	Status, Reason        string
	InFlight, Connections int
}

// DomainState is the state of one of a tenant's hosts.
type DomainState struct {
	Host string
	// Status is serving, suspended, unprovisioned (there is no route), or
	// unreachable: requests for the host do not find the tenant.
	Status string
	// Certificate is when the certificate for it ends; zero: there is none.
	Certificate time.Time
}

// Health states.
const (
	healthy  = "healthy"
	degraded = "degraded"
	down     = "down"
)

// Health returns the state of a tenant's backends, hosts and key sets. It
// fails with CodeNotFound.
func (g *Gateway) Health(id gatehouse.TenantID) (*Health, error) {
	s, t, err := g.running(id)
	if err != nil {
		return nil, err
	}
	h := &Health{Status: healthy, KeySets: t.verifier.KeySets()}
	for _, live := range t.backends {
		b := backendState(live.ID(), live.Stats().Endpoints)
		h.Backends = append(h.Backends, b)
		h.worsen(b.Status)
	}
	for host := range t.hosts() {
		d := g.domainState(s, t, host)
		if d.Status == "unreachable" || !d.Certificate.IsZero() && time.Now().After(d.Certificate) {
			h.worsen(degraded)
		}
		h.Domains = append(h.Domains, d)
	}
	slices.SortFunc(h.KeySets, func(a, b identity.KeySetState) int {
		if a.Issuer < b.Issuer {
			return -1
		}
		return 1
	})
	for _, k := range h.KeySets {
		if !k.Fetched || k.Failures > 0 {
			h.worsen(degraded)
		}
	}
	return h, nil
}

func (h *Health) worsen(to string) {
	if to == down || to == degraded && h.Status == healthy {
		h.Status = to
	}
}

func backendState(id gatehouse.BackendID, endpoints []upstream.EndpointStats) BackendState {
	b := BackendState{Backend: id, Status: healthy}
	good := 0
	for i := range endpoints {
		e := &endpoints[i]
		state := stateOf(e)
		if state == stateHealthy {
			good++
		}
		b.Endpoints = append(b.Endpoints, EndpointState{e.URL, state, stateReasons[state], e.InFlight, e.Open})
	}
	switch {
	case good == 0:
		b.Status = down
	case good < len(endpoints):
		b.Status = degraded
	}
	return b
}

func (g *Gateway) domainState(s *slot, t *table, host string) DomainState {
	d := DomainState{Host: host, Status: "serving"}
	switch {
	case g.hosts.Owner(host) != s:
		d.Status = "unreachable"
	case t.suspended:
		d.Status = "suspended"
	case len(t.routes) == 0:
		d.Status = "unprovisioned"
	}
	if g.tls != nil {
		d.Certificate, _ = g.tls.Ends(host)
	}
	return d
}
