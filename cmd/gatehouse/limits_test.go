package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/ratelimit/ratelimittest"
)

var limitsFor = flag.Duration("limits-for", 300*time.Millisecond, "how long each row of the tables of limits runs; a minute for the promise")

// caller is a client with one connection at a time.
type caller struct {
	addr string
	conn net.Conn
	r    *bufio.Reader
}

// ask sends one request and returns the status; fields are whole lines.
func (c *caller) ask(host, fields string) (status int, err error) {
	if c.conn == nil {
		if c.conn, err = net.Dial("tcp", c.addr); err != nil {
			return 0, err
		}
		c.r = bufio.NewReader(c.conn)
	}
	if status, err = c.exchange(host, fields); err != nil {
		c.close()
	}
	return status, err
}

func (c *caller) exchange(host, fields string) (status int, err error) {
	_ = c.conn.SetDeadline(time.Now().Add(time.Minute)) // a broken one says so below
	if _, err := io.WriteString(c.conn, "GET / HTTP/1.1\r\nHost: "+host+"\r\n"+fields+"\r\n"); err != nil {
		return 0, err
	}
	length := 0
	for first := true; ; first = false {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		switch {
		case first:
			if status, err = strconv.Atoi(string(line[9:12])); err != nil {
				return 0, err
			}
		case len(line) == 2:
			_, err := c.r.Discard(length)
			return status, err
		case strings.HasPrefix(string(line), "Content-Length: "):
			if length, err = strconv.Atoi(strings.TrimSpace(string(line[16:]))); err != nil {
				return 0, err
			}
		}
	}
}

func (c *caller) close() {
	if c.conn != nil {
		_ = c.conn.Close() // nothing is written any more
		c.conn = nil
	}
}

// answersOf counts answers by their status.
type answersOf struct {
	passed, limited, busy, other, failed atomic.Int64
	longest                              atomic.Int64 // ns
}

func (a *answersOf) tried() int64 {
	return a.passed.Load() + a.limited.Load() + a.busy.Load() + a.other.Load()
}

func (a *answersOf) note(status int, err error, took time.Duration) {
	switch {
	case err != nil:
		a.failed.Add(1)
	case status == http.StatusOK:
		a.passed.Add(1)
	case status == http.StatusTooManyRequests:
		a.limited.Add(1)
	case status == http.StatusServiceUnavailable:
		a.busy.Add(1)
	default:
		a.other.Add(1)
	}
	for old := a.longest.Load(); int64(took) > old && !a.longest.CompareAndSwap(old, int64(took)); old = a.longest.Load() {
	}
}

func (a *answersOf) String() string {
	return fmt.Sprintf("%6d 200  %6d 429  %6d 503  longest %s", a.passed.Load(), a.limited.Load(), a.busy.Load(), time.Duration(a.longest.Load()).Round(100*time.Microsecond))
}

// press asks each gateway with workers, rate times a second in all (0: as fast
// as they can), until the returned function is called.
func press(a *answersOf, gateways []*program, host string, workers int, rate float64) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	n := workers * len(gateways)
	for i := range n {
		wg.Go(func() {
			c := &caller{addr: gateways[i%len(gateways)].data}
			defer c.close()
			var tick <-chan time.Time
			if rate > 0 {
				pause := time.Duration(float64(n) * float64(time.Second) / rate)
				select { // they come one after the other, not all at once
				case <-time.After(pause * time.Duration(i) / time.Duration(n)):
				case <-ctx.Done():
					return
				}
				t := time.NewTicker(pause)
				defer t.Stop()
				tick = t.C
			}
			for ctx.Err() == nil {
				began := time.Now()
				status, err := c.ask(host, "")
				a.note(status, err, time.Since(began))
				if tick != nil {
					select {
					case <-tick:
					case <-ctx.Done():
					}
				}
			}
		})
	}
	return sync.OnceFunc(func() { cancel(); wg.Wait() })
}

// metric reads one series of a gateway.
func (p *program) metric(name string) (n int64) {
	p.t.Helper()
	r, err := http.Get("http://" + p.control + "/metrics")
	if err != nil {
		p.t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "\n"+name+" ")
	if !ok {
		p.t.Fatalf("no %s in %s", name, text)
	}
	rest, _, _ = strings.Cut(rest, "\n")
	f, err := strconv.ParseFloat(rest, 64)
	if err != nil {
		p.t.Fatal(err)
	}
	return int64(f)
}

func sumOf(gateways []*program, name string) (n int64) {
	for _, p := range gateways {
		n += p.metric(name)
	}
	return n
}

// limitTenant is a tenant whose one route has limits, in YAML.
func limitTenant(id, backend, limits string) string {
	return fmt.Sprintf(`  - id: %[1]s
    domain: %[1]s.test
    limits: %[3]s
    backends: [{id: app, endpoints: [{url: "http://%[2]s"}]}]
    routes: [{id: all, match: {path: /}, auth: none, backend: app}]
`, id, backend, limits)
}

// startGateways starts n gateways on one Redis with the same tenants. They have
// patience: a busy machine is not what is tested.
func startGateways(t *testing.T, n int, redis, tenants string) []*program {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "gatehouse.yaml"), "limits: {redis: \""+redis+"\", redis_options: {wait: 1s}}\nlog: {access: \"off\"}\n")
	gateways := make([]*program, n)
	for i := range gateways {
		gateways[i] = start(t, "--config", filepath.Join(dir, "gatehouse.yaml"), "--tenants", tenants, "--data", t.TempDir())
	}
	return gateways
}

// Four gateways on one Redis at ten times the limit: what passes against what
// may, and the most that their metrics show as held ahead.
func TestFourGateways(t *testing.T) {
	rows := []gatehouse.Rate{{Count: 1, Per: time.Second}, {Count: 5, Per: time.Minute}, {Count: 500, Per: time.Second}, {Count: 100_000, Per: time.Second}}
	modes := []gatehouse.LimitStore{gatehouse.StoreExact, gatehouse.StoreLease}
	server := ratelimittest.Single(t)
	backend := newBackend(t, "ok", nil)
	var doc, table strings.Builder
	doc.WriteString("tenants:\n")
	name := func(mode gatehouse.LimitStore, r gatehouse.Rate) string {
		return fmt.Sprintf("%s-%d-%d", mode, r.Count, int(r.Per.Seconds()))
	}
	for _, mode := range modes {
		for _, r := range rows {
			text, err := r.MarshalText()
			if err != nil {
				t.Fatal(err)
			}
			doc.WriteString(limitTenant(name(mode, r), backend, fmt.Sprintf("{store: %s, rules: [{name: r, rate: %s}]}", mode, text)))
		}
	}
	file := filepath.Join(t.TempDir(), "tenants.yaml")
	write(t, file, doc.String())
	gateways := startGateways(t, 4, server.URL, file)
	waitFor(t, func() bool { return sumOf(gateways, "gatehouse_ratelimit_gateways") == 16 })

	fmt.Fprintf(&table, "%-9s %-6s %8s %9s %8s %7s %10s %9s\n", "limit", "mode", "tried", "may pass", "passed", "ratio", "held ahead", "questions")
	for _, mode := range modes {
		for _, r := range rows {
			asked := sumOf(gateways, "gatehouse_ratelimit_asked_total")
			a := &answersOf{}
			rate := r.PerSecond() * 10
			if rate > 10_000 {
				rate = 0
			}
			began, held := time.Now(), int64(0)
			stop := press(a, gateways, name(mode, r)+".test", 4, max(rate, min(rate, 1)*40))
			for end, more := time.After(*limitsFor), true; more; {
				held = max(held, sumOf(gateways, "gatehouse_ratelimit_overshoot_units"))
				select {
				case <-time.After(25 * time.Millisecond):
				case <-end:
					more = false
				}
			}
			stop()
			may := float64(max(1, int64(r.PerSecond()))) + r.PerSecond()*time.Since(began).Seconds()
			passed := a.passed.Load()
			text, _ := r.MarshalText()
			fmt.Fprintf(&table, "%-9s %-6s %8d %9.1f %8d %7.4f %10d %9d\n", text, mode, a.tried(), may, passed, float64(passed)/may, held, sumOf(gateways, "gatehouse_ratelimit_asked_total")-asked)
			if passed < 1 || float64(passed) > may || a.busy.Load()+a.other.Load()+a.failed.Load() > 0 {
				t.Errorf("%s %s: %f may pass: %s, %d others, %d failed", text, mode, may, a, a.other.Load(), a.failed.Load())
			}
			if most := r.PerSecond() / 100; float64(held) > most {
				t.Errorf("%s %s: %d held ahead, a hundredth is %f", text, mode, held, most)
			}
		}
	}
	t.Logf("\n%s", &table)
	for _, p := range gateways {
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if code := p.wait(); code != exitOK {
			t.Errorf("exit code %d\n%s", code, p.stderr)
		}
	}
	if n := server.Do("ZCARD", "gh:gateways"); n != "0" {
		t.Errorf("%s gateways did not sign off", n)
	}
}

// Redis is killed under load and comes back: each limit does what its away
// says, and the operator is told.
func TestRedisKilled(t *testing.T) {
	server := ratelimittest.Single(t)
	backend := newBackend(t, "ok", nil)
	doc := "tenants:\n"
	aways := []string{"local_share", "open", "closed"}
	for _, away := range aways {
		doc += limitTenant(strings.ReplaceAll(away, "_", "-"), backend, "{away: "+away+", rules: [{name: r, rate: 100/s, burst: 20}]}")
	}
	file := filepath.Join(t.TempDir(), "tenants.yaml")
	write(t, file, doc)
	gateways := startGateways(t, 2, server.URL, file)
	waitFor(t, func() bool { return sumOf(gateways, "gatehouse_ratelimit_gateways") == 4 })
	var table strings.Builder
	phase := func(name string) map[string]*answersOf {
		all := map[string]*answersOf{}
		var stops []func()
		for _, away := range aways {
			a := &answersOf{}
			all[away] = a
			stops = append(stops, press(a, gateways, strings.ReplaceAll(away, "_", "-")+".test", 2, 1000))
		}
		switch name {
		case "killed":
			server.Kill()
			for _, p := range gateways {
				p.await(p.stderr, "the store of limits is away; .*error=")
			}
		case "restarted":
			server.Start()
			for _, p := range gateways {
				p.await(p.stderr, "the store of limits is back")
			}
		}
		<-time.After(*limitsFor)
		for i, stop := range stops {
			stop()
			a := all[aways[i]]
			fmt.Fprintf(&table, "%-9s %-11s %s\n", name, aways[i], a)
			if a.other.Load()+a.failed.Load() > 0 {
				t.Errorf("%s %s: %d others, %d failed", name, aways[i], a.other.Load(), a.failed.Load())
			}
		}
		return all
	}
	for _, name := range []string{"before", "killed", "away", "restarted", "after"} {
		began := time.Now()
		all := phase(name)
		may := int64(20 + 100*time.Since(began).Seconds())
		shared, open, closed := all["local_share"], all["open"], all["closed"]
		switch name {
		case "before", "after":
			for away, a := range all {
				if a.passed.Load() < 1 || a.passed.Load() > may || a.limited.Load() < 1 || a.busy.Load() > 0 {
					t.Errorf("%s %s: %d may pass: %s", name, away, may, a)
				}
			}
		case "away":
			if shared.passed.Load() < 1 || shared.passed.Load() > may+2 || shared.limited.Load() < 1 || shared.busy.Load() > 0 {
				t.Errorf("local_share: %d may pass: %s", may, shared)
			}
			if open.passed.Load() < 1 || open.tried() != open.passed.Load() || closed.busy.Load() < 1 || closed.tried() != closed.busy.Load() {
				t.Errorf("open: %s\nclosed: %s", open, closed)
			}
			if n := sumOf(gateways, "gatehouse_ratelimit_store_shards_away"); n != 2 {
				t.Errorf("%d shards are away", n)
			}
		}
	}
	for line := range strings.Lines(server.Do("INFO", "stats")) {
		if strings.HasPrefix(line, "total_connections_received") {
			fmt.Fprintf(&table, "since its return, Redis: %s", line)
		}
	}
	t.Logf("\n%s", &table)
}

// A gateway whose Redis is away at its start says so and serves.
func TestRedisAwayAtStart(t *testing.T) {
	server := ratelimittest.Single(t)
	server.Kill()
	file := filepath.Join(t.TempDir(), "tenants.yaml")
	write(t, file, "tenants:\n"+limitTenant("a", newBackend(t, "ok", nil), "{rules: [{name: q, quota: 2, window: 1000h}]}"))
	p := startGateways(t, 1, server.URL, file)[0]
	p.await(p.stderr, "the store of limits is away")
	c := &caller{addr: p.data}
	defer c.close()
	f := func(want ...int) {
		t.Helper()
		for i := range want {
			if status, err := c.ask("a.test", ""); status != want[i] || err != nil {
				t.Errorf("request %d: %d %v, want %d", i+1, status, err, want[i])
			}
		}
	}
	f(200, 200, 429)
	server.Start()
	p.await(p.stderr, "the store of limits is back")
	// Redis is told of both with the first question, and refuses.
	f(429)
	if n := p.metric("gatehouse_ratelimit_away_total"); n != 3 {
		t.Errorf("%d requests were decided while it was away", n)
	}
}

// A limit raised or lowered in a saved document holds from the next request
// on, in every store and for every gateway, and keeps its count.
func TestLimitChanged(t *testing.T) {
	server := ratelimittest.Single(t)
	backend := newBackend(t, "ok", nil)
	dir := t.TempDir()
	stores := []string{"local", "exact", "lease"}
	save := func(quota int, rate string) {
		doc := "tenants:\n"
		for _, store := range stores {
			doc += limitTenant(store+"-quota", backend, fmt.Sprintf("{store: %s, rules: [{name: q, quota: %d, window: month}]}", store, quota))
			doc += limitTenant(store+"-rate", backend, fmt.Sprintf("{store: %s, rules: [{name: r, %s}]}", store, rate))
		}
		write(t, filepath.Join(dir, "tenants.yaml"), doc)
	}
	save(3, "rate: 1/h, burst: 2")
	gateways := startGateways(t, 2, server.URL, dir)
	revision := int64(1)
	change := func(quota int, rate string) {
		save(quota, rate)
		revision++
		for _, p := range gateways {
			waitFor(t, func() bool { return p.metric("gatehouse_config_revision") >= revision })
		}
	}
	var got strings.Builder
	ask := func(what string, n int) {
		for _, store := range stores {
			fmt.Fprintf(&got, "%s-%s:", store, what)
			for i := range n {
				// The local count is each gateway's own.
				c := &caller{addr: gateways[i%2].data}
				if store == "local" {
					c.addr = gateways[0].data
				}
				status, err := c.ask(store+"-"+what+".test", "")
				c.close()
				if err != nil {
					t.Fatal(err)
				}
				fmt.Fprintf(&got, " %d", status)
			}
			got.WriteByte('\n')
		}
	}
	ask("quota", 5)
	ask("rate", 3)
	change(5, "rate: 100000/s, burst: 1000")
	ask("quota", 4) // the two refused did not count
	ask("rate", 3)
	change(4, "rate: 1/h, burst: 1")
	ask("quota", 1)
	ask("rate", 2)
	change(6, "rate: 1/h, burst: 1")
	ask("quota", 2)
	want := `local-quota: 200 200 200 429 429
exact-quota: 200 200 200 429 429
lease-quota: 200 200 200 429 429
local-rate: 200 200 429
exact-rate: 200 200 429
lease-rate: 200 200 429
local-quota: 200 200 429 429
exact-quota: 200 200 429 429
lease-quota: 200 200 429 429
local-rate: 200 200 200
exact-rate: 200 200 200
lease-rate: 200 200 200
local-quota: 429
exact-quota: 429
lease-quota: 429
local-rate: 200 429
exact-rate: 200 429
lease-rate: 200 429
local-quota: 200 429
exact-quota: 200 429
lease-quota: 200 429
`
	if got.String() != want {
		t.Errorf("%s", &got)
	}
}

// A value of 10 KB is a count like any other, and no key in Redis is as long.
func TestLongValue(t *testing.T) {
	server := ratelimittest.Single(t)
	file := filepath.Join(t.TempDir(), "tenants.yaml")
	write(t, file, "tenants:\n"+limitTenant("a", newBackend(t, "ok", nil), `{store: exact, rules: [{name: q, quota: 1, window: 1000h, by: ["header:X-User"]}]}`))
	c := &caller{addr: startGateways(t, 1, server.URL, file)[0].data}
	defer c.close()
	long := strings.Repeat("x", 10<<10)
	var got []int
	for _, user := range []string{long, long, long + "y", long + "y", "x"} {
		status, err := c.ask("a.test", "X-User: "+user+"\r\n")
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, status)
	}
	if want := []int{200, 429, 200, 429, 200}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	for key := range strings.Lines(server.Do("KEYS", "gh:{a}:*")) {
		if len(key) > 80 {
			t.Errorf("key %s", key)
		}
	}
}

// Faults of the section, with their places.
func TestLimitsConfig(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	write(t, empty, "\n")
	pass := filepath.Join(dir, "pass")
	write(t, pass, "secret\n")
	f := func(text, want string) {
		t.Helper()
		name := filepath.Join(t.TempDir(), "gatehouse.yaml")
		write(t, name, "limits: "+text+"\n")
		_, err := readConfig(name)
		got := "<nil>"
		if err != nil {
			got, _, _ = strings.Cut(err.Error(), "\n")
			got = strings.ReplaceAll(strings.TrimPrefix(got, name+":1:"), dir, "DIR")
		}
		if got != want {
			t.Errorf("%s\ngot  %s\nwant %s", text, got, want)
		}
	}
	f(`{redis: "", mode: lease, headers: x}`, "<nil>")
	f(`{redis: "redis://u@h:1/2", mode: exact, redis_options: {username: u, password_file: `+pass+`, connections: 8, wait: 20ms}}`, "<nil>")
	f(`{redis: "rediss+sentinel://h,i:1/main", redis_options: {sentinel_username: u, sentinel_password_file: `+pass+`}}`, "<nil>")
	f(`{redis_options: {connections: 4, wait: 50ms}}`, "<nil>") // the defaults
	f(`{redis: "http://h"}`, "17: redis://, rediss://, redis+sentinel:// or redis+cluster:// is expected")
	f(`{redis: "redis://u:hidden%zz@h"}`, "17: user or password is not written as in a URL")
	f(`{redis: "redis+sentinel://h"}`, "17: the name of the master is missing: redis+sentinel://HOST/NAME")
	f(`{mode: exact}`, "16: mode exact is about a shared store, and there is none")
	f(`{mode: loose}`, `16: mode "loose" is unknown`)
	f(`{redis: "redis://h", headers: y}`, "39: ietf, draft03, x or off is expected")
	f(`{redis_options: {username: u}}`, "25: redis_options are about a shared store, and there is none")
	f(`{redis: "redis://h", redis_options: {connections: 65}}`, "59: connections is outside 1 to 64")
	f(`{redis: "redis://h", redis_options: {connections: -1}}`, "59: connections is outside 1 to 64")
	f(`{redis: "redis://h", redis_options: {wait: 1us}}`, "52: wait is outside 1ms to 5s")
	f(`{redis: "redis://h", redis_options: {password_file: /nonexistent}}`, "61: /nonexistent: cannot be read: no such file or directory")
	f(`{redis: "redis://h", redis_options: {password_file: `+empty+`}}`, "61: DIR/empty is empty")
	f(`{redis: "redis://h", redis_options: {ca_file: `+pass+`}}`, "55: the CA is for rediss://")
	f(`{redis: "rediss://h", redis_options: {ca_file: `+pass+`}}`, "56: the CA has no certificate")
}
