package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// deaf is a backend that takes connections and never answers.
func deaf(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns []net.Conn
	var served sync.WaitGroup
	served.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conns = append(conns, c)
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		served.Wait()
		for _, c := range conns {
			_ = c.Close()
		}
	})
	return ln.Addr().String()
}

// waits are what callers have waited.
type waits []time.Duration

func (w waits) String() string {
	slices.Sort(w)
	at := func(share float64) time.Duration { return w[int(share*float64(len(w)-1))].Round(time.Microsecond) }
	return fmt.Sprintf("%9s %9s %9s", at(0.5), at(0.9), at(0.99))
}

// paced sends one request each pause for a while, each when its time has come
// and not when the last was answered, and returns what they waited from then
// on.
func paced(t *testing.T, p *program, host string, pause, span time.Duration) waits {
	t.Helper()
	const callers = 16
	took := make(waits, max(1, int(span/pause)))
	began := time.Now()
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			c := &caller{addr: p.data}
			defer c.close()
			for j := i; j < len(took); j += callers {
				due := began.Add(time.Duration(j) * pause)
				<-time.After(time.Until(due))
				status, err := c.ask(host, "")
				if took[j] = time.Since(due); status != http.StatusOK || err != nil {
					t.Errorf("the quiet tenant: %d %v", status, err)
					return
				}
			}
		})
	}
	all.Wait()
	return took
}

// hang opens n requests that are not answered, until the returned function is
// called.
func hang(t *testing.T, p *program, host string, n int64) (release func()) {
	t.Helper()
	var conns []net.Conn
	for range n {
		c, err := net.Dial("tcp", p.data)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: "+host+"\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, func() bool { return p.metric("gatehouse_requests_in_flight") == n })
	return func() {
		for _, c := range conns {
			_ = c.Close() // nothing is awaited
		}
		waitFor(t, func() bool { return p.metric("gatehouse_requests_in_flight") == 0 })
	}
}

// One tenant at ten times its limit, or with a backend that hangs, and what
// another waits before and during it, in turns. The figures are shown and not
// held to: they depend on what else the machine does.
func TestNoisyNeighbour(t *testing.T) {
	backend := newBackend(t, "ok", nil)
	file := filepath.Join(t.TempDir(), "tenants.yaml")
	const limits = "{concurrency: 50, rules: [{name: r, rate: 200/s, burst: 20}]}"
	write(t, file, "tenants:\n"+limitTenant("quiet", backend, "{}")+limitTenant("loud", backend, limits)+limitTenant("stuck", deaf(t), "{concurrency: 50}"))
	dir := t.TempDir()
	write(t, filepath.Join(dir, "gatehouse.yaml"), "log: {access: \"off\"}\n")
	p := start(t, "--config", filepath.Join(dir, "gatehouse.yaml"), "--tenants", file, "--data", t.TempDir())
	gateways := []*program{p}
	const pause, rounds = 2 * time.Millisecond, 5
	quiet := func() waits { return paced(t, p, "quiet.test", pause, *limitsFor/rounds) }
	quiet() // warm

	var alone, besideLoud, again, besideStuck waits
	loud, stuck := &answersOf{}, &answersOf{}
	for range rounds {
		alone = append(alone, quiet()...)
		stop := press(loud, gateways, "loud.test", 8, 2000)
		besideLoud = append(besideLoud, quiet()...)
		stop()
		again = append(again, quiet()...)
		release := hang(t, p, "stuck.test", 50)
		stop = press(stuck, gateways, "stuck.test", 8, 2000)
		besideStuck = append(besideStuck, quiet()...)
		stop()
		release()
	}
	var table strings.Builder
	fmt.Fprintf(&table, "%-34s %9s %9s %9s\n", "a quiet tenant at 500/s", "p50", "p90", "p99")
	fmt.Fprintf(&table, "%-34s %s\n", "alone", alone)
	fmt.Fprintf(&table, "%-34s %s\n", "beside 10 times a limit of 200/s", besideLoud)
	fmt.Fprintf(&table, "%-34s %s\n", "alone", again)
	fmt.Fprintf(&table, "%-34s %s\n", "beside 50 that hang and 2000/s more", besideStuck)
	fmt.Fprintf(&table, "loud:  %s\nstuck: %s\n", loud, stuck)
	t.Logf("\n%s", &table)
	if loud.limited.Load() < 1 || stuck.tried() != stuck.busy.Load()+stuck.limited.Load() || stuck.busy.Load() < 1 {
		t.Errorf("loud: %s\nstuck: %s", loud, stuck)
	}
}
