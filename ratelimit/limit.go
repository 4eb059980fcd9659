package ratelimit

import (
	"cmp"
	"math/bits"
	"slices"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// Kind is what a limit bounds.
type Kind uint8

// The kinds of limits.
const (
	// Rate is a token bucket.
	Rate Kind = iota
	// Quota is a count in a window.
	Quota
	// Concurrency bounds the requests in flight.
	Concurrency
	// Users bounds the distinct principals with a request in flight or in the
	// last minute.
	Users
)

// Names of the limits that the document does not name.
const (
	concurrencyName = "concurrency"
	usersName       = "max_concurrent_users"
)

// String returns rate, quota, concurrency or users.
func (k Kind) String() string {
	return [...]string{"rate", "quota", "concurrency", "users"}[k]
}

// Capacity reports whether the limit protects capacity (concurrency, users),
// where a refusal passes by itself, and not an allowance of the caller.
func (k Kind) Capacity() bool { return k == Concurrency || k == Users }

// ScopeKind is where a limit stands.
type ScopeKind string

// The kinds of scopes.
const (
	PlanScope   ScopeKind = "plan"
	TenantScope ScopeKind = "tenant"
	RouteScope  ScopeKind = "route"
)

// floor orders scopes, outermost first.
func (k ScopeKind) floor() int {
	return slices.Index([]ScopeKind{PlanScope, TenantScope, RouteScope}, k)
}

// Scope is one floor of a stack.
type Scope struct {
	Kind ScopeKind
	// Route is the id of the route of a RouteScope; empty for others.
	Route gatehouse.RouteID
	// Limits are valid, as Document.Validate has it.
	Limits gatehouse.Limits
}

// Limit is what is fixed about a limit: enough for the RateLimit-Policy field.
// It is read-only.
type Limit struct {
	// What a request is held to by comes first, in two lines of the cache.

	Kind Kind
	// OnDemand limits hold the requests that name them, and no others.
	OnDemand bool
	// Quota is what the limit allows: units per Window, requests in flight,
	// or users.
	Quota int64
	// Burst is the size of the bucket of a Rate; else it equals Quota.
	Burst int64
	// By is empty when the scope has one count.
	By []gatehouse.Selector
	// Mode of a Quota: hard, soft or overage; "" for the other kinds.
	Mode gatehouse.QuotaMode
	// Absent is what becomes of requests that lack a value of By.
	Absent gatehouse.LimitAbsent
	// Window is the period of Quota in whole seconds: a month counts as 30
	// days, a rate per less than a second is scaled to one, and Users is 60.
	// 0 for Concurrency.
	Window int64

	Scope ScopeKind
	Route gatehouse.RouteID // of a RouteScope
	// Name is unique within the scope and the kind. It is the name in the
	// document; concurrency and max_concurrent_users name those bounds.
	Name string
	// Store is where the count is: StoreLocal without a shared store.
	Store gatehouse.LimitStore
	// Away is what the limit does while its store cannot be asked.
	Away gatehouse.LimitAway
}

const userWindow = time.Minute

// factsOf returns the facts of a rule.
func factsOf(s *Scope, r *gatehouse.LimitRule) Limit {
	f := Limit{
		Scope: s.Kind, Route: s.Route, Name: r.Name, By: r.By,
		Store: cmp.Or(r.Store, s.Limits.Store), Away: cmp.Or(r.Away, s.Limits.Away), Absent: r.Absent,
		OnDemand: r.OnDemand,
	}
	if r.Quota != 0 {
		f.Kind, f.Quota, f.Burst = Quota, r.Quota, r.Quota
		f.Mode = cmp.Or(r.Mode, gatehouse.Hard)
		f.Window = int64((windowLength(r.Window) + time.Second - 1) / time.Second)
		return f
	}
	f.Kind = Rate
	f.Window = int64((r.Rate.Per + time.Second - 1) / time.Second)
	f.Quota = perSpan(r.Rate, time.Duration(f.Window)*time.Second)
	f.Burst = r.Burst
	if f.Burst == 0 {
		f.Burst = max(1, perSpan(r.Rate, time.Second))
	}
	return f
}

// capacity returns the facts of a bound of the scope.
func (s *Scope) capacity(k Kind, name string, n int64) Limit {
	return Limit{
		Scope: s.Kind, Route: s.Route, Name: name, Kind: k, Quota: n, Burst: n,
		Store: s.Limits.Store, Away: s.Limits.Away,
	}
}

// perSpan returns the whole units that r allows in d, at most MaxUnits.
func perSpan(r gatehouse.Rate, d time.Duration) int64 {
	hi, lo := bits.Mul64(uint64(r.Count), uint64(d))
	if hi >= uint64(r.Per) {
		return gatehouse.MaxUnits
	}
	q, _ := bits.Div64(hi, lo, uint64(r.Per))
	return int64(min(q, gatehouse.MaxUnits))
}
