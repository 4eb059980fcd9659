package gatehouse

import (
	"fmt"
	"slices"
)

type limitScope string

const (
	planScope   limitScope = "plan"
	tenantScope limitScope = "tenant"
	routeScope  limitScope = "route"
)

func (v *validation) limits(at string, l *Limits, scope limitScope) {
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
	v.span(at+"/burst", "burst", r.Burst, MaxUnits)
	v.span(at+"/quota", "quota", r.Quota, MaxUnits)
	for i, s := range r.By {
		if slices.Contains(r.By[:i], s) {
			v.fault(at+Pointer("by", i), "selector is given twice", "")
		}
	}
}
