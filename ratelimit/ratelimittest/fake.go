package ratelimittest

import (
	"errors"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/ratelimit"
)

// ErrLost is the answer of a Fake whose answer was lost.
var ErrLost = errors.New("the answer was lost")

// Fault is what goes wrong with one call.
type Fault struct {
	// Before is how long the call is on its way to the counts, After how long
	// the answer is on its way back.
	Before, After time.Duration
	// Undone calls never come to the counts, and Lost ones do but their answer
	// does not come back: both are answered with ErrLost.
	Undone, Lost bool
}

// Fake is a store in memory that counts as a real one does, by time.Now, and
// fails as it is told. Its fields are set before it is used.
type Fake struct {
	// Fault says what goes wrong with a call; nil: nothing. It is called by
	// one goroutine at a time.
	Fault func(*ratelimit.Call) Fault
	// Wait is Patience. Others is how many gateways there are besides.
	Wait   time.Duration
	Others int64

	mu     sync.Mutex
	away   bool              // guarded by mu
	counts map[string]*count // guarded by mu
	asks   []ratelimit.Ask   // guarded by mu: what was asked
	wg     sync.WaitGroup
}

// count is one count of a Fake.
type count struct {
	used       int64 // parts missing of a bucket, units of a quota
	begin, end int64
	at         int64
	serial     uint64
	once       []string
	members    map[string]int64 // until when, µs
}

// Submit takes a call over.
func (f *Fake) Submit(c *ratelimit.Call) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var fault Fault
	if f.Fault != nil {
		fault = f.Fault(c)
	}
	f.asks = append(f.asks, slices.Clone(c.Asks)...)
	f.wg.Go(func() {
		wait(fault.Before)
		if !fault.Undone {
			f.mu.Lock()
			f.run(c)
			f.mu.Unlock()
		}
		wait(fault.After)
		if fault.Undone || fault.Lost {
			c.Answer(ErrLost)
			return
		}
		c.Answer(nil)
	})
}

func wait(d time.Duration) {
	if d > 0 {
		<-time.After(d)
	}
}

// Drain returns when every call has been answered.
func (f *Fake) Drain() { f.wg.Wait() }

// Leave makes the store go away, or come back.
func (f *Fake) Leave(away bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.away = away
}

// Shard is 0: there is one.
func (f *Fake) Shard(gatehouse.TenantID) int { return 0 }

// Away reports what Leave has said.
func (f *Fake) Away(int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.away
}

// Gateways returns one and the others.
func (f *Fake) Gateways() int64 { return 1 + f.Others }

// Patience is Wait.
func (f *Fake) Patience() time.Duration { return f.Wait }

// Asked returns what was asked so far, and forgets it.
func (f *Fake) Asked() []ratelimit.Ask {
	f.mu.Lock()
	defer f.mu.Unlock()
	asks := f.asks
	f.asks = nil
	return asks
}

// Used returns the units taken of a quota, or the members of a set.
func (f *Fake) Used(key string) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.counts[key]
	switch {
	case n == nil:
		return 0
	case n.members != nil:
		n.expire(time.Now().UnixMicro())
		return int64(len(n.members))
	}
	return n.used
}

// Keys returns how many counts there are.
func (f *Fake) Keys() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.counts)
}

func (n *count) expire(now int64) {
	for m, end := range n.members {
		if end <= now {
			delete(n.members, m)
		}
	}
}

// run does what a call asks for. f.mu is held.
func (f *Fake) run(c *ratelimit.Call) {
	if f.counts == nil {
		f.counts = map[string]*count{}
	}
	now := time.Now().UnixMicro()
	c.At, c.Allowed = now, true
	room := make([]func(charge bool), len(c.Asks))
	for i := range c.Asks {
		a := &c.Asks[i]
		n := f.counts[a.Key]
		if n == nil {
			n = &count{at: now}
		}
		switch a.Kind {
		case ratelimit.Rate:
			room[i] = n.rate(a, now)
		case ratelimit.Quota:
			room[i] = n.quota(a, now)
		default:
			room[i] = n.set(a, now)
		}
		f.counts[a.Key] = n
		c.Allowed = c.Allowed && a.OK
	}
	for i, put := range room {
		put(c.Allowed)
		if n := f.counts[c.Asks[i].Key]; n != nil && n.used == 0 && n.members == nil && n.serial == 0 {
			delete(f.counts, c.Asks[i].Key)
		}
	}
}

// owed returns the debt of a that is new.
func (n *count) owed(a *ratelimit.Ask) int64 {
	if a.Debt == 0 || a.Serial <= n.serial {
		return 0
	}
	n.serial = a.Serial
	return a.Debt
}

func (n *count) rate(a *ratelimit.Ask, now int64) func(bool) {
	t := &a.Terms
	n.used = max(n.used-t.Count*(now-n.at), 0)
	n.at = now
	n.used = max(n.used+n.owed(a)*t.Per, 0)
	a.OK = t.Burst*t.Per-n.used >= a.Cost*t.Per
	return func(charge bool) {
		if charge {
			n.used += a.Cost * t.Per
			a.Got = min(a.Ahead, t.Burst-(n.used+t.Per-1)/t.Per)
			n.used += a.Got * t.Per
		}
		a.Left = t.Burst*t.Per - n.used
	}
}

func (n *count) quota(a *ratelimit.Ask, now int64) func(bool) {
	if now >= n.end {
		*n = count{}
		n.begin, n.end = now, now+a.Terms.Length
		if a.Terms.Length == 0 {
			n.begin, n.end, _ = a.Window(time.UnixMicro(now))
		}
	}
	debt := n.owed(a)
	if a.Start != 0 && a.Start != n.begin {
		debt = 0
	}
	if a.Action == ratelimit.TopUp {
		if debt = -a.Cost; a.Once != "" && slices.Contains(n.once, a.Once) {
			debt = 0
		}
		n.once = append(n.once, a.Once)
	}
	if debt > 0 {
		a.Over = max(min(debt, n.used+debt-a.Quota), 0)
	}
	n.used += debt
	cost := a.Cost
	if a.Action != ratelimit.Take {
		cost = 0
	}
	a.OK = a.Forced || a.Quota-n.used >= cost
	return func(charge bool) {
		if charge {
			a.Got = max(min(a.Ahead, a.Quota-n.used-cost), 0)
			n.used += cost + a.Got
		}
		a.Left, a.Begin, a.End = n.used, n.begin, n.end
	}
}

// set is places and users.
func (n *count) set(a *ratelimit.Ask, now int64) func(bool) {
	if n.members == nil {
		n.members = map[string]int64{}
	}
	n.expire(now)
	end := now + (20 * time.Second).Microseconds()
	name := func(id uint64) string { return strconv.FormatUint(id, 10) }
	if a.Kind == ratelimit.Users {
		end = now + time.Minute.Microseconds()
	}
	for i, id := range a.IDs {
		m := name(id)
		if a.Kind == ratelimit.Users {
			if i%2 == 1 {
				continue
			}
			m = string(ratelimit.UserBytes(id, a.IDs[i+1]))
		}
		if a.Action == ratelimit.Renew {
			n.members[m] = end
		} else {
			delete(n.members, m)
		}
	}
	if a.Action != ratelimit.Take {
		a.OK = true
		return func(bool) {}
	}
	_, known := n.members[string(a.User[:])]
	a.OK = known || int64(len(n.members))+a.Cost <= a.Quota
	return func(charge bool) {
		if charge && a.Kind == ratelimit.Users && a.Cost > 0 {
			n.members[string(a.User[:])] = end
		} else if charge && a.Kind == ratelimit.Concurrency {
			a.Got = max(min(a.Ahead, a.Quota-int64(len(n.members))-a.Cost), 0)
			for i := range uint64(a.Cost + a.Got) {
				n.members[name(a.ID+i)] = end
			}
		}
		a.Left = int64(len(n.members))
	}
}
