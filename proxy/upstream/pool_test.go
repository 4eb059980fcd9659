package upstream

import (
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// held makes a request and keeps it in flight.
func held(t testing.TB, b *Backend) *Response {
	t.Helper()
	resp := &Response{}
	if err := b.Do(get(), resp); err != nil {
		t.Fatal(err)
	}
	return resp
}

// Endpoints that stay keep their connections through a change of the
// document; others lose theirs, at once when idle and on release in use.
func TestVersions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		for _, addr := range []string{"a:80", "b:80"} {
			w.handle(addr, func(p *peer) { always(ok)(1, p) })
		}
		c := New(Config{Dial: w.dial})
		open := func(b *Backend) (n []int) {
			for _, e := range b.Stats().Endpoints {
				n = append(n, e.Open)
			}
			return n
		}
		expect := func(b *Backend, dialsA, dialsB int, openNow ...int) {
			t.Helper()
			synctest.Wait()
			if w.dials["a:80"] != dialsA || w.dials["b:80"] != dialsB {
				t.Errorf("dials %v", w.dials)
			}
			for i, n := range open(b) {
				if n != openNow[i] {
					t.Errorf("open %v, want %v", open(b), openNow)
				}
			}
		}

		v1 := version(t, c, nil, gatehouse.Backend{}, "http://a", "http://b")
		a1, b1 := held(t, v1), held(t, v1)
		a1.Release()
		expect(v1, 1, 1, 1, 1)

		// b goes while a request is in flight there; a stays.
		v2 := version(t, c, v1, gatehouse.Backend{MaxConnections: 9}, "http://a")
		v1.Retire()
		v1.Retire()
		if n := v2.Stats().Live; n != 1 {
			t.Errorf("%d live", n)
		}
		want(t, outcome(v2, get()), `200 "ok" attempts=1`)
		expect(v2, 1, 1, 1)
		expect(v1, 1, 1, 1, 1)
		b1.Release()
		expect(v1, 1, 1, 1, 0)

		// A version that is given up takes nothing from the one in force.
		v3 := version(t, c, v2, gatehouse.Backend{}, "http://a", "http://b")
		held(t, v3).Release()
		held(t, v3).Release()
		expect(v3, 1, 2, 1, 1)
		v3.Retire()
		expect(v3, 1, 2, 1, 0)
		want(t, outcome(v2, get()), `200 "ok" attempts=1`)
		expect(v2, 1, 2, 1)

		// A request on a retired version is served, on its own connection.
		want(t, outcome(v3, get()), `200 "ok" attempts=1`)
		want(t, outcome(v3, get()), `200 "ok" attempts=1`)
		expect(v3, 1, 3, 1, 0)

		v2.Retire()
		expect(v2, 1, 3, 0)

		// What was retired is not carried over.
		v4 := version(t, c, v2, gatehouse.Backend{}, "http://a")
		want(t, outcome(v4, get()), `200 "ok" attempts=1`)
		expect(v4, 2, 3, 1)

		c.Close()
		expect(v4, 2, 3, 0)
		if _, err := c.Backend("acme", gatehouse.Backend{}, nil); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Backend after Close: %v", err)
		}
		w.all.Wait()
	})
}

// An endpoint that leaves the document answers the requests it has, before and
// within the answer, and then its connections end.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		slow, ended := make(chan struct{}), 0
		w.handle("a:80", func(p *peer) {
			p.request()
			<-slow
			p.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc")
			<-slow
			p.send("def")
			p.hold()
			ended++
		})
		w.handle("b:80", func(p *peer) { always(ok)(1, p) })
		c := New(Config{Dial: w.dial})
		v1 := version(t, c, nil, gatehouse.Backend{}, "http://a")
		done := make(chan string)
		go func() { done <- outcome(v1, get()) }()
		synctest.Wait()
		v2 := version(t, c, v1, gatehouse.Backend{}, "http://b")
		v1.Retire()
		want(t, outcome(v2, get()), `200 "ok" attempts=1`)
		slow <- struct{}{}
		synctest.Wait()
		version(t, c, v2, gatehouse.Backend{MaxConnections: 7}, "http://b")
		slow <- struct{}{}
		want(t, <-done, `200 "abcdef" attempts=1`)
		synctest.Wait()
		if e := v1.Stats().Endpoints[0]; ended != 1 || e.Open != 0 || e.InFlight != 0 {
			t.Errorf("%d ended; %+v", ended, e)
		}
		c.Close()
		w.all.Wait()
	})
}

func TestBadURL(t *testing.T) {
	c := client(t, Config{})
	for _, u := range []string{"", "a:80", "ftp://a", "http://", "http://:80", "http://a b"} {
		if _, err := c.Backend("acme", gatehouse.Backend{ID: "app", Endpoints: []gatehouse.Endpoint{{URL: "http://ok"}, {URL: u}}}, nil); err == nil {
			t.Errorf("%q is taken", u)
		}
	}
	if len(c.endpoints) != 0 {
		t.Error("endpoints of a refused document are left")
	}
}

// Beyond max_connections requests wait, first come first served, and not for
// longer than the connect timeout.
func TestMaxConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		doc := gatehouse.Backend{MaxConnections: 2, Timeouts: gatehouse.Timeouts{Connect: seconds(3)}}
		b, end := inMemory(t, doc, func(p *peer) { always(ok)(1, p) })
		defer end()
		first, second := held(t, b), held(t, b)

		start := time.Now()
		want(t, outcome(b, get()), `GH-FW-004 connection_limit_reached attempts=1`)
		if waited := time.Since(start); waited != 3*time.Second {
			t.Errorf("waited %v", waited)
		}

		var order []int
		turn := make(chan struct{})
		var done sync.WaitGroup
		for i := range 3 {
			done.Go(func() {
				resp := held(t, b)
				order = append(order, i)
				if resp.Dialed || resp.Connect != time.Second {
					t.Errorf("request %d: dialed %v, after %v", i, resp.Dialed, resp.Connect)
				}
				<-turn
				resp.Release()
			})
			synctest.Wait()
		}
		if s := b.Stats().Endpoints[0]; s.Waiting != 3 || s.Open != 2 || s.InFlight != 5 {
			t.Errorf("%+v", s)
		}
		<-time.After(time.Second)
		first.Release()
		synctest.Wait()
		second.Release()
		synctest.Wait()
		turn <- struct{}{}
		synctest.Wait()
		close(turn)
		done.Wait()
		if len(order) != 3 || order[0] != 0 || order[1] != 1 || order[2] != 2 {
			t.Errorf("served in the order %v", order)
		}
		if s := b.Stats().Endpoints[0]; s.Dials != 2 || s.Idle != 2 {
			t.Errorf("%+v", s)
		}
	})
}

// A connection that closes makes room for one who waits.
func TestWaiterDials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, end := inMemory(t, gatehouse.Backend{MaxConnections: 1}, func(p *peer) {
			p.request()
			p.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
		})
		defer end()
		first := held(t, b)
		done := make(chan string)
		go func() { done <- outcome(b, get()) }()
		synctest.Wait()
		first.Release()
		want(t, <-done, `200 "ok" attempts=1`)
		if s := b.Stats().Endpoints[0]; s.Dials != 2 || s.Open != 0 {
			t.Errorf("%+v", s)
		}
		if !b.members[0].pool.empty() {
			t.Error("slots are taken")
		}
	})
}

// A dial that fails makes room as well.
func TestFailedDialMakesRoom(t *testing.T) {
	b := live(t, gatehouse.Backend{MaxConnections: 1}, refusing(t))
	for range 3 {
		want(t, outcome(b, get()), `GH-FW-001 connection_refused attempts=1`)
	}
}

func TestMaxWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, end := inMemory(t, gatehouse.Backend{MaxConnections: 1, MaxWaiting: 7}, func(p *peer) { always(ok)(1, p) })
		defer end()
		resp := held(t, b)
		var all sync.WaitGroup
		for range 7 {
			all.Go(func() { outcome(b, get()) })
		}
		synctest.Wait()
		start := time.Now()
		want(t, outcome(b, get()), `GH-FW-004 connection_limit_reached attempts=1`)
		if time.Since(start) != 0 {
			t.Error("it waited")
		}
		resp.Release()
		all.Wait()
	})
}

// The connection used last is used next, and the others end when idle.
func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, end := inMemory(t, gatehouse.Backend{Timeouts: gatehouse.Timeouts{Idle: seconds(10)}}, func(p *peer) { always(ok)(1, p) })
		defer end()
		idle := func(expected int) {
			t.Helper()
			synctest.Wait()
			if s := b.Stats().Endpoints[0]; s.Idle != expected || s.Open != expected {
				t.Errorf("after all: %+v, want %d idle", s, expected)
			}
		}
		first, second, third := held(t, b), held(t, b), held(t, b)
		first.Release()
		<-time.After(2 * time.Second)
		second.Release()
		third.Release()
		idle(3)
		<-time.After(7 * time.Second) // 9 s, 7 s, 7 s
		want(t, outcome(b, get()), `200 "ok" attempts=1`)
		idle(3)
		<-time.After(time.Second) // 10 s, 8 s, 1 s
		idle(2)
		<-time.After(2 * time.Second)
		idle(1)
		<-time.After(7 * time.Second)
		idle(0)
		want(t, outcome(b, get()), `200 "ok" attempts=1`)
		if s := b.Stats().Endpoints[0]; s.Dials != 4 {
			t.Errorf("%d dials", s.Dials)
		}
	})
}

// Requests of many goroutines on few connections, with answers that close
// some of them, leave nothing behind.
func TestConcurrency(t *testing.T) {
	up := backend(t, func(n int, p *peer) {
		for i := 0; p.request() != ""; i++ {
			if (n+i)%5 == 0 {
				p.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
				return
			}
			p.send(ok)
		}
	})
	b := live(t, gatehouse.Backend{MaxConnections: 4}, up)
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for range 100 {
				if got := outcome(b, get()); got != `200 "ok" attempts=1` && got != `200 "ok" attempts=2` {
					t.Error(got)
				}
			}
		})
	}
	all.Wait()
	s := b.Stats()
	if e := s.Endpoints[0]; s.Live != 0 || e.InFlight != 0 || e.Waiting != 0 || e.Open > 4 || e.Open != e.Idle || e.Open != b.members[0].pool.slots {
		t.Errorf("%+v", s)
	}
}
