package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
)

// Position is how far a data plane has followed. Its Hash tells a journal from
// another that has come to the same revision.
type Position struct {
	Revision uint64 `json:"revision"`
	Hash     string `json:"hash,omitempty"`
}

// Follow yields what brings a data plane from a position to the state of now,
// and then each change as it is made: first a full update, unless Knows the
// position, then Deltas. It ends with ctx, or the journal, and an error.
func (p *Plane) Follow(ctx context.Context, from Position) iter.Seq2[gatehouse.Update, error] {
	return func(yield func(gatehouse.Update, error) bool) {
		known, err := p.Knows(ctx, from)
		if err == nil && !known {
			var u gatehouse.Update
			if u, err = p.snapshot(ctx); err == nil && !yield(u, nil) {
				return
			}
			from = Position{u.Revision, u.Hash}
		}
		if err != nil {
			yield(gatehouse.Update{}, err)
			return
		}
		p.Deltas(ctx, from)(yield)
	}
}

// Bounds of what is made one delta: events, and resources.
const (
	mergedEvents = 256
	mergedEdits  = 1000
)

// Deltas yields the changes after a position that Knows. A change costs in
// proportion to what it changes. One without effect on data planes is yielded
// too, empty, so that every revision is come to. What was changed while an
// update was taken is told in one, as it is in the end: who is slow gets fewer
// and no more than there is to know.
func (p *Plane) Deltas(ctx context.Context, from Position) iter.Seq2[gatehouse.Update, error] {
	return func(yield func(gatehouse.Update, error) bool) {
		after := from.Revision
		for {
			events, err := p.next(ctx, after)
			if err != nil {
				yield(gatehouse.Update{}, err)
				return
			}
			for len(events) > 0 {
				n, edits := 0, 0
				for n < len(events) && (n == 0 || edits+len(events[n].Edits) <= mergedEdits) {
					edits += len(events[n].Edits)
					n++
				}
				u, err := p.delta(ctx, events[:n])
				if !yield(u, err) || err != nil {
					return
				}
				after, events = u.Revision, events[n:]
			}
		}
	}
}

// next waits for events after a number.
func (p *Plane) next(ctx context.Context, after uint64) ([]journal.Event, error) {
	events, err := p.journal.Events(ctx, journal.Filter{After: after}, mergedEvents)
	if err != nil || len(events) > 0 {
		return events, err
	}
	for e, err := range p.journal.Watch(ctx, after) {
		return []journal.Event{e}, err
	}
	return nil, ctx.Err()
}

// compacted is how many events a data plane may be behind before a snapshot is
// the shorter way.
const compacted = 10_000

// Knows reports whether deltas lead on from a position: it is one of this
// journal, and not too far back.
func (p *Plane) Knows(ctx context.Context, from Position) (bool, error) {
	if from.Revision == 0 {
		return false, nil
	}
	head, err := p.journal.Head(ctx)
	if err != nil {
		return false, err
	}
	if head.Seq < from.Revision || head.Seq-from.Revision > compacted {
		return false, nil
	}
	e, err := p.journal.Event(ctx, from.Revision)
	if errors.Is(err, journal.ErrNotFound) {
		return false, nil
	}
	return err == nil && e.Hash.String() == from.Hash, coded(err)
}

// delta is what consecutive events mean to data planes: the last form of each
// resource that they touched.
func (p *Plane) delta(ctx context.Context, events []journal.Event) (gatehouse.Update, error) {
	last := &events[len(events)-1]
	u := gatehouse.Update{Revision: last.Seq, Hash: last.Hash.String()}
	at := map[journal.Ref]int{}
	var edits []journal.Edit
	put := func(d journal.Edit) {
		if i, ok := at[d.Ref]; ok {
			edits[i] = d
			return
		}
		at[d.Ref] = len(edits)
		edits = append(edits, d)
	}
	for i := range events {
		for _, d := range events[i].Edits {
			put(d)
		}
		if events[i].Kind != kindRestore {
			continue
		}
		for r, err := range p.journal.AllAsOf(ctx, kindKey, &events[i].Tenant, events[i].Seq) { // they went with the tenant
			if err != nil {
				return u, err
			}
			put(journal.Edit{Ref: r.Ref, After: r.Body})
		}
	}
	for i := range edits {
		if err := p.add(&u, edits[i].Ref, edits[i].After); err != nil {
			return u, err
		}
	}
	// The keys of a tenant that is gone are gone.
	u.Keys = slices.DeleteFunc(u.Keys, func(k gatehouse.KeyChange) bool { return slices.Contains(u.RemovedTenants, k.Tenant) })
	return u, nil
}

// add puts one resource into an update; a nil body is a deletion.
func (p *Plane) add(u *gatehouse.Update, ref journal.Ref, body json.RawMessage) error {
	decode := func(v any) error {
		if err := json.Unmarshal(body, v); err != nil {
			return fmt.Errorf("%s: %w", ref, err)
		}
		return nil
	}
	switch ref.Kind {
	case kindPlan:
		if body == nil {
			u.RemovedPlans = append(u.RemovedPlans, gatehouse.PlanID(ref.ID))
			return nil
		}
		var doc gatehouse.Plan
		if err := decode(&doc); err != nil {
			return err
		}
		u.Plans = append(u.Plans, doc)
	case kindTenant:
		var r tenantRecord
		if body != nil {
			if err := decode(&r); err != nil {
				return err
			}
		}
		if body == nil || r.Deletion != nil {
			u.RemovedTenants = append(u.RemovedTenants, gatehouse.TenantID(ref.ID))
			return nil
		}
		if err := p.attach(&r); err != nil {
			// A tenant whose secrets cannot be had is told to nobody: others are.
			p.log.Error("leave a tenant out of an update", "tenant", ref.ID, "error", err)
			return nil
		}
		u.Tenants = append(u.Tenants, r.Document)
	case kindKey:
		change := gatehouse.KeyChange{Tenant: gatehouse.TenantID(ref.Tenant), Removed: body == nil}
		change.Key.ID = gatehouse.KeyID(ref.ID)
		if body != nil {
			var r keyRecord
			if err := decode(&r); err != nil {
				return err
			}
			change.Key = r.Key
		}
		u.Keys = append(u.Keys, change)
	}
	return nil
}
