package proxy_test

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse/proxy"
	"github.com/gatehouse-gateway/gatehouse/proxy/proxytest"
)

const counted = `tenants:
  - id: studio
    domain: studio.test
    aliases: [www.studio.test]
    identity: {jwt: [{issuer: "https://issuer.test", audience: [studio], algorithms: [ES256], jwks_url: "https://issuer.test/keys"}]}
    backends:
      - {id: app, endpoints: [{url: "http://app.test"}]}
      - {id: sick, endpoints: [{url: "http://sick.test"}], circuit: {window: 10s, min_requests: 2, failure_ratio: 50%, open_for: 1m}}
    limits: {rules: [{name: burst, rate: 1/h, burst: 8}]}
    routes:
      - {id: open, match: {path: /}, auth: none, backend: app}
      - {id: sick, match: {path: /sick/}, auth: none, backend: sick}
      - {id: put, match: {path: /put, methods: [PUT]}, auth: required, backend: app}
`

func tallied(list []proxy.Tally) string {
	var b strings.Builder
	for _, t := range list {
		var timed int64
		for _, c := range t.Times {
			timed += c.Count
		}
		fmt.Fprintf(&b, "%s %q %s %dxx: %d, %d denied, %d limited, %d in, %t out, %d timed\n", t.Tenant, t.Route, t.Method, t.Class, t.Requests, t.Denied, t.Limited, t.BytesIn, t.BytesOut > 0, timed)
	}
	return b.String()
}

func TestTallies(t *testing.T) {
	h := proxytest.New(t, counted, proxytest.Options{Backends: map[string]proxytest.Script{"sick.test:80": nil}})
	do := func(line, fields string) {
		h.Do(line + " HTTP/1.1\nHost: studio.test\n" + fields + "\n")
	}
	for range 3 {
		do("GET /a", "")
	}
	do("POST /a", "Content-Length: 5\n\nhello")
	do("BREW /a", "")
	do("GET /put", "")
	do("PUT /put", "Content-Length: 0\n")
	for range 4 {
		do("GET /sick/x", "")
	}
	h.Do("GET / HTTP/1.1\nHost: nobody.test\n\n")
	h.Access() // until all are over
	figures, err := h.Gateway.Figures("studio")
	if err != nil {
		t.Fatal(err)
	}
	got := tallied(h.Gateway.TakeTallies(time.Now()))
	if want := `studio "open" GET 2xx: 4, 0 denied, 0 limited, 0 in, true out, 4 timed
studio "open" POST 2xx: 1, 0 denied, 0 limited, 5 in, true out, 1 timed
studio "open" OTHER 2xx: 1, 0 denied, 0 limited, 0 in, true out, 1 timed
studio "sick" GET 4xx: 2, 2 denied, 2 limited, 0 in, true out, 2 timed
studio "sick" GET 5xx: 2, 2 denied, 0 limited, 0 in, true out, 2 timed
studio "put" PUT 4xx: 1, 1 denied, 0 limited, 0 in, true out, 1 timed
`; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if more := h.Gateway.TakeTallies(time.Now()); len(more) > 0 {
		t.Errorf("taken twice: %s", tallied(more))
	}
	after, err := h.Gateway.Figures("studio")
	if err != nil {
		t.Fatal(err)
	}
	show := func(f *proxy.Figures) string {
		var b strings.Builder
		fmt.Fprintf(&b, "%v in flight %d, queued %d, waiting %d, tunnels %d\n", f.Classes, f.InFlight, f.Queued, f.Waiting, f.Tunnels)
		for _, r := range append([]proxy.RouteLoad{{Route: "*", Load: f.All}}, f.Routes...) {
			l := r.Load
			fmt.Fprintf(&b, "%q %d, %d errors, %d denied, %d limited, %t\n", r.Route, l.Requests, l.Errors, l.Denied, l.Limited, 0 < l.P50 && l.P50 <= l.P90 && l.P90 <= l.P99)
		}
		for _, c := range f.Backends {
			fmt.Fprintf(&b, "%s %d in flight\n", c.Backend, c.InFlight)
		}
		for _, l := range f.Limits {
			fmt.Fprintf(&b, "%s %d of %d\n", l.Name, *l.Used, l.Burst)
		}
		return b.String()
	}
	if show(figures) != show(after) {
		t.Errorf("before they are taken\n%safter\n%s", show(figures), show(after))
	}
	if got, want := show(after), `map[2xx:6 4xx:3 5xx:2] in flight 0, queued 0, waiting 0, tunnels 0
"*" 11, 2 errors, 5 denied, 2 limited, true
"open" 6, 0 errors, 0 denied, 0 limited, true
"put" 1, 0 errors, 1 denied, 0 limited, true
"sick" 4, 2 errors, 4 denied, 2 limited, true
app 0 in flight
sick 0 in flight
burst 8 of 8
`; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	for range 6 { // what is taken is kept for the live figures, for five takings
		h.Gateway.TakeTallies(time.Now())
	}
	if f, err := h.Gateway.Figures("studio"); err != nil || f.All.Requests != 0 {
		t.Errorf("%+v, %v", f, err)
	}
}

// Requests that end while tallies are taken are in one taking each.
func TestTalliesAddUp(t *testing.T) {
	h := proxytest.New(t, strings.Replace(counted, "    limits: {rules: [{name: burst, rate: 1/h, burst: 8}]}\n", "", 1))
	const workers, each = 4, 50
	var done sync.WaitGroup
	for range workers {
		done.Go(func() {
			for range each {
				h.Do("GET /a HTTP/1.1\nHost: studio.test\n\n")
			}
		})
	}
	over := make(chan struct{})
	go func() { done.Wait(); close(over) }()
	var all, timed int64
	take := func() {
		for _, r := range h.Gateway.TakeTallies(time.Now()) {
			all += r.Requests
			for _, c := range r.Times {
				timed += c.Count
			}
		}
	}
	for running := true; running; take() {
		select {
		case <-over:
			h.Access()
			running = false
		default:
		}
	}
	if all != workers*each || timed != all {
		t.Errorf("%d requests, %d timed, want %d", all, timed, workers*each)
	}
}

func TestQuantile(t *testing.T) {
	f := func(q, want float64, times ...proxy.TimeCount) {
		t.Helper()
		if got := proxy.Quantile(times, q); got != want {
			t.Errorf("%g of %v: %g, want %g", q, times, got, want)
		}
	}
	f(0.5, 0)
	f(0.5, 0.015, proxy.TimeCount{Micros: 15, Count: 1})
	f(0.5, 0.019, proxy.TimeCount{Micros: 19, Count: 1}, proxy.TimeCount{Micros: 1023, Count: 1})
	f(1, 1.023, proxy.TimeCount{Micros: 19, Count: 1}, proxy.TimeCount{Micros: 1023, Count: 1})
}

func TestHealth(t *testing.T) {
	h := proxytest.New(t, counted, proxytest.Options{Backends: map[string]proxytest.Script{"sick.test:80": func(c net.Conn) { _ = c.Close() }}})
	for range 4 {
		h.Do("GET /sick/ HTTP/1.1\nHost: studio.test\n\n")
	}
	x, err := h.Gateway.Health("studio")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintln(&b, x.Status)
	for _, s := range x.Backends {
		for _, e := range s.Endpoints {
			fmt.Fprintf(&b, "%s %s: %s %s (%s)\n", s.Backend, s.Status, e.URL, e.Status, e.Reason)
		}
	}
	for _, d := range x.Domains {
		fmt.Fprintf(&b, "%s %s, certificate %t\n", d.Host, d.Status, !d.Certificate.IsZero())
	}
	for _, k := range x.KeySets {
		fmt.Fprintf(&b, "%s %s fetched %t\n", k.Issuer, k.URL, k.Fetched)
	}
	if got, want := b.String(), `down
app healthy: http://app.test healthy ()
sick down: http://sick.test open (its circuit is open after failures)
studio.test serving, certificate false
www.studio.test serving, certificate false
https://issuer.test https://issuer.test/keys fetched false
`; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}
