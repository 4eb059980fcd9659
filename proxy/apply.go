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
	doc    *gatehouse.Tenant // nil: only the plan or keys change
	slot   *slot             // nil until compiled, for a tenant that is new
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
	change := g.directory.Begin()
	for _, id := range removed {
		_ = change.Set(id, g.slots[id].table.Load().verifier, nil) // taking away cannot fail
	}
	change.Done()
	touched := g.keyChanges(&u)
	retired := g.revoke(touched, append(u.RemovedTenants, removed...))
	g.admitKeys(touched, &out)
	candidates := g.candidates(&u, plans, touched, removed)
	g.settleHosts(candidates, removed)
	if g.settleKeys(candidates) {
		g.settleHosts(candidates, removed)
	}

	g.bindAll(candidates, began)
	set, drop := make(map[string]*slot, len(candidates)), []string{}
	live, goneIDs := make(map[string]*slot, len(candidates)), []string{}
	for _, id := range removed {
		s := g.slots[id]
		t := s.table.Load()
		drop = slices.AppendSeq(drop, t.hosts())
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
			drop = slices.AppendSeq(drop, old.hosts())
			retired = append(retired, func() { old.retire(c.table) })
		}
		for h := range c.table.hosts() {
			set[h] = c.slot
		}
		g.slots[c.slot.id] = c.slot
		live[string(c.slot.id)] = c.slot
		c.slot.table.Store(c.table)
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

// candidates compiles the update's tenants and those whose plan it changes, on
// all processors, and gives those of which only keys have changed their next
// verifier. removed is sorted.
func (g *Gateway) candidates(u *gatehouse.Update, plans map[gatehouse.PlanID]*gatehouse.Plan, touched map[gatehouse.TenantID]*keyChange, removed []gatehouse.TenantID) []*candidate {
	cs := make([]*candidate, 0, len(u.Tenants))
	named := make(map[gatehouse.TenantID]int, len(u.Tenants)) // places in cs
	for i := range u.Tenants {
		doc := &u.Tenants[i]
		if at, twice := named[doc.ID]; twice {
			cs[at].doc = doc // the last one counts
			continue
		}
		named[doc.ID] = len(cs)
		cs = append(cs, &candidate{doc: doc, slot: g.slots[doc.ID]})
	}
	rest := func(id gatehouse.TenantID) bool {
		_, is := named[id]
		_, goes := slices.BinarySearch(removed, id)
		return !is && !goes
	}
	if len(u.Plans)+len(u.RemovedPlans) > 0 && !u.Full {
		for _, id := range slices.Sorted(maps.Keys(g.slots)) {
			if t := g.slots[id].table.Load(); rest(id) && plans[t.planID] != t.plan {
				named[id] = len(cs)
				cs = append(cs, &candidate{slot: g.slots[id]})
			}
		}
	}
	each(len(cs), func(i int) {
		c := cs[i]
		if c.doc == nil {
			var err error
			if c.doc, err = c.slot.table.Load().document(); err != nil {
				c.faults = gatehouse.Faults{{Reason: err.Error()}}
				return
			}
		}
		if c.slot == nil {
			c.slot = &slot{id: c.doc.ID, limits: g.newLimits(c.doc.ID), meter: g.counters(c.doc.ID), gate: newGate(&g.cfg.Limits.PerTenant)}
		}
		c.table, c.faults = g.compile(c.slot, c.doc, plans[c.doc.Plan], u.Revision)
	})
	for _, id := range slices.Sorted(maps.Keys(touched)) {
		s := g.slots[id]
		if s == nil || u.Full || !rest(id) {
			continue
		}
		t := s.table.Load()
		cs = append(cs, &candidate{slot: s, same: true, table: t.withKeys(touched[id].changed, nil, u.Revision)})
	}
	return cs
}

// bindAll gives the tables that go live their routes, and tenants that are new
// the counts that they had before a restart.
func (g *Gateway) bindAll(cs []*candidate, now time.Time) {
	if len(g.quotas) > 0 {
		for _, c := range cs {
			if c.table != nil && g.slots[c.slot.id] == nil {
				g.recall(c.slot.id, c.slot.limits, now)
			}
		}
	}
	each(len(cs), func(i int) {
		if c := cs[i]; c.table != nil && !c.same {
			g.bind(c.table, c.doc, now)
		}
	})
}

// settleKeys enters the candidates' credentials into the directory, and
// refuses those whose keys belong to another tenant. A key may move between
// tenants of one update, so what failed is tried again while others succeed.
// It reports whether one was refused.
func (g *Gateway) settleKeys(cs []*candidate) (refused bool) {
	waiting := slices.DeleteFunc(slices.Clone(cs), func(c *candidate) bool { return c.table == nil })
	change := g.directory.Begin()
	for again := true; again && len(waiting) > 0; {
		before := len(waiting)
		waiting = slices.DeleteFunc(waiting, func(c *candidate) bool {
			c.keyed = change.Set(c.slot.id, verifierOf(c.slot.table.Load()), c.table.verifier) == nil
			return c.keyed
		})
		again = len(waiting) < before
	}
	change.Done()
	for _, c := range waiting {
		c.refuse(g, "/identity/api_keys", "an API key belongs to another tenant")
	}
	return len(waiting) > 0
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
			for h := range c.table.hosts() {
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
