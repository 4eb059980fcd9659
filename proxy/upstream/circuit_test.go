package upstream

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/gatehouse-gateway/gatehouse"
)

// breaking is a backend of a circuit that opens for 5 s at half of 4 in 10 s,
// and where nothing else takes endpoints away.
var breaking = gatehouse.Backend{
	Circuit: gatehouse.Circuit{
		FailureRatio: 50 * 100, MinRequests: 4, Window: seconds(10), OpenFor: seconds(5),
	},
	Outliers: gatehouse.Outliers{Off: true},
}

// chosen makes an attempt, and returns what reports its end; nil where no
// circuit lets it pass.
func chosen(b *Backend) func(v verdict) {
	t, err := b.choose(0, nil)
	if err != nil {
		return nil
	}
	return func(v verdict) {
		b.report(t, map[verdict]failure{
			neither: {err: bodyError(io.ErrUnexpectedEOF)},
			good:    {},
			bad:     {err: explain(errNoAnswer, awaiting, "")},
		}[v], 200)
	}
}

func TestCircuit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		c := New(Config{Dial: nowhere, Log: slog.New(slog.NewTextHandler(&log, nil))})
		defer c.Close()
		b := numbered(t, c, nil, breaking, 0)
		wait := func(s float64) { <-time.After(time.Duration(s * float64(time.Second))) }
		state := func(expected string) {
			t.Helper()
			want(t, b.Stats().Endpoints[0].Circuit, expected)
		}
		shut := func() {
			t.Helper()
			if chosen(b) != nil {
				t.Error("a request passes")
			}
		}

		chosen(b)(bad)
		chosen(b)(bad)
		chosen(b)(neither)
		chosen(b)(bad)
		state("closed") // three are too few
		late := chosen(b)
		chosen(b)(good)
		state("open")
		late(bad)
		shut()
		wait(4.99)
		shut()
		m := &b.members[0]
		for range 9 { // they passed at the very moment when it opened
			b.settle(m, ticket{term: m.circuit.term.Load()}, bad)
		}
		wait(0.01)
		state("half_open")

		trial := chosen(b)
		shut()
		trial(neither) // its client went away
		trial = chosen(b)
		shut()
		state("half_open")
		trial(bad)
		state("open")
		shut()
		wait(5)
		chosen(b)(good)
		state("closed")

		// What was is forgotten, and what is old goes.
		chosen(b)(bad)
		chosen(b)(bad)
		chosen(b)(bad)
		wait(10)
		chosen(b)(bad)
		state("closed")

		// One that takes forever keeps others from trying for as long as the
		// circuit is open, and counts all the same.
		for range 3 {
			chosen(b)(bad)
		}
		state("open")
		wait(5)
		slow := chosen(b)
		wait(4.99)
		shut()
		wait(0.01)
		second := chosen(b)
		shut()
		slow(neither) // it no longer has the turn
		shut()
		second(neither)
		third := chosen(b)
		shut()
		third(good)
		state("closed")
		second(bad)
		slow(bad)
		state("closed")

		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		for i, line := range lines {
			_, lines[i], _ = strings.Cut(line, " ")
		}
		const of = " tenant=acme backend=app endpoint=http://0"
		want(t, strings.Join(lines, "\n"), `level=WARN msg="circuit is open"`+of+` span=5s
level=INFO msg="circuit is half open"`+of+`
level=WARN msg="circuit is open again"`+of+` span=5s
level=INFO msg="circuit is half open"`+of+`
level=INFO msg="circuit is closed"`+of+`
level=WARN msg="circuit is open"`+of+` span=5s
level=INFO msg="circuit is half open"`+of+`
level=INFO msg="circuit is closed"`+of)
	})
}

// Endpoints whose circuit is open are left out, also while the others are
// ejected, unhealthy or tried; circuits outlive changes of the document.
func TestCircuitAndBalance(t *testing.T) {
	for _, balance := range []gatehouse.Balance{gatehouse.RoundRobin, gatehouse.LeastRequests, gatehouse.ConsistentHash} {
		synctest.Test(t, func(t *testing.T) {
			c := New(Config{Dial: nowhere})
			defer c.Close()
			doc := breaking
			doc.Balance = balance
			b := numbered(t, c, nil, doc, 0, 1, 2)
			only := func(expected string, tried ...int) {
				t.Helper()
				seen := map[int]bool{}
				for key := range uint64(200) {
					seen[b.pick(key, tried)] = true
				}
				if got := fmt.Sprint(seen); got != expected {
					t.Errorf("%s: picked %s, want %s", balance, got, expected)
				}
			}
			fail(b, 1, 4)
			only("map[0:true 2:true]")
			next := numbered(t, c, b, doc, 1, 0, 2)
			b.Retire()
			b = next
			only("map[1:true 2:true]")
			b.members[2].sick.Store(true)
			only("map[1:true]")
			b.members[1].sick.Store(true)
			only("map[1:true 2:true]")
			only("map[2:true]", 1)
			only("map[1:true 2:true]", 1, 2)
			fail(b, 1, 4)
			only("map[2:true]")
			fail(b, 2, 4)
			only("map[-1:true]")

			// With other rules they begin anew.
			doc.Circuit.MinRequests++
			b = numbered(t, c, b, doc, 0, 1, 2)
			b.members[0].sick.Store(false)
			only("map[0:true 1:true]")
		})
	}
}

// The circuit does as this model, which keeps every result.
func TestCircuitModel(t *testing.T) {
	type result struct {
		at  time.Duration
		bad bool
	}
	type attempt struct {
		report func(verdict)
		term   int
		trial  int // 0: none
	}
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(bubbled{t}, func(rt *rapid.T) {
			c := New(Config{Dial: nowhere})
			defer c.Close()
			least := rapid.IntRange(1, 6).Draw(rt, "least")
			percent := rapid.IntRange(1, 100).Draw(rt, "ratio")
			doc := gatehouse.Backend{
				Outliers: gatehouse.Outliers{Off: true},
				Circuit: gatehouse.Circuit{
					FailureRatio: gatehouse.Percent(percent * 100), MinRequests: least, Window: seconds(10), OpenFor: seconds(5),
				},
			}
			b := numbered(t, c, nil, doc, 0)

			isOpen := false // or half so
			var until time.Duration
			term, trials := 0, 0
			var results []result
			var flying []attempt
			open := func(now time.Duration) { isOpen, until, term, results = true, now+5*time.Second, term+1, nil }
			rt.Repeat(map[string]func(*rapid.T){
				"begin": func(rt *rapid.T) {
					now := c.clock.now()
					a := attempt{report: chosen(b), term: term}
					passes := !isOpen || now >= until
					if (a.report != nil) != passes {
						rt.Fatalf("passes: %v, want %v", a.report != nil, passes)
					}
					if !passes {
						return
					}
					if isOpen {
						trials++
						a.trial = trials
						until = now + 5*time.Second
					}
					flying = append(flying, a)
				},
				"end": func(rt *rapid.T) {
					if len(flying) == 0 {
						rt.Skip("none in flight")
					}
					i := rapid.IntRange(0, len(flying)-1).Draw(rt, "which")
					a := flying[i]
					flying = append(flying[:i:i], flying[i+1:]...)
					v := rapid.SampledFrom([]verdict{neither, good, bad, bad}).Draw(rt, "verdict")
					a.report(v)
					now := c.clock.now()
					switch {
					case a.term != term:
					case a.trial != 0 && v == good:
						isOpen, term, results = false, term+1, nil
					case a.trial != 0 && v == bad:
						open(now)
					case a.trial != 0:
						if a.trial == trials {
							until = now
						}
					case v != neither:
						results = append(results, result{now, v == bad})
						n, failures := 0, 0
						for _, r := range results {
							if r.at/time.Second > now/time.Second-10 {
								n++
								if r.bad {
									failures++
								}
							}
						}
						if n >= least && failures*100 >= percent*n {
							open(now)
						}
					}
				},
				"wait": func(rt *rapid.T) {
					<-time.After(time.Duration(rapid.IntRange(1, 6000).Draw(rt, "ms")) * time.Millisecond)
				},
				"": func(rt *rapid.T) {
					state := "closed"
					switch {
					case isOpen && trials > 0 && b.members[0].circuit.half, isOpen && c.clock.now() >= until:
						state = "half_open"
					case isOpen:
						state = "open"
					}
					if got := b.Stats().Endpoints[0].Circuit; got != state {
						rt.Fatalf("%s, want %s", got, state)
					}
				},
			})
		})
	})
}

// A request is answered at once while the circuit of the only endpoint is
// open, a retry does not go where none is let in, and what the trial meets
// decides.
func TestCircuitOfRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		answer := unavailable
		w.handle("a:80", func(p *peer) {
			for head := p.request(); head != ""; head = p.request() {
				if strings.HasPrefix(head, "POST") {
					p.hold()
					return
				}
				p.send(answer)
			}
		})
		c := New(Config{Dial: w.dial})
		doc := breaking
		doc.Retries = gatehouse.Retries{Attempts: 3, On: []string{"503"}}
		b := version(t, c, nil, doc, "http://a")
		want(t, outcome(b, get()), `503 "late" attempts=4`)
		const shut = `GH-FW-008 destination_unavailable attempts=0`
		want(t, outcome(b, get()), shut)
		<-time.After(5 * time.Second)
		want(t, outcome(b, get()), `503 "late" attempts=1`) // the trial; there is no other
		want(t, outcome(b, get()), shut)
		<-time.After(5 * time.Second)

		// A trial whose client goes away lets the next one try.
		broken := post("0123456789")
		broken.Body = strings.NewReader("01234")
		want(t, outcome(b, broken), `GH-AD-001 http_request_error request-body attempts=0`)
		long := strings.Repeat("x", 100_000)
		broken = post(long)
		broken.Body = strings.NewReader(long[1:])
		want(t, outcome(b, broken), `GH-AD-001 http_request_error request-body attempts=1`)
		answer = ok
		want(t, outcome(b, get()), `200 "ok" attempts=1`)
		want(t, b.Stats().Endpoints[0].Circuit, "closed")
		want(t, outcome(b, get()), `200 "ok" attempts=1`)
		c.Close()
		w.all.Wait()
	})
}

// Of all who come when the circuit may be tried one passes.
func TestOneTrial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(Config{Dial: nowhere})
		defer c.Close()
		b := numbered(t, c, nil, breaking, 0)
		for round := range 20 {
			fail(b, 0, 4)
			<-time.After(5 * time.Second)
			var all sync.WaitGroup
			var passed atomic.Int32
			end := make(chan struct{})
			for range 50 {
				all.Go(func() {
					ticket, err := b.choose(0, nil)
					if err != nil {
						return
					}
					passed.Add(1)
					<-end
					b.report(ticket, failure{}, 200)
				})
			}
			synctest.Wait()
			close(end)
			all.Wait()
			if n := passed.Load(); n != 1 {
				t.Fatalf("round %d: %d passed", round, n)
			}
		}
	})
}
