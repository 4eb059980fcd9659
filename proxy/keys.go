package proxy

import (
	"maps"
	"slices"

	"github.com/gatehouse-gateway/gatehouse"
)

// keyChange is what an update does to the keys of one tenant that stand in no
// document.
type keyChange struct {
	changed []gatehouse.Key
	removed []gatehouse.KeyID
	// before are the keys whose place changed takes.
	before map[gatehouse.KeyID]gatehouse.Key
}

// keyChanges sorts the key changes of an update by tenant. A full update
// removes whatever it does not hold. Nothing changes yet.
func (g *Gateway) keyChanges(u *gatehouse.Update) map[gatehouse.TenantID]*keyChange {
	all := map[gatehouse.TenantID]map[gatehouse.KeyID]*gatehouse.KeyChange{}
	for i := range u.Keys {
		k := &u.Keys[i]
		if all[k.Tenant] == nil {
			all[k.Tenant] = map[gatehouse.KeyID]*gatehouse.KeyChange{}
		}
		all[k.Tenant][k.Key.ID] = k // the last one counts
	}
	touched := map[gatehouse.TenantID]*keyChange{}
	change := func(id gatehouse.TenantID) *keyChange {
		if touched[id] == nil {
			touched[id] = &keyChange{before: map[gatehouse.KeyID]gatehouse.Key{}}
		}
		return touched[id]
	}
	if u.Full {
		for id, keys := range g.keys {
			for key := range keys {
				if all[id][key] == nil {
					change(id).removed = append(change(id).removed, key)
				}
			}
		}
	}
	for id, keys := range all {
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			c := change(id)
			if keys[key].Removed {
				c.removed = append(c.removed, key)
				continue
			}
			if old, ok := g.keys[id][key]; ok {
				c.before[key] = old
			}
			c.changed = append(c.changed, keys[key].Key)
		}
	}
	return touched
}

// revoke takes keys away at once, whatever becomes of the rest of the update:
// that cannot fail. It returns what is to be done once the tables are in place.
func (g *Gateway) revoke(touched map[gatehouse.TenantID]*keyChange, gone []gatehouse.TenantID) (retired []func()) {
	for _, id := range gone {
		delete(g.keys, id)
		delete(touched, id)
	}
	for id, c := range touched {
		for _, key := range c.removed {
			delete(g.keys[id], key)
		}
		s := g.slots[id]
		if s == nil || len(c.removed) == 0 {
			continue
		}
		old := s.table.Load()
		next := old.withKeys(nil, c.removed, old.revision)
		_ = g.directory.Set(id, old.verifier, next.verifier) // taking away cannot fail
		s.table.Store(next)
		retired = append(retired, func() { old.retire(next) })
	}
	return retired
}

// admitKeys takes new and changed keys over, each by itself: one whose secret
// belongs to another tenant is refused and not kept.
func (g *Gateway) admitKeys(touched map[gatehouse.TenantID]*keyChange, out *gatehouse.Outcome) {
	taken := map[gatehouse.KeyHash]gatehouse.TenantID{}
	free := func(id gatehouse.TenantID, hash gatehouse.KeyHash) bool {
		owner, ok := taken[hash]
		if !ok {
			owner, ok = g.directory.Owner(hash)
		}
		return !ok || owner == id
	}
	for _, id := range slices.Sorted(maps.Keys(touched)) {
		c := touched[id]
		c.changed = slices.DeleteFunc(c.changed, func(k gatehouse.Key) bool {
			if !free(id, k.Hash) || k.Previous != nil && !free(id, k.Previous.Hash) {
				out.Refused = append(out.Refused, gatehouse.Refusal{Tenant: id, Faults: gatehouse.Faults{{
					Pointer: gatehouse.Pointer("keys", string(k.ID)), Reason: "the API key belongs to another tenant",
				}}})
				return true
			}
			taken[k.Hash] = id
			if k.Previous != nil {
				taken[k.Previous.Hash] = id
			}
			return false
		})
		for _, k := range c.changed {
			if g.keys[id] == nil {
				g.keys[id] = map[gatehouse.KeyID]gatehouse.Key{}
			}
			g.keys[id][k.ID] = k
		}
	}
}

// takeBack forgets keys that did not come to be in use.
func (g *Gateway) takeBack(id gatehouse.TenantID, c *keyChange) {
	for _, k := range c.changed {
		if old, ok := c.before[k.ID]; ok {
			g.keys[id][k.ID] = old
		} else {
			delete(g.keys[id], k.ID)
		}
	}
}

// withKeys returns the table that follows t when only keys change. It costs in
// proportion to the change.
func (t *table) withKeys(changed []gatehouse.Key, removed []gatehouse.KeyID, revision uint64) *table {
	next := *t
	next.revision = revision
	next.verifier = t.verifier.WithKeys(changed, removed)
	return &next
}

// rekey brings new keys of a tenant into its running table, whose next one was
// refused. It returns what is to be done once the tables are in place.
func (g *Gateway) rekey(s *slot, c *keyChange) func() {
	old := s.table.Load()
	next := old.withKeys(c.changed, nil, old.revision)
	if err := g.directory.Set(s.id, old.verifier, next.verifier); err != nil {
		g.takeBack(s.id, c)
		g.log.Error("new keys of a tenant not taken", "tenant", string(s.id), "error", err)
		return next.verifier.Close
	}
	s.table.Store(next)
	return func() { old.retire(next) }
}

// standing are the keys of a tenant that stand in no document.
func (g *Gateway) standing(id gatehouse.TenantID) []gatehouse.Key {
	return slices.Collect(maps.Values(g.keys[id]))
}
