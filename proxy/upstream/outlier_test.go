package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/gatehouse-gateway/gatehouse"
)

// numbered returns a version of doc with the endpoints http://0 and so on,
// which are never connected to. Its checks never come.
func numbered(t testing.TB, c *Client, prev *Backend, doc gatehouse.Backend, hosts ...int) *Backend {
	for _, i := range hosts {
		doc.Endpoints = append(doc.Endpoints, gatehouse.Endpoint{URL: fmt.Sprintf("http://%d", i)})
	}
	doc.Health = gatehouse.Health{Path: "/", Interval: gatehouse.Duration(1e6 * time.Hour)}
	return version(t, c, prev, doc)
}

// nowhere is a network without anybody.
func nowhere(context.Context, string, string) (net.Conn, error) {
	return nil, errors.New("nobody listens")
}

// bubbled hides the deadline of a test, which may not be asked for in a bubble.
type bubbled struct{ rapid.TB }

// fail reports n failures of member i that begin now.
func fail(b *Backend, i, n int) {
	for range n {
		b.report(mark(b, i), failure{err: &Error{Code: gatehouse.CodeBackendUnreachable}}, 0)
	}
}

func succeed(b *Backend, i int) { b.report(mark(b, i), failure{}, 200) }

// mark is the ticket of an attempt at i that begins now, trials aside.
func mark(b *Backend, i int) ticket {
	t := ticket{member: i}
	if o := b.members[i].outlier; o != nil {
		t.round = o.rounds.Load()
	}
	if c := b.members[i].circuit; c != nil {
		t.term = c.term.Load()
	}
	return t
}

// ejected is a picture of which members are.
func ejected(b *Backend) string {
	var s strings.Builder
	for _, e := range b.Stats().Endpoints {
		s.WriteByte(map[bool]byte{false: '-', true: 'X'}[e.Ejected])
	}
	return s.String()
}

// turns is the next n picks.
func turns(b *Backend, n int) string {
	var s strings.Builder
	for range n {
		fmt.Fprint(&s, b.pick(0, nil))
	}
	return s.String()
}

// Failures in a row eject, for a time that grows; never more than the share.
func TestOutliers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		c := New(Config{Dial: nowhere, Log: slog.New(slog.NewTextHandler(&log, nil))})
		defer c.Close()
		b := numbered(t, c, nil, gatehouse.Backend{Outliers: gatehouse.Outliers{Failures: 3, EjectFor: seconds(10)}}, 0, 1, 2)
		wait := func(s float64) { <-time.After(time.Duration(s * float64(time.Second))) }
		expect := func(picks string) {
			t.Helper()
			want(t, turns(b, len(picks)), picks)
		}

		fail(b, 1, 2)
		succeed(b, 1)
		fail(b, 1, 2)
		expect("012012")
		late := mark(b, 1)
		fail(b, 1, 1)
		want(t, ejected(b), "-X-")
		expect("0202")

		// The second of three is one too many, until the first is back.
		fail(b, 2, 5)
		want(t, ejected(b), "-X-")
		wait(9.99)
		expect("0202")
		wait(0.01)
		expect("012012")
		want(t, ejected(b), "---")
		fail(b, 2, 1)
		want(t, ejected(b), "--X")
		wait(10)
		expect("012012")

		// What began before the ejection is no news.
		for range 5 {
			b.report(late, failure{err: &Error{Code: gatehouse.CodeBackendTimeout}}, 0)
		}
		want(t, ejected(b), "---")

		// Again soon after: twice as long, and at most five minutes.
		for _, span := range []float64{10, 20, 40, 80, 160, 300, 300} {
			fail(b, 0, 3)
			wait(span - 0.01)
			want(t, ejected(b), "X--")
			wait(0.01)
			turns(b, 3)
			want(t, ejected(b), "---")
		}
		off := numbered(t, c, nil, gatehouse.Backend{Outliers: gatehouse.Outliers{Off: true}}, 0, 1, 2)
		fail(off, 0, 100)
		want(t, turns(off, 6), "012012")
		most := numbered(t, c, nil, gatehouse.Backend{Outliers: gatehouse.Outliers{MaxEjected: 70 * 100}}, 0, 1, 2)
		for i := range 3 {
			fail(most, i, gatehouse.DefaultOutlierFailures-1)
			want(t, ejected(most), "XX-"[:i]+"---"[i:])
			fail(most, i, 1)
		}
		want(t, ejected(most), "XX-")

		lines := strings.Split(log.String(), "\n")
		for i, line := range lines {
			_, lines[i], _ = strings.Cut(line, " ")
		}
		want(t, strings.Join(lines[:4], "\n"), `level=WARN msg="endpoint is ejected" tenant=acme backend=app endpoint=http://1 failures=3 span=10s
level=INFO msg="endpoint is back from ejection" tenant=acme backend=app endpoint=http://1
level=WARN msg="endpoint is ejected" tenant=acme backend=app endpoint=http://2 failures=6 span=10s
level=INFO msg="endpoint is back from ejection" tenant=acme backend=app endpoint=http://2`)
	})
}

// The time of an ejection doubles, and halves again in calm.
func TestEjectionTime(t *testing.T) {
	f := func(span, calm, expected time.Duration) {
		t.Helper()
		o := outlier{span: span * time.Second, back: 1000 * time.Second}
		if got := o.next((1000+calm)*time.Second, 10*time.Second); got != expected*time.Second {
			t.Errorf("after %d s and %d s of calm: %v", span, calm, got)
		}
	}
	f(0, 0, 10)
	f(10, 0, 20)
	f(10, 9, 20)
	f(10, 10, 10)
	f(80, 79, 160)
	f(80, 80, 80)
	f(80, 119, 80)
	f(80, 120, 40)
	f(80, 140, 20)
	f(80, 150, 10)
	f(80, 9999, 10)
	f(300, 0, 300)
	f(160, 0, 300)
}

// Ejections outlive changes of the document that leave their settings alone,
// also where the endpoints that others stood for are gone.
func TestEjectionOfVersions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(Config{Dial: nowhere})
		defer c.Close()
		v1 := numbered(t, c, nil, gatehouse.Backend{}, 0, 1, 2, 3)
		fail(v1, 0, 4)
		v2 := numbered(t, c, v1, gatehouse.Backend{MaxConnections: 3}, 0, 1, 2, 3)
		v1.Retire()
		fail(v2, 0, 1)
		<-time.After(time.Second)
		fail(v2, 1, 5)
		want(t, ejected(v2), "XX--")

		// Of two endpoints one may be out: the first to return is back.
		v3 := numbered(t, c, v2, gatehouse.Backend{}, 0, 1)
		want(t, ejected(v3), "-X")
		// While the greater version is live it may not use its own share.
		fail(v2, 0, 5)
		want(t, ejected(v2), "-X--")
		v3.Retire()
		fail(v2, 0, 5)
		want(t, ejected(v2), "XX--")

		v4 := numbered(t, c, v2, gatehouse.Backend{Outliers: gatehouse.Outliers{Failures: 4}}, 0, 1, 2, 3)
		want(t, ejected(v4), "----")
		v5 := numbered(t, c, v2, gatehouse.Backend{Outliers: gatehouse.Outliers{Off: true}}, 0, 1, 2, 3)
		fail(v5, 0, 100)
		want(t, ejected(v5), "----")
	})
}

// Whatever happens, no version that is live has more than its share ejected;
// the sick count; one that is ejected returns in time.
func TestEjectedShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(bubbled{t}, func(rt *rapid.T) {
			c := New(Config{Dial: nowhere})
			defer c.Close()
			doc := gatehouse.Backend{Outliers: gatehouse.Outliers{
				Failures:   rapid.IntRange(1, 3).Draw(rt, "failures"),
				MaxEjected: gatehouse.Percent(rapid.IntRange(1, 100).Draw(rt, "share") * 100),
			}}
			subset := func() []int {
				return rapid.SliceOfNDistinct(rapid.IntRange(0, 9), 1, 10, rapid.ID[int]).Draw(rt, "hosts")
			}
			versions := []*Backend{numbered(t, c, nil, doc, subset()...)}
			one := func() *Backend { return versions[rapid.IntRange(0, len(versions)-1).Draw(rt, "version")] }
			member := func(b *Backend) int { return rapid.IntRange(0, len(b.members)-1).Draw(rt, "member") }
			rt.Repeat(map[string]func(*rapid.T){
				"fail":    func(rt *rapid.T) { b := one(); fail(b, member(b), rapid.IntRange(1, 4).Draw(rt, "n")) },
				"succeed": func(*rapid.T) { b := one(); succeed(b, member(b)) },
				"wait": func(rt *rapid.T) {
					<-time.After(time.Duration(rapid.IntRange(0, 30).Draw(rt, "seconds")) * time.Second)
				},
				"pick": func(*rapid.T) { one().pick(0, nil) },
				"sicken": func(*rapid.T) {
					b := one()
					i := member(b)
					b.members[i].sick.Store(!b.members[i].sick.Load())
				},
				"change": func(*rapid.T) {
					prev := one()
					next := numbered(t, c, prev, doc, subset()...)
					if len(versions) == 2 {
						versions[0].Retire()
						versions[1].Retire()
						versions = nil
					}
					versions = append(versions, next)
				},
				"": func(rt *rapid.T) {
					for _, b := range versions {
						out := 0
						for _, m := range b.members {
							o := m.outlier
							if !o.out(c.clock.now()) {
								continue
							}
							out++
							if left := time.Duration(o.until.Load()) - c.clock.now(); left > gatehouse.MaxEjectFor {
								rt.Fatalf("ejected for another %v", left)
							}
						}
						if n := len(b.members); out*10_000 > int(doc.Outliers.MaxEjected)*n || n == 1 && out > 0 {
							rt.Fatalf("%d of %d ejected: %s", out, n, ejected(b))
						}
						if b.pick(0, nil) < 0 {
							rt.Fatal("none is left to pick")
						}
					}
				},
			})
		})
	})
}

// The sick count towards the share, and ejection is no reason to use them.
func TestEjectedAndSick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(Config{Dial: nowhere})
		defer c.Close()
		b := numbered(t, c, nil, gatehouse.Backend{}, 0, 1, 2, 3)
		b.members[0].sick.Store(true)
		fail(b, 1, 5)
		fail(b, 2, 5)
		want(t, ejected(b), "-X--")
		want(t, turns(b, 4), "2323")
		b.members[2].sick.Store(true)
		want(t, turns(b, 4), "3333")
		b.members[3].sick.Store(true)
		got := turns(b, 40) // none is well: all are used
		for _, i := range "0123" {
			if strings.Count(got, string(i)) != 10 {
				t.Errorf("picks %s", got)
				break
			}
		}
	})
}

func TestJudge(t *testing.T) {
	names := map[verdict]string{neither: "neither", good: "good", bad: "bad"}
	f := func(f failure, status int, expected verdict) {
		t.Helper()
		if got := judge(f, status); got != expected {
			t.Errorf("%+v, status %d: %s, want %s", f, status, names[got], names[expected])
		}
	}
	for status, v := range map[int]verdict{200: good, 101: good, 304: good, 404: good, 429: good, 500: good, 501: good, 502: bad, 503: bad, 504: bad, 505: good} {
		f(failure{}, status, v)
		f(failure{cause: byStatus}, status, v)
	}
	broken := errors.New("broken")
	because := func(err error, p phase, v verdict) { t.Helper(); f(failure{err: explain(err, p, "")}, 0, v) }
	because(broken, connecting, bad)
	because(broken, handshaking, bad)
	because(broken, awaiting, bad)
	because(broken, writing, bad)
	because(errNoAnswer, awaiting, bad)
	because(errTruncated, awaiting, bad)
	because(errProhibited, connecting, bad)
	because(errBusy, connecting, neither)
	because(errQueue, connecting, neither)
	because(errHeadSize, awaiting, neither)
	because(errSwitching, awaiting, neither)
	because(errGone, awaiting, neither)
	f(failure{err: bodyError(io.ErrUnexpectedEOF)}, 0, neither)
}

// Requests, not calls: an endpoint that fails is left alone, and its requests
// go to the other without an error.
func TestEjectionOfRequests(t *testing.T) {
	bad, fine := refusing(t), backend(t, always(ok))
	b := live(t, gatehouse.Backend{Timeouts: brief, Retries: gatehouse.Retries{Attempts: 1}}, bad, fine)
	attempts := 0
	for range 40 {
		var resp Response
		if err := b.Do(get(), &resp); err != nil {
			t.Fatal(err)
		}
		attempts += resp.Attempts
		resp.Release()
	}
	if want := 40 + gatehouse.DefaultOutlierFailures; attempts != want || !b.Stats().Endpoints[0].Ejected {
		t.Errorf("%d attempts, want %d", attempts, want)
	}
}

// A retry goes to an endpoint that is ejected rather than to the one where it
// has just failed: the ejected one may be the only one that works.
func TestRetryAtEjected(t *testing.T) {
	for _, balance := range []gatehouse.Balance{gatehouse.RoundRobin, gatehouse.LeastRequests, gatehouse.ConsistentHash} {
		b := live(t, gatehouse.Backend{Balance: balance, Timeouts: brief, Retries: gatehouse.Retries{Attempts: 1}}, refusing(t), backend(t, always(ok)))
		for range gatehouse.DefaultOutlierFailures { // of before, when it did not work
			ticket, err := b.choose(0, []int{0})
			if err != nil || ticket.member != 1 {
				t.Fatal(ticket, err)
			}
			b.report(ticket, failure{err: explain(errNoAnswer, awaiting, ""), cause: byReset}, 0)
		}
		if s := b.Stats().Endpoints; s[0].Ejected || !s[1].Ejected {
			t.Fatalf("%+v", s)
		}
		for range 3 {
			want(t, outcome(b, get()), `200 "ok" attempts=2`)
		}
	}
}

// Picks and results of many goroutines through many versions: endpoints come
// and go, circuits open and close, and all end well.
func TestEjectionConcurrency(t *testing.T) {
	c := client(t, Config{Dial: nowhere})
	doc := gatehouse.Backend{
		Outliers:  gatehouse.Outliers{Failures: 2, EjectFor: gatehouse.Duration(time.Millisecond)},
		Circuit:   gatehouse.Circuit{FailureRatio: 60 * 100, MinRequests: 5, Window: gatehouse.Duration(time.Millisecond), OpenFor: gatehouse.Duration(time.Millisecond)},
		SlowStart: gatehouse.Duration(time.Millisecond),
	}
	balances := []gatehouse.Balance{gatehouse.RoundRobin, gatehouse.LeastRequests, gatehouse.ConsistentHash}
	var now atomic.Pointer[Backend]
	now.Store(numbered(t, c, nil, doc, 0, 1, 2, 3, 4))
	stop := make(chan struct{})
	var all sync.WaitGroup
	for g := range 6 {
		all.Go(func() {
			for key := uint64(g); ; key += 7 {
				select {
				case <-stop:
					return
				default:
				}
				b := now.Load()
				ticket, err := b.choose(key, nil)
				if err != nil {
					continue
				}
				f := failure{}
				if key%3 == 0 || b.members[ticket.member].url == "http://1" {
					f.err = explain(errNoAnswer, awaiting, "")
				}
				b.report(ticket, f, 200)
			}
		})
	}
	for i := range 300 {
		doc.Balance = balances[i%3]
		prev := now.Load()
		now.Store(numbered(t, c, prev, doc, 0, 1, 2, 3+i%2))
		prev.Retire()
		now.Load().Stats()
	}
	close(stop)
	all.Wait()
	b := now.Load()
	for deadline := time.Now().Add(5 * time.Second); ; {
		if ticket, err := b.choose(0, nil); err == nil {
			b.report(ticket, failure{}, 200)
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("nothing is let in: %+v", b.Stats())
		}
	}
}
