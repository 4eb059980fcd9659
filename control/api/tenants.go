package api

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
)

// tenantBody is a tenant's document with the contents of the files that it
// names.
type tenantBody struct {
	gatehouse.Tenant
	// Files are contents by the name that the document has for them. Those of
	// secrets are stored sealed and never shown.
	Files map[string]string `json:"files,omitempty"`
}

func (b *tenantBody) files() map[string][]byte {
	out := map[string][]byte{}
	for name, text := range b.Files {
		out[name] = []byte(text)
	}
	return out
}

type (
	tenantPath struct {
		Tenant gatehouse.TenantID `path:"tenant"`
	}
	tenantChange struct {
		tenantPath
		change
		RawBody []byte
	}
	tenantAnswer = answer[control.Tenant]
)

const tenantsPath = "/api/v1/tenants"

func (s *rest) tenants() {
	add(s, "listTenants", http.MethodGet, tenantsPath, "List tenants", nil, s.listTenants)
	add(s, "createTenant", http.MethodPost, tenantsPath, "Create a tenant", tenantBody{}, s.createTenant, created, large)
	add(s, "getTenant", http.MethodGet, tenantsPath+"/{tenant}", "Read a tenant", nil, s.getTenant)
	add(s, "replaceTenant", http.MethodPut, tenantsPath+"/{tenant}", "Replace a tenant", tenantBody{}, s.replaceTenant, large)
	add(s, "patchTenant", http.MethodPatch, tenantsPath+"/{tenant}", "Change a tenant by merge patch (RFC 7396); files are taken as in a creation", tenantBody{}, s.patchTenant, large)
	add(s, "deleteTenant", http.MethodDelete, tenantsPath+"/{tenant}", "Delete a tenant: out of service at once, purged after a time of grace", nil, s.deleteTenant)
	add(s, "restoreTenant", http.MethodPost, tenantsPath+"/{tenant}/restore", "Take a deletion back", nil, s.restoreTenant)
	add(s, "rollBackTenant", http.MethodPost, tenantsPath+"/{tenant}/rollback", "Give a tenant back the document of an earlier revision", rollbackBody{}, s.rollBackTenant)
	add(s, "setSecurity", http.MethodPost, tenantsPath+"/{tenant}/security", "Set the security settings of a tenant; what nothing enforces yet is named", gatehouse.Security{}, s.setSecurity)
}

type tenantList struct {
	paging
	Plan    string `query:"plan" doc:"Those of this plan."`
	Status  string `query:"status" doc:"Those in this state." enum:"active,suspended"`
	Host    string `query:"host" doc:"The one that has this host."`
	Prefix  string `query:"prefix" doc:"Those whose id begins so."`
	Deleted bool   `query:"deleted" doc:"Those that wait to be purged."`
	Sort    string `query:"sort" enum:"id,-updated" default:"id"`
}

func (s *rest) listTenants(ctx context.Context, in *tenantList) (*listing[control.Tenant], error) {
	f := control.TenantFilter{
		Plan: in.Plan, Status: in.Status, Host: in.Host, Prefix: in.Prefix, Deleted: in.Deleted, Newest: in.Sort == "-updated", After: in.Cursor, Limit: in.Limit,
	}
	c := caller(ctx)
	if c.Platform() {
		page, err := s.Plane.Tenants(ctx, f)
		return linked(tenantsPath, page), err
	}
	// A caller for listed tenants sees these and no others.
	page := control.Page[control.Tenant]{Items: []control.Tenant{}}
	for _, id := range slices.Sorted(slices.Values(c.Tenants)) {
		t, err := s.Plane.Tenant(ctx, id)
		if gatehouse.CodeOf(err) == gatehouse.CodeNotFound {
			continue
		}
		if err != nil {
			return nil, err
		}
		page.Items = append(page.Items, t)
	}
	return linked(tenantsPath, page), nil
}

func (s *rest) createTenant(ctx context.Context, in *struct {
	change
	RawBody []byte
},
) (*tenantAnswer, error) {
	m, err := in.mutation(ctx, in.RawBody)
	if err != nil {
		return nil, err
	}
	var body tenantBody
	if err := decode(in.RawBody, &body); err != nil {
		return nil, err
	}
	t, err := s.Plane.CreateTenant(ctx, body.Tenant, body.files(), m)
	return tagged(t, t.Revision), err
}

func (s *rest) getTenant(ctx context.Context, in *struct {
	tenantPath
	Revision uint64 `query:"revision" doc:"As it was after this revision."`
},
) (*tenantAnswer, error) {
	if in.Revision > 0 {
		t, err := s.Plane.TenantAt(ctx, in.Tenant, in.Revision)
		return tagged(t, t.Revision), err
	}
	t, err := s.Plane.Tenant(ctx, in.Tenant)
	return tagged(t, t.Revision), err
}

func (s *rest) replaceTenant(ctx context.Context, in *tenantChange) (*tenantAnswer, error) {
	if err := in.required(); err != nil {
		return nil, err
	}
	m, err := in.mutation(ctx, in.RawBody)
	if err != nil {
		return nil, err
	}
	var body tenantBody
	if err := decode(in.RawBody, &body); err != nil {
		return nil, err
	}
	t, err := s.Plane.ReplaceTenant(ctx, in.Tenant, body.Tenant, body.files(), m)
	return tagged(t, t.Revision), err
}

func (s *rest) patchTenant(ctx context.Context, in *tenantChange) (*tenantAnswer, error) {
	m, err := in.mutation(ctx, in.RawBody)
	if err != nil {
		return nil, err
	}
	var patch map[string]json.RawMessage
	if err := json.Unmarshal(in.RawBody, &patch); err != nil || patch == nil {
		return nil, &gatehouse.Error{Code: gatehouse.CodeInvalid, Message: "a merge patch is a JSON object (RFC 7396)"}
	}
	var files tenantBody
	if given, ok := patch["files"]; ok {
		if err := json.Unmarshal(given, &files.Files); err != nil {
			return nil, &gatehouse.Error{Code: gatehouse.CodeInvalid, Message: "files is an object of names and texts"}
		}
		delete(patch, "files")
	}
	rest, err := json.Marshal(patch)
	if err != nil {
		return nil, err
	}
	t, err := s.Plane.PatchTenant(ctx, in.Tenant, rest, files.files(), m)
	return tagged(t, t.Revision), err
}

func (s *rest) deleteTenant(ctx context.Context, in *struct {
	tenantPath
	change
	Purge bool `query:"purge" doc:"Remove a deleted tenant for good, before its time."`
},
) (*tenantAnswer, error) {
	m, err := in.mutation(ctx, nil)
	if err != nil {
		return nil, err
	}
	if in.Purge {
		t, err := s.Plane.Tenant(ctx, in.Tenant)
		if err == nil {
			err = s.Plane.PurgeTenant(ctx, in.Tenant, true, m)
		}
		return tagged(t, 0), err
	}
	t, err := s.Plane.DeleteTenant(ctx, in.Tenant, m)
	return tagged(t, t.Revision), err
}

func (s *rest) restoreTenant(ctx context.Context, in *struct {
	tenantPath
	change
},
) (*tenantAnswer, error) {
	m, err := in.mutation(ctx, nil)
	if err != nil {
		return nil, err
	}
	t, err := s.Plane.RestoreTenant(ctx, in.Tenant, m)
	return tagged(t, t.Revision), err
}

type rollbackBody struct {
	// Revision is the one to go back to.
	Revision uint64 `json:"revision"`
}

func (s *rest) rollBackTenant(ctx context.Context, in *tenantChange) (*tenantAnswer, error) {
	m, err := in.mutation(ctx, in.RawBody)
	if err != nil {
		return nil, err
	}
	var body rollbackBody
	if err := decode(in.RawBody, &body); err != nil {
		return nil, err
	}
	t, err := s.Plane.RollBackTenant(ctx, in.Tenant, body.Revision, m)
	return tagged(t, t.Revision), err
}

func (s *rest) setSecurity(ctx context.Context, in *tenantChange) (*tenantAnswer, error) {
	m, err := in.mutation(ctx, in.RawBody)
	if err != nil {
		return nil, err
	}
	var body gatehouse.Security
	if err := decode(in.RawBody, &body); err != nil {
		return nil, err
	}
	patch, err := json.Marshal(map[string]json.RawMessage{"security": in.RawBody})
	if err != nil {
		return nil, err
	}
	t, err := s.Plane.PatchTenant(ctx, in.Tenant, patch, nil, m)
	return tagged(t, t.Revision), err
}
