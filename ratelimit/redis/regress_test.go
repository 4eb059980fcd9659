package redis

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/ratelimit"
	"github.com/gatehouse-gateway/gatehouse/ratelimit/ratelimittest"
)

// evals returns how many scripts a server has run.
func evals(s *ratelimittest.Server) (n int) {
	for line := range strings.Lines(s.Do("INFO", "commandstats")) {
		var k int
		if _, err := fmt.Sscanf(line, "cmdstat_evalsha:calls=%d,", &k); err == nil {
			n += k
		}
	}
	return n
}

// A node of a Cluster hangs: its tenants' questions are not repeated by the
// client, and those of other nodes keep their store.
func nodeHangs(t *testing.T, c *ratelimittest.Clustered) {
	g := open(t, Options{URL: c.URL, Wait: 100 * time.Millisecond}, gatehouse.StoreExact)
	busy := int(slot(gatewaysKey)) / 5462
	var ids [3]gatehouse.TenantID
	for i, found := 0, 0; found < 3; i++ {
		id := gatehouse.TenantID(fmt.Sprint("t", i))
		if n := int(slot(string(id))) / 5462; ids[n] == "" {
			ids[n] = id
			found++
		}
	}
	hung := (busy + 1) % 3 // the scripts of the beat are not counted
	var stacks [3]*ratelimit.Stack
	for i, id := range ids {
		stacks[i] = quotaOf(g.shared.Local(id, 0), 1<<40, gatehouse.AwayOpen)
		var y tally
		become(t, "it is asked", func() bool { return !y.hit(stacks[i]).Away })
	}
	node := c.Nodes[hung]
	ran := evals(node)
	node.Pause()
	sent := 0
	var y [3]tally
	for !g.store.Away(g.store.Shard(ids[hung])) {
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() { y[hung].hit(stacks[hung]) })
			sent++
		}
		wg.Wait()
	}
	for i := range 3 {
		for range 100 {
			y[i].hit(stacks[i])
		}
	}
	node.Resume()
	for i := range 3 {
		if away := y[i].away.Load(); (away > 10) != (i == hung) { // a busy machine may be late for some
			t.Errorf("node %d of %d, which hangs: %s", i, hung, &y[i])
		}
	}
	become(t, "it is back", func() bool { return !g.store.Away(g.store.Shard(ids[hung])) })
	if n := evals(node) - ran; n > sent {
		t.Errorf("%d questions were sent, and %d run", sent, n)
	}
	for _, node := range c.Nodes {
		become(t, "all nodes agree", func() bool { return strings.Contains(node.Do("CLUSTER", "INFO"), "cluster_state:ok") })
	}
}

// Requests that were refused for a late answer are not charged in the end.
func TestRefusedNotCharged(t *testing.T) {
	t.Parallel()
	relay := ratelimittest.NewRelay(t, ratelimittest.Single(t).Addr)
	g := open(t, Options{URL: "redis://" + relay.Addr, Wait: 100 * time.Millisecond}, gatehouse.StoreExact)
	s := quotaOf(g.shared.Local("acme", 0), 1000, gatehouse.AwayClosed)
	var y tally
	become(t, "it is asked", func() bool { return y.hit(s).Allowed })
	relay.Delay(200 * time.Millisecond)
	for !g.store.Away(0) {
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() { y.hit(s) })
		}
		wg.Wait()
	}
	relay.Delay(0)
	become(t, "what was charged has come back", func() bool { return left(s) == 1000-y.passed.Load() })
}

func inFlight(l *ratelimit.Local, n int, wait time.Duration) *ratelimit.Stack {
	return l.Stack(time.Now(), nil, ratelimit.Scope{Kind: ratelimit.TenantScope, Limits: gatehouse.Limits{Concurrency: n, Wait: gatehouse.Duration(wait), MaxWaiting: 1000}})
}

// One that waits for a place is not passed over for ever by those that come
// to the gateway that has it.
func TestWaitAcross(t *testing.T) {
	t.Parallel()
	url := ratelimittest.Single(t).URL
	a, b := open(t, Options{URL: url}, gatehouse.StoreExact), open(t, Options{URL: url}, gatehouse.StoreExact)
	become(t, "two gateways", func() bool { return a.store.Gateways() == 2 && b.store.Gateways() == 2 })
	sa, sb := inFlight(a.shared.Local("acme", 0), 1, 20*time.Second), inFlight(b.shared.Local("acme", 0), 1, 20*time.Second)
	var stop atomic.Bool
	var served atomic.Int64
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for !stop.Load() {
				var tk ratelimit.Ticket
				if sa.Take(&ratelimit.Request{Now: time.Now()}, &tk).Allowed {
					served.Add(1)
					<-time.After(10 * time.Millisecond)
				}
				tk.Done(time.Now())
			}
		})
	}
	become(t, "the place is in use", func() bool { return served.Load() > 3 })
	var tk ratelimit.Ticket
	began, n := time.Now(), served.Load()
	v := sb.Take(&ratelimit.Request{Now: began}, &tk)
	if took := time.Since(began); !v.Allowed || took > 2*time.Second {
		t.Errorf("allowed=%t after %s and %d others", v.Allowed, took, served.Load()-n)
	}
	tk.Done(time.Now())
	stop.Store(true)
	wg.Wait()
}

// Places that become free at one gateway are with those that wait at another
// at once, not one by one.
func TestHandedOut(t *testing.T) {
	t.Parallel()
	url := ratelimittest.Single(t).URL
	a, b := open(t, Options{URL: url}, gatehouse.StoreExact), open(t, Options{URL: url}, gatehouse.StoreExact)
	const n = 60
	lb := b.shared.Local("acme", 0)
	sa, sb := inFlight(a.shared.Local("acme", 0), n, time.Second), inFlight(lb, n, 20*time.Second)
	tks := make([]ratelimit.Ticket, 2*n)
	for i := range n {
		if !sa.Take(&ratelimit.Request{Now: time.Now()}, &tks[i]).Allowed {
			t.Fatal(i)
		}
	}
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { sb.Take(&ratelimit.Request{Now: time.Now()}, &tks[n+i]) })
	}
	become(t, "all wait", func() bool { return lb.Waiting() == n })
	began := time.Now()
	for i := range n {
		tks[i].Done(time.Now())
	}
	wg.Wait()
	if took := time.Since(began); took > sweeps {
		t.Errorf("%d places took %s", n, took)
	}
	for i := range n {
		tks[n+i].Done(time.Now())
	}
}

// sweeps is far less than one place for each of 60 sweeps takes.
const sweeps = time.Second

// A key that cannot be used fails its own tenant's questions, and is told.
func TestBadKey(t *testing.T) {
	t.Parallel()
	server := ratelimittest.Single(t)
	told := make(chan string, 100)
	g := open(t, Options{
		URL:      server.URL,
		OnChange: func(_ int, away bool, err error) { told <- fmt.Sprint(away, err) },
		OnError:  func(key string, err error) { told <- key + ": " + err.Error()[:9] },
	}, gatehouse.StoreExact)
	server.Do("LPUSH", "gh:{bad}:plan/q", "x")
	bad, good := quotaOf(g.shared.Local("bad", 0), 10, ""), quotaOf(g.shared.Local("good", 0), 1000, "")
	var yb, yg tally
	began := time.Now()
	for range 20 {
		yb.hit(bad)
		yg.hit(good)
	}
	if got := fmt.Sprintf("%d %d %d", yb.away.Load(), yg.passed.Load(), yg.away.Load()); got != "20 20 0" {
		t.Errorf("got %s", got)
	}
	if got := <-told; got != "gh:{bad}:plan/q: WRONGTYPE" || len(told) > 1 {
		t.Errorf("told %s and %d more", got, len(told))
	}
	// Each request asks once. What they owe is told besides, and told again after
	// a rest: no sooner when no other request comes.
	const rest = 250 * time.Millisecond
	for tick := time.NewTicker(5 * time.Millisecond); g.store.Counts().Failed < 24 && time.Since(began) < time.Minute; {
		<-tick.C
	}
	c := g.store.Counts()
	if most := 20 + 1 + int64(time.Since(began)/rest); c.Failed < 24 || c.Failed > most || c.Away != 0 {
		t.Errorf("%+v; at most %d may have failed", c, most)
	}
}

func TestOfServer(t *testing.T) {
	for text, want := range map[string]bool{
		"LOADING Redis is loading the dataset in memory": true, "READONLY You can't write against a read only replica.": true,
		"CLUSTERDOWN The cluster is down": true, "MASTERDOWN Link with MASTER is down": true, "NOAUTH Authentication required.": true,
		"WRONGPASS invalid username-password pair": true, "NOPERM this user has no permissions": true, "ERR max number of clients reached": true,
		"WRONGTYPE Operation against a key": false, "OOM command not allowed": false, "TRYAGAIN Multiple keys": false, "ERR user_script:1": false,
	} {
		if got := ofServer(serverError(text)); got != want {
			t.Errorf("%s: got %t", text, got)
		}
	}
	if !ofServer(errors.New("read tcp: i/o timeout")) || ofServer(errShort) || ofServer(fmt.Errorf("%w: x", errUnread)) {
		t.Error("errors of the connection and of answers are taken for each other")
	}
}

type serverError string

func (e serverError) Error() string { return string(e) }
func (serverError) RedisError()     {}

var _ redis.Error = serverError("")

// Two gateways of which one has not heard yet that a window has changed count
// together, in the window that came later.
func TestMixedWindows(t *testing.T) {
	t.Parallel()
	url := ratelimittest.Single(t).URL
	a, b := open(t, Options{URL: url}, gatehouse.StoreExact), open(t, Options{URL: url}, gatehouse.StoreExact)
	of := func(g *gateway, since time.Duration, r gatehouse.LimitRule) *ratelimit.Stack {
		r.Name = "q"
		return g.shared.Local("acme", 0).Stack(time.Now().Add(-since), nil, ratelimit.Scope{Kind: ratelimit.PlanScope, Limits: gatehouse.Limits{Rules: []gatehouse.LimitRule{r}}})
	}
	sa := of(a, time.Hour, gatehouse.LimitRule{Quota: 10, Window: gatehouse.Window{Unit: "month"}})
	sb := of(b, 0, gatehouse.LimitRule{Quota: 10, Window: gatehouse.Window{Unit: "week"}})
	var y, other tally
	for range 20 {
		y.hit(sb)
		y.hit(sa)
	}
	if y.passed.Load() != 10 {
		t.Errorf("%s of 10", &y)
	}
	// A rate of the same name is another count.
	sr := of(b, 0, gatehouse.LimitRule{Rate: gatehouse.Rate{Count: 1, Per: time.Hour}, Burst: 3})
	for range 5 {
		other.hit(sr)
		y.hit(sa)
	}
	if y.passed.Load() != 10 || other.passed.Load() != 3 {
		t.Errorf("quota %s, rate %s", &y, &other)
	}
}

// A gateway holds nothing ahead before all others can have heard of it.
func TestSettled(t *testing.T) {
	t.Parallel()
	g := open(t, Options{URL: ratelimittest.Single(t).URL}, gatehouse.StoreExact)
	s := g.shared.Local("acme", 0).Stack(time.Now(), nil, ratelimit.Scope{Kind: ratelimit.PlanScope, Limits: gatehouse.Limits{Rules: []gatehouse.LimitRule{
		{Name: "q", Quota: 1 << 40, Window: gatehouse.Window{Unit: "month"}, Store: gatehouse.StoreLease},
	}}})
	var y tally
	ahead := int64(0)
	for {
		if settled := g.store.Settled(); settled || ahead > 0 {
			break
		}
		y.hit(s)
		if !g.store.Settled() {
			ahead = g.shared.Counts().Ahead
		}
	}
	if ahead > 0 || y.passed.Load() == 0 {
		t.Errorf("%d ahead; %s", ahead, &y)
	}
	become(t, "units are taken ahead", func() bool { y.hit(s); return g.shared.Counts().Ahead > 0 })
}

// A clock of Redis that was set back far does not close a bucket for as long.
func TestClockBack(t *testing.T) {
	g := open(t, Options{URL: ratelimittest.Single(t).URL}, gatehouse.StoreExact)
	set := clocked(g)
	now := time.Now()
	s := g.shared.Local("acme", 0).Stack(now, nil, ratelimit.Scope{Kind: ratelimit.PlanScope, Limits: gatehouse.Limits{Rules: []gatehouse.LimitRule{
		{Name: "r", Rate: gatehouse.Rate{Count: 10, Per: time.Second}, Burst: 10},
	}}})
	drain := func(ours, theirs time.Duration) (n int) {
		set(now.Add(theirs))
		for n < 100 && s.Take(&ratelimit.Request{Now: now.Add(ours)}, new(ratelimit.Ticket)).Allowed {
			n++
		}
		return n
	}
	got := fmt.Sprint(drain(0, 0), drain(2*time.Second, -59*time.Second), drain(4*time.Second, -57*time.Second))
	if got != "10 0 10" {
		t.Errorf("got %s", got)
	}
}

// Tenants have their turns, one with too many questions is told so, and
// questions that are alike are one.
func TestQueue(t *testing.T) {
	q := &queue{work: make(chan struct{}, 1), lines: map[string]*line{}}
	ask := func(tenant string, n int64) *ratelimit.Call {
		return &ratelimit.Call{Asks: []ratelimit.Ask{{Kind: ratelimit.Quota, Key: "gh:{" + tenant + "}:plan/q", Cost: 1, Quota: n}}}
	}
	for i := range int64(perTenant) {
		if err := q.add(ask("noisy", i/100)); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.add(ask("noisy", 0)); !errors.Is(err, ratelimit.ErrBusy) {
		t.Errorf("got %v", err)
	}
	for _, name := range []string{"a", "b", "a"} {
		if err := q.add(ask(name, 1)); err != nil {
			t.Fatal(err)
		}
	}
	calls, more := q.next(nil)
	var first []string
	for _, c := range calls[:6] {
		first = append(first, c.Asks[0].Key[4:5])
	}
	if got := fmt.Sprint(first, len(calls), more); got != "[n a b n a n] 256 true" {
		t.Errorf("got %s", got)
	}
	w := worker{calls: calls}
	w.group()
	var sizes []int
	for _, g := range w.groups {
		sizes = append(sizes, len(g.calls))
	}
	if got := fmt.Sprint(sizes); got != "[100 2 1 100 53]" {
		t.Errorf("groups of %s", got)
	}
	if n := len(q.close()); n != perTenant+3-256 {
		t.Errorf("%d are left", n)
	}
	if err := q.add(ask("a", 1)); !errors.Is(err, ratelimit.ErrAway) {
		t.Errorf("got %v", err)
	}
}

// One script run for several requests admits as many as there is room for.
func TestAlike(t *testing.T) {
	t.Parallel()
	g := open(t, Options{URL: ratelimittest.Single(t).URL, Connections: 1}, gatehouse.StoreExact)
	s := g.shared.Local("acme", 0).Stack(time.Now(), nil, ratelimit.Scope{Kind: ratelimit.PlanScope, Limits: gatehouse.Limits{Rules: []gatehouse.LimitRule{
		{Name: "q", Quota: 250, Window: gatehouse.Window{Length: time.Hour}}, {Name: "r", Rate: gatehouse.Rate{Count: 1, Per: time.Hour}, Burst: 203},
	}}})
	var wg sync.WaitGroup
	var passed, sum atomic.Int64
	for range 300 {
		wg.Go(func() {
			if v := s.Take(&ratelimit.Request{Now: time.Now(), Cost: 2}, new(ratelimit.Ticket)); v.Allowed {
				passed.Add(1)
				sum.Add(v.Remaining)
			}
		})
	}
	wg.Wait()
	// 201, 199, … 1: each is told what was left after it.
	if passed.Load() != 101 || sum.Load() != 101*101 {
		t.Errorf("%d passed, and were told of %d", passed.Load(), sum.Load())
	}
	if c := g.store.Counts(); c.Calls < 101 || c.Failed > 0 {
		t.Errorf("%+v", c)
	}
}

// What is owed is charged once for a serial, in its own window, and what of it
// lies beyond the quota is told.
func TestSerials(t *testing.T) {
	url := ratelimittest.Single(t).URL
	g, other := open(t, Options{URL: url}, gatehouse.StoreExact), open(t, Options{URL: url}, gatehouse.StoreExact)
	ask := func(a ratelimit.Ask) ratelimit.Ask {
		t.Helper()
		p := g.store.client.Pipeline()
		calls := []*ratelimit.Call{{Asks: []ratelimit.Ask{a}}}
		cmd := g.store.encode(t.Context(), p, calls, true)
		_, _ = p.Exec(t.Context()) // decode has the error
		if err := decode(calls, cmd); err != nil {
			t.Fatal(err)
		}
		return calls[0].Asks[0]
	}
	quota := ratelimit.Ask{Kind: ratelimit.Quota, Key: "gh:{acme}:plan/q", Quota: 10, Terms: ratelimit.Terms{Length: 1e9, Name: "length/1000s"}}
	owe := func(serial uint64, debt, start int64) string {
		a := quota
		a.Serial, a.Debt, a.Start = serial, debt, start
		b := ask(a)
		return fmt.Sprint(b.Left, " ", b.Over)
	}
	first := quota
	first.Cost = 1
	begin := ask(first).Begin
	got := []string{owe(5, 3, begin), owe(5, 3, begin), owe(4, 3, begin), owe(6, 8, begin-1), owe(7, 8, begin)}
	g, other = other, g
	got = append(got, owe(1, 1, 0), owe(1, 1, 0))
	g = other
	got = append(got, owe(7, 8, begin), owe(8, -3, begin))
	if text := strings.Join(got, ", "); text != "4 0, 4 0, 4 0, 4 0, 12 2, 13 1, 13 0, 13 0, 10 0" {
		t.Errorf("quota: got %s", text)
	}
	for range 2 {
		a := quota
		a.Action, a.Once, a.Cost = ratelimit.TopUp, "order-7", 4
		ask(a)
	}
	if left := ask(quota).Left; left != 6 {
		t.Errorf("after a top-up that came twice %d are used, want 6", left)
	}
	rate := ratelimit.Ask{Kind: ratelimit.Rate, Key: "gh:{acme}:plan/r", Cost: 5, Terms: ratelimit.Terms{Count: 1, Per: 1e9, Burst: 10}}
	ask(rate)
	for range 2 {
		rate.Cost, rate.Debt, rate.Serial = 0, -2, 9
		if left := ask(rate).Left / 1e9; left != 7 {
			t.Errorf("rate: %d are left, want 7", left)
		}
	}
}
