package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/proxy"
)

// explain tells what this data plane would make of a request.
func (p *process) explain(_ context.Context, r control.Request) (control.Explanation, error) {
	return explained(p.gateway, r)
}

// explained tells what a gateway would make of a request.
func explained(gateway *proxy.Gateway, r control.Request) (control.Explanation, error) {
	d := proxy.Described{Method: r.Method, URL: r.URL, Headers: r.Headers, Key: r.Key, Address: netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	if r.Address != "" {
		var err error
		if d.Address, err = netip.ParseAddr(r.Address); err != nil {
			return control.Explanation{}, &gatehouse.Error{Code: gatehouse.CodeInvalid, Message: "address is not an IP address"}
		}
	}
	x, err := gateway.Explain(&d)
	if err != nil {
		return control.Explanation{}, err
	}
	out := control.Explanation{Tenant: x.Tenant, Status: x.Status, Code: x.Code}
	for _, ph := range x.Phases {
		e := control.ExplainedPhase{Phase: ph.Phase, Outcome: ph.Outcome, Detail: ph.Detail}
		if ph.Data != nil {
			if e.Data, err = json.Marshal(ph.Data); err != nil {
				return out, fmt.Errorf("explain %s: %w", ph.Phase, err)
			}
		}
		out.Phases = append(out.Phases, e)
	}
	return out, nil
}

func loadOf(l *proxy.Load) control.Load {
	return control.Load{
		Requests: l.Requests, Errors: l.Errors, Denied: l.Denied, Limited: l.Limited, BytesIn: l.BytesIn, BytesOut: l.BytesOut,
		P50: l.P50, P90: l.P90, P99: l.P99,
	}
}

// answer tells the control plane of this process what it asks about a tenant.
func (p *process) answer(_ context.Context, q *control.Question) control.Answer {
	var a control.Answer
	var err error
	if q.Topic == control.TopicMetrics {
		var m control.LiveMetrics
		m, err = p.tenantMetrics(q.Tenant)
		a.Metrics = &m
	} else {
		var h control.LiveHealth
		h, err = p.tenantHealth(q.Tenant)
		a.Health = &h
	}
	if err != nil {
		return control.Answer{Problem: err.Error()}
	}
	return a
}

// tenantMetrics are live figures of a tenant at this data plane.
func (p *process) tenantMetrics(id gatehouse.TenantID) (control.LiveMetrics, error) {
	f, err := p.gateway.Figures(id)
	if err != nil {
		return control.LiveMetrics{}, err
	}
	m := control.LiveMetrics{
		Window: int(f.At.Sub(f.From).Seconds()), Load: loadOf(&f.All), Classes: f.Classes,
		InFlight: f.InFlight, Queued: f.Queued, Waiting: f.Waiting, Tunnels: f.Tunnels,
		Limits: []json.RawMessage{}, Backends: []control.BackendConnections{},
	}
	for i := range f.Limits {
		text, err := json.Marshal(f.Limits[i])
		if err != nil {
			return m, fmt.Errorf("limit %s: %w", f.Limits[i].Name, err)
		}
		m.Limits = append(m.Limits, text)
	}
	for _, r := range f.Routes {
		m.Routes = append(m.Routes, control.RouteMetrics{Route: r.Route, Load: loadOf(&r.Load)})
	}
	for _, b := range f.Backends {
		m.Backends = append(m.Backends, control.BackendConnections(b))
	}
	return m, nil
}

// tenantHealth is the state of what a tenant depends on, as this data plane
// sees it.
func (p *process) tenantHealth(id gatehouse.TenantID) (control.LiveHealth, error) {
	h, err := p.gateway.Health(id)
	if err != nil {
		return control.LiveHealth{}, err
	}
	out := control.LiveHealth{Status: h.Status, Backends: []control.BackendHealth{}, Domains: []control.DomainHealth{}}
	for _, b := range h.Backends {
		health := control.BackendHealth{Backend: b.Backend, Status: b.Status, Endpoints: []control.EndpointHealth{}}
		for _, e := range b.Endpoints {
			health.Endpoints = append(health.Endpoints, control.EndpointHealth{
				URL: e.URL, Status: e.Status, InFlight: e.InFlight, Connections: e.Connections, Reason: e.Reason,
			})
		}
		out.Backends = append(out.Backends, health)
	}
	for _, d := range h.Domains {
		out.Domains = append(out.Domains, control.DomainHealth(d))
	}
	for _, k := range h.KeySets {
		status := "fetched"
		switch {
		case !k.Fetched:
			status = "missing"
		case k.Failures > 0:
			status = "failing"
		}
		out.KeySets = append(out.KeySets, control.KeySetHealth{Issuer: k.Issuer, URL: k.URL, Status: status, Failures: k.Failures})
	}
	return out, nil
}
