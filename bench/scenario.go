package main

import "time"

// scenario is one kind of work that peers are measured at.
type scenario struct {
	name string
	// what says in a line what is measured.
	what string
	// tenants, each with a host and a backend of its own. Load goes to the
	// first active of them, by turns.
	tenants int
	// auth is what callers show: "", key or jwt.
	auth string
	// limits are held on every request.
	limits int
	// policy is decided by Rego on every request.
	policy bool
	// log writes an access record to a file for every request.
	log bool
	// redis holds the limits in lease mode.
	redis bool
	// tls is spoken by clients, on kept connections; with handshakes there is
	// a new connection for every request.
	tls, handshakes bool
	// path and upload are what is asked for; upload is the bytes of a body.
	path   string
	upload int
	// connections of the load; 64 unless given.
	connections int
	// cores of the proxy; 1 unless given.
	cores int
	// rate is that of an open loop, in requests a second; 0: a closed loop.
	rate int
	// churn is changes of other tenants a second.
	churn int
	// noisy has one tenant ask for ten times its limit meanwhile.
	noisy bool
	// peers by name that do the same work; gatehouse always does.
	peers []string
	// as lets a peer do the work of another scenario instead: what it is held
	// against.
	as map[string]string
	// bounds are the promised ratios of CPU per request to peers.
	bounds map[string]promise
}

// promise is a ratio that is not to be passed, and its name in the promises.
type promise struct {
	name string
	most float64
	p99  bool // the ratio is that of the p99, and not of CPU time
}

const active = 1000

// thoseAsked is Gatehouse with the active tenants alone.
const thoseAsked = "those asked"

// withoutChanges is the same process in the rounds in which nothing is changed.
const withoutChanges = "without changes"

// scenarios are in the order in which they are run.
func scenarios() []scenario {
	everything := scenario{auth: "jwt", limits: 4, policy: true, log: true}
	with := func(s scenario, change func(*scenario)) scenario {
		change(&s)
		return s
	}
	return []scenario{
		{name: "plain", what: "one tenant, 1 KiB of JSON", tenants: 1, peers: []string{"nginx", "haproxy", "caddy", "traefik", "fasthttp", "fasthttp-quiet", "relay"}, bounds: map[string]promise{"fasthttp": {name: "S3", most: 1.05}}},
		{name: "tenants-1000", what: "1,000 tenants with own backends", tenants: 1000, peers: []string{"nginx", "haproxy", "fasthttp"}},
		{name: "tenants-100000", what: "100,000 tenants, of which 1,000 are asked, beside those alone", tenants: 100_000, peers: nil, bounds: map[string]promise{thoseAsked: {name: "S6", most: 1.05}}},
		{name: "key", what: "an API key", tenants: 1, auth: "key", peers: []string{"nginx", "haproxy"}},
		{name: "jwt", what: "a token, RS256", tenants: 1, auth: "jwt", peers: []string{"haproxy"}},
		{name: "jwt-limits", what: "a token and one limit", tenants: 1, auth: "jwt", limits: 1, peers: []string{"haproxy"}},
		with(everything, func(s *scenario) {
			s.name, s.what, s.tenants = "everything", "token, policy, four limits, metering, access log; 1,000 tenants with own backends", 1000
			s.peers = []string{"nginx", "haproxy"}
			s.as = map[string]string{"nginx": "tenants-1000", "haproxy": "jwt-limits-1000"}
			s.bounds = map[string]promise{"nginx": {name: "S1", most: 1.00}, "haproxy": {name: "S2", most: 0.90}}
		}),
		with(everything, func(s *scenario) {
			s.name, s.what, s.tenants = "everything-1", "the same for one tenant, of which everything is in the caches", 1
			s.peers = []string{"fasthttp"}
			s.as = map[string]string{"fasthttp": "plain"}
		}),
		{name: "policy", what: "a token and a policy, against nginx with an OPA sidecar", tenants: 1, auth: "jwt", policy: true, peers: []string{"nginx-opa"}, bounds: map[string]promise{"nginx-opa": {name: "S4", most: 0.125}}},
		with(everything, func(s *scenario) {
			s.name, s.what, s.tenants, s.redis = "redis", "everything, the limits leased from Redis", 1000, true
		}),
		{name: "tls", what: "TLS 1.3 on kept connections", tenants: 1, tls: true, peers: []string{"nginx", "haproxy"}, bounds: map[string]promise{"nginx": {name: "S8", most: 1.10}}},
		{name: "handshakes", what: "a TLS handshake for every request", tenants: 1, tls: true, handshakes: true, peers: []string{"nginx", "haproxy"}, bounds: map[string]promise{"nginx": {name: "S8", most: 1.20}}},
		{name: "upload", what: "10 KiB up", tenants: 1, upload: 10 << 10, peers: []string{"nginx", "haproxy", "fasthttp"}, bounds: map[string]promise{"haproxy": {name: "S7", most: 1.25}}},
		{name: "download", what: "1 MiB down", tenants: 1, path: "/1m", peers: []string{"nginx", "haproxy", "fasthttp", "relay"}, bounds: map[string]promise{"haproxy": {name: "S7", most: 1.00}}},
		{name: "plain-c1", what: "one connection", tenants: 1, connections: 1, peers: []string{"nginx", "haproxy"}},
		{name: "plain-c512", what: "512 connections", tenants: 1, connections: 512, peers: []string{"nginx", "haproxy"}},
		{name: "plain-2-cores", what: "the proxy on two cores, which it shares with the load", tenants: 1, cores: 2, peers: []string{"nginx", "haproxy"}},
		with(everything, func(s *scenario) {
			s.name, s.what, s.tenants, s.rate = "latency", "everything, open loop", 1000, 4000
			s.peers = []string{"nginx"}
			s.as = map[string]string{"nginx": "tenants-1000"}
		}),
		with(everything, func(s *scenario) {
			s.name, s.what, s.tenants, s.rate, s.churn = "churn", "the same with ten changes a second, and without in turn", 1000, 4000, 10
			s.bounds = map[string]promise{withoutChanges: {name: "S6", most: 1.05, p99: true}}
		}),
		with(everything, func(s *scenario) {
			s.name, s.what, s.tenants, s.rate, s.noisy = "noisy", "the same beside a tenant at ten times its limit", 1000, 4000, true
		}),
	}
}

// others are what peers do in place of a scenario that is Gatehouse's alone.
func others() map[string]scenario {
	return map[string]scenario{
		"plain":           {name: "plain", tenants: 1},
		"tenants-1000":    {name: "tenants-1000", tenants: 1000},
		"jwt-limits-1000": {name: "jwt-limits-1000", tenants: 1000, auth: "jwt", limits: 1},
	}
}

// work is what one round takes.
type work struct {
	rounds int
	length time.Duration
}
