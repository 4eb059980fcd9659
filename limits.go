package gatehouse

// Limits are held together: a request is charged to all of them or to none.
type Limits struct {
	// Rules are rates and quotas, each with its name.
	Rules []LimitRule `json:"rules,omitempty"`
	// Concurrency bounds the requests in flight. Default: no bound.
	Concurrency int `json:"concurrency,omitempty"`
	// MaxConcurrentUsers bounds the distinct principals with a request in
	// flight or in the last minute. Default: no bound. Plans and tenants.
	MaxConcurrentUsers int `json:"max_concurrent_users,omitempty"`
	// MaxAPICallsPerHour is short for the rule
	// {name: hourly, quota: N, window: hour}. Plans and tenants.
	MaxAPICallsPerHour int64 `json:"max_api_calls_per_hour,omitempty"`
	// MaxStorageGB bounds what the tenant stores with the platform. It is kept
	// and not enforced: the gateway stores nothing for tenants. Plans and
	// tenants.
	MaxStorageGB int64 `json:"max_storage_gb,omitempty"`
}

// HourlyRule is the name of the rule that MaxAPICallsPerHour stands for.
const HourlyRule = "hourly"

// AllRules returns the rules with MaxAPICallsPerHour written out as the last.
func (l *Limits) AllRules() []LimitRule {
	if l.MaxAPICallsPerHour == 0 {
		return l.Rules
	}
	return append(l.Rules[:len(l.Rules):len(l.Rules)],
		LimitRule{Name: HourlyRule, Quota: l.MaxAPICallsPerHour, Window: Window{Unit: "hour"}})
}

// LimitRule is one named limit: a rate with a burst (token bucket), or a
// quota in a window.
type LimitRule struct {
	// Name is shown to callers in RateLimit fields. Unique within its scope
	// (plan, tenant or route).
	Name string `json:"name"`
	// Rate is N/s, N/min, N/h or N/DURATION. With Quota absent.
	Rate Rate `json:"rate,omitzero"`
	// Burst is the size of the bucket, in units. Default: one second of the
	// rate, at least 1.
	Burst int64 `json:"burst,omitempty"`
	// Quota is the units allowed per window, at most 2^53. With Rate absent.
	Quota int64 `json:"quota,omitempty"`
	// Window of a quota: second, minute, hour, day, week or month (these
	// begin on the calendar, in the tenant's time zone), or a duration such
	// as 90s, counted from the first use.
	Window Window `json:"window,omitzero"`
	// By keeps one count per value of the selectors instead of one for the
	// scope. A request without the value shares one count with its like.
	By []Selector `json:"by,omitempty"`
}
