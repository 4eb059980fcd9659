package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
)

// Plan is a stored plan as it is shown.
type Plan struct {
	gatehouse.Plan
	Meta
}

func planRef(id gatehouse.PlanID) journal.Ref { return journal.Ref{Kind: kindPlan, ID: string(id)} }

// seed makes the plans free, premium and enterprise in an empty journal.
func (p *Plane) seed(ctx context.Context) error {
	head, err := p.journal.Head(ctx)
	if err != nil || head.Seq > 0 {
		return err
	}
	rules := func(rate string, burst, monthly int64) []gatehouse.LimitRule {
		r := gatehouse.LimitRule{Name: "per-second", Burst: burst}
		if err := r.Rate.UnmarshalText([]byte(rate)); err != nil {
			panic(err) // the literals below
		}
		out := []gatehouse.LimitRule{r}
		if monthly > 0 {
			out = append(out, gatehouse.LimitRule{Name: "monthly", Quota: monthly, Window: gatehouse.Window{Unit: "month"}})
		}
		return out
	}
	c := journal.Change{Actor: "system:start", Kind: "plan.seed", Why: "the plans of the start", Expect: map[journal.Ref]int64{}}
	for _, plan := range []gatehouse.Plan{
		{ID: "free", Name: "Free", Limits: gatehouse.Limits{Rules: rules("5/s", 10, 10_000)}},
		{ID: "premium", Name: "Premium", Limits: gatehouse.Limits{Rules: rules("100/s", 200, 1_000_000), Concurrency: 100}},
		{ID: "enterprise", Name: "Enterprise", Limits: gatehouse.Limits{Rules: rules("500/s", 1000, 0), Concurrency: 200}},
	} {
		c.Expect[planRef(plan.ID)] = journal.Absent
		c.Puts = append(c.Puts, put(planRef(plan.ID), plan))
	}
	if _, err := p.journal.Commit(ctx, c); err != nil {
		if _, raced := errors.AsType[*journal.ExistsError](err); raced {
			return nil // another control plane was first
		}
		return fmt.Errorf("make the first plans: %w", err)
	}
	return nil
}

// Plan returns a stored plan.
func (p *Plane) Plan(ctx context.Context, id gatehouse.PlanID) (Plan, error) {
	var doc gatehouse.Plan
	found, err := read(ctx, &p.journal.Reader, planRef(id), &doc)
	return Plan{doc, metaOf(&found)}, err
}

// Plans returns a page of plans.
func (p *Plane) Plans(ctx context.Context, after string, limit int) (Page[Plan], error) {
	found, err := p.journal.List(ctx, journal.Query{Kind: kindPlan, After: after, Limit: limit})
	if err != nil {
		return Page[Plan]{}, coded(err)
	}
	page := Page[Plan]{Items: make([]Plan, 0, len(found.Items)), Next: found.Next}
	for i := range found.Items {
		var doc gatehouse.Plan
		if err := json.Unmarshal(found.Items[i].Body, &doc); err != nil {
			return page, err
		}
		page.Items = append(page.Items, Plan{doc, metaOf(&found.Items[i])})
	}
	return page, nil
}

// CreatePlan stores a plan.
func (p *Plane) CreatePlan(ctx context.Context, doc gatehouse.Plan, m Mutation) (Plan, error) {
	return p.putPlan(ctx, "plan.create", doc, journal.Absent, m)
}

// ReplacePlan puts a plan in place of the one of that id. The tenants that
// have it are held to its limits at once.
func (p *Plane) ReplacePlan(ctx context.Context, id gatehouse.PlanID, doc gatehouse.Plan, m Mutation) (Plan, error) {
	if doc.ID == "" {
		doc.ID = id
	}
	if doc.ID != id {
		return Plan{}, fault("/id", fmt.Sprintf("id %q is not that of the path", doc.ID), "an id never changes")
	}
	found, err := p.journal.Get(ctx, planRef(id))
	if errors.Is(err, journal.ErrNotFound) {
		return Plan{}, notFound("plan")
	}
	if err != nil {
		return Plan{}, coded(err)
	}
	if err := m.matches(&found); err != nil {
		return Plan{}, err
	}
	return p.putPlan(ctx, "plan.replace", doc, int64(found.Revision), m)
}

func (p *Plane) putPlan(ctx context.Context, kind string, doc gatehouse.Plan, expect int64, m Mutation) (Plan, error) {
	whole := gatehouse.Document{Plans: []gatehouse.Plan{doc}}
	faults := whole.Validate()
	for i := range faults {
		faults[i].Pointer = faults[i].Pointer[len("/plans/0"):]
	}
	if err := invalid(faults); err != nil {
		return Plan{}, err
	}
	ref := planRef(doc.ID)
	c := journal.Change{Kind: kind, Subject: string(doc.ID), Expect: map[journal.Ref]int64{ref: expect}, Puts: []journal.Put{put(ref, doc)}}
	if m.DryRun {
		return Plan{Plan: doc}, p.possible(ctx, &c)
	}
	e, _, err := p.commit(ctx, m, c)
	if err != nil {
		return Plan{}, err
	}
	stored, ok := e.Resource(ref)
	if !ok {
		return Plan{}, notFound("plan")
	}
	err = json.Unmarshal(stored.Body, &doc)
	return Plan{doc, metaOf(&stored)}, err
}

// DeletePlan takes away a plan that no tenant has.
func (p *Plane) DeletePlan(ctx context.Context, id gatehouse.PlanID, m Mutation) error {
	found, err := p.journal.Get(ctx, planRef(id))
	if errors.Is(err, journal.ErrNotFound) {
		return notFound("plan")
	}
	if err != nil {
		return coded(err)
	}
	if err := m.matches(&found); err != nil {
		return err
	}
	n, err := p.journal.Count(ctx, journal.Query{Kind: kindTenant, Where: []journal.Field{{Name: "plan", Value: string(id)}}})
	if err != nil {
		return coded(err)
	}
	if n > 0 {
		return &gatehouse.Error{Code: gatehouse.CodeConflict, Message: fmt.Sprintf("%d tenants have the plan; give them another first", n)}
	}
	if m.DryRun {
		return nil
	}
	_, _, err = p.commit(ctx, m, journal.Change{
		Kind: "plan.delete", Subject: string(id), Deletes: []journal.Ref{planRef(id)}, Expect: map[journal.Ref]int64{planRef(id): int64(found.Revision)},
	})
	return err
}
