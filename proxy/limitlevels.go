package proxy

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/ratelimit"
)

// LimitLevel is where one limit of a tenant stands.
type LimitLevel struct {
	Name string `json:"name"`
	// Scope is plan, tenant or route.
	Scope ratelimit.ScopeKind `json:"scope"`
	Route gatehouse.RouteID   `json:"route,omitempty"`
	// Kind is rate, quota, concurrency or users.
	Kind string `json:"kind"`
	// By are the selectors that it counts apart by.
	By []gatehouse.Selector `json:"by,omitempty"`
	// Limit is units per Window seconds, requests in flight or users; Burst
	// is the size of the bucket of a rate.
	Limit  int64 `json:"limit"`
	Window int64 `json:"window_s,omitempty"`
	Burst  int64 `json:"burst,omitempty"`
	// Mode of a quota is hard, soft or overage.
	Mode gatehouse.QuotaMode `json:"mode,omitempty"`
	// OnDemand limits hold the requests on which policy names them.
	OnDemand bool `json:"on_demand,omitempty"`
	// Store is where it is counted, Away what it does while that is away.
	Store gatehouse.LimitStore `json:"store"`
	Away  gatehouse.LimitAway  `json:"away,omitempty"`
	// Key is the name of the count, which TopUp takes.
	Key string `json:"key"`
	// Used and Remaining are absent of a limit `by` value without the value.
	Used      *int64 `json:"used,omitempty"`
	Remaining *int64 `json:"remaining,omitempty"`
	// Reset is the time in seconds until it has more to give.
	Reset float64 `json:"reset_s,omitempty"`
	// Values is how many values this process counts apart.
	Values int `json:"values,omitempty"`
	// Stale figures are what the store said last: it does not answer.
	Stale bool `json:"stale,omitempty"`
	// Outcome for a request: pass, refuse, beyond (served beyond a quota) or
	// aside (it is not held to the limit). Empty without a request.
	Outcome string `json:"outcome,omitempty"`
}

func levelOf(lv *ratelimit.Level) LimitLevel {
	f := lv.Limit
	l := LimitLevel{
		Name: f.Name, Scope: f.Scope, Route: f.Route, Kind: f.Kind.String(), By: f.By, Limit: f.Quota, Window: f.Window,
		Mode: f.Mode, OnDemand: f.OnDemand, Store: f.Store, Key: lv.Key, Values: lv.Keys, Stale: lv.Stale,
	}
	if f.Kind == ratelimit.Rate {
		l.Burst = f.Burst
	}
	if f.Store != gatehouse.StoreLocal {
		l.Away = f.Away
	}
	if lv.Known {
		l.Used, l.Remaining, l.Reset = &lv.Used, &lv.Remaining, seconds(lv.Reset)
	}
	return l
}

// seconds keeps milliseconds.
func seconds(d time.Duration) float64 { return math.Ceil(float64(d)/1e6) / 1e3 }

// Levels returns where each limit of a tenant stands, outermost scope first.
// It asks the shared store, where there is one, and fails with CodeNotFound.
func (g *Gateway) Levels(tenant gatehouse.TenantID) ([]LimitLevel, error) {
	s, _, err := g.running(tenant)
	if err != nil {
		return nil, err
	}
	levels := s.limits.Levels(time.Now())
	all := make([]LimitLevel, len(levels))
	for i := range levels {
		all[i] = levelOf(&levels[i])
	}
	return all, nil
}

// TopUp adds units to the running window of a quota, by the Key of its level.
// It fails with CodeNotFound and CodeInvalid, and where the shared store does
// not answer.
func (g *Gateway) TopUp(tenant gatehouse.TenantID, key string, units int64) error {
	s, _, err := g.running(tenant)
	if err != nil {
		return err
	}
	return s.limits.TopUp(time.Now(), key, units)
}

// running returns a tenant's slot and table.
func (g *Gateway) running(tenant gatehouse.TenantID) (*slot, *table, error) {
	g.mu.Lock()
	s := g.slots[tenant]
	g.mu.Unlock()
	if s != nil {
		if t := s.table.Load(); t != nil {
			return s, t, nil
		}
	}
	return nil, nil, &gatehouse.Error{Code: gatehouse.CodeNotFound, Message: fmt.Sprintf("tenant %q is not served here", tenant)}
}

// LimitQuery describes a request, to be held against its limits without being
// charged.
type LimitQuery struct {
	Tenant gatehouse.TenantID
	Route  gatehouse.RouteID
	// Values of the request by selector, as in {Kind: "principal"}. Without
	// the principal it is anonymous.
	Values map[gatehouse.Selector]string
	// Cost is what policy adds to that of the route, in units.
	Cost int64
	// Named are the limits on demand that policy names.
	Named []string
}

// LimitOutcome says what the limits would make of a request now.
type LimitOutcome struct {
	// Code is empty for a request that would pass.
	Code gatehouse.Code `json:"code,omitempty"`
	// Refusing is the limit that would refuse, as callers see its name.
	Refusing string `json:"refusing,omitempty"`
	// Detail is a sentence for people.
	Detail string `json:"detail"`
	// Retry is the time in seconds after which it would pass if no other
	// request came; absent where it never would.
	Retry float64 `json:"retry_s,omitempty"`
	// Levels are of every limit of the request, outermost scope first.
	Levels []LimitLevel `json:"levels"`
}

// Limits holds a request against its limits and charges nothing. It fails
// with CodeNotFound for an unknown tenant or route.
func (g *Gateway) Limits(q *LimitQuery) (*LimitOutcome, error) {
	_, t, err := g.running(q.Tenant)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(t.routes, func(r routeTable) bool { return r.id == q.Route })
	if i < 0 {
		return nil, &gatehouse.Error{Code: gatehouse.CodeNotFound, Message: fmt.Sprintf("tenant %q has no route %q", q.Tenant, q.Route)}
	}
	r := &t.routes[i]
	values := queryValues(q.Values)
	request := ratelimit.Request{Now: time.Now(), Cost: r.cost + q.Cost, Values: values, Named: q.Named}
	for _, kind := range []string{"principal", "address"} {
		if v, ok := values.Value(gatehouse.Selector{Kind: kind}); ok {
			request.Principal = v
			break
		}
	}
	return r.weigh(&request), nil
}

// queryValues are the values of LimitQuery as the limiter reads them.
type queryValues map[gatehouse.Selector]string

// Value returns the value of a selector.
func (q queryValues) Value(s gatehouse.Selector) ([]byte, bool) {
	v, ok := q[s]
	return []byte(v), ok
}

// weigh is what the limits of the route would make of a request now.
func (r *routeTable) weigh(request *ratelimit.Request) *LimitOutcome {
	out := &LimitOutcome{Levels: []LimitLevel{}, Detail: "no limit stands in the way"}
	if name := r.stack.Unknown(request.Named); name != "" {
		out.Code, out.Detail = gatehouse.CodePolicyFailed, fmt.Sprintf("policy names the limit %q, and no rule with on_demand is called so", name)
	}
	levels := r.stack.Levels(nil, request)
	var by *ratelimit.Level
	for i := range levels {
		lv := &levels[i]
		l := levelOf(lv)
		switch {
		case lv.Aside:
			l.Outcome = "aside"
		case lv.Refuses:
			l.Outcome = "refuse"
			if by == nil || worse(lv, by) {
				by = lv
			}
		case lv.Beyond:
			l.Outcome = "beyond"
		default:
			l.Outcome = "pass"
		}
		out.Levels = append(out.Levels, l)
	}
	if by == nil || out.Code != "" {
		return out
	}
	v := ratelimit.Verdict{Binding: by.Limit, Unasked: by.Unasked}
	out.Code, out.Refusing, out.Detail = v.Code(), r.fields.name(by.Limit), reasonOf(by, max(request.Cost, 1))
	if by.Retry != ratelimit.Never {
		out.Retry = seconds(by.Retry)
	}
	return out
}

// worse reports whether a is the one of two refusals that a caller is told of.
func worse(a, b *ratelimit.Level) bool {
	if c, d := a.Limit.Kind.Capacity(), b.Limit.Kind.Capacity(); c != d {
		return d
	}
	return a.Retry > b.Retry
}

// reasonOf says why a limit refuses a request of cost units.
func reasonOf(lv *ratelimit.Level, cost int64) string {
	f := lv.Limit
	where := string(f.Scope)
	if f.Route != "" {
		where += " " + string(f.Route)
	}
	what := fmt.Sprintf("%s %q of %s", f.Kind, f.Name, where)
	switch {
	case lv.Unasked:
		return what + " is closed while its store is away"
	case f.Kind.Capacity():
		return fmt.Sprintf("%s has no room: %d of %d are taken", what, lv.Used, f.Quota)
	case lv.Retry == ratelimit.Never && cost > f.Burst:
		return fmt.Sprintf("%s never admits a request of %d units: it holds %d", what, cost, f.Burst)
	case lv.Retry == ratelimit.Never:
		return what + " refuses requests without the value that it counts by"
	}
	return fmt.Sprintf("%s is used up: the request costs %d, %d of %d are left", what, cost, lv.Remaining, f.Burst)
}
