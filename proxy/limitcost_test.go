package proxy_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/gatehouse-gateway/gatehouse/proxy"
	"github.com/gatehouse-gateway/gatehouse/proxy/proxytest"
	"github.com/gatehouse-gateway/gatehouse/ratelimit"
	"github.com/gatehouse-gateway/gatehouse/ratelimit/ratelimittest"
	"github.com/gatehouse-gateway/gatehouse/ratelimit/redis"
)

// sharedStore is a part in a Redis of its own, which ends with the test.
func sharedStore(tb testing.TB) *ratelimit.Shared {
	tb.Helper()
	store, err := redis.Open(redis.Options{URL: ratelimittest.Single(tb).URL})
	if err != nil {
		tb.Fatal(err)
	}
	shared := ratelimit.NewShared(store, "")
	using, leave := context.WithCancel(context.Background())
	storing, stop := context.WithCancel(context.Background())
	var parts, part sync.WaitGroup
	parts.Go(func() { _ = store.Run(storing) }) // it returns nil
	part.Go(func() { _ = shared.Run(using) })   // it returns nil
	tb.Cleanup(func() {
		leave()
		part.Wait()
		stop()
		parts.Wait()
		_ = store.Close() // nothing is written any more
	})
	return shared
}

// BenchmarkLimit is the whole way over loopback, as BenchmarkLine is, without
// limits and with a stack of four in each store: all in one run, because it is
// the difference that counts.
func BenchmarkLimit(b *testing.B) {
	backend := staticBackend(b)
	var doc strings.Builder
	doc.WriteString("tenants:\n")
	stores := []string{"off", "local", "lease", "exact"}
	for _, store := range stores {
		tenant, route := "", ""
		if store != "off" {
			tenant = "    limits: {store: " + store + ", concurrency: 1000, rules: [{name: per-second, rate: 1000000/s, burst: 1000000}, {name: monthly, quota: 1000000000, window: month}]}\n"
			route = ", limits: {store: " + store + ", rules: [{name: each, rate: 1000000/s, burst: 1000000, by: [address]}]}"
		}
		fmt.Fprintf(&doc, "  - id: %[1]s\n    domain: %[1]s.test\n%[3]s    backends: [{id: app, endpoints: [{url: \"http://%[2]s\"}]}]\n    routes: [{id: all, match: {path: /}, auth: none, backend: app%[4]s}]\n", store, backend, tenant, route)
	}
	shared := sharedStore(b)
	h := proxytest.New(b, doc.String(), proxytest.Options{TCP: true, NoAccess: true, Parts: func(p *proxy.Parts) { p.Limits = shared }})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- h.Gateway.Serve(ln) }()
	b.Cleanup(func() {
		_ = ln.Close()
		if err := <-served; err != nil {
			b.Error(err)
		}
	})
	for _, store := range stores {
		b.Run(store, func(b *testing.B) {
			cl := newClient(b, ln.Addr().String(), "GET /a/b HTTP/1.1\r\nHost: "+store+".test\r\nUser-Agent: test\r\nAccept: */*\r\n\r\n")
			b.ReportAllocs()
			for b.Loop() {
				if err := cl.do(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
