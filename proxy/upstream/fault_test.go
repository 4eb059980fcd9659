package upstream

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// brief are timeouts short enough to be waited for, and long enough for a busy
// machine.
var brief = gatehouse.Timeouts{Connect: seconds(2), FirstByte: seconds(1), Idle: seconds(1)}

// What a backend may do to one request, and what becomes of it.
func TestFaults(t *testing.T) {
	f := func(name string, serve func(n int, p *peer), expected string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := live(t, gatehouse.Backend{Timeouts: brief}, backend(t, serve))
			want(t, outcome(b, get()), expected)
			if s := b.Stats(); s.Live != 0 || s.Retrying != 0 || s.Endpoints[0].InFlight != 0 {
				t.Errorf("requests remain: %+v", s)
			}
		})
	}
	// answer sends s and holds the connection; last closes it behind s.
	answer := func(s string) func(int, *peer) {
		return func(_ int, p *peer) { p.request(); p.send(s); p.hold() }
	}
	last := func(s string) func(int, *peer) {
		return func(_ int, p *peer) { p.request(); p.send(s) }
	}
	broken := func(s string) func(int, *peer) {
		return func(_ int, p *peer) { p.request(); p.send(s); p.reset() }
	}

	f("plain", answer(ok), `200 "ok" attempts=1`)
	f("closed after the request", last(""), `GH-FW-001 connection_terminated attempts=1`)
	f("reset after the request", broken(""), `GH-FW-001 connection_terminated attempts=1`)
	f("no answer", answer(""), `GH-FW-002 http_response_timeout attempts=1`)
	f("half a header, then silence", answer("HTTP/1.1 200 OK\r\nA:"), `GH-FW-002 http_response_timeout attempts=1`)
	f("half a header, then end", last("HTTP/1.1 200 OK\r\nA:"), `GH-FW-003 http_response_incomplete attempts=1`)
	f("half a header, then reset", broken("HTTP/1.1 200 OK\r\nA:"), `GH-FW-003 http_response_incomplete attempts=1`)

	f("garbage", answer("SSH-2.0-OpenSSH_9.6\r\n"), `GH-FW-003 http_protocol_error attempts=1`)
	f("one byte of garbage", answer("S"), `GH-FW-003 http_protocol_error attempts=1`)
	f("HTTP/1.2", answer("HTTP/1.2 200 OK\r\n\r\n"), `GH-FW-003 http_protocol_error attempts=1`)
	f("bare LF", answer("HTTP/1.1 200 OK\nContent-Length: 0\n\n"), `GH-FW-003 http_protocol_error attempts=1`)
	f("length and coding", answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), `GH-FW-003 http_protocol_error attempts=1`)
	f("folded line", answer("HTTP/1.1 200 OK\r\nA: 1\r\n B: 2\r\n\r\n"), `GH-FW-003 http_protocol_error attempts=1`)
	f("too many fields", answer("HTTP/1.1 200 OK\r\n"+strings.Repeat("A: 1\r\n", maxFields+1)+"\r\n"), `GH-FW-003 http_response_header_section_size attempts=1`)
	f("most fields", answer("HTTP/1.1 200 OK\r\n"+strings.Repeat("A: 1\r\n", maxFields-1)+"Content-Length: 0\r\n\r\n"), `200 "" attempts=1`)
	f("largest header", answer(sized(maxHead)), `200 "" attempts=1`)
	f("header too large", answer(sized(maxHead+1)), `GH-FW-003 http_response_header_section_size attempts=1`)

	f("101", answer("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nPOISON"), `GH-FW-003 http_upgrade_failed attempts=1`)
	f("interim answers", answer(strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", maxInterim)+ok), `200 "ok" attempts=1`)
	f("too many of them", answer(strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", maxInterim+1)+ok), `GH-FW-003 http_protocol_error attempts=1`)
	f("end after an interim answer", last("HTTP/1.1 103 Early Hints\r\n\r\n"), `GH-FW-003 http_response_incomplete attempts=1`)

	f("body cut", last("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"), `200 "abc" GH-FW-003 http_response_incomplete attempts=1`)
	f("body reset", func(_ int, p *peer) {
		p.request()
		p.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
		p.reset()
	}, `200 "" GH-FW-003 http_response_incomplete attempts=1`)
	f("body stalls", answer("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"), `200 "abc" GH-FW-002 connection_read_timeout attempts=1`)
	f("body until the end", last("HTTP/1.1 200 OK\r\n\r\nabc"), `200 "abc" attempts=1`)
	f("body until the end, HTTP/1.0", last("HTTP/1.0 200 OK\r\n\r\nabc"), `200 "abc" attempts=1`)
	f("body until a reset", func(_ int, p *peer) { p.request(); p.send("HTTP/1.1 200 OK\r\n\r\n"); p.reset() }, `200 "" GH-FW-003 http_response_incomplete attempts=1`)
	f("no body for 204", answer("HTTP/1.1 204 No Content\r\n\r\n"), `204 "" attempts=1`)
	f("no body for 304", answer("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"), `304 "" attempts=1`)

	chunked := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	f("chunks", answer(chunked+"2\r\nok\r\n0\r\n\r\n"), `200 "ok" attempts=1`)
	f("chunk cut", last(chunked+"5\r\nabc"), `200 "abc" GH-FW-003 http_response_incomplete attempts=1`)
	f("last chunk missing", last(chunked+"3\r\nabc\r\n"), `200 "abc" GH-FW-003 http_response_incomplete attempts=1`)
	f("empty line missing", last(chunked+"3\r\nabc\r\n0\r\n"), `200 "abc" GH-FW-003 http_response_incomplete attempts=1`)
	f("chunk stalls", answer(chunked+"5\r\nabc"), `200 "abc" GH-FW-002 connection_read_timeout attempts=1`)
	f("chunk longer than said", answer(chunked+"3\r\nabcd\r\n0\r\n\r\n"), `200 "abc" GH-FW-003 http_response_transfer_coding attempts=1`)
}

// sized returns an answer without body whose header section has n bytes.
func sized(n int) string {
	const start, end = "HTTP/1.1 200 OK\r\nA: ", "\r\nContent-Length: 0\r\n\r\n"
	return start + strings.Repeat("a", n-len(start)-len(end)) + end
}

func TestUnreachable(t *testing.T) {
	b := live(t, gatehouse.Backend{Timeouts: brief}, refusing(t))
	want(t, outcome(b, get()), `GH-FW-001 connection_refused attempts=1`)

	b = live(t, gatehouse.Backend{Timeouts: brief}, "http://no-such-host.invalid:80")
	if got := outcome(b, get()); !strings.Contains(got, " dns_") {
		t.Errorf("got %s", got)
	}

	b = live(t, gatehouse.Backend{})
	want(t, outcome(b, get()), `GH-FW-006 destination_unavailable attempts=0`)
}

// A connection that is answered on out of turn, or has ended, is not used.
func TestPoison(t *testing.T) {
	f := func(name, behind, expected string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			sent := make(chan struct{})
			b := live(t, gatehouse.Backend{Timeouts: brief}, backend(t, func(n int, p *peer) {
				for p.request() != "" {
					p.send(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d", n))
					if n == 1 {
						p.send(behind)
						sent <- struct{}{}
						if behind == "" {
							return
						}
					}
				}
			}))
			var resp Response
			if err := b.Do(get(), &resp); err != nil {
				t.Fatal(err)
			}
			body := make([]byte, 1)
			if _, err := io.ReadFull(&resp, body); err != nil {
				t.Fatal(err)
			}
			<-sent
			settle(t, &resp)
			want(t, outcome(b, get()), expected)
		})
	}
	f("unasked answer", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON", `200 "2" attempts=1`)
	f("stray bytes", "\r\n", `200 "2" attempts=1`)
	f("end", "", `200 "2" attempts=1`)
}

// settle releases resp when what the backend did behind the answer has come
// to the socket.
func settle(t *testing.T, resp *Response) {
	t.Helper()
	c := resp.conn
	resp.Release()
	c.idleFor = time.Hour
	for deadline := time.Now().Add(5 * time.Second); c.usable(c.clock.now()); {
		if time.Now().After(deadline) {
			t.Fatal("the connection still looks usable")
		}
	}
}

// A connection that the backend closed while it was idle costs no request,
// whatever the retry rules, unless the request may have been acted upon.
func TestStale(t *testing.T) {
	f := func(name string, req *Request, expected string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			b := live(t, gatehouse.Backend{Timeouts: brief}, backend(t, func(n int, p *peer) {
				p.request()
				p.send(ok)
				if n == 1 {
					// The request is read, so the connection looked fine.
					p.request()
					return
				}
				for p.request() != "" {
					p.send(ok)
				}
			}))
			want(t, outcome(b, get()), `200 "ok" attempts=1`)
			want(t, outcome(b, req), expected)
		})
	}
	f("repeatable", get(), `200 "ok" attempts=2`)
	f("not idempotent", &Request{Head: get().Head}, `GH-FW-001 connection_terminated attempts=1`)
	f("with body", post("x"), `GH-FW-001 connection_terminated attempts=1`)

	put := post("x")
	put.Idempotent = true
	f("idempotent with body", put, `GH-FW-001 connection_terminated attempts=1`)
}

// A backend that ends every connection after the request gets it once more.
func TestStaleOnce(t *testing.T) {
	b := live(t, gatehouse.Backend{Timeouts: brief}, backend(t, func(n int, p *peer) {
		if n == 1 {
			p.request()
			p.send(ok)
		}
		p.request()
	}))
	want(t, outcome(b, get()), `200 "ok" attempts=1`)
	want(t, outcome(b, get()), `GH-FW-001 connection_terminated attempts=2`)
}

// When one idle connection was dead, so may be the others: the second try has
// a new one.
func TestStaleTogether(t *testing.T) {
	b := live(t, gatehouse.Backend{}, backend(t, func(n int, p *peer) {
		p.request()
		p.send(ok)
		p.request()
		if n > 2 {
			p.send(ok)
		}
	}))
	first, second := held(t, b), held(t, b)
	first.Release()
	second.Release()
	want(t, outcome(b, get()), `200 "ok" attempts=2`)
}

// Bytes behind an answer, in the same segment, end the connection.
func TestLeftover(t *testing.T) {
	f := func(answer, body string) {
		t.Helper()
		b := live(t, gatehouse.Backend{}, backend(t, func(n int, p *peer) {
			for p.request() != "" {
				p.send(answer)
			}
		}))
		for range 2 {
			want(t, outcome(b, get()), fmt.Sprintf("200 %q attempts=1", body))
		}
		if n := b.Stats().Endpoints[0].Dials; n != 2 {
			t.Errorf("%q: %d dials", answer, n)
		}
	}
	f(ok+"x", "ok")
	f("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"+ok, "")
	f("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"+ok, "")
	f("HTTP/1.1 200 OK\r\nConnection: keep-alive, Close\r\nContent-Length: 2\r\n\r\nok", "ok")
	f("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", "ok")
}

// The answer to HEAD has no body, whatever it says.
func TestHead(t *testing.T) {
	b := live(t, gatehouse.Backend{}, backend(t, always("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")))
	req := &Request{Head: []byte("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"), IsHead: true, Idempotent: true}
	for range 3 {
		want(t, outcome(b, req), `200 "" attempts=1`)
	}
	if n := b.Stats().Endpoints[0].Dials; n != 1 {
		t.Errorf("%d dials", n)
	}
}

// A body that is not read closes the connection; one received entirely need
// not be read.
func TestRelease(t *testing.T) {
	f := func(answer string, dials uint64) {
		t.Helper()
		b := live(t, gatehouse.Backend{}, backend(t, always(answer)))
		for range 2 {
			var resp Response
			if err := b.Do(get(), &resp); err != nil {
				t.Fatal(err)
			}
			resp.Release()
			resp.Release()
			if _, err := resp.Read(make([]byte, 1)); !errors.Is(err, errClosed) {
				t.Errorf("Read after Release: %v", err)
			}
		}
		if n := b.Stats().Endpoints[0].Dials; n != dials {
			t.Errorf("%q: %d dials, want %d", clip([]byte(answer)), n, dials)
		}
	}
	f(ok, 1)
	f("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"+strings.Repeat("x", 100000), 2)
	f("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 2)
}

// Abort breaks a request that waits, also on an endpoint that was retired.
func TestAbort(t *testing.T) {
	f := func(retire bool) {
		t.Helper()
		asked := make(chan struct{})
		c := client(t, Config{})
		b := version(t, c, nil, gatehouse.Backend{}, backend(t, func(_ int, p *peer) {
			p.request()
			close(asked)
			p.hold()
		}))
		done := make(chan string)
		go func() { done <- outcome(b, get()) }()
		<-asked
		if retire {
			b.Retire()
		}
		c.Close()
		c.Abort()
		want(t, <-done, `GH-FW-001 connection_terminated attempts=1`)
	}
	f(false)
	f(true)
}
