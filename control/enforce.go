package control

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
)

// ActivatePolicy enforces a pushed revision: it becomes the policy of the
// tenant's document, as one event. A shadow of the same modules ends.
func (p *Plane) ActivatePolicy(ctx context.Context, tenant gatehouse.TenantID, number int, m Mutation) (Policy, error) {
	return p.enforce(ctx, tenant, number, "policy.activate", m, func(doc *gatehouse.Policy, modules []gatehouse.Module) {
		doc.Modules = modules
		if len(doc.Shadow) > 0 && digest(doc.Shadow) == digest(modules) {
			doc.Shadow = nil
		}
	})
}

// ShadowPolicy evaluates a pushed revision beside the policy in force.
func (p *Plane) ShadowPolicy(ctx context.Context, tenant gatehouse.TenantID, number int, m Mutation) (Policy, error) {
	return p.enforce(ctx, tenant, number, "policy.shadow", m, func(doc *gatehouse.Policy, modules []gatehouse.Module) { doc.Shadow = modules })
}

func (p *Plane) enforce(ctx context.Context, tenant gatehouse.TenantID, number int, kind string, m Mutation, f func(*gatehouse.Policy, []gatehouse.Module)) (Policy, error) {
	if e, ok, err := p.replayed(ctx, m); ok || err != nil {
		return p.policyIn(ctx, &e, err)
	}
	v, err := p.Policy(ctx, tenant, number)
	if err != nil {
		return Policy{}, err
	}
	t, err := p.changeTenant(ctx, tenant, kind, nil, m, func(now *tenantRecord, c *journal.Change) (tenantRecord, error) {
		c.Subject = strconv.Itoa(number)
		next := *now
		f(&next.Document.Policy, v.Modules)
		return next, nil
	})
	if err != nil {
		return Policy{}, err
	}
	meta := v.Meta
	meta.Preview = t.Preview
	out := v.show(&t.Tenant, meta, true)
	out.TenantRevision = t.Revision
	return out, nil
}

// StopShadow ends the shadow of a tenant.
func (p *Plane) StopShadow(ctx context.Context, tenant gatehouse.TenantID, m Mutation) (Tenant, error) {
	return p.changeTenant(ctx, tenant, "policy.unshadow", nil, m, func(now *tenantRecord, _ *journal.Change) (tenantRecord, error) {
		next := *now
		next.Document.Policy.Shadow = nil
		return next, nil
	})
}

// RollBackPolicy gives a tenant back the modules that were in force before
// those of now, whatever else of it has changed. Twice is back and forth.
func (p *Plane) RollBackPolicy(ctx context.Context, tenant gatehouse.TenantID, m Mutation) (Tenant, error) {
	return p.changeTenant(ctx, tenant, "policy.rollback", nil, m, func(now *tenantRecord, _ *journal.Change) (tenantRecord, error) {
		next := *now
		before, err := p.modulesBefore(ctx, tenant, digest(now.Document.Policy.Modules))
		next.Document.Policy.Modules = before
		return next, err
	})
}

// modulesBefore are the modules that a tenant's document last held, other than
// those of a digest.
func (p *Plane) modulesBefore(ctx context.Context, tenant gatehouse.TenantID, now string) ([]gatehouse.Module, error) {
	for before := uint64(0); ; {
		const page = 50
		events, err := p.journal.History(ctx, tenantRef(tenant), before, page)
		if err != nil {
			return nil, coded(err)
		}
		for i := range events {
			stored, ok := events[i].Resource(tenantRef(tenant))
			if !ok {
				return nil, errNoPolicyBefore // another tenant of that id
			}
			var r tenantRecord
			if err := json.Unmarshal(stored.Body, &r); err != nil {
				return nil, err
			}
			if digest(r.Document.Policy.Modules) != now {
				return r.Document.Policy.Modules, nil
			}
			before = events[i].Seq
		}
		if len(events) < page {
			return nil, errNoPolicyBefore
		}
	}
}

var errNoPolicyBefore = &gatehouse.Error{
	Code: gatehouse.CodeConflict, Message: "the tenant had no other policy before", Err: errors.New("nothing to roll back to"),
}
