package redis

import (
	"flag"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/ratelimit"
	"github.com/gatehouse-gateway/gatehouse/ratelimit/ratelimittest"
)

var long = flag.Duration("for", 200*time.Millisecond, "how long each row of the table of four gateways runs; a minute for the promise; from 1s on all faults are tried in all modes")

// Four gateways at ten times the limit: what passes against what may, and the
// most that all of them held ahead.
func TestFourGateways(t *testing.T) {
	t.Parallel()
	server := ratelimittest.Single(t)
	var table strings.Builder
	fmt.Fprintf(&table, "%-9s %-6s %9s %9s %9s %7s %9s %9s %10s\n", "limit", "mode", "tried", "may pass", "passed", "ratio", "overshoot", "questions", "held ahead")
	for _, mode := range []gatehouse.LimitStore{gatehouse.StoreExact, gatehouse.StoreLease} {
		gs := several(t, Options{URL: server.URL}, mode, 4)
		for _, g := range gs {
			become(t, "all are seen", func() bool { return g.store.Gateways() == 4 })
		}
		for _, row := range []gatehouse.Rate{{Count: 1, Per: time.Second}, {Count: 5, Per: time.Minute}, {Count: 500, Per: time.Second}, {Count: 100_000, Per: time.Second}} {
			compare(t, &table, gs, mode, row)
		}
		for _, g := range gs {
			g.stop()
		}
	}
	t.Logf("\n%s", &table)
}

// compare adds a row to the table.
func compare(t *testing.T, table *strings.Builder, gs []*gateway, mode gatehouse.LimitStore, row gatehouse.Rate) {
	const workers = 4
	sum := func(f func(*gateway) int64) (n int64) {
		for _, g := range gs {
			n += f(g)
		}
		return n
	}
	var stacks []*ratelimit.Stack
	for _, g := range gs {
		stacks = append(stacks, g.shared.Local(gatehouse.TenantID(fmt.Sprintf("t-%d-%s", row.Count, mode)), 0).Stack(time.Now(), nil,
			ratelimit.Scope{Kind: ratelimit.PlanScope, Limits: gatehouse.Limits{Rules: []gatehouse.LimitRule{{Name: "r", Rate: row}}}}))
	}
	pause := time.Duration(float64(workers*len(gs)) * float64(time.Second) / row.PerSecond() / 10)
	if pause < 2*time.Millisecond {
		pause = 0 // as fast as they can
	}
	asked := func(g *gateway) int64 { return g.shared.Counts().Asked }
	before := sum(asked)
	var y tally
	held := int64(0)
	began := time.Now()
	stop := press(&y, workers, min(pause, *long/10), stacks...)
	for end, more := time.After(*long), true; more; {
		held = max(held, sum(func(g *gateway) int64 { return g.shared.Overshoot() }))
		select {
		case <-time.After(5 * time.Millisecond):
		case <-end:
			more = false
		}
	}
	stop()
	may := float64(max(1, int64(row.PerSecond()))) + row.PerSecond()*time.Since(began).Seconds()
	passed := y.passed.Load()
	over := max(float64(passed)-may, 0)
	text, _ := row.MarshalText()
	fmt.Fprintf(table, "%-9s %-6s %9d %9.0f %9d %7.4f %9.0f %9d %10d\n", text, mode, passed+y.refused.Load(), may, passed, float64(passed)/may, over, sum(asked)-before, held)
	if over >= 1 {
		t.Errorf("%s %s: %d passed, %f may", text, mode, passed, may)
	}
	if passed < 1 {
		t.Errorf("%s %s: none passed", text, mode)
	}
	if most := row.PerSecond() / 100; float64(held) > most {
		t.Errorf("%s %s: %d held ahead, a hundredth is %f", text, mode, held, most)
	}
}

// What was taken ahead comes back when nobody needs it, and at the end.
func TestGivenBack(t *testing.T) {
	t.Parallel()
	server := ratelimittest.Single(t)
	gs := several(t, Options{URL: server.URL}, gatehouse.StoreLease, 2)
	a, b := gs[0], gs[1]
	sa, sb := quotaOf(a.shared.Local("acme", 0), 100_000, ""), quotaOf(b.shared.Local("acme", 0), 100_000, "")
	var y tally
	for range 5000 {
		y.hit(sa)
	}
	if c := a.shared.Counts(); c.Ahead == 0 || c.Asked > 2500 {
		t.Errorf("nothing was taken ahead: %+v", c)
	}
	become(t, "idle leases are given back", func() bool { return left(sb) == 95_000 })
	for range 2000 {
		y.hit(sa)
	}
	a.stop()
	if n := left(sb); n != 93_000 {
		t.Errorf("after the end of the other gateway %d are left, want 93000", n)
	}
}

// Of a limit in Redis, a raise is seen at the next request of every gateway
// that was told, however long the refusal was to last.
func TestRaised(t *testing.T) {
	t.Parallel()
	server := ratelimittest.Single(t)
	for _, mode := range []gatehouse.LimitStore{gatehouse.StoreExact, gatehouse.StoreLease} {
		gs := several(t, Options{URL: server.URL}, mode, 2)
		a, b := gs[0], gs[1]
		la, lb := a.shared.Local(gatehouse.TenantID(mode), 0), b.shared.Local(gatehouse.TenantID(mode), 0)
		var y tally
		sa, sb := quotaOf(la, 10, ""), quotaOf(lb, 10, "")
		for range 20 {
			y.hit(sa)
			y.hit(sb)
		}
		before := y.passed.Load()
		sa, sb = quotaOf(la, 15, ""), quotaOf(lb, 15, "")
		for range 20 {
			y.hit(sb)
			y.hit(sa)
		}
		if before != 10 || y.passed.Load() != 15 {
			t.Errorf("%s: %d passed, after the raise %d", mode, before, y.passed.Load())
		}
	}
}

func TestURL(t *testing.T) {
	f := func(url, want string) {
		t.Helper()
		o := Options{URL: url}
		u, cluster, err := o.universal()
		got := fmt.Sprint(err)
		if err == nil {
			got = fmt.Sprintf("%s user=%q password=%q db=%d master=%q tls=%t cluster=%t", strings.Join(u.Addrs, " "), u.Username, u.Password, u.DB, u.MasterName, u.TLSConfig != nil, cluster)
		}
		if got != want {
			t.Errorf("%s:\n got %s\nwant %s", url, got, want)
		}
	}
	f("redis://h", `h:6379 user="" password="" db=0 master="" tls=false cluster=false`)
	f("rediss://u:p%40s@h:1/3", `h:1 user="u" password="p@s" db=3 master="" tls=true cluster=false`)
	f("redis://[::1]", `[::1]:6379 user="" password="" db=0 master="" tls=false cluster=false`)
	f("redis+sentinel://a,b:1/main/2", `a:26379 b:1 user="" password="" db=2 master="main" tls=false cluster=false`)
	f("rediss+cluster://u:p@a:1,b:2", `a:1 b:2 user="u" password="p" db=0 master="" tls=true cluster=true`)
	f("http://h", "redis://, rediss://, redis+sentinel:// or redis+cluster:// is expected")
	f("redis+x://h", "redis://, rediss://, redis+sentinel:// or redis+cluster:// is expected")
	f("redis://", "a host is missing")
	f("redis://a,b", "several hosts are for redis+sentinel:// or redis+cluster://")
	f("redis+sentinel://a", "the name of the master is missing: redis+sentinel://HOST/NAME")
	f("redis://h/x", `database "x" is not a number`)
	f("redis+cluster://h/1", "a Cluster has one database only")
	f("redis://u:pa/secret@h:6379", "a / in user or password is written %2F")
	f("redis://u:%zz@h", "user or password is not written as in a URL")
}

// What gateways hold ahead of a limit is not spent by the lower one that takes
// its place: that admits no more than its own.
func TestLowered(t *testing.T) {
	t.Parallel()
	server := ratelimittest.Single(t)
	f := func(name string, wide, narrow gatehouse.LimitRule, want int64) {
		t.Helper()
		var gs []*ratelimit.Local
		var parts []*ratelimit.Shared
		for _, g := range several(t, Options{URL: server.URL}, gatehouse.StoreLease, 2) {
			gs, parts = append(gs, g.shared.Local(gatehouse.TenantID(name), 0)), append(parts, g.shared)
		}
		scope := func(r gatehouse.LimitRule) ratelimit.Scope {
			return ratelimit.Scope{Kind: ratelimit.PlanScope, Limits: gatehouse.Limits{Rules: []gatehouse.LimitRule{r}}}
		}
		var y tally
		for _, l := range gs {
			s := l.Stack(time.Now(), nil, scope(wide))
			for end := time.Now().Add(20 * time.Second); ; {
				y.hit(s)
				if parts[0].Overshoot() > 0 && (l == gs[0] || parts[1].Overshoot() > 0) {
					break
				}
				if time.Now().After(end) {
					t.Fatal("nothing is held ahead")
				}
			}
		}
		if y.refused.Load() > 0 {
			t.Fatalf("%s: %s before the change", name, &y)
		}
		var after tally
		var stacks []*ratelimit.Stack
		for _, l := range gs {
			stacks = append(stacks, l.Stack(time.Now(), nil, scope(narrow)))
		}
		for range 20 {
			for _, s := range stacks {
				after.hit(s)
			}
		}
		if after.passed.Load() > want {
			t.Errorf("%s: %s after the change, %d may pass", name, &after, want)
		}
	}
	month := gatehouse.Window{Unit: "month"}
	f("rate", gatehouse.LimitRule{Name: "r", Rate: gatehouse.Rate{Count: 1_000_000, Per: time.Second}},
		gatehouse.LimitRule{Name: "r", Rate: gatehouse.Rate{Count: 1, Per: time.Hour}}, 1)
	f("quota", gatehouse.LimitRule{Name: "q", Quota: 1 << 40, Window: month}, gatehouse.LimitRule{Name: "q", Quota: 2, Window: month}, 0)
}
