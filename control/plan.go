package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

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

// planRecord is the body of a plan in the journal.
type planRecord struct {
	gatehouse.Plan
	// Retired plans are on their way out: no tenant can be given one.
	Retired bool `json:"retired,omitempty"`
}

// retired reports whether the stored plan is on its way out.
func retired(r *journal.Resource) bool {
	var record planRecord
	return json.Unmarshal(r.Body, &record) == nil && record.Retired
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
	if e, ok, err := p.replayed(ctx, m); ok || err != nil {
		return planIn(&e, err)
	}
	return p.putPlan(ctx, "plan.create", doc, nil, m)
}

// ReplacePlan puts a plan in place of the one of that id. The tenants that
// have it are held to its limits at once.
func (p *Plane) ReplacePlan(ctx context.Context, id gatehouse.PlanID, doc gatehouse.Plan, m Mutation) (Plan, error) {
	if doc.ID == "" {
		doc.ID = id
	}
	if doc.ID != id {
		return Plan{}, fault("/id", "the id is not that of the path", "an id never changes")
	}
	return p.changePlan(ctx, "plan.replace", doc, m)
}

// RollBackPlan gives a plan back the form that it had after an event.
func (p *Plane) RollBackPlan(ctx context.Context, id gatehouse.PlanID, revision uint64, m Mutation) (Plan, error) {
	old, err := at[gatehouse.Plan](ctx, p, planRef(id), revision)
	if err != nil {
		return Plan{}, err
	}
	return p.changePlan(ctx, kindRollBackPlan, old, m)
}

func (p *Plane) changePlan(ctx context.Context, kind string, doc gatehouse.Plan, m Mutation) (Plan, error) {
	if e, ok, err := p.replayed(ctx, m); ok || err != nil {
		return planIn(&e, err)
	}
	for attempt := 1; ; attempt++ {
		found, err := p.journal.Get(ctx, planRef(doc.ID))
		if errors.Is(err, journal.ErrNotFound) {
			return Plan{}, notFound(kindPlan)
		}
		if err != nil {
			return Plan{}, coded(err)
		}
		if err := m.matches(&found); err != nil {
			return Plan{}, err
		}
		out, err := p.putPlan(ctx, kind, doc, &found, m)
		if gatehouse.CodeOf(err) == gatehouse.CodeStale && attempt < attempts {
			continue
		}
		return out, err
	}
}

// putPlan checks a plan and commits it in place of what is stored, nil for
// nothing.
func (p *Plane) putPlan(ctx context.Context, kind string, doc gatehouse.Plan, stored *journal.Resource, m Mutation) (Plan, error) {
	whole := gatehouse.Document{Plans: []gatehouse.Plan{doc}}
	faults := whole.Validate()
	var before planRecord
	if stored != nil {
		if err := json.Unmarshal(stored.Body, &before); err != nil {
			return Plan{}, err
		}
	}
	for i := range faults {
		faults[i].Pointer = strings.TrimPrefix(faults[i].Pointer, "/plans/0")
	}
	if kind != kindRollBackPlan {
		faults = refuseNew(faults, doc.BadLabels(), before.BadLabels())
	}
	if err := invalid(faults); err != nil {
		return Plan{}, err
	}
	ref := planRef(doc.ID)
	c := journal.Change{Kind: kind, Subject: string(doc.ID), Expect: map[journal.Ref]int64{ref: journal.Absent}, Puts: []journal.Put{put(ref, planRecord{Plan: doc})}}
	if stored != nil {
		c.Expect[ref] = int64(stored.Revision)
	}
	if m.needless(&c, stored) {
		return Plan{doc, metaOf(stored)}, nil
	}
	d, err := p.commit(ctx, m, c)
	if d.preview != nil {
		d.preview.Tenants, err = p.subscribers(ctx, doc.ID)
		return Plan{doc, Meta{Preview: d.preview}}, err
	}
	return planIn(&d.event, err)
}

// planIn is the plan as an event left it; err is passed on.
func planIn(e *journal.Event, err error) (Plan, error) {
	if err != nil {
		return Plan{}, err
	}
	stored, ok := e.Resource(planRef(gatehouse.PlanID(e.Subject)))
	if !ok {
		return Plan{}, notFound(kindPlan)
	}
	out := Plan{Meta: metaOf(&stored)}
	return out, json.Unmarshal(stored.Body, &out.Plan)
}

// subscribers counts the tenants that have a plan, deleted ones among them.
func (p *Plane) subscribers(ctx context.Context, id gatehouse.PlanID) (int, error) {
	n, err := p.journal.Count(ctx, journal.Query{Kind: kindTenant, Where: []journal.Field{{Name: "plan", Value: string(id)}}})
	return n, coded(err)
}

// DeletePlan takes away a plan that no tenant has. It is retired first: a
// tenant that is made meanwhile either had it before, and is counted, or is
// refused. The answer to a dry run is what it would do.
func (p *Plane) DeletePlan(ctx context.Context, id gatehouse.PlanID, m Mutation) (*Preview, error) {
	return p.deletePlan(ctx, id, 0, m)
}

// deletePlan is DeletePlan. In a dry run some of the tenants may be leaving.
func (p *Plane) deletePlan(ctx context.Context, id gatehouse.PlanID, leaving int, m Mutation) (*Preview, error) {
	if _, ok, err := p.replayed(ctx, m); ok || err != nil {
		return nil, err
	}
	var plan planRecord
	found, err := read(ctx, &p.journal.Reader, planRef(id), &plan)
	if err != nil {
		return nil, err
	}
	if err := m.matches(&found); err != nil {
		return nil, err
	}
	inUse := func(n int, err error) error {
		if err != nil || n == 0 {
			return err
		}
		return &gatehouse.Error{Code: gatehouse.CodeConflict, Message: fmt.Sprintf("%d tenants have the plan; give them another first", n)}
	}
	n, err := p.subscribers(ctx, id)
	if err := inUse(n-leaving, err); err != nil {
		return nil, err
	}
	c := journal.Change{Kind: "plan.delete", Subject: string(id), Deletes: []journal.Ref{planRef(id)}, Expect: map[journal.Ref]int64{planRef(id): int64(found.Revision)}}
	if m.DryRun {
		d, err := p.commit(ctx, m, c)
		return d.preview, err
	}
	once := m
	once.Idempotency = journal.Idempotency{} // the deletion is what the key is for
	retire := func(kind string, retired bool, revision uint64) (done, error) {
		plan.Retired = retired
		return p.commit(ctx, once, journal.Change{
			Kind: kind, Subject: string(id), Puts: []journal.Put{put(planRef(id), plan)}, Expect: map[journal.Ref]int64{planRef(id): int64(revision)},
		})
	}
	d, err := retire("plan.retire", true, found.Revision)
	if err != nil {
		return nil, err
	}
	if err := inUse(p.subscribers(ctx, id)); err != nil {
		_, back := retire("plan.keep", false, d.event.Seq)
		return nil, errors.Join(err, back)
	}
	c.Expect[planRef(id)] = int64(d.event.Seq)
	_, err = p.commit(ctx, m, c)
	return nil, err
}
