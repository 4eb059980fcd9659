package ratelimit

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/gatehouse-gateway/gatehouse"
)

var noon = time.Date(2026, 3, 5, 12, 0, 0, 0, time.UTC)

func perSecond(n int64) gatehouse.Rate { return gatehouse.Rate{Count: n, Per: time.Second} }

func rules(kind ScopeKind, rs ...gatehouse.LimitRule) Scope {
	return Scope{Kind: kind, Limits: gatehouse.Limits{Rules: rs}}
}

func rateRule(name string, r gatehouse.Rate, burst int64, by ...string) gatehouse.LimitRule {
	return gatehouse.LimitRule{Name: name, Rate: r, Burst: burst, By: selectors(by)}
}

func quotaRule(name string, n int64, w gatehouse.Window, by ...string) gatehouse.LimitRule {
	return gatehouse.LimitRule{Name: name, Quota: n, Window: w, By: selectors(by)}
}

func selectors(texts []string) (out []gatehouse.Selector) {
	for _, s := range texts {
		kind, name, _ := strings.Cut(s, ":")
		out = append(out, gatehouse.Selector{Kind: kind, Name: name})
	}
	return out
}

// values are kind or kind:name to value.
type values map[string]string

func (v values) Value(s gatehouse.Selector) ([]byte, bool) {
	name := s.Kind
	if s.Name != "" {
		name += ":" + s.Name
	}
	b, ok := v[name]
	return []byte(b), ok
}

// show is a verdict in one line.
func show(v Verdict) string {
	name := "-"
	if v.Binding != nil {
		name = string(v.Binding.Scope) + "/" + v.Binding.Name
	}
	retry := v.Retry.String()
	if v.Retry == Never {
		retry = "never"
	}
	verb := "allow"
	if !v.Allowed {
		verb = string(v.Code())
	}
	return fmt.Sprintf("%s by %s, %d left, reset %s, retry %s", verb, name, v.Remaining, v.Reset, retry)
}

func expect(t *testing.T, got Verdict, want string) {
	t.Helper()
	if s := show(got); s != want {
		t.Errorf("\n got %s\nwant %s", s, want)
	}
}

// take takes once at noon and a given time later, and gives places back.
func take(s *Stack, after time.Duration, cost int64) Verdict {
	var t Ticket
	now := noon.Add(after)
	defer t.Done(now)
	return s.Take(&Request{Now: now, Cost: cost}, &t)
}

func TestVerdict(t *testing.T) {
	f := func(scopes []Scope, steps ...any) {
		t.Helper()
		s := NewLocal("acme", 0).Stack(noon, nil, scopes...)
		for i := 0; i < len(steps); i += 3 {
			after, _ := time.ParseDuration(steps[i].(string))
			expect(t, take(s, after, int64(steps[i+1].(int))), steps[i+2].(string))
		}
	}
	hour := gatehouse.Window{Unit: "hour"}

	f(nil, "0s", 1, "allow by -, 0 left, reset 0s, retry 0s")

	f([]Scope{rules(PlanScope, rateRule("r", perSecond(2), 3))},
		"0s", 1, "allow by plan/r, 2 left, reset 500ms, retry 0s",
		"0s", 2, "allow by plan/r, 0 left, reset 500ms, retry 0s",
		"250ms", 1, "GH-RL-001 by plan/r, 0 left, reset 250ms, retry 250ms",
		"250ms", 3, "GH-RL-001 by plan/r, 0 left, reset 250ms, retry 1.25s",
		"250ms", 4, "GH-RL-001 by plan/r, 0 left, reset 250ms, retry never",
		"500ms", 1, "allow by plan/r, 0 left, reset 500ms, retry 0s",
		"1h", 1, "allow by plan/r, 2 left, reset 500ms, retry 0s")

	// The default burst is one second of the rate, at least 1.
	f([]Scope{rules(PlanScope, rateRule("r", gatehouse.Rate{Count: 300, Per: time.Minute}, 0))},
		"0s", 1, "allow by plan/r, 4 left, reset 200ms, retry 0s")
	f([]Scope{rules(PlanScope, rateRule("r", gatehouse.Rate{Count: 20, Per: time.Minute}, 0))},
		"0s", 1, "allow by plan/r, 0 left, reset 3s, retry 0s",
		"1s", 1, "GH-RL-001 by plan/r, 0 left, reset 2s, retry 2s")

	f([]Scope{rules(TenantScope, quotaRule("q", 3, hour))},
		"10m", 2, "allow by tenant/q, 1 left, reset 50m0s, retry 0s",
		"20m", 2, "GH-RL-001 by tenant/q, 1 left, reset 40m0s, retry 40m0s",
		"20m", 4, "GH-RL-001 by tenant/q, 1 left, reset 40m0s, retry never",
		"20m", 1, "allow by tenant/q, 0 left, reset 40m0s, retry 0s",
		"60m", 3, "allow by tenant/q, 0 left, reset 1h0m0s, retry 0s")

	// A length counts from the first use, and a refusal is no use.
	f([]Scope{rules(TenantScope, quotaRule("q", 2, gatehouse.Window{Length: 90 * time.Second}))},
		"0s", 3, "GH-RL-001 by tenant/q, 2 left, reset 0s, retry never",
		"30s", 2, "allow by tenant/q, 0 left, reset 1m30s, retry 0s",
		"119s", 1, "GH-RL-001 by tenant/q, 0 left, reset 1s, retry 1s",
		"120s", 1, "allow by tenant/q, 1 left, reset 1m30s, retry 0s")

	// max_api_calls_per_hour is the rule "hourly".
	f([]Scope{{Kind: PlanScope, Limits: gatehouse.Limits{MaxAPICallsPerHour: 1}}},
		"0s", 1, "allow by plan/hourly, 0 left, reset 1h0m0s, retry 0s",
		"15m", 1, "GH-RL-001 by plan/hourly, 0 left, reset 45m0s, retry 45m0s")

	// The least share binds, not the least number.
	f([]Scope{rules(PlanScope, rateRule("r", perSecond(4), 4)), rules(TenantScope, quotaRule("q", 100, hour))},
		"0s", 1, "allow by plan/r, 3 left, reset 250ms, retry 0s",
		"10s", 1, "allow by plan/r, 3 left, reset 250ms, retry 0s")

	// Of several refusals the longest wait is named, and it is the wait until
	// all of them pass; what one of them still has is not taken.
	f([]Scope{rules(PlanScope, rateRule("r", perSecond(1), 1)), rules(TenantScope, quotaRule("q", 1, hour))},
		"0s", 1, "allow by plan/r, 0 left, reset 1s, retry 0s",
		"0s", 1, "GH-RL-001 by tenant/q, 0 left, reset 1h0m0s, retry 1h0m0s",
		"30s", 1, "GH-RL-001 by tenant/q, 0 left, reset 59m30s, retry 59m30s",
		"60m", 1, "allow by plan/r, 0 left, reset 1s, retry 0s")

	// Time that runs backwards stands still.
	f([]Scope{rules(PlanScope, rateRule("r", perSecond(1), 1))},
		"10s", 1, "allow by plan/r, 0 left, reset 1s, retry 0s",
		"0s", 1, "GH-RL-001 by plan/r, 0 left, reset 1s, retry 1s",
		"10.5s", 1, "GH-RL-001 by plan/r, 0 left, reset 500ms, retry 500ms")
}

func TestCapacity(t *testing.T) {
	s := NewLocal("acme", 0).Stack(noon, nil,
		Scope{Kind: TenantScope, Limits: gatehouse.Limits{
			Rules: []gatehouse.LimitRule{quotaRule("q", 4, gatehouse.Window{Unit: "day"})}, Concurrency: 2, MaxConcurrentUsers: 2,
		}})
	in := func(user string, after time.Duration, want string) *Ticket {
		t.Helper()
		tk := new(Ticket)
		expect(t, s.Take(&Request{Now: noon.Add(after), Principal: []byte(user)}, tk), want)
		return tk
	}
	a := in("a", 0, "allow by tenant/q, 3 left, reset 12h0m0s, retry 0s")
	b := in("b", 0, "allow by tenant/q, 2 left, reset 12h0m0s, retry 0s")
	in("a", 0, "GH-RL-002 by tenant/concurrency, 0 left, reset 1s, retry 1s")
	b.Done(noon.Add(10 * time.Second))
	b.Done(noon.Add(20 * time.Second)) // the second one does nothing
	in("c", 20*time.Second, "GH-RL-002 by tenant/max_concurrent_users, 0 left, reset 50s, retry 50s")
	a2 := in("a", 20*time.Second, "allow by tenant/q, 1 left, reset 11h59m40s, retry 0s")
	in("c", 70*time.Second, "GH-RL-002 by tenant/concurrency, 0 left, reset 1s, retry 1s")
	a2.Done(noon.Add(70 * time.Second))
	in("c", 70*time.Second, "allow by tenant/q, 0 left, reset 11h58m50s, retry 0s")
	// An exhausted quota is named before a lack of capacity.
	in("c", 70*time.Second, "GH-RL-001 by tenant/q, 0 left, reset 11h58m50s, retry 11h58m50s")
	a.Done(noon.Add(70 * time.Second))
}

func TestTicketTwice(t *testing.T) {
	s := NewLocal("acme", 0).Stack(noon, nil, Scope{Kind: TenantScope, Limits: gatehouse.Limits{Concurrency: 2}})
	var tk Ticket
	s.Take(&Request{Now: noon}, &tk)
	defer func() {
		if recover() == nil {
			t.Error("a held ticket was filled again")
		}
	}()
	s.Take(&Request{Now: noon}, &tk)
}

func TestBy(t *testing.T) {
	l := NewLocal("acme", 0)
	s := l.Stack(noon, nil,
		rules(PlanScope, rateRule("each", perSecond(1), 1, "principal")),
		rules(TenantScope, quotaRule("pair", 2, gatehouse.Window{Unit: "day"}, "header:X-A", "header:X-B")))
	f := func(v Values, want string) {
		t.Helper()
		var tk Ticket
		expect(t, s.Take(&Request{Now: noon, Values: v}, &tk), want)
	}
	long := strings.Repeat("x", 10<<10)
	f(values{"principal": "a"}, "allow by plan/each, 0 left, reset 1s, retry 0s")
	f(values{"principal": "a"}, "GH-RL-001 by plan/each, 0 left, reset 1s, retry 1s")
	f(values{"principal": "b"}, "allow by plan/each, 0 left, reset 1s, retry 0s")
	// Absent values share a count: a and b have used up the pair without values.
	f(nil, "GH-RL-001 by tenant/pair, 0 left, reset 12h0m0s, retry 12h0m0s")
	// An empty value is not an absent one, and the order of values tells.
	f(values{"principal": "c", "header:X-A": ""}, "allow by plan/each, 0 left, reset 1s, retry 0s")
	f(values{"principal": "d", "header:X-A": "1", "header:X-B": "2"}, "allow by plan/each, 0 left, reset 1s, retry 0s")
	f(values{"principal": "e", "header:X-A": "2", "header:X-B": "1"}, "allow by plan/each, 0 left, reset 1s, retry 0s")
	f(values{"principal": "g", "header:X-A": "1", "header:X-B": "2"}, "allow by plan/each, 0 left, reset 1s, retry 0s")
	f(values{"principal": "h", "header:X-A": "2", "header:X-B": "1"}, "allow by plan/each, 0 left, reset 1s, retry 0s")
	f(values{"principal": long, "header:X-A": "12"}, "allow by plan/each, 0 left, reset 1s, retry 0s")
	f(values{"principal": long + "y", "header:X-A": "12"}, "allow by plan/each, 0 left, reset 1s, retry 0s")
	f(values{"principal": "f", "header:X-A": "12"}, "GH-RL-001 by tenant/pair, 0 left, reset 12h0m0s, retry 12h0m0s")
}

func TestLimits(t *testing.T) {
	f := func(r gatehouse.LimitRule, quota, window, burst int64) {
		t.Helper()
		got := NewLocal("acme", 0).Stack(noon, nil, rules(PlanScope, r)).Limits()[0]
		if got.Quota != quota || got.Window != window || got.Burst != burst {
			t.Errorf("%+v: got q=%d w=%d burst=%d, want %d %d %d", r, got.Quota, got.Window, got.Burst, quota, window, burst)
		}
	}
	f(rateRule("r", perSecond(500), 0), 500, 1, 500)
	f(rateRule("r", perSecond(500), 1000), 500, 1, 1000)
	f(rateRule("r", gatehouse.Rate{Count: 20, Per: time.Minute}, 0), 20, 60, 1)
	f(rateRule("r", gatehouse.Rate{Count: 3, Per: 100 * time.Millisecond}, 0), 30, 1, 30)
	f(rateRule("r", gatehouse.Rate{Count: 3, Per: 1500 * time.Millisecond}, 0), 4, 2, 2)
	f(rateRule("r", gatehouse.Rate{Count: gatehouse.MaxUnits, Per: 1}, 0), gatehouse.MaxUnits, 1, gatehouse.MaxUnits)
	f(quotaRule("q", 10, gatehouse.Window{Unit: "month"}), 10, 30*86400, 10)
	f(quotaRule("q", 10, gatehouse.Window{Unit: "week"}), 10, 7*86400, 10)
	f(quotaRule("q", 10, gatehouse.Window{Length: 90*time.Second + 1}), 10, 91, 10)
}

// A token bucket never admits more than burst + rate·t in any window of time,
// and a request passes after its Retry when no other comes in between.
func TestRateBound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := gatehouse.Rate{
			Count: rapid.Int64Range(1, 1000).Draw(t, "count"),
			Per:   time.Duration(rapid.Int64Range(1, int64(time.Minute)).Draw(t, "per")),
		}
		burst := rapid.Int64Range(1, 50).Draw(t, "burst")
		s := NewLocal("acme", 0).Stack(noon, nil, rules(PlanScope, rateRule("r", r, burst)))
		type admitted struct {
			at   time.Duration
			cost int64
		}
		var history []admitted
		var now, latest time.Duration
		for range rapid.IntRange(1, 60).Draw(t, "n") {
			// Sometimes backwards, as callers on several cores are.
			now = max(0, now+time.Duration(rapid.Int64Range(-int64(r.Per), 3*int64(r.Per)).Draw(t, "step"))/time.Duration(r.Count))
			cost := rapid.Int64Range(1, burst).Draw(t, "cost")
			v := take(s, now, cost)
			latest = max(latest, now)
			if !v.Allowed && rapid.Bool().Draw(t, "retry") {
				now = latest + v.Retry
				latest = now
				if v = take(s, now, cost); !v.Allowed {
					t.Fatalf("refused again after the retry time: %s", show(v))
				}
			}
			if v.Allowed {
				history = append(history, admitted{latest, cost})
			}
		}
		for i := range history {
			sum := 0.0
			for _, h := range history[i:] {
				sum += float64(h.cost)
				// One nanosecond is the resolution of the clock.
				most := float64(burst) + r.PerSecond()*(h.at-history[i].at+1).Seconds()
				if sum > most*(1+1e-9) {
					t.Fatalf("%g units in %v, at most %g may pass", sum, h.at-history[i].at, most)
				}
			}
		}
	})
}

// Parallel requests over two limits: the narrow one is used up to the last
// unit, and no refusal took anything from the wide one.
func TestAllOrNothing(t *testing.T) {
	const workers, each, narrow, wide = 8, 200, 500, 1000
	s := NewLocal("acme", 0).Stack(noon, nil,
		rules(PlanScope, rateRule("wide", gatehouse.Rate{Count: 1, Per: 1000 * time.Hour}, wide)),
		rules(TenantScope, quotaRule("narrow", narrow, gatehouse.Window{Unit: "day"})),
		Scope{Kind: TenantScope, Limits: gatehouse.Limits{Concurrency: workers, MaxConcurrentUsers: workers}},
	)
	var wg sync.WaitGroup
	passed := make([]int, workers)
	for w := range workers {
		wg.Go(func() {
			var tk Ticket
			for range each {
				if s.Take(&Request{Now: noon, Principal: []byte{byte(w)}}, &tk).Allowed {
					passed[w]++
				}
				tk.Done(noon)
			}
		})
	}
	wg.Wait()
	sum, users := 0, 0
	for _, n := range passed {
		sum += n
		users += min(n, 1)
	}
	var left []int64
	for _, lv := range s.Levels(nil, &Request{Now: noon}) {
		left = append(left, lv.Remaining)
	}
	if got, want := fmt.Sprint(sum, left), fmt.Sprint(narrow, []int64{wide - narrow, 0, workers, int64(workers - users)}); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// Concurrency is never exceeded, and each place comes back once however often
// Done is called.
func TestConcurrencyRace(t *testing.T) {
	const bound, workers = 3, 8
	s := NewLocal("acme", 0).Stack(noon, nil, Scope{Kind: TenantScope, Limits: gatehouse.Limits{Concurrency: bound}})
	places := make(chan struct{}, bound)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range 500 {
				tk := new(Ticket)
				if !s.Take(&Request{Now: noon}, tk).Allowed {
					continue
				}
				select {
				case places <- struct{}{}:
				default:
					t.Error("more requests in flight than the bound")
				}
				<-places
				var both sync.WaitGroup
				both.Go(func() { tk.Done(noon) })
				both.Go(func() { tk.Done(noon) })
				both.Wait()
			}
		})
	}
	wg.Wait()
	if lv := s.Levels(nil, &Request{Now: noon})[0]; lv.Used != 0 {
		t.Errorf("%d still in flight", lv.Used)
	}
}

func TestAllocations(t *testing.T) {
	s := fourLimits(NewLocal("acme", 0))
	p := principal("user-4711@example.com")
	r := &Request{Values: &p, Principal: p, Named: []string{"each"}}
	var tk Ticket
	now := time.Now()
	if n := testing.AllocsPerRun(100, func() {
		now = now.Add(time.Microsecond)
		r.Now = now
		s.Take(r, &tk)
		tk.Done(now)
	}); n != 0 {
		t.Errorf("%v allocations per request", n)
	}
}
