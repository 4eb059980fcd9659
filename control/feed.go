package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"

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
// and then each change as it is made: first a full update, unless the position
// is one of this journal and not too far back, then deltas. A change costs in
// proportion to what it changes. Updates without effect on data planes are
// yielded too, empty, so that every revision is seen. It ends with ctx, or the
// journal, and an error.
func (p *Plane) Follow(ctx context.Context, from Position) iter.Seq2[gatehouse.Update, error] {
	return func(yield func(gatehouse.Update, error) bool) {
		known, err := p.knows(ctx, from)
		if err != nil {
			yield(gatehouse.Update{}, err)
			return
		}
		if !known {
			u, err := p.snapshot(ctx)
			if err != nil {
				yield(gatehouse.Update{}, err)
				return
			}
			if !yield(u, nil) {
				return
			}
			from = Position{u.Revision, u.Hash}
		}
		for e, err := range p.journal.Watch(ctx, from.Revision) {
			if err != nil {
				yield(gatehouse.Update{}, err)
				return
			}
			u, err := p.delta(ctx, &e)
			if !yield(u, err) || err != nil {
				return
			}
		}
	}
}

// compacted is how many events a data plane may be behind before a snapshot is
// the shorter way.
const compacted = 10_000

// knows reports whether deltas lead on from a position.
func (p *Plane) knows(ctx context.Context, from Position) (bool, error) {
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
	return err == nil && e.Hash.String() == from.Hash, err
}

// snapshot is everything that data planes hold, as one full update.
func (p *Plane) snapshot(ctx context.Context) (u gatehouse.Update, err error) {
	err = p.journal.Snapshot(ctx, func(s *journal.Snapshot) error {
		u = gatehouse.Update{Revision: s.Head.Seq, Full: true, Hash: s.Head.Hash.String()}
		gone := map[string]bool{}
		for r, err := range s.All(ctx, kindPlan, kindTenant, kindKey) {
			if err != nil {
				return err
			}
			if r.Kind == kindTenant {
				var record tenantRecord
				if err := json.Unmarshal(r.Body, &record); err != nil {
					return fmt.Errorf("%s: %w", r.Ref, err)
				}
				gone[r.ID] = record.Deletion != nil
			}
			if err := p.add(&u, r.Ref, r.Body); err != nil {
				return err
			}
		}
		u.RemovedTenants = nil
		live := u.Keys[:0]
		for _, k := range u.Keys {
			if !gone[string(k.Tenant)] {
				live = append(live, k)
			}
		}
		u.Keys = live
		return nil
	})
	if err != nil {
		return u, fmt.Errorf("read the snapshot: %w", err)
	}
	return u, nil
}

// delta is what an event means to data planes.
func (p *Plane) delta(ctx context.Context, e *journal.Event) (gatehouse.Update, error) {
	u := gatehouse.Update{Revision: e.Seq, Hash: e.Hash.String()}
	for i := range e.Edits {
		if err := p.add(&u, e.Edits[i].Ref, e.Edits[i].After); err != nil {
			return u, err
		}
	}
	if e.Kind != kindRestore {
		return u, nil
	}
	for r, err := range p.journal.AllAsOf(ctx, kindKey, &e.Tenant, e.Seq) { // they went with the tenant
		if err == nil {
			err = p.add(&u, r.Ref, r.Body)
		}
		if err != nil {
			return u, err
		}
	}
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
			return err
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
