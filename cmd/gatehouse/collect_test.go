package main

import (
	"context"
	"log/slog"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/client"
	"github.com/gatehouse-gateway/gatehouse/control/insight"
	"github.com/gatehouse-gateway/gatehouse/proxy"
)

// What a store does not take waits for the next minute, as that of its own.
func TestCollector(t *testing.T) {
	store, err := insight.Open(t.Context(), filepath.Join(t.TempDir(), "journal.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}()
	c := &collector{store: store, log: slog.New(slog.DiscardHandler), take: func(time.Time) []proxy.Tally {
		return []proxy.Tally{{Tenant: "studio", Route: "api", Method: "GET", Class: 2, Requests: 2, Times: []proxy.TimeCount{{Micros: 1023, Count: 2}}}}
	}}
	away, cancel := context.WithCancel(t.Context())
	cancel()
	first := time.Date(2026, 3, 14, 12, 0, 59, 0, time.UTC)
	c.collect(away, first)
	c.collect(t.Context(), first.Add(time.Minute))
	a, err := store.Series(t.Context(), control.AnalyticsQuery{Tenant: "studio", From: first.Add(-time.Hour), To: first.Add(time.Hour), Step: time.Minute}, first)
	if err != nil || len(a.Series) != 1 || len(a.Series[0].Points) != 2 || len(c.waiting) != 0 {
		t.Fatalf("%+v, %v, %d waiting", a, err, len(c.waiting))
	}
	for _, p := range a.Series[0].Points {
		if p.Requests != 2 {
			t.Errorf("%+v", p)
		}
	}
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
