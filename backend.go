package gatehouse

import "time"

// BackendID names a backend within its tenant: a lower-case DNS label.
type BackendID string

// Balance is how a backend's endpoints share its requests.
type Balance string

// The values of Backend.Balance.
const (
	// RoundRobin takes endpoints in turn by weight, smoothly. The default.
	RoundRobin Balance = "round_robin"
	// LeastRequests takes, of two endpoints drawn at random by weight, the
	// one with fewer requests in flight.
	LeastRequests Balance = "least_requests"
	// ConsistentHash sends equal Backend.HashBy values to one endpoint and
	// moves few of them when endpoints come and go.
	ConsistentHash Balance = "consistent_hash"
)

// Backend is one upstream service of a tenant. Its connections are used by
// this tenant and this backend only.
type Backend struct {
	// ID is unique within the tenant.
	ID BackendID `json:"id"`
	// Endpoints are the service's instances; at least one.
	Endpoints []Endpoint `json:"endpoints"`
	// Balance is round_robin (default), least_requests or consistent_hash.
	Balance Balance `json:"balance,omitempty"`
	// HashBy is what consistent_hash goes by. Default: principal, and the
	// client address for an anonymous caller.
	HashBy Selector `json:"hash_by,omitzero"`
	// Health checks endpoints actively when Path is set.
	Health Health `json:"health,omitzero"`
	// Timeouts of the phases of a request to the backend.
	Timeouts Timeouts `json:"timeouts,omitzero"`
	// Retries say when a failed attempt is made again.
	Retries Retries `json:"retries,omitzero"`
	// MaxConnections bounds the open connections to each endpoint. A request
	// beyond it waits up to Timeouts.Connect, then gets 503. Default 256.
	MaxConnections int `json:"max_connections,omitempty"`
}

// Endpoint is one instance of a backend.
type Endpoint struct {
	// URL is http://host:port or https://host:port, without path or query.
	URL string `json:"url"`
	// Weight is the endpoint's share. Default 1.
	Weight int `json:"weight,omitempty"`
}

// Health is an active check: GET Path on every endpoint each Interval; any
// 2xx answer within the interval is a success. While every endpoint is
// unhealthy all of them are used.
type Health struct {
	// Path of the check. Absent: no active checks.
	Path string `json:"path,omitempty"`
	// Interval between checks of one endpoint. Default 5s.
	Interval Duration `json:"interval,omitzero"`
	// UnhealthyAfter so many failures in a row. Default 3.
	UnhealthyAfter int `json:"unhealthy_after,omitempty"`
	// HealthyAfter so many successes in a row. Default 2.
	HealthyAfter int `json:"healthy_after,omitempty"`
}

// Timeouts bound the phases of a request to a backend.
type Timeouts struct {
	// Connect bounds dialling, TLS and waiting for a free connection.
	// Default 2s.
	Connect Duration `json:"connect,omitzero"`
	// FirstByte bounds the wait for the response header once the request has
	// been written. Default 30s.
	FirstByte Duration `json:"first_byte,omitzero"`
	// Idle bounds the wait for more of a body in either direction, and is
	// how long an unused connection is kept. Default 60s.
	Idle Duration `json:"idle,omitzero"`
}

// The causes that Retries.On may name beside a status such as "503".
const (
	// RetryConnect is a failure before any byte of the request was sent.
	RetryConnect = "connect"
	// RetryReset is a connection that broke before any byte of the response.
	RetryReset = "reset"
)

// Retries make a failed attempt again, on another endpoint where there is
// one. Only requests that can be repeated without harm are: those with a
// method defined as idempotent (RFC 9110, 9.2.2) and no body, and any request
// that failed before a byte of it was sent.
type Retries struct {
	// Attempts beyond the first. Default 0.
	Attempts int `json:"attempts,omitempty"`
	// Budget is the share of the backend's live requests that may be
	// retries. Default 20%. Three are always allowed.
	Budget Percent `json:"budget,omitzero"`
	// On lists connect, reset and 5xx statuses. Default: connect.
	On []string `json:"on,omitempty"`
}

// Defaults of the fields above, used where the document leaves them out.
const (
	DefaultConnectTimeout   = 2 * time.Second
	DefaultFirstByteTimeout = 30 * time.Second
	DefaultIdleTimeout      = 60 * time.Second
	DefaultHealthInterval   = 5 * time.Second
	DefaultUnhealthyAfter   = 3
	DefaultHealthyAfter     = 2
	DefaultMaxConnections   = 256
	DefaultRetryBudget      = 20 * Percent(percentUnit)
)
