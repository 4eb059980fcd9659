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
// taken of a quota, divided like the quota itself.
func (lim *limit) inherit(c *cell) {
	real := lim.whole.one
	if len(lim.spec.facts.By) > 0 {
		real = lim.whole.cells[c.key]
	}
	if lim.spec.facts.Kind != Quota || real == nil || real.shared.left <= 0 {
		return
	}
	s, n := real.shared, lim.local.shared.store.Gateways()
	c.used = (s.left + n - 1) / n
	c.start, c.end = s.at.UnixNano(), s.end.UnixNano()
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
		d.hard = true
		if d.note(lim.spec, 0, busyRetry, busyRetry); d.refusedBy == lim.spec {
			d.shut = lim.spec
		}
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
		d.quota(part.spec, pc, pc.used, pc.untilEnd(now), cost)
		return pc
	}
	return part.check(d, now, cost, key, user, v)
}

// back forgets the parts of quotas: the store has been told what was spent.
func (lim *limit) back() {
	if p := lim.away; p != nil && p.spec.facts.Kind == Quota {
		p.one, p.cells, p.overflow = nil, nil, nil
	}
}
