package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
)

// Wanted is what a declarative apply brings about.
type Wanted struct {
	Plans   []gatehouse.Plan
	Tenants []gatehouse.Tenant
	// Files are contents by tenant and by the name that its document has for
	// them.
	Files map[gatehouse.TenantID]map[string][]byte
	// Prune deletes the tenants and plans that are not wanted.
	Prune bool
}

// Action is what an apply does to one thing.
type Action string

// The actions of an apply.
const (
	ActionCreate    Action = "create"
	ActionChange    Action = "change"
	ActionDelete    Action = "delete"
	ActionUnchanged Action = "unchanged"
	ActionRefuse    Action = "refuse"
)

// Effect says what an apply did, or with DryRun would do, to one thing.
type Effect struct {
	Kind   string `json:"kind"`
	ID     string `json:"id"`
	Action Action `json:"action"`
	// Revision is that of the event that did it.
	Revision uint64 `json:"revision,omitempty"`
	// Changes are the parts that differ; absent where the whole is new.
	Changes []Difference `json:"changes,omitempty"`
	// Faults say why it was refused, and warn.
	Faults gatehouse.Faults `json:"faults,omitempty"`
	// Reason says why it was refused, where that is no fault of the document.
	Reason string `json:"reason,omitempty"`
}

// batch bounds the tenants of one event of an apply.
const batch = 500

// Apply makes the stored plans and tenants those that are wanted. Each of them
// is taken or refused by itself: one with faults keeps its running form.
// Tenants are committed in events of up to 500.
func (p *Plane) Apply(ctx context.Context, w Wanted, m Mutation) ([]Effect, error) {
	key := m.Idempotency.Key
	step := 0
	next := func() Mutation { // every event of an apply has a key of its own
		n := m
		if key != "" {
			n.Idempotency.Key = fmt.Sprintf("%s/%d", key, step)
		}
		step++
		return n
	}
	var out []Effect
	for _, plan := range w.Plans {
		a, err := p.applyPlan(ctx, plan, next())
		if err != nil {
			return out, err
		}
		out = append(out, a)
	}
	for group := range slices.Chunk(w.Tenants, batch) {
		applied, err := p.applyTenants(ctx, group, w.Files, next())
		out = append(out, applied...)
		if err != nil {
			return out, err
		}
	}
	if !w.Prune {
		return out, nil
	}
	pruned, err := p.prune(ctx, w, next)
	return append(out, pruned...), err
}

// refused makes of an error about one thing what is said of it; other errors
// end the apply.
func refused(a Effect, err error) (Effect, error) {
	a.Action = ActionRefuse
	if bad, ok := errors.AsType[*Invalid](err); ok {
		a.Faults = bad.Faults
		return a, nil
	}
	coded, ok := errors.AsType[*gatehouse.Error](err)
	if !ok || coded.Code == gatehouse.CodeInternal || coded.Code == gatehouse.CodeUnavailable {
		return a, err
	}
	a.Reason = coded.Message
	return a, nil
}

func (p *Plane) applyPlan(ctx context.Context, doc gatehouse.Plan, m Mutation) (Effect, error) {
	a := Effect{Kind: kindPlan, ID: string(doc.ID), Action: ActionCreate}
	now, err := p.Plan(ctx, doc.ID)
	switch {
	case gatehouse.CodeOf(err) == gatehouse.CodeNotFound:
		now, err = p.CreatePlan(ctx, doc, m)
	case err != nil:
		return a, err
	default:
		if a.Changes, err = Diff(now.Plan, doc); err != nil {
			return a, err
		}
		if a.Action = ActionChange; len(a.Changes) == 0 {
			a.Action, a.Revision = ActionUnchanged, now.Revision
			return a, nil
		}
		now, err = p.ReplacePlan(ctx, doc.ID, doc, m)
	}
	if err != nil {
		return refused(a, err)
	}
	a.Revision = now.Revision
	return a, nil
}

// applyTenants commits a group of tenants as one event.
func (p *Plane) applyTenants(ctx context.Context, group []gatehouse.Tenant, files map[gatehouse.TenantID]map[string][]byte, m Mutation) ([]Effect, error) {
	for attempt := 1; ; attempt++ {
		out, c, err := p.prepare(ctx, group, files)
		if err != nil || len(c.Puts) == 0 || m.DryRun {
			return out, err
		}
		e, _, err := p.commit(ctx, m, c)
		if code := gatehouse.CodeOf(err); attempt < attempts && (code == gatehouse.CodeStale || code == gatehouse.CodeConflict) {
			continue // another change came in between
		}
		if err != nil {
			return nil, err
		}
		for i := range out {
			if out[i].Action == ActionCreate || out[i].Action == ActionChange {
				out[i].Revision = e.Seq
			}
		}
		return out, nil
	}
}

// prepare makes the change of a group, and says what it does to each.
func (p *Plane) prepare(ctx context.Context, group []gatehouse.Tenant, files map[gatehouse.TenantID]map[string][]byte) ([]Effect, journal.Change, error) {
	c := journal.Change{Kind: "apply", Subject: fmt.Sprintf("%d tenants", len(group)), Expect: map[journal.Ref]int64{}}
	if len(group) == 1 {
		c.Tenant, c.Subject = string(group[0].ID), string(group[0].ID)
	}
	out := make([]Effect, len(group))
	taken := map[string]gatehouse.TenantID{} // hosts that the group has taken
	for i := range group {
		var err error
		if out[i], err = p.prepareTenant(ctx, &c, group[i], files[group[i].ID], taken); err != nil {
			if out[i], err = refused(out[i], err); err != nil {
				return nil, c, err
			}
		}
	}
	return out, c, nil
}

func (p *Plane) prepareTenant(ctx context.Context, c *journal.Change, doc gatehouse.Tenant, files map[string][]byte, taken map[string]gatehouse.TenantID) (Effect, error) {
	a := Effect{Kind: kindTenant, ID: string(doc.ID), Action: ActionCreate}
	if doc.ID == "" {
		return a, fault("/id", "id is missing", "")
	}
	var before tenantRecord
	found, err := read(ctx, &p.journal.Reader, tenantRef(doc.ID), &before)
	if err != nil && gatehouse.CodeOf(err) != gatehouse.CodeNotFound {
		return a, err
	}
	exists := err == nil
	if exists && before.Deletion != nil {
		return a, errDeleted
	}
	r := tenantRecord{Document: doc}
	a.Faults = p.keep(&r, files, before.Files)
	if err := invalid(a.Faults); err != nil {
		return a, err
	}
	more, plan, err := p.examine(ctx, &r)
	if err != nil {
		return a, err
	}
	a.Faults = append(a.Faults, more...)
	if err := invalid(a.Faults); err != nil {
		return a, err
	}
	if exists {
		a.Action = ActionChange
		if a.Changes, err = Diff(before.Document, r.Document); err != nil {
			return a, err
		}
		if len(a.Changes) == 0 && p.sameFiles(doc.ID, before.Files, r.Files) {
			a.Action, a.Revision = ActionUnchanged, found.Revision
			return a, nil
		}
	}
	if err := p.free(ctx, doc.ID, r.Document.Hosts(), taken); err != nil {
		return a, err
	}
	var hosts []string
	if exists {
		hosts = before.Document.Hosts()
	}
	p.reserve(c, doc.ID, hosts, r.Document.Hosts())
	c.Expect[tenantRef(doc.ID)] = int64(found.Revision) // 0 where there is none
	if plan != 0 {
		c.Expect[planRef(doc.Plan)] = int64(plan)
	}
	c.Puts = append(c.Puts, put(tenantRef(doc.ID), &r))
	return a, nil
}

// free refuses hosts that belong to another tenant.
func (p *Plane) free(ctx context.Context, id gatehouse.TenantID, hosts []string, taken map[string]gatehouse.TenantID) error {
	for _, h := range hosts {
		h = strings.ToLower(h)
		var owner struct{ Tenant gatehouse.TenantID }
		_, err := read(ctx, &p.journal.Reader, hostRef(h), &owner)
		if err != nil && gatehouse.CodeOf(err) != gatehouse.CodeNotFound {
			return err
		}
		if by, ok := taken[h]; ok {
			owner.Tenant, err = by, nil
		}
		if err == nil && owner.Tenant != id {
			return &gatehouse.Error{Code: gatehouse.CodeConflict, Message: fmt.Sprintf("host %q belongs to another tenant", h)}
		}
	}
	for _, h := range hosts {
		taken[strings.ToLower(h)] = id
	}
	return nil
}

// sameFiles reports whether the contents are the same; sealed ones are opened
// for that, as each sealing differs.
func (p *Plane) sameFiles(id gatehouse.TenantID, a, b map[string]fileRecord) bool {
	if len(a) != len(b) {
		return false
	}
	for name, one := range a {
		two, ok := b[name]
		if !ok || one.Text != two.Text || (one.Sealed == nil) != (two.Sealed == nil) {
			return false
		}
		if one.Sealed == nil || bytes.Equal(one.Sealed, two.Sealed) {
			continue
		}
		place := string(id) + "/" + name
		x, err := p.box.open(place, one.Sealed)
		if err != nil {
			return false // it is put anew
		}
		if y, err := p.box.open(place, two.Sealed); err != nil || !bytes.Equal(x, y) {
			return false
		}
	}
	return true
}

// prune deletes what is stored and not wanted: tenants, then plans.
func (p *Plane) prune(ctx context.Context, w Wanted, next func() Mutation) ([]Effect, error) {
	tenants, plans := map[string]bool{}, map[string]bool{}
	for i := range w.Tenants {
		tenants[string(w.Tenants[i].ID)] = true
	}
	for i := range w.Plans {
		plans[string(w.Plans[i].ID)] = true
	}
	var out []Effect
	for r, err := range p.journal.All(ctx, kindTenant) {
		if err != nil {
			return out, coded(err)
		}
		var record tenantRecord
		if err := json.Unmarshal(r.Body, &record); err != nil {
			return out, err
		}
		if tenants[r.ID] || record.Deletion != nil {
			continue
		}
		a := Effect{Kind: kindTenant, ID: r.ID, Action: ActionDelete}
		t, err := p.DeleteTenant(ctx, gatehouse.TenantID(r.ID), next())
		if a.Revision = t.Revision; err != nil {
			if a, err = refused(a, err); err != nil {
				return out, err
			}
		}
		out = append(out, a)
	}
	for r, err := range p.journal.All(ctx, kindPlan) {
		if err != nil {
			return out, coded(err)
		}
		if plans[r.ID] {
			continue
		}
		a := Effect{Kind: kindPlan, ID: r.ID, Action: ActionDelete}
		if err := p.DeletePlan(ctx, gatehouse.PlanID(r.ID), next()); err != nil {
			if a, err = refused(a, err); err != nil {
				return out, err
			}
		}
		out = append(out, a)
	}
	return out, nil
}
