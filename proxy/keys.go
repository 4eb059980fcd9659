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
}

// changeKeys takes the key changes of an update over, and returns them by
// tenant. Those of a tenant that is not served are kept for when it is: its
// document may have been refused.
func (g *Gateway) changeKeys(u *gatehouse.Update) map[gatehouse.TenantID]*keyChange {
	touched := map[gatehouse.TenantID]*keyChange{}
	if u.Full {
		g.keys = map[gatehouse.TenantID]map[gatehouse.KeyID]gatehouse.Key{}
	}
	for _, id := range u.RemovedTenants {
		delete(g.keys, id)
	}
	for i := range u.Keys {
		k := &u.Keys[i]
		change, all := touched[k.Tenant], g.keys[k.Tenant]
		if change == nil {
			change = &keyChange{}
			touched[k.Tenant] = change
		}
		if all == nil {
			all = map[gatehouse.KeyID]gatehouse.Key{}
			g.keys[k.Tenant] = all
		}
		if k.Removed {
			delete(all, k.Key.ID)
			change.removed = append(change.removed, k.Key.ID)
			change.changed = slices.DeleteFunc(change.changed, func(c gatehouse.Key) bool { return c.ID == k.Key.ID })
			continue
		}
		all[k.Key.ID] = k.Key
		change.removed = slices.DeleteFunc(change.removed, func(id gatehouse.KeyID) bool { return id == k.Key.ID })
		change.changed = append(slices.DeleteFunc(change.changed, func(c gatehouse.Key) bool { return c.ID == k.Key.ID }), k.Key)
	}
	return touched
}

// withKeys returns the table that follows t when only keys change. It costs in
// proportion to the change.
func (t *table) withKeys(c *keyChange, revision uint64) *table {
	next := *t
	next.revision = revision
	next.verifier = t.verifier.WithKeys(c.changed, c.removed)
	return &next
}

// rekey brings the key changes of a tenant into its running table, whose next
// one was refused: what is revoked must not live on for that. It returns what
// is to be done once the tables are in place.
func (g *Gateway) rekey(s *slot, c *keyChange) func() {
	old := s.table.Load()
	next := old.withKeys(c, old.revision)
	if err := g.directory.Set(s.id, old.verifier, next.verifier); err != nil {
		g.log.Error("key changes of a tenant not applied", "tenant", string(s.id), "error", err)
		return next.verifier.Close
	}
	s.table.Store(next)
	return func() { old.retire(next) }
}

// standing are the keys of a tenant that stand in no document.
func (g *Gateway) standing(id gatehouse.TenantID) []gatehouse.Key {
	return slices.Collect(maps.Values(g.keys[id]))
}
