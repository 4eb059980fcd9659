package ratelimit

import (
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// spec is a limit as the document has it. It is immutable.
type spec struct {
	facts     Limit
	perSecond float64 // of a rate
	rate      gatehouse.Rate
	window    gatehouse.Window // of a quota
	loc       *time.Location   // of a calendar window
	since     time.Time        // when it came into force
}

// same reports whether sp and o mean the same. Their scope, kind, name and
// selectors are equal already.
func (sp *spec) same(o *spec) bool {
	return sp.facts.Quota == o.facts.Quota && sp.facts.Burst == o.facts.Burst && sp.rate == o.rate && sp.sameWindow(o)
}

func (sp *spec) sameWindow(o *spec) bool {
	return sp.window == o.window && (sp.loc == o.loc || sp.loc.String() == o.loc.String())
}

// limit is the live state of one limit; Local.mu guards it.
type limit struct {
	local   *Local
	name    string // gh:{tenant}:limit-name
	spec    *spec  // in force
	dropped bool   // no longer in force at all

	one      *cell            // the count of a rate or quota without By
	cells    map[digest]*cell // the counts of a rate or quota with By
	overflow *cell            // shared by the values that cells had no room for
	inFlight int64            // of Concurrency
	users    *users           // of Users
}

// check finds the count that the request belongs to, nil for capacity, and
// tells d what the limit says. It takes nothing.
func (lim *limit) check(d *decision, now time.Time, cost int64, key, user digest, v Values) *cell {
	sp := lim.spec
	switch sp.facts.Kind {
	case Concurrency:
		if lim.inFlight >= sp.facts.Quota {
			d.refuse(sp, 0, busyRetry, busyRetry)
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
		left := sp.facts.Quota - c.used
		if left < cost {
			end := c.untilEnd(now)
			retry := end
			if cost > sp.facts.Quota {
				retry = Never
			}
			d.refuse(sp, max(left, 0), end, retry)
			return c
		}
		d.admit(sp, c, float64(left-cost))
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
		lim.inFlight--
	case Users:
		lim.users.leave(now, user)
	}
}

func (lim *limit) level(now time.Time, key digest) Level {
	f := &lim.spec.facts
	lv := Level{Limit: f, Remaining: f.Burst, Keys: len(lim.cells)}
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
	if f.Kind == Quota {
		lv.Used = c.used
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

// decision gathers what the limits of one stack say.
type decision struct {
	refusedBy *spec
	remaining int64
	reset     time.Duration
	retry     time.Duration

	least     *spec // rate or quota with the least share left
	leastCell *cell
	leastLeft float64
	share     float64
}

func (d *decision) refuse(sp *spec, remaining int64, reset, retry time.Duration) {
	if o := d.refusedBy; o != nil {
		a, b := o.facts.Kind.Capacity(), sp.facts.Kind.Capacity()
		if b && !a || a == b && retry <= d.retry {
			return
		}
	}
	d.refusedBy, d.remaining, d.reset, d.retry = sp, remaining, reset, retry
}

func (d *decision) admit(sp *spec, c *cell, left float64) {
	share := left / float64(sp.facts.Burst)
	if d.least == nil || share < d.share {
		d.least, d.leastCell, d.leastLeft, d.share = sp, c, left, share
	}
}

func (d *decision) refusal() Verdict {
	return Verdict{Binding: &d.refusedBy.facts, Remaining: d.remaining, Reset: d.reset, Retry: max(d.retry, d.reset)}
}

// admission is called after the stack was charged.
func (d *decision) admission(now time.Time) Verdict {
	v := Verdict{Allowed: true}
	if d.least == nil {
		return v
	}
	v.Binding = &d.least.facts
	v.Remaining = int64(d.leastLeft)
	if v.Binding.Kind == Quota {
		v.Reset = d.leastCell.untilEnd(now)
	} else {
		v.Reset = d.leastCell.untilNext(d.leastLeft)
	}
	return v
}
