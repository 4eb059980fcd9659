package api

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/policy"
)

type (
	// PolicyPath names a revision of a tenant's policy by its number; in a PUT,
	// a module by its file name.
	PolicyPath struct {
		TenantPath
		Policy string `path:"policy" maxLength:"128" doc:"The number of a pushed revision; to PUT a module, its file name, such as main.rego."`
	}
	policyAct struct {
		PolicyPath
		Change
	}
	policyAnswer = one[control.Policy]
)

const (
	policiesPath = tenantOne + "/policies"
	policyOne    = policiesPath + "/{policy}"
)

func (p *PolicyPath) number() (int, error) {
	n, err := strconv.Atoi(p.Policy)
	if err != nil || n < 1 {
		return 0, &gatehouse.Error{Code: gatehouse.CodeNotFound, Message: "there is no such policy: a revision is named by its number"}
	}
	return n, nil
}

// moduleBody is one module that is pushed.
type moduleBody struct {
	Source string `json:"source" doc:"Rego in package gatehouse.tenant or below it."`
	// Tests replace those of the module, x_test.rego for x.rego.
	Tests string `json:"tests,omitempty" doc:"Rego with the module's tests, kept as x_test.rego for x.rego."`
}

func (s *rest) policies() {
	add(s, "listAllPolicies", http.MethodGet, "/api/v1/policies", "List pushed policies of all tenants, newest first", s.listAllPolicies)
	add(s, "listPolicies", http.MethodGet, policiesPath, "List a tenant's pushed policies, newest first", s.listPolicies)
	add(s, "pushPolicies", http.MethodPost, policiesPath, "Push a whole set of modules: compiled, tested, stored as a numbered revision", s.pushPolicies,
		body[control.NewPolicy](gzipType), created, func(_ *rest, op *huma.Operation) { op.MaxBodyBytes = 16 << 20 })
	add(s, "getPolicy", http.MethodGet, policyOne, "Read a pushed policy with its modules, tests and review", s.getPolicy)
	add(s, "pushPolicyModule", http.MethodPut, policyOne, "Push one module into the set in force, or into that of the revision base", s.pushPolicyModule, body[moduleBody](textType), created)
	add(s, "testPolicy", http.MethodPost, policyOne+"/test", "Review a pushed policy anew: compile it and run its tests", s.testPolicy)
}

func (s *rest) listAllPolicies(ctx context.Context, in *Paging) (*listing[control.Policy], error) {
	page, err := s.Plane.Policies(ctx, control.PolicyFilter{After: in.Cursor, Limit: in.Limit})
	return paged(in, page, err)
}

func (s *rest) listPolicies(ctx context.Context, in *struct {
	TenantPath
	Paging
},
) (*listing[control.Policy], error) {
	page, err := s.Plane.Policies(ctx, control.PolicyFilter{Tenant: in.Tenant, After: in.Cursor, Limit: in.Limit})
	return paged(&in.Paging, page, err)
}

func (s *rest) pushPolicies(ctx context.Context, in *struct {
	TenantPath
	Change
	Activate bool `query:"activate" doc:"Enforce the set in the same event."`
	RawBody  []byte
},
) (*made[control.Policy], error) {
	m, err := in.mutation(ctx, in.RawBody)
	if err != nil {
		return nil, err
	}
	var set control.NewPolicy
	if in.media == gzipType {
		set, err = s.Plane.Bundle(in.RawBody)
	} else {
		err = decode(in.media, in.RawBody, &set)
	}
	if err != nil {
		return nil, err
	}
	if set.Activate = set.Activate || in.Activate; set.Activate {
		if err := s.mayActivate(ctx, in.Tenant); err != nil {
			return nil, err
		}
	}
	p, err := s.Plane.PushPolicy(ctx, in.Tenant, set, m)
	return madeOf(p, &p.Meta, err)
}

// mayActivate has a push that also activates decided as both.
func (s *rest) mayActivate(ctx context.Context, tenant gatehouse.TenantID) error {
	return s.Operators.Authorize(ctx, control.Access{Operation: "activatePolicy", Tenant: tenant, Caller: caller(ctx)})
}

func (s *rest) getPolicy(ctx context.Context, in *PolicyPath) (*policyAnswer, error) {
	n, err := in.number()
	if err != nil {
		return nil, err
	}
	p, err := s.Plane.Policy(ctx, in.Tenant, n)
	return tagged(p, p.Revision, err)
}

func (s *rest) pushPolicyModule(ctx context.Context, in *struct {
	PolicyPath
	Change
	Base     int  `query:"base" minimum:"0" doc:"The number of the pushed revision whose other modules are kept. Default: those in force."`
	Activate bool `query:"activate" doc:"Enforce the set in the same event."`
	RawBody  []byte
},
) (*made[control.Policy], error) {
	m, err := in.mutation(ctx, in.RawBody)
	if err != nil {
		return nil, err
	}
	body := moduleBody{Source: string(in.RawBody)}
	if in.media != textType {
		body = moduleBody{}
		if err := decode(in.media, in.RawBody, &body); err != nil {
			return nil, err
		}
	}
	if in.Activate {
		if err := s.mayActivate(ctx, in.Tenant); err != nil {
			return nil, err
		}
	}
	p, err := s.Plane.PushModule(ctx, in.Tenant, in.Base, gatehouse.Module{Name: in.Policy, Source: body.Source}, body.Tests, in.Activate, m)
	return madeOf(p, &p.Meta, err)
}

func (s *rest) testPolicy(ctx context.Context, in *PolicyPath) (*one[policy.Review], error) {
	n, err := in.number()
	if err != nil {
		return nil, err
	}
	p, err := s.Plane.Policy(ctx, in.Tenant, n)
	if err != nil {
		return nil, err
	}
	review, _, err := s.Plane.Review(ctx, control.NewPolicy{Modules: p.Modules, Tests: p.Tests})
	return tagged(review, 0, err)
}

// enforcement is what becomes of pushed policies.
func (s *rest) enforcement() {
	add(s, "activatePolicy", http.MethodPost, policyOne+"/activate", "Enforce a pushed policy: it becomes that of the tenant's document", s.activatePolicy)
	add(s, "shadowPolicy", http.MethodPost, policyOne+"/shadow", "Evaluate a pushed policy beside the one in force, without effect", s.shadowPolicy)
	add(s, "stopShadow", http.MethodDelete, policiesPath+"/shadow", "End the shadow", s.stopShadow)
	add(s, "getShadow", http.MethodGet, policiesPath+"/shadow", "How the shadow decides, compared to the policy in force", s.getShadow, mayBeAbsent)
	add(s, "rollBackPolicy", http.MethodPost, policiesPath+"/rollback", "Enforce the modules that were in force before those of now", s.rollBackPolicy)
	add(s, "listDecisions", http.MethodGet, policiesPath+"/decisions", "The newest decisions that are kept, in the form of OPA's decision logs", s.listDecisions, mayBeAbsent, lines[any])
	add(s, "replayPolicy", http.MethodPost, policyOne+"/replay", "Decide the kept requests by a pushed policy: what would change", s.replayPolicy, mayBeAbsent)
}

func (s *rest) activatePolicy(ctx context.Context, in *policyAct) (*policyAnswer, error) {
	return s.enforce(ctx, in, s.Plane.ActivatePolicy)
}

func (s *rest) shadowPolicy(ctx context.Context, in *policyAct) (*policyAnswer, error) {
	return s.enforce(ctx, in, s.Plane.ShadowPolicy)
}

func (s *rest) enforce(ctx context.Context, in *policyAct, act func(context.Context, gatehouse.TenantID, int, control.Mutation) (control.Policy, error)) (*policyAnswer, error) {
	m, err := in.mutation(ctx, nil)
	if err != nil {
		return nil, err
	}
	n, err := in.number()
	if err != nil {
		return nil, err
	}
	p, err := act(ctx, in.Tenant, n, m)
	return tagged(p, 0, err) // If-Match is that of the tenant, which is what changes
}

func (s *rest) stopShadow(ctx context.Context, in *tenantAct) (*tenantAnswer, error) {
	return s.tenantAct(ctx, in, s.Plane.StopShadow)
}

func (s *rest) rollBackPolicy(ctx context.Context, in *tenantAct) (*tenantAnswer, error) {
	return s.tenantAct(ctx, in, s.Plane.RollBackPolicy)
}

func (s *rest) getShadow(ctx context.Context, in *TenantPath) (*one[json.RawMessage], error) {
	if s.ShadowReport == nil {
		return nil, notBuilt("shadow reports are")
	}
	if _, err := s.Plane.Tenant(ctx, in.Tenant); err != nil {
		return nil, err
	}
	report, err := s.ShadowReport(ctx, in.Tenant)
	return tagged(report, 0, err)
}

func (s *rest) listDecisions(ctx context.Context, in *struct {
	TenantPath
	Limit int `query:"limit" minimum:"1" maximum:"10000" default:"100" doc:"At most so many."`
},
) (*huma.StreamResponse, error) {
	if s.Decisions == nil {
		return nil, notBuilt("decision logs are")
	}
	if _, err := s.Plane.Tenant(ctx, in.Tenant); err != nil {
		return nil, err
	}
	found, err := s.Decisions(ctx, in.Tenant, in.Limit)
	if err != nil {
		return nil, err
	}
	return s.streamed(func(w *lineWriter) error { return writeAll(w, found) }), nil
}

func writeAll(w *lineWriter, values iter.Seq[json.RawMessage]) error {
	for v := range values {
		if err := w.write(v); err != nil {
			return err
		}
	}
	return nil
}

func (s *rest) replayPolicy(ctx context.Context, in *PolicyPath) (*one[json.RawMessage], error) {
	if s.Replay == nil {
		return nil, notBuilt("replay of decisions is")
	}
	n, err := in.number()
	if err != nil {
		return nil, err
	}
	p, err := s.Plane.Policy(ctx, in.Tenant, n)
	if err != nil {
		return nil, err
	}
	out, err := s.Replay(ctx, in.Tenant, p.Modules)
	return tagged(out, 0, err)
}
