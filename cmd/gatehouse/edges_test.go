package main

import (
	"fmt"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/client"
)

// What goes on at two data planes, each a process, is seen at the control
// plane: health of both and of each, traffic as the sum of both, and usage in
// the ledger, whoever of them is away for a while.
func TestEdges(t *testing.T) {
	data, backend := t.TempDir(), newBackend(t, "app", nil)
	args := storeArgs(t, data, "--roles", "control")
	p := start(t, args...)
	args = append(args, "--control", p.control)
	owner := p.owner(data)
	path := []string{"a"}
	doc := body("a", backend)
	doc["backends"] = append(doc["backends"].([]any), map[string]any{
		"id": "gone", "endpoints": []any{map[string]any{"url": "http://127.0.0.1:1"}}, "circuit": map[string]any{"failure_ratio": "50%", "min_requests": 2, "open_for": "10m"},
	})
	doc["routes"] = append(doc["routes"].([]any), map[string]any{"id": "gone", "match": map[string]any{"path": "/gone"}, "auth": "none", "backend": "gone"})
	must(t, owner, client.Call{Operation: client.CreateTenant, Body: doc}, nil)
	health := func() (h control.TenantHealth) {
		t.Helper()
		must(t, owner, client.Call{Operation: client.GetTenantHealth, Path: path}, &h)
		return h
	}
	if h := health(); h.Status != "unknown" || len(h.Gateways) != 0 {
		t.Errorf("without a data plane: %+v", h)
	}
	var edges []*program
	for _, name := range []string{"edge-1", "edge-2"} {
		e := start(t, "--config", edgeConfig(t, owner, name), "--data", t.TempDir())
		live(t, e.data, "a.test")
		edges = append(edges, e)
	}
	told := func() string {
		h := health()
		out := h.Status
		for _, g := range h.Gateways {
			out += fmt.Sprintf(" %s:%s%s", g.Gateway, g.Status, g.Problem)
		}
		return out
	}
	waitFor(t, func() bool { return told() == "healthy edge-1:healthy edge-2:healthy" })
	h := health()
	if len(h.Domains) != 1 || h.Domains[0].Status != "serving" || len(h.Backends) != 2 || len(h.Gateways[1].Backends) != 2 || len(h.Backends[0].Endpoints) != 1 {
		t.Errorf("%+v", h)
	}

	// One of them finds a backend gone.
	more := 0
	for !strings.HasSuffix(told(), "edge-2:down") && more < 100 {
		if got := fetchPath(t, edges[1].data, "a.test", "/gone"); got[0] != '5' {
			t.Fatal(got)
		}
		more++
	}
	waitFor(t, func() bool { return told() == "down edge-1:healthy edge-2:down" })
	h = health()
	if e := h.Backends[1].Endpoints[0]; e.Status == "healthy" || e.Reason == "" {
		t.Errorf("%+v", e)
	}
	// Figures are the sum of both, and of each.
	figures := func() (m control.TenantMetrics) {
		t.Helper()
		must(t, owner, client.Call{Operation: client.GetTenantMetrics, Path: path}, &m)
		return m
	}
	both := func() bool {
		m := figures()
		if m.DataPlanes != 2 || len(m.Gateways) != 2 {
			return false
		}
		first, second := m.Gateways[0].Metrics, m.Gateways[1].Metrics
		return first.Requests >= 1 && second.Requests >= int64(more) && second.Classes["5xx"] == int64(more) && m.Requests == first.Requests+second.Requests
	}
	waitFor(t, both) // a request is counted once its answer is out
	// One that is stopped is told by name.
	edges[0].signal(syscall.SIGSTOP)
	waitFor(t, func() bool { return told() == "down edge-1:unknownit has not answered in time edge-2:down" })
	if m := figures(); m.DataPlanes != 1 || m.Gateways[0].Problem == "" || m.Gateways[0].Metrics != nil || m.Requests != m.Gateways[1].Metrics.Requests {
		t.Errorf("one is stopped: %+v", m)
	}
	edges[0].signal(syscall.SIGCONT)

	// The control plane is killed and comes back; then each data plane ends.
	const first, second = 30, 50
	for range first {
		fetchHost(t, edges[0].data, "a.test")
	}
	p.signal(syscall.SIGKILL)
	p.exits(-1)
	for range second {
		fetchHost(t, edges[1].data, "a.test")
	}
	p = start(t, args...)
	for _, e := range edges {
		e.signal(syscall.SIGTERM)
		e.exits(exitOK)
	}
	var a control.Analytics
	must(t, owner, client.Call{Operation: client.GetAnalytics, Path: path, Query: url.Values{"group_by": {"route"}, "step": {"3600"}}}, &a)
	got := map[string]int64{}
	for _, s := range a.Series {
		for _, point := range s.Points {
			got[s.Group] += point.Requests
			if point.P50 <= 0 || point.P99 < point.P50 {
				t.Errorf("%s: %+v", s.Group, point)
			}
		}
	}
	if got["gone"] != int64(more) || got["all"] < first+second {
		t.Errorf("requests by route: %v, want %d and at least %d", got, more, first+second)
	}
	// The ledger has the same, of both.
	var usage struct{ Total string }
	now := time.Now().UTC().Truncate(time.Minute)
	must(t, owner, client.Call{Operation: client.GetUsage, Path: path, Query: url.Values{
		"meter": {"requests"}, "from": {now.Add(-time.Hour).Format(time.RFC3339)}, "to": {now.Add(time.Hour).Format(time.RFC3339)},
	}}, &usage)
	if want := fmt.Sprint(got["gone"] + got["all"]); usage.Total != want {
		t.Errorf("the ledger has %s requests, the series %s", usage.Total, want)
	}
	p.signal(syscall.SIGTERM)
	p.exits(exitOK)
	t.Logf("two data planes: %d requests in the series, %s in the ledger", got["gone"]+got["all"], usage.Total)
}
