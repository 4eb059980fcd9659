package gatehouse

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
)

// Document is a whole configuration: every plan and every tenant.
type Document struct {
	// Plans that tenants subscribe to. A tenant names one by its id.
	Plans []Plan `json:"plans,omitempty"`
	// Tenants served by the gateway.
	Tenants []Tenant `json:"tenants,omitempty"`
}

// PlanID names a plan: a lower-case DNS label.
type PlanID string

// Plan is a commercial plan: the limits that each of its tenants is held to.
type Plan struct {
	// ID is unique among plans.
	ID PlanID `json:"id"`
	// Name is for people. Default: the id.
	Name string `json:"name,omitempty"`
	// Limits are stacked under the tenant's own and the route's.
	Limits Limits `json:"limits,omitzero"`
}

// TenantID names a tenant: a lower-case DNS label. It appears in metrics,
// records and paths of the control API.
type TenantID string

// Status says whether a tenant is served.
type Status string

// The states of a tenant.
const (
	// Active tenants are served. The default.
	Active Status = "active"
	// Suspended tenants answer every request with 403 tenant-suspended.
	Suspended Status = "suspended"
)

// Tenant is one customer of the platform: the unit of everything.
type Tenant struct {
	// ID is unique among tenants.
	ID TenantID `json:"id"`
	// Name is for people. Default: the id.
	Name string `json:"name,omitempty"`
	// Status is active (default) or suspended.
	Status Status `json:"status,omitempty"`
	// Domain is the primary host name. Absent: the tenant is reached through
	// a platform domain, by API key or token.
	Domain string `json:"domain,omitempty"`
	// Aliases are further host names; "*.example.com" stands for every name
	// below example.com, at any depth, and yields to an exact name.
	Aliases []string `json:"aliases,omitempty"`
	// Plan is the id of the tenant's plan. Absent: no plan limits.
	Plan PlanID `json:"plan,omitempty"`
	// TimeZone is the IANA zone in which calendar windows begin. Default UTC.
	TimeZone string `json:"time_zone,omitempty"`
	// TLS is how the tenant's hosts are served over TLS.
	TLS TenantTLS `json:"tls,omitzero"`
	// Features are switches that policy reads as input.features.
	Features Features `json:"features,omitempty"`
	// Identity says how callers prove who they are.
	Identity Identity `json:"identity,omitzero"`
	// Backends are the tenant's own upstream services.
	Backends []Backend `json:"backends,omitempty"`
	// Routes map requests to backends; the most specific match wins.
	Routes []Route `json:"routes,omitempty"`
	// Limits hold every request of the tenant.
	Limits Limits `json:"limits,omitzero"`
	// Policy holds the tenant's Rego modules.
	Policy Policy `json:"policy,omitzero"`
	// Security and Scaling are settings of capabilities around the proxy.
	Security Security `json:"security,omitzero"`
	Scaling  Scaling  `json:"scaling,omitzero"`
}

// TenantTLS is how a tenant's hosts are served over TLS. Their certificates
// are those of the process configuration, chosen by name.
type TenantTLS struct {
	// MinVersion is "1.2" (default) or "1.3".
	MinVersion string `json:"min_version,omitempty"`
}

// The values of TenantTLS.MinVersion and BackendTLS.MinVersion.
const (
	TLS12 = "1.2"
	TLS13 = "1.3"
)

// Hosts returns the domain, if any, and the aliases, in document order.
func (t *Tenant) Hosts() []string {
	if t.Domain == "" {
		return t.Aliases
	}
	return append([]string{t.Domain}, t.Aliases...)
}

// AllHosts goes through what Hosts returns, and allocates nothing.
func (t *Tenant) AllHosts() iter.Seq[string] {
	return func(yield func(string) bool) {
		if t.Domain != "" && !yield(t.Domain) {
			return
		}
		for _, a := range t.Aliases {
			if !yield(a) {
				return
			}
		}
	}
}

// Features are named switches. In the document they are a list of names, all
// on, or a map of name to true or false.
type Features map[string]bool

// UnmarshalJSON reads both forms.
func (f *Features) UnmarshalJSON(b []byte) error {
	*f = Features{}
	if b = bytes.TrimSpace(b); len(b) > 0 && b[0] == '[' {
		var names []string
		if err := json.Unmarshal(b, &names); err != nil {
			return fmt.Errorf("a list of feature names, or a map of name to true or false, is expected")
		}
		for _, n := range names {
			(*f)[n] = true
		}
		return nil
	}
	var m map[string]bool
	if err := json.Unmarshal(b, &m); err != nil {
		return fmt.Errorf("a list of feature names, or a map of name to true or false, is expected")
	}
	*f = m
	return nil
}

// On returns the names of the features that are on, sorted.
func (f Features) On() []string {
	var on []string
	for name, v := range f {
		if v {
			on = append(on, name)
		}
	}
	slices.Sort(on)
	return on
}

// Policy is a tenant's own authorization policy. It is evaluated after the
// platform baseline, and both must allow.
type Policy struct {
	// Modules are compiled together. Absent: the baseline alone decides.
	Modules []Module `json:"modules,omitempty"`
	// Shadow modules are evaluated beside Modules on live requests. What they
	// say is counted and sampled where it differs, and never applied.
	Shadow []Module `json:"shadow,omitempty"`
	// Log keeps a sample of the decisions, for replay.
	Log DecisionLog `json:"log,omitzero"`
}

// DecisionLog says which decisions of a tenant are kept.
type DecisionLog struct {
	// Sample is the share of the allowed requests that is kept. Denials are
	// all kept, up to a hundred a second. Absent: nothing is kept.
	Sample Percent `json:"sample,omitzero"`
	// Mask lists parts of input that are removed before a decision is kept,
	// as JSON Pointers such as /principal/claims/email. Credentials, cookies
	// and the query's values are always removed.
	Mask []string `json:"mask,omitempty"`
}

// Module is one Rego file.
type Module struct {
	// Name is a file name ending in .rego, unique within the tenant.
	Name string `json:"name"`
	// Source is Rego (v1) in package gatehouse.tenant or below it.
	Source string `json:"source"`
}
