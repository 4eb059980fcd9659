package ratelimit

import (
	"slices"
	"time"
)

// probes is how many counts a new value looks at for one to take the place
// of. It bounds the work of a flood of new values; the hand moves on, so that
// every count is looked at in turn.
const probes = 8

// overflowSum stands for the digest in the key of an overflow count.
const overflowSum = "overflow"

// table holds the counts of all limits `by` value of a tenant, to bound them.
type table struct {
	turn uint64 // counts the calls of Take
	ring []*cell
	hand int
	by   int // how many limits `by` value there are
}

// put adds c, in place of a count that is idle once there are bound many. Half
// of the places are shared out among the limits, and nobody else's; the others
// are for who comes first.
func (t *table) put(c *cell, bound int, limits map[limitKey]*limit, now time.Time) bool {
	lim := c.limit.owner()
	own := bound / (2 * max(t.by, 1))
	room := len(t.ring) < bound
	if room && lim.kept >= own && len(t.ring) >= bound/2 {
		free := bound - len(t.ring)
		for _, o := range limits {
			if o != lim && len(o.spec.facts.By) > 0 {
				free -= max(own-o.kept, 0)
			}
		}
		room = free > 0
	}
	if room {
		c.place = len(t.ring)
		t.ring = append(t.ring, c)
		lim.kept++
		return true
	}
	for range min(probes, len(t.ring)) {
		t.hand = (t.hand + 1) % len(t.ring)
		// A count that the current request was checked against may be idle
		// still, and is about to be charged.
		old := t.ring[t.hand]
		if from := old.limit.owner(); old.seen != t.turn && (from == lim || from.kept > own || lim.kept < own) && old.idle(now) {
			delete(old.limit.cells, old.key)
			from.kept--
			lim.kept++
			c.place = t.hand
			t.ring[t.hand] = c
			return true
		}
	}
	return false
}

// remove takes c out.
func (t *table) remove(c *cell) {
	if c.place >= len(t.ring) || t.ring[c.place] != c {
		return
	}
	last := len(t.ring) - 1
	t.ring[c.place] = t.ring[last]
	t.ring[c.place].place = c.place
	t.ring[last] = nil
	t.ring = t.ring[:last]
	c.limit.owner().kept--
}

// sweep removes the counts of dropped limits.
func (t *table) sweep() {
	t.ring = slices.DeleteFunc(t.ring, func(c *cell) bool { return c.limit.dropped })
	for i, c := range t.ring {
		c.place = i
	}
	t.hand = 0
}

// owner returns the limit that a count belongs to, of a part the whole.
func (lim *limit) owner() *limit {
	if lim.whole != nil {
		return lim.whole
	}
	return lim
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
	if !l.table.put(c, room, l.limits, now) {
		l.overflowed++
		if lim.overflow == nil {
			lim.overflow = newCell(lim, digest{})
			lim.overflow.sum = overflowSum
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
