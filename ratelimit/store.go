package ratelimit

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// Store holds the counts that gateways share. It is safe for concurrent use.
type Store interface {
	// Submit takes a call over and does not block. The store calls
	// Call.Answer exactly once for it, from a goroutine of its own, also when
	// it is closed.
	Submit(*Call)
	// Shard returns the part of the store that holds the tenant.
	Shard(gatehouse.TenantID) int
	// Away reports whether the shard cannot be asked now. It is called for
	// each request that would ask.
	Away(shard int) bool
	// Gateways returns how many gateways were last seen alive, at least 1.
	Gateways() int64
	// Patience is how long a request waits for its answer.
	Patience() time.Duration
}

// Settler is a Store that does not know the number of gateways at once. Until
// it does nothing is taken ahead.
type Settler interface{ Settled() bool }

// ErrAway is the answer of a store that cannot be asked.
var ErrAway = errors.New("the store of limits cannot be asked")

// ErrBusy is the answer to a call of a tenant with too many of them under way.
// Its request is refused.
var ErrBusy = errors.New("too many questions of one tenant wait for the store of limits")

// Action is what an Ask wants done to a count.
type Action uint8

// The actions. A call has Asks of Take only, or one Ask of another kind.
const (
	// Take charges Cost, Ahead and Debt where all Asks of the call have room.
	Take Action = iota
	// Return gives the places IDs back.
	Return
	// Renew keeps the places IDs for another while.
	Renew
	// TopUp adds Cost units to the running window of a quota.
	TopUp
)

// Ask is one count of a Call: what is wanted, and what came of it.
type Ask struct {
	Action Action
	Kind   Kind
	Key    string // gh:{tenant}:limit-name[:by-value-digest]
	// Cost is what the request takes. With 0 it only looks.
	Cost int64
	// Ahead is how many more to take if they are there. No request is
	// refused for them, and they never exceed a quota.
	Ahead int64
	// Debt is what was spent without the store, less what is given back. It
	// is charged first, whether there is room or not, and also when the call
	// is refused; of a quota in the window Start only, unless that is 0.
	Debt int64
	// Serial names Debt: the store charges one of a gateway and a count that
	// is not above an earlier one no more. 0 where there is no Debt.
	Serial uint64
	// Once names a TopUp: the store takes it once in a window. "": each counts.
	Once string
	// Terms of the limit. Quota is the size of a quota or the bound of
	// concurrency or users.
	Terms Terms
	Quota int64
	// Age is how long ago the terms came into force here, in µs. Of two
	// gateways with windows of different definition the younger is right.
	Age int64
	// Forced quotas are soft or overage: they never refuse.
	Forced bool
	// Start is the window that Debt belongs to, in µs since 1970.
	Start int64
	// ID is the first of the consecutive places to take; IDs are the places
	// to give back or to keep.
	ID  uint64
	IDs []uint64
	// User is the digest of the principal, of Users.
	User [16]byte

	// OK reports room for Cost.
	OK bool
	// Got is how many were taken ahead.
	Got int64
	// Over is how much of Debt lay beyond the quota.
	Over int64
	// Left is what the limit has left after the call: parts of a unit for a
	// rate (Terms.Per parts each), units taken for a quota, requests or users
	// counted for capacity.
	Left int64
	// Begin and End bound the window of a quota, in µs; 0 for none. Of users,
	// End is when the oldest leaves.
	Begin, End int64

	spec *spec
	cell *cell
	step int // in the stack
	// unsent is what is owed besides Debt: the store does not know of it, so
	// that Quota is as much less.
	unsent int64
	lag    time.Duration // how much earlier than said it may have been answered
}

// Window returns the bounds of the calendar window of a quota that holds at,
// and the end of the one after it; all in µs since 1970.
func (a *Ask) Window(at time.Time) (start, end, next int64) {
	sp := a.spec
	s, e := calendar(sp.window.Unit, sp.anchor, at.In(sp.loc))
	_, n := calendar(sp.window.Unit, sp.anchor, e)
	return s.UnixMicro(), e.UnixMicro(), n.UnixMicro()
}

// Terms are the fixed numbers of a limit in the integers that a store counts
// with. None is above 2^52.
type Terms struct {
	// A bucket gains Count parts per microsecond; a unit has Per of them.
	Count, Per, Burst int64
	// Length of a window that begins with its first use, in µs; 0 for
	// windows of the calendar.
	Length int64
	// Name tells windows of different definition apart.
	Name string
}

// Call is a question to the Store about all shared limits of one request, or
// about one count. The Store may use it until it calls Answer.
type Call struct {
	Shard int
	// Made is when the call was made. A store need not ask for one that is
	// older than its patience.
	Made time.Time
	Asks []Ask
	// Allowed is the answer: every Ask is OK and was charged. Else only Debt
	// and Return were.
	Allowed bool
	// At is the time of the answer on the store's clock, in µs.
	At int64

	local *Local
	now   time.Time // the time of the limits when it was made
	async bool      // answered to local, not to a waiting request
	done  chan error
	// state passes the call from the one that waits to the one that answers:
	// whoever comes second cleans up.
	state atomic.Int32
	timer *time.Timer
}

const (
	callOut int32 = iota
	callLeft
	callAnswered
)

var errPatience = errors.New("the store of limits did not answer in time")

// Async reports whether nobody waits for the answer. Answer then takes the
// tenant's lock, and must not be called from Submit.
func (c *Call) Async() bool { return c.async }

// Answer ends a call. With an error nothing is known of what was charged.
func (c *Call) Answer(err error) {
	if c.async {
		c.local.answered(c, err)
		return
	}
	if c.state.CompareAndSwap(callOut, callAnswered) {
		c.done <- err
		return
	}
	// The request has gone on without the answer.
	if err == nil {
		c.local.late(c)
	}
	c.local.shared.free(c)
}

// wait returns the answer, or an error once patience is over; the call is
// then no longer the caller's.
func (c *Call) wait(patience time.Duration) error {
	c.timer.Reset(patience)
	select {
	case err := <-c.done:
		c.timer.Stop()
		return err
	case <-c.timer.C:
	}
	if c.state.CompareAndSwap(callOut, callLeft) {
		return errPatience
	}
	return <-c.done
}

// calls is a pool of calls that requests wait for.
type calls struct{ pool sync.Pool }

func (cs *calls) take(l *Local) *Call {
	c, ok := cs.pool.Get().(*Call)
	if !ok {
		c = &Call{done: make(chan error, 1), timer: time.NewTimer(time.Hour)}
		c.timer.Stop()
	}
	c.local, c.Shard, c.async, c.Allowed = l, l.shard, false, false
	c.state.Store(callOut)
	return c
}

func (cs *calls) free(c *Call) {
	clear(c.Asks)
	c.Asks, c.local = c.Asks[:0], nil
	cs.pool.Put(c)
}
