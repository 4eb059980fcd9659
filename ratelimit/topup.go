package ratelimit

import (
	"strings"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

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
