package upstream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http/httputil"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/gatehouse-gateway/gatehouse"
)

// inMemory returns a backend whose connections all run serve.
func inMemory(t testing.TB, doc gatehouse.Backend, serve func(p *peer)) (*Backend, func()) {
	w := newWire()
	w.handle("app:80", serve)
	c := New(Config{Dial: w.dial})
	return version(t, c, nil, doc, "http://app"), func() {
		c.Close()
		w.all.Wait()
	}
}

func TestChunks(t *testing.T) {
	f := func(body, expected string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			b, end := inMemory(t, gatehouse.Backend{Timeouts: brief}, func(p *peer) {
				p.request()
				p.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
				p.hold()
			})
			defer end()
			want(t, outcome(b, get()), "200 "+expected+" attempts=1")
		})
	}
	const (
		coding  = " GH-FW-003 http_response_transfer_coding"
		syntax  = " GH-FW-003 http_protocol_error"
		trailer = " GH-FW-003 http_response_trailer_section_size"
	)
	f("0\r\n\r\n", `""`)
	f("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", `"abcde"`)
	f("00003\r\nabc\r\n000\r\n\r\n", `"abc"`)
	f("a\r\n0123456789\r\n0\r\n\r\n", `"0123456789"`)
	f("A;x=y\r\n0123456789\r\n0 ; z=\"\t\"\r\n\r\n", `"0123456789"`)
	f("1\r\nx\r\n0\r\nDigest: abc\r\nB: c\r\n\r\n", `"x"`)

	f("\r\n", `""`+coding)
	f("g\r\n", `""`+coding)
	f("-1\r\n", `""`+coding)
	f("0x1\r\nx\r\n", `""`+coding)
	f("+1\r\nx\r\n", `""`+coding)
	f(" 1\r\nx\r\n", `""`+coding)
	f("1 \r\nx\r\n", `""`+coding)
	f("1\x00\r\nx\r\n", `""`+coding)
	f("\x11\r\nx\r\n", `""`+coding)
	f("1;\x00\r\nx\r\n", `""`+coding)
	f("1;a\rb\r\nx\r\n", `""`+coding)
	f("1000000000000000\r\n", `""`+coding)
	f(strings.Repeat("0", 16)+"1\r\nx\r\n", `""`+coding)
	f("1;"+strings.Repeat("x", maxLine)+"\r\nx", `""`+coding)
	f("1;"+strings.Repeat("x", 8*maxLine), `""`+coding)
	f("1\nx\r\n0\r\n\r\n", `""`+syntax)
	f("1\r\nx\n0\r\n\r\n", `"x"`+coding)
	f("1\r\nx0\r\n\r\n", `"x"`+coding)
	f("1\r\nx\rX", `"x"`+coding)
	f(strings.Repeat("1;"+strings.Repeat("e", 500)+"\r\nx\r\n", 100), `"`+strings.Repeat("x", 33)+`"`+coding)

	f("0\r\nA\r\n\r\n", `""`+syntax)
	f("0\r\n A: b\r\n\r\n", `""`+syntax)
	f("0\r\nA: b\n\r\n", `""`+syntax)
	f("0\r\n"+strings.Repeat("A: "+strings.Repeat("x", 1000)+"\r\n", 17)+"\r\n", `""`+trailer)
}

// Whatever a body is, however the backend cuts it and the caller reads it,
// the caller gets the body, and the connection serves again.
func TestBodyIsPreserved(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		body := bytes.Repeat([]byte("0123456789abcdef"), rapid.IntRange(0, 2000).Draw(rt, "size"))
		body = body[:max(len(body)-rapid.IntRange(0, 15).Draw(rt, "odd"), 0)]
		padding := rapid.SampledFrom([]int{0, 1000, 2000, 4000, 4060, 10000}).Draw(rt, "padding")
		var answer bytes.Buffer
		fmt.Fprintf(&answer, "HTTP/1.1 200 OK\r\nPadding: %s\r\n", strings.Repeat("p", padding))
		chunked := rapid.Bool().Draw(rt, "chunked")
		if chunked {
			answer.WriteString("Transfer-Encoding: chunked\r\n\r\n")
			w := httputil.NewChunkedWriter(&answer)
			for rest := body; len(rest) > 0; {
				n := rapid.IntRange(1, min(len(rest), 9000)).Draw(rt, "chunk")
				_, _ = w.Write(rest[:n])
				rest = rest[n:]
			}
			w.Close()
			answer.WriteString("\r\n")
		} else {
			fmt.Fprintf(&answer, "Content-Length: %d\r\n\r\n", len(body))
			answer.Write(body)
		}
		piece := rapid.IntRange(1+answer.Len()/200, answer.Len()).Draw(rt, "piece")
		b, end := inMemory(t, gatehouse.Backend{}, func(p *peer) {
			for p.request() != "" {
				for rest := answer.Bytes(); len(rest) > 0; {
					n := min(piece, len(rest))
					p.send(string(rest[:n]))
					rest = rest[n:]
				}
			}
		})
		defer end()
		var resp Response
		for range 2 {
			if err := b.Do(get(), &resp); err != nil {
				rt.Fatal(err)
			}
			limit := rapid.SampledFrom([]int{0, 1 << 20}).Draw(rt, "limit")
			got, all, err := resp.Whole(limit)
			if err == nil && !all {
				got, err = readBy(&resp, rapid.IntRange(1, 5000).Draw(rt, "read"))
			}
			if err != nil || !bytes.Equal(got, body) {
				rt.Fatalf("%d bytes of %d: %v", len(got), len(body), err)
			}
			if all == chunked && limit > 0 {
				rt.Fatalf("Whole says %v", all)
			}
			if len(resp.Fields) != 2 || len(resp.Fields[0].Value) != padding || count(resp.Fields[0].Value, 'p') != padding {
				rt.Fatalf("the fields have changed")
			}
			resp.Release()
		}
		if n := b.Stats().Endpoints[0].Dials; n != 1 {
			rt.Fatalf("%d dials", n)
		}
	})
}

func readBy(r io.Reader, n int) (all []byte, err error) {
	p := make([]byte, n)
	for {
		n, err := r.Read(p)
		all = append(all, p[:n]...)
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, err
		}
	}
}

func TestBuffered(t *testing.T) {
	b := live(t, gatehouse.Backend{}, backend(t, always(ok)))
	for range 2 {
		var resp Response
		if err := b.Do(get(), &resp); err != nil {
			t.Fatal(err)
		}
		if resp.ContentLength != 2 || string(resp.Buffered()) != "ok" || string(resp.Buffered()) != "ok" {
			t.Errorf("%d %q", resp.ContentLength, resp.Buffered())
		}
		resp.Release()
	}
	if n := b.Stats().Endpoints[0].Dials; n != 1 {
		t.Errorf("%d dials", n)
	}
}

// readBody reads what a request's head says follows it.
func (p *peer) readBody(head string) ([]byte, error) {
	if strings.Contains(head, "chunked") {
		body, err := io.ReadAll(httputil.NewChunkedReader(p.r))
		if err == nil {
			_, err = p.r.Discard(len("\r\n"))
		}
		return body, err
	}
	_, length, _ := strings.Cut(head, "Content-Length: ")
	length, _, _ = strings.Cut(length, "\r\n")
	n, _ := strconv.Atoi(length)
	body := make([]byte, n)
	_, err := io.ReadFull(p.r, body)
	return body, err
}

// checksum answers with the length of each request's body and its last byte.
func checksum(_ int, p *peer) {
	for {
		head := p.request()
		if head == "" {
			return
		}
		body, err := p.readBody(head)
		if err != nil {
			return
		}
		s := fmt.Sprintf("%d %s", len(body), body[max(len(body)-1, 0):])
		p.send(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(s), s))
	}
}

func chunkedPost(body io.Reader) *Request {
	return &Request{
		Head: []byte("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"),
		Body: body, BodyLength: -1,
	}
}

func TestRequestBody(t *testing.T) {
	b := live(t, gatehouse.Backend{}, backend(t, checksum))
	for _, n := range []int{0, 1, 1000, 16 << 10, 16<<10 + 1, 40 << 10, 1 << 20} {
		body := strings.Repeat("x", max(n-1, 0)) + "y"[:min(n, 1)]
		expected := fmt.Sprintf(`200 "%d %s" attempts=1`, n, "y"[:min(n, 1)])
		want(t, outcome(b, post(body)), expected)
		want(t, outcome(b, chunkedPost(strings.NewReader(body))), expected)
		want(t, outcome(b, chunkedPost(iotest.DataErrReader(strings.NewReader(body)))), expected)
		if n < 50<<10 {
			want(t, outcome(b, chunkedPost(iotest.HalfReader(strings.NewReader(body)))), expected)
		}
	}
	if n := b.Stats().Endpoints[0].Dials; n != 1 {
		t.Errorf("%d dials", n)
	}
}

// The client's failure is told from the backend's.
func TestRequestBodyFails(t *testing.T) {
	f := func(body io.Reader, length int64) {
		t.Helper()
		b := live(t, gatehouse.Backend{}, backend(t, checksum))
		req := &Request{Head: fmt.Appendf(nil, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", length), Body: body, BodyLength: length}
		if length < 0 {
			req.Head = chunkedPost(nil).Head
		}
		got := outcome(b, req)
		if !strings.HasPrefix(got, "GH-AD-001 http_request_error request-body") {
			t.Errorf("got %s", got)
		}
		if s := b.Stats(); s.Live != 0 || s.Endpoints[0].Open != 0 || s.Endpoints[0].InFlight != 0 {
			t.Errorf("%+v", s)
		}
	}
	gone := errors.New("client gone")
	for _, n := range []int{10, 1 << 20} {
		short := strings.Repeat("x", n-1)
		f(strings.NewReader(short), int64(n))
		f(io.MultiReader(strings.NewReader(short), iotest.ErrReader(gone)), int64(n))
		f(io.MultiReader(strings.NewReader(short), iotest.ErrReader(gone)), -1)
	}
}

// endless is a client that never stops sending.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// A backend that refuses a body is heard at once, though the body goes on and
// though the backend reads none of it; its connection is not used again.
func TestEarlyAnswer(t *testing.T) {
	refusal := "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig"
	f := func(name string, req *Request, then func(p *peer, over <-chan struct{}), expected string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			over := make(chan struct{})
			b := live(t, gatehouse.Backend{}, backend(t, func(_ int, p *peer) {
				p.request()
				p.send(refusal)
				then(p, over)
			}))
			defer close(over)
			for range 2 {
				want(t, outcome(b, req), expected)
			}
			if n := b.Stats().Endpoints[0].Dials; n != 2 {
				t.Errorf("%d dials", n)
			}
		})
	}
	sized := &Request{Head: []byte("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000000\r\n\r\n"), Body: endless{}, BodyLength: 1e12}
	unsized := chunkedPost(endless{})
	for name, req := range map[string]*Request{"sized": sized, "unsized": unsized} {
		f(name+", unread", req, func(_ *peer, over <-chan struct{}) { <-over }, `413 "big" attempts=1`)
		f(name+", read", req, func(p *peer, _ <-chan struct{}) { p.hold() }, `413 "big" attempts=1`)
	}
}

// A backend that answers while it reads gets the whole body.
func TestEarlyAnswerGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var received atomic.Int64
		b, end := inMemory(t, gatehouse.Backend{}, func(p *peer) {
			for {
				head := p.request()
				if head == "" {
					return
				}
				p.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
				body, err := p.readBody(head)
				if err != nil {
					t.Error(err)
				}
				received.Store(int64(len(body)))
				p.send("done")
			}
		})
		defer end()
		body := strings.Repeat("x", 100_000)
		want(t, outcome(b, post(body)), `200 "done" attempts=1`)
		want(t, outcome(b, post(body)), `200 "done" attempts=1`)
		if received.Load() != int64(len(body)) || b.Stats().Endpoints[0].Dials != 1 {
			t.Errorf("received %d, %+v", received.Load(), b.Stats())
		}
	})
}

// The pauses between requests with large bodies do not matter.
func TestBodiesAfterPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, end := inMemory(t, gatehouse.Backend{}, func(p *peer) { checksum(1, p) })
		defer end()
		for range 5 {
			want(t, outcome(b, post(strings.Repeat("x", 100_000))), `200 "100000 x" attempts=1`)
			<-time.After(stall + time.Second)
		}
	})
}

// A refusal is heard while a write waits for the backend to read.
func TestLateRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		over := make(chan struct{})
		b, end := inMemory(t, gatehouse.Backend{}, func(p *peer) {
			p.request()
			<-time.After(5 * time.Second)
			p.send("HTTP/1.1 429 Too Many Requests\r\nContent-Length: 4\r\n\r\nslow")
			<-over
		})
		defer end()
		defer close(over)
		start := time.Now()
		want(t, outcome(b, chunkedPost(endless{})), `429 "slow" attempts=1`)
		if waited := time.Since(start); waited != 5*time.Second {
			t.Errorf("waited %v", waited)
		}
	})
}

// A small body that is refused unread, with a reset behind the refusal.
func TestRefusalAndReset(t *testing.T) {
	b := live(t, gatehouse.Backend{}, backend(t, func(_ int, p *peer) {
		p.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig")
	}))
	want(t, outcome(b, post(strings.Repeat("x", 16<<10))), `413 "big" attempts=1`)
	want(t, outcome(b, post(strings.Repeat("x", 1<<20))), `413 "big" attempts=1`)
}

// A backend that wants its answer read before it reads the request does not
// lock up with us.
func TestNoDeadlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, end := inMemory(t, gatehouse.Backend{}, func(p *peer) {
			p.request()
			p.send("HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + strings.Repeat("y", 200_000))
			p.hold()
		})
		defer end()
		start := time.Now()
		want(t, outcome(b, post(strings.Repeat("x", 100_000))), fmt.Sprintf("200 %q attempts=1", strings.Repeat("y", 40)))
		// A write's deadline is armed lazily: it may be a quarter late.
		if waited := time.Since(start); waited < stall || waited > stall*5/4 {
			t.Errorf("waited %v", waited)
		}
		if open := b.Stats().Endpoints[0].Open; open != 0 {
			t.Errorf("%d open", open)
		}
	})
}

// A backend that stops reading is a timeout of its own.
func TestWriteTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stop := make(chan struct{})
		b, end := inMemory(t, gatehouse.Backend{Timeouts: gatehouse.Timeouts{Idle: seconds(8)}}, func(p *peer) {
			p.request()
			<-stop
		})
		defer end()
		defer close(stop)
		start := time.Now()
		want(t, outcome(b, post(strings.Repeat("x", 100_000))), `GH-FW-002 connection_write_timeout attempts=1`)
		if waited := time.Since(start); waited < 8*time.Second || waited > 10*time.Second {
			t.Errorf("waited %v", waited)
		}
	})
}

// The time that the client takes to send its body is not the backend's.
func TestSlowClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, end := inMemory(t, gatehouse.Backend{Timeouts: brief}, func(p *peer) { checksum(1, p) })
		defer end()
		want(t, outcome(b, post("x")), `200 "1 x" attempts=1`)
		slow := io.MultiReader(strings.NewReader("a"), pause(time.Hour), strings.NewReader("b"))
		want(t, outcome(b, chunkedPost(slow)), `200 "2 b" attempts=1`)
	})
}

type pause time.Duration

func (p pause) Read([]byte) (int, error) {
	<-time.After(time.Duration(p))
	return 0, io.EOF
}

// Deadlines hold exactly, though they are armed lazily: a connection in use
// for long keeps each phase's time.
func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		delay := 0 * time.Second
		b, end := inMemory(t, gatehouse.Backend{Timeouts: gatehouse.Timeouts{FirstByte: seconds(10), Idle: seconds(20)}}, func(p *peer) {
			for p.request() != "" {
				<-time.After(delay)
				p.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n")
				<-time.After(2 * delay)
				p.send("x")
			}
		})
		defer end()
		// The second answer comes after the deadline that the first left behind.
		want(t, outcome(b, get()), `200 "x" attempts=1`)
		<-time.After(4 * time.Second)
		delay = 9 * time.Second
		want(t, outcome(b, get()), `200 "x" attempts=1`)
		for range 10 {
			delay = 9 * time.Second
			want(t, outcome(b, get()), `200 "x" attempts=1`)
			delay = 100 * time.Millisecond
			want(t, outcome(b, get()), `200 "x" attempts=1`)
		}
		delay = 11 * time.Second
		start := time.Now()
		want(t, outcome(b, get()), `GH-FW-002 http_response_timeout attempts=1`)
		if waited := time.Since(start); waited != 10*time.Second {
			t.Errorf("waited %v for the first byte", waited)
		}
	})
}
