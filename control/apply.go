package control

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"

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
	// Prune deletes the tenants and plans that are stored as the apply begins
	// and not wanted; none of them where anything that is wanted is refused.
	Prune bool
	// PruneLimit is how many of them that may be; 0: any number, but not all
	// tenants that are stored, nor all plans. What goes beyond refuses the
	// whole.
	PruneLimit int
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
	// Kind is plan or tenant, ID that of the thing.
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

	from gatehouse.PlanID // the plan that the tenant had
}

// group bounds the tenants that are checked, and then committed, at a time.
const group = 256

// Apply makes the stored plans and tenants those that are wanted. Each of them
// is taken or refused by itself, as an event of its own: one with faults keeps
// its running form. With an idempotency key the answer is kept, and is that of
// a repetition.
func (p *Plane) Apply(ctx context.Context, w Wanted, m Mutation) ([]Effect, error) {
	key := m.Idempotency
	m.Idempotency = journal.Idempotency{}
	doomed, refusal := p.unwanted(ctx, &w, m.DryRun)
	if key.Key == "" || m.DryRun {
		if refusal != nil {
			return nil, refusal
		}
		return p.apply(ctx, w, doomed, m)
	}
	// The request is noted first, so that the key is not used for another. If
	// the answer is not kept it did not come to its end: what it did is
	// unchanged when it is done again.
	e, err := p.journal.Commit(ctx, journal.Change{Actor: m.Actor, Why: m.Why, Kind: "apply.begin", Idempotency: key, Refusal: refusal})
	if err != nil && !errors.Is(err, journal.ErrReplayed) {
		return nil, coded(err)
	}
	ref := journal.Ref{Kind: kindAnswer, ID: strconv.FormatUint(e.Seq, 10)}
	var out []Effect
	if _, err := read(ctx, &p.journal.Reader, ref, &out); gatehouse.CodeOf(err) != gatehouse.CodeNotFound {
		return out, err
	}
	if refusal != nil {
		return nil, refusal
	}
	out, err = p.apply(ctx, w, doomed, m)
	if err != nil {
		return out, err
	}
	if out == nil {
		out = []Effect{}
	}
	_, err = p.journal.Commit(ctx, journal.Change{Actor: m.Actor, Why: m.Why, Kind: "apply.end", Puts: []journal.Put{put(ref, out)}})
	return out, coded(err)
}

func (p *Plane) apply(ctx context.Context, w Wanted, doomed []Effect, m Mutation) ([]Effect, error) {
	var out []Effect
	var o *outlook
	if m.DryRun {
		o = newOutlook()
	}
	for _, plan := range w.Plans {
		a, err := p.applyPlan(ctx, plan, m)
		if err != nil {
			return out, err
		}
		out = append(out, a)
		if o != nil && a.Action != ActionRefuse {
			o.plans[plan.ID] = true
		}
	}
	seen := map[gatehouse.TenantID]bool{}
	for some := range slices.Chunk(w.Tenants, group) {
		applied, err := p.applyTenants(ctx, some, w.Files, seen, o, m)
		out = append(out, applied...)
		if err != nil {
			return out, err
		}
	}
	pruned, err := p.prune(ctx, out, doomed, o, m)
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

// applyTenants applies some tenants, each by itself. They are committed at
// once, so that the journal writes them together. Those that met a conflict
// are tried once more: a host that one of them takes may have been another's.
func (p *Plane) applyTenants(ctx context.Context, some []gatehouse.Tenant, files map[gatehouse.TenantID]map[string][]byte, seen map[gatehouse.TenantID]bool, o *outlook, m Mutation) ([]Effect, error) {
	out, errs := make([]Effect, len(some)), make([]error, len(some))
	again := make([]bool, len(some))
	for i := range some {
		id := some[i].ID
		out[i] = Effect{Kind: kindTenant, ID: string(id)}
		switch {
		case id == "":
			errs[i] = fault("/id", "id is missing", "")
		case seen[id]:
			errs[i] = fault("/id", "the tenant is given twice", "")
		default:
			again[i] = true
		}
		seen[id] = true
	}
	for range 2 {
		var running sync.WaitGroup
		slots := make(chan struct{}, group)
		for i := range some {
			if !again[i] {
				continue
			}
			// The check is the work; one at a time of it leaves the machine to
			// others. What follows waits for the disk.
			c, a, err := p.prepare(ctx, some[i], files[some[i].ID], o)
			if out[i], errs[i] = a, err; err != nil || len(c.Puts) == 0 || m.DryRun {
				if errs[i] == nil && o != nil {
					if errs[i] = o.possible(ctx, p, &c); errs[i] == nil && len(c.Puts) > 0 {
						o.moves(a.from, some[i].Plan)
					}
				}
				continue
			}
			slots <- struct{}{}
			running.Go(func() {
				defer func() { <-slots }()
				d, err := p.commit(ctx, m, c)
				out[i].Revision, errs[i] = d.event.Seq, err
			})
		}
		running.Wait()
		for i := range some {
			code := gatehouse.CodeOf(errs[i])
			again[i] = again[i] && (code == gatehouse.CodeConflict || code == gatehouse.CodeStale)
		}
	}
	for i, err := range errs {
		if err == nil {
			continue
		}
		if out[i], err = refused(out[i], err); err != nil {
			return out, err
		}
	}
	return out, nil
}

// prepare makes the change that brings a tenant about, without puts if there
// is nothing to do, and says what it does.
func (p *Plane) prepare(ctx context.Context, doc gatehouse.Tenant, files map[string][]byte, o *outlook) (journal.Change, Effect, error) {
	a := Effect{Kind: kindTenant, ID: string(doc.ID), Action: ActionCreate}
	c := journal.Change{Kind: "tenant.apply", Tenant: string(doc.ID), Subject: string(doc.ID), Expect: map[journal.Ref]int64{}}
	var before *tenantRecord
	var now tenantRecord
	found, err := read(ctx, &p.journal.Reader, tenantRef(doc.ID), &now)
	switch {
	case err == nil:
		before, a.Action = &now, ActionChange
	case gatehouse.CodeOf(err) != gatehouse.CodeNotFound:
		return c, a, err
	}
	if now.Deletion != nil {
		return c, a, errDeleted
	}
	a.from = now.Document.Plan
	c.Expect[tenantRef(doc.ID)] = int64(found.Revision) // 0 where there is none
	r := tenantRecord{Document: doc}
	if a.Faults, err = p.prepareRecord(ctx, &c, &r, before, files, o); err != nil || before == nil {
		return c, a, err
	}
	if a.Changes, err = Diff(now.Document, r.Document); err != nil {
		return c, a, err
	}
	for name, f := range r.Files {
		if !p.sameFile(doc.ID, name, now.Files[name], f) {
			a.Changes = append(a.Changes, Difference{Pointer: gatehouse.Pointer("files", name)})
		}
	}
	if len(a.Changes) == 0 {
		a.Action, a.Revision, c.Puts = ActionUnchanged, found.Revision, nil
	}
	return c, a, nil
}

// sameFile reports whether the contents are the same; sealed ones are opened
// for that, as each sealing differs.
func (p *Plane) sameFile(id gatehouse.TenantID, name string, a, b fileRecord) bool {
	if a.Sealed == nil || b.Sealed == nil || bytes.Equal(a.Sealed, b.Sealed) {
		return a.Text == b.Text && (a.Sealed == nil) == (b.Sealed == nil)
	}
	place := string(id) + "/" + name
	x, err := p.box.open(place, a.Sealed)
	if err != nil {
		return false // it is put anew
	}
	y, err := p.box.open(place, b.Sealed)
	return err == nil && bytes.Equal(x, y)
}
