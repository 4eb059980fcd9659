package proxy

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"

	"github.com/gatehouse-gateway/gatehouse/ratelimit"
)

// limitFields is what a route tells its callers of its limits, as far as it
// is known when the table is compiled.
type limitFields struct {
	style  HeaderStyle
	policy []byte // RateLimit-Policy of the whole stack, or RateLimit-Limit's tail
	// renamed holds the limits whose name occurs in more than one scope: they
	// are told apart as plan.NAME, tenant.NAME and route.NAME.
	renamed []renamedLimit
	// demanded are the limits on demand: policy has those that a request names.
	demanded []demandedLimit
}

type demandedLimit struct {
	name   string
	policy []byte // what it adds to the field
}

type renamedLimit struct {
	scope      ratelimit.ScopeKind
	name, told string
}

// name is how a limit is called towards callers.
func (f *limitFields) name(l *ratelimit.Limit) string {
	for i := range f.renamed {
		if r := &f.renamed[i]; r.name == l.Name && r.scope == l.Scope {
			return r.told
		}
	}
	return l.Name
}

func newLimitFields(style HeaderStyle, limits []ratelimit.Limit) limitFields {
	f := limitFields{style: style}
	for i := range limits {
		l := &limits[i]
		if slices.ContainsFunc(limits, func(o ratelimit.Limit) bool { return o.Name == l.Name && o.Scope != l.Scope }) {
			f.renamed = append(f.renamed, renamedLimit{l.Scope, l.Name, string(l.Scope) + "." + l.Name})
		}
		if l.OnDemand {
			f.demanded = append(f.demanded, demandedLimit{l.Name, f.policyOf(l)})
			continue
		}
		f.policy = append(f.policy, f.policyOf(l)...)
	}
	f.policy = bytes.TrimPrefix(f.policy, f.lead())
	return f
}

// lead is what the policy of the whole stack does not begin with, though that
// of each limit does.
func (f *limitFields) lead() []byte {
	if f.style == HeadersDraft03 {
		return nil // RateLimit-Limit begins with a limit of its own
	}
	return separator
}

var separator = []byte(", ")

// policyOf returns a limit with the separator before it, and nothing for one
// that the style does not show.
func (f *limitFields) policyOf(l *ratelimit.Limit) []byte {
	if f.style == HeadersDraft03 {
		if l.Kind.Capacity() {
			return nil
		}
		return fmt.Appendf(nil, ", %d;w=%d", l.Quota, l.Window)
	}
	if l.Kind == ratelimit.Concurrency {
		return fmt.Appendf(nil, `, %q;q=%d;qu="concurrent-requests"`, f.name(l), l.Quota)
	}
	return fmt.Appendf(nil, ", %q;q=%d;w=%d", f.name(l), l.Quota, l.Window)
}

// policyFor returns the policy that the request is held to.
func (x *Exchange) policyFor() []byte {
	f := &x.route.fields
	if x.obliged == nil || len(x.obliged.Limits) == 0 || len(f.demanded) == 0 {
		return f.policy
	}
	start := len(x.scratch)
	x.scratch = append(x.scratch, f.policy...)
	for i := range f.demanded {
		if d := &f.demanded[i]; slices.Contains(x.obliged.Limits, d.name) {
			x.scratch = append(x.scratch, d.policy...)
		}
	}
	return bytes.TrimPrefix(x.scratch[start:len(x.scratch):len(x.scratch)], f.lead())
}

var (
	namePolicy     = []byte("RateLimit-Policy")
	nameLimit      = []byte("RateLimit")
	nameDraftLimit = []byte("RateLimit-Limit")
	nameDraftLeft  = []byte("RateLimit-Remaining")
	nameDraftReset = []byte("RateLimit-Reset")
	nameXLimit     = []byte("X-RateLimit-Limit")
	nameXLeft      = []byte("X-RateLimit-Remaining")
	nameXReset     = []byte("X-RateLimit-Reset")
)

// limitAnswer adds the fields that tell the caller where its limits stand.
func (x *Exchange) limitAnswer() {
	f, v := &x.route.fields, &x.verdict
	if f.style == HeadersOff {
		return
	}
	policy := x.policyFor()
	if len(policy) == 0 {
		return
	}
	if f.style == HeadersIETF {
		x.Fields = append(x.Fields, Field{namePolicy, policy})
	}
	if v.Binding == nil || v.Unasked || v.Retry == ratelimit.Never && x.take.Cost <= v.Binding.Burst {
		return // what it has left is not known, or of no count of the caller's
	}
	// A burst above the rate is not promised: callers read r as a part of q.
	limit, left, reset := v.Binding.Quota, min(v.Remaining, v.Binding.Quota), ceilSeconds(v.Reset)
	if v.Reset == ratelimit.Never {
		reset = v.Binding.Window
	}
	switch f.style {
	case HeadersIETF:
		start := len(x.scratch)
		b := append(x.scratch, '"')
		b = append(append(b, f.name(v.Binding)...), `";r=`...)
		b = strconv.AppendInt(b, left, 10)
		if !v.Binding.Kind.Capacity() {
			b = strconv.AppendInt(append(b, ";t="...), reset, 10)
		}
		x.scratch = b
		x.Fields = append(x.Fields, Field{nameLimit, b[start:len(b):len(b)]})
	case HeadersDraft03:
		x.number(nameDraftLimit, limit, policy)
		x.number(nameDraftLeft, left, nil)
		x.number(nameDraftReset, reset, nil)
	case HeadersX:
		x.number(nameXLimit, limit, nil)
		x.number(nameXLeft, left, nil)
		x.number(nameXReset, reset, nil)
	}
}

func (x *Exchange) number(name []byte, n int64, tail []byte) {
	start := len(x.scratch)
	x.scratch = append(strconv.AppendInt(x.scratch, n, 10), tail...)
	x.Fields = append(x.Fields, Field{name, x.scratch[start:len(x.scratch):len(x.scratch)]})
}
