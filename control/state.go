package control

import (
	"maps"
	"reflect"
	"slices"
	"sync"

	"github.com/gatehouse-gateway/gatehouse"
)

// state is what a data plane serves: the parts of the last change, but for the
// tenants that were refused. It is immutable.
type state struct {
	parts []*gatehouse.Document
	// held are the refused tenants as they run; nil for one that does not.
	held map[gatehouse.TenantID]*gatehouse.Tenant
	// whole is the state as one document, once somebody asks for it.
	whole func() gatehouse.Document
}

// next is the state after a change to parts of which tenants were refused.
func (s *state) next(parts []*gatehouse.Document, refused []gatehouse.Refusal) state {
	n := state{parts: parts, held: map[gatehouse.TenantID]*gatehouse.Tenant{}}
	for _, r := range refused {
		n.held[r.Tenant] = nil
	}
	if len(refused) > 0 {
		s.each(s.parts, nil, func(t *gatehouse.Tenant) {
			if _, is := n.held[t.ID]; is {
				n.held[t.ID] = t
			}
		})
	}
	n.whole = sync.OnceValue(n.join)
	return n
}

// each calls f with the tenants that run of the parts that are not in except:
// first those as their part has them, then by id those that are held.
func (s *state) each(parts []*gatehouse.Document, except map[*gatehouse.Document]bool, f func(*gatehouse.Tenant)) {
	for _, part := range parts {
		if except[part] {
			continue
		}
		for i := range part.Tenants {
			if _, held := s.held[part.Tenants[i].ID]; !held {
				f(&part.Tenants[i])
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(s.held)) {
		if t := s.held[id]; t != nil {
			f(t)
		}
	}
}

// difference is the update that leads to parts. It costs in proportion to the
// parts that are not the same, while no tenant is held.
func (s *state) difference(parts []*gatehouse.Document) (u gatehouse.Update) {
	same, was := map[*gatehouse.Document]bool{}, map[*gatehouse.Document]bool{}
	for _, part := range s.parts {
		was[part] = true
	}
	for _, part := range parts {
		same[part] = was[part]
	}
	plans, tenants := map[gatehouse.PlanID]*gatehouse.Plan{}, map[gatehouse.TenantID]*gatehouse.Tenant{}
	for _, part := range s.parts {
		for i := range part.Plans {
			if !same[part] {
				plans[part.Plans[i].ID] = &part.Plans[i]
			}
		}
	}
	s.each(s.parts, same, func(t *gatehouse.Tenant) { tenants[t.ID] = t })
	for _, part := range parts {
		if same[part] && len(s.held) == 0 {
			continue
		}
		for i := range part.Plans {
			p := &part.Plans[i]
			if old := plans[p.ID]; !same[part] && (old == nil || !reflect.DeepEqual(*old, *p)) {
				u.Plans = append(u.Plans, *p)
			}
			delete(plans, p.ID)
		}
		for i := range part.Tenants {
			t := &part.Tenants[i]
			if _, held := s.held[t.ID]; same[part] && !held {
				continue
			}
			if old := tenants[t.ID]; old == nil || !reflect.DeepEqual(*old, *t) {
				u.Tenants = append(u.Tenants, *t)
			}
			delete(tenants, t.ID)
		}
	}
	for _, part := range s.parts { // in order
		for i := range part.Plans {
			if id := part.Plans[i].ID; plans[id] != nil {
				u.RemovedPlans = append(u.RemovedPlans, id)
			}
		}
	}
	s.each(s.parts, same, func(t *gatehouse.Tenant) {
		if tenants[t.ID] != nil {
			u.RemovedTenants = append(u.RemovedTenants, t.ID)
		}
	})
	return u
}

// document is the state as one document.
func (s *state) document() gatehouse.Document {
	if s.whole == nil {
		return gatehouse.Document{}
	}
	return s.whole()
}

func (s *state) join() (d gatehouse.Document) {
	for _, part := range s.parts {
		d.Plans = append(d.Plans, part.Plans...)
	}
	s.each(s.parts, nil, func(t *gatehouse.Tenant) { d.Tenants = append(d.Tenants, *t) })
	return d
}
