package gatehouse

import (
	"fmt"
	"slices"
	"time"
)

// maxWait bounds the wait for a place: who waits longer has given up.
const maxWait = time.Minute

// maxRules bounds the rules of one scope. A request is held to those of three,
// and the limiter has a bit for each of 64.
const maxRules = 20

type limitScope string

const (
	planScope   limitScope = "plan"
	tenantScope limitScope = "tenant"
	routeScope  limitScope = "route"
)

func (v *validation) limits(at string, l *Limits, scope limitScope) {
	if n := len(l.Rules); n > maxRules {
		v.fault(at+"/rules", fmt.Sprintf("%d rules are more than %d", n, maxRules), "")
	}
	seen := map[string]string{}
	for i := range l.Rules {
		r, at := &l.Rules[i], at+Pointer("rules", i)
		v.id(at+"/name", "limit", r.Name)
		unique(v, seen, r.Name, at+"/name", "limit")
		v.rule(at, r)
	}
	v.span(at+"/concurrency", "concurrency", int64(l.Concurrency), 1_000_000)
	v.span(at+"/max_concurrent_users", "max_concurrent_users", int64(l.MaxConcurrentUsers), 10_000_000)
	v.span(at+"/max_api_calls_per_hour", "max_api_calls_per_hour", l.MaxAPICallsPerHour, MaxUnits)
	if l.MaxAPICallsPerHour != 0 {
		unique(v, seen, HourlyRule, at+"/max_api_calls_per_hour", "limit")
	}
	if l.Wait.Or(0) > maxWait {
		v.fault(at+"/wait", fmt.Sprintf("wait %s is longer than %s", l.Wait, Duration(maxWait)), "")
	}
	v.span(at+"/max_waiting", "max_waiting", int64(l.MaxWaiting), 100_000)
	if l.Wait != 0 && l.Concurrency == 0 {
		v.fault(at+"/wait", "wait is for a place of concurrency, which has no bound here", "add concurrency: 100, say")
	}
	if l.MaxWaiting != 0 && l.Wait == 0 {
		v.fault(at+"/max_waiting", "max_waiting bounds those that wait, and none may", "add wait: 500ms, say")
	}
	v.stores(at, l.Store, l.Away)
	v.span(at+"/anchor_day", "anchor_day", int64(l.AnchorDay), 31)
	if l.AnchorDay != 0 && scope != tenantScope {
		v.fault(at+"/anchor_day", "anchor_day is the tenant's, for its plan and routes too", "move it to the limits of the tenant")
	}
	if scope == routeScope {
		if l.MaxConcurrentUsers != 0 {
			v.fault(at+"/max_concurrent_users", "max_concurrent_users is a limit of plans and tenants", "")
		}
		if l.MaxAPICallsPerHour != 0 {
			v.fault(at+"/max_api_calls_per_hour", "max_api_calls_per_hour is a limit of plans and tenants", "write {name: hourly, quota: N, window: hour}")
		}
	}
}

func (v *validation) rule(at string, r *LimitRule) {
	rated, quota := r.Rate != (Rate{}), r.Quota != 0
	switch {
	case rated && quota:
		v.fault(at, "rate and quota exclude each other", "write two rules")
	case !rated && !quota:
		v.fault(at, fmt.Sprintf("limit %q has neither rate nor quota", clip(r.Name)), "")
	case rated && r.Window != (Window{}):
		v.fault(at+"/window", "window belongs to quota, not to rate", "write the span into the rate, as in 20/min")
	case quota && r.Burst != 0:
		v.fault(at+"/burst", "burst belongs to rate, not to quota", "")
	case quota && r.Window == (Window{}):
		v.fault(at, fmt.Sprintf("quota %q has no window", clip(r.Name)), "add window: month, say")
	}
	if r.Mode != "" && rated {
		v.fault(at+"/mode", "mode belongs to quota, not to rate", "")
	}
	oneOf(v, at+"/mode", "mode", r.Mode, Hard, Soft, Overage)
	oneOf(v, at+"/absent", "absent", r.Absent, AbsentShare, AbsentSkip, AbsentDeny)
	if r.Absent != "" && len(r.By) == 0 {
		v.fault(at+"/absent", "absent is about the values of by, and there is none", "add by: [principal], say")
	}
	v.stores(at, r.Store, r.Away)
	v.span(at+"/burst", "burst", r.Burst, MaxUnits)
	v.span(at+"/quota", "quota", r.Quota, MaxUnits)
	for i, s := range r.By {
		if slices.Contains(r.By[:i], s) {
			v.fault(at+Pointer("by", i), "selector is given twice", "")
		}
	}
}

func (v *validation) stores(at string, store LimitStore, away LimitAway) {
	oneOf(v, at+"/store", "store", store, StoreLease, StoreExact, StoreLocal)
	oneOf(v, at+"/away", "away", away, AwayLocalShare, AwayOpen, AwayClosed)
	if store == StoreLocal && away != "" {
		v.fault(at+"/away", "away is about a shared store, and this is counted in the process", "leave one of them out")
	}
}
