package ratelimit

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/gatehouse-gateway/gatehouse"
)

// drain takes single units until a refusal and returns how many it got.
func drain(s *Stack, r Request) int {
	var tk Ticket
	for n := 0; ; n++ {
		if v := s.Take(&r, &tk); !v.Allowed {
			return n
		}
		tk.Done(r.Now)
	}
}

func TestChange(t *testing.T) {
	hour := gatehouse.Window{Unit: "hour"}
	// f drains first, changes to second a while later, drains again through
	// both stacks and wants what is left then.
	f := func(first, second gatehouse.LimitRule, after string, want string) {
		t.Helper()
		l := NewLocal("acme", 0)
		by := values{"principal": "a"}
		old := l.Stack(noon, nil, rules(PlanScope, first))
		got := []int{drain(old, Request{Now: noon, Values: by})}
		d, _ := time.ParseDuration(after)
		now := noon.Add(d)
		changed := l.Stack(now, nil, rules(PlanScope, second))
		l.Retain(changed)
		got = append(got, drain(changed, Request{Now: now, Values: by}))
		got = append(got, drain(changed, Request{Now: now.Add(time.Second), Values: by}))
		if s := strings.Trim(fmt.Sprint(got), "[]"); s != want {
			t.Errorf("%+v to %+v: got %s, want %s", first, second, s, want)
		}
	}
	for _, by := range [][]string{nil, {"principal"}} {
		q := func(n int64, w gatehouse.Window) gatehouse.LimitRule { return quotaRule("x", n, w, by...) }
		r := func(n, burst int64) gatehouse.LimitRule { return rateRule("x", perSecond(n), burst, by...) }
		f(q(10, hour), q(15, hour), "1m", "10 5 0") // exactly the difference
		f(q(10, hour), q(10, hour), "1m", "10 0 0")
		f(q(10, hour), q(5, hour), "1m", "10 0 0")
		f(q(10, hour), q(5, hour), "60m", "10 5 0")
		f(q(10, hour), q(12, gatehouse.Window{Unit: "day"}), "1m", "10 2 0") // the hour lies in the day
		f(q(10, gatehouse.Window{Unit: "day"}), q(12, hour), "1m", "10 12 0")
		f(q(10, hour), q(12, gatehouse.Window{Length: time.Minute}), "30s", "10 2 0")
		f(q(10, hour), q(12, gatehouse.Window{Length: time.Minute}), "61s", "10 12 0")
		f(r(2, 10), r(2, 20), "1s", "10 2 2") // a larger bucket fills at the rate
		f(r(2, 10), r(4, 10), "1s", "10 2 4") // a second at the old rate, then at the new
		f(r(2, 10), r(2, 3), "10s", "10 3 2") // 10 units of the old bucket are cut to 3
		f(r(2, 10), q(5, hour), "1s", "10 5 0")
	}
}

// A new rate counts from the moment that it came into force, not from the
// next request.
func TestRateSince(t *testing.T) {
	l := NewLocal("acme", 0)
	s := l.Stack(noon, nil, rules(PlanScope, rateRule("x", perSecond(2), 100)))
	drain(s, Request{Now: noon})
	l.Stack(noon.Add(time.Second), nil, rules(PlanScope, rateRule("x", perSecond(4), 99)))
	if got := drain(s, Request{Now: noon.Add(4 * time.Second)}); got != 2+3*4 {
		t.Errorf("got %d, want a second of 2/s and three of 4/s", got)
	}
}

// The counts of a dropped limit free their places.
func TestRetainFreesPlaces(t *testing.T) {
	l := NewLocal("acme", 2)
	stack := func(name string) *Stack {
		s := l.Stack(noon, nil, rules(PlanScope, quotaRule(name, 1, gatehouse.Window{Unit: "day"}, "principal")))
		l.Retain(s)
		return s
	}
	for _, name := range []string{"x", "y"} {
		s := stack(name)
		got := 0
		for _, who := range []string{"a", "b", "c", "d"} {
			got += drain(s, Request{Now: noon, Values: values{"principal": who}})
		}
		if got != 3 {
			t.Errorf("%s admits %d, want one each for a and b and one for all others", name, got)
		}
	}
	if got := len(l.Quotas(noon)); got != 2 {
		t.Errorf("%d counts are kept, want those of y", got)
	}
}

// Tables are compiled while requests run: the quota is used up exactly.
func TestRecompileRace(t *testing.T) {
	l := NewLocal("acme", 0)
	compile := func(extra string) *Stack {
		return l.Stack(
			noon, nil,
			rules(PlanScope, quotaRule("q", 1000, gatehouse.Window{Unit: "day"})),
			rules(TenantScope, rateRule(extra, perSecond(1), 1<<40, "principal")),
			Scope{Kind: TenantScope, Limits: gatehouse.Limits{Concurrency: 100, MaxConcurrentUsers: 100}},
		)
	}
	var live atomic.Pointer[Stack]
	live.Store(compile("x"))
	var passed atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 400 {
				var tk Ticket
				if live.Load().Take(&Request{Now: noon, Values: values{"principal": "a"}}, &tk).Allowed {
					passed.Add(1)
				}
				tk.Done(noon)
			}
		})
	}
	wg.Go(func() {
		for i := range 200 {
			s := compile([]string{"x", "y"}[i%2])
			live.Store(s)
			l.Retain(s)
			l.Quotas(noon)
		}
	})
	wg.Wait()
	if got := passed.Load(); got != 1000 {
		t.Errorf("%d passed, want 1000", got)
	}
}

// A stack of an older table holds to the limits in force, not to those that
// it was compiled with.
func TestOldStack(t *testing.T) {
	l := NewLocal("acme", 0)
	day := gatehouse.Window{Unit: "day"}
	old := l.Stack(noon, nil, rules(PlanScope, quotaRule("a", 5, day)), rules(RouteScope, quotaRule("b", 3, day)))
	drain(old, Request{Now: noon})
	now := l.Stack(noon, nil, rules(PlanScope, quotaRule("a", 7, day)))
	l.Retain(now)
	if got := drain(old, Request{Now: noon}); got != 4 {
		t.Errorf("the old stack admits %d, want the 4 that the new quota leaves", got)
	}
	// The name comes back after its limit was dropped: a new count.
	again := l.Stack(noon, nil, rules(RouteScope, quotaRule("b", 3, day)))
	if got := drain(again, Request{Now: noon}); got != 3 {
		t.Errorf("a limit made anew admits %d, want 3", got)
	}
}

// Places taken before a change are given back after it.
func TestTicketOverChange(t *testing.T) {
	l := NewLocal("acme", 0)
	limits := func(n int) Scope {
		return Scope{Kind: TenantScope, Limits: gatehouse.Limits{Concurrency: n, MaxConcurrentUsers: n}}
	}
	old := l.Stack(noon, nil, limits(2))
	var a, b, c Ticket
	old.Take(&Request{Now: noon, Principal: []byte("a")}, &a)
	old.Take(&Request{Now: noon, Principal: []byte("b")}, &b)
	s := l.Stack(noon, nil, limits(1))
	expect(t, s.Take(&Request{Now: noon, Principal: []byte("a")}, &c), "GH-RL-002 by tenant/concurrency, 0 left, reset 1s, retry 1s")
	a.Done(noon)
	b.Done(noon)
	expect(t, s.Take(&Request{Now: noon, Principal: []byte("c")}, &c), "GH-RL-002 by tenant/max_concurrent_users, 0 left, reset 1m0s, retry 1m0s")
	expect(t, s.Take(&Request{Now: noon, Principal: []byte("a")}, &c), "allow by -, 0 left, reset 0s, retry 0s")
	l.Retain()
	c.Done(noon)
}

// However many values compete for the places of the table, none gets more
// than its limit, and the table never grows beyond its bound.
func TestEvictionGrantsNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const bound = 3
		perSec := rapid.Int64Range(1, 4).Draw(t, "rate")
		burst := rapid.Int64Range(1, 4).Draw(t, "burst")
		quota := rapid.Int64Range(1, 6).Draw(t, "quota")
		length := time.Duration(rapid.IntRange(1, 5).Draw(t, "length")) * time.Second
		l := NewLocal("acme", bound)
		s := l.Stack(
			noon, nil,
			rules(PlanScope, rateRule("rate", perSecond(perSec), burst, "principal")),
			rules(TenantScope, quotaRule("quota", quota, gatehouse.Window{Unit: "minute"}, "key")),
			rules(RouteScope, quotaRule("length", quota, gatehouse.Window{Length: length}, "address")),
		)
		type event struct {
			at                      time.Time
			principal, key, address string
		}
		var history []event
		now := noon
		draw := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f"})
		for range rapid.IntRange(1, 120).Draw(t, "n") {
			if rapid.Bool().Draw(t, "wait") {
				now = now.Add(time.Duration(rapid.IntRange(0, 8).Draw(t, "eighths")) * time.Second / 8)
			}
			e := event{now, draw.Draw(t, "principal"), draw.Draw(t, "key"), draw.Draw(t, "address")}
			var tk Ticket
			v := s.Take(&Request{Now: now, Values: values{"principal": e.principal, "key": e.key, "address": e.address}}, &tk)
			if v.Allowed {
				history = append(history, e)
			}
			if n := len(l.table.ring); n > bound {
				t.Fatalf("%d counts, the bound is %d", n, bound)
			}
		}
		for i, from := range history {
			sum, minute, span := 0.0, int64(0), int64(0)
			for _, e := range history[i:] {
				if e.principal == from.principal {
					sum++
					if most := float64(burst) + float64(perSec)*e.at.Sub(from.at).Seconds(); sum > most {
						t.Fatalf("%s took %g in %v, at most %g", e.principal, sum, e.at.Sub(from.at), most)
					}
				}
				if e.key == from.key && e.at.Truncate(time.Minute).Equal(from.at.Truncate(time.Minute)) {
					if minute++; minute > quota {
						t.Fatalf("%s took more than %d in a minute", e.key, quota)
					}
				}
				// Windows are counted from first use: any such span touches
				// two windows at most.
				if e.address == from.address && e.at.Sub(from.at) < length {
					if span++; span > 2*quota {
						t.Fatalf("%s took more than twice %d in %v", e.address, quota, length)
					}
				}
			}
		}
	})
}

// A flood of new values does not lock out one that came before, and new ones
// have places of their own again once the old are idle.
func TestOverflow(t *testing.T) {
	l := NewLocal("acme", 2)
	s := l.Stack(noon, nil, rules(PlanScope, rateRule("r", perSecond(1), 2, "principal")))
	f := func(who string, after time.Duration, want int) {
		t.Helper()
		if got := drain(s, Request{Now: noon.Add(after), Values: values{"principal": who}}); got != want {
			t.Errorf("%s admits %d after %v, want %d", who, got, after, want)
		}
	}
	f("a", 0, 2)
	f("b", 0, 2)
	f("c", 0, 2) // the overflow count
	f("d", 0, 0)
	f("a", time.Second, 1)
	f("c", 2*time.Second, 2) // in the place of b, no better off than the overflow count
	f("d", 2*time.Second, 2) // the overflow count
	f("e", time.Hour, 2)
	f("f", time.Hour, 2)
	f("g", time.Hour, 2)
	f("h", time.Hour, 0)
}

func TestQuotas(t *testing.T) {
	month := gatehouse.Window{Unit: "month"}
	scopes := []Scope{
		rules(PlanScope, quotaRule("monthly", 10, month), rateRule("r", perSecond(100), 100)),
		{Kind: RouteScope, Route: "orders", Limits: gatehouse.Limits{Rules: []gatehouse.LimitRule{
			quotaRule("each", 6, gatehouse.Window{Length: 100 * time.Hour}, "principal"),
		}}},
	}
	l := NewLocal("acme", 0)
	l.Stack(noon, nil, scopes...).Take(&Request{Now: noon, Cost: 4, Values: values{"principal": "ann"}}, new(Ticket))
	b, err := json.Marshal(l.Quotas(noon))
	if err != nil {
		t.Fatal(err)
	}
	const want = `[{"key":"gh:{acme}:plan/monthly","start":"2026-03-01T00:00:00Z","end":"2026-04-01T00:00:00Z","used":4},` +
		`{"key":"gh:{acme}:route/orders/each:3b7736d0107a626bb8b0fb672735223f","start":"2026-03-05T12:00:00Z","end":"2026-03-09T16:00:00Z","used":4}]`
	if string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}

	// f restores the states after a while and drains.
	f := func(after time.Duration, who string, want int) {
		t.Helper()
		var states []QuotaState
		if err := json.Unmarshal(b, &states); err != nil {
			t.Fatal(err)
		}
		now := noon.Add(after)
		l := NewLocal("acme", 1)
		l.Restore(now, states)
		s := l.Stack(now, nil, scopes...)
		if kept, _ := json.Marshal(l.Quotas(now)); after == 0 && string(kept) != string(b) {
			t.Errorf("unused, the states are kept as\n%s\nwant\n%s", kept, b)
		}
		if got := drain(s, Request{Now: now, Values: values{"principal": who}}); got != want {
			t.Errorf("%s after %v: got %d, want %d", who, after, got, want)
		}
	}
	f(0, "ann", 2)
	f(0, "bob", 6) // ann's place is kept
	f(99*time.Hour, "ann", 2)
	f(100*time.Hour, "ann", 6)
	f(26*24*time.Hour, "bob", 6)
	f(27*24*time.Hour, "ann", 6)

	other := NewLocal("umbrella", 0)
	var states []QuotaState
	_ = json.Unmarshal(b, &states)
	other.Restore(noon, states)
	if got := other.Quotas(noon); len(got) != 0 {
		t.Errorf("another tenant took %v", got)
	}
}

// ann's reserved place is hers although others came first.
func TestRestoredPlace(t *testing.T) {
	rule := rules(PlanScope, quotaRule("q", 5, gatehouse.Window{Unit: "day"}, "principal"))
	l := NewLocal("acme", 0)
	drain(l.Stack(noon, nil, rule), Request{Now: noon, Values: values{"principal": "ann"}})
	l2 := NewLocal("acme", 1)
	l2.Restore(noon, l.Quotas(noon))
	s := l2.Stack(noon, nil, rule)
	var got []int
	for _, who := range []string{"bob", "cid", "ann", "ann"} {
		got = append(got, drain(s, Request{Now: noon, Values: values{"principal": who}}))
	}
	if fmt.Sprint(got) != "[5 0 0 0]" {
		t.Errorf("got %v: bob and cid share the overflow count, ann has used hers up", got)
	}

	// Once taken, nothing is reserved any more.
	l3 := NewLocal("acme", 2)
	l3.Restore(noon, l.Quotas(noon))
	s, got = l3.Stack(noon, nil, rule), nil
	for _, who := range []string{"ann", "bob", "cid"} {
		got = append(got, drain(s, Request{Now: noon, Values: values{"principal": who}}))
	}
	if fmt.Sprint(got) != "[0 5 5]" {
		t.Errorf("got %v: bob has a place, cid the overflow count", got)
	}
	// What comes too late changes nothing.
	before := fmt.Sprint(l3.Quotas(noon))
	l3.Restore(noon, []QuotaState{{Key: l3.Quotas(noon)[0].Key, Start: noon, End: noon.Add(time.Hour), Used: 1}})
	if after := fmt.Sprint(l3.Quotas(noon)); after != before {
		t.Errorf("got %s, want %s", after, before)
	}
}

// A wall clock that is set back grants nothing; one that was far ahead does
// not lock the tenant out until it would be right.
func TestClockSet(t *testing.T) {
	at := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, w := range []gatehouse.Window{{Unit: "hour"}, {Length: time.Hour}} {
		l := NewLocal("acme", 0)
		s := l.Stack(at("2026-03-05T10:59:00Z"), nil, rules(PlanScope, quotaRule("q", 5, w)))
		f := func(now string, want int) {
			t.Helper()
			l.now = time.Time{} // as if a monotonic reading said that time went on
			if got := drain(s, Request{Now: at(now)}); got != want {
				t.Errorf("%+v: %d admitted at %s, want %d", w, got, now, want)
			}
		}
		f("2026-03-05T11:00:00Z", 5)
		f("2026-03-05T10:59:50Z", 0)
		f("2026-03-05T11:00:10Z", 0)
		f("2099-01-01T00:00:00Z", 5)
		f("2026-03-05T11:00:20Z", 0)
		f("2026-03-05T12:00:20Z", 5)
	}
}
