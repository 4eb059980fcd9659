package upstream

import (
	"fmt"
	"sync"
	"testing"

	"github.com/gatehouse-gateway/gatehouse"
)

// script is a backend where each connection gets the next of its answers and
// then ends.
func script(t testing.TB, answers ...string) string {
	return backend(t, func(n int, p *peer) {
		if p.request() != "" && n <= len(answers) {
			p.send(answers[n-1])
		}
	})
}

const unavailable = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nlate"

func TestRetries(t *testing.T) {
	f := func(attempts int, on []string, req *Request, expected string, urls ...string) {
		t.Helper()
		b := live(t, gatehouse.Backend{Timeouts: brief, Retries: gatehouse.Retries{Attempts: attempts, On: on}}, urls...)
		want(t, outcome(b, req), expected)
		if s := b.Stats(); s.Live != 0 || s.Retrying != 0 {
			t.Errorf("requests remain: %+v", s)
		}
	}
	silent := func() string { return backend(t, func(_ int, p *peer) { p.request(); p.hold() }) }
	on := func(causes ...string) []string { return causes }
	unsafe := &Request{Head: get().Head}

	// Connect, the default: any request, on the other endpoint.
	f(0, nil, get(), `GH-FW-001 connection_refused attempts=1`, refusing(t), script(t, ok))
	f(1, nil, get(), `200 "ok" attempts=2`, refusing(t), script(t, ok))
	f(1, nil, unsafe, `200 "ok" attempts=2`, refusing(t), script(t, ok))
	f(1, nil, post("abc"), `200 "3 c" attempts=2`, refusing(t), backend(t, checksum))
	big := string(make([]byte, 100_000))
	f(1, nil, post(big), `200 "100000 \x00" attempts=2`, refusing(t), backend(t, checksum))
	f(2, nil, get(), `GH-FW-001 connection_refused attempts=3`, refusing(t))
	f(1, on("reset"), get(), `GH-FW-001 connection_refused attempts=1`, refusing(t), script(t, ok))

	// Reset: what may be repeated.
	f(1, nil, get(), `GH-FW-001 connection_terminated attempts=1`, script(t, "", ok))
	f(1, on("reset"), get(), `200 "ok" attempts=2`, script(t, "", ok))
	f(1, on("reset"), get(), `GH-FW-001 connection_terminated attempts=2`, script(t, "", "", ok))
	f(1, on("reset"), unsafe, `GH-FW-001 connection_terminated attempts=1`, script(t, "", ok))
	f(1, on("reset"), post("abc"), `GH-FW-001 connection_terminated attempts=1`, script(t, "", ok))
	f(1, on("reset"), get(), `GH-FW-003 http_response_incomplete attempts=1`, script(t, "H", ok))

	// Status: what may be repeated, and the last answer is passed on.
	f(1, on("503"), get(), `200 "ok" attempts=2`, script(t, unavailable, ok))
	f(1, on("503"), get(), `503 "late" attempts=2`, script(t, unavailable, unavailable, ok))
	f(2, on("503", "reset"), get(), `GH-FW-001 connection_terminated attempts=3`, script(t, unavailable, unavailable, ""))
	f(1, on("500"), get(), `503 "late" attempts=1`, script(t, unavailable, ok))
	f(1, on("503"), unsafe, `503 "late" attempts=1`, script(t, unavailable, ok))
	f(1, on("503"), post("abc"), `503 "late" attempts=1`, script(t, unavailable, ok))
	f(1, on("503"), get(), `200 "ok" attempts=2`, script(t, unavailable), script(t, ok))

	// A backend that is slow, or wrong, is not asked again.
	all := on("connect", "reset", "503")
	f(1, all, get(), `GH-FW-002 http_response_timeout attempts=1`, silent(), script(t, ok))
	f(1, all, get(), `GH-FW-003 http_protocol_error attempts=1`, script(t, "!", ok))
}

// Also where the balance would pick the same endpoint again.
func TestRetryElsewhere(t *testing.T) {
	b := live(t, gatehouse.Backend{Balance: gatehouse.ConsistentHash, Retries: gatehouse.Retries{Attempts: 1}, Outliers: gatehouse.Outliers{Off: true}},
		refusing(t), backend(t, always(ok)))
	retried := 0
	for key := range uint64(40) {
		var resp Response
		req := get()
		req.HashKey = key
		if err := b.Do(req, &resp); err != nil {
			t.Fatal(err)
		}
		retried += resp.Attempts - 1
		resp.Release()
	}
	if retried < 10 || retried > 30 {
		t.Errorf("%d of 40 were retried", retried)
	}
}

// Of the live requests only so many may be retries, but always three.
func TestRetryBudget(t *testing.T) {
	f := func(live, expected int, budget gatehouse.Percent) {
		t.Helper()
		b := weighted(t, gatehouse.RoundRobin, 1)
		b.retries.budget = budget
		b.load.live.Store(int64(live))
		resps := make([]Response, 100)
		granted := 0
		for i := range resps {
			if b.budgeted(&resps[i]) {
				granted++
			}
		}
		for i := range resps {
			if b.budgeted(&resps[i]) != resps[i].retrying {
				t.Errorf("a further retry is not judged as the first")
			}
			b.finish(&resps[i])
		}
		if n := b.load.retrying.Load(); granted != expected || n != 0 {
			t.Errorf("%d live: %d granted, want %d; %d remain", live, granted, expected, n)
		}
	}
	f(1, 3, gatehouse.DefaultRetryBudget)
	f(15, 3, gatehouse.DefaultRetryBudget)
	f(20, 4, gatehouse.DefaultRetryBudget)
	f(100, 20, gatehouse.DefaultRetryBudget)
	f(100, 50, 5000)
}

// With all endpoints down and everybody retrying, the load grows by the
// budget, not by the number of attempts.
func TestRetryStorm(t *testing.T) {
	const requests = 20
	var arrived sync.WaitGroup
	arrived.Add(requests)
	var first sync.Map
	b := live(t, gatehouse.Backend{Retries: gatehouse.Retries{Attempts: 1, On: []string{"503"}}},
		backend(t, func(n int, p *peer) {
			for {
				head := p.request()
				if head == "" {
					return
				}
				// Every request is live before any is answered.
				if _, again := first.LoadOrStore(head, true); !again {
					arrived.Done()
					arrived.Wait()
				} else {
					arrived.Wait()
				}
				p.send(unavailable)
			}
		}))
	var mu sync.Mutex
	total := 0
	var hold, done sync.WaitGroup
	hold.Add(requests)
	for i := range requests {
		done.Go(func() {
			req := get()
			req.Head = fmt.Appendf(nil, "GET /%d HTTP/1.1\r\nHost: a\r\n\r\n", i)
			var resp Response
			if err := b.Do(req, &resp); err != nil {
				t.Error(err)
			}
			mu.Lock()
			total += resp.Attempts
			mu.Unlock()
			hold.Done()
			hold.Wait() // all stay live, so none gives its share to another
			resp.Release()
		})
	}
	done.Wait()
	if total != requests+requests/5 {
		t.Errorf("%d attempts for %d requests", total, requests)
	}
}
