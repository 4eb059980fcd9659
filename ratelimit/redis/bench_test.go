package redis

import (
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/ratelimit"
	"github.com/gatehouse-gateway/gatehouse/ratelimit/ratelimittest"
)

// fourLimits is a rate of the plan, a quota of the tenant, a rate of the route
// by principal, and a rate of the route.
func fourLimits(l *ratelimit.Local) *ratelimit.Stack {
	second := func(n int64) gatehouse.Rate { return gatehouse.Rate{Count: n, Per: time.Second} }
	return l.Stack(
		time.Now(), nil,
		ratelimit.Scope{Kind: ratelimit.PlanScope, Limits: gatehouse.Limits{Rules: []gatehouse.LimitRule{{Name: "per-second", Rate: second(1e9)}}}},
		ratelimit.Scope{Kind: ratelimit.TenantScope, Limits: gatehouse.Limits{MaxAPICallsPerHour: 1 << 50}},
		ratelimit.Scope{Kind: ratelimit.RouteScope, Route: "orders", Limits: gatehouse.Limits{Rules: []gatehouse.LimitRule{
			{Name: "each", Rate: second(1e9), By: []gatehouse.Selector{{Kind: "principal"}}}, {Name: "all", Rate: second(1e9)},
		}}},
	)
}

func benchmark(b *testing.B, mode gatehouse.LimitStore, parallel int) {
	g := open(b, Options{URL: ratelimittest.Single(b).URL}, mode)
	s := fourLimits(g.shared.Local("acme", 0))
	// Reading the clock is the caller's, and costs as much as two limits.
	take := func(r *ratelimit.Request, t *ratelimit.Ticket, n int) {
		if n%64 == 0 {
			r.Now = time.Now()
		}
		if v := s.Take(r, t); !v.Allowed || v.Away {
			b.Errorf("%+v", v)
		}
		t.Done(r.Now)
	}
	who := bytesOf("user-4711@example.com")
	for range 1000 { // until it is hot
		take(&ratelimit.Request{Values: who}, new(ratelimit.Ticket), 0)
	}
	b.ReportAllocs()
	b.ResetTimer()
	if parallel == 1 {
		r, t := &ratelimit.Request{Values: who}, new(ratelimit.Ticket)
		for n := 0; b.Loop(); n++ {
			take(r, t, n)
		}
	} else {
		b.SetParallelism(parallel)
		b.RunParallel(func(pb *testing.PB) {
			r, t := &ratelimit.Request{Values: who}, new(ratelimit.Ticket)
			for n := 0; pb.Next(); n++ {
				take(r, t, n)
			}
		})
	}
	c := g.store.Counts()
	b.ReportMetric(float64(c.Calls)/float64(max(c.Trips, 1)), "calls/trip")
}

type bytesOf []byte

func (v bytesOf) Value(gatehouse.Selector) ([]byte, bool) { return v, true }

func BenchmarkTakeLease(b *testing.B)         { benchmark(b, gatehouse.StoreLease, 1) }
func BenchmarkTakeExact(b *testing.B)         { benchmark(b, gatehouse.StoreExact, 1) }
func BenchmarkTakeExactParallel(b *testing.B) { benchmark(b, gatehouse.StoreExact, 64) }
