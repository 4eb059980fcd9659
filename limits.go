package gatehouse

// Limits are held together: a request is charged to all of them or to none.
type Limits struct {
	// Rules are rates and quotas, each with its name.
	Rules []LimitRule `json:"rules,omitempty"`
	// Concurrency bounds the requests in flight. Default: no bound.
	Concurrency int `json:"concurrency,omitempty"`
	// Wait is how long a request may wait for a place among those in flight,
	// first come, first served; at most a minute. With Concurrency. Default:
	// it is refused at once.
	Wait Duration `json:"wait,omitempty"`
	// MaxWaiting bounds the requests that wait. With Wait. Default: as many
	// as Concurrency.
	MaxWaiting int `json:"max_waiting,omitempty"`
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
	// Store is where Concurrency and MaxConcurrentUsers are counted, and the
	// rules that do not say. Without a shared store it is local whatever it
	// says. Default: that of the process.
	Store LimitStore `json:"store,omitempty"`
	// Away is what Concurrency and MaxConcurrentUsers do, and the rules that
	// do not say, while the shared store cannot be asked. Default:
	// local_share.
	Away LimitAway `json:"away,omitempty"`
	// AnchorDay is the day of the month, 1 to 31, on which the tenant's
	// windows of a month begin, those of its plan and routes too; the last
	// day of a month that is shorter. Tenants. Default: 1.
	AnchorDay int `json:"anchor_day,omitempty"`
}

// QuotaMode says what becomes of a request beyond a quota.
type QuotaMode string

// The modes of a quota.
const (
	// Hard quotas refuse. The default.
	Hard QuotaMode = "hard"
	// Soft quotas serve and report.
	Soft QuotaMode = "soft"
	// Overage quotas serve, and the units beyond them are billed.
	Overage QuotaMode = "overage"
)

// LimitAbsent says how a request without the values of By is counted.
type LimitAbsent string

// The ways with a request that has no value.
const (
	// AbsentShare counts it with its like, in one count. The default.
	AbsentShare LimitAbsent = "share"
	// AbsentSkip does not hold it to the limit.
	AbsentSkip LimitAbsent = "skip"
	// AbsentDeny refuses it.
	AbsentDeny LimitAbsent = "deny"
)

// LimitStore says where a limit is counted.
type LimitStore string

// The places of a count.
const (
	// StoreLease counts in the shared store, and lets each gateway take a few
	// units ahead of need. The default of a process with a shared store.
	StoreLease LimitStore = "lease"
	// StoreExact asks the shared store for each request.
	StoreExact LimitStore = "exact"
	// StoreLocal counts in each process by itself.
	StoreLocal LimitStore = "local"
)

// LimitAway says what a limit does while the shared store cannot be asked.
type LimitAway string

// The ways to go on without the shared store.
const (
	// AwayLocalShare holds each gateway to its part: the limit divided by the
	// gateways that were last seen alive. The default.
	AwayLocalShare LimitAway = "local_share"
	// AwayOpen lets every request pass.
	AwayOpen LimitAway = "open"
	// AwayClosed refuses every request.
	AwayClosed LimitAway = "closed"
)

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
	// Mode of a quota is hard (default: refused beyond it), soft (served and
	// reported) or overage (served and billed).
	Mode QuotaMode `json:"mode,omitempty"`
	// By keeps one count per value of the selectors instead of one for the
	// scope.
	By []Selector `json:"by,omitempty"`
	// Absent says what becomes of requests that lack one of the values: share
	// (default: they are counted together with their like), skip (they are not
	// held to this limit) or deny (they are refused). With By.
	Absent LimitAbsent `json:"absent,omitempty"`
	// Store is exact, lease or local. Default: that of the limits it stands
	// in.
	Store LimitStore `json:"store,omitempty"`
	// Away is local_share, open or closed. Default: that of the limits it
	// stands in.
	Away LimitAway `json:"away,omitempty"`
	// OnDemand keeps the rule for the requests on which a policy names it.
	// Default: every request is held to it.
	OnDemand bool `json:"on_demand,omitempty"`
}
