package ratelimit

import (
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// decision gathers what the limits of one stack say.
type decision struct {
	refusedBy *spec
	refusedAt int // its place in the stack
	at        int // the place of the limit that speaks
	remaining int64
	reset     time.Duration
	retry     time.Duration

	least     *spec // rate or quota with the least share left
	leastCell *cell // nil where leastEnd says when it resets
	leastEnd  time.Duration
	leastLeft float64
	share     float64

	beyond *spec // the first soft or overage quota that the request exceeds
	over   int64 // units to be billed beside

	// Limits of concurrency without room: a request may wait for the first of
	// them while nothing else refuses it.
	fullBy *limit
	hard   bool // something else than a place is missing
	// remembered: a limit refuses because the store has a moment ago.
	remembered bool
	shut       *spec // refusedBy, where it is closed while the store is away
}

// close notes a limit that cannot be counted and so refuses.
func (d *decision) close(sp *spec) {
	d.hard = true
	if d.note(sp, 0, busyRetry, busyRetry); d.refusedBy == sp {
		d.shut = sp
	}
}

// full notes that lim has no place.
func (d *decision) full(lim *limit) {
	if d.fullBy == nil || lim.spec.wait < d.fullBy.spec.wait {
		d.fullBy = lim
	}
	d.note(lim.spec, 0, busyRetry, busyRetry)
}

func (d *decision) refuse(sp *spec, remaining int64, reset, retry time.Duration) {
	d.hard = true
	d.note(sp, remaining, reset, retry)
}

func (d *decision) note(sp *spec, remaining int64, reset, retry time.Duration) {
	if o := d.refusedBy; o != nil {
		a, b := o.facts.Kind.Capacity(), sp.facts.Kind.Capacity()
		if b && !a || a == b && (retry < d.retry || retry == d.retry && d.at >= d.refusedAt) {
			return
		}
	}
	d.refusedAt = d.at
	d.refusedBy, d.remaining, d.reset, d.retry = sp, remaining, reset, retry
}

func (d *decision) admit(sp *spec, c *cell, left float64) {
	share := left / float64(sp.facts.Burst)
	if d.least == nil || share < d.share {
		d.least, d.leastCell, d.leastLeft, d.share = sp, c, left, share
	}
}

// admitUntil is admit where the time of the reset is known.
func (d *decision) admitUntil(sp *spec, left float64, reset time.Duration) {
	d.admit(sp, nil, left)
	if d.least == sp {
		d.leastEnd = reset
	}
}

// quota says what a quota of which used units are taken, for end from now,
// makes of cost.
func (d *decision) quota(sp *spec, c *cell, used int64, end time.Duration, cost int64) {
	left := sp.facts.Quota - used
	if left < cost && !sp.soft() {
		retry := end
		if cost > sp.facts.Quota {
			retry = Never
		}
		d.refuse(sp, max(left, 0), end, retry)
		return
	}
	if left < cost {
		d.exceed(sp, min(cost, cost-left))
	}
	d.admit(sp, c, float64(max(left-cost, 0)))
	if c == nil && d.least == sp {
		d.leastEnd = end
	}
}

// exceed notes that over units of the request lie beyond a quota that serves
// them.
func (d *decision) exceed(sp *spec, over int64) {
	if d.beyond == nil {
		d.beyond = sp
	}
	if sp.facts.Mode == gatehouse.Overage {
		d.over = max(d.over, over)
	}
}

func (d *decision) refusal() Verdict {
	return Verdict{Binding: d.refusedBy.shown(), Remaining: d.remaining, Reset: d.reset, Retry: max(d.retry, d.reset)}
}

// admission is called after the stack was charged.
func (d *decision) admission(now time.Time) Verdict {
	v := Verdict{Allowed: true, Over: d.over}
	if d.beyond != nil {
		v.Beyond = d.beyond.shown()
	}
	if d.least == nil {
		return v
	}
	v.Binding = d.least.shown()
	v.Remaining = int64(d.leastLeft)
	switch {
	case d.leastCell == nil:
		v.Reset = d.leastEnd
	case v.Binding.Kind == Quota:
		v.Reset = d.leastCell.untilEnd(now)
	default:
		v.Reset = d.leastCell.untilNext(d.leastLeft)
	}
	return v
}
