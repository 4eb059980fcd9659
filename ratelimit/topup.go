package ratelimit

import (
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

const (
	maxTopUpID = 64
	// maxTopUps bounds the ids that a count remembers, of one window.
	maxTopUps = 1024
	// topUpWait is how long a top-up waits for the store.
	topUpWait = time.Second
)

// TopUp adds units, at least 1, to the running window of the quota whose
// count is called key (Level.Key). What is not used ends with the window. It
// fails with CodeNotFound where no such quota is in force. With ErrAway, or
// where the store did not answer in time, it is not known whether they were
// added.
func (l *Local) TopUp(now time.Time, key string, units int64) error {
	return l.TopUpOnce(now, key, "", units)
}

// TopUpOnce is TopUp that may be repeated: the units are added once in a
// window for each id, a text of 1 to 64 bytes.
func (l *Local) TopUpOnce(now time.Time, key, id string, units int64) error {
	if len(id) > maxTopUpID {
		return &gatehouse.Error{Code: gatehouse.CodeInvalid, Message: "the id of a top-up has at most 64 bytes"}
	}
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
			return l.topUpShared(lim, now, key, id, units)
		}
		if c := lim.find(now, key); c != nil {
			c.settle(now)
			if id != "" {
				if slices.Contains(c.topUps, id) {
					return nil
				}
				if len(c.topUps) == maxTopUps {
					return &gatehouse.Error{Code: gatehouse.CodeConflict, Message: "the window has had too many top-ups"}
				}
				c.topUps = append(c.topUps, id)
			}
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

func (l *Local) topUpShared(lim *limit, now time.Time, key, id string, units int64) error {
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
	a.Cost, a.Once = units, id
	call.Asks = append(call.Asks, a)
	l.mu.Unlock()
	l.shared.store.Submit(call)
	err := call.wait(topUpWait)
	l.mu.Lock()
	if err != nil {
		return err
	}
	l.shared.free(call)
	return nil
}
