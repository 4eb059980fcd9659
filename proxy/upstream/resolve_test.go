package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// zone is a resolver that answers as a test says.
type zone struct {
	mu    sync.Mutex // guards the below
	addrs []netip.Addr
	err   error
	hangs bool
	asked int
}

// set changes the answer: addresses, or "hang", or an error.
func (z *zone) set(answers ...string) *zone {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.addrs, z.err, z.hangs = nil, nil, false
	for _, s := range answers {
		switch a, err := netip.ParseAddr(s); {
		case err == nil:
			z.addrs = append(z.addrs, a)
		case s == "hang":
			z.hangs = true
		default:
			z.err = errors.New(s)
		}
	}
	return z
}

func (z *zone) count() int {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.asked
}

func (z *zone) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	z.mu.Lock()
	z.asked++
	addrs, err, hangs := slices.Clone(z.addrs), z.err, z.hangs
	z.mu.Unlock()
	if network != "ip" || host != "app.test" {
		return nil, fmt.Errorf("asked for %s of %s", network, host)
	}
	if hangs {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return addrs, err
}

// town is a network of addresses: each dial is noted, and answered unless the
// address refuses or swallows it.
type town struct {
	wire *wire
	mu   sync.Mutex // guards the below
	bad  map[string]string
	seen []string
}

func newTown() *town { return &town{wire: newWire(), bad: map[string]string{}} }

func (n *town) set(addr, fault string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.bad[addr] = fault
}

// dials returns the addresses dialled since it was last called.
func (n *town) dials() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := strings.Join(n.seen, " ")
	n.seen = nil
	return s
}

func (n *town) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	n.mu.Lock()
	n.seen = append(n.seen, addr)
	fault := n.bad[addr]
	n.mu.Unlock()
	switch fault {
	case "refuses":
		return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
	case "swallows":
		<-ctx.Done()
		return nil, &net.OpError{Op: "dial", Net: network, Err: ctx.Err()}
	}
	n.wire.handle(addr, func(p *peer) { always(ok)(1, p) })
	nc, err := n.wire.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return placed{nc, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr))}, nil
}

// placed is a connection that knows where it goes.
type placed struct {
	net.Conn
	remote net.Addr
}

func (p placed) RemoteAddr() net.Addr { return p.remote }

// settled is a client that asks z, in a network where town answers.
func settled(z *zone, n *town, log *bytes.Buffer) *Client {
	cfg := Config{Resolver: z}
	if log != nil {
		cfg.Log = slog.New(slog.NewTextHandler(log, nil))
	}
	c := New(cfg)
	c.dial = n.dial
	return c
}

// inOrder makes the addresses of b's only endpoint be dialled from the first.
func inOrder(b *Backend) { b.members[0].name.turn.Store(^uint32(0)) }

// Dials take the addresses in turn; connections to an address that is gone
// end, at once when idle and on release in use; a look-up that fails changes
// nothing.
func TestResolve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		z, n := (&zone{}).set("10.0.0.2", "10.0.0.1", "::ffff:10.0.0.2"), newTown()
		c := settled(z, n, &log)
		b := version(t, c, nil, gatehouse.Backend{Resolve: seconds(30), Timeouts: gatehouse.Timeouts{Idle: seconds(3600)}}, "http://app.test:81")
		inOrder(b)
		held4 := func() (all [4]*Response) {
			for i := range all {
				all[i] = held(t, b)
			}
			return all
		}
		next := func() { <-time.After(33 * time.Second); synctest.Wait() }
		expect := func(open, idle int, addrs string) {
			t.Helper()
			synctest.Wait()
			e := b.Stats().Endpoints[0]
			if got := fmt.Sprint(e.Addresses); e.Open != open || e.Idle != idle || got != addrs {
				t.Errorf("%d open, %d idle, %s; want %d, %d, %s", e.Open, e.Idle, got, open, idle, addrs)
			}
		}

		expect(0, 0, "[]")
		r := held4()
		want(t, n.dials(), "10.0.0.1:81 10.0.0.2:81 10.0.0.1:81 10.0.0.2:81")
		expect(4, 0, "[10.0.0.1 10.0.0.2]")
		r[0].Release()
		r[1].Release()
		expect(4, 2, "[10.0.0.1 10.0.0.2]")

		z.set("server failure")
		next()
		next()
		z.set()
		next()
		expect(4, 2, "[10.0.0.1 10.0.0.2]")

		z.set("10.0.0.3", "10.0.0.2")
		next()
		expect(3, 1, "[10.0.0.2 10.0.0.3]")
		r[2].Release()
		expect(2, 1, "[10.0.0.2 10.0.0.3]")
		r[3].Release()
		expect(2, 2, "[10.0.0.2 10.0.0.3]")
		r = held4()
		want(t, n.dials(), "10.0.0.2:81 10.0.0.3:81")

		// One that is back before it was released may stay.
		z.set("10.0.0.9")
		next()
		expect(4, 0, "[10.0.0.9]")
		z.set("10.0.0.2", "10.0.0.3")
		next()
		if n := b.members[0].pool.leaving; n != 0 {
			t.Errorf("%d are to leave", n)
		}
		for _, r := range r {
			r.Release()
		}
		expect(4, 4, "[10.0.0.2 10.0.0.3]")

		records := strings.Split(strings.TrimSpace(log.String()), "\n")
		if len(records) != 2 || !strings.Contains(records[0], `level=WARN msg="endpoint's name is not resolved" tenant=acme backend=app endpoint=http://app.test:81 error=`) ||
			!strings.Contains(records[1], `level=INFO msg="endpoint's name is resolved again" tenant=acme backend=app endpoint=http://app.test:81`) {
			t.Errorf("log:\n%s", log.String())
		}

		// Look-ups go on with the versions and end with the last.
		v2 := version(t, c, b, gatehouse.Backend{Resolve: seconds(10)}, "http://app.test:81")
		b.Retire()
		before := z.count()
		<-time.After(1000 * time.Second)
		if got := z.count() - before; got < 85 || got > 115 {
			t.Errorf("%d look-ups in 100 intervals", got)
		}
		z.set("hang")
		<-time.After(20 * time.Second)
		v2.Retire()
		before = z.count()
		<-time.After(1000 * time.Second)
		if got := z.count() - before; got != 0 {
			t.Errorf("%d look-ups after the end", got)
		}
		version(t, c, nil, gatehouse.Backend{}, "http://app.test:81")
		for before = z.count(); z.count() == before; {
			<-time.After(time.Second)
		}
		start := time.Now()
		c.Close() // during a look-up
		if took := time.Since(start); took != 0 {
			t.Errorf("Close took %v", took)
		}
		n.wire.all.Wait()
	})
}

// What a connection under way does when its address goes meanwhile: it serves
// its request, and ends.
func TestResolveDuringDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z, n := (&zone{}).set("10.0.0.1"), newTown()
		c := settled(z, n, nil)
		slow := make(chan struct{})
		c.dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			<-slow
			return n.dial(ctx, network, addr)
		}
		b := version(t, c, nil, gatehouse.Backend{}, "http://app.test")
		done := make(chan string)
		go func() { done <- outcome(b, get()) }()
		synctest.Wait()
		z.set("10.0.0.2")
		if err := b.members[0].name.resolve(t.Context()); err != nil {
			t.Fatal(err)
		}
		close(slow)
		want(t, <-done, `200 "ok" attempts=1`)
		if e := b.Stats().Endpoints[0]; e.Open != 0 {
			t.Errorf("%+v", e)
		}
		c.Close()
		n.wire.all.Wait()
	})
}

// An address that fails costs its part of the time to connect, and is tried
// last for a while.
func TestResolveFallback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z, n := (&zone{}).set("10.0.0.1", "10.0.0.2", "10.0.0.3", "2001:db8::1"), newTown()
		c := settled(z, n, nil)
		b := version(t, c, nil, gatehouse.Backend{Timeouts: gatehouse.Timeouts{Connect: seconds(2)}}, "http://app.test")
		inOrder(b)
		f := func(expected, dials string, took time.Duration) {
			t.Helper()
			start := time.Now()
			req := get()
			req.Head = []byte("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
			var resp Response
			got := ""
			if err := b.Do(req, &resp); err != nil {
				got = failureText(err)
			} else {
				got = fmt.Sprint(resp.Status)
				resp.whole = false // the next one dials
				resp.Release()
			}
			want(t, got, expected)
			want(t, n.dials(), dials)
			if d := time.Since(start); d != took {
				t.Errorf("took %v, want %v", d, took)
			}
		}
		f("200", "[2001:db8::1]:80", 0)
		f("200", "10.0.0.1:80", 0)
		n.set("10.0.0.2:80", "refuses")
		f("200", "10.0.0.2:80 10.0.0.3:80", 0)
		n.set("10.0.0.3:80", "swallows")
		f("200", "10.0.0.3:80 [2001:db8::1]:80", 2*time.Second/4)
		f("200", "[2001:db8::1]:80", 0)
		f("200", "10.0.0.1:80", 0)
		f("200", "[2001:db8::1]:80", 0) // 2 and 3 come last
		n.set("[2001:db8::1]:80", "refuses")
		n.set("10.0.0.1:80", "refuses")
		n.set("10.0.0.2:80", "")
		f("200", "[2001:db8::1]:80 10.0.0.1:80 10.0.0.3:80 10.0.0.2:80", time.Second)
		<-time.After(11 * time.Second)
		n.set("10.0.0.2:80", "refuses")
		inOrder(b)
		f("GH-FW-001 connection_refused", "[2001:db8::1]:80 10.0.0.1:80 10.0.0.2:80 10.0.0.3:80", 2*time.Second)
		<-time.After(11 * time.Second)
		for _, addr := range []string{"[2001:db8::1]:80", "10.0.0.1:80", "10.0.0.2:80"} {
			n.set(addr, "swallows")
		}
		inOrder(b)
		f("GH-FW-002 connection_timeout", "[2001:db8::1]:80 10.0.0.1:80 10.0.0.2:80 10.0.0.3:80", 2*time.Second)
		c.Close()
		n.wire.all.Wait()
	})
}

// The first look-up is that of whoever dials first, for all who do.
func TestResolveFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z, n := (&zone{}).set("hang"), newTown()
		c := settled(z, n, nil)
		doc := gatehouse.Backend{Timeouts: gatehouse.Timeouts{Connect: seconds(2)}, Outliers: gatehouse.Outliers{Off: true}}
		doc.Resolve = gatehouse.Duration(1e6 * time.Hour)
		b := version(t, c, nil, doc, "http://app.test")
		all := func(expected string, took time.Duration, lookups int) {
			t.Helper()
			start, before := time.Now(), z.count()
			var done sync.WaitGroup
			for range 5 {
				done.Go(func() { want(t, outcome(b, get()), expected) })
			}
			done.Wait()
			if d := time.Since(start); d != took || z.count()-before > lookups {
				t.Errorf("took %v, with %d look-ups", d, z.count()-before)
			}
		}
		all("GH-FW-002 dns_timeout attempts=1", 2*time.Second, 5)
		z.set("no such host")
		all("GH-FW-001 dns_error attempts=1", 0, 5)
		z.set()
		all("GH-FW-001 dns_error attempts=1", 0, 5)
		z.set("10.0.0.1")
		all(`200 "ok" attempts=1`, 0, 1)
		z.set("hang")
		all(`200 "ok" attempts=1`, 0, 0)

		// Who comes when the first is about to give up has his own time.
		z.set("hang")
		b = version(t, c, nil, doc, "http://app.test")
		var done sync.WaitGroup
		done.Go(func() { want(t, outcome(b, get()), "GH-FW-002 dns_timeout attempts=1") })
		<-time.After(1900 * time.Millisecond)
		done.Go(func() { want(t, outcome(b, get()), `200 "ok" attempts=1`) })
		synctest.Wait()
		z.set("10.0.0.1")
		done.Wait()
		c.Close()
		n.wire.all.Wait()
	})
}

// The guard judges every address that is dialled, whatever the name meant
// before.
func TestResolveGuard(t *testing.T) {
	u, _ := url.Parse(backend(t, always(ok)))
	z := (&zone{}).set("169.254.169.254", "127.0.0.1", "::ffff:169.254.169.254")
	c := client(t, Config{Resolver: z})
	b := version(t, c, nil, gatehouse.Backend{Timeouts: brief}, "http://app.test:"+u.Port())
	for range 3 {
		resp := held(t, b)
		resp.whole = false
		resp.Release()
	}
	z.set("127.0.0.1")
	change := func() {
		t.Helper()
		if err := b.members[0].name.resolve(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	change()
	want(t, outcome(b, get()), `200 "ok" attempts=1`)
	z.set("169.254.169.254")
	change()
	want(t, outcome(b, get()), `GH-FW-005 destination_ip_prohibited attempts=1`)
}

// Addresses have no name to look up, and networks in memory none to ask for.
func TestResolveNot(t *testing.T) {
	f := func(cfg Config, u string, named bool) {
		t.Helper()
		cfg.Resolver = &zone{}
		b := version(t, client(t, cfg), nil, gatehouse.Backend{}, u)
		if got := b.members[0].name != nil; got != named {
			t.Errorf("%s: named %v", u, got)
		}
	}
	f(Config{}, "http://127.0.0.1", false)
	f(Config{}, "http://[::1]:80", false)
	f(Config{}, "http://app.test", true)
	f(Config{Dial: nowhere}, "http://app.test", false)
}

// The links of HTTP/2 follow the name as well.
func TestResolveH2(t *testing.T) {
	u, _ := url.Parse(serveH2(t, h2Server{}, func(http.ResponseWriter, *http.Request) {}))
	z := (&zone{}).set("127.0.0.1")
	b := version(t, client(t, Config{Resolver: z}), nil, gatehouse.Backend{Protocol: gatehouse.HTTP2, Timeouts: brief}, "http://app.test:"+u.Port())
	want(t, outcome(b, get()), `200 "" attempts=1`)
	if e := b.Stats().Endpoints[0]; e.Open != 1 {
		t.Errorf("%+v", e)
	}
	z.set("127.0.0.2")
	if err := b.members[0].name.resolve(t.Context()); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); b.Stats().Endpoints[0].Open != 0; {
		if time.Now().After(deadline) {
			t.Fatalf("%+v", b.Stats().Endpoints[0])
		}
	}
}
