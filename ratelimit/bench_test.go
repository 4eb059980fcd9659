package ratelimit

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// fourLimits is a rate of the plan, a quota of the tenant, a rate of the route
// by principal, and the tenant's concurrency.
func fourLimits(l *Local) *Stack {
	second := func(n int64) gatehouse.Rate { return gatehouse.Rate{Count: n, Per: time.Second} }
	return l.Stack(
		time.Now(), nil,
		Scope{Kind: PlanScope, Limits: gatehouse.Limits{Rules: []gatehouse.LimitRule{{Name: "per-second", Rate: second(1e12)}}}},
		Scope{Kind: TenantScope, Limits: gatehouse.Limits{MaxAPICallsPerHour: 1 << 50, Concurrency: 1000}},
		Scope{Kind: RouteScope, Route: "orders", Limits: gatehouse.Limits{Rules: []gatehouse.LimitRule{
			{Name: "each", Rate: second(1e12), By: []gatehouse.Selector{{Kind: "principal"}}},
		}}},
	)
}

type principal []byte

func (p principal) Value(gatehouse.Selector) ([]byte, bool) { return p, true }

func BenchmarkTake(b *testing.B) {
	s := fourLimits(NewLocal("acme", 0))
	p := principal("user-4711@example.com")
	r := &Request{Values: &p}
	now := time.Now()
	var t Ticket
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(time.Microsecond)
		r.Now = now
		if v := s.Take(r, &t); !v.Allowed {
			b.Fatal(v)
		}
		t.Done(now)
	}
}

func BenchmarkTakeParallel(b *testing.B) {
	s := fourLimits(NewLocal("acme", 0))
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		p := principal("user-4711@example.com")
		r := &Request{Values: &p}
		now := time.Now()
		var t Ticket
		for pb.Next() {
			now = now.Add(time.Microsecond)
			r.Now = now
			if v := s.Take(r, &t); !v.Allowed {
				b.Error(v)
				return
			}
			t.Done(now)
		}
	})
}

// BenchmarkTakeFlood takes with a new value each time over a full table in
// which nothing is idle.
func BenchmarkTakeFlood(b *testing.B) {
	l := NewLocal("acme", 1000)
	s := l.Stack(time.Now(), nil, Scope{Kind: RouteScope, Route: "orders", Limits: gatehouse.Limits{Rules: []gatehouse.LimitRule{
		{Name: "each", Quota: 1 << 50, Window: gatehouse.Window{Unit: "month"}, By: []gatehouse.Selector{{Kind: "principal"}}},
	}}})
	p := make(principal, 16)
	r := &Request{Now: time.Now(), Values: &p}
	var t Ticket
	n := uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		n++
		binary.LittleEndian.PutUint64(p, n)
		s.Take(r, &t)
	}
}
