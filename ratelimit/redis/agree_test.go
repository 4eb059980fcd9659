package redis

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the same zones on every machine

	"pgregory.net/rapid"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/ratelimit"
	"github.com/gatehouse-gateway/gatehouse/ratelimit/ratelimittest"
)

// clocked makes the scripts of g read their time from a key.
func clocked(g *gateway) (set func(time.Time)) {
	for _, s := range []*script{&g.store.take, &g.store.keep} {
		s.source = strings.Replace(s.source, "redis.call('TIME')", "redis.call('HMGET', 'clock', 's', 'us')", 1)
		// Keys that are over would go by the server's own clock.
		s.source = strings.ReplaceAll(s.source, " + 1000, 2^43", " + 1e8, 2^43")
		s.sha = sha(s.source)
	}
	return func(at time.Time) {
		g.store.client.HSet(g.store.background(), "clock", "s", at.Unix(), "us", at.Nanosecond()/1000)
	}
}

type values map[string]string

func (v values) Value(s gatehouse.Selector) ([]byte, bool) {
	b, ok := v[s.Kind]
	return []byte(b), ok
}

func show(v ratelimit.Verdict) string {
	name := "-"
	if v.Binding != nil {
		name = v.Binding.Name
	}
	return fmt.Sprintf("allowed=%t by %s, %d left, beyond by %d, away=%t", v.Allowed, name, v.Remaining, v.Over, v.Away)
}

// Redis and a process by itself say the same on any history: buckets and
// windows of all kinds, changed limits, days of 23 and 25 hours; a refusal
// leaves every key as it was; time is told alike. The burst stays: a bucket
// that nobody has taken from is not in Redis, and so is full by any burst.
func TestAgree(t *testing.T) {
	g := open(t, Options{URL: ratelimittest.Single(t).URL}, gatehouse.StoreExact)
	set := clocked(g)
	const tick = time.Second / 4
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		now := time.Date(2026, 10, 24, 21, 59, 58, 0, time.UTC) // clocks change in Rome the next night
		loc, err := time.LoadLocation(rapid.SampledFrom([]string{"UTC", "Europe/Rome", "Asia/Kolkata"}).Draw(t, "zone"))
		if err != nil {
			t.Fatal(err)
		}
		id := gatehouse.TenantID(fmt.Sprint("t", n))
		here, there := ratelimit.NewLocal(id, 0), g.shared.Local(id, 0)
		unit := rapid.SampledFrom([]string{"second", "minute", "hour", "day", "week", "month", ""}).Draw(t, "unit")
		mode := rapid.SampledFrom([]gatehouse.QuotaMode{gatehouse.Hard, gatehouse.Soft, gatehouse.Overage}).Draw(t, "mode")
		anchor := rapid.IntRange(0, 31).Draw(t, "anchor")
		burst := rapid.Int64Range(1, 20).Draw(t, "burst")
		stacks := func() (a, b *ratelimit.Stack) {
			w := gatehouse.Window{Unit: unit}
			if unit == "" {
				w.Length = time.Duration(rapid.IntRange(1, 5).Draw(t, "length")) * time.Second
			}
			scopes := []ratelimit.Scope{
				{Kind: ratelimit.PlanScope, Limits: gatehouse.Limits{Rules: []gatehouse.LimitRule{{
					Name: "rate", Rate: gatehouse.Rate{Count: 1 << rapid.IntRange(0, 4).Draw(t, "rate"), Per: time.Second},
					Burst: burst, By: []gatehouse.Selector{{Kind: "principal"}},
				}}}},
				{Kind: ratelimit.TenantScope, Limits: gatehouse.Limits{AnchorDay: anchor, Rules: []gatehouse.LimitRule{{
					Name: "quota", Quota: rapid.Int64Range(1, 40).Draw(t, "quota"), Window: w, Mode: mode,
				}}}},
			}
			return here.Stack(now, loc, scopes...), there.Stack(now, loc, scopes...)
		}
		a, b := stacks()
		for range rapid.IntRange(1, 25).Draw(t, "n") {
			now = now.Add(tick * time.Duration(rapid.OneOf(rapid.IntRange(1, 8), rapid.IntRange(1, 4*3600*30)).Draw(t, "ticks")))
			set(now)
			if rapid.IntRange(0, 5).Draw(t, "change") == 0 {
				a, b = stacks()
				now = now.Add(tick)
				set(now)
			}
			r := &ratelimit.Request{Now: now, Cost: rapid.Int64Range(1, 6).Draw(t, "cost"), Values: values{"principal": rapid.SampledFrom([]string{"a", "b"}).Draw(t, "who")}}
			var ta, tb ratelimit.Ticket
			va, vb := a.Take(r, &ta), b.Take(r, &tb)
			if show(va) != show(vb) {
				t.Fatalf("at %s for %d:\n here %s\nRedis %s", now.In(loc), r.Cost, show(va), show(vb))
			}
			for _, d := range [][2]time.Duration{{va.Reset, vb.Reset}, {va.Retry, vb.Retry}} {
				// Redis counts microseconds, and ours runs on while it is asked.
				if diff := (d[0] - d[1]).Abs(); diff > 100*time.Millisecond {
					t.Fatalf("times: here %s %s, Redis %s %s", va.Reset, va.Retry, vb.Reset, vb.Retry)
				}
			}
			if vb.Allowed {
				continue
			}
			before := state(g, id)
			if v := b.Take(r, &tb); show(v) != show(vb) || state(g, id) != before {
				t.Fatalf("a refusal changed %s\n%s\ninto %s\n%s", show(vb), before, show(v), state(g, id))
			}
		}
	})
}

// state is what Redis holds of a tenant.
func state(g *gateway, id gatehouse.TenantID) string {
	keys := g.store.client.Keys(g.store.background(), "gh:{"+string(id)+"}:*").Val()
	slices.Sort(keys)
	var lines []string
	for _, k := range keys {
		lines = append(lines, k+" = "+g.store.client.Get(g.store.background(), k).Val())
	}
	return strings.Join(lines, "\n")
}

// The places of a gateway that was killed come back, and those of one that
// lives do not.
func TestPlacesOfTheDead(t *testing.T) {
	url := ratelimittest.Single(t).URL
	a, b := open(t, Options{URL: url}, gatehouse.StoreExact), open(t, Options{URL: url}, gatehouse.StoreExact)
	set := clocked(a)
	clocked(b)
	now := time.Now()
	set(now)
	scope := ratelimit.Scope{Kind: ratelimit.TenantScope, Limits: gatehouse.Limits{Concurrency: 2, MaxConcurrentUsers: 4}}
	sa, sb := a.shared.Local("acme", 0).Stack(now, nil, scope), b.shared.Local("acme", 0).Stack(now, nil, scope)
	var tks [4]ratelimit.Ticket
	in := func(s *ratelimit.Stack, i int, want string) {
		t.Helper()
		v := s.Take(&ratelimit.Request{Now: now, Principal: []byte{byte(i)}}, &tks[i])
		if got := show(v); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	in(sa, 0, "allowed=true by -, 0 left, beyond by 0, away=false")
	in(sb, 1, "allowed=true by -, 0 left, beyond by 0, away=false")
	in(sb, 2, "allowed=false by concurrency, 0 left, beyond by 0, away=false")
	// a dies: nothing of it renews. Redis' clock goes on; b renews.
	for range 6 {
		now = now.Add(5 * time.Second)
		set(now)
		if err := b.store.client.EvalSha(b.store.background(), b.store.keep.sha, []string{"gh:{acme}:tenant#concurrency"}, placeTime.Microseconds(), placeTime.Milliseconds(), 0, b.store.gateway+":1").Err(); err != nil && !strings.Contains(err.Error(), "NOSCRIPT") {
			t.Fatal(err)
		} else if err != nil {
			b.store.client.Eval(b.store.background(), b.store.keep.source, []string{"gh:{acme}:tenant#concurrency"}, placeTime.Microseconds(), placeTime.Milliseconds(), 0, b.store.gateway+":1")
		}
	}
	in(sb, 2, "allowed=true by -, 0 left, beyond by 0, away=false")
	in(sb, 3, "allowed=false by concurrency, 0 left, beyond by 0, away=false")
}
