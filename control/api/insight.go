package api

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
)

// insight are live figures of tenants.
func (s *rest) insight() {
	add(s, "explain", http.MethodPost, "/api/v1/explain", "What would become of a request, and why", s.explain, body[control.Request](), mayBeAbsent)
	add(s, "getTenantMetrics", http.MethodGet, tenantOne+"/metrics", "Live figures of a tenant, at all data planes and at each", s.getTenantMetrics)
	add(s, "getTenantHealth", http.MethodGet, tenantOne+"/health", "Health of a tenant's backends and domains, at all data planes and at each", s.getTenantHealth)
	add(s, "getAnalytics", http.MethodGet, tenantOne+"/analytics", "Time series of a tenant", s.getAnalytics, mayBeAbsent)
}

func (s *rest) explain(ctx context.Context, in *struct{ RawBody []byte }) (*one[control.Explanation], error) {
	var request control.Request
	if err := decode(jsonType, in.RawBody, &request); err != nil {
		return nil, err
	}
	if s.Explain == nil {
		return nil, notBuilt("explanations are")
	}
	x, err := s.Explain(ctx, request)
	if err != nil {
		return nil, err
	}
	if c := caller(ctx); !c.Platform() {
		// Whose request it is is known only now.
		if err := s.Operators.Authorize(ctx, control.Access{Operation: "explain", Tenant: x.Tenant, Caller: c, Parts: []string{"explanation"}}); err != nil {
			return nil, err
		}
	}
	return tagged(x, 0, nil)
}

// apart reports whether there are data planes other than that of this process.
func apart[T any](all []T, name func(*T) string) bool {
	return slices.ContainsFunc(all, func(g T) bool { return name(&g) != control.LocalGateway })
}

// getTenantMetrics asks every data plane, and names those that have a token
// and do not answer. Callers who are of some tenants only are not told the
// names, which are of the platform and its hosts.
func (s *rest) getTenantMetrics(ctx context.Context, in *TenantPath) (*one[control.TenantMetrics], error) {
	if _, err := s.Plane.Tenant(ctx, in.Tenant); err != nil {
		return nil, err
	}
	all := s.Gateways.Metrics(ctx, in.Tenant, s.Operators.Gateways()...)
	out := control.TenantMetrics{Tenant: in.Tenant, AsOf: time.Now().UTC()}
	out.LiveMetrics, out.DataPlanes = control.MergeMetrics(all)
	if caller(ctx).Platform() && apart(all, func(g *control.GatewayMetrics) string { return g.Gateway }) {
		out.Gateways = all
	}
	return tagged(out, 0, nil)
}

// getTenantHealth asks as getTenantMetrics does.
func (s *rest) getTenantHealth(ctx context.Context, in *TenantPath) (*one[control.TenantHealth], error) {
	if _, err := s.Plane.Tenant(ctx, in.Tenant); err != nil {
		return nil, err
	}
	all := s.Gateways.Health(ctx, in.Tenant, s.Operators.Gateways()...)
	out := control.TenantHealth{Tenant: in.Tenant, AsOf: time.Now().UTC(), LiveHealth: control.MergeHealth(all)}
	if caller(ctx).Platform() && apart(all, func(g *control.GatewayHealth) string { return g.Gateway }) {
		out.Gateways = all
	}
	return tagged(out, 0, nil)
}

// Bounds of a time series.
const (
	minStep   = time.Minute
	maxPoints = 2000
)

func (s *rest) getAnalytics(ctx context.Context, in *struct {
	TenantPath
	From    time.Time `query:"from" doc:"The first time wanted. Default: an hour before to."`
	To      time.Time `query:"to" doc:"The first time no longer wanted. Default: now."`
	Step    int       `query:"step" minimum:"60" maximum:"31622400" default:"60" doc:"Length of a bucket in seconds."`
	GroupBy string    `query:"group_by" enum:"route,status,method" doc:"What to tell apart."`
},
) (*one[control.Analytics], error) {
	if s.Analytics == nil {
		return nil, notBuilt("analytics are")
	}
	if _, err := s.Plane.Tenant(ctx, in.Tenant); err != nil {
		return nil, err
	}
	q := control.AnalyticsQuery{Tenant: in.Tenant, From: in.From, To: in.To, Step: time.Duration(in.Step) * time.Second, GroupBy: in.GroupBy}
	if q.To.IsZero() {
		q.To = time.Now().UTC()
	}
	if q.From.IsZero() {
		q.From = q.To.Add(-time.Hour)
	}
	if q.Step < minStep || !q.From.Before(q.To) || q.To.Sub(q.From)/q.Step > maxPoints {
		return nil, &gatehouse.Error{Code: gatehouse.CodeInvalid, Message: "from is before to, and there are at most 2000 steps between them"}
	}
	v, err := s.Analytics(ctx, q)
	return tagged(v, 0, err)
}

// absent are operations that have their place and do not exist yet.
func (s *rest) absent() {
	none := func(id, method, path, summary, what string) {
		add(s, id, method, path, summary, func(ctx context.Context, in *TenantPath) (*struct{}, error) {
			if _, err := s.Plane.Tenant(ctx, in.Tenant); err != nil {
				return nil, err
			}
			return nil, notBuilt(what)
		}, mayBeAbsent, func(_ *rest, op *huma.Operation) { op.DefaultStatus = http.StatusNotImplemented })
	}
	none("checkCompliance", http.MethodPost, tenantOne+"/compliance", "Compliance checks; not available yet", "compliance checks are")
}
