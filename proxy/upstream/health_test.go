package upstream

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// patient is an endpoint in memory whose health checks are answered as a test
// says, and counted.
type patient struct {
	mu     sync.Mutex // guards the below
	answer string     // "" closes, "-" never answers
	checks int
	last   string // the request of the last check
}

func (a *patient) set(answer string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answer = answer
}

func (a *patient) asked() (checks int, last string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.checks, a.last
}

// check counts a check and returns its answer.
func (a *patient) check(head string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.checks++
	a.last = head
	return a.answer
}

func (a *patient) serve(p *peer) {
	for {
		head := p.request()
		switch {
		case head == "":
			return
		case !strings.Contains(head, "/healthz"):
			p.send(ok)
			continue
		}
		answer := a.check(head)
		if answer == "-" {
			p.hold()
			return
		}
		p.send(answer)
		return
	}
}

const interval = 10 * time.Second

var checked = gatehouse.Backend{Health: gatehouse.Health{
	Path: "/healthz?deep=1", Interval: gatehouse.Duration(interval), UnhealthyAfter: 2, HealthyAfter: 3,
}}

func TestHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		w := newWire()
		a, z := &patient{answer: ok}, &patient{answer: ok}
		w.handle("a:8080", a.serve)
		w.handle("z:80", z.serve)
		c := New(Config{Dial: w.dial, Log: slog.New(slog.NewTextHandler(&log, nil))})
		b := version(t, c, nil, checked, "http://a:8080", "http://z")
		rounds := func(n int) { <-time.After(time.Duration(n) * interval); synctest.Wait() }
		expect := func(what string, healthyA, healthyZ bool) {
			t.Helper()
			s := b.Stats().Endpoints
			if s[0].Healthy != healthyA || s[1].Healthy != healthyZ {
				t.Errorf("%s: %v %v", what, s[0].Healthy, s[1].Healthy)
			}
		}

		expect("at first", true, true)
		rounds(1)
		expect("after a success", true, true)
		_, last := a.asked()
		want(t, last, "GET /healthz?deep=1 HTTP/1.1\r\nHost: a:8080\r\nUser-Agent: gatehouse-health\r\nAccept: */*\r\nConnection: close\r\n\r\n")

		a.set(unavailable)
		rounds(1)
		expect("after one failure", true, true)
		rounds(1)
		expect("after two", false, true)
		for range 4 {
			var resp Response
			if err := b.Do(get(), &resp); err != nil || resp.Endpoint != "http://z" {
				t.Errorf("served by %s: %v", resp.Endpoint, err)
			}
			resp.Release()
		}

		z.set("") // ends without an answer
		rounds(2)
		expect("all down", false, false)
		want(t, outcome(b, get()), `200 "ok" attempts=1`)

		a.set("HTTP/1.1 204 No Content\r\n\r\n")
		rounds(2)
		expect("after two successes", false, false)
		a.set("nonsense\r\n\r\n")
		rounds(1)
		a.set(ok)
		rounds(2)
		expect("after two more, not in a row", false, false)
		rounds(1)
		expect("after three in a row", true, false)

		a.set("-") // within the interval, not later
		rounds(3)
		expect("never answered", false, false)

		records := strings.Split(strings.TrimSpace(log.String()), "\n")
		if len(records) != 4 || !strings.Contains(records[0], `level=WARN msg="endpoint is unhealthy" tenant=acme backend=app endpoint=http://a:8080 error="status 503"`) ||
			!strings.Contains(records[2], `level=INFO msg="endpoint is healthy" tenant=acme backend=app endpoint=http://a:8080`) {
			t.Errorf("log:\n%s", log.String())
		}
		c.Close()
		w.all.Wait()
	})
}

// Checks go on through versions that leave their rules alone, and end with the
// last version.
func TestHealthOfVersions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		a := &patient{answer: unavailable}
		w.handle("a:80", a.serve)
		c := New(Config{Dial: w.dial})
		b := version(t, c, nil, checked, "http://a", "http://b")
		// Versions come faster than checks.
		for range 20 {
			<-time.After(interval / 4)
			next := version(t, c, b, checked, "http://a", "http://b")
			b.Retire()
			b = next
		}
		synctest.Wait()
		checks, _ := a.asked()
		if checks != 5 || b.Stats().Endpoints[0].Healthy {
			t.Errorf("%d checks in 5 intervals; %+v", checks, b.Stats())
		}

		// Without checks, what they found is forgotten.
		next := version(t, c, b, gatehouse.Backend{}, "http://a")
		b.Retire()
		if !next.Stats().Endpoints[0].Healthy {
			t.Error("unhealthy without a check")
		}
		<-time.After(3 * interval)
		synctest.Wait()
		if after, _ := a.asked(); after != checks {
			t.Errorf("%d checks after the end", after-checks)
		}
		b = version(t, c, next, checked, "http://a")
		if !b.Stats().Endpoints[0].Healthy {
			t.Error("unhealthy before a check")
		}
		c.Close()
		w.all.Wait()
	})
}

// Close does not wait for a backend that does not answer.
func TestCloseDuringCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		a := &patient{answer: "-"}
		w.handle("a:80", a.serve)
		c := New(Config{Dial: w.dial})
		version(t, c, nil, checked, "http://a")
		for checks := 0; checks == 0; checks, _ = a.asked() {
			<-time.After(interval / 10)
			synctest.Wait()
		}
		start := time.Now()
		c.Close()
		w.all.Wait()
		if time.Since(start) != 0 {
			t.Errorf("Close took %v", time.Since(start))
		}
	})
}
