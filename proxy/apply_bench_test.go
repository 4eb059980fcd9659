package proxy_test

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/proxy"
	"github.com/gatehouse-gateway/gatehouse/proxy/proxytest"
)

// shape makes tenant i of many.
type shape func(i int) gatehouse.Tenant

// plainTenant has one route to one backend, and nothing else.
func plainTenant(i int) gatehouse.Tenant {
	id := fmt.Sprintf("tenant-%d", i)
	return gatehouse.Tenant{
		ID: gatehouse.TenantID(id), Domain: id + ".example.com",
		Backends: []gatehouse.Backend{{ID: "app", Endpoints: []gatehouse.Endpoint{{URL: "http://127.0.0.1:9000"}}}},
		Routes:   []gatehouse.Route{{ID: "all", Match: gatehouse.Match{Path: "/"}, Auth: gatehouse.AuthNone, Backend: "app"}},
	}
}

// fullTenant has what a tenant in earnest has: a plan, an issuer, a key,
// limits, two backends of two endpoints and four routes.
func fullTenant(i int) gatehouse.Tenant {
	t := plainTenant(i)
	t.Aliases = []string{fmt.Sprintf("www.tenant-%d.example.com", i), fmt.Sprintf("*.tenant-%d.example.net", i)}
	t.Plan, t.TimeZone = "gold", "Europe/Rome"
	t.Features = gatehouse.Features{"reports": true, "beta": false}
	hash := gatehouse.KeyHash{byte(i), byte(i >> 8), byte(i >> 16), 1}
	t.Identity = gatehouse.Identity{
		APIKeys: &gatehouse.APIKeys{Keys: []gatehouse.Key{{ID: "app", Hash: hash}}},
		JWT: []gatehouse.Issuer{{
			Issuer: fmt.Sprintf("https://login.tenant-%d.example.com/", i), Audience: []string{"api"},
			JWKSURL: "https://127.0.0.1:1/keys", Algorithms: []string{"ES256"},
		}},
	}
	t.Backends = []gatehouse.Backend{
		{ID: "app", Endpoints: []gatehouse.Endpoint{{URL: "http://127.0.0.1:9000"}, {URL: "http://127.0.0.1:9001"}}},
		{ID: "files", Endpoints: []gatehouse.Endpoint{{URL: "http://127.0.0.1:9002"}, {URL: "http://127.0.0.1:9003"}}},
	}
	t.Routes = []gatehouse.Route{
		{ID: "root", Match: gatehouse.Match{Path: "/"}, Backend: "app"},
		{ID: "api", Match: gatehouse.Match{Path: "/api/v1/{kind}/{id}", Methods: []string{"GET", "PUT"}}, Backend: "app"},
		{ID: "versions", Match: gatehouse.Match{Path: "/api/", Headers: []gatehouse.HeaderMatch{{Name: "X-Version", Regex: "^v[0-9]+$"}}}, Backend: "app"},
		{ID: "files", Match: gatehouse.Match{Path: "/files/"}, Auth: gatehouse.AuthNone, Backend: "files"},
	}
	t.Limits = gatehouse.Limits{Concurrency: 100, Rules: []gatehouse.LimitRule{{Name: "second", Rate: gatehouse.Rate{Count: 50, Per: time.Second}}}}
	t.Policy.Modules = []gatehouse.Module{{Name: "own.rego", Source: "package gatehouse.tenant\n\nallow if input.method == \"GET\"\n"}}
	return t
}

// many is a full update of n tenants.
func many(n int, of shape) gatehouse.Update {
	u := gatehouse.Update{Revision: 1, Full: true, Plans: []gatehouse.Plan{{
		ID: "gold", Limits: gatehouse.Limits{Rules: []gatehouse.LimitRule{{Name: "month", Quota: 1_000_000, Window: gatehouse.Window{Unit: "month"}}}},
	}}}
	for i := range n {
		u.Tenants = append(u.Tenants, of(i))
	}
	return u
}

// bare is a gateway that serves nobody yet.
func bare(tb testing.TB) *proxy.Gateway {
	tb.Helper()
	meter, err := metering.Open(metering.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	engine, err := proxytest.Engine()
	if err != nil {
		tb.Fatal(err)
	}
	g, err := proxy.New(proxy.DefaultConfig(), proxy.Parts{Engine: engine, Meter: meter, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := g.Shutdown(context.Background()); err != nil {
			tb.Error(err)
		}
	})
	return g
}

func apply(tb testing.TB, g *proxy.Gateway, u gatehouse.Update) {
	tb.Helper()
	if out := g.Apply(u); len(out.Refused) > 0 {
		tb.Fatalf("refused: %v", out.Refused[0].Faults)
	}
}

var shapes = []struct {
	name string
	of   shape
}{{"plain", plainTenant}, {"full", fullTenant}}

// BenchmarkApplyAll is the first update of a start: the time of it, and the
// heap that each tenant takes then. The document that it holds counts too.
func BenchmarkApplyAll(b *testing.B) {
	for _, s := range shapes {
		for _, n := range []int{1_000, 100_000} {
			b.Run(fmt.Sprintf("%s-%d", s.name, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					b.StopTimer()
					g := bare(b)
					before := heap()
					u := many(n, s.of)
					b.StartTimer()
					apply(b, g, u)
					b.StopTimer()
					u = gatehouse.Update{}
					b.ReportMetric(float64(heap()-before)/float64(n), "heap-B/tenant")
					runtime.KeepAlive(g)
					b.StartTimer()
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/tenant")
			})
		}
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC() // what the first left to finalizers and pools
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkApplyOne changes one tenant among many.
func BenchmarkApplyOne(b *testing.B) {
	for _, s := range shapes {
		for _, n := range []int{1_000, 100_000} {
			b.Run(fmt.Sprintf("%s-%d", s.name, n), func(b *testing.B) {
				g := bare(b)
				apply(b, g, many(n, s.of))
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					i++
					t := s.of(i * 7919 % n)
					t.Name = fmt.Sprint(i)
					t.Backends[0].Timeouts.Connect = gatehouse.Duration(time.Second + time.Duration(i)*time.Millisecond%time.Second)
					apply(b, g, gatehouse.Update{Revision: uint64(i + 1), Tenants: []gatehouse.Tenant{t}})
				}
			})
		}
	}
}
