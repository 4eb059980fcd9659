package ratelimit_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	. "github.com/gatehouse-gateway/gatehouse/ratelimit"
	"github.com/gatehouse-gateway/gatehouse/ratelimit/ratelimittest"
)

// key is the count of the quota q.
const key = "gh:{acme}:plan/q"

// bench is one gateway before a store that fails as it is told.
type bench struct {
	t     *testing.T
	store *ratelimittest.Fake
	local *Local
}

// faulty runs f in a world of its own, whose time only goes on when all wait.
func faulty(t *testing.T, mode gatehouse.LimitStore, maxKeys int, f func(*bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{t: t, store: &ratelimittest.Fake{Wait: 50 * time.Millisecond}}
		shared := NewShared(b.store, mode)
		b.local = shared.Local("acme", maxKeys)
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = shared.Run(ctx) })
		f(b)
		stop()
		wg.Wait()
		b.store.Drain()
	})
}

func planOf(rs ...gatehouse.LimitRule) Scope {
	return Scope{Kind: PlanScope, Limits: gatehouse.Limits{Rules: rs}}
}

func quotaOf(n int64, by ...gatehouse.Selector) gatehouse.LimitRule {
	return gatehouse.LimitRule{Name: "q", Quota: n, Window: gatehouse.Window{Length: 1000 * time.Hour}, By: by}
}

func (b *bench) stack(scopes ...Scope) *Stack { return b.local.Stack(time.Now(), nil, scopes...) }

// who is the principal of a request.
type who string

func (w who) Value(gatehouse.Selector) ([]byte, bool) { return []byte(w), true }

func (b *bench) take(s *Stack, v Values) Verdict {
	var tk Ticket
	defer func() { tk.Done(time.Now()) }()
	return s.Take(&Request{Now: time.Now(), Values: v}, &tk)
}

// drain returns how many of at most n requests pass.
func (b *bench) drain(s *Stack, v Values, n int) (passed int) {
	for range n {
		if b.take(s, v).Allowed {
			passed++
		}
	}
	return passed
}

func pass(d time.Duration) { <-time.After(d) }

func (b *bench) expect(what string, got, want any) {
	b.t.Helper()
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		b.t.Errorf("%s: got %s, want %s", what, g, w)
	}
}

var principal = gatehouse.Selector{Kind: "principal"}

// once makes f the fault of the next call that is a Take with a cost, if any.
func (b *bench) once(fault ratelimittest.Fault) {
	done := false
	b.store.Fault = func(c *Call) ratelimittest.Fault {
		if done || c.Asks[0].Action != Take || c.Asks[0].Cost == 0 {
			return ratelimittest.Fault{}
		}
		done = true
		return fault
	}
}

// A request that the store refuses gives its place to who waits for it.
func TestRefusedWakes(t *testing.T) {
	faulty(t, gatehouse.StoreExact, 0, func(b *bench) {
		s := b.stack(planOf(quotaOf(10)), Scope{Kind: TenantScope, Limits: gatehouse.Limits{
			Concurrency: 1, Wait: gatehouse.Duration(10 * time.Second), Store: gatehouse.StoreLocal,
		}})
		b.once(ratelimittest.Fault{After: 40 * time.Millisecond})
		var wg sync.WaitGroup
		wg.Go(func() {
			var tk Ticket
			if s.Take(&Request{Now: time.Now(), Cost: 11}, &tk).Allowed {
				t.Error("11 of 10 were admitted")
			}
		})
		synctest.Wait()
		began := time.Now()
		b.expect("the one that waits", b.take(s, nil).Allowed, true)
		b.expect("waited", time.Since(began), 40*time.Millisecond)
		wg.Wait()
	})
}

// Time that others have gone on to meanwhile is not refilled twice.
func TestRefillOnce(t *testing.T) {
	faulty(t, gatehouse.StoreExact, 0, func(b *bench) {
		rate := gatehouse.LimitRule{Name: "r", Rate: gatehouse.Rate{Count: 100, Per: time.Second}, Burst: 100, Store: gatehouse.StoreLocal}
		both, only := b.stack(planOf(rate, quotaOf(10))), b.stack(planOf(rate))
		now := time.Now()
		drain := func(at time.Time) (n int) {
			for {
				if !only.Take(&Request{Now: at}, new(Ticket)).Allowed {
					return n
				}
				n++
			}
		}
		b.once(ratelimittest.Fault{After: 40 * time.Millisecond})
		sum := drain(now)
		var wg sync.WaitGroup
		wg.Go(func() { both.Take(&Request{Now: now.Add(200 * time.Millisecond), Cost: 11}, new(Ticket)) })
		synctest.Wait()
		sum += drain(now.Add(time.Second))
		wg.Wait()
		if sum += drain(now.Add(time.Second)); sum > 200 {
			t.Errorf("%d in a second of 100/s with a burst of 100", sum)
		}
	})
}

// What goes back while the store is away is given to it when it returns.
func TestReturnsOwed(t *testing.T) {
	faulty(t, gatehouse.StoreExact, 0, func(b *bench) {
		r := quotaOf(10)
		r.Away = gatehouse.AwayClosed
		s := b.stack(planOf(r), Scope{Kind: TenantScope, Limits: gatehouse.Limits{Concurrency: 5}})
		b.once(ratelimittest.Fault{After: 100 * time.Millisecond})
		b.expect("given up", b.take(s, nil).Unasked, true)
		b.store.Leave(true)
		pass(100 * time.Millisecond)
		b.expect("charged, while a place goes back at once", [2]int64{b.store.Used(key), b.store.Used("gh:{acme}:tenant#concurrency")}, [2]int64{1, 0})
		b.store.Leave(false)
		pass(100 * time.Millisecond)
		b.expect("charged in the end", [2]int64{b.store.Used(key), b.store.Used("gh:{acme}:tenant#concurrency")}, [2]int64{})
	})
}

// What was spent while the store was away is charged once, whatever becomes of
// the question that brings it, and of the answer.
func TestDebtOnce(t *testing.T) {
	for name, fault := range map[string]ratelimittest.Fault{
		"in time":        {},
		"late but done":  {After: 100 * time.Millisecond},
		"late, not done": {Before: 100 * time.Millisecond},
		"lost but done":  {Lost: true},
		"lost":           {Undone: true},
	} {
		for _, size := range []int64{1000, 200} { // with 200 the question is refused
			faulty(t, gatehouse.StoreExact, 0, func(b *bench) {
				s := b.stack(planOf(quotaOf(size)))
				passed := int64(b.drain(s, nil, 5))
				b.store.Leave(true)
				passed += int64(b.drain(s, nil, 195))
				lost := int64(0)
				b.store.Fault = func(c *Call) ratelimittest.Fault {
					if c.Asks[0].Debt == 0 || lost > 0 {
						return ratelimittest.Fault{}
					}
					lost = 1
					return fault
				}
				b.store.Leave(false)
				passed += int64(b.drain(s, nil, 2)) // they bring the debt
				pass(time.Second)
				want := passed
				if fault.Lost && size == 1000 {
					want++ // the first of them was charged, and nobody knows
				}
				b.expect(fmt.Sprint(name, size), b.store.Used(key), want)
			})
		}
	}
}

// What is spent away is of the window in which it was spent.
func TestDebtWindow(t *testing.T) {
	for _, away := range []gatehouse.LimitAway{gatehouse.AwayLocalShare, gatehouse.AwayOpen} {
		faulty(t, gatehouse.StoreExact, 0, func(b *bench) {
			r := gatehouse.LimitRule{Name: "q", Quota: 100, Window: gatehouse.Window{Unit: "hour"}, Away: away}
			s := b.stack(planOf(r))
			pass(59 * time.Minute)
			b.drain(s, nil, 3)
			b.store.Leave(true)
			b.drain(s, nil, 4) // of the hour that ends before the store is back
			pass(2 * time.Minute)
			n := b.drain(s, nil, 60)
			b.store.Leave(false)
			n += b.drain(s, nil, 100)
			pass(time.Second)
			b.expect(string(away)+" passed in the second hour", [2]int64{int64(n), b.store.Used(key)}, [2]int64{100, 100})
		})
	}
}

// Debt of a window that is over is not charged to the next, and units that were
// held ahead in it are not spent in the next.
func TestWindowOver(t *testing.T) {
	faulty(t, gatehouse.StoreLease, 0, func(b *bench) {
		r := gatehouse.LimitRule{Name: "q", Quota: 100_000, Window: gatehouse.Window{Unit: "hour"}}
		s := b.stack(planOf(r))
		pass(time.Hour - 20*time.Millisecond)
		b.drain(s, nil, 4000)
		b.store.Leave(true)
		b.drain(s, nil, 4)
		pass(30 * time.Millisecond)
		b.store.Leave(false)
		b.drain(s, nil, 2)
		pass(time.Second)
		b.expect("charged in the second hour", b.store.Used(key), 2)
	})
	// The question for more is on its way while the window ends.
	faulty(t, gatehouse.StoreLease, 0, func(b *bench) {
		s := b.stack(planOf(gatehouse.LimitRule{Name: "q", Quota: 100_000, Window: gatehouse.Window{Unit: "hour"}}))
		pass(time.Hour - 20*time.Millisecond)
		out := false
		b.store.Fault = func(c *Call) ratelimittest.Fault {
			if a := &c.Asks[0]; a.Cost == 0 && a.Ahead > 50 {
				out = true
				return ratelimittest.Fault{Before: 40 * time.Millisecond}
			}
			return ratelimittest.Fault{}
		}
		for !out {
			b.take(s, nil)
			synctest.Wait()
		}
		pass(50 * time.Millisecond)
		b.store.Fault = nil
		b.drain(s, nil, 500)
		pass(time.Second)
		b.expect("charged in the second hour", b.store.Used(key), 500)
	})
}

// Outages in a row give no value its part anew because another one was asked.
func TestOutagesInARow(t *testing.T) {
	faulty(t, gatehouse.StoreExact, 0, func(b *bench) {
		s := b.stack(planOf(quotaOf(10, principal)))
		n := 0
		for range 5 {
			b.store.Leave(true)
			n += b.drain(s, who("mallory"), 20)
			b.store.Leave(false)
			b.take(s, who("ann"))
		}
		n += b.drain(s, who("mallory"), 20)
		b.expect("mallory", n, 10)
	})
	// A part that begins anew knows what was spent and not told yet.
	faulty(t, gatehouse.StoreExact, 0, func(b *bench) {
		s := b.stack(planOf(quotaOf(10)))
		n := b.drain(s, nil, 2)
		b.store.Leave(true)
		n += b.drain(s, nil, 5)
		b.store.Leave(false)
		b.store.Fault = func(*Call) ratelimittest.Fault { return ratelimittest.Fault{Undone: true} }
		n += b.drain(s, nil, 1)
		b.store.Leave(true)
		n += b.drain(s, nil, 20)
		b.store.Fault = nil
		b.store.Leave(false)
		n += b.drain(s, nil, 20)
		pass(time.Second)
		b.expect("passed, charged", [2]int64{int64(n), b.store.Used(key)}, [2]int64{10, 10})
	})
}

// Once the store counts again, parts leave the table.
func TestPartsLeave(t *testing.T) {
	faulty(t, gatehouse.StoreExact, 8, func(b *bench) {
		here := gatehouse.LimitRule{Name: "each", Rate: gatehouse.Rate{Count: 1, Per: time.Second}, Burst: 2, By: []gatehouse.Selector{principal}, Store: gatehouse.StoreLocal}
		q := quotaOf(1000, principal)
		q.Window.Length = time.Hour
		s, r := b.stack(planOf(q)), b.stack(Scope{Kind: TenantScope, Limits: gatehouse.Limits{Rules: []gatehouse.LimitRule{here}}})
		for range 3 {
			for _, away := range []bool{true, false} {
				b.store.Leave(away)
				for i := range 3 {
					b.take(s, who(fmt.Sprint(i)))
				}
			}
		}
		got := ""
		for i := range 5 {
			got += fmt.Sprint(b.drain(r, who(fmt.Sprint(i)), 3))
		}
		b.expect("buckets beside three values", got, "22222")
		b.store.Leave(true)
		for i := range 3 {
			b.take(s, who(fmt.Sprint(i)))
		}
		b.local.Retain(r)
		got = ""
		for i := range 8 {
			got += fmt.Sprint(b.drain(r, who(fmt.Sprint("new", i)), 3))
		}
		b.expect("after the other limit was dropped", got, "22220000")
		b.store.Leave(false)
	})
}

// A top-up that was answered late or not at all, and is repeated, counts once.
func TestTopUpOnce(t *testing.T) {
	for name, fault := range map[string]ratelimittest.Fault{"late": {After: 2 * time.Second}, "lost": {Lost: true}} {
		faulty(t, gatehouse.StoreExact, 0, func(b *bench) {
			s := b.stack(planOf(quotaOf(10)))
			b.take(s, nil)
			n := 0
			b.store.Fault = func(c *Call) ratelimittest.Fault {
				if n++; n == 1 {
					return fault
				}
				return ratelimittest.Fault{}
			}
			if err := b.local.TopUpOnce(time.Now(), key, "order-7", 1000); err == nil {
				t.Errorf("%s: no error", name)
			}
			pass(3 * time.Second)
			if err := b.local.TopUpOnce(time.Now(), key, "order-7", 1000); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			pass(time.Second)
			b.expect(name, b.store.Used(key), 1-1000)
		})
	}
	l := NewLocal("acme", 0)
	l.Stack(time.Now(), nil, planOf(quotaOf(10)))
	for range 2 {
		if err := l.TopUpOnce(time.Now(), key, "order-7", 1000); err != nil {
			t.Error(err)
		}
	}
	if got := l.Quotas(time.Now())[0]; got.Used != -1000 || fmt.Sprint(got.TopUps) != "[order-7]" {
		t.Errorf("%+v", got)
	}
}

// A gateway bills nothing as overage by its part. What did lie beyond the
// quota is billed when the store has said so.
func TestOverageAway(t *testing.T) {
	faulty(t, gatehouse.StoreExact, 0, func(b *bench) {
		b.store.Others = 3
		r := quotaOf(1000)
		r.Mode = gatehouse.Overage
		s := b.stack(planOf(r))
		over := func(n int) (sum int64) {
			for range n {
				sum += b.take(s, nil).Over
			}
			return sum
		}
		b.store.Leave(true)
		b.expect("half of it, away", over(500), 0)
		b.store.Leave(false)
		b.expect("back", over(100), 0)
		b.store.Leave(true)
		b.expect("beyond it, away", over(407), 0)
		b.store.Leave(false)
		b.expect("back again", over(3), 7+3)
		b.expect("charged", b.store.Used(key), 1010)
	})
}

// Places and users in use are renewed for as long as they are, and those that
// are given back are not.
func TestRenewed(t *testing.T) {
	for _, mode := range []gatehouse.LimitStore{gatehouse.StoreExact, gatehouse.StoreLease} {
		faulty(t, mode, 0, func(b *bench) {
			s := b.stack(Scope{Kind: TenantScope, Limits: gatehouse.Limits{Concurrency: 4, MaxConcurrentUsers: 4}})
			var tks [2]Ticket
			for i := range tks {
				s.Take(&Request{Now: time.Now(), Principal: []byte{byte(i)}}, &tks[i])
			}
			used := func() string {
				return fmt.Sprint(b.store.Used("gh:{acme}:tenant#concurrency"), b.store.Used("gh:{acme}:tenant#max_concurrent_users"))
			}
			pass(10 * time.Minute)
			b.expect("after ten minutes", used(), "2 2")
			tks[0].Done(time.Now())
			pass(30 * time.Second)
			b.expect("one is done", used(), "1 2")
			pass(5 * time.Minute)
			b.expect("and long gone", used(), "1 1")
			tks[1].Done(time.Now())
		})
	}
}

// A place whose answer was lost, or that came too late, goes back.
func TestPlaceInDoubt(t *testing.T) {
	for name, fault := range map[string]ratelimittest.Fault{
		"lost": {Lost: true}, "late": {After: time.Second}, "very late": {Before: time.Second},
	} {
		faulty(t, gatehouse.StoreExact, 0, func(b *bench) {
			s := b.stack(Scope{Kind: TenantScope, Limits: gatehouse.Limits{Concurrency: 1}})
			b.once(fault)
			first, back := b.store.Fault, 0
			b.store.Fault = func(c *Call) ratelimittest.Fault {
				if c.Asks[0].Action != Return {
					return first(c)
				}
				back++ // what goes back is lost once too
				return ratelimittest.Fault{Undone: back == 1}
			}
			b.take(s, nil)
			pass(1100 * time.Millisecond)
			b.expect(name, b.store.Used("gh:{acme}:tenant#concurrency"), 0)
		})
	}
}

// Whoever has been refused asks no more until the time has come; and the time
// is told from when the answer came.
func TestRefusalRemembered(t *testing.T) {
	faulty(t, gatehouse.StoreExact, 0, func(b *bench) {
		r := gatehouse.LimitRule{Name: "r", Rate: gatehouse.Rate{Count: 2, Per: time.Second}, Burst: 1}
		s := b.stack(planOf(r))
		b.drain(s, nil, 2)
		b.store.Asked()
		b.drain(s, nil, 100)
		b.expect("questions", len(b.store.Asked()), 0)
		v := b.take(s, nil)
		pass(v.Retry)
		b.expect("after its retry", b.take(s, nil).Allowed, true)

		b.store.Fault = func(*Call) ratelimittest.Fault { return ratelimittest.Fault{Before: 40 * time.Millisecond} }
		q := b.stack(planOf(gatehouse.LimitRule{Name: "q", Quota: 1, Window: gatehouse.Window{Length: 5 * time.Second}}))
		b.take(q, nil)
		end := time.Now().Add(5 * time.Second)
		for range 3 {
			if v := b.take(q, nil); time.Now().Add(v.Retry).Before(end) {
				t.Errorf("retry in %s, the window ends in %s", v.Retry, time.Until(end))
			}
			pass(time.Second)
		}
	})
}

// A refusal by a limit in the process tells of a longer one in the store.
func TestLongerInStore(t *testing.T) {
	faulty(t, gatehouse.StoreExact, 0, func(b *bench) {
		rate := gatehouse.LimitRule{Name: "r", Rate: gatehouse.Rate{Count: 1, Per: time.Minute}, Burst: 1, Store: gatehouse.StoreLocal}
		q := b.stack(planOf(quotaOf(1)))
		s := b.stack(planOf(rate, quotaOf(1)))
		b.take(q, nil)
		b.take(q, nil)
		b.take(b.stack(planOf(rate)), nil)
		pass(10 * time.Second) // the refusal is not believed any more
		b.expect("named", b.take(s, nil).Binding.Name, "q")
	})
}

// However many values come, the store keeps no more counts than the table has
// places, and one more.
func TestKeysBounded(t *testing.T) {
	faulty(t, gatehouse.StoreLease, 20, func(b *bench) {
		s := b.stack(planOf(quotaOf(2, principal)))
		n := 0
		for i := range 500 {
			n += b.drain(s, who(fmt.Sprint(i)), 3)
		}
		b.expect("keys, passed", fmt.Sprint(b.store.Keys(), n), "21 42")
		if got := b.local.Overflowed(); got < 480 {
			t.Errorf("%d overflowed", got)
		}
	})
}

// A flood of values of one limit leaves places for those of another.
func TestTableShared(t *testing.T) {
	l := NewLocal("acme", 40)
	flood := l.Stack(time.Now(), nil, planOf(quotaOf(2, principal)))
	api := gatehouse.LimitRule{Name: "api", Quota: 3, Window: gatehouse.Window{Unit: "month"}, By: []gatehouse.Selector{{Kind: "key"}}}
	s := l.Stack(time.Now(), nil, Scope{Kind: TenantScope, Limits: gatehouse.Limits{Rules: []gatehouse.LimitRule{api}}})
	b := &bench{t: t}
	for i := range 500 {
		b.take(flood, who(fmt.Sprint(i)))
	}
	got := ""
	for i := range 12 {
		got += fmt.Sprint(b.drain(s, who(fmt.Sprint(i)), 4))
	}
	b.expect("each", got, "333333333330") // ten of its own, and what is left is one for all
}

// The largest stack that a document can have: places come back in all of it.
func TestWorstStack(t *testing.T) {
	faulty(t, gatehouse.StoreExact, 0, func(b *bench) {
		scope := func(k ScopeKind, route gatehouse.RouteID) Scope {
			lim := gatehouse.Limits{Concurrency: 2, MaxConcurrentUsers: 50, MaxAPICallsPerHour: 1e6}
			for i := range 20 {
				r := gatehouse.LimitRule{Name: fmt.Sprint("l", i), Quota: 1e6, Window: gatehouse.Window{Length: time.Hour}, Store: gatehouse.StoreLocal}
				lim.Rules = append(lim.Rules, r)
			}
			if k == RouteScope {
				lim.MaxConcurrentUsers, lim.MaxAPICallsPerHour = 0, 0
			}
			return Scope{Kind: k, Route: route, Limits: lim}
		}
		s := b.stack(scope(PlanScope, ""), scope(TenantScope, ""), scope(RouteScope, "r"))
		b.expect("limits", len(s.Limits()), 67)
		b.store.Leave(true)
		b.expect("away, one after the other", b.drain(s, nil, 20), 20)
		b.store.Leave(false)
		b.expect("back", b.drain(s, nil, 20), 20)
	})
}

// What a request brings along may panic: nothing stays taken.
func TestGonePanics(t *testing.T) {
	b := &bench{t: t}
	l := NewLocal("acme", 0)
	s := l.Stack(time.Now(), nil, Scope{Kind: TenantScope, Limits: gatehouse.Limits{Concurrency: 1, Wait: gatehouse.Duration(time.Second)}})
	var first, tk Ticket
	s.Take(&Request{Now: time.Now()}, &first)
	func() {
		defer func() { b.expect("panic", recover(), "gone") }()
		s.Take(&Request{Now: time.Now(), Gone: func() bool { panic("gone") }}, &tk)
	}()
	b.expect("waiting", l.Waiting(), 0)
	first.Done(time.Now())
	b.expect("next", b.take(s, nil).Allowed, true)
}

// A plan's quota outlives a table without routes, and a restart.
func TestQuotaStays(t *testing.T) {
	b := &bench{t: t}
	l := NewLocal("acme", 0)
	set := func() *Stack {
		s := l.Stack(time.Now(), nil, planOf(quotaOf(10)))
		l.Retain(s)
		return s
	}
	b.expect("passed", b.drain(set(), nil, 4), 4)
	l.Retain()
	b.expect("after a table without routes", b.drain(set(), nil, 3), 3)
	var text strings.Builder
	if err := l.Save(&text, time.Now()); err != nil {
		t.Fatal(err)
	}
	l = NewLocal("acme", 0)
	err := l.Load(strings.NewReader("not a state\n"+text.String()), time.Now())
	if err == nil || !strings.HasPrefix(err.Error(), "line 1 of the quotas: ") {
		t.Errorf("got %v", err)
	}
	b.expect("after a restart", b.drain(set(), nil, 20), 3)
}
