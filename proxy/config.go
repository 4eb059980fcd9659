package proxy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// Config is the proxy section of the process configuration. A reload applies
// none of it: changing it takes a restart.
type Config struct {
	// Listen is the address of the data plane. Default 127.0.0.1:8080.
	Listen string `json:"listen"`
	// TLS terminates TLS on an address of its own.
	TLS TLS `json:"tls"`
	// PlatformDomains are hosts whose tenant is found by credential.
	PlatformDomains []PlatformDomain `json:"platform_domains"`
	// TrustedProxies are networks whose word on the client is believed: the
	// field of TrustedHeader, and X-Forwarded-Proto.
	TrustedProxies []netip.Prefix `json:"trusted_proxies"`
	// TrustedHeader is the one field that trusted proxies add the client's
	// address to: x-forwarded-for (default) or forwarded. The other one they
	// may merely have passed on, and it is dropped.
	TrustedHeader TrustedHeader `json:"trusted_header"`
	// ProxyProtocol are networks whose connections begin with a PROXY protocol
	// version 2 header, and must. It is never looked for in others.
	ProxyProtocol []netip.Prefix `json:"proxy_protocol"`
	// HTTP2 bounds HTTP/2, which is served beside HTTP/1.1: over TLS where the
	// client asks for it, else where it begins with it (prior knowledge).
	HTTP2 HTTP2 `json:"http2"`
	// UpstreamAllow are networks that a backend's address may be in.
	// Link-local addresses never are. Default: all.
	UpstreamAllow []netip.Prefix `json:"upstream_allow"`
	// Limits bound what one connection and all of them may take.
	Limits SocketLimits `json:"limits"`
	// Timeouts bound what clients may keep waiting.
	Timeouts SocketTimeouts `json:"timeouts"`
}

// TrustedHeader names a field that says who the client is.
type TrustedHeader string

// The values of Config.TrustedHeader.
const (
	TrustXForwardedFor TrustedHeader = "x-forwarded-for"
	TrustForwarded     TrustedHeader = "forwarded"
)

// UnmarshalText reads one of the two.
func (h *TrustedHeader) UnmarshalText(b []byte) error {
	switch v := TrustedHeader(b); v {
	case TrustXForwardedFor, TrustForwarded:
		*h = v
		return nil
	}
	return fmt.Errorf("x-forwarded-for or forwarded is expected")
}

// TLS configures the TLS listener.
type TLS struct {
	// Listen is the address; empty: none.
	Listen string `json:"listen"`
	// Certificates is a folder of NAME.crt and NAME.key.
	Certificates string `json:"certificates"`
}

// HTTP2 configures HTTP/2 for clients.
type HTTP2 struct {
	// Off turns it off.
	Off bool `json:"off"`
	// Streams is the most requests in flight on one connection. Default 100.
	Streams int `json:"streams"`
}

// SocketLimits bound memory and connections.
type SocketLimits struct {
	// HeaderBytes is the largest request head. Default 16KiB.
	HeaderBytes gatehouse.ByteSize `json:"header_bytes"`
	// Body is the largest request body, where the route does not say. Default
	// 10MiB.
	Body gatehouse.ByteSize `json:"body"`
	// Connections is the most connections held at once. Default 20000.
	Connections int `json:"connections"`
	// PerAddress is the most of them from one address; 0: no bound. Default 0.
	PerAddress int `json:"per_address"`
	// Handshakes is the most TLS handshakes under way at once; others wait
	// their turn within Timeouts.Header. Default 64.
	Handshakes int `json:"handshakes"`
	// PerTenant keeps one tenant from using up what all share.
	PerTenant TenantBounds `json:"per_tenant"`
}

// TenantBounds are held by each tenant on its own.
type TenantBounds struct {
	// Requests in flight at once. Default 5000.
	Requests int `json:"requests"`
	// Queue is how many more may wait; others get 503 at once. Default 1000.
	Queue int `json:"queue"`
	// Wait is how long they may, before they get 503. Default 1s.
	Wait gatehouse.Duration `json:"wait"`
	// Tunnels is the most upgraded connections held at once. Default 10000.
	Tunnels int `json:"tunnels"`
}

// SocketTimeouts bound waiting for clients.
type SocketTimeouts struct {
	// Header is the time for a whole request head. Default 10s.
	Header gatehouse.Duration `json:"header"`
	// Idle is how long a connection may rest between requests, and within a
	// body. Default 60s.
	Idle gatehouse.Duration `json:"idle"`
	// Drain is the time that requests in flight get at shutdown. Default 30s.
	Drain gatehouse.Duration `json:"drain"`
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		Listen: "127.0.0.1:8080", TrustedHeader: TrustXForwardedFor,
		Limits: SocketLimits{HeaderBytes: 16 << 10, Body: 10 << 20, Connections: 20000, Handshakes: 64, PerTenant: TenantBounds{
			Requests: 5000, Queue: 1000, Wait: gatehouse.Duration(time.Second), Tunnels: 10000,
		}},
		HTTP2: HTTP2{Streams: 100},
		Timeouts: SocketTimeouts{
			Header: gatehouse.Duration(10 * time.Second),
			Idle:   gatehouse.Duration(time.Minute),
			Drain:  gatehouse.Duration(30 * time.Second),
		},
	}
}

// The credentials that PlatformDomain.Resolve may name.
const (
	ResolveKey   = "key"
	ResolveToken = "token"
)

// PlatformDomain is a host shared by tenants. In the configuration it is a
// host name, resolved by key and token, or a map.
type PlatformDomain struct {
	Host string `json:"host"`
	// Resolve lists key, token or both. Default both.
	Resolve []string `json:"resolve,omitempty"`
}

// UnmarshalJSON reads both forms.
func (p *PlatformDomain) UnmarshalJSON(b []byte) error {
	if b[0] == '"' {
		*p = PlatformDomain{Resolve: []string{ResolveKey, ResolveToken}}
		return json.Unmarshal(b, &p.Host)
	}
	type plain PlatformDomain
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode((*plain)(p)); err != nil || p.Host == "" {
		return fmt.Errorf("a host name or {host, resolve: [key, token]} is expected")
	}
	if len(p.Resolve) == 0 {
		p.Resolve = []string{ResolveKey, ResolveToken}
	}
	for _, r := range p.Resolve {
		if r != ResolveKey && r != ResolveToken {
			return fmt.Errorf("resolve %q is unknown: use key or token", r)
		}
	}
	return nil
}

func (p *PlatformDomain) by(credential string) bool {
	return p != nil && slices.Contains(p.Resolve, credential)
}

// HeaderStyle is how limits are told to callers.
type HeaderStyle string

// The header styles.
const (
	// HeadersIETF is RateLimit-Policy and RateLimit as in
	// draft-ietf-httpapi-ratelimit-headers-11. The default.
	HeadersIETF HeaderStyle = "ietf"
	// HeadersDraft03 is RateLimit-Limit, -Remaining and -Reset of draft 03.
	HeadersDraft03 HeaderStyle = "draft03"
	// HeadersX is the X-RateLimit-* of custom.
	HeadersX HeaderStyle = "x"
	// HeadersOff tells nothing but Retry-After.
	HeadersOff HeaderStyle = "off"
)

// UnmarshalText reads one of the styles.
func (s *HeaderStyle) UnmarshalText(b []byte) error {
	switch v := HeaderStyle(b); v {
	case HeadersIETF, HeadersDraft03, HeadersX, HeadersOff:
		*s = v
		return nil
	}
	return fmt.Errorf("ietf, draft03, x or off is expected")
}
