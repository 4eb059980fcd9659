package proxy

import (
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
		if style == HeadersDraft03 {
			if !l.Kind.Capacity() {
				f.policy = fmt.Appendf(f.policy, ", %d;w=%d", l.Quota, l.Window)
			}
			continue
		}
		if len(f.policy) > 0 {
			f.policy = append(f.policy, ", "...)
		}
		f.policy = fmt.Appendf(f.policy, "%q;q=%d", f.name(l), l.Quota)
		switch l.Kind {
		case ratelimit.Concurrency:
			f.policy = append(f.policy, `;qu="concurrent-requests"`...)
		default:
			f.policy = fmt.Appendf(f.policy, ";w=%d", l.Window)
		}
	}
	return f
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
	if f.style == HeadersOff || len(f.policy) == 0 {
		return
	}
	if f.style == HeadersIETF {
		x.Fields = append(x.Fields, Field{namePolicy, f.policy})
	}
	if v.Binding == nil {
		return
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
		x.number(nameDraftLimit, limit, string(f.policy))
		x.number(nameDraftLeft, left, "")
		x.number(nameDraftReset, reset, "")
	case HeadersX:
		x.number(nameXLimit, limit, "")
		x.number(nameXLeft, left, "")
		x.number(nameXReset, reset, "")
	}
}

func (x *Exchange) number(name []byte, n int64, tail string) {
	start := len(x.scratch)
	x.scratch = append(strconv.AppendInt(x.scratch, n, 10), tail...)
	x.Fields = append(x.Fields, Field{name, x.scratch[start:len(x.scratch):len(x.scratch)]})
}
