package gatehouse

import "time"

// RouteID names a route within its tenant: a lower-case DNS label.
type RouteID string

// Auth says whether a route needs an identified caller.
type Auth string

// The values of Route.Auth.
const (
	// AuthNone ignores credentials: the caller is anonymous.
	AuthNone Auth = "none"
	// AuthOptional identifies a caller who sends a credential and lets one
	// who sends none pass as anonymous. A bad credential is refused.
	AuthOptional Auth = "optional"
	// AuthRequired answers 401 without a valid credential. The default.
	AuthRequired Auth = "required"
)

// Route sends the requests that it matches to a backend.
type Route struct {
	// ID is unique within the tenant; policy sees it as input.route.
	ID RouteID `json:"id"`
	// Match says which requests the route takes.
	Match Match `json:"match"`
	// Auth is none, optional or required. Default: required.
	Auth Auth `json:"auth,omitempty"`
	// AnyOf are the credentials that identify the route's callers, the first
	// that a request has in this order. A certificate may come beside another
	// credential; a request with two others is refused. Default: api_key, jwt,
	// opaque, certificate.
	AnyOf []Credential `json:"any_of,omitempty"`
	// AllOf are credentials that a request must have at once, all of them good
	// and of this tenant. The first says who the caller is. Not beside AnyOf,
	// and not both jwt and opaque: a request has one token.
	AllOf []Credential `json:"all_of,omitempty"`
	// Backend is the id of one of the tenant's backends.
	Backend BackendID `json:"backend"`
	// Cost is what one request takes from each limit, in units. Default 1.
	Cost int64 `json:"cost,omitempty"`
	// Limits are stacked on those of the plan and the tenant.
	Limits Limits `json:"limits,omitzero"`
	// Meter says what is counted beside requests and bytes.
	Meter Meter `json:"meter,omitzero"`
	// PathMode says what becomes of a path with an encoded slash or a
	// backslash: reject (default), normalize or raw.
	PathMode PathMode `json:"path_mode,omitempty"`
	// MaxBody is the largest request body. Default: that of the process
	// configuration.
	MaxBody ByteSize `json:"max_body,omitempty"`
	// Trailers lists the fields that may pass behind a body, in either
	// direction. On calls of gRPC all may. Default: none.
	Trailers []string `json:"trailers,omitempty"`
	// Upgrade says which requests may turn their connection into a tunnel.
	Upgrade Upgrade `json:"upgrade,omitzero"`
}

// PathMode says what becomes of a path that backends read in different ways.
type PathMode string

// The values of Route.PathMode.
const (
	// PathReject answers 400 to a path with an encoded slash or a backslash,
	// encoded or not. The default.
	PathReject PathMode = "reject"
	// PathNormalize makes them slashes, and the path canonical anew. The
	// outcome must be of the same route, else the answer is 400.
	PathNormalize PathMode = "normalize"
	// PathRaw keeps them as escapes, and empty segments too. A path that has
	// a dot segment, encoded or not, gets 400.
	PathRaw PathMode = "raw"
)

// Upgrade bounds the tunnels of a route (RFC 9110, 7.8). A request to upgrade
// is decided, limited and counted like any other; what follows is not looked
// into, and its bytes are counted.
type Upgrade struct {
	// Protocols are the values of Upgrade that pass, in lower case. Default
	// [websocket].
	Protocols []string `json:"protocols,omitempty"`
	// Off turns upgrades off: the request goes on without.
	Off bool `json:"off,omitempty"`
	// Idle is how long a tunnel may be silent in both directions. Default 5m.
	Idle Duration `json:"idle,omitzero"`
	// MaxAge is how long a tunnel may live. A WebSocket is then closed with
	// 1001. Default 24h.
	MaxAge Duration `json:"max_age,omitzero"`
}

// Defaults of Upgrade.
const (
	DefaultUpgrade       = "websocket"
	DefaultUpgradeIdle   = 5 * time.Minute
	DefaultUpgradeMaxAge = 24 * time.Hour
)

// Match describes requests. All given conditions must hold.
type Match struct {
	// Path begins with "/". A path that ends in "/" takes everything below
	// it; any other is exact, and "/{$}" is exactly "/". A segment "{name}"
	// takes any one non-empty segment.
	Path string `json:"path"`
	// Methods are case-sensitive. Absent: any method.
	Methods []string `json:"methods,omitempty"`
	// Headers must all match.
	Headers []HeaderMatch `json:"headers,omitempty"`
}

// HeaderMatch tests one request header. With neither Value nor Regex the
// header only has to be present.
type HeaderMatch struct {
	// Name is compared without regard to case.
	Name string `json:"name"`
	// Value must equal one of the header's values.
	Value string `json:"value,omitempty"`
	// Regex (RE2) must match one of the header's values, anywhere in it
	// unless anchored.
	Regex string `json:"regex,omitempty"`
}

// Meter configures custom usage units of a route.
type Meter struct {
	// UnitsHeader is a response header in which the backend reports the
	// units that a request consumed: a decimal number with up to six
	// fractional digits. It is removed from the answer. Default: none.
	UnitsHeader string `json:"units_header,omitempty"`
	// Units are more meters, of the route's own. At most MaxRouteUnits. Default:
	// none.
	Units []Unit `json:"units,omitempty"`
}

// Unit is a meter of what a backend reports.
type Unit struct {
	// Name is that of the meter: a-z, 0-9 and _, a letter first, at most 40
	// long, and none of the gateway's own.
	Name string `json:"name"`
	// Header is the response header, in the form of Meter.UnitsHeader. It is
	// removed from the answer.
	Header string `json:"header"`
}

// MaxRouteUnits bounds Meter.Units.
const MaxRouteUnits = 8
