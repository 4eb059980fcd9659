package proxy_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/proxy"
	"github.com/gatehouse-gateway/gatehouse/proxy/proxytest"
)

// account runs f on a gateway whose counts are kept, and returns what they
// come to, as "consumer meter value".
func account(t *testing.T, document string, f func(h *proxytest.Harness)) string {
	t.Helper()
	dir := t.TempDir()
	m, err := metering.Open(metering.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	f(proxytest.New(t, document, proxytest.Options{Parts: func(p *proxy.Parts) { p.Meter = m }}))
	ctx, end := context.WithCancel(t.Context())
	end()
	if err := m.Run(ctx); err != nil {
		t.Fatal(err)
	}
	kept, err := metering.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, c := range kept.Cells {
		switch c.Meter {
		case metering.MeterCompute, metering.MeterBytesIn, metering.MeterBytesOut, metering.MeterRequests:
			continue
		}
		lines = append(lines, fmt.Sprintf("%s %s %d", c.Series.Consumer, c.Meter, c.Value))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// Units that a backend reports count in the meters that the route names, and
// none of their headers reaches the caller; an answer that is no backend's has
// none, and what cannot be read is not billed.
func TestRouteUnits(t *testing.T) {
	expand := credentials(t)
	got := account(t, expand(`
tenants:
  - id: a
    domain: a.test
    identity: {api_keys: {keys: [{id: ci, hash: "$HASH1"}]}}
    backends: [{id: app, endpoints: [{url: "http://a.app"}]}]
    routes:
      - id: all
        match: {path: /}
        auth: optional
        backend: app
        meter: {units_header: X-Units, units: [{name: tokens_in, header: X-Tokens-In}, {name: tokens_out, header: X-Tokens-Out}]}
`), func(h *proxytest.Harness) {
		for _, fields := range [][]string{{}, {expand("X-API-Key: $KEY1")}} {
			answer := get(h, "a.test", "/x?header=X-Units:2.5&header=X-Tokens-In:7&header=x-tokens-out:0.000001", fields...)
			if head, _, _ := strings.Cut(strings.ToLower(answer), "\n\n"); strings.Contains(head, "x-tokens") || strings.Contains(head, "x-units") {
				t.Error(answer)
			}
		}
		get(h, "a.test", "/x?header=X-Tokens-In:1&header=X-Tokens-In:2")
		get(h, "a.test", "/x?header=X-Tokens-In:-1&header=X-Tokens-Out:NaN")
		get(h, "a.test", "/x", "X-API-Key: wrong")
	})
	want := strings.TrimSpace(`
 requests_billable 3
 tokens_in 10000000
 tokens_out 1
 units 2500000
key:ci requests_billable 1
key:ci tokens_in 7000000
key:ci tokens_out 1
key:ci units 2500000`)
	if strings.TrimSpace(got) != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// Units beyond a quota of mode overage are a meter; of a request that is not
// billed they are not.
func TestOverageUnits(t *testing.T) {
	got := account(t, `
tenants:
  - id: a
    domain: a.test
    backends: [{id: app, endpoints: [{url: "http://a.app"}]}]
    limits: {rules: [{name: month, quota: 5, window: month, mode: overage}]}
    routes: [{id: all, match: {path: /}, auth: none, backend: app, cost: 2}]
`, func(h *proxytest.Harness) {
		for range 4 {
			get(h, "a.test", "/x")
		}
		get(h, "a.test", "/x?status=503")
	})
	if want := "overage 3000000\n requests_billable 4"; strings.TrimSpace(got) != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// While usage cannot be written requests are refused, where the operator asked
// for that.
func TestRefuseOnFull(t *testing.T) {
	m, err := metering.Open(metering.Options{Dir: t.TempDir(), Log: 1, Refuse: true, Flush: 5 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	h := proxytest.New(t, `
tenants:
  - id: a
    domain: a.test
    backends: [{id: app, endpoints: [{url: "http://a.app"}]}]
    routes: [{id: all, match: {path: /}, auth: none, backend: app}]
`, proxytest.Options{Parts: func(p *proxy.Parts) { p.Meter = m }})
	if answer := get(h, "a.test", "/"); !strings.HasPrefix(answer, "HTTP/1.1 200") {
		t.Error(answer)
	}
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	limit := time.After(30 * time.Second)
	for m.Full() == nil {
		for i := range 2000 { // more than the log has room for
			m.Tenant("b").Series("", "r", strconv.AppendInt(nil, int64(i), 10)).Count(200, 1, 1, 0, 0)
		}
		select {
		case <-limit:
			t.Fatal("the log never fills up")
		case <-time.After(5 * time.Millisecond):
		}
	}
	answer := get(h, "a.test", "/")
	if !strings.HasPrefix(answer, "HTTP/1.1 503") || !strings.Contains(answer, "GH-AD-010") || !strings.Contains(answer, "Retry-After: 1") {
		t.Error(answer)
	}
	end()
	if err := <-ended; err == nil {
		t.Error("the end does not tell that usage is not written")
	}
}

// A gateway without a meter serves all the same.
func TestNoMeter(t *testing.T) {
	h := proxytest.New(t, `
tenants:
  - id: a
    domain: a.test
    backends: [{id: app, endpoints: [{url: "http://a.app"}]}]
    routes: [{id: all, match: {path: /}, auth: none, backend: app, meter: {units: [{name: jobs, header: X-Jobs}]}}]
`, proxytest.Options{Parts: func(p *proxy.Parts) { p.Meter = nil }})
	for _, path := range []string{"/", "/x?size=300000", "/x?header=X-Jobs:1"} {
		if answer := get(h, "a.test", path); !strings.HasPrefix(answer, "HTTP/1.1 200") {
			t.Error(answer)
		}
	}
}
