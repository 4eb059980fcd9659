package configs

import "github.com/gatehouse-gateway/gatehouse"

// claims count who claims what belongs to one alone, and who needs what must
// be there. They are larger than a set in which everything is well by those of
// values that are not even well formed, which only costs time.
type claims struct {
	plans   map[gatehouse.PlanID]int
	tenants map[gatehouse.TenantID]int
	hosts   map[string]int
	keys    map[gatehouse.KeyHash]int
	needed  map[gatehouse.PlanID]int
	clashes int // claims beyond the first, of all
}

// add counts what a document claims, and with by = -1 no longer claims.
func (c *claims) add(d *gatehouse.Document, by int) {
	if c.plans == nil {
		*c = claims{
			plans: map[gatehouse.PlanID]int{}, tenants: map[gatehouse.TenantID]int{}, hosts: map[string]int{},
			keys: map[gatehouse.KeyHash]int{}, needed: map[gatehouse.PlanID]int{},
		}
	}
	for i := range d.Plans {
		c.clashes += count(c.plans, d.Plans[i].ID, by)
	}
	for i := range d.Tenants {
		t := &d.Tenants[i]
		c.clashes += count(c.tenants, t.ID, by)
		for host := range t.AllHosts() {
			c.clashes += count(c.hosts, host, by)
		}
		if t.Plan != "" {
			count(c.needed, t.Plan, by)
		}
		if t.Identity.APIKeys == nil {
			continue
		}
		for j := range t.Identity.APIKeys.Keys {
			k := &t.Identity.APIKeys.Keys[j]
			c.clashes += count(c.keys, k.Hash, by)
			if k.Previous != nil && k.Previous.Hash != k.Hash {
				c.clashes += count(c.keys, k.Previous.Hash, by)
			}
		}
	}
}

// count adds by to the count of k, and returns by how much the claims beyond
// the first change.
func count[K comparable](counts map[K]int, k K, by int) (beyond int) {
	n := counts[k]
	if counts[k] = n + by; n+by == 0 {
		delete(counts, k)
	}
	return max(n+by-1, 0) - max(n-1, 0)
}

// settled reports that nothing is claimed twice and every plan is there.
func (c *claims) settled() bool {
	for plan := range c.needed {
		if c.plans[plan] == 0 {
			return false
		}
	}
	return c.clashes == 0
}
