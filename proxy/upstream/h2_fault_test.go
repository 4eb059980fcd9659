package upstream

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// The frames and flags of RFC 9113, section 6, that tests use.
const (
	dataFrame = iota
	headersFrame
	_
	resetFrame
	settingsFrame
	_
	pingFrame
	goAwayFrame

	endStream  = 1
	endHeaders = 4
	ack        = 1
)

// status200 is ":status: 200" in HPACK.
const status200 = "\x88"

// framed is a connection of HTTP/2 as a backend sees it.
type framed struct{ *peer }

func (f framed) frame(kind, flags byte, stream uint32, payload string) {
	b := []byte{byte(len(payload) >> 16), byte(len(payload) >> 8), byte(len(payload)), kind, flags}
	b = binary.BigEndian.AppendUint32(b, stream)
	_, _ = f.Write(append(b, payload...))
}

func code(n uint32) string { return string(binary.BigEndian.AppendUint32(nil, n)) }

func (f framed) reset(stream, reason uint32) { f.frame(resetFrame, 0, stream, code(reason)) }

func (f framed) goAway(last, reason uint32) { f.frame(goAwayFrame, 0, 0, code(last)+code(reason)) }

// answer is 200 and a body.
func (f framed) answer(stream uint32, body string) {
	f.frame(headersFrame, endHeaders, stream, status200)
	f.frame(dataFrame, endStream, stream, body)
}

// rawH2 reads a connection's frames and calls got for those of streams. It
// ends when got says so, or the connection does.
func rawH2(t testing.TB, got func(n int, f framed, kind byte, stream uint32) (over bool)) string {
	return backend(t, func(n int, p *peer) {
		f := framed{p}
		if _, err := p.r.Discard(len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")); err != nil {
			return
		}
		f.frame(settingsFrame, 0, 0, "")
		var head [9]byte
		for {
			if _, err := io.ReadFull(p.r, head[:]); err != nil {
				return
			}
			payload := make([]byte, int(head[0])<<16|int(head[1])<<8|int(head[2]))
			if _, err := io.ReadFull(p.r, payload); err != nil {
				return
			}
			kind, stream := head[3], binary.BigEndian.Uint32(head[5:])
			switch {
			case kind == settingsFrame && head[4]&ack == 0:
				f.frame(settingsFrame, ack, 0, "")
			case kind == pingFrame && stream == 0 && got(n, f, kind, 0):
				return
			case kind == pingFrame:
			case stream != 0 && got(n, f, kind, stream):
				return
			}
		}
	})
}

// What a backend may do to a stream, and what becomes of the request.
func TestH2Faults(t *testing.T) {
	f := func(name string, req func() *Request, on func(n int, f framed, stream uint32) bool, expected string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := liveH2(t, gatehouse.Backend{Timeouts: brief}, rawH2(t, func(n int, f framed, kind byte, stream uint32) bool {
				return kind == headersFrame && on(n, f, stream)
			}))
			want(t, outcome(b, req()), expected)
			if s := b.Stats(); s.Live != 0 || s.Endpoints[0].InFlight != 0 || s.Endpoints[0].Waiting != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
	unsafe := func() *Request { return &Request{Head: get().Head} }
	second := func(then func(f framed, stream uint32)) func(int, framed, uint32) bool {
		return func(n int, f framed, stream uint32) bool {
			if n == 2 {
				f.answer(stream, "ok")
			} else {
				then(f, stream)
			}
			return false
		}
	}
	const (
		noError, internalError, refused, cancel = 0, 2, 7, 8
		terminated                              = "GH-FW-001 connection_terminated attempts=1"
		incomplete                              = `200 "ab" GH-FW-003 http_response_incomplete attempts=1`
	)
	f("refused", unsafe, second(func(f framed, s uint32) { f.reset(s, refused) }), `200 "ok" attempts=2`)
	f("refused twice", unsafe, func(_ int, f framed, s uint32) bool { f.reset(s, refused); return false },
		"GH-FW-001 connection_terminated attempts=2")
	f("left out of GOAWAY", unsafe, second(func(f framed, _ uint32) { f.goAway(0, noError) }), `200 "ok" attempts=2`)
	f("GOAWAY with an error", get, second(func(f framed, _ uint32) { f.goAway(0, internalError) }), terminated)
	f("GOAWAY behind the request", get, func(_ int, f framed, s uint32) bool {
		f.goAway(s, noError)
		f.answer(s, "ok")
		return false
	}, `200 "ok" attempts=1`)
	f("reset", get, func(_ int, f framed, s uint32) bool { f.reset(s, cancel); return false }, terminated)
	f("end", get, func(int, framed, uint32) bool { return true }, terminated)
	f("reset in the body", get, func(_ int, f framed, s uint32) bool {
		f.frame(headersFrame, endHeaders, s, status200)
		f.frame(dataFrame, 0, s, "ab")
		f.reset(s, internalError)
		return false
	}, incomplete)
	f("reset without an error in the body", get, func(_ int, f framed, s uint32) bool {
		f.frame(headersFrame, endHeaders, s, status200)
		f.frame(dataFrame, 0, s, "ab")
		f.reset(s, noError)
		return false
	}, incomplete)
	f("end in the body", get, func(_ int, f framed, s uint32) bool {
		f.frame(headersFrame, endHeaders, s, status200)
		f.frame(dataFrame, 0, s, "ab")
		return true
	}, incomplete)
	f("longer than its length", get, func(_ int, f framed, s uint32) bool {
		f.frame(headersFrame, endHeaders, s, status200+"\x5c\x012") // content-length: 2
		f.frame(dataFrame, endStream, s, "abc")
		return false
	}, incomplete)
	f("shorter than its length", get, func(_ int, f framed, s uint32) bool {
		f.frame(headersFrame, endHeaders, s, status200+"\x5c\x013")
		f.frame(dataFrame, endStream, s, "ab")
		return false
	}, incomplete)
	f("stop of the request behind the answer", func() *Request { return chunkedPost(endless{}) }, func(_ int, f framed, s uint32) bool {
		f.answer(s, "ok")
		f.reset(s, noError)
		return false
	}, `200 "ok" attempts=1`)
	f("no status", get, func(_ int, f framed, s uint32) bool {
		f.frame(headersFrame, endHeaders|endStream, s, "\x5c\x012")
		return false
	}, "GH-FW-003 http_protocol_error attempts=1")
	f("status of 1000", get, func(_ int, f framed, s uint32) bool {
		f.frame(headersFrame, endHeaders|endStream, s, "\x08\x041000")
		return false
	}, "GH-FW-003 http_protocol_error attempts=1")
	f("101", get, func(_ int, f framed, s uint32) bool {
		f.frame(headersFrame, endHeaders, s, "\x08\x03101")
		return false
	}, "GH-FW-003 http_upgrade_failed attempts=1")
	f("control character", get, func(_ int, f framed, s uint32) bool {
		f.frame(headersFrame, endHeaders|endStream, s, status200+"\x00\x01a\x03b\rc")
		return false
	}, "GH-FW-003 http_protocol_error attempts=1")
	f("upper-case name", get, func(_ int, f framed, s uint32) bool {
		f.frame(headersFrame, endHeaders|endStream, s, status200+"\x00\x01A\x01b")
		return false
	}, "GH-FW-003 http_protocol_error attempts=1")
	f("broken frame", get, func(_ int, f framed, s uint32) bool {
		f.frame(settingsFrame, 0, s, "")
		return false
	}, "GH-FW-003 http_protocol_error attempts=1")
	f("no answer", get, func(int, framed, uint32) bool { return false }, "GH-FW-002 http_response_timeout attempts=1")
}

// A request of which the body was begun is not made again.
func TestH2RefusedBody(t *testing.T) {
	b := liveH2(t, gatehouse.Backend{Timeouts: brief}, rawH2(t, func(n int, f framed, kind byte, stream uint32) bool {
		if kind == dataFrame {
			f.reset(stream, 7)
		}
		return false
	}))
	want(t, outcome(b, post("abc")), "GH-FW-001 connection_terminated attempts=1")
}

// A backend of HTTP/1.1, and one that says nothing.
func TestH2NotSpoken(t *testing.T) {
	b := liveH2(t, gatehouse.Backend{Timeouts: brief}, backend(t, func(_ int, p *peer) {
		p.send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		p.hold()
	}))
	want(t, outcome(b, get()), "GH-FW-003 http_protocol_error attempts=1")
	b = liveH2(t, gatehouse.Backend{Timeouts: gatehouse.Timeouts{Connect: seconds(0.3)}}, backend(t, func(_ int, p *peer) { p.hold() }))
	want(t, outcome(b, get()), "GH-FW-002 connection_timeout attempts=1")
	b = liveH2(t, gatehouse.Backend{Timeouts: brief}, backend(t, func(int, *peer) {}))
	want(t, outcome(b, get()), "GH-FW-001 connection_terminated attempts=1")
	b = liveH2(t, gatehouse.Backend{Timeouts: brief}, refusing(t))
	want(t, outcome(b, get()), "GH-FW-001 connection_refused attempts=1")
	want(t, outcome(b, upgradeTo("x")), "GH-FW-001 connection_refused attempts=1")
	_, err := b.Upgrade(upgradeTo("x"), &Response{})
	want(t, failureText(err), "GH-FW-003 http_upgrade_failed")
}

// A backend that hangs is found by a ping, whatever the first-byte timeout.
func TestH2Ping(t *testing.T) {
	var pings atomic.Int32
	doc := gatehouse.Backend{Timeouts: gatehouse.Timeouts{Idle: seconds(0.4), FirstByte: seconds(20)}}
	b := liveH2(t, doc, rawH2(t, func(_ int, _ framed, kind byte, _ uint32) bool {
		if kind == pingFrame {
			pings.Add(1)
		}
		return false
	}))
	start := time.Now()
	want(t, outcome(b, get()), "GH-FW-001 connection_terminated attempts=1")
	if waited := time.Since(start); waited > 5*time.Second || pings.Load() != 1 {
		t.Errorf("%d pings in %v", pings.Load(), waited)
	}
}

// A connection that ended while it was idle costs no request.
func TestH2Stale(t *testing.T) {
	f := func(name string, req *Request, then func(f framed, stream uint32) bool, expected string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			b := liveH2(t, gatehouse.Backend{Timeouts: brief}, rawH2(t, func(n int, f framed, kind byte, stream uint32) bool {
				switch {
				case kind != headersFrame:
				case n == 1 && stream > 1:
					return then(f, stream)
				default:
					f.answer(stream, fmt.Sprint(n))
				}
				return false
			}))
			want(t, outcome(b, get()), `200 "1" attempts=1`)
			want(t, outcome(b, req), expected)
		})
	}
	over := func(framed, uint32) bool { return true }
	f("repeatable", get(), over, `200 "2" attempts=2`)
	f("not idempotent", &Request{Head: get().Head}, over, "GH-FW-001 connection_terminated attempts=1")
	f("with body", post("x"), over, "GH-FW-001 connection_terminated attempts=1")
	leave := func(f framed, _ uint32) bool { f.goAway(1, 0); return false }
	f("not idempotent, left out", &Request{Head: get().Head}, leave, `200 "2" attempts=2`)
}

// The client's failure is told from the backend's, before the answer and in it.
func TestH2RequestBodyFails(t *testing.T) {
	for _, early := range []bool{false, true} {
		b := liveH2(t, gatehouse.Backend{Timeouts: brief}, rawH2(t, func(_ int, f framed, kind byte, stream uint32) bool {
			if kind == headersFrame && early {
				f.frame(headersFrame, endHeaders, stream, status200)
			}
			return false
		}))
		body := io.MultiReader(strings.NewReader("abc"), pause(100*time.Millisecond), failing{})
		expected := "GH-AD-001 http_request_error request-body attempts=1"
		if early {
			expected = `200 "" ` + expected
		}
		want(t, outcome(b, chunkedPost(body)), expected)
		want(t, outcome(b, &Request{
			Head: chunkedPost(nil).Head, BodyLength: 10,
			Body: io.MultiReader(strings.NewReader("abc"), pause(100*time.Millisecond)),
		}), expected)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrClosedPipe }

// The client is asked for while the backend is silent, and then the stream is
// reset, not the connection.
func TestH2Gone(t *testing.T) {
	for _, begun := range []bool{false, true} {
		resets := make(chan uint32, 10)
		b := liveH2(t, gatehouse.Backend{}, rawH2(t, func(_ int, f framed, kind byte, stream uint32) bool {
			switch {
			case kind == resetFrame:
				resets <- stream
			case kind == headersFrame && begun:
				f.frame(headersFrame, endHeaders, stream, status200)
				f.frame(dataFrame, 0, stream, "ab")
			}
			return false
		}))
		for _, req := range []*Request{get(), chunkedPost(pauseCloser{make(chan struct{})})} {
			start := time.Now()
			req.Gone = func() bool { return time.Since(start) > 300*time.Millisecond }
			expected := "GH-AD-001 client_gone gone attempts=1"
			if begun {
				expected = `200 "ab" ` + expected
			}
			want(t, outcome(b, req), expected)
			<-resets
		}
		if s := b.Stats().Endpoints[0]; s.Dials != 1 || s.InFlight != 0 {
			t.Errorf("%+v", s)
		}
	}
}

// pauseCloser is a client that sends nothing.
type pauseCloser struct{ closed chan struct{} }

func (p pauseCloser) Read([]byte) (int, error) { <-p.closed; return 0, io.EOF }
func (p pauseCloser) Close() error             { close(p.closed); return nil }

// A backend that takes no more of a body is a timeout of its own.
func TestH2WriteTimeout(t *testing.T) {
	b := liveH2(t, gatehouse.Backend{Timeouts: brief}, rawH2(t, func(_ int, f framed, kind byte, _ uint32) bool {
		if kind == pingFrame {
			return false
		}
		return false
	}))
	want(t, outcome(b, chunkedPost(endless{})), "GH-FW-002 connection_write_timeout attempts=1")
}
