package control

import (
	"encoding/json"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// Request describes a request to be explained.
type Request struct {
	// Method is GET when empty.
	Method string `json:"method,omitempty"`
	// URL is absolute: its host finds the tenant.
	URL string `json:"url"`
	// Headers are sent along; one value a name.
	Headers map[string]string `json:"headers,omitempty"`
	// Key is an API key, which is put where the tenant expects one.
	Key string `json:"key,omitempty"`
	// Address is the client's. Default 127.0.0.1.
	Address string `json:"address,omitempty"`
}

// Explanation says what would become of a request, and why.
type Explanation struct {
	// Tenant is whose request it would be, empty if nobody's.
	Tenant gatehouse.TenantID `json:"tenant,omitempty"`
	// Status is what would be answered; 0: the backend's answer.
	Status int `json:"status,omitempty"`
	// Code is that of the problem, where the gateway would answer itself.
	Code gatehouse.Code `json:"code,omitempty"`
	// Phases are those that it would go through, in order.
	Phases []ExplainedPhase `json:"phases"`
}

// ExplainedPhase is the outcome of one phase of the request line.
type ExplainedPhase struct {
	// Phase is admit, resolve, match, identify, decide, limit or forward.
	Phase string `json:"phase"`
	// Outcome is pass or refuse.
	Outcome string `json:"outcome"`
	// Detail is a sentence for people.
	Detail string `json:"detail,omitempty"`
	// Data are particulars, by the phase: the route, the rule and its line.
	Data json.RawMessage `json:"data,omitempty"`
}

// TenantMetrics are live figures of a tenant at all data planes together: sums,
// and of quantiles the largest, which that of all does not exceed.
type TenantMetrics struct {
	Tenant gatehouse.TenantID `json:"tenant"`
	// AsOf is when the data planes were asked.
	AsOf time.Time `json:"as_of"`
	// DataPlanes is how many of them the figures are of.
	DataPlanes int `json:"data_planes"`
	LiveMetrics
	// Gateways are the data planes one by one, where there are some apart
	// from the control plane. Who is of some tenants only is not told them.
	Gateways []GatewayMetrics `json:"gateways,omitempty"`
}

// GatewayMetrics is what one data plane says; Gateway is its name.
type GatewayMetrics struct {
	Gateway string `json:"gateway"`
	// Problem says why Metrics are absent.
	Problem string       `json:"problem,omitempty"`
	Metrics *LiveMetrics `json:"metrics,omitempty"`
}

// LiveMetrics are figures of a tenant of now, or over the window named.
type LiveMetrics struct {
	// Window is what rates and quantiles look back on, in seconds.
	Window int `json:"window_s"`
	Load
	// Classes counts requests by status, as "2xx"; "gone" for clients that left.
	Classes map[string]int64 `json:"classes"`
	// InFlight are requests under way; Queued wait for a place of the tenant,
	// Waiting for one of a limit; Tunnels are upgraded connections.
	InFlight int `json:"in_flight"`
	Queued   int `json:"queued"`
	Waiting  int `json:"waiting"`
	Tunnels  int `json:"tunnels"`
	// Limits are where the limits stand, as explain has them. They are those of
	// one data plane: of several each has its own, among gateways.
	Limits []json.RawMessage `json:"limits"`
	// Backends are the connections to each.
	Backends []BackendConnections `json:"backends"`
	// Routes are the same by route.
	Routes []RouteMetrics `json:"routes,omitempty"`
}

// MergeMetrics is what several data planes say together, and how many of them
// did.
func MergeMetrics(all []GatewayMetrics) (LiveMetrics, int) {
	out, n := LiveMetrics{Classes: map[string]int64{}, Limits: []json.RawMessage{}, Backends: []BackendConnections{}}, 0
	for i := range all {
		m := all[i].Metrics
		if m == nil {
			continue
		}
		n++
		out.Window = max(out.Window, m.Window)
		out.add(&m.Load)
		for class, requests := range m.Classes {
			out.Classes[class] += requests
		}
		out.InFlight, out.Queued, out.Waiting, out.Tunnels = out.InFlight+m.InFlight, out.Queued+m.Queued, out.Waiting+m.Waiting, out.Tunnels+m.Tunnels
		if out.Limits = m.Limits; n > 1 {
			out.Limits = []json.RawMessage{}
		}
		for _, b := range m.Backends {
			mine := entry(&out.Backends, BackendConnections{Backend: b.Backend}, func(o *BackendConnections) bool { return o.Backend == b.Backend })
			mine.Open, mine.Idle, mine.InFlight = mine.Open+b.Open, mine.Idle+b.Idle, mine.InFlight+b.InFlight
		}
		for _, r := range m.Routes {
			entry(&out.Routes, RouteMetrics{Route: r.Route}, func(o *RouteMetrics) bool { return o.Route == r.Route }).add(&r.Load)
		}
	}
	return out, n
}

// add sums, but for quantiles: of these it keeps the largest.
func (l *Load) add(m *Load) {
	l.Requests, l.Errors, l.Denied, l.Limited = l.Requests+m.Requests, l.Errors+m.Errors, l.Denied+m.Denied, l.Limited+m.Limited
	l.BytesIn, l.BytesOut = l.BytesIn+m.BytesIn, l.BytesOut+m.BytesOut
	l.P50, l.P90, l.P99 = max(l.P50, m.P50), max(l.P90, m.P90), max(l.P99, m.P99)
}

// BackendConnections are the connections to a backend: Open is how many there
// are, Idle how many of these carry no request, InFlight how many requests are
// under way on them.
type BackendConnections struct {
	Backend  gatehouse.BackendID `json:"backend"`
	Open     int                 `json:"open"`
	Idle     int                 `json:"idle"`
	InFlight int                 `json:"in_flight"`
}

// Load is what requests came to within a window.
type Load struct {
	// Requests counts all of them.
	Requests int64 `json:"requests"`
	// Errors were answered 5xx; Denied by the gateway instead of a backend;
	// Limited by a limit.
	Errors  int64 `json:"errors"`
	Denied  int64 `json:"denied"`
	Limited int64 `json:"limited"`
	// BytesIn and BytesOut are of bodies.
	BytesIn  int64 `json:"bytes_in"`
	BytesOut int64 `json:"bytes_out"`
	// P50, P90 and P99 are of the time to the answer, in milliseconds: to its
	// head where it is streamed, else to its end.
	P50 float64 `json:"p50_ms"`
	P90 float64 `json:"p90_ms"`
	P99 float64 `json:"p99_ms"`
}

// RouteMetrics are those of one route.
type RouteMetrics struct {
	Route gatehouse.RouteID `json:"route"`
	Load
}

// AnalyticsQuery asks for a time series.
type AnalyticsQuery struct {
	Tenant   gatehouse.TenantID
	From, To time.Time
	// Step is the length of one bucket.
	Step time.Duration
	// GroupBy is empty, route, status or method.
	GroupBy string
}

// Analytics is a time series of a tenant, from From until before To.
type Analytics struct {
	Tenant gatehouse.TenantID `json:"tenant"`
	From   time.Time          `json:"from"`
	To     time.Time          `json:"to"`
	// Step is the length of a bucket in seconds; it may be longer than asked
	// for where older figures are kept more coarsely.
	Step   int        `json:"step_s"`
	Series []Analytic `json:"series"`
}

// Analytic is the series of one group.
type Analytic struct {
	// Group is the value that GroupBy tells apart.
	Group  string  `json:"group,omitempty"`
	Points []Point `json:"points"`
}

// Point is one bucket of a series, which begins at At.
type Point struct {
	At time.Time `json:"at"`
	Load
}
