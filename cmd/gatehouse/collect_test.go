package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/client"
	"github.com/gatehouse-gateway/gatehouse/proxy"
)

// What the control plane does not take waits for the next minute, as that of
// its own, and counts once however often it is sent. What waits is bounded.
func TestCollector(t *testing.T) {
	data := t.TempDir()
	args := storeArgs(t, data, "--roles", "control")
	p := start(t, args...)
	args = append(args, "--control", p.control)
	owner := p.owner(data)
	must(t, owner, client.Call{Operation: client.CreateTenant, Body: map[string]any{"id": "studio", "domain": "studio.test"}}, nil)
	var token control.Token
	must(t, owner, client.Call{Operation: client.CreateToken, Body: map[string]any{"role": "gateway"}}, &token)
	remote := &remoteFeed{client: patient(t, p.control, token.Secret), limit: reportLimit, log: slog.New(slog.DiscardHandler)}
	source := control.Source{Gateway: "edge-1", Epoch: "e"}
	rows := 1
	c := &collector{
		first: 1, log: slog.New(slog.DiscardHandler),
		take: func(time.Time) (out []proxy.Tally) {
			for range rows {
				out = append(out, proxy.Tally{Tenant: "studio", Route: "api", Method: "GET", Class: 2, Requests: 2, Times: []proxy.TimeCount{{Micros: 1023, Count: 2}}})
			}
			return out
		},
		write: func(ctx context.Context, first uint64, some []control.Minute) (int, error) {
			return remote.sendTraffic(ctx, source, first, some)
		},
	}
	first := time.Now().Add(-10 * time.Minute)
	p.signal(syscall.SIGKILL)
	p.exits(-1)
	c.collect(t.Context(), first)
	c.collect(t.Context(), first.Add(time.Minute))
	if len(c.waiting) != 2 || c.first != 1 {
		t.Errorf("%d wait, from %d", len(c.waiting), c.first)
	}
	p = start(t, args...)
	sent := slices.Clone(c.waiting)
	c.collect(t.Context(), first.Add(2*time.Minute))
	if n, err := c.write(t.Context(), 1, sent); n != 2 || err != nil { // as if the answer had been lost
		t.Error(n, err)
	}
	query := url.Values{"from": {first.Add(-time.Minute).UTC().Format(time.RFC3339)}, "to": {time.Now().UTC().Format(time.RFC3339)}}
	points := func() string {
		var a control.Analytics
		must(t, owner, client.Call{Operation: client.GetAnalytics, Path: []string{"studio"}, Query: query}, &a)
		out := ""
		for _, s := range a.Series {
			for _, p := range s.Points {
				out += fmt.Sprint(p.Requests, " ")
			}
		}
		return out
	}
	if got := points(); got != "2 2 2 " || len(c.waiting) != 0 || c.first != 4 {
		t.Errorf("requests by the minute: %s; %d wait, from %d", got, len(c.waiting), c.first)
	}
	// What it will never take keeps nothing else back.
	if n, err := remote.sendTraffic(t.Context(), source, 4, []control.Minute{{Tenant: "studio", At: first, Method: "GET", Class: 9}}); n != 1 || err != nil {
		t.Error(n, err)
	}
	// A long outage: what waits is bounded, and what follows is counted.
	away, cancel := context.WithCancel(t.Context())
	cancel()
	rows = collectKept + 10
	c.collect(away, first.Add(3*time.Minute))
	if len(c.waiting) != collectKept || c.first != 4+10 {
		t.Errorf("%d wait, from %d", len(c.waiting), c.first)
	}
	c.pass(len(c.waiting) - 1)
	rows = 0
	c.collect(t.Context(), first.Add(4*time.Minute))
	if got := points(); got != "2 2 2 2 " {
		t.Errorf("requests by the minute: %s", got)
	}
	p.signal(syscall.SIGTERM)
	p.exits(exitOK)
}

// Live figures and health are those of the data plane, and what was counted
// outlives the process.
func TestInsight(t *testing.T) {
	data, backend := t.TempDir(), newBackend(t, "app", nil)
	p := start(t, storeArgs(t, data)...)
	p.await(p.stderr, `msg=serving`)
	c := p.owner(data)
	must(t, c, client.Call{Operation: client.CreateTenant, Body: body("studio", backend)}, nil)
	for fetchHost(t, p.data, "studio.test")[:3] != "200" { // the change is on its way
	}
	path := []string{"studio"}
	var m control.TenantMetrics
	for m.Classes["2xx"] == 0 { // a request is counted once its answer is out
		must(t, c, client.Call{Operation: client.GetTenantMetrics, Path: path}, &m)
	}
	var h control.TenantHealth
	must(t, c, client.Call{Operation: client.GetTenantHealth, Path: path}, &h)
	if h.Status != "healthy" || len(h.Domains) != 1 || h.Domains[0].Status != "serving" || len(h.Backends) != 1 {
		t.Errorf("%+v", h)
	}
	p.signal(syscall.SIGTERM)
	p.exits(0)
	p = start(t, storeArgs(t, data)...)
	c = p.owner(data)
	var a control.Analytics
	must(t, c, client.Call{Operation: client.GetAnalytics, Path: path}, &a)
	if len(a.Series) != 1 || a.Series[0].Points[0].Requests == 0 {
		t.Errorf("%+v", a)
	}
}
