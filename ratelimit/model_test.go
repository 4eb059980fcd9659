package ratelimit

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/gatehouse-gateway/gatehouse"
)

// model is a naive stack of four limits: it keeps every admitted request and
// counts them anew for each verdict.
type model struct {
	zone        *time.Location
	perSecond   int64
	burst       int64
	quota       int64
	length      time.Duration // of the quota's window; 0 for the calendar day
	concurrency int
	users       int

	tokens  float64 // exact: the test uses powers of two
	filled  time.Time
	windowQ time.Time // start of the window that used belongs to
	used    int64
	flying  []string
	last    map[string]time.Time
}

func (m *model) fill(now time.Time) {
	m.tokens = min(m.tokens+now.Sub(m.filled).Seconds()*float64(m.perSecond), float64(m.burst))
	m.filled = now
}

func (m *model) roll(now time.Time) {
	over := now.Sub(m.windowQ) >= m.length
	if m.length == 0 {
		over = now.In(m.zone).Format(time.DateOnly) != m.windowQ.In(m.zone).Format(time.DateOnly)
	}
	if over {
		m.used, m.windowQ = 0, now
	}
}

func (m *model) activeUsers(now time.Time, but string) (n int, known bool) {
	seen := map[string]bool{}
	for _, u := range m.flying {
		seen[u] = true
	}
	for u, at := range m.last {
		if now.Sub(at) < time.Minute {
			seen[u] = true
		}
	}
	return len(seen), seen[but]
}

// take says whether the request passes, and if not, whether only for lack of
// capacity.
func (m *model) take(now time.Time, cost int64, user string) (allowed, capacity bool) {
	m.fill(now)
	m.roll(now)
	if m.tokens < float64(cost) || m.quota-m.used < cost {
		return false, false
	}
	n, known := m.activeUsers(now, user)
	if len(m.flying) >= m.concurrency || !known && n >= m.users {
		return false, true
	}
	m.tokens -= float64(cost)
	if m.used == 0 {
		m.windowQ = now
	}
	m.used += cost
	m.flying = append(m.flying, user)
	return true, false
}

func (m *model) stack(l *Local, now time.Time) *Stack {
	w := gatehouse.Window{Unit: "day"}
	if m.length != 0 {
		w = gatehouse.Window{Length: m.length}
	}
	return l.Stack(
		now, m.zone,
		Scope{Kind: PlanScope, Limits: gatehouse.Limits{
			Rules:              []gatehouse.LimitRule{{Name: "rate", Rate: gatehouse.Rate{Count: m.perSecond, Per: time.Second}, Burst: m.burst}},
			MaxConcurrentUsers: m.users,
		}},
		Scope{Kind: TenantScope, Limits: gatehouse.Limits{
			Rules:       []gatehouse.LimitRule{{Name: "quota", Quota: m.quota, Window: w}},
			Concurrency: m.concurrency,
		}},
	)
}

// A stack agrees with the model on any history, changes of the limits
// included, and a refusal changes nothing.
func TestModel(t *testing.T) {
	const tick = time.Second / 64 // exact in float64
	rapid.Check(t, func(t *rapid.T) {
		pow := func(name string, lo, hi int) int64 { return 1 << rapid.IntRange(lo, hi).Draw(t, name) }
		now := time.Date(2026, 10, 24, 21, 0, 0, 0, time.UTC) // clocks change in Rome the next night
		m := &model{
			zone: zone(t, rapid.SampledFrom([]string{"UTC", "Europe/Rome", "Asia/Kolkata"}).Draw(t, "zone")),
			last: map[string]time.Time{}, filled: now, windowQ: now,
		}
		if rapid.Bool().Draw(t, "length") {
			m.length = 90 * time.Second
		}
		set := func() {
			m.perSecond = pow("rate", 0, 4)
			m.burst = pow("burst", 0, 4)
			m.quota = rapid.Int64Range(1, 40).Draw(t, "quota")
			m.concurrency = rapid.IntRange(1, 4).Draw(t, "concurrency")
			m.users = rapid.IntRange(1, 3).Draw(t, "users")
		}
		set()
		m.tokens = float64(m.burst)
		l := NewLocal("acme", 0)
		s := m.stack(l, now)
		var tickets []*Ticket // of m.flying
		t.Repeat(map[string]func(*rapid.T){
			"wait": func(t *rapid.T) {
				now = now.Add(tick * time.Duration(rapid.OneOf(rapid.IntRange(0, 200), rapid.IntRange(0, 64*3600*9)).Draw(t, "ticks")))
			},
			"take": func(t *rapid.T) {
				user := rapid.SampledFrom([]string{"a", "b", "c", "d", ""}).Draw(t, "user")
				cost := rapid.Int64Range(1, 5).Draw(t, "cost")
				r := &Request{Now: now, Cost: cost, Principal: []byte(user)}
				before := fmt.Sprintf("%+v", s.Levels(nil, r))
				tk := new(Ticket)
				v := s.Take(r, tk)
				allowed, capacity := m.take(now, cost, user)
				if v.Allowed != allowed || !allowed && v.Binding.Kind.Capacity() != capacity {
					t.Fatalf("got %+v by %+v, want allowed=%t capacity=%t", v, v.Binding, allowed, capacity)
				}
				if allowed {
					tickets = append(tickets, tk)
				} else if after := fmt.Sprintf("%+v", s.Levels(nil, r)); after != before {
					t.Fatalf("refusal changed\n%s\ninto\n%s", before, after)
				}
			},
			"done": func(t *rapid.T) {
				if len(tickets) == 0 {
					t.Skip("nothing in flight")
				}
				i := rapid.IntRange(0, len(tickets)-1).Draw(t, "i")
				tickets[i].Done(now)
				tickets[i].Done(now)
				m.last[m.flying[i]] = now
				tickets = slices.Delete(tickets, i, i+1)
				m.flying = slices.Delete(m.flying, i, i+1)
			},
			"change": func(t *rapid.T) {
				m.fill(now)
				set()
				m.tokens = min(m.tokens, float64(m.burst))
				s2 := m.stack(l, now)
				if rapid.Bool().Draw(t, "use the new stack") {
					s = s2
				}
			},
			"": func(t *rapid.T) {
				got := s.Levels(nil, &Request{Now: now})
				m.fill(now)
				m.roll(now)
				n, _ := m.activeUsers(now, "")
				want := map[Kind]int64{Rate: int64(m.tokens), Quota: max(m.quota-m.used, 0), Concurrency: int64(max(m.concurrency-len(m.flying), 0)), Users: int64(max(m.users-n, 0))}
				for _, lv := range got {
					if lv.Remaining != want[lv.Limit.Kind] {
						t.Fatalf("%s has %d left, want %d", lv.Limit.Name, lv.Remaining, want[lv.Limit.Kind])
					}
				}
			},
		})
	})
}
