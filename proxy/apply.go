package proxy

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// candidate is a tenant of an update on its way to being live.
type candidate struct {
	slot   *slot
	table  *table
	faults gatehouse.Faults
	keyed  bool // its credentials are in the directory
	same   bool // but for the keys the table is the running one
}

// Apply brings an update live. Each tenant is taken or refused as a whole; a
// refused one keeps its running table, and the others are not touched by it.
// Calls take turns; requests go on meanwhile.
func (g *Gateway) Apply(u gatehouse.Update) gatehouse.Outcome {
	g.mu.Lock()
	defer g.mu.Unlock()
	began := time.Now()
	out := gatehouse.Outcome{Revision: u.Revision, Applied: []gatehouse.TenantID{}, Removed: []gatehouse.TenantID{}, Refused: []gatehouse.Refusal{}}

	plans := g.nextPlans(&u)
	removed := g.removals(&u)
	for _, id := range removed {
		_ = g.directory.Set(id, g.slots[id].table.Load().verifier, nil) // taking away cannot fail
	}
	touched := g.keyChanges(&u)
	retired := g.revoke(touched, append(u.RemovedTenants, removed...))
	g.admitKeys(touched, &out)
	candidates := g.candidates(&u, plans, touched)
	g.settleHosts(candidates, removed)
	if g.settleKeys(candidates) {
		g.settleHosts(candidates, removed)
	}

	set, drop := map[string]*slot{}, []string{}
	live, goneIDs := map[string]*slot{}, []string{}
	for _, id := range removed {
		s := g.slots[id]
		t := s.table.Load()
		drop = append(drop, t.doc.Hosts()...)
		delete(g.slots, id)
		goneIDs = append(goneIDs, string(id))
		retired = append(retired, func() { s.table.Store(nil); t.retire(nil); g.decisions.Drop(id) })
		out.Removed = append(out.Removed, id)
	}
	for _, c := range candidates {
		old := c.slot.table.Load()
		if c.table == nil {
			out.Refused = append(out.Refused, gatehouse.Refusal{Tenant: c.slot.id, Faults: c.faults})
			if change := touched[c.slot.id]; change != nil && len(change.changed) > 0 && old != nil {
				if c.same {
					g.takeBack(c.slot.id, change)
				} else {
					retired = append(retired, g.rekey(c.slot, change))
				}
			}
			continue
		}
		if c.same {
			c.slot.table.Store(c.table)
			retired = append(retired, func() { old.retire(c.table) })
			out.Applied = append(out.Applied, c.slot.id)
			continue
		}
		if old != nil {
			drop = append(drop, old.doc.Hosts()...)
		}
		for _, h := range c.table.doc.Hosts() {
			set[h] = c.slot
		}
		g.slots[c.slot.id] = c.slot
		live[string(c.slot.id)] = c.slot
		g.bind(c.table, began)
		c.slot.table.Store(c.table)
		retired = append(retired, func() { old.retire(c.table) })
		out.Applied = append(out.Applied, c.slot.id)
	}
	g.hosts.Change(set, drop)
	g.tenants.Change(live, goneIDs)
	for _, f := range retired {
		f()
	}
	g.plans = plans
	g.revision.Store(u.Revision)
	g.metrics.applied(&out, time.Since(began))
	return out
}

// nextPlans returns the plans after the update, without changing those of now.
func (g *Gateway) nextPlans(u *gatehouse.Update) map[gatehouse.PlanID]*gatehouse.Plan {
	next := map[gatehouse.PlanID]*gatehouse.Plan{}
	if !u.Full {
		maps.Copy(next, g.plans)
	}
	for i := range u.Plans {
		next[u.Plans[i].ID] = &u.Plans[i]
	}
	for _, id := range u.RemovedPlans {
		delete(next, id)
	}
	return next
}

func (g *Gateway) removals(u *gatehouse.Update) []gatehouse.TenantID {
	gone := map[gatehouse.TenantID]bool{}
	if u.Full {
		for id := range g.slots {
			gone[id] = true
		}
	}
	for _, id := range u.RemovedTenants {
		gone[id] = g.slots[id] != nil
	}
	for i := range u.Tenants {
		delete(gone, u.Tenants[i].ID)
	}
	maps.DeleteFunc(gone, func(_ gatehouse.TenantID, is bool) bool { return !is })
	return slices.Sorted(maps.Keys(gone))
}

// candidates compiles the update's tenants and those whose plan it changes, and
// gives those of which only keys have changed their next verifier.
func (g *Gateway) candidates(u *gatehouse.Update, plans map[gatehouse.PlanID]*gatehouse.Plan, touched map[gatehouse.TenantID]*keyChange) []*candidate {
	var cs []*candidate
	named := map[gatehouse.TenantID]bool{}
	compile := func(s *slot, doc *gatehouse.Tenant) {
		named[doc.ID] = true
		c := &candidate{slot: s}
		c.table, c.faults = g.compile(s, doc, plans[doc.Plan], u.Revision)
		cs = append(cs, c)
	}
	for i := range u.Tenants {
		doc := &u.Tenants[i]
		s := g.slots[doc.ID]
		if s == nil {
			s = &slot{id: doc.ID, limits: g.newLimits(doc.ID), meter: g.counters(doc.ID), gate: newGate(&g.cfg.Limits.PerTenant)}
			g.recall(doc.ID, s.limits, time.Now())
		}
		compile(s, doc)
	}
	if len(u.Plans)+len(u.RemovedPlans) > 0 {
		for _, id := range slices.Sorted(maps.Keys(g.slots)) {
			t := g.slots[id].table.Load()
			if !named[id] && !u.Full && plans[t.doc.Plan] != t.plan && !slices.Contains(u.RemovedTenants, id) {
				compile(g.slots[id], t.doc)
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(touched)) {
		s := g.slots[id]
		if s == nil || named[id] || u.Full || slices.Contains(u.RemovedTenants, id) {
			continue
		}
		t := s.table.Load()
		cs = append(cs, &candidate{slot: s, same: true, table: t.withKeys(touched[id].changed, nil, u.Revision)})
	}
	return cs
}

// settleKeys enters the candidates' credentials into the directory, and
// refuses those whose keys belong to another tenant. A key may move between
// tenants of one update, so what failed is tried again while others succeed.
// It reports whether one was refused.
func (g *Gateway) settleKeys(cs []*candidate) (refused bool) {
	waiting := slices.DeleteFunc(slices.Clone(cs), func(c *candidate) bool { return c.table == nil })
	for len(waiting) > 0 {
		failed := slices.DeleteFunc(slices.Clone(waiting), func(c *candidate) bool {
			c.keyed = g.directory.Set(c.slot.id, verifierOf(c.slot.table.Load()), c.table.verifier) == nil
			return c.keyed
		})
		if len(failed) == len(waiting) {
			for _, c := range failed {
				c.refuse(g, "/identity/api_keys", "an API key belongs to another tenant")
			}
			return true
		}
		waiting = failed
	}
	return false
}

// settleHosts refuses candidates whose hosts belong to a tenant that keeps
// them. A refusal may leave a host with its owner that another candidate had
// counted on, so it goes on until nothing changes.
func (g *Gateway) settleHosts(cs []*candidate, removed []gatehouse.TenantID) {
	gone := map[*slot]bool{}
	for _, id := range removed {
		gone[g.slots[id]] = true
	}
	for again := true; again; {
		again = false
		moving := map[*slot]bool{} // running tables that will be replaced
		claims := map[string]*candidate{}
		for _, c := range cs {
			moving[c.slot] = c.table != nil
		}
		for _, c := range cs {
			if c.table == nil {
				continue
			}
			for _, h := range c.table.doc.Hosts() {
				owner := g.hosts.Owner(h)
				kept := owner != nil && owner != c.slot && !gone[owner] && !moving[owner]
				if first := claims[h]; kept || first != nil {
					c.refuse(g, "/domain", fmt.Sprintf("host %q belongs to another tenant", h))
					again = true
					break
				}
				claims[h] = c
			}
		}
	}
}

// refuse keeps the tenant's running table. Credentials that were entered are
// taken back; where a key has found another owner in this update meanwhile,
// that is not possible, and the log says so.
func (c *candidate) refuse(g *Gateway, at, reason string) {
	if c.keyed {
		if err := g.directory.Set(c.slot.id, c.table.verifier, verifierOf(c.slot.table.Load())); err != nil {
			g.log.Error("credentials of a refused change not taken back", "tenant", string(c.slot.id), "error", err)
		}
	}
	g.discard(c.table, c.slot.table.Load())
	c.table = nil
	c.faults = append(c.faults, gatehouse.Fault{Pointer: at, Reason: reason})
}
