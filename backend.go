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
	// Outliers takes endpoints that fail requests out of the balance.
	Outliers Outliers `json:"outliers,omitzero"`
	// Circuit stops sending to an endpoint that fails too large a share of
	// its requests.
	Circuit Circuit `json:"circuit,omitzero"`
	// SlowStart is the time over which an endpoint that was added or became
	// healthy again grows from a tenth of its weight to the whole. Absent: it
	// has its weight at once.
	SlowStart Duration `json:"slow_start,omitzero"`
	// Resolve is the time between two look-ups of endpoints' names. Requests
	// are spread over all addresses of a name, and connections to an address
	// that it no longer has are closed as they become free. Default 30s.
	Resolve Duration `json:"resolve,omitzero"`
	// Protocol is http1 (default) or h2: HTTP/2 over TLS by ALPN, and with
	// prior knowledge where the endpoint's URL is http.
	Protocol Protocol `json:"protocol,omitempty"`
	// TLS of https endpoints.
	TLS BackendTLS `json:"tls,omitzero"`
	// MaxConnections bounds the open connections to each endpoint. A request
	// beyond it waits up to Timeouts.Connect, then gets 503. Default 256.
	MaxConnections int `json:"max_connections,omitempty"`
	// MaxWaiting bounds the requests that wait for a connection to one
	// endpoint; one more gets 503 at once. Default 1024.
	MaxWaiting int `json:"max_waiting,omitempty"`
}

// Protocol is what a backend is spoken to in.
type Protocol string

// The values of Backend.Protocol.
const (
	HTTP1 Protocol = "http1"
	HTTP2 Protocol = "h2"
)

// BackendTLS is how the https endpoints of a backend are verified, and what
// is shown to them. Files are PEM, relative to the document's file.
type BackendTLS struct {
	// CAFile holds the authorities that endpoints' certificates are verified
	// by. Default: the system's.
	CAFile string `json:"ca_file,omitempty"`
	// CertFile and KeyFile are the certificate shown to endpoints that ask
	// for one. Both or neither.
	CertFile string `json:"cert_file,omitempty"`
	KeyFile  string `json:"key_file,omitempty"`
	// ServerName is what endpoints' certificates are verified for, and the
	// SNI. Default: the host of the endpoint's URL.
	ServerName string `json:"server_name,omitempty"`
	// MinVersion is "1.2" (default) or "1.3".
	MinVersion string `json:"min_version,omitempty"`

	// CA and Cert are the text of the files, put in by the reader of the
	// document.
	CA   string `json:"-"`
	Cert string `json:"-"`
	// Key is the content of KeyFile, put in by the reader.
	Key Secret `json:"-"`
}

// Outliers is passive health: an endpoint that fails Failures requests in a
// row gets none for EjectFor, twice as long each time it fails again soon
// after, up to 5 minutes. What counts is a connection that cannot be made, or
// breaks or stays silent before the answer, and the statuses 502, 503, 504.
type Outliers struct {
	// Off turns it off. Default: on.
	Off bool `json:"off,omitempty"`
	// Failures in a row. Default 5.
	Failures int `json:"failures,omitempty"`
	// EjectFor is the time of the first ejection. Default 10s.
	EjectFor Duration `json:"eject_for,omitzero"`
	// MaxEjected is the largest share of the endpoints that is ejected at
	// once, rounded down: the only endpoint never is. Default 50%.
	MaxEjected Percent `json:"max_ejected,omitzero"`
}

// Circuit is a breaker of each endpoint. It opens when, of at least
// MinRequests within Window, FailureRatio fail as Outliers counts failures.
// While it is open the endpoint gets no requests; where no other endpoint is
// left they get 503 at once. After OpenFor one request at a time tries the
// endpoint: a success closes the circuit, a failure opens it anew.
type Circuit struct {
	// FailureRatio opens the circuit. Absent: there is none.
	FailureRatio Percent `json:"failure_ratio,omitzero"`
	// MinRequests within the window. Default 20.
	MinRequests int `json:"min_requests,omitempty"`
	// Window is the time that is looked back on. Default 10s.
	Window Duration `json:"window,omitzero"`
	// OpenFor is the time without requests. Default 5s.
	OpenFor Duration `json:"open_for,omitzero"`
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
	DefaultMaxWaiting       = 1024
	DefaultResolve          = 30 * time.Second
	DefaultOutlierFailures  = 5
	DefaultEjectFor         = 10 * time.Second
	MaxEjectFor             = 5 * time.Minute
	DefaultMaxEjected       = 50 * Percent(percentUnit)
	DefaultCircuitRequests  = 20
	DefaultCircuitWindow    = 10 * time.Second
	DefaultCircuitOpenFor   = 5 * time.Second
)
