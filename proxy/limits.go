package proxy

import (
	"fmt"
	"io"

	"github.com/VictoriaMetrics/metrics"
	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/ratelimit"
)

// limitKeys bounds the counts that one tenant keeps apart by value.
const limitKeys = 65536

// newLimits returns the state of the limits of a tenant that is new here.
func (g *Gateway) newLimits(id gatehouse.TenantID) *ratelimit.Local {
	if g.limits != nil {
		return g.limits.Local(id, limitKeys)
	}
	return ratelimit.NewLocal(id, limitKeys)
}

// limit holds the request against its stack. An obligation that names a limit
// which the stack does not have cannot be met, so that the request is refused.
func (x *Exchange) limit() error {
	if x.obliged != nil {
		if name := x.route.stack.Unknown(x.obliged.Limits); name != "" {
			return &gatehouse.Error{
				Code: gatehouse.CodePolicyFailed, Message: "the policy could not be evaluated, so the request is not allowed",
				Err: fmt.Errorf("the policy asks for the limit %q, and no rule with on_demand is called so here", name),
			}
		}
	}
	x.verdict = x.route.stack.Take(x.limitRequest(), &x.ticket)
	if !x.verdict.Allowed {
		return x.limited()
	}
	if x.verdict.Beyond != nil {
		x.gateway.metrics.exceed(&x.verdict)
	}
	return nil
}

// limited is the refusal that the verdict says.
func (x *Exchange) limited() error {
	v, name := &x.verdict, x.route.fields.name(x.verdict.Binding)
	message := "the limit \"" + name + "\" is used up"
	switch {
	case v.Retry == ratelimit.Never && x.take.Cost > v.Binding.Burst:
		message = "the request costs more than the limit \"" + name + "\" holds"
	case v.Retry == ratelimit.Never:
		message = "the limit \"" + name + "\" counts by a value that the request does not have"
	case v.Unasked:
		message = "the limit \"" + name + "\" cannot be counted now"
	case v.Binding.Kind.Capacity():
		message = "the limit \"" + name + "\" has no room now"
	}
	return &limitedError{&gatehouse.Error{Code: v.Code(), Message: message}, v}
}

// Overage returns the units of the request that lie beyond a quota of mode
// overage: they were served, and are to be billed. It is 0 until the request
// has passed its limits, and for one that was refused.
func (x *Exchange) Overage() int64 { return x.verdict.Over }

// exceed counts a request that was served beyond a quota.
func (m *gauges) exceed(v *ratelimit.Verdict) {
	if v.Beyond.Mode == gatehouse.Overage {
		m.overage.Inc()
	} else {
		m.soft.Inc()
	}
	m.over.AddInt64(v.Over)
}

// writeLimitMetrics writes what limits hold; waiting are the requests that wait
// for a place. Without a shared store what is
// about it is 0.
func (g *Gateway) writeLimitMetrics(w io.Writer, waiting uint64) {
	var c ratelimit.Counts
	var overshoot int64
	if g.limits != nil {
		c, overshoot = g.limits.Counts(), g.limits.Overshoot()
	}
	metrics.WriteGaugeUint64(w, "gatehouse_ratelimit_waiting", waiting)
	metrics.WriteGaugeUint64(w, "gatehouse_ratelimit_overshoot_units", uint64(max(0, overshoot)))
	metrics.WriteCounterUint64(w, "gatehouse_ratelimit_asked_total", uint64(c.Asked))
	metrics.WriteCounterUint64(w, "gatehouse_ratelimit_ahead_units_total", uint64(c.Ahead))
	metrics.WriteCounterUint64(w, "gatehouse_ratelimit_returned_units_total", uint64(c.Returned))
	metrics.WriteCounterUint64(w, "gatehouse_ratelimit_away_total", uint64(c.Away))
}
