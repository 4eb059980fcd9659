package ratelimit

import (
	"math"
	"time"

	"golang.org/x/time/rate"
)

// cell is one count of one rate or quota; Local.mu guards it.
type cell struct {
	// What every request reads comes first: of a quota in one line of the
	// cache, of a rate in two and a half.
	limit  *limit
	spec   *spec  // that bucket or window were last set by
	seen   uint64 // the last turn of the table that used it
	shared *share // of a limit in the shared store; bucket and window are then idle
	rated  bool   // bucket counts, of a rate
	// Of a quota: the units taken in the window [start, end), in nanoseconds
	// since 1970. Both are 0 for a window that begins with its first use.
	// Used is below 0 after a top-up of more than was taken.
	used, start, end int64
	bucket           rate.Limiter // idle but where rated
	topUps           []string     // ids of those in the window

	key   digest // in limit.cells
	sum   string // the same as a by-value-digest; of a quota `by` value, or in the store
	full  string // the whole key, once it was asked for
	place int    // in table.ring, where it is there
}

// newCell returns a count that nothing was taken from.
func newCell(lim *limit, key digest) *cell {
	c := &cell{limit: lim, key: key}
	sp := lim.spec
	if lim.whole != nil {
		lim.inherit(c)
	}
	if lim.remote {
		c.shared = &share{}
	} else if sp.facts.Kind == Rate {
		c.spec, c.rated = sp, true
		never := time.Time{} // as rate.NewLimiter has it, which makes one elsewhere
		c.bucket.SetLimitAt(never, rate.Limit(sp.perSecond))
		c.bucket.SetBurstAt(never, int(sp.facts.Burst))
		c.bucket.AllowN(never, -int(sp.facts.Burst))
	}
	return c
}

// settle brings the count to the limit in force and to now.
func (c *cell) settle(now time.Time) {
	sp := c.limit.spec
	if c.shared != nil {
		c.shared.settle(sp)
		return
	}
	if sp.facts.Kind == Rate {
		if c.spec != sp {
			// Every use of the bucket since sp came into force has settled
			// it, so that since is not before its last use.
			c.bucket.SetLimitAt(sp.since, rate.Limit(sp.perSecond))
			c.bucket.SetBurstAt(sp.since, int(sp.facts.Burst))
			c.spec = sp
		}
		return
	}
	at := now.UnixNano()
	same := c.spec == sp || c.spec != nil && c.spec.sameWindow(sp)
	c.spec = sp
	// A wall clock set back a little stays in the window it was in: the
	// window before would come to its end, and grant, twice. One set back by
	// more than a window was wrong before; its count is carried over.
	if same && at < c.end && at >= c.start-(c.end-c.start) {
		return
	}
	if at >= c.end {
		c.used, c.start, c.end, c.topUps = 0, 0, 0, nil // it is over, whatever the windows are now
	}
	if sp.window.Unit != "" {
		start, end := calendar(sp.window.Unit, sp.anchor, now.In(sp.loc))
		if c.start < start.UnixNano() {
			c.used, c.topUps = 0, nil
		}
		c.start, c.end = start.UnixNano(), end.UnixNano()
		return
	}
	if c.used != 0 {
		c.start = min(c.start, at)
		c.end = c.start + int64(sp.window.Length)
	}
	if c.used == 0 || at >= c.end {
		c.used, c.start, c.end = 0, 0, 0
	}
}

// idle reports whether nothing would be granted by forgetting the count.
func (c *cell) idle(now time.Time) bool {
	c.settle(now)
	if c.shared != nil {
		return c.shared.idle(now)
	}
	if c.rated {
		return c.bucket.TokensAt(now) >= float64(c.spec.facts.Burst)
	}
	return c.used == 0
}

// inherit sets a new count to what o, of the same limit, has left at most.
func (c *cell) inherit(o *cell, now time.Time) {
	if c.shared != nil {
		return // the store has the count of each value
	}
	if c.rated {
		burst := c.spec.facts.Burst
		gone := math.Ceil(float64(burst) - o.bucket.TokensAt(now))
		c.bucket.AllowN(now, int(min(max(gone, 0), float64(burst))))
		return
	}
	c.used, c.start, c.end, c.spec = o.used, o.start, o.end, o.spec
}

// spend takes cost from a settled window.
func (c *cell) spend(now time.Time, cost int64) {
	if c.end == 0 && c.spec.window.Unit == "" {
		c.start = now.UnixNano()
		c.end = c.start + int64(c.spec.window.Length)
	}
	c.used += cost
}

// refund gives back what was charged for a request that another limit
// refused later. To a bucket it is as if it had never been taken: what came
// in beyond the burst meanwhile is cut off at the next use.
func (c *cell) refund(now time.Time, cost, start int64) {
	if c.rated {
		c.bucket.AllowN(now, -int(cost))
		return
	}
	if c.start == start {
		c.used -= cost
	}
}

// untilEnd returns the time left in the window, 0 for one that begins with
// its first use and has not begun.
func (c *cell) untilEnd(now time.Time) time.Duration {
	if c.end == 0 {
		return 0
	}
	return time.Duration(c.end - now.UnixNano())
}

// wait returns the time in which the bucket gains units, rounded down, as
// rate.Limiter has it: what is short by less than a nanosecond's worth is
// not short.
func (c *cell) wait(units float64) time.Duration {
	ns := units / c.spec.perSecond * float64(time.Second)
	if ns >= math.MaxInt64 {
		return Never
	}
	return time.Duration(ns)
}

// untilNext returns the time until the bucket holds one more whole unit.
func (c *cell) untilNext(tokens float64) time.Duration {
	if tokens >= float64(c.spec.facts.Burst) {
		return 0
	}
	return c.wait(math.Floor(tokens) + 1 - tokens)
}

// untilTokens returns the time until the bucket lets want units go.
func (c *cell) untilTokens(now time.Time, tokens float64, want int64) time.Duration {
	if want > c.spec.facts.Burst {
		return Never
	}
	wait := c.wait(float64(want) - tokens)
	// The bucket counts in float64: make sure that it agrees.
	for step := time.Duration(1); wait < Never/2; step *= 2 {
		short := float64(want) - c.bucket.TokensAt(now.Add(wait))
		if short <= 0 || c.wait(short) == 0 {
			break
		}
		wait += step
	}
	return wait
}
