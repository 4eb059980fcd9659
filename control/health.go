package control

import (
	"cmp"
	"slices"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// TenantHealth is the state of what a tenant depends on, at all data planes
// together: the worst state of each thing, and sums of requests and
// connections.
type TenantHealth struct {
	Tenant gatehouse.TenantID `json:"tenant"`
	// AsOf is when the data planes were asked.
	AsOf time.Time `json:"as_of"`
	LiveHealth
	// Gateways are the data planes one by one, where there are some apart
	// from the control plane. Who is of some tenants only is not told them.
	Gateways []GatewayHealth `json:"gateways,omitempty"`
}

// GatewayHealth is what one data plane says; Gateway is its name.
type GatewayHealth struct {
	Gateway string `json:"gateway"`
	// Problem says why the rest is not known; absent where it is.
	Problem string `json:"problem,omitempty"`
	LiveHealth
}

// LiveHealth is the state of what a tenant depends on.
type LiveHealth struct {
	// Status is healthy, degraded or down, or unknown where no data plane has
	// said.
	Status   string          `json:"status"`
	Backends []BackendHealth `json:"backends"`
	Domains  []DomainHealth  `json:"domains"`
	// KeySets are those that are fetched for the tenant's issuers.
	KeySets []KeySetHealth `json:"key_sets,omitempty"`
}

// KeySetHealth is the state of the keys of an issuer.
type KeySetHealth struct {
	// Issuer is the iss of the tokens; URL is where their keys are fetched.
	Issuer string `json:"issuer"`
	URL    string `json:"url"`
	// Status is fetched, failing (the keys at hand stay in force) or missing.
	Status string `json:"status"`
	// Failures counts the fetches that failed in a row.
	Failures int `json:"failures,omitempty"`
}

// BackendHealth is the state of a backend.
type BackendHealth struct {
	Backend gatehouse.BackendID `json:"backend"`
	// Status is healthy, degraded (some of its endpoints are not healthy) or
	// down.
	Status    string           `json:"status"`
	Endpoints []EndpointHealth `json:"endpoints"`
}

// EndpointHealth is the state of one endpoint; URL is as the backend names it.
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

// DomainHealth is the state of one of a tenant's hosts; Host is its name.
type DomainHealth struct {
	Host string `json:"host"`
	// Status is serving, suspended, unprovisioned (there is no route yet), or
	// unreachable: requests for the host do not find the tenant.
	Status string `json:"status"`
	// Certificate is when the certificate for it expires; absent for none.
	Certificate time.Time `json:"certificate_expires,omitzero"`
}

// unknown is a status that nobody has told.
const unknown = "unknown"

// ranks order states of one kind of thing from good to bad.
var ranks = map[string]int{
	"healthy": 1, "fetched": 1, "serving": 1,
	"degraded": 2, "failing": 2, "suspended": 2, "open": 2,
	"unprovisioned": 3, "ejected": 3,
	"down": 4, "missing": 4, "unreachable": 4, "unhealthy": 4,
}

// MergeHealth is what several data planes say together.
func MergeHealth(all []GatewayHealth) LiveHealth {
	out := LiveHealth{Status: unknown, Backends: []BackendHealth{}, Domains: []DomainHealth{}}
	for i := range all {
		h := &all[i]
		if h.Problem != "" {
			continue
		}
		worsen(&out.Status, h.Status)
		for _, b := range h.Backends {
			mine := entry(&out.Backends, BackendHealth{Backend: b.Backend, Endpoints: []EndpointHealth{}}, func(o *BackendHealth) bool { return o.Backend == b.Backend })
			worsen(&mine.Status, b.Status)
			for _, e := range b.Endpoints {
				end := entry(&mine.Endpoints, EndpointHealth{URL: e.URL}, func(o *EndpointHealth) bool { return o.URL == e.URL })
				if worsen(&end.Status, e.Status) {
					end.Reason = e.Reason
				}
				end.InFlight, end.Connections = end.InFlight+e.InFlight, end.Connections+e.Connections
			}
		}
		for _, d := range h.Domains {
			mine := entry(&out.Domains, DomainHealth{Host: d.Host}, func(o *DomainHealth) bool { return o.Host == d.Host })
			worsen(&mine.Status, d.Status)
			if mine.Certificate.IsZero() || !d.Certificate.IsZero() && d.Certificate.Before(mine.Certificate) {
				mine.Certificate = d.Certificate
			}
		}
		for _, k := range h.KeySets {
			mine := entry(&out.KeySets, KeySetHealth{Issuer: k.Issuer, URL: k.URL}, func(o *KeySetHealth) bool { return o.Issuer == k.Issuer && o.URL == k.URL })
			worsen(&mine.Status, k.Status)
			mine.Failures = max(mine.Failures, k.Failures)
		}
	}
	return out
}

// worsen reports whether to is worse than the status, which it becomes then.
func worsen(status *string, to string) bool {
	worse := cmp.Less(ranks[*status], ranks[to])
	if worse {
		*status = to
	}
	return worse
}

// entry is the one of a list that is meant, added where there is none.
func entry[T any](list *[]T, fresh T, meant func(*T) bool) *T {
	i := slices.IndexFunc(*list, func(o T) bool { return meant(&o) })
	if i < 0 {
		i = len(*list)
		*list = append(*list, fresh)
	}
	return &(*list)[i]
}
