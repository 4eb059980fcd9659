package ratelimit

import (
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// part returns what this gateway, one of n, may let through by itself while
// the store is away: a limit of its own, whose counts begin when it is first
// needed.
func (lim *limit) part(now time.Time, n int64) *limit {
	if lim.away != nil && lim.away.spec.whole == &lim.spec.facts && lim.away.spec.facts.Quota == portion(lim.spec.facts.Quota, n) {
		return lim.away
	}
	sp := *lim.spec
	sp.whole = &lim.spec.facts
	sp.facts.Quota, sp.facts.Burst = portion(sp.facts.Quota, n), portion(sp.facts.Burst, n)
	sp.facts.Store = gatehouse.StoreLocal
	sp.perSecond /= float64(n)
	sp.since = now
	if lim.away == nil {
		lim.away = &limit{local: lim.local, name: lim.name, whole: lim}
		if sp.facts.Kind == Users {
			lim.away.users = newUsers()
		}
	}
	lim.away.spec = &sp
	return lim.away
}

// inherit sets a new count of a part to what the store was last heard to have
// taken of a quota, divided like the quota itself, and to what this gateway
// has spent since then and not told.
func (lim *limit) inherit(c *cell) {
	real := lim.whole.one
	if len(lim.spec.facts.By) > 0 {
		real = lim.whole.cells[c.key]
	}
	if lim.spec.facts.Kind != Quota || real == nil {
		return
	}
	s, now := real.shared, lim.local.now
	if s.left > 0 && now.Before(s.end) {
		n := lim.local.shared.store.Gateways()
		c.used = (s.left + n - 1) / n
		c.start, c.end = s.at.UnixNano(), s.end.UnixNano()
	}
	for _, o := range []*owed{&s.sent, &s.debt} {
		if o.units <= 0 || !now.Before(o.until) {
			continue
		}
		if c.used += o.units; c.end == 0 {
			c.start, c.end = now.UnixNano(), o.until.UnixNano()
		}
	}
}

// portion is never 0: a gateway that lets nothing through would not be a part
// but closed.
func portion(n, parts int64) int64 { return max(n/parts, 1) }

// checkAway is check while the store is away. It returns the count of the part, nil where there is none.
func (lim *limit) checkAway(d *decision, now time.Time, cost int64, key, user digest, v Values) *cell {
	part := lim.part(now, lim.local.shared.store.Gateways())
	switch lim.spec.facts.Away {
	case gatehouse.AwayOpen:
		return nil
	case gatehouse.AwayClosed:
		d.close(lim.spec)
		return nil
	}
	switch lim.spec.facts.Kind {
	case Concurrency:
		// Those with a place in the store are in flight too.
		if lim.inFlight+part.inFlight >= part.spec.facts.Quota {
			d.hard = true // nobody waits for the store
			d.note(lim.spec, 0, busyRetry, busyRetry)
		}
		return nil
	case Quota:
		pc := part.cell(now, key, v)
		if lim.spec.soft() {
			// What lies beyond the whole quota is known when the store is
			// told: none of it is billed by a part.
			d.admit(part.spec, pc, float64(max(part.spec.facts.Quota-pc.used-cost, 0)))
			return pc
		}
		d.quota(part.spec, pc, pc.used, pc.untilEnd(now), cost)
		return pc
	}
	return part.check(d, now, cost, key, user, v)
}

// back forgets this gateway's part of a quota's count: the store is counting
// again.
func (lim *limit) back(c *cell) {
	p := lim.away
	if p == nil || p.spec.facts.Kind != Quota {
		return
	}
	if len(p.spec.facts.By) == 0 {
		p.one = nil
		return
	}
	if c == lim.overflow {
		p.overflow = nil
	}
	if pc := p.cells[c.key]; pc != nil && c == lim.cells[c.key] {
		delete(p.cells, c.key)
		lim.local.table.remove(pc)
	}
}
