package upstream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

var kibibyte = fmt.Sprintf("HTTP/1.1 200 OK\r\nDate: Mon, 23 Nov 2026 10:00:00 GMT\r\nContent-Type: application/json\r\n"+
	"Content-Length: 1024\r\n\r\n%s", strings.Repeat("x", 1024))

// echoless answers each request without allocating.
func echoless(answer string) func(int, *peer) {
	return func(_ int, p *peer) {
		r, out := bufio.NewReader(p), []byte(answer)
		for {
			line, err := r.ReadSlice('\n')
			if err != nil {
				return
			}
			if len(line) == 2 {
				_, _ = p.Write(out)
			}
		}
	}
}

func whole(t testing.TB, b *Backend, req *Request, resp *Response) {
	if err := b.Do(req, resp); err != nil {
		t.Fatal(err)
	}
	if body, all, err := resp.Whole(64 << 10); !all || len(body) != 1024 {
		t.Fatal(len(body), all, err)
	}
	resp.Release()
}

func TestAllocations(t *testing.T) {
	f := func(name string, b *Backend, do func(b *Backend, req *Request, resp *Response)) {
		t.Helper()
		req, resp := get(), &Response{}
		n := testing.AllocsPerRun(200, func() { do(b, req, resp) })
		// The race detector makes sync.Pool forget at random.
		if n != 0 && !raceEnabled {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	take := func(b *Backend, req *Request, resp *Response) { whole(t, b, req, resp) }
	f("loopback", live(t, gatehouse.Backend{}, backend(t, echoless(kibibyte))), take)
	f("three endpoints", live(t, gatehouse.Backend{Balance: gatehouse.LeastRequests},
		backend(t, echoless(kibibyte)), backend(t, echoless(kibibyte)), backend(t, echoless(kibibyte))), take)

	b, end := inMemory(t, gatehouse.Backend{}, func(p *peer) { echoless(kibibyte)(1, p) })
	f("in memory", b, take)
	end()

	p := make([]byte, 32<<10)
	chunks := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("400\r\n"+strings.Repeat("x", 1024)+"\r\n", 20) + "0\r\n\r\n"
	f("chunks", live(t, gatehouse.Backend{}, backend(t, echoless(chunks))), func(b *Backend, req *Request, resp *Response) {
		if err := b.Do(req, resp); err != nil {
			t.Fatal(err)
		}
		for {
			_, err := resp.Read(p)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		resp.Release()
	})

	f("with Gone and Interim", live(t, gatehouse.Backend{}, backend(t, echoless("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"+kibibyte))),
		func(b *Backend, req *Request, resp *Response) {
			req.Gone, req.Interim = stays, ignore
			whole(t, b, req, resp)
		})
	f("trailer", live(t, gatehouse.Backend{}, backend(t, echoless(strings.TrimSuffix(chunks, "\r\n")+"Digest: x\r\nB: c\r\n\r\n"))),
		func(b *Backend, req *Request, resp *Response) {
			if err := b.Do(req, resp); err != nil {
				t.Fatal(err)
			}
			for err := error(nil); err == nil; {
				_, err = resp.Read(p)
			}
			if len(resp.Trailer()) != 2 {
				t.Fatal(fieldText(resp.Trailer()))
			}
			resp.Release()
		})

	body := strings.NewReader("")
	req := post(strings.Repeat("x", 1000))
	f("small body", live(t, gatehouse.Backend{}, backend(t, func(_ int, p *peer) {
		in, out := make([]byte, 4096), []byte(kibibyte)
		for n := 0; ; {
			more, err := p.Read(in)
			if err != nil {
				return
			}
			if n += more; n == len(req.Head)+1000 {
				n = 0
				_, _ = p.Write(out)
			}
		}
	})), func(b *Backend, _ *Request, resp *Response) {
		body.Reset(kibibyte[len(kibibyte)-1000:])
		req.Body = body
		whole(t, b, req, resp)
	})
}

func stays() bool { return false }

func ignore(int, []Field) {}

func BenchmarkDo(b *testing.B) {
	run := func(name string, live *Backend) {
		b.Run(name, func(b *testing.B) {
			req, resp := get(), &Response{}
			whole(b, live, req, resp)
			b.ReportAllocs()
			for b.Loop() {
				whole(b, live, req, resp)
			}
		})
	}
	run("loopback", live(b, gatehouse.Backend{}, backend(b, echoless(kibibyte))))
	run("loopback HTTP2", liveH2(b, gatehouse.Backend{}, serveH2(b, h2Server{}, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, kibibyte[len(kibibyte)-1024:])
	})))

	far := &canned{answer: []byte(kibibyte)}
	c := client(b, Config{Dial: func(context.Context, string, string) (net.Conn, error) { return far, nil }})
	run("canned", version(b, c, nil, gatehouse.Backend{}, "http://app"))
}

// canned is a connection whose other end answers each write with the same
// bytes, at no cost: what remains is this client's own.
type canned struct {
	net.Conn
	answer, rest []byte
}

func (c *canned) Close() error                     { return nil }
func (c *canned) SetReadDeadline(time.Time) error  { return nil }
func (c *canned) SetWriteDeadline(time.Time) error { return nil }

func (c *canned) Write(p []byte) (int, error) {
	c.rest = c.answer
	return len(p), nil
}

func (c *canned) Read(p []byte) (int, error) {
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func BenchmarkParse(b *testing.B) {
	answer := []byte(kibibyte[:strings.Index(kibibyte, "xx")])
	var h head
	b.ReportAllocs()
	for b.Loop() {
		end, err := headEnd(answer, 0)
		if err != nil || h.parse(answer[:end]) != nil {
			b.Fatal(err)
		}
	}
}

// A choice and its report, in the states that a backend may be in.
func states(t testing.TB) map[string]*Backend {
	c := client(t, Config{Dial: nowhere})
	all := gatehouse.Backend{
		Balance: gatehouse.LeastRequests, SlowStart: gatehouse.Duration(1e3 * time.Hour),
		Circuit: gatehouse.Circuit{FailureRatio: 50 * 100, OpenFor: gatehouse.Duration(1e3 * time.Hour)},
	}
	slow := numbered(t, c, numbered(t, c, nil, all, 0, 1, 2), all, 0, 1, 2, 3)
	worn := numbered(t, c, nil, gatehouse.Backend{Outliers: gatehouse.Outliers{EjectFor: gatehouse.Duration(1e3 * time.Hour)}}, 0, 1, 2, 3)
	fail(worn, 0, 5)
	open := numbered(t, c, nil, all, 0, 1, 2, 3)
	fail(open, 0, 50)
	return map[string]*Backend{
		"one": numbered(t, c, nil, gatehouse.Backend{}, 0), "one circuit": numbered(t, c, nil, all, 0),
		"four": numbered(t, c, nil, gatehouse.Backend{}, 0, 1, 2, 3), "four, one ejected": worn,
		"four, one open": open, "four, one in slow start": slow,
	}
}

func TestChooseAllocations(t *testing.T) {
	for name, live := range states(t) {
		n := testing.AllocsPerRun(200, func() {
			ticket, err := live.choose(0, nil)
			if err != nil {
				t.Fatal(err)
			}
			live.report(ticket, failure{}, 200)
		})
		if n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkChoose(b *testing.B) {
	for name, live := range states(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				ticket, _ := live.choose(0, nil)
				live.report(ticket, failure{}, 200)
			}
		})
	}
}

func BenchmarkPick(b *testing.B) {
	for _, balance := range []gatehouse.Balance{gatehouse.RoundRobin, gatehouse.LeastRequests, gatehouse.ConsistentHash} {
		b.Run(string(balance), func(b *testing.B) {
			live := weighted(b, balance, 1, 2, 3, 4, 5, 6, 7, 8)
			b.ReportAllocs()
			for key := uint64(0); b.Loop(); key++ {
				live.pick(key, nil)
			}
		})
	}
}
