package ratelimit

import (
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// spec is a limit as the document has it. It is immutable.
type spec struct {
	perSecond float64 // of a rate
	facts     Limit
	rate      gatehouse.Rate
	window    gatehouse.Window // of a quota
	anchor    int              // day of the month on which a window of months begins
	loc       *time.Location   // of a calendar window
	since     time.Time        // when it came into force
	terms     Terms            // in the shared store

	wait       time.Duration // of concurrency: how long a request waits for a place
	maxWaiting int

	whole *Limit // of the part that one gateway has while the store is away: the limit
}

// shown returns the limit as callers are told of it.
func (sp *spec) shown() *Limit {
	if sp.whole != nil {
		return sp.whole
	}
	return &sp.facts
}

// same reports whether sp and o mean the same. Their scope, kind, name,
// selectors and store are equal already.
func (sp *spec) same(o *spec) bool {
	a, b := &sp.facts, &o.facts
	return a.Quota == b.Quota && a.Burst == b.Burst && a.Mode == b.Mode && a.Away == b.Away && a.Absent == b.Absent && a.OnDemand == b.OnDemand &&
		sp.wait == o.wait && sp.maxWaiting == o.maxWaiting && sp.rate == o.rate && sp.sameWindow(o)
}

func (sp *spec) sameWindow(o *spec) bool {
	return sp.window == o.window && sp.anchor == o.anchor && (sp.loc == o.loc || sp.loc.String() == o.loc.String())
}

// soft reports whether the limit serves what is beyond it.
func (sp *spec) soft() bool {
	return sp.facts.Mode == gatehouse.Soft || sp.facts.Mode == gatehouse.Overage
}

// limit is the live state of one limit; Local.mu guards it.
type limit struct {
	// A request reads these alone: they lie in one line of the cache.
	spec     *spec            // in force
	one      *cell            // the count of a rate or quota without By, or of shared capacity
	cells    map[digest]*cell // the counts of a rate or quota with By
	users    *users           // of Users
	inFlight int64            // of Concurrency
	waiting  int              // requests that wait for a place of Concurrency
	local    *Local
	dropped  bool // no longer in force at all
	remote   bool // counted in the shared store

	over     int64     // units spent beyond it while the store was away, to be billed
	name     string    // gh:{tenant}:limit-name
	overflow *cell     // shared by the values that cells had no room for
	kept     int       // how many of the table's places it has
	queue    []*waiter // of the waiting those that wait for this one first, in their order

	away  *limit // what this gateway has while the store is away; nil before
	whole *limit // of such a part: the limit in the store
}

// check finds the count that the request belongs to, nil for capacity, and
// tells d what the limit says. It takes nothing.
func (lim *limit) check(d *decision, now time.Time, cost int64, key, user digest, v Values) *cell {
	sp := lim.spec
	switch sp.facts.Kind {
	case Concurrency:
		if lim.inFlight >= sp.facts.Quota {
			d.full(lim)
		}
		return nil
	case Users:
		if wait, ok := lim.users.admits(now, user, sp.facts.Quota); !ok {
			d.refuse(sp, 0, wait, wait)
		}
		return nil
	case Rate:
		c := lim.cell(now, key, v)
		tokens := c.bucket.TokensAt(now)
		left := tokens - float64(cost)
		if left < 0 && c.wait(-left) > 0 || cost > sp.facts.Burst {
			d.refuse(sp, int64(tokens), c.untilNext(tokens), c.untilTokens(now, tokens, cost))
			return c
		}
		d.admit(sp, c, max(left, 0))
		return c
	default:
		c := lim.cell(now, key, v)
		d.quota(sp, c, c.used, c.untilEnd(now), cost)
		return c
	}
}

// charge takes what check found to be there; c is what check returned.
func (lim *limit) charge(c *cell, now time.Time, cost int64, user digest) {
	switch lim.spec.facts.Kind {
	case Concurrency:
		lim.inFlight++
	case Users:
		lim.users.enter(user)
	case Rate:
		// By check, under the same lock: this cannot refuse.
		c.bucket.AllowN(now, int(cost))
	case Quota:
		c.spend(now, cost)
	}
}

// release gives back the place of one request. A dropped limit counts down
// too; nobody reads it.
func (lim *limit) release(now time.Time, user digest) {
	switch lim.spec.facts.Kind {
	case Concurrency:
		if lim.inFlight > 0 { // it may have been dropped before the request came
			lim.inFlight--
		}
	case Users:
		lim.users.leave(now, user)
	}
}

func (lim *limit) level(now time.Time, key digest) Level {
	f := &lim.spec.facts
	lv := Level{Limit: f, Key: lim.name, Remaining: f.Burst, Keys: len(lim.cells)}
	switch f.Kind {
	case Concurrency:
		lv.Used = lim.inFlight
		lv.Remaining = max(f.Quota-lv.Used, 0)
		return lv
	case Users:
		lv.Used = lim.users.active(now)
		lv.Remaining = max(f.Quota-lv.Used, 0)
		return lv
	}
	var c *cell
	if len(f.By) == 0 {
		c = lim.cell(now, key, nil)
	} else if c = lim.cells[key]; c == nil {
		c = lim.overflow
	}
	if c == nil {
		return lv
	}
	c.settle(now)
	if c.sum != "" {
		lv.Key = c.name()
	}
	if f.Kind == Quota {
		lv.Used = max(c.used, 0)
		lv.Remaining = max(f.Quota-c.used, 0)
		lv.Reset = c.untilEnd(now)
		return lv
	}
	tokens := c.bucket.TokensAt(now)
	lv.Remaining = int64(tokens)
	lv.Used = max(f.Burst-lv.Remaining, 0)
	lv.Reset = c.untilNext(tokens)
	return lv
}
