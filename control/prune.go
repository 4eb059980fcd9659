package control

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/gatehouse-gateway/gatehouse"
)

// unwanted returns the tenants, and then the plans, that w prunes. It refuses
// to prune more than w allows; a dry run only says what that would be.
func (p *Plane) unwanted(ctx context.Context, w *Wanted, dry bool) ([]Effect, error) {
	if !w.Prune {
		return nil, nil
	}
	kept := map[string]bool{}
	for i := range w.Tenants {
		kept[kindTenant+"/"+string(w.Tenants[i].ID)] = true
	}
	for i := range w.Plans {
		kept[kindPlan+"/"+string(w.Plans[i].ID)] = true
	}
	var doomed []Effect
	tenants := 0
	for _, kind := range []string{kindTenant, kindPlan} {
		for r, err := range p.journal.All(ctx, kind) {
			if err != nil {
				return nil, coded(err)
			}
			if kept[kind+"/"+r.ID] {
				continue
			}
			if kind == kindTenant {
				var record tenantRecord
				if err := json.Unmarshal(r.Body, &record); err != nil {
					return nil, err
				}
				if record.Deletion != nil {
					continue
				}
				tenants++
			}
			doomed = append(doomed, Effect{Kind: kind, ID: r.ID, Action: ActionDelete})
		}
	}
	switch limit := w.PruneLimit; {
	case limit > 0 && len(doomed) > limit:
		return nil, &gatehouse.Error{Code: gatehouse.CodeConflict, Message: fmt.Sprintf("prune would delete %d tenants and %d plans, more than prune_limit", tenants, len(doomed)-tenants)}
	case limit > 0 || dry:
	case tenants > 0 && len(w.Tenants) == 0:
		return nil, fault("/prune", fmt.Sprintf("no tenant is wanted: prune would delete all %d", tenants), "if that is meant, give prune_limit, the number of things that may be deleted; dry_run shows them")
	case len(doomed) > 0 && len(w.Tenants)+len(w.Plans) == 0:
		return nil, fault("/prune", fmt.Sprintf("nothing is wanted: prune would delete all %d plans", len(doomed)), "if that is meant, give prune_limit, the number of things that may be deleted; dry_run shows them")
	}
	return doomed, nil
}

// prune deletes what is doomed.
func (p *Plane) prune(ctx context.Context, doomed []Effect, o *outlook, m Mutation) ([]Effect, error) {
	for i := range doomed {
		a := &doomed[i]
		var err error
		if a.Kind == kindTenant {
			var t Tenant
			t, err = p.DeleteTenant(ctx, gatehouse.TenantID(a.ID), m)
			a.Revision = t.Revision
		} else {
			id := gatehouse.PlanID(a.ID)
			_, err = p.deletePlan(ctx, id, o.leaving(id), m)
		}
		if err != nil {
			if *a, err = refused(*a, err); err != nil {
				return doomed[:i], err
			}
		}
	}
	return doomed, nil
}
