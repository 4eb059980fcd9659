package gatehouse

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

func (v *validation) backend(at string, b *Backend) {
	if len(b.Endpoints) == 0 {
		v.fault(at+"/endpoints", fmt.Sprintf("backend %q has no endpoints", b.ID), "")
	}
	seen := map[string]string{}
	for i := range b.Endpoints {
		e, at := &b.Endpoints[i], at+Pointer("endpoints", i)
		if reason := endpointFault(e.URL); reason != "" {
			shown := e.URL
			if u, err := url.Parse(e.URL); err == nil && u.User != nil {
				shown = u.Redacted()
			}
			v.fault(at+"/url", fmt.Sprintf("endpoint URL %q %s", clip(shown), reason), "write http://host:port or https://host:port")
		} else {
			unique(v, seen, strings.TrimSuffix(e.URL, "/"), at+"/url", "endpoint")
		}
		v.span(at+"/weight", "weight", int64(e.Weight), 1000)
	}
	oneOf(v, at+"/balance", "balance", b.Balance, RoundRobin, LeastRequests, ConsistentHash)
	if b.HashBy != (Selector{}) && b.Balance != ConsistentHash {
		v.fault(at+"/hash_by", "hash_by has no effect without balance: consistent_hash", "")
	}
	if h := b.Health; h != (Health{}) {
		at := at + "/health"
		if !strings.HasPrefix(h.Path, "/") || strings.ContainsAny(h.Path, " \t\r\n#") {
			v.fault(at+"/path", "health path must begin with / and have no spaces", "")
		}
		v.span(at+"/unhealthy_after", "unhealthy_after", int64(h.UnhealthyAfter), 100)
		v.span(at+"/healthy_after", "healthy_after", int64(h.HealthyAfter), 100)
	}
	v.span(at+"/retries/attempts", "attempts", int64(b.Retries.Attempts), 10)
	if b.Retries.Attempts == 0 && (b.Retries.Budget != 0 || len(b.Retries.On) > 0) {
		v.fault(at+"/retries", "retries have no effect without attempts", "say how many, such as attempts: 2")
	}
	for i, on := range b.Retries.On {
		status, err := strconv.Atoi(on)
		if on != RetryConnect && on != RetryReset && (err != nil || status < 500 || status > 599 || strconv.Itoa(status) != on) {
			v.fault(at+Pointer("retries", "on", i), fmt.Sprintf("retry cause %q is unknown", clip(on)), `use connect, reset or a status from "500" to "599"`)
		}
	}
	v.span(at+"/max_connections", "max_connections", int64(b.MaxConnections), 100_000)
	v.span(at+"/max_waiting", "max_waiting", int64(b.MaxWaiting), 100_000)
	v.span(at+"/outliers/failures", "failures", int64(b.Outliers.Failures), 1000)
	v.span(at+"/circuit/min_requests", "min_requests", int64(b.Circuit.MinRequests), 100_000)
	if b.Circuit != (Circuit{}) && b.Circuit.FailureRatio == 0 {
		v.fault(at+"/circuit/failure_ratio", "failure_ratio is missing", "without it there is no circuit; use a share such as 50%")
	}
	if o := b.Outliers; o.Off && o != (Outliers{Off: true}) {
		v.fault(at+"/outliers", "outliers have no effect with off: true", "")
	}
	v.within(at+"/outliers/eject_for", "eject_for", b.Outliers.EjectFor, 100*time.Millisecond, MaxEjectFor)
	v.within(at+"/circuit/window", "window", b.Circuit.Window, 100*time.Millisecond, time.Hour)
	v.within(at+"/circuit/open_for", "open_for", b.Circuit.OpenFor, 100*time.Millisecond, time.Hour)
	v.within(at+"/slow_start", "slow_start", b.SlowStart, 100*time.Millisecond, time.Hour)
	v.within(at+"/resolve", "resolve", b.Resolve, time.Second, 24*time.Hour)
	oneOf(v, at+"/protocol", "protocol", b.Protocol, HTTP1, HTTP2)
	v.backendTLS(at+"/tls", b)
}

// within faults a time outside its bounds; zero stands for the default.
func (v *validation) within(at, what string, got Duration, least, most time.Duration) {
	if got != 0 && (time.Duration(got) < least || time.Duration(got) > most) {
		v.fault(at, fmt.Sprintf("%s %s is outside %s to %s", what, got, Duration(least), Duration(most)), "")
	}
}

func (v *validation) backendTLS(at string, b *Backend) {
	t := &b.TLS
	oneOf(v, at+"/min_version", "min_version", t.MinVersion, TLS12, TLS13)
	switch {
	case t.CertFile != "" && t.KeyFile == "":
		v.fault(at+"/key_file", "key_file is missing", "a certificate needs its key")
	case t.CertFile == "" && t.KeyFile != "":
		v.fault(at+"/cert_file", "cert_file is missing", "a key needs its certificate")
	}
	if t.ServerName != "" {
		if reason := HostFault(t.ServerName); reason != "" {
			v.fault(at+"/server_name", fmt.Sprintf("server_name %q %s", clip(t.ServerName), reason), "")
		}
	}
	given := t.CAFile+t.CertFile+t.KeyFile+t.ServerName+t.MinVersion != ""
	for _, e := range b.Endpoints {
		if !strings.HasPrefix(e.URL, "https:") {
			continue
		}
		return
	}
	if given {
		v.fault(at, "tls has no effect: no endpoint is https", "")
	}
}

func endpointFault(raw string) string {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return "cannot be parsed"
	case u.Scheme != "http" && u.Scheme != "https":
		return "is not http or https"
	case u.Hostname() == "":
		return "has no host"
	case u.User != nil:
		return "has user information"
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		return "has a path, query or fragment"
	}
	if _, err := netip.ParseAddr(u.Hostname()); err != nil {
		if HostFault(u.Hostname()) != "" {
			return "has a malformed host"
		}
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.Atoi(p); err != nil || n < 1 || n > 65535 {
			return "has a port outside 1 to 65535"
		}
	}
	return ""
}

// span faults a value outside 1 to most; zero stands for the default.
func (v *validation) span(at, what string, got, most int64) {
	if got < 0 || got > most {
		v.fault(at, fmt.Sprintf("%s %d is outside 1 to %d", what, got, most), "")
	}
}

func (v *validation) route(at string, r *Route, backends map[BackendID]bool, matchAt map[string]string) {
	if reason := PathFault(r.Match.Path); reason != "" {
		what := fmt.Sprintf("path %q", clip(r.Match.Path))
		if r.Match.Path == "" {
			what = "path"
		}
		v.fault(at+"/match/path", what+" "+reason, "")
	}
	for i, m := range r.Match.Methods {
		if !isToken(m) || strings.ToUpper(m) != m {
			v.fault(at+Pointer("match", "methods", i), fmt.Sprintf("method %q is not an upper-case token", clip(m)), "")
		} else if m == "CONNECT" || m == "TRACE" {
			v.fault(at+Pointer("match", "methods", i), fmt.Sprintf("method %s is never forwarded", m), "")
		}
	}
	for i, h := range r.Match.Headers {
		at := at + Pointer("match", "headers", i)
		if !isToken(h.Name) {
			v.fault(at+"/name", fmt.Sprintf("header name %q is not a token", clip(h.Name)), "")
		}
		if h.Value != "" && h.Regex != "" {
			v.fault(at, "value and regex exclude each other", "")
		}
		if _, err := regexp.Compile(h.Regex); err != nil {
			v.fault(at+"/regex", strings.TrimPrefix(err.Error(), "error parsing regexp: "), "the syntax is RE2's")
		}
	}
	if r.Match.Path != "" {
		headers := slices.Clone(r.Match.Headers)
		for i := range headers {
			headers[i].Name = strings.ToLower(headers[i].Name)
		}
		slices.SortFunc(headers, func(a, b HeaderMatch) int {
			return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Value, b.Value), cmp.Compare(a.Regex, b.Regex))
		})
		key := fmt.Sprintf("%q %q %q", matchKey(r.Match.Path), slices.Compact(slices.Sorted(slices.Values(r.Match.Methods))), headers)
		if first, dup := note(matchAt, key, at+"/match"); dup {
			v.faults = append(v.faults, Fault{
				Pointer: at + "/match", Also: first,
				Reason: "two routes match exactly the same requests", Hint: "only the first could ever be used",
			})
		}
	}
	oneOf(v, at+"/auth", "auth", r.Auth, AuthNone, AuthOptional, AuthRequired)
	switch {
	case r.Backend == "":
		v.fault(at+"/backend", "backend is missing", "")
	case !backends[r.Backend]:
		v.fault(at+"/backend", fmt.Sprintf("backend %q does not exist in this tenant", clip(string(r.Backend))), suggest(string(r.Backend), maps.Keys(backends)))
	}
	v.span(at+"/cost", "cost", r.Cost, MaxUnits)
	v.limits(at+"/limits", &r.Limits, routeScope)
	if h := r.Meter.UnitsHeader; h != "" && !isToken(h) {
		v.fault(at+"/meter/units_header", fmt.Sprintf("header name %q is not a token", clip(h)), "")
	}
	v.units(at+"/meter", &r.Meter)
	oneOf(v, at+"/path_mode", "path_mode", r.PathMode, PathReject, PathNormalize, PathRaw)
	if r.MaxBody < 0 {
		v.fault(at+"/max_body", "max_body is negative", "")
	}
	trailers := map[string]string{}
	for i, name := range r.Trailers {
		unique(v, trailers, strings.ToLower(name), at+Pointer("trailers", i), "trailer")
		if !isToken(name) {
			v.fault(at+Pointer("trailers", i), fmt.Sprintf("%q is not a field name", clip(name)), "")
			continue
		}
		name := strings.ReplaceAll(name, "_", "-") // CGI and its heirs read both as the same
		if name == "*" || reservedHeader(name) || strings.HasPrefix(strings.ToLower(name), "content-") {
			v.fault(at+Pointer("trailers", i), fmt.Sprintf("%q cannot be a trailer", clip(name)), "fields that say how to read a message come before it (RFC 9110, 6.5.1)")
		}
	}
	for i, p := range r.Upgrade.Protocols {
		at := at + Pointer("upgrade", "protocols", i)
		switch {
		case !isToken(strings.ReplaceAll(p, "/", "")) || strings.ToLower(p) != p:
			v.fault(at, fmt.Sprintf("protocol %q is not a token in lower case", clip(p)), "")
		case p == "h2" || p == "h2c" || p == "http" || strings.HasPrefix(p, "http/") || strings.HasPrefix(p, "tls"):
			v.fault(at, fmt.Sprintf("protocol %q cannot be tunnelled", clip(p)), "requests in it would pass unseen")
		}
	}
	if r.Upgrade.Protocols != nil && len(r.Upgrade.Protocols) == 0 {
		v.fault(at+"/upgrade/protocols", "protocols is empty", "leave it out for [websocket], or use off: true")
	}
	if r.Upgrade.Off && len(r.Upgrade.Protocols) > 0 {
		v.fault(at+"/upgrade/protocols", "protocols have no effect with off: true", "")
	}
}

// ownMeters are the gateway's: a route has no meter of such a name.
var ownMeters = []string{
	"requests", "requests_billable", "requests_interrupted", "bytes_in", "bytes_out", "compute_us", "units", "overage",
}

var meterName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,39}$`)

// units checks the meters that a backend reports in headers, each in one.
func (v *validation) units(at string, m *Meter) {
	if len(m.Units) > MaxRouteUnits {
		v.fault(at+"/units", fmt.Sprintf("more than %d meters", MaxRouteUnits), "")
	}
	headers := map[string]string{}
	if m.UnitsHeader != "" {
		headers[strings.ToLower(m.UnitsHeader)] = at + "/units_header"
	}
	names := map[string]string{}
	for i := range m.Units {
		u, at := &m.Units[i], at+Pointer("units", i)
		switch {
		case !meterName.MatchString(u.Name):
			v.fault(at+"/name", fmt.Sprintf("meter %q is not of a-z, 0-9 and _, with a letter first and at most 40 long", clip(u.Name)), "")
		case slices.Contains(ownMeters, u.Name):
			v.fault(at+"/name", fmt.Sprintf("meter %q is one of the gateway's own", u.Name), "choose another name")
		}
		unique(v, names, u.Name, at+"/name", "meter")
		if !isToken(u.Header) {
			v.fault(at+"/header", fmt.Sprintf("header name %q is not a token", clip(u.Header)), "")
		}
		unique(v, headers, strings.ToLower(u.Header), at+"/header", "header")
	}
}

var paramSegment = regexp.MustCompile(`^\{[a-z][a-z0-9_]*\}$`)

// matchKey is the path with parameters made nameless: what it matches.
func matchKey(path string) string {
	segments := strings.Split(path, "/")
	for i, s := range segments {
		if paramSegment.MatchString(s) {
			segments[i] = "{}"
		}
	}
	return strings.Join(segments, "/")
}

// PathFault says what keeps path from being a route's path; "" when nothing.
func PathFault(path string) string {
	if path == "" {
		return "is missing"
	}
	if path[0] != '/' {
		return "does not begin with /"
	}
	if path == "/{$}" {
		return ""
	}
	names := map[string]bool{}
	segments := strings.Split(strings.TrimSuffix(path[1:], "/"), "/")
	for i, s := range segments {
		switch {
		case s == "" && len(segments) > 1:
			return "has an empty segment"
		case s == "." || s == "..":
			return "has a dot segment"
		case paramSegment.MatchString(s):
			if names[s] {
				return fmt.Sprintf("has the parameter %s twice", s)
			}
			names[s] = true
		case strings.ContainsAny(s, "{}"):
			return fmt.Sprintf("has a malformed parameter in segment %d", i+1)
		case strings.ContainsAny(s, "?#%\\*"):
			return "has one of ? # % \\ *"
		}
		for j := range len(s) {
			if s[j] <= ' ' || s[j] >= 0x7f {
				return "has a space or a character outside printable ASCII"
			}
		}
	}
	return ""
}
