package api

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
)

type (
	// TenantPath names a tenant.
	TenantPath struct {
		Tenant gatehouse.TenantID `path:"tenant" maxLength:"63" doc:"Id of the tenant."`
	}
	// tenantAct is a change that has no body.
	tenantAct struct {
		TenantPath
		Change
	}
	tenantChange struct {
		TenantPath
		Change
		RawBody []byte
	}
	tenantAnswer = one[control.Tenant]
)

const (
	tenantsPath = "/api/v1/tenants"
	tenantOne   = tenantsPath + "/{tenant}"
)

func (s *rest) tenants() {
	add(s, "listTenants", http.MethodGet, tenantsPath, "List tenants", s.listTenants)
	add(s, "createTenant", http.MethodPost, tenantsPath, "Create a tenant", s.createTenant, body[tenantBody](), created, large)
	// An id is derived from the name.
	s.api.OpenAPI().Components.Schemas.Map()["TenantBody"].Required = nil
	add(s, "getTenant", http.MethodGet, tenantOne, "Read a tenant", s.getTenant)
	add(s, "replaceTenant", http.MethodPut, tenantOne, "Replace a tenant; If-Match is required", s.replaceTenant, body[tenantBody](), large)
	add(s, "patchTenant", http.MethodPatch, tenantOne, "Change a tenant by merge patch (RFC 7396); files are taken as in a creation", s.patchTenant, body[map[string]any](mergeType), large)
	add(s, "deleteTenant", http.MethodDelete, tenantOne, "Delete a tenant: out of service at once, purged after a time of grace", s.deleteTenant)
	add(s, "restoreTenant", http.MethodPost, tenantOne+"/restore", "Take a deletion back", s.restoreTenant)
	add(s, "purgeTenant", http.MethodPost, tenantOne+"/purge", "Remove a deleted tenant for good, before its time", s.purgeTenant)
	add(s, "rollBackTenant", http.MethodPost, tenantOne+"/rollback", "Give a tenant back the document of an earlier revision", s.rollBackTenant, body[rollbackBody]())
}

type tenantList struct {
	Paging
	Plan    string `query:"plan" maxLength:"63" doc:"Those of this plan."`
	Status  string `query:"status" doc:"Those in this state." enum:"active,suspended"`
	Host    string `query:"host" maxLength:"253" doc:"The one that has this host."`
	Prefix  string `query:"prefix" maxLength:"63" doc:"Those whose id begins so."`
	Deleted bool   `query:"deleted" doc:"Those that wait to be purged, which are else left out."`
	Sort    string `query:"sort" enum:"id,-updated" default:"id" doc:"By id, or what was changed last first."`
}

func (s *rest) listTenants(ctx context.Context, in *tenantList) (*listing[control.Tenant], error) {
	f := control.TenantFilter{
		Plan: in.Plan, Status: in.Status, Host: in.Host, Prefix: in.Prefix, Deleted: in.Deleted, Newest: in.Sort == "-updated", After: in.Cursor, Limit: in.Limit,
	}
	c := caller(ctx)
	if c.Platform() {
		page, err := s.Plane.Tenants(ctx, f)
		return paged(&in.Paging, page, err)
	}
	// A caller for listed tenants sees these and no others, on one page.
	page := control.Page[control.Tenant]{Items: []control.Tenant{}}
	for _, id := range slices.Sorted(slices.Values(c.Tenants)) {
		t, err := s.Plane.Tenant(ctx, id)
		if gatehouse.CodeOf(err) == gatehouse.CodeNotFound {
			continue
		}
		if err != nil {
			return nil, err
		}
		if f.Selects(&t) {
			page.Items = append(page.Items, t)
		}
	}
	return paged(&in.Paging, page, nil)
}

func (s *rest) createTenant(ctx context.Context, in *struct {
	Change
	RawBody []byte
},
) (*made[control.Tenant], error) {
	var body tenantBody
	m, err := in.read(ctx, in.RawBody, &body)
	if err != nil {
		return nil, err
	}
	t, err := s.Plane.CreateTenant(ctx, body.Tenant, body.Files.contents(), m)
	return madeOf(t, &t.Meta, err)
}

func (s *rest) getTenant(ctx context.Context, in *struct {
	TenantPath
	Revision uint64 `query:"revision" doc:"As it was after this revision."`
},
) (*tenantAnswer, error) {
	if in.Revision > 0 {
		t, err := s.Plane.TenantAt(ctx, in.Tenant, in.Revision)
		return tagged(t, t.Revision, err)
	}
	t, err := s.Plane.Tenant(ctx, in.Tenant)
	return tagged(t, t.Revision, err)
}

func (s *rest) replaceTenant(ctx context.Context, in *tenantChange) (*tenantAnswer, error) {
	if err := in.required(); err != nil {
		return nil, err
	}
	var body tenantBody
	m, err := in.read(ctx, in.RawBody, &body)
	if err != nil {
		return nil, err
	}
	m.Allow = s.within(ctx, "replaceTenant", in.Tenant)
	t, err := s.Plane.ReplaceTenant(ctx, in.Tenant, body.Tenant, body.Files.contents(), m)
	return tagged(t, t.Revision, err)
}

func (s *rest) patchTenant(ctx context.Context, in *tenantChange) (*tenantAnswer, error) {
	m, err := in.mutation(ctx, in.RawBody)
	if err != nil {
		return nil, err
	}
	patch, err := object(in.RawBody, "a merge patch is a JSON object (RFC 7396)")
	if err != nil {
		return nil, err
	}
	given, err := setting(patch)
	if err != nil {
		return nil, err
	}
	rest, err := json.Marshal(patch)
	if err != nil {
		return nil, err
	}
	m.Allow = s.within(ctx, "patchTenant", in.Tenant)
	t, err := s.Plane.PatchTenant(ctx, in.Tenant, rest, given.contents(), m)
	return tagged(t, t.Revision, err)
}

func (s *rest) deleteTenant(ctx context.Context, in *tenantAct) (*tenantAnswer, error) {
	return s.tenantAct(ctx, in, s.Plane.DeleteTenant)
}

func (s *rest) restoreTenant(ctx context.Context, in *tenantAct) (*tenantAnswer, error) {
	return s.tenantAct(ctx, in, s.Plane.RestoreTenant)
}

func (s *rest) purgeTenant(ctx context.Context, in *tenantAct) (*tenantAnswer, error) {
	return s.tenantAct(ctx, in, func(ctx context.Context, id gatehouse.TenantID, m control.Mutation) (control.Tenant, error) {
		t, err := s.Plane.PurgeTenant(ctx, id, true, m)
		t.Revision = 0 // there is nothing left to match
		return t, err
	})
}

func (s *rest) tenantAct(ctx context.Context, in *tenantAct, act func(context.Context, gatehouse.TenantID, control.Mutation) (control.Tenant, error)) (*tenantAnswer, error) {
	m, err := in.mutation(ctx, nil)
	if err != nil {
		return nil, err
	}
	t, err := act(ctx, in.Tenant, m)
	return tagged(t, t.Revision, err)
}

type rollbackBody struct {
	// Revision is the one to go back to.
	Revision uint64 `json:"revision" doc:"The one to go back to."`
}

func (s *rest) rollBackTenant(ctx context.Context, in *tenantChange) (*tenantAnswer, error) {
	var body rollbackBody
	m, err := in.read(ctx, in.RawBody, &body)
	if err != nil {
		return nil, err
	}
	m.Allow = s.within(ctx, "rollBackTenant", in.Tenant)
	t, err := s.Plane.RollBackTenant(ctx, in.Tenant, body.Revision, m)
	return tagged(t, t.Revision, err)
}

// securityShown is a tenant's security settings as they are shown.
type securityShown struct {
	gatehouse.Security
	// NotEnforced are pointers of those that nothing acts on yet.
	NotEnforced []string         `json:"not_enforced,omitempty"`
	Preview     *control.Preview `json:"preview,omitempty"`
}

func securityOf(t *control.Tenant) securityShown {
	out := securityShown{Security: t.Security, Preview: t.Preview}
	for _, at := range t.NotEnforced {
		if own, ok := strings.CutPrefix(at, "/security"); ok {
			out.NotEnforced = append(out.NotEnforced, own)
		}
	}
	return out
}

func (s *rest) settings() {
	add(s, "getSecurity", http.MethodGet, tenantOne+"/security", "Read the security settings of a tenant", s.getSecurity)
	add(s, "setSecurity", http.MethodPost, tenantOne+"/security", "Set security settings of a tenant; those left out stay", s.setSecurity, body[gatehouse.Security](mergeType))
}

func (s *rest) getSecurity(ctx context.Context, in *TenantPath) (*one[securityShown], error) {
	t, err := s.Plane.Tenant(ctx, in.Tenant)
	return tagged(securityOf(&t), t.Revision, err)
}

func (s *rest) setSecurity(ctx context.Context, in *tenantChange) (*one[securityShown], error) {
	m, err := in.mutation(ctx, in.RawBody)
	if err != nil {
		return nil, err
	}
	body, err := object(in.RawBody, "a JSON object is expected")
	if err != nil {
		return nil, err
	}
	patch, err := json.Marshal(map[string]any{"security": body})
	if err != nil {
		return nil, err
	}
	t, err := s.Plane.PatchTenant(ctx, in.Tenant, patch, nil, m)
	return tagged(securityOf(&t), t.Revision, err)
}
