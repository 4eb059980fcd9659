package ratelimit

import (
	"slices"
	"time"
)

// probes is how many counts a new value looks at for one to take the place
// of. It bounds the work of a flood of new values; the hand moves on, so that
// every count is looked at in turn.
const probes = 8

// table holds the counts of all limits `by` value of a tenant, to bound them.
type table struct {
	ring []*cell
	hand int
	turn uint64 // counts the calls of Take
}

// put adds c, in place of a count that is idle once there are limit many.
func (t *table) put(c *cell, limit int, now time.Time) bool {
	if len(t.ring) < limit {
		t.ring = append(t.ring, c)
		return true
	}
	for range min(probes, len(t.ring)) {
		t.hand = (t.hand + 1) % len(t.ring)
		// A count that the current request was checked against may be idle
		// still, and is about to be charged.
		if old := t.ring[t.hand]; old.seen != t.turn && old.idle(now) {
			delete(old.limit.cells, old.key)
			t.ring[t.hand] = c
			return true
		}
	}
	return false
}

// sweep removes the counts of dropped limits.
func (t *table) sweep() {
	t.ring = slices.DeleteFunc(t.ring, func(c *cell) bool { return c.limit.dropped })
	t.hand = 0
}

// cell returns the settled count for key, a new one at need.
func (lim *limit) cell(now time.Time, key digest, v Values) *cell {
	c := lim.one
	if len(lim.spec.facts.By) > 0 {
		c = lim.cells[key]
	}
	if c == nil {
		c = lim.open(now, key, v)
	}
	c.seen = lim.local.table.turn
	c.settle(now)
	return c
}

// open makes the count for key, or returns the overflow count where there is
// no room. A new count never has more left than the overflow count: its value
// may have been using that.
func (lim *limit) open(now time.Time, key digest, v Values) *cell {
	c := newCell(lim, key)
	if len(lim.spec.facts.By) == 0 {
		lim.local.restored.into(c)
		lim.one = c
		return c
	}
	if lim.spec.facts.Kind == Quota || lim.remote {
		c.sum = stableSum(lim.spec.facts.By, v)
	}
	l := lim.local
	known := l.restored.into(c)
	room := l.maxKeys - l.restored.keys
	if known {
		room = len(l.table.ring) + 1
	}
	if !l.table.put(c, room, now) {
		if lim.remote {
			return c // the store keeps it apart; this process forgets it at once
		}
		if lim.overflow == nil {
			lim.overflow = newCell(lim, digest{})
		}
		return lim.overflow
	}
	if o := lim.overflow; o != nil && !known {
		if o.idle(now) {
			lim.overflow = nil
		} else {
			c.inherit(o, now)
		}
	}
	if lim.cells == nil {
		lim.cells = map[digest]*cell{}
	}
	lim.cells[key] = c
	return c
}
