package ratelimittest

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/ratelimit"
)

// New returns the state of one gateway for a tenant of its own. The counts of
// tenants with other ids are not touched by it.
type New func(t testing.TB, tenant gatehouse.TenantID) *ratelimit.Local

// Test holds a store of limits to what every store does.
func Test(t *testing.T, f New) {
	for name, run := range map[string]func(*testing.T, New){
		"change": change, "whole": whole, "by": by, "absent": absent, "places": places, "queue": queue, "gone": gone,
		"users": users, "beyond": beyond, "top-up": topUp, "rate": rate, "levels": levels, "weigh": weigh, "demand": demand, "race": race, "history": history,
	} {
		t.Run(name, func(t *testing.T) { run(t, f) })
	}
}

// far is a window that no test sees the end of.
var far = gatehouse.Window{Length: 1000 * time.Hour}

func quota(name string, n int64, by ...string) gatehouse.LimitRule {
	return gatehouse.LimitRule{Name: name, Quota: n, Window: far, By: selectors(by)}
}

func slow(name string, burst int64, by ...string) gatehouse.LimitRule {
	return gatehouse.LimitRule{Name: name, Rate: gatehouse.Rate{Count: 1, Per: 1000 * time.Hour}, Burst: burst, By: selectors(by)}
}

func selectors(texts []string) (out []gatehouse.Selector) {
	for _, s := range texts {
		kind, name, _ := strings.Cut(s, ":")
		out = append(out, gatehouse.Selector{Kind: kind, Name: name})
	}
	return out
}

func plan(rs ...gatehouse.LimitRule) ratelimit.Scope {
	return ratelimit.Scope{Kind: ratelimit.PlanScope, Limits: gatehouse.Limits{Rules: rs}}
}

func tenant(l gatehouse.Limits) ratelimit.Scope {
	return ratelimit.Scope{Kind: ratelimit.TenantScope, Limits: l}
}

type values map[string]string

func (v values) Value(s gatehouse.Selector) ([]byte, bool) {
	name := s.Kind
	if s.Name != "" {
		name += ":" + s.Name
	}
	b, ok := v[name]
	return []byte(b), ok
}

// take takes cost once and gives places back.
func take(s *ratelimit.Stack, cost int64, v ratelimit.Values) ratelimit.Verdict {
	var tk ratelimit.Ticket
	defer func() { tk.Done(time.Now()) }()
	return s.Take(&ratelimit.Request{Now: time.Now(), Cost: cost, Values: v}, &tk)
}

// drain takes single units until a refusal.
func drain(s *ratelimit.Stack, v ratelimit.Values) (n int) {
	for n < 10_000 && take(s, 1, v).Allowed {
		n++
	}
	return n
}

// show is a verdict without its times.
func show(v ratelimit.Verdict) string {
	name, verb := "-", "allow"
	if v.Binding != nil {
		name = string(v.Binding.Scope) + "/" + v.Binding.Name
	}
	if !v.Allowed {
		verb = string(v.Code())
	}
	if v.Retry == ratelimit.Never {
		verb += " for ever"
	}
	text := fmt.Sprintf("%s by %s, %d left", verb, name, v.Remaining)
	if v.Beyond != nil {
		text += fmt.Sprintf(", beyond %s by %d", v.Beyond.Name, v.Over)
	}
	return text
}

func expect(t *testing.T, got ratelimit.Verdict, want string) {
	t.Helper()
	if s := show(got); s != want {
		t.Errorf("\n got %s\nwant %s", s, want)
	}
}

func change(t *testing.T, f New) {
	l := f(t, "change")
	at := func(n int64) *ratelimit.Stack { return l.Stack(time.Now(), nil, plan(quota("q", n))) }
	s := at(10)
	var got []int
	got = append(got, drain(s, nil))
	raised := at(15)
	got = append(got, drain(raised, nil)) // exactly the difference
	at(5)
	got = append(got, drain(raised, nil), drain(s, nil))
	at(17)
	got = append(got, drain(s, nil))
	if text := fmt.Sprint(got); text != "[10 5 0 0 2]" {
		t.Errorf("got %s", text)
	}
	b := l.Stack(time.Now(), nil, plan(slow("r", 4)))
	got = []int{drain(b, nil)}
	l.Stack(time.Now(), nil, plan(slow("r", 8)))
	got = append(got, drain(b, nil)) // a larger bucket fills at the rate
	l.Stack(time.Now(), nil, plan(gatehouse.LimitRule{Name: "r", Rate: gatehouse.Rate{Count: 1000, Per: time.Millisecond}, Burst: 8}))
	take(b, 1, nil) // the rate is in force from here for a store that was not told of the change
	deadline := time.After(5 * time.Second)
	for !take(b, 8, nil).Allowed {
		select {
		case <-time.After(time.Millisecond):
		case <-deadline:
			t.Fatal("a raised rate has no effect")
		}
	}
	if text := fmt.Sprint(got); text != "[4 0]" {
		t.Errorf("bucket: got %s", text)
	}
}

// A refusal by one limit costs nothing in any other.
func whole(t *testing.T, f New) {
	s := f(t, "whole").Stack(time.Now(), nil,
		plan(slow("wide", 10), quota("quota", 8)),
		tenant(gatehouse.Limits{
			Rules:       []gatehouse.LimitRule{slow("narrow", 3), {Name: "here", Quota: 9, Window: far, Store: gatehouse.StoreLocal}},
			Concurrency: 5, MaxConcurrentUsers: 5,
		}))
	expect(t, take(s, 2, nil), "allow by tenant/narrow, 1 left")
	before := lefts(s)
	for range 20 {
		expect(t, take(s, 2, nil), "GH-RL-001 by tenant/narrow, 1 left")
	}
	expect(t, take(s, 4, nil), "GH-RL-001 for ever by tenant/narrow, 1 left")
	if after := lefts(s); after != before || after != "[8 6 1 7 5 4]" {
		t.Errorf("before %s, after refusals %s", before, after)
	}
	expect(t, take(s, 1, nil), "allow by tenant/narrow, 0 left")
}

func lefts(s *ratelimit.Stack) string {
	var out []int64
	for _, lv := range s.Levels(nil, &ratelimit.Request{Now: time.Now()}) {
		out = append(out, lv.Remaining)
	}
	return fmt.Sprint(out)
}

func by(t *testing.T, f New) {
	s := f(t, "by").Stack(time.Now(), nil, plan(slow("each", 2, "principal"), quota("pair", 4, "header:X-A", "header:X-B")))
	long := strings.Repeat("x", 10<<10)
	var got []int
	for _, v := range []values{
		{"principal": "a", "header:X-A": "1"},
		{"principal": "a", "header:X-A": "2"},
		{"principal": "b", "header:X-A": "1"},
		{"principal": "c", "header:X-A": "1"},
		{"principal": long},
		{"principal": long + "y"},
		{"principal": "d"},
	} {
		got = append(got, drain(s, v))
	}
	if text := fmt.Sprint(got); text != "[2 0 2 0 2 2 0]" {
		t.Errorf("got %s", text)
	}
}

// demand: a limit on demand holds the requests that name it.
func demand(t *testing.T, f New) {
	l := f(t, "demand")
	rule := func(name string, n int64) gatehouse.LimitRule {
		r := quota(name, n)
		r.OnDemand = true
		return r
	}
	s := l.Stack(time.Now(), nil, plan(quota("all", 9), rule("one", 1)), tenant(gatehouse.Limits{Rules: []gatehouse.LimitRule{rule("two", 2)}}))
	ask := func(want string, names ...string) {
		t.Helper()
		var tk ratelimit.Ticket
		defer func() { tk.Done(time.Now()) }()
		expect(t, s.Take(&ratelimit.Request{Now: time.Now(), Named: names}, &tk), want)
	}
	ask("allow by plan/all, 8 left")
	ask("allow by plan/one, 0 left", "one")
	ask("GH-RL-001 by plan/one, 0 left", "one", "two")
	ask("allow by tenant/two, 1 left", "two")
	ask("allow by plan/all, 5 left")
	if got := lefts(s); got != "[5 0 1]" {
		t.Errorf("%s are left", got)
	}
	for want, names := range map[string][]string{"": {"one", "two"}, "all": {"two", "all"}, "no": {"no", "one"}} {
		if got := s.Unknown(names); got != want {
			t.Errorf("%v: %q is unknown, want %q", names, got, want)
		}
	}
	// Held for all from now on, with its count.
	s = l.Stack(time.Now(), nil, plan(quota("all", 9), quota("one", 1)))
	ask("GH-RL-001 by plan/one, 0 left")
}

// weigh: levels say what each limit would make of a request, and take nothing.
func weigh(t *testing.T, f New) {
	org, soft, named := quota("org", 1, "claim:org"), quota("soft", 1), quota("named", 1)
	org.Absent, soft.Mode, named.OnDemand = gatehouse.AbsentSkip, gatehouse.Soft, true
	s := f(t, "weigh").Stack(time.Now(), nil, plan(slow("slow", 3), quota("quota", 4), org, soft, named),
		tenant(gatehouse.Limits{Concurrency: 1, MaxConcurrentUsers: 1}))
	var tk ratelimit.Ticket
	now := func(cost int64, v ratelimit.Values, user string, names ...string) *ratelimit.Request {
		return &ratelimit.Request{Now: time.Now(), Cost: cost, Values: v, Principal: []byte(user), Named: names}
	}
	expect(t, s.Take(now(2, values{}, "a"), &tk), "allow by plan/soft, 0 left, beyond soft by 0")
	ask := func(want string, r *ratelimit.Request) {
		t.Helper()
		var got []string
		for _, lv := range s.Levels(nil, r) {
			what := "pass"
			switch {
			case lv.Aside:
				what = "aside"
			case lv.Refuses && lv.Retry == ratelimit.Never:
				what = "never"
			case lv.Refuses:
				what = "refuse"
			case lv.Beyond:
				what = "beyond"
			}
			got = append(got, lv.Limit.Name+" "+what)
		}
		if text := strings.Join(got, ", "); text != want {
			t.Errorf("cost %d of %q\ngot  %s\nwant %s", r.Cost, r.Principal, text, want)
		}
	}
	for range 3 {
		ask("slow pass, quota pass, org aside, soft beyond, named aside, concurrency refuse, max_concurrent_users pass", now(1, values{}, "a"))
		ask("slow refuse, quota pass, org never, soft beyond, named never, concurrency refuse, max_concurrent_users refuse", now(2, values{"claim:org": "x"}, "b", "named"))
		ask("slow never, quota never, org aside, soft beyond, named aside, concurrency refuse, max_concurrent_users refuse", now(5, values{}, "b"))
	}
	tk.Done(time.Now())
	if got := lefts(s); !strings.HasPrefix(got, "[1 2 0 0 1 ") {
		t.Errorf("%s are left", got)
	}
}

func absent(t *testing.T, f New) {
	with := func(a gatehouse.LimitAbsent) gatehouse.LimitRule {
		r := quota("org", 1, "claim:org")
		r.Absent = a
		return r
	}
	l := f(t, "absent")
	for want, a := range map[string]gatehouse.LimitAbsent{
		"allow by plan/org, 0 left; GH-RL-001 by plan/org, 0 left":                       "",
		"allow by -, 0 left; allow by -, 0 left":                                         gatehouse.AbsentSkip,
		"GH-RL-001 for ever by plan/org, 0 left; GH-RL-001 for ever by plan/org, 0 left": gatehouse.AbsentDeny,
	} {
		s := l.Stack(time.Now(), nil, plan(with(a)))
		if got := show(take(s, 1, nil)) + "; " + show(take(s, 1, nil)); got != want {
			t.Errorf("%s: got %s, want %s", a, got, want)
		}
		v := values{"claim:org": string(a)}
		if got := show(take(s, 1, v)) + "; " + show(take(s, 1, v)); got != "allow by plan/org, 0 left; GH-RL-001 by plan/org, 0 left" {
			t.Errorf("%s with a value: got %s", a, got)
		}
	}
}

func places(t *testing.T, f New) {
	l := f(t, "places")
	s := l.Stack(time.Now(), nil, plan(quota("q", 6)), tenant(gatehouse.Limits{Concurrency: 2}))
	tks := make([]ratelimit.Ticket, 3)
	in := func(i int) ratelimit.Verdict { return s.Take(&ratelimit.Request{Now: time.Now()}, &tks[i]) }
	expect(t, in(0), "allow by plan/q, 5 left")
	expect(t, in(1), "allow by plan/q, 4 left")
	expect(t, in(2), "GH-RL-002 by tenant/concurrency, 0 left")
	tks[0].Done(time.Now())
	tks[0].Done(time.Now())
	settle(t, func() bool { return in(2).Allowed })
	expect(t, in(0), "GH-RL-002 by tenant/concurrency, 0 left")
	tks[1].Done(time.Now())
	tks[2].Done(time.Now())
	settle(t, func() bool { return lefts(s) == "[3 2]" })
}

// settle waits for what a store does in the background.
func settle(t *testing.T, f func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for !f() {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-deadline:
			t.Fatal("it does not come to be so")
		}
	}
}

// Those that wait get places in the order in which they came.
func queue(t *testing.T, f New) {
	l := f(t, "queue")
	s := l.Stack(time.Now(), nil, plan(quota("q", 4)),
		tenant(gatehouse.Limits{Concurrency: 1, Wait: gatehouse.Duration(20 * time.Second), MaxWaiting: 4}))
	var first ratelimit.Ticket
	expect(t, s.Take(&ratelimit.Request{Now: time.Now()}, &first), "allow by plan/q, 3 left")
	var wg sync.WaitGroup
	order := make(chan string, 4)
	for i := range 4 {
		wg.Go(func() {
			var tk ratelimit.Ticket
			v := s.Take(&ratelimit.Request{Now: time.Now()}, &tk)
			order <- fmt.Sprint(i, " ", show(v))
			tk.Done(time.Now())
		})
		settle(t, func() bool { return l.Waiting() == i+1 })
	}
	expect(t, take(s, 1, nil), "GH-RL-002 by tenant/concurrency, 0 left") // the queue is full
	first.Done(time.Now())
	wg.Wait()
	close(order)
	var got []string
	for o := range order {
		got = append(got, o)
	}
	want := "0 allow by plan/q, 2 left; 1 allow by plan/q, 1 left; 2 allow by plan/q, 0 left; 3 GH-RL-001 by plan/q, 0 left"
	if text := strings.Join(got, "; "); text != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
	settle(t, func() bool { return lefts(s) == "[0 1]" })
}

// A client that goes away leaves the queue, and one whose time is over.
func gone(t *testing.T, f New) {
	l := f(t, "gone")
	s := l.Stack(time.Now(), nil, tenant(gatehouse.Limits{Concurrency: 1, Wait: gatehouse.Duration(20 * time.Second)}))
	var first, tk ratelimit.Ticket
	s.Take(&ratelimit.Request{Now: time.Now()}, &first)
	began := time.Now()
	v := s.Take(&ratelimit.Request{Now: time.Now(), Gone: func() bool { return true }}, &tk)
	expect(t, v, "GH-RL-002 by tenant/concurrency, 0 left")
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("left after %s", took)
	}
	s = l.Stack(time.Now(), nil, tenant(gatehouse.Limits{Concurrency: 1, Wait: gatehouse.Duration(30 * time.Millisecond)}))
	expect(t, take(s, 1, nil), "GH-RL-002 by tenant/concurrency, 0 left")
	if n := l.Waiting(); n != 0 {
		t.Errorf("%d wait", n)
	}
	first.Done(time.Now())
	settle(t, func() bool { return lefts(s) == "[1]" })
}

func users(t *testing.T, f New) {
	s := f(t, "users").Stack(time.Now(), nil, tenant(gatehouse.Limits{MaxConcurrentUsers: 2}))
	var got []string
	for _, who := range []string{"a", "b", "c", "a", "b", ""} {
		var tk ratelimit.Ticket
		v := s.Take(&ratelimit.Request{Now: time.Now(), Principal: []byte(who)}, &tk)
		tk.Done(time.Now())
		got = append(got, fmt.Sprint(v.Allowed))
	}
	if text := strings.Join(got, " "); text != "true true false true true false" {
		t.Errorf("got %s", text)
	}
}

func beyond(t *testing.T, f New) {
	rule := func(name string, n int64, m gatehouse.QuotaMode) gatehouse.LimitRule {
		r := quota(name, n)
		r.Mode = m
		return r
	}
	s := f(t, "beyond").Stack(time.Now(), nil, plan(rule("soft", 3, gatehouse.Soft), rule("over", 5, gatehouse.Overage)))
	expect(t, take(s, 2, nil), "allow by plan/soft, 1 left")
	expect(t, take(s, 2, nil), "allow by plan/soft, 0 left, beyond soft by 0")
	expect(t, take(s, 3, nil), "allow by plan/soft, 0 left, beyond soft by 2")
	expect(t, take(s, 3, nil), "allow by plan/soft, 0 left, beyond soft by 3")
}

func topUp(t *testing.T, f New) {
	l := f(t, "topup")
	s := l.Stack(time.Now(), nil, plan(quota("q", 3)))
	key := s.Levels(nil, &ratelimit.Request{Now: time.Now()})[0].Key
	got := []int{drain(s, nil)}
	if err := l.TopUp(time.Now(), key, 2); err != nil {
		t.Fatal(err)
	}
	got = append(got, drain(s, nil))
	if text := fmt.Sprint(key, got); text != "gh:{topup}:plan/q[3 2]" {
		t.Errorf("got %s", text)
	}
	if err := l.TopUp(time.Now(), "gh:{topup}:plan/other", 2); err == nil {
		t.Error("a quota that does not exist was topped up")
	}
	if err := l.TopUp(time.Now(), key, 0); err == nil {
		t.Error("topped up by nothing")
	}
}

// In no span of time more passes than the bucket and what came in.
func rate(t *testing.T, f New) {
	const perSecond, burst = 400, 20
	s := f(t, "rate").Stack(time.Now(), nil,
		plan(gatehouse.LimitRule{Name: "r", Rate: gatehouse.Rate{Count: perSecond, Per: time.Second}, Burst: burst}))
	type passed struct{ before, after time.Time }
	var all []passed
	for end := time.Now().Add(500 * time.Millisecond); time.Now().Before(end); {
		before := time.Now()
		if take(s, 1, nil).Allowed {
			all = append(all, passed{before, time.Now()})
		}
	}
	for i, from := range all {
		for j, to := range all[i:] {
			if most := burst + perSecond*to.after.Sub(from.before).Seconds(); float64(j+1) > most*1.01+1 {
				t.Fatalf("%d in %s", j+1, to.after.Sub(from.before))
			}
		}
	}
	if n := len(all); n < burst+perSecond/8 { // a busy store may answer in milliseconds
		t.Errorf("%d passed in half a second of %d/s", n, perSecond)
	}
}

func levels(t *testing.T, f New) {
	s := f(t, "levels").Stack(time.Now(), nil, plan(slow("r", 10), quota("q", 10)), tenant(gatehouse.Limits{Concurrency: 3, MaxConcurrentUsers: 9}))
	var a, b ratelimit.Ticket
	s.Take(&ratelimit.Request{Now: time.Now(), Cost: 3, Principal: []byte("a")}, &a)
	s.Take(&ratelimit.Request{Now: time.Now(), Cost: 3, Principal: []byte("b")}, &b)
	var text []string
	for _, lv := range s.Levels(nil, &ratelimit.Request{Now: time.Now()}) {
		text = append(text, fmt.Sprintf("%s %d/%d", lv.Key, lv.Used, lv.Remaining))
	}
	want := "gh:{levels}:plan/r 6/4; gh:{levels}:plan/q 6/4; gh:{levels}:tenant#concurrency 2/1; gh:{levels}:tenant#max_concurrent_users 2/7"
	if got := strings.Join(text, "; "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	a.Done(time.Now())
	b.Done(time.Now())
}

// Parallel requests use a quota up to the last unit, never beyond, and a
// bound of concurrency is never exceeded.
func race(t *testing.T, f New) {
	const workers, narrow, bound = 8, 300, 3
	s := f(t, "race").Stack(time.Now(), nil,
		plan(slow("wide", 1000), quota("narrow", narrow)),
		tenant(gatehouse.Limits{Concurrency: bound, Wait: gatehouse.Duration(10 * time.Second)}))
	inside := make(chan struct{}, bound)
	var mu sync.Mutex
	passed := 0
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for {
				var tk ratelimit.Ticket
				v := s.Take(&ratelimit.Request{Now: time.Now()}, &tk)
				if !v.Allowed {
					if v.Binding.Kind == ratelimit.Quota {
						return
					}
					continue
				}
				select {
				case inside <- struct{}{}:
				default:
					t.Error("more in flight than the bound")
				}
				mu.Lock()
				passed++
				mu.Unlock()
				<-inside
				tk.Done(time.Now())
			}
		})
	}
	wg.Wait()
	settle(t, func() bool { return lefts(s) == fmt.Sprint([]int{1000 - passed, narrow - passed, bound}) })
	// What one request holds another may be refused for, until the first is
	// decided; at rest nothing is missing.
	passed += drain(s, nil)
	if passed != narrow {
		t.Errorf("%d passed, want %d", passed, narrow)
	}
}

// Any history of one gateway comes out as counting on fingers does.
func history(t *testing.T, f New) {
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		l := f(t, gatehouse.TenantID(fmt.Sprint("history-", n)))
		bucket, whole := rapid.Int64Range(1, 40).Draw(rt, "bucket"), rapid.Int64Range(1, 40).Draw(rt, "quota")
		set := func() *ratelimit.Stack {
			return l.Stack(time.Now(), nil, plan(slow("bucket", bucket, "principal"), quota("quota", whole)))
		}
		s := set()
		left, used := map[string]int64{}, int64(0)
		for range rapid.IntRange(1, 40).Draw(rt, "n") {
			if rapid.IntRange(0, 9).Draw(rt, "change") == 0 {
				whole = rapid.Int64Range(1, 60).Draw(rt, "new quota")
				s = set()
			}
			who := rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "who")
			cost := rapid.Int64Range(1, 6).Draw(rt, "cost")
			if _, known := left[who]; !known {
				left[who] = bucket
			}
			want := left[who] >= cost && whole-used >= cost
			if got := take(s, cost, values{"principal": who}).Allowed; got != want {
				rt.Fatalf("%d for %s with %d in the bucket and %d of %d used: allowed=%t", cost, who, left[who], used, whole, got)
			}
			if want {
				left[who] -= cost
				used += cost
			}
		}
	})
}
