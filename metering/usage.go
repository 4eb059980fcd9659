package metering

import (
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// Counts is what was counted. Sums of counts are exact.
type Counts struct {
	// Requests that matched a route, and of these how many by Status.
	Requests int64  `json:"requests"`
	Status   Status `json:"status"`
	// Denied requests were refused by the gateway; they are among Requests.
	Denied int64 `json:"denied"`
	// BytesIn and BytesOut are bytes of bodies, from and to the caller.
	BytesIn  int64 `json:"bytes_in"`
	BytesOut int64 `json:"bytes_out"`
	// Compute is microseconds.
	Compute int64 `json:"compute_us"`
	// Units are custom units in millionths.
	Units int64 `json:"units_millionths"`
}

// Status counts requests by status class.
type Status struct {
	// Informational, Success, Redirection, ClientError and ServerError count the
	// answers of each class.
	Informational int64 `json:"1xx"`
	Success       int64 `json:"2xx"`
	Redirection   int64 `json:"3xx"`
	ClientError   int64 `json:"4xx"`
	ServerError   int64 `json:"5xx"`
}

func (c *Counts) add(o *Counts) {
	c.Requests += o.Requests
	c.Status.Informational += o.Status.Informational
	c.Status.Success += o.Status.Success
	c.Status.Redirection += o.Status.Redirection
	c.Status.ClientError += o.Status.ClientError
	c.Status.ServerError += o.Status.ServerError
	c.Denied += o.Denied
	c.BytesIn += o.BytesIn
	c.BytesOut += o.BytesOut
	c.Compute += o.Compute
	c.Units = plus(c.Units, o.Units)
}

// Usage is the usage of one tenant. Routes add up to Total, and so do
// Principals and OtherPrincipals.
type Usage struct {
	Tenant gatehouse.TenantID `json:"tenant"`
	// AsOf is when the counters were read.
	AsOf time.Time `json:"as_of"`
	// Since is when the tenant was first metered; zero if it never was.
	Since time.Time `json:"since,omitzero"`
	Total Counts    `json:"total"`
	// Routes are in the order of their ids. Requests that matched no route are
	// not metered.
	Routes []RouteUsage `json:"routes"`
	// Principals are those with the most requests, at most TopPrincipals.
	Principals []PrincipalUsage `json:"principals"`
	// OtherPrincipals is everyone else.
	OtherPrincipals Counts `json:"other_principals"`
}

// RouteUsage is the part of one route.
type RouteUsage struct {
	Route gatehouse.RouteID `json:"route"`
	Counts
}

// PrincipalUsage is the part of one principal, over all routes.
type PrincipalUsage struct {
	// Principal is empty for callers without one. One that is not plain text
	// of at most 128 bytes is shown as sha256: and its hash.
	Principal string `json:"principal"`
	Counts
}

// TopPrincipals bounds Usage.Principals.
const TopPrincipals = 100

// Usage returns the usage of a tenant up to now; zero counts for one that was
// never metered.
func (m *Meter) Usage(id gatehouse.TenantID, now time.Time) Usage {
	u := Usage{Tenant: id, AsOf: now.UTC(), Routes: []RouteUsage{}, Principals: []PrincipalUsage{}}
	m.mu.Lock()
	t := m.tenants[id]
	if t != nil {
		u.Since = t.since
	}
	m.mu.Unlock()
	if t == nil {
		return u
	}
	routes := map[gatehouse.RouteID]*Counts{}
	people := map[string]*Counts{}
	m.past.RLock()
	for _, s := range t.all() {
		c := s.counts()
		if c == (Counts{}) || s.key.unit != "" {
			continue // seen, not counted; or a meter of its own
		}
		u.Total.add(&c)
		sum(routes, s.key.Route, &c)
		if s.key.Consumer == Overflow {
			u.OtherPrincipals.add(&c)
		} else {
			sum(people, s.key.Consumer, &c)
		}
	}
	m.past.RUnlock()
	for id, c := range routes {
		u.Routes = append(u.Routes, RouteUsage{id, *c})
	}
	slices.SortFunc(u.Routes, func(a, b RouteUsage) int { return strings.Compare(string(a.Route), string(b.Route)) })
	for name, c := range people {
		u.Principals = append(u.Principals, PrincipalUsage{name, *c})
	}
	slices.SortFunc(u.Principals, func(a, b PrincipalUsage) int {
		if a.Requests != b.Requests {
			return int(max(min(b.Requests-a.Requests, 1), -1))
		}
		return strings.Compare(a.Principal, b.Principal)
	})
	if len(u.Principals) > TopPrincipals {
		for _, p := range u.Principals[TopPrincipals:] {
			u.OtherPrincipals.add(&p.Counts)
		}
		u.Principals = slices.Clip(u.Principals[:TopPrincipals])
	}
	return u
}

func sum[K comparable](m map[K]*Counts, k K, c *Counts) {
	if m[k] == nil {
		m[k] = new(Counts)
	}
	m[k].add(c)
}

// counts adds up what is known of a series; m.past is read-held.
func (s *Series) counts() Counts {
	v := s.before
	v.add(&s.sealed)
	for _, r := range s.meter.live.of(s, nil) {
		r.stripe.mu.Lock()
		got := r.read()
		r.stripe.mu.Unlock()
		if got.window == r.window {
			v.add(&got.values)
		}
	}
	return v.counts()
}
