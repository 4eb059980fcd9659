package upstream

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// gated is a server each of whose answers waits for a token.
func gated(t testing.TB, s h2Server) (url string, token chan<- struct{}) {
	c := make(chan struct{})
	return serveH2(t, s, func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-c:
			_, _ = io.WriteString(w, "ok")
		case <-r.Context().Done():
		}
	}), c
}

// await waits until told returns what is expected.
func await(t *testing.T, expected string, told func() string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); told() != expected; {
		if time.Now().After(deadline) {
			t.Fatalf("got  %s\nwant %s", told(), expected)
		}
		<-time.After(time.Millisecond)
	}
}

func counted(b *Backend) func() string {
	return func() string {
		s := b.Stats()
		e := s.Endpoints[0]
		return fmt.Sprintf("live %d, in flight %d, waiting %d, open %d, idle %d, dials %d",
			s.Live, e.InFlight, e.Waiting, e.Open, e.Idle, e.Dials)
	}
}

// Requests share a connection as far as the backend lets them, then dial, then
// wait for a stream to end.
func TestH2Pool(t *testing.T) {
	url, token := gated(t, h2Server{streams: 2})
	b := liveH2(t, gatehouse.Backend{MaxConnections: 2, MaxWaiting: 3, Timeouts: gatehouse.Timeouts{Connect: seconds(5)}}, url)
	told := counted(b)
	var all sync.WaitGroup
	ask := func() {
		all.Go(func() {
			if got := outcome(b, get()); !strings.HasPrefix(got, `200 "ok"`) {
				t.Error(got)
			}
		})
	}
	ask()
	token <- struct{}{} // the settings have come with it
	all.Wait()
	await(t, "live 0, in flight 0, waiting 0, open 1, idle 1, dials 1", told)
	for range 4 {
		ask()
	}
	await(t, "live 4, in flight 4, waiting 0, open 2, idle 0, dials 2", told)
	for range 3 {
		ask()
	}
	await(t, "live 7, in flight 7, waiting 3, open 2, idle 0, dials 2", told)
	want(t, outcome(b, get()), "GH-FW-004 connection_limit_reached attempts=1")
	token <- struct{}{}
	await(t, "live 6, in flight 6, waiting 2, open 2, idle 0, dials 2", told)
	for range 6 {
		token <- struct{}{}
	}
	all.Wait()
	await(t, "live 0, in flight 0, waiting 0, open 2, idle 2, dials 2", told)
}

// The wait for a stream is bounded.
func TestH2Busy(t *testing.T) {
	url, token := gated(t, h2Server{streams: 1})
	b := liveH2(t, gatehouse.Backend{MaxConnections: 1, Timeouts: gatehouse.Timeouts{Connect: seconds(0.2)}}, url)
	done := make(chan string)
	ask := func() { go func() { done <- outcome(b, get()) }() }
	ask()
	token <- struct{}{}
	want(t, <-done, `200 "ok" attempts=1`)
	ask()
	await(t, "live 1, in flight 1, waiting 0, open 1, idle 0, dials 1", counted(b))
	want(t, outcome(b, get()), "GH-FW-004 connection_limit_reached attempts=1")
	token <- struct{}{}
	want(t, <-done, `200 "ok" attempts=1`)
}

// Those who wait for a dial share it, and its failure.
func TestH2SharedDial(t *testing.T) {
	var conns atomic.Int32
	url := serveH2(t, h2Server{count: func() { conns.Add(1) }}, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
	f := func(b *Backend, expected string) {
		t.Helper()
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() { want(t, outcome(b, get()), expected) })
		}
		all.Wait()
		if e := b.Stats().Endpoints[0]; e.InFlight != 0 || e.Waiting != 0 || e.Dials > 20 {
			t.Errorf("%+v", e)
		}
	}
	f(liveH2(t, gatehouse.Backend{}, url), `200 "ok" attempts=1`)
	if conns.Load() != 1 {
		t.Errorf("%d connections", conns.Load())
	}
	f(liveH2(t, gatehouse.Backend{MaxConnections: 1}, refusing(t)), "GH-FW-001 connection_refused attempts=1")
}

// Links end when idle, when retired and when aborted.
func TestH2End(t *testing.T) {
	url, token := gated(t, h2Server{})
	b := liveH2(t, gatehouse.Backend{Timeouts: gatehouse.Timeouts{Idle: seconds(0.3)}}, url)
	told := counted(b)
	done := make(chan string)
	ask := func() { go func() { done <- outcome(b, get()) }() }
	ask()
	token <- struct{}{}
	want(t, <-done, `200 "ok" attempts=1`)
	await(t, "live 0, in flight 0, waiting 0, open 0, idle 0, dials 1", told)

	b = liveH2(t, gatehouse.Backend{}, url)
	told = counted(b)
	ask()
	await(t, "live 1, in flight 1, waiting 0, open 1, idle 0, dials 1", told)
	b.Retire()
	token <- struct{}{}
	want(t, <-done, `200 "ok" attempts=1`)
	await(t, "live 0, in flight 0, waiting 0, open 0, idle 0, dials 1", told)
	if !b.members[0].empty() {
		t.Error("the endpoint is not empty")
	}
	ask() // a link of its own
	token <- struct{}{}
	want(t, <-done, `200 "ok" attempts=1`)
	await(t, "live 0, in flight 0, waiting 0, open 0, idle 0, dials 2", told)

	// A name that has lost an address: links to it end with their requests.
	b = liveH2(t, gatehouse.Backend{}, url)
	told = counted(b)
	ask()
	await(t, "live 1, in flight 1, waiting 0, open 1, idle 0, dials 1", told)
	b.members[0].streams.confine([]netip.Addr{netip.MustParseAddr("192.0.2.1")})
	ask()
	await(t, "live 2, in flight 2, waiting 0, open 2, idle 0, dials 2", told)
	token <- struct{}{}
	token <- struct{}{}
	want(t, <-done, `200 "ok" attempts=1`)
	want(t, <-done, `200 "ok" attempts=1`)
	await(t, "live 0, in flight 0, waiting 0, open 0, idle 0, dials 2", told)

	b = liveH2(t, gatehouse.Backend{}, url)
	ask()
	await(t, "live 1, in flight 1, waiting 0, open 1, idle 0, dials 1", counted(b))
	b.client.Close()
	b.client.Abort()
	want(t, <-done, "GH-FW-001 connection_terminated attempts=1")
}

// A server over TLS that does not choose h2 is none.
func TestH2ALPN(t *testing.T) {
	cert, roots := authority(t, "127.0.0.1")
	f := func(protos []string, expected string) {
		t.Helper()
		url := secureBackend(t, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: protos}, always(ok))
		b := version(t, client(t, Config{RootCAs: roots}), nil, gatehouse.Backend{Protocol: gatehouse.HTTP2}, url)
		want(t, outcome(b, get()), expected)
	}
	f(nil, "GH-FW-001 tls_protocol_error attempts=1")
	f([]string{"http/1.1"}, "GH-FW-001 tls_alert_received attempts=1") // RFC 7301: no_application_protocol
}

// Requests of many goroutines on few connections of few streams, some of them
// given up, leave nothing behind.
func TestH2Concurrency(t *testing.T) {
	url := serveH2(t, h2Server{streams: 3}, func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		_, _ = fmt.Fprint(w, n, strings.Repeat(" ", 10_000))
	})
	b := liveH2(t, gatehouse.Backend{MaxConnections: 3}, url)
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			for j := range 30 {
				var resp Response
				if err := b.Do(chunkedPost(strings.NewReader(strings.Repeat("x", j*1000))), &resp); err != nil {
					// More streams than the backend takes may be begun before
					// its settings come.
					if failureText(err) != "GH-FW-001 connection_terminated" || j > 0 {
						t.Error(err)
					}
					continue
				}
				if (i+j)%4 > 0 {
					var n int
					if _, err := fmt.Fscan(&resp, &n); err != nil || n != j*1000 {
						t.Errorf("%d bytes of %d: %v", n, j*1000, err)
					}
				}
				resp.Release()
			}
		})
	}
	all.Wait()
	e := b.Stats().Endpoints[0]
	if e.InFlight != 0 || e.Waiting != 0 || e.Open > 3 || e.Open != e.Idle {
		t.Errorf("%+v", e)
	}
	b.Retire()
	await(t, "0", func() string { return fmt.Sprint(b.Stats().Endpoints[0].Open) })
}
