package ratelimit

import (
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// view asks the store where the shared limits of the stack stand. l.mu is
// held, and let go of in between.
func (p *pass) view(now time.Time, keys []digest) {
	l := p.s.local
	p.more = make([]step, max(len(p.s.limits)-len(p.first), 0))
	asks := 0
	for i, lim := range p.s.limits {
		if !lim.remote || lim.dropped {
			continue
		}
		var key digest
		if at := p.s.places[i]; at >= 0 {
			key = keys[at]
		}
		*p.at(i) = step{way: ask, c: lim.cell(now, key, p.r.Values)}
		asks++
	}
	if asks == 0 || l.shared.store.Away(l.shard) {
		return
	}
	call := l.shared.calls.take(l)
	call.Made, call.now = time.Now(), now
	for i := range p.s.limits {
		if st := p.at(i); st.way == ask {
			call.Asks = append(call.Asks, st.c.question(Take, st.c.limit.spec, now))
		}
	}
	var err error
	now = p.unlocked(now, func() {
		l.shared.store.Submit(call)
		err = call.wait(l.shared.store.Patience())
	})
	if err != nil {
		return
	}
	for i := range call.Asks {
		a := &call.Asks[i]
		refused := a.cell.shared.refusedCost
		a.cell.shared.absorb(a, call, now)
		a.cell.shared.refusedCost = refused // it was not asked for anything
	}
	l.shared.free(call)
}

// question returns an Ask about c, by sp, that takes nothing.
func (c *cell) question(do Action, sp *spec, now time.Time) Ask {
	return Ask{
		Action: do, Kind: sp.facts.Kind, Key: c.name(), Terms: sp.terms, Quota: sp.facts.Quota, Forced: sp.soft(),
		Age: max(now.Sub(sp.since).Microseconds(), 0), spec: sp, cell: c,
	}
}

// sharedLevel is level of a limit in the store, as far as it is known.
func (lim *limit) sharedLevel(now time.Time, c *cell) Level {
	f, s := &lim.spec.facts, c.shared
	lv := Level{Limit: f, Key: c.name(), Remaining: f.Burst, Keys: len(lim.cells)}
	if s.at.IsZero() {
		return lv
	}
	if f.Kind == Rate {
		var d decision
		s.tell(&d, now, 0)
		lv.Remaining, lv.Reset = int64(d.leastLeft), d.leastEnd
		lv.Used = max(f.Burst-lv.Remaining, 0)
		if lv.Used == 0 {
			lv.Reset = 0
		}
		return lv
	}
	lv.Used = s.left - s.hand
	if f.Kind == Quota {
		lv.Reset = max(s.end.Sub(now), 0)
		if s.end.Before(now) {
			lv.Used = 0
		}
	}
	lv.Remaining = max(f.Quota-lv.Used, 0)
	lv.Used = max(lv.Used, 0)
	return lv
}

// TopUp adds units, at least 1, to the running window of the quota whose
// count is called key (Level.Key). What is not used ends with the window. It
// fails with CodeNotFound where no such quota is in force, and with ErrAway
// where the store did not answer.
func (l *Local) TopUp(now time.Time, key string, units int64) error {
	if units < 1 || units > gatehouse.MaxUnits {
		return &gatehouse.Error{Code: gatehouse.CodeInvalid, Message: "a top-up is of 1 to 2^53 units"}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now = l.advance(now)
	for _, lim := range l.limits {
		rest, ok := strings.CutPrefix(key, lim.name)
		if !ok || lim.spec.facts.Kind != Quota || (rest == "") != (len(lim.spec.facts.By) == 0) || rest != "" && rest[0] != ':' {
			continue
		}
		if lim.remote {
			return l.topUpShared(lim, now, key, units)
		}
		if c := lim.find(now, key); c != nil {
			c.settle(now)
			c.spend(now, -units)
			return nil
		}
	}
	return &gatehouse.Error{Code: gatehouse.CodeNotFound, Message: "no quota in use is called so"}
}

// find returns the count called key, a new one at need if there is only one.
func (lim *limit) find(now time.Time, key string) *cell {
	if len(lim.spec.facts.By) == 0 {
		return lim.cell(now, digest{}, nil)
	}
	for _, c := range lim.cells {
		if c.name() == key {
			return c
		}
	}
	return nil
}

func (l *Local) topUpShared(lim *limit, now time.Time, key string, units int64) error {
	c := lim.find(now, key)
	if c != nil {
		c.shared.refusedCost = 0
	} else {
		c = newCell(lim, digest{})
		c.sum = key[len(lim.name)+1:]
	}
	call := l.shared.calls.take(l)
	call.Made, call.now = time.Now(), now
	a := c.question(TopUp, lim.spec, now)
	a.Cost = units
	call.Asks = append(call.Asks, a)
	l.mu.Unlock()
	l.shared.store.Submit(call)
	err := call.wait(time.Second)
	l.mu.Lock()
	if err != nil {
		return err
	}
	l.shared.free(call)
	return nil
}

// Waiting returns how many requests wait for a place.
func (l *Local) Waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(slices.Clip(l.queue))
}
