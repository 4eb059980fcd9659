package api

import (
	"context"
	"net/http"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
)

type (
	keyPath struct {
		tenantPath
		Key gatehouse.KeyID `path:"key"`
	}
	keyAnswer = answer[control.Key]
)

const keysPath = tenantsPath + "/{tenant}/keys"

func (s *rest) keys() {
	add(s, "listKeys", http.MethodGet, keysPath, "List a tenant's API keys", nil, s.listKeys)
	add(s, "createKey", http.MethodPost, keysPath, "Make an API key; its secret is in this answer only", control.NewKey{}, s.createKey, created)
	add(s, "getKey", http.MethodGet, keysPath+"/{key}", "Read an API key", nil, s.getKey)
	add(s, "patchKey", http.MethodPatch, keysPath+"/{key}", "Change what an API key may do", control.KeyPatch{}, s.patchKey)
	add(s, "rotateKey", http.MethodPost, keysPath+"/{key}/rotate", "Give an API key a new secret, the old one being accepted for a while", rotateBody{}, s.rotateKey)
	add(s, "revokeKey", http.MethodDelete, keysPath+"/{key}", "Revoke an API key", nil, s.revokeKey, noContent)
}

func (s *rest) listKeys(ctx context.Context, in *struct {
	tenantPath
	paging
},
) (*listing[control.Key], error) {
	page, err := s.Plane.Keys(ctx, in.Tenant, in.Cursor, in.Limit)
	return linked(tenantsPath+"/"+string(in.Tenant)+"/keys", page), err
}

func (s *rest) createKey(ctx context.Context, in *tenantChange) (*keyAnswer, error) {
	m, err := in.mutation(ctx, in.RawBody)
	if err != nil {
		return nil, err
	}
	var body control.NewKey
	if err := decode(in.RawBody, &body); err != nil {
		return nil, err
	}
	k, err := s.Plane.CreateKey(ctx, in.Tenant, body, m)
	return tagged(k, k.Revision), err
}

func (s *rest) getKey(ctx context.Context, in *keyPath) (*keyAnswer, error) {
	k, err := s.Plane.Key(ctx, in.Tenant, in.Key)
	return tagged(k, k.Revision), err
}

type keyChange struct {
	keyPath
	change
	RawBody []byte
}

func (s *rest) patchKey(ctx context.Context, in *keyChange) (*keyAnswer, error) {
	m, err := in.mutation(ctx, in.RawBody)
	if err != nil {
		return nil, err
	}
	var body control.KeyPatch
	if err := decode(in.RawBody, &body); err != nil {
		return nil, err
	}
	k, err := s.Plane.PatchKey(ctx, in.Tenant, in.Key, body, m)
	return tagged(k, k.Revision), err
}

type rotateBody struct {
	// Overlap is how long the old secret is accepted, such as 24h (default);
	// 0s is not at all.
	Overlap *gatehouse.Duration `json:"overlap,omitempty"`
}

func (s *rest) rotateKey(ctx context.Context, in *keyChange) (*keyAnswer, error) {
	m, err := in.mutation(ctx, in.RawBody)
	if err != nil {
		return nil, err
	}
	var body rotateBody
	if len(in.RawBody) > 0 {
		if err := decode(in.RawBody, &body); err != nil {
			return nil, err
		}
	}
	overlap := control.DefaultOverlap
	if body.Overlap != nil {
		overlap = time.Duration(*body.Overlap)
	}
	k, err := s.Plane.RotateKey(ctx, in.Tenant, in.Key, overlap, m)
	return tagged(k, k.Revision), err
}

func (s *rest) revokeKey(ctx context.Context, in *struct {
	keyPath
	change
},
) (*struct{}, error) {
	m, err := in.mutation(ctx, nil)
	if err != nil {
		return nil, err
	}
	return nil, s.Plane.RevokeKey(ctx, in.Tenant, in.Key, m)
}

type (
	planPath struct {
		Plan gatehouse.PlanID `path:"plan"`
	}
	planAnswer = answer[control.Plan]
)

const plansPath = "/api/v1/plans"

func (s *rest) plans() {
	add(s, "listPlans", http.MethodGet, plansPath, "List plans", nil, func(ctx context.Context, in *paging) (*listing[control.Plan], error) {
		page, err := s.Plane.Plans(ctx, in.Cursor, in.Limit)
		return linked(plansPath, page), err
	})
	add(s, "createPlan", http.MethodPost, plansPath, "Create a plan", gatehouse.Plan{}, func(ctx context.Context, in *struct {
		change
		RawBody []byte
	},
	) (*planAnswer, error) {
		m, err := in.mutation(ctx, in.RawBody)
		if err != nil {
			return nil, err
		}
		var body gatehouse.Plan
		if err := decode(in.RawBody, &body); err != nil {
			return nil, err
		}
		p, err := s.Plane.CreatePlan(ctx, body, m)
		return tagged(p, p.Revision), err
	}, created)
	add(s, "getPlan", http.MethodGet, plansPath+"/{plan}", "Read a plan", nil, func(ctx context.Context, in *planPath) (*planAnswer, error) {
		p, err := s.Plane.Plan(ctx, in.Plan)
		return tagged(p, p.Revision), err
	})
	add(s, "replacePlan", http.MethodPut, plansPath+"/{plan}", "Replace a plan; its tenants are held to it at once", gatehouse.Plan{}, func(ctx context.Context, in *struct {
		planPath
		change
		RawBody []byte
	},
	) (*planAnswer, error) {
		if err := in.required(); err != nil {
			return nil, err
		}
		m, err := in.mutation(ctx, in.RawBody)
		if err != nil {
			return nil, err
		}
		var body gatehouse.Plan
		if err := decode(in.RawBody, &body); err != nil {
			return nil, err
		}
		p, err := s.Plane.ReplacePlan(ctx, in.Plan, body, m)
		return tagged(p, p.Revision), err
	})
	add(s, "deletePlan", http.MethodDelete, plansPath+"/{plan}", "Delete a plan that no tenant has", nil, func(ctx context.Context, in *struct {
		planPath
		change
	},
	) (*struct{}, error) {
		m, err := in.mutation(ctx, nil)
		if err != nil {
			return nil, err
		}
		return nil, s.Plane.DeletePlan(ctx, in.Plan, m)
	}, noContent)
}

type tokenPath struct {
	ID string `path:"token"`
}

const tokensPath = "/api/v1/tokens"

func (s *rest) tokens() {
	add(s, "listTokens", http.MethodGet, tokensPath, "List operator tokens", nil, func(ctx context.Context, in *paging) (*listing[control.Token], error) {
		page, err := s.Plane.Tokens(ctx, in.Cursor, in.Limit)
		for i := range page.Items {
			page.Items[i].LastUsed = s.Operators.LastUsed(page.Items[i].ID)
		}
		return linked(tokensPath, page), err
	})
	add(s, "createToken", http.MethodPost, tokensPath, "Make an operator token; its secret is in this answer only", control.NewToken{}, func(ctx context.Context, in *struct {
		change
		RawBody []byte
	},
	) (*answer[control.Token], error) {
		m, err := in.mutation(ctx, in.RawBody)
		if err != nil {
			return nil, err
		}
		var body control.NewToken
		if err := decode(in.RawBody, &body); err != nil {
			return nil, err
		}
		t, err := s.Plane.CreateToken(ctx, body, m)
		return tagged(t, t.Revision), err
	}, created)
	add(s, "getToken", http.MethodGet, tokensPath+"/{token}", "Read an operator token", nil, func(ctx context.Context, in *tokenPath) (*answer[control.Token], error) {
		t, err := s.Plane.Token(ctx, in.ID)
		t.LastUsed = s.Operators.LastUsed(in.ID)
		return tagged(t, t.Revision), err
	})
	add(s, "revokeToken", http.MethodDelete, tokensPath+"/{token}", "Revoke an operator token", nil, func(ctx context.Context, in *struct {
		tokenPath
		change
	},
	) (*struct{}, error) {
		m, err := in.mutation(ctx, nil)
		if err != nil {
			return nil, err
		}
		return nil, s.Plane.RevokeToken(ctx, in.ID, m)
	}, noContent)
}
