package control

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

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
	stay, tenants := map[string]int{}, 0
	for _, kind := range []string{kindTenant, kindPlan} {
		for r, err := range p.journal.All(ctx, kind) {
			if err != nil {
				return nil, coded(err)
			}
			if kind == kindTenant {
				var record tenantRecord
				if err := json.Unmarshal(r.Body, &record); err != nil {
					return nil, err
				}
				if record.Deletion != nil {
					continue
				}
			}
			if kept[kind+"/"+r.ID] {
				stay[kind]++
				continue
			}
			if kind == kindTenant {
				tenants++
			}
			doomed = append(doomed, Effect{Kind: kind, ID: r.ID, Action: ActionDelete})
		}
	}
	plans := len(doomed) - tenants
	const meant = "if that is meant, give prune_limit, the number of things that may be deleted; dry_run shows them"
	switch limit := w.PruneLimit; {
	case limit > 0 && len(doomed) > limit:
		return nil, &gatehouse.Error{Code: gatehouse.CodeConflict, Message: fmt.Sprintf("prune would delete %d tenants and %d plans, more than prune_limit", tenants, plans)}
	case limit > 0 || dry:
	case tenants > 0 && stay[kindTenant] == 0:
		return nil, fault("/prune", fmt.Sprintf("none of the tenants that are stored is wanted: prune would delete all %d", tenants), meant)
	case plans > 0 && stay[kindPlan] == 0:
		return nil, fault("/prune", fmt.Sprintf("none of the plans that are stored is wanted: prune would delete all %d", plans), meant)
	}
	return doomed, nil
}

// spared says of what is doomed that it stays.
func spared(doomed []Effect) []Effect {
	for i := range doomed {
		doomed[i].Action, doomed[i].Reason = ActionRefuse, "it is not deleted: prune deletes nothing where anything of the apply is refused"
	}
	return doomed
}

// prune deletes what is doomed; nothing of it where anything that was wanted
// was refused: what is wanted then may not be known in full.
func (p *Plane) prune(ctx context.Context, applied, doomed []Effect, o *outlook, m Mutation) ([]Effect, error) {
	if slices.ContainsFunc(applied, func(a Effect) bool { return a.Action == ActionRefuse }) {
		return spared(doomed), nil
	}
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
