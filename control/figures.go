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

// TenantMetrics are live figures of a tenant, of this process since it began
// or over the window named.
type TenantMetrics struct {
	Tenant gatehouse.TenantID `json:"tenant"`
	AsOf   time.Time          `json:"as_of"`
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
	// Limits are where the limits stand, as explain has them.
	Limits []json.RawMessage `json:"limits"`
	// Backends are the connections to each.
	Backends []BackendConnections `json:"backends"`
	// Routes are the same by route.
	Routes []RouteMetrics `json:"routes,omitempty"`
}

// BackendConnections are the connections to a backend, and the requests that
// are under way on them.
type BackendConnections struct {
	Backend  gatehouse.BackendID `json:"backend"`
	Open     int                 `json:"open"`
	Idle     int                 `json:"idle"`
	InFlight int                 `json:"in_flight"`
}

// Load is what requests came to within a window.
type Load struct {
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

// TenantHealth is the state of what a tenant depends on.
type TenantHealth struct {
	Tenant gatehouse.TenantID `json:"tenant"`
	AsOf   time.Time          `json:"as_of"`
	// Status is healthy, degraded or down.
	Status   string          `json:"status"`
	Backends []BackendHealth `json:"backends"`
	Domains  []DomainHealth  `json:"domains"`
	// KeySets are those that are fetched for the tenant's issuers.
	KeySets []KeySetHealth `json:"key_sets,omitempty"`
}

// KeySetHealth is the state of the keys of an issuer.
type KeySetHealth struct {
	Issuer string `json:"issuer"`
	URL    string `json:"url"`
	// Status is fetched, failing (the keys at hand stay in force) or missing.
	Status string `json:"status"`
	// Failures counts the fetches that failed in a row.
	Failures int `json:"failures,omitempty"`
}

// BackendHealth is the state of a backend.
type BackendHealth struct {
	Backend   gatehouse.BackendID `json:"backend"`
	Status    string              `json:"status"`
	Endpoints []EndpointHealth    `json:"endpoints"`
}

// EndpointHealth is the state of one endpoint.
type EndpointHealth struct {
	URL string `json:"url"`
	// Status is healthy, unhealthy, ejected or open (its circuit is).
	Status string `json:"status"`
	// InFlight are requests under way, Connections those that are open.
	InFlight    int `json:"in_flight"`
	Connections int `json:"connections"`
	// Reason says why it is not healthy.
	Reason string `json:"reason,omitempty"`
}

// DomainHealth is the state of one of a tenant's hosts.
type DomainHealth struct {
	Host string `json:"host"`
	// Status is serving, suspended, unprovisioned (there is no route yet), or
	// unreachable: requests for the host do not find the tenant.
	Status string `json:"status"`
	// Certificate is when the certificate for it expires; absent for none.
	Certificate time.Time `json:"certificate_expires,omitzero"`
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

// Analytics is a time series of a tenant.
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

// Point is one bucket of a series.
type Point struct {
	At time.Time `json:"at"`
	Load
}
