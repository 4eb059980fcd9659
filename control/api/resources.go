package api

import (
	"bytes"
	"context"
	"net/http"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
)

type (
	// KeyPath names a key of a tenant.
	KeyPath struct {
		TenantPath
		Key gatehouse.KeyID `path:"key" maxLength:"100" doc:"Id of the key."`
	}
	keyChange struct {
		KeyPath
		Change
		RawBody []byte
	}
	keyAnswer = one[control.Key]
)

const keysPath = tenantOne + "/keys"

func (s *rest) keys() {
	add(s, "listKeys", http.MethodGet, keysPath, "List a tenant's API keys, those of its document left out", s.listKeys)
	add(s, "createKey", http.MethodPost, keysPath, "Make an API key; its secret is in this answer only", s.createKey, body[control.NewKey](), created)
	add(s, "getKey", http.MethodGet, keysPath+"/{key}", "Read an API key", s.getKey)
	add(s, "patchKey", http.MethodPatch, keysPath+"/{key}", "Change what an API key may do; what is left out stays", s.patchKey, body[control.KeyPatch](mergeType))
	add(s, "rotateKey", http.MethodPost, keysPath+"/{key}/rotate", "Give an API key a new secret, the old one being accepted for a while", s.rotateKey, body[rotateBody](), optional)
	add(s, "rollBackKey", http.MethodPost, keysPath+"/{key}/rollback", "Give an API key back what it might do at an earlier revision; its secret stays", s.rollBackKey, body[rollbackBody]())
	add(s, "revokeKey", http.MethodDelete, keysPath+"/{key}", "Revoke an API key", s.revokeKey, noContent)
}

func (s *rest) listKeys(ctx context.Context, in *struct {
	TenantPath
	Paging
},
) (*listing[control.Key], error) {
	page, err := s.Plane.Keys(ctx, in.Tenant, in.Cursor, in.Limit)
	return paged(&in.Paging, page, err)
}

func (s *rest) createKey(ctx context.Context, in *tenantChange) (*made[control.Key], error) {
	var body control.NewKey
	m, err := in.read(ctx, in.RawBody, &body)
	if err != nil {
		return nil, err
	}
	k, err := s.Plane.CreateKey(ctx, in.Tenant, body, m)
	return madeOf(k, &k.Meta, err)
}

func (s *rest) getKey(ctx context.Context, in *KeyPath) (*keyAnswer, error) {
	k, err := s.Plane.Key(ctx, in.Tenant, in.Key)
	return tagged(k, k.Revision, err)
}

func (s *rest) patchKey(ctx context.Context, in *keyChange) (*keyAnswer, error) {
	var body control.KeyPatch
	m, err := in.read(ctx, in.RawBody, &body)
	if err != nil {
		return nil, err
	}
	k, err := s.Plane.PatchKey(ctx, in.Tenant, in.Key, body, m)
	return tagged(k, k.Revision, err)
}

type rotateBody struct {
	// Overlap is how long the old secret is accepted.
	Overlap *string `json:"overlap,omitempty" doc:"How long the old secret is accepted, such as 24h (default); 0s is not at all."`
}

func (s *rest) rotateKey(ctx context.Context, in *keyChange) (*keyAnswer, error) {
	m, err := in.mutation(ctx, in.RawBody)
	if err != nil {
		return nil, err
	}
	var body rotateBody
	if len(bytes.TrimSpace(in.RawBody)) > 0 {
		if err := decode(in.media, in.RawBody, &body); err != nil {
			return nil, err
		}
	}
	overlap := control.DefaultOverlap
	if body.Overlap != nil {
		if overlap, err = time.ParseDuration(*body.Overlap); err != nil {
			return nil, &gatehouse.Error{Code: gatehouse.CodeInvalid, Message: "overlap is no duration such as 24h"}
		}
	}
	k, err := s.Plane.RotateKey(ctx, in.Tenant, in.Key, overlap, m)
	return tagged(k, k.Revision, err)
}

func (s *rest) rollBackKey(ctx context.Context, in *keyChange) (*keyAnswer, error) {
	var body rollbackBody
	m, err := in.read(ctx, in.RawBody, &body)
	if err != nil {
		return nil, err
	}
	k, err := s.Plane.RollBackKey(ctx, in.Tenant, in.Key, body.Revision, m)
	return tagged(k, k.Revision, err)
}

func (s *rest) revokeKey(ctx context.Context, in *struct {
	KeyPath
	Change
},
) (*gone, error) {
	m, err := in.mutation(ctx, nil)
	if err != nil {
		return nil, err
	}
	return goneOf(s.Plane.RevokeKey(ctx, in.Tenant, in.Key, m))
}

type (
	// PlanPath names a plan.
	PlanPath struct {
		Plan gatehouse.PlanID `path:"plan" maxLength:"63" doc:"Id of the plan."`
	}
	planChange struct {
		PlanPath
		Change
		RawBody []byte
	}
	planAnswer = one[control.Plan]
)

const plansPath = "/api/v1/plans"

func (s *rest) plans() {
	add(s, "listPlans", http.MethodGet, plansPath, "List plans", s.listPlans)
	add(s, "createPlan", http.MethodPost, plansPath, "Create a plan", s.createPlan, body[planBody](), created)
	add(s, "getPlan", http.MethodGet, plansPath+"/{plan}", "Read a plan", s.getPlan)
	add(s, "replacePlan", http.MethodPut, plansPath+"/{plan}", "Replace a plan, to which its tenants are held at once; If-Match is required", s.replacePlan, body[planBody]())
	add(s, "rollBackPlan", http.MethodPost, plansPath+"/{plan}/rollback", "Give a plan back its form of an earlier revision", s.rollBackPlan, body[rollbackBody]())
	add(s, "deletePlan", http.MethodDelete, plansPath+"/{plan}", "Delete a plan that no tenant has", s.deletePlan, noContent)
}

func (s *rest) listPlans(ctx context.Context, in *Paging) (*listing[control.Plan], error) {
	page, err := s.Plane.Plans(ctx, in.Cursor, in.Limit)
	return paged(in, page, err)
}

func (s *rest) createPlan(ctx context.Context, in *struct {
	Change
	RawBody []byte
},
) (*made[control.Plan], error) {
	var body planBody
	m, err := in.read(ctx, in.RawBody, &body)
	if err != nil {
		return nil, err
	}
	p, err := s.Plane.CreatePlan(ctx, body.Plan, m)
	return madeOf(p, &p.Meta, err)
}

func (s *rest) getPlan(ctx context.Context, in *PlanPath) (*planAnswer, error) {
	p, err := s.Plane.Plan(ctx, in.Plan)
	return tagged(p, p.Revision, err)
}

func (s *rest) replacePlan(ctx context.Context, in *planChange) (*planAnswer, error) {
	if err := in.required(); err != nil {
		return nil, err
	}
	var body planBody
	m, err := in.read(ctx, in.RawBody, &body)
	if err != nil {
		return nil, err
	}
	p, err := s.Plane.ReplacePlan(ctx, in.Plan, body.Plan, m)
	return tagged(p, p.Revision, err)
}

func (s *rest) rollBackPlan(ctx context.Context, in *planChange) (*planAnswer, error) {
	var body rollbackBody
	m, err := in.read(ctx, in.RawBody, &body)
	if err != nil {
		return nil, err
	}
	p, err := s.Plane.RollBackPlan(ctx, in.Plan, body.Revision, m)
	return tagged(p, p.Revision, err)
}

func (s *rest) deletePlan(ctx context.Context, in *struct {
	PlanPath
	Change
},
) (*gone, error) {
	m, err := in.mutation(ctx, nil)
	if err != nil {
		return nil, err
	}
	return goneOf(s.Plane.DeletePlan(ctx, in.Plan, m))
}
