package upstream

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gatehouse-gateway/gatehouse"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// peer is a connection as a backend sees it.
type peer struct {
	net.Conn
	r *bufio.Reader
}

// request reads one header section; "" at the connection's end.
func (p *peer) request() string {
	var b strings.Builder
	for {
		line, err := p.r.ReadString('\n')
		if err != nil {
			return ""
		}
		b.WriteString(line)
		if line == "\r\n" {
			return b.String()
		}
	}
}

func (p *peer) send(s string) { _, _ = io.WriteString(p, s) }

// reset makes Close send RST.
func (p *peer) reset() { _ = p.Conn.(*net.TCPConn).SetLinger(0) }

// hold waits for the other side to close.
func (p *peer) hold() { _, _ = io.Copy(io.Discard, p.r) }

// backend listens on loopback and runs serve for each connection, which is
// numbered from 1 and closed when serve returns.
func backend(t testing.TB, serve func(n int, p *peer)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return "http://" + serveOn(t, l, serve)
}

func serveOn(t testing.TB, l net.Listener, serve func(n int, p *peer)) string {
	var all sync.WaitGroup
	var accepted []net.Conn // owned by the goroutine that accepts
	all.Go(func() {
		for n := 1; ; n++ {
			c, err := l.Accept()
			if err != nil {
				for _, c := range accepted {
					c.Close()
				}
				return
			}
			accepted = append(accepted, c)
			all.Go(func() {
				defer c.Close()
				serve(n, &peer{c, bufio.NewReader(c)})
			})
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
	return l.Addr().String()
}

// always answers every request of every connection alike.
func always(answer string) func(int, *peer) {
	return func(_ int, p *peer) {
		for p.request() != "" {
			p.send(answer)
		}
	}
}

const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// refusing is the URL of an endpoint where nothing listens.
func refusing(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String()
}

func client(t testing.TB, cfg Config) *Client {
	c := New(cfg)
	t.Cleanup(c.Close)
	return c
}

// live makes a backend of its own client.
func live(t testing.TB, doc gatehouse.Backend, urls ...string) *Backend {
	t.Helper()
	return version(t, client(t, Config{}), nil, doc, urls...)
}

func version(t testing.TB, c *Client, prev *Backend, doc gatehouse.Backend, urls ...string) *Backend {
	t.Helper()
	doc.ID = "app"
	for _, u := range urls {
		doc.Endpoints = append(doc.Endpoints, gatehouse.Endpoint{URL: u})
	}
	b, err := c.Backend("acme", doc, prev)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func get() *Request {
	return &Request{Head: []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), Idempotent: true}
}

func post(body string) *Request {
	return &Request{
		Head:       fmt.Appendf(nil, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", len(body)),
		Body:       strings.NewReader(body),
		BodyLength: int64(len(body)),
	}
}

// outcome does a request and tells all about it in one line: status and body,
// or code and token, and how many attempts it took.
func outcome(b *Backend, req *Request) string {
	var resp Response
	if err := b.Do(req, &resp); err != nil {
		return failureText(err) + fmt.Sprintf(" attempts=%d", resp.Attempts)
	}
	defer resp.Release()
	body, err := io.ReadAll(&resp)
	s := fmt.Sprintf("%d %q", resp.Status, clip(body))
	if err != nil {
		s += " " + failureText(err)
	}
	return s + fmt.Sprintf(" attempts=%d", resp.Attempts)
}

func failureText(err error) string {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return "not an *Error: " + err.Error()
	}
	s := string(e.Code) + " " + e.Token
	if e.RequestBody {
		s += " request-body"
	}
	if e.ClientGone {
		s += " gone"
	}
	return s
}

func clip(b []byte) []byte { return b[:min(len(b), 40)] }

func want(t testing.TB, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// wire is a network in memory: Dial hands the other end to accept.
type wire struct {
	mu     sync.Mutex // guards accept and dials
	accept map[string]func(p *peer)
	dials  map[string]int
	all    sync.WaitGroup
}

func newWire() *wire {
	return &wire{accept: map[string]func(*peer){}, dials: map[string]int{}}
}

func (w *wire) handle(addr string, serve func(p *peer)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.accept[addr] = serve
}

func (w *wire) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dials[addr]++
	serve := w.accept[addr]
	if serve == nil {
		return nil, fmt.Errorf("nobody listens at %s", addr)
	}
	near, far := net.Pipe()
	w.all.Go(func() {
		defer far.Close()
		serve(&peer{far, bufio.NewReader(far)})
	})
	return near, nil
}

func seconds(n float64) gatehouse.Duration { return gatehouse.Duration(n * float64(time.Second)) }

func count(b []byte, c byte) int { return bytes.Count(b, []byte{c}) }
