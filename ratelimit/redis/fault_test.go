package redis

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/ratelimit"
	"github.com/gatehouse-gateway/gatehouse/ratelimit/ratelimittest"
)

// late is how much later than it should a busy machine may run a request.
const late = 500 * time.Millisecond

// quotaOf is a stack of one quota that no test sees the end of.
func quotaOf(l *ratelimit.Local, n int64, away gatehouse.LimitAway) *ratelimit.Stack {
	return l.Stack(time.Now(), nil, ratelimit.Scope{Kind: ratelimit.PlanScope, Limits: gatehouse.Limits{Rules: []gatehouse.LimitRule{
		{Name: "q", Quota: n, Window: gatehouse.Window{Length: 1000 * time.Hour}, Away: away},
	}}})
}

func left(s *ratelimit.Stack) int64 {
	return s.Levels(nil, &ratelimit.Request{Now: time.Now()})[0].Remaining
}

// connections returns how many connections the server has taken in all.
func connections(s *ratelimittest.Server) int {
	for line := range strings.Lines(s.Do("INFO", "stats")) {
		if n, ok := strings.CutPrefix(strings.TrimSpace(line), "total_connections_received:"); ok {
			v, _ := strconv.Atoi(n)
			return v
		}
	}
	return -1
}

// Redis is killed under load and comes back: what is admitted meanwhile is
// what Away says, no request waits longer than it may, what was spent is told
// to Redis, and nobody storms it.
func TestKilled(t *testing.T) {
	t.Parallel()
	const wait, workers = 200 * time.Millisecond, 8
	for _, mode := range []gatehouse.LimitStore{gatehouse.StoreExact, gatehouse.StoreLease} {
		for away, want := range map[gatehouse.LimitAway]string{
			// 100 of 1000 are used when it dies; two gateways live.
			gatehouse.AwayLocalShare: "450 passed away, 50 refused as GH-RL-001, 450 left",
			gatehouse.AwayOpen:       "500 passed away, 0 refused as , 400 left",
			gatehouse.AwayClosed:     "0 passed away, 500 refused as GH-RL-002, 900 left",
		} {
			if (mode == gatehouse.StoreExact) != (away == gatehouse.AwayClosed) && *long < time.Second {
				continue // one mode for each is the short form
			}
			t.Run(string(mode)+" "+string(away), func(t *testing.T) {
				t.Parallel()
				server := ratelimittest.Single(t, "--appendonly", "yes", "--appendfsync", "no")
				changes := make(chan string, 100)
				a := open(t, Options{URL: server.URL, Wait: wait, OnChange: func(_ int, away bool, _ error) { changes <- fmt.Sprint(away) }}, mode)
				b := open(t, Options{URL: server.URL, Wait: wait}, mode)
				become(t, "two gateways", func() bool { return a.store.Gateways() == 2 })
				s := quotaOf(a.shared.Local("acme", 0), 1000, away)
				var before, during tally
				for range 100 {
					before.hit(s)
				}
				other := quotaOf(b.shared.Local("acme", 0), 1000, away)
				become(t, "leases are given back", func() bool { return left(other) == 900 })
				server.Kill()
				codes := ""
				for !a.store.Away(0) { // requests that cost nothing, to find it out
					s.Levels(nil, &ratelimit.Request{Now: time.Now()})
				}
				for range 500 {
					if v := during.hit(s); !v.Allowed {
						codes = string(v.Code())
					}
				}
				if longest := time.Duration(during.longest.Load()); longest > wait+late {
					t.Errorf("a request took %s with the breaker open", longest)
				}
				server.Start()
				started := connections(server)
				var after tally
				stop := press(&after, workers, time.Millisecond, quotaOf(a.shared.Local("other", 0), 1_000_000, away))
				become(t, "Redis is back", func() bool { return !a.store.Away(0) })
				rest := int64(-1)
				if away != gatehouse.AwayClosed {
					if v := during.hit(s); !v.Allowed { // brings the debt
						t.Errorf("refused after the return: %+v", v)
					}
					become(t, "all is told", func() bool {
						rest = left(s) + 1
						return strings.HasSuffix(want, fmt.Sprintf(" %d left", rest))
					})
				} else {
					rest = left(s)
				}
				stop()
				n := during.passed.Load()
				if away != gatehouse.AwayClosed {
					n--
				}
				if got := fmt.Sprintf("%d passed away, %d refused as %s, %d left", n, during.refused.Load(), codes, rest); got != want {
					t.Errorf("\n got %s\nwant %s", got, want)
				}
				if n := connections(server) - started; n > 16 {
					t.Errorf("%d connections at the return", n)
				}
				if first, second := <-changes, <-changes; first != "true" || second != "false" {
					t.Errorf("told %s, then %s", first, second)
				}
				t.Logf("before: %s; away: %s; at the return: %s", &before, &during, &after)
			})
		}
	}
}

// Under load: how long requests wait while Redis dies, hangs and comes back.
func TestLoadOverOutage(t *testing.T) {
	t.Parallel()
	const wait = 100 * time.Millisecond
	server := ratelimittest.Single(t)
	for name, fault := range map[string]struct{ begin, end func() }{
		"killed":  {server.Kill, server.Start},
		"hanging": {server.Pause, server.Resume},
	} {
		t.Run(name, func(t *testing.T) {
			g := open(t, Options{URL: server.URL, Wait: wait}, gatehouse.StoreLease)
			s := quotaOf(g.shared.Local("acme", 0), 1<<50, gatehouse.AwayOpen)
			var y tally
			stop := press(&y, 8, time.Millisecond, s)
			become(t, "a hundred have passed", func() bool { return y.passed.Load() > 100 })
			fault.begin()
			become(t, "the breaker opens", func() bool { return g.store.Away(0) })
			n := y.away.Load()
			become(t, "requests go on", func() bool { return y.away.Load() > n+100 })
			fault.end()
			become(t, "it is back", func() bool { return !g.store.Away(0) })
			n = y.passed.Load()
			become(t, "requests go on", func() bool { return y.passed.Load() > n+100 })
			stop()
			t.Logf("%s", &y)
			if longest := time.Duration(y.longest.Load()); longest > wait+late {
				t.Errorf("a request waited %s", longest)
			}
		})
	}
}

// Behind a slow network each request waits its time and no longer; once that
// is seen, none waits; and when the network is fast again, Redis is asked.
func TestSlow(t *testing.T) {
	relay := ratelimittest.NewRelay(t, ratelimittest.Single(t).Addr)
	impatient := open(t, Options{URL: "redis://" + relay.Addr, Wait: 25 * time.Millisecond}, gatehouse.StoreExact)
	patient := open(t, Options{URL: "redis://" + relay.Addr, Wait: time.Second}, gatehouse.StoreExact)
	leasing := open(t, Options{URL: "redis://" + relay.Addr, Wait: time.Second}, gatehouse.StoreLease)
	hit := func(g *gateway, n int) *tally {
		s := quotaOf(g.shared.Local("acme", 0), 1<<40, "")
		var y tally
		for range n {
			y.hit(s)
		}
		return &y
	}
	hit(impatient, 10)
	hit(patient, 10)
	relay.Delay(50 * time.Millisecond)
	if y := hit(patient, 5); y.away.Load() != 0 {
		t.Errorf("patient: %s", y)
	} else {
		t.Logf("exact, 50 ms away, patient: %s", y)
	}
	if y := hit(leasing, 20_000); y.away.Load() != 0 {
		t.Errorf("leasing: %s", y)
	} else {
		t.Logf("lease, 50 ms away: %s in %d questions", y, leasing.shared.Counts().Asked)
	}
	var y tally
	s := quotaOf(impatient.shared.Local("acme", 0), 1<<40, "")
	for !impatient.store.Away(0) {
		y.hit(s)
	}
	t.Logf("exact, 50 ms away, impatient, until the breaker opens: %s", &y)
	if longest := time.Duration(y.longest.Load()); longest > 25*time.Millisecond+late {
		t.Errorf("a request waited %s", longest)
	}
	y2 := hit(impatient, 1000)
	t.Logf("then: %s", y2)
	if y2.away.Load() != 1000 {
		t.Errorf("then: %s", y2)
	}
	relay.Delay(0)
	become(t, "it is asked again", func() bool { return !impatient.store.Away(0) })
}

// Scripts that Redis has forgotten are sent again, and nobody notices.
func TestScriptFlush(t *testing.T) {
	server := ratelimittest.Single(t)
	g := open(t, Options{URL: server.URL}, gatehouse.StoreExact)
	s := quotaOf(g.shared.Local("acme", 0), 2000, "")
	var y tally
	stop := press(&y, 8, 0, s)
	for y.passed.Load() < 2000 {
		server.Do("SCRIPT", "FLUSH")
	}
	stop()
	if y.passed.Load() != 2000 || y.away.Load() != 0 {
		t.Errorf("%s", &y)
	}
}

func TestCluster(t *testing.T) {
	t.Parallel()
	c := ratelimittest.Cluster(t)
	t.Run("a node hangs", func(t *testing.T) { nodeHangs(t, c) })
	t.Run("a slot moves", func(t *testing.T) { slotMoves(t, c) })
}

// A tenant's slot moves to another node under load: nothing is lost.
func slotMoves(t *testing.T, c *ratelimittest.Clustered) {
	g := open(t, Options{URL: c.URL}, gatehouse.StoreExact)
	const tenant = "acme"
	number := slot(tenant)
	from := int(number) / 5462
	if want := c.Nodes[0].Do("CLUSTER", "KEYSLOT", "gh:{acme}:plan/q"); want != fmt.Sprint(number) {
		t.Fatalf("slot %d, the server says %s", number, want)
	}
	s := quotaOf(g.shared.Local(tenant, 0), 5000, gatehouse.AwayClosed)
	var y tally
	stop := press(&y, 8, 0, s)
	become(t, "a thousand have passed", func() bool { return y.passed.Load() > 1000 })
	keys := c.Move(fmt.Sprint(number), from, (from+1)%3)
	become(t, "all are used", func() bool { return left(s) == 0 })
	stop()
	t.Logf("%s; %d keys moved", &y, keys)
	if n := y.passed.Load(); n > 5000 || n < 4900 || keys == 0 {
		t.Errorf("%s; %d keys moved", &y, keys)
	}
	// Other tenants live on other nodes.
	for i := range 20 {
		if v := y.hit(quotaOf(g.shared.Local(gatehouse.TenantID(fmt.Sprint("other", i)), 0), 5, "")); v.Away || !v.Allowed {
			t.Errorf("t%d: %+v", i, v)
		}
	}
}

// The primary dies under load: requests go on by local share, and the count
// goes on at the replica.
func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	w := ratelimittest.Sentinel(t)
	const wait = 200 * time.Millisecond
	g := open(t, Options{URL: w.URL, Wait: wait}, gatehouse.StoreExact)
	s := quotaOf(g.shared.Local("acme", 0), 1_000_000, "")
	var y tally
	stop := press(&y, 4, time.Millisecond, s)
	become(t, "five hundred have passed", func() bool { return y.passed.Load() > 500 })
	w.Data[0].Kill()
	began := time.Now()
	become(t, "the breaker opens", func() bool { return g.store.Away(0) })
	become(t, "the replica is asked", func() bool { return !g.store.Away(0) })
	took := time.Since(began)
	n := y.passed.Load()
	become(t, "requests go on", func() bool { return y.passed.Load() > n+100 })
	stop()
	t.Logf("away for %s: %s", took.Round(time.Millisecond), &y)
	if longest := time.Duration(y.longest.Load()); longest > wait+late {
		t.Errorf("a request waited %s", longest)
	}
	// What was spent in the meantime is told; what the primary had not passed
	// on may be missing, and what it has charged without an answer is there
	// twice: three batches of eight requests at most.
	if spent := 1_000_000 - left(s); spent > y.passed.Load()+24 || spent < y.passed.Load()*9/10 {
		t.Errorf("%d passed, Redis counts %d", y.passed.Load(), spent)
	}
}

func TestTLSAndACL(t *testing.T) {
	server, ca := ratelimittest.Secure(t)
	f := func(o Options) ratelimit.Verdict {
		o.URL = strings.Replace(server.URL, "//", "//"+o.URL, 1)
		g := open(t, o, gatehouse.StoreExact)
		defer g.stop()
		var y tally
		return y.hit(quotaOf(g.shared.Local("acme", 0), 5, gatehouse.AwayClosed))
	}
	if v := f(Options{URL: "gatehouse:opensesame@", CA: ca}); !v.Allowed || v.Away {
		t.Errorf("user and password in the URL: %+v", v)
	}
	if v := f(Options{Username: "gatehouse", Password: gatehouse.Secret("opensesame"), CA: ca}); !v.Allowed || v.Away {
		t.Errorf("user and password apart: %+v", v)
	}
	for what, o := range map[string]Options{
		"no user": {CA: ca}, "wrong password": {URL: "gatehouse:no@", CA: ca}, "foreign CA": {URL: "gatehouse:opensesame@"},
	} {
		if v := f(o); v.Allowed || !v.Unasked {
			t.Errorf("%s: %+v", what, v)
		}
	}
}

// While Redis is away the bounds of capacity are this gateway's part, places
// held in Redis before included, and each comes back to where it was taken.
func TestCapacityAway(t *testing.T) {
	t.Parallel()
	server := ratelimittest.Single(t)
	g := open(t, Options{URL: server.URL}, gatehouse.StoreExact)
	open(t, Options{URL: server.URL}, gatehouse.StoreExact)
	become(t, "two gateways", func() bool { return g.store.Gateways() == 2 })
	s := g.shared.Local("acme", 0).Stack(time.Now(), nil,
		ratelimit.Scope{Kind: ratelimit.PlanScope, Limits: gatehouse.Limits{MaxConcurrentUsers: 8}},
		ratelimit.Scope{Kind: ratelimit.TenantScope, Limits: gatehouse.Limits{
			Concurrency: 6, Wait: gatehouse.Duration(10 * time.Second),
			Rules: []gatehouse.LimitRule{{Name: "here", Quota: 10, Window: gatehouse.Window{Length: time.Hour}, Store: gatehouse.StoreLocal}},
		}})
	tks := make([]ratelimit.Ticket, 8)
	in := func(i int, want string) {
		t.Helper()
		v := s.Take(&ratelimit.Request{Now: time.Now(), Principal: []byte{byte(i)}}, &tks[i])
		if got := show(v); got != want {
			t.Errorf("%d: got %s, want %s", i, got, want)
		}
	}
	in(0, "allowed=true by here, 9 left, beyond by 0, away=false")
	in(1, "allowed=true by here, 8 left, beyond by 0, away=false")
	server.Kill()
	for !g.store.Away(0) {
		s.Levels(nil, &ratelimit.Request{Now: time.Now()})
	}
	in(2, "allowed=true by here, 7 left, beyond by 0, away=true") // the third of three
	in(3, "allowed=false by concurrency, 0 left, beyond by 0, away=true")
	tks[2].Done(time.Now())
	in(3, "allowed=true by here, 6 left, beyond by 0, away=true")
	tks[0].Done(time.Now())
	in(0, "allowed=true by here, 5 left, beyond by 0, away=true")
	server.Start()
	become(t, "Redis is back", func() bool { return !g.store.Away(0) })
	for i := range tks {
		tks[i].Done(time.Now())
	}
	become(t, "all places are free", func() bool {
		for _, lv := range s.Levels(nil, &ratelimit.Request{Now: time.Now()}) {
			if lv.Limit.Kind == ratelimit.Concurrency {
				return lv.Remaining == 6
			}
		}
		return false
	})
}

// Users beyond those that Redis tells apart are counted within the error.
func TestCrowd(t *testing.T) {
	g := open(t, Options{URL: ratelimittest.Single(t).URL}, gatehouse.StoreExact)
	s := g.shared.Local("acme", 0).Stack(time.Now(), nil, ratelimit.Scope{Kind: ratelimit.PlanScope, Limits: gatehouse.Limits{MaxConcurrentUsers: exactUsers + 500}})
	key := "gh:{acme}:plan#max_concurrent_users"
	p := g.store.client.Pipeline()
	for i := range exactUsers - 100 {
		p.ZAdd(t.Context(), key, redis.Z{Score: float64(time.Now().UnixMicro()), Member: fmt.Sprint("other", i)})
		p.PFAdd(t.Context(), fmt.Sprint(key, ":", time.Now().Unix()/10), fmt.Sprint("other", i))
	}
	if _, err := p.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	passed := 0
	for i := range 1000 {
		var tk ratelimit.Ticket
		if s.Take(&ratelimit.Request{Now: time.Now(), Principal: []byte(fmt.Sprint("user", i))}, &tk).Allowed {
			passed++
		}
		tk.Done(time.Now())
	}
	// Four standard errors.
	if off := math.Abs(float64(passed - 600)); off > 4*0.0081*(exactUsers+500) {
		t.Errorf("%d users passed where 600 had room", passed)
	}
}
