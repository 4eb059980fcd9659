package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/configs"
	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/proxy"
	"github.com/gatehouse-gateway/gatehouse/proxy/proxytest"
	"github.com/gatehouse-gateway/gatehouse/proxy/upstream"
)

// dialTCP opens a connection that does not outlive the test, nor ten seconds.
func dialTCP(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

// say writes text and fails the test where that cannot be.
func say(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

// total is what a tenant's usage says, but for the time it took.
func total(h *proxytest.Harness, tenant gatehouse.TenantID) metering.Counts {
	u := h.Meter.Usage(tenant, time.Now()).Total
	u.Compute = 0
	return u
}

// await receives from a backend, or fails.
func await[T any](t *testing.T, from <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(10 * time.Second):
		t.Fatal("still waiting for " + what)
	}
	return v
}

// faulty is a connection whose next read of what begins with "a" panics, where
// failing says so: a fault of the code that reads a body.
type faulty struct {
	net.Conn
	failing *atomic.Bool
}

func (c *faulty) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && p[0] == 'a' && c.failing.CompareAndSwap(true, false) {
		panic("a fault while a body is read")
	}
	return n, err
}

// A panic while an answer is written costs that answer only: the place among
// the tenant's requests is free again, nothing counts as in flight, the record
// is written, and the client does not take the answer for whole.
func TestPanicInAnswer(t *testing.T) {
	engine, err := proxytest.Engine()
	if err != nil {
		t.Fatal(err)
	}
	meter, err := metering.Open(metering.Options{})
	if err != nil {
		t.Fatal(err)
	}
	whole := strings.Repeat("x", 20000)
	var failing atomic.Bool
	var backends sync.WaitGroup
	defer backends.Wait()
	var access, operator bytes.Buffer
	cfg := proxy.DefaultConfig()
	cfg.Limits.PerTenant.Requests, cfg.Limits.PerTenant.Queue = 1, 0
	g, err := proxy.New(cfg, proxy.Parts{
		Engine: engine, Meter: meter, Access: &access, Log: slog.New(slog.NewTextHandler(&operator, nil)),
		Upstream: upstream.Config{Dial: func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			backends.Go(func() {
				defer far.Close()
				for readHead(far) {
					first, last := whole[0xabc:], whole[:0xabc]
					if _, err := fmt.Fprintf(far, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", len(first), first); err != nil {
						return
					}
					if _, err := fmt.Fprintf(far, "%x\r\n%s\r\n0\r\n\r\n", len(last), last); err != nil {
						return
					}
				}
			})
			return &faulty{near, &failing}, nil
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	end := sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := g.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	defer end()
	set := configs.Join(configs.Parse("test.yaml", []byte("tenants:"+one("a", "a.test", "a.app"))))
	if out := g.Apply(gatehouse.Update{Revision: 1, Full: true, Tenants: set.Document.Tenants}); len(out.Refused) > 0 {
		t.Fatal(out.Refused)
	}
	addr := listen(t, g.Serve)
	ask := func(version string) (string, error) {
		c := dialTCP(t, addr)
		say(t, c, "GET / HTTP/"+version+"\r\nHost: a.test\r\nConnection: close\r\n\r\n")
		return proxytest.ReadAnswer(bufio.NewReader(c), "GET")
	}
	overHTTP2 := func() string {
		answer, err := http2Client(t, addr, nil).Get("http://a.test/")
		return told(t, answer, err)
	}
	for _, version := range []string{"1.1", "1.0", "1.1"} {
		failing.Store(true)
		if answer, err := ask(version); err == nil {
			t.Errorf("the broken answer to HTTP/%s is whole:\n%.300s", version, answer)
		}
		if answer, err := ask(version); err != nil || status(answer) != "200" || !strings.HasSuffix(answer, whole) {
			t.Errorf("the next answer: %v\n%.300s", err, answer)
		}
	}
	failing.Store(true)
	if got := overHTTP2(); !strings.Contains(got, "stream error") {
		t.Errorf("the broken answer over HTTP/2:\n%.300s", got)
	}
	if got := overHTTP2(); !strings.HasPrefix(got, "HTTP/2.0 200") || !strings.HasSuffix(got, whole) {
		t.Errorf("the next answer over HTTP/2:\n%.300s", got)
	}
	end() // for a record is written after the answer
	g.FlushRecords()
	if n, bad := strings.Count(access.String(), "\n"), strings.Count(access.String(), `"code":"GH-IN-001"`); n != 8 || bad != 4 {
		t.Errorf("%d records, %d of failures, want 8 and 4:\n%s", n, bad, access.String())
	}
	if n := strings.Count(operator.String(), "a fault while a body is read"); n != 4 {
		t.Errorf("the operator was told %d times of 4", n)
	}
}

// An answer that breaks off and whose end is that of the connection does not
// end cleanly, over TLS as little as without.
func TestBrokenAnswerHasNoCleanEnd(t *testing.T) {
	folder := t.TempDir()
	authority := proxytest.NewAuthority(t, "test authority")
	authority.Install(folder, "a", "a.test")
	seen := make(chan struct{})
	h, addr := serveTCP(t, func(c net.Conn) {
		defer c.Close()
		if readHead(c) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
			<-seen // so that the answer has begun
		}
	}, func(c *proxy.Config) { c.TLS.Certificates = folder })
	secure := listen(t, h.Gateway.ServeTLS)
	f := func(name string, c net.Conn) {
		t.Helper()
		say(t, c, "GET / HTTP/1.0\r\nHost: a.test\r\n\r\n")
		r := bufio.NewReader(c)
		var begun strings.Builder
		for !strings.HasSuffix(begun.String(), "\r\n\r\nhello") {
			b, err := r.ReadByte()
			if err != nil {
				t.Fatalf("%s: %v after %q", name, err, begun.String())
			}
			begun.WriteByte(b)
		}
		seen <- struct{}{}
		if rest, err := io.ReadAll(r); err == nil || len(rest) > 0 {
			t.Errorf("%s: then %q and %v, want an error", name, rest, err)
		}
	}
	f("plain", dialTCP(t, addr))
	cfg := authority.Trust("a.test")
	cfg.NextProtos = []string{"http/1.1"}
	f("TLS 1.3", tls.Client(dialTCP(t, secure), cfg))
	cfg.MaxVersion = tls.VersionTLS12
	f("TLS 1.2", tls.Client(dialTCP(t, secure), cfg))
}

// A request body on its way to a backend of HTTP/2 is read while the answer is
// written, and neither disturbs the other, nor the next request.
func TestDuplexToHTTP2(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/after" {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				panic(http.ErrAbortHandler)
			}
			_, _ = w.Write(body)
			return
		}
		_ = http.NewResponseController(w).Flush()
		_, _ = io.Copy(w, r.Body)
	}))
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	h := proxytest.New(t, fmt.Sprintf(`tenants:
  - id: a
    domain: a.test
    backends: [{id: app, protocol: h2, endpoints: [{url: "%s"}]}]
    routes: [{id: all, match: {path: /}, auth: none, backend: app}]
`, s.URL), proxytest.Options{TCP: true})
	addr := listen(t, h.Gateway.Serve)
	const pieces = 20
	piece := strings.Repeat("5\r\nhello\r\n", 100)
	want := strings.Repeat("hello", 100*pieces)
	kept := 0
	for i := range 25 {
		c := dialTCP(t, addr)
		r := bufio.NewReader(c)
		for n := range 10 {
			path := "/during"
			if (i+n)%3 > 0 {
				path = "/after"
			}
			sent := make(chan error, 1)
			go func() {
				_, err := io.WriteString(c, "POST "+path+" HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n")
				for range pieces {
					if err == nil {
						_, err = io.WriteString(c, piece)
					}
				}
				if err == nil {
					_, err = io.WriteString(c, "0\r\n\r\n")
				}
				sent <- err
			}()
			answer, err := proxytest.ReadAnswer(r, "POST")
			head, body, _ := strings.Cut(answer, "\n\n")
			if serr := <-sent; err != nil || serr != nil || status(answer) != "200" || body != want {
				t.Fatalf("%s, request %d on connection %d: %v, %v, %d bytes of %d\n%s", path, n, i, err, serr, len(body), len(want), head)
			}
			if strings.Contains(head, "\nConnection: close") {
				break
			}
			kept++
		}
		_ = c.Close()
	}
	if kept == 0 {
		t.Error("no connection was kept")
	}
}

// A client whose body is at fault hears of it, even where the backend has
// begun a good answer before: it was to half a request.
func TestBadBodyAfterEarlyAnswer(t *testing.T) {
	chunk := fmt.Sprintf("1000\r\n%s\r\n", strings.Repeat("x", 4096))
	f := func(name, want string, send func(c net.Conn, passed <-chan int)) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			passed := make(chan int, 1000)
			backend := func(c net.Conn) {
				defer c.Close()
				r := bufio.NewReader(c)
				for {
					line, err := r.ReadString('\n')
					if err != nil {
						return
					}
					if line == "\r\n" {
						break
					}
				}
				// Who sees the first of both has read the second too.
				_, _ = io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				for p, all := make([]byte, 32<<10), 0; ; {
					n, err := r.Read(p)
					if err != nil {
						return
					}
					all += n
					passed <- all
				}
			}
			h := proxytest.New(t, `tenants:
  - id: a
    domain: a.test
    backends: [{id: app, endpoints: [{url: "http://a.app"}]}]
    routes: [{id: all, match: {path: /}, auth: none, backend: app, max_body: 64KiB}]
`, proxytest.Options{Backends: map[string]proxytest.Script{"a.app:80": backend}})
			c := h.Dial()
			defer c.Close()
			r := bufio.NewReader(c)
			say(t, c, "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n"+chunk)
			if hints, err := proxytest.ReadAnswer(r, "POST"); err != nil || status(hints) != "103" {
				t.Fatal(err, hints)
			}
			send(c, passed)
			answer, err := proxytest.ReadAnswer(r, "POST")
			if err != nil || status(answer) != want || !strings.Contains(answer, "\nConnection: close\n") {
				t.Errorf("%v\n%s", err, answer)
			}
			if log := h.Access(); strings.Count(log, "\n") != 1 || !strings.Contains(log, `"status":`+want) {
				t.Error(log)
			}
		})
	}
	f("longer than the route takes", "413", func(c net.Conn, passed <-chan int) {
		for range 16 { // one has been sent
			await(t, passed, "the body")
			say(t, c, chunk)
		}
	})
	f("a malformed chunk", "400", func(c net.Conn, passed <-chan int) {
		for range 3 {
			await(t, passed, "the body")
			say(t, c, chunk)
		}
		say(t, c, "zz\r\n")
	})
}

// A client that left is not charged for an answer that it did not get.
func TestGoneIsNotCharged(t *testing.T) {
	reached, release := make(chan struct{}, 1), make(chan struct{})
	h, addr := serveTCP(t, func(c net.Conn) {
		defer c.Close()
		if readHead(c) {
			reached <- struct{}{}
			<-release
		}
	}, nil)
	defer close(release)
	c, _ := send(t, addr)
	await(t, reached, "the backend")
	c.Close()
	log := h.Access()
	if strings.Count(log, "\n") != 1 || !strings.Contains(log, `"status":499`) || !strings.Contains(log, `"bytes_out":0`) {
		t.Error(log)
	}
	if got, want := total(h, "a"), (metering.Counts{Requests: 1, Denied: 1, Status: metering.Status{ClientError: 1}}); got != want {
		t.Errorf("usage %+v, want %+v", got, want)
	}
}

// A client that ends its sending side behind its request is taken as gone: a
// socket does not tell the one from the other.
func TestHalfClose(t *testing.T) {
	release := make(chan struct{})
	reached := make(chan struct{}, 1)
	h, addr := serveTCP(t, func(c net.Conn) {
		defer c.Close()
		if readHead(c) {
			reached <- struct{}{}
			<-release
		}
	}, nil)
	defer close(release)
	c := dialTCP(t, addr)
	say(t, c, plainGet)
	await(t, reached, "the backend")
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(c); len(answer) > 0 {
		t.Errorf("%q, %v", answer, err)
	}
	if log := h.Access(); strings.Count(log, "\n") != 1 || !strings.Contains(log, `"status":499`) || !strings.Contains(log, `"error.type":"client_gone"`) {
		t.Error(log)
	}
}

// A tunnel beyond the tenant's bound is refused before its backend is dialled,
// and counted once, as a refusal.
func TestTunnelBeyondBound(t *testing.T) {
	const request = "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
	h := proxytest.New(t, "tenants:"+one("a", "a.test", "a.app"), proxytest.Options{
		Config: func(c *proxy.Config) { c.Limits.PerTenant.Tunnels = 1 },
		Backends: map[string]proxytest.Script{"a.app:80": func(c net.Conn) {
			defer c.Close()
			if readHead(c) {
				_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
				_, _ = io.Copy(io.Discard, c)
			}
		}},
	})
	ask := func() (net.Conn, string) {
		c := h.Dial()
		say(t, c, request)
		answer, err := proxytest.ReadAnswer(bufio.NewReader(c), "GET")
		if err != nil {
			t.Fatal(err, answer)
		}
		return c, answer
	}
	tunnel, answer := ask()
	if status(answer) != "101" {
		t.Fatal(answer)
	}
	refused, answer := ask()
	refused.Close()
	if status(answer) != "503" || !strings.Contains(answer, "\nRetry-After: ") {
		t.Error(answer)
	}
	if n := h.Dials("a.app:80"); n != 1 {
		t.Errorf("the backend was dialled %d times", n)
	}
	tunnel.Close()
	if log := h.Access(); strings.Count(log, "\n") != 2 || strings.Count(log, `"status":101`) != 1 || strings.Count(log, `"status":503`) != 1 {
		t.Error(log)
	}
	body := int64(len(answer) - strings.Index(answer, "\n\n") - 2)
	if got, want := total(h, "a"), (metering.Counts{
		Requests: 2, Denied: 1, Status: metering.Status{Informational: 1, ServerError: 1}, BytesOut: body,
	}); got != want {
		t.Errorf("usage %+v, want %+v", got, want)
	}
	if tunnel, answer = ask(); status(answer) != "101" {
		t.Errorf("another, when the first has ended:\n%s", answer)
	}
	tunnel.Close()
}

// pipes is a listener of connections that hold no byte: what is written waits
// for its reader.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	ended chan struct{}
}

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.ended:
		return nil, net.ErrClosed
	}
}

func (l *pipes) Close() error   { l.once.Do(func() { close(l.ended) }); return nil }
func (l *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// Clients that rest and do not read, not even a goodbye, do not make a
// shutdown longer than it may be.
func TestShutdownOfClientsThatDoNotRead(t *testing.T) {
	for _, protocol := range []string{"http/1.1", "h2"} {
		t.Run(protocol, func(t *testing.T) {
			folder := t.TempDir()
			authority := proxytest.NewAuthority(t, "test authority")
			authority.Install(folder, "a", "a.test")
			h := proxytest.New(t, "tenants:"+one("a", "a.test", "a.app"), proxytest.Options{Config: func(c *proxy.Config) { c.TLS.Certificates = folder }})
			l := &pipes{conns: make(chan net.Conn), ended: make(chan struct{})}
			served := make(chan error, 1)
			go func() { served <- h.Gateway.ServeTLS(l) }()
			cfg := authority.Trust("a.test")
			cfg.NextProtos = []string{protocol}
			cfg.MaxVersion = tls.VersionTLS12 // no ticket that would wait for a reader
			const clients = 4
			for range clients {
				near, far := net.Pipe()
				defer near.Close()
				l.conns <- far
				c := tls.Client(near, cfg)
				if protocol == "h2" {
					if got := frames(t, c, ":method", "GET", ":scheme", "https", ":authority", "a.test", ":path", "/"); got != "200" {
						t.Fatal(got)
					}
					continue
				}
				say(t, c, plainGet)
				if answer, err := proxytest.ReadAnswer(bufio.NewReader(c), "GET"); err != nil || status(answer) != "200" {
					t.Fatal(err, answer)
				}
			}
			const most = 2 * time.Second
			ctx, cancel := context.WithTimeout(context.Background(), most)
			defer cancel()
			begun := time.Now()
			err := h.Gateway.Shutdown(ctx)
			if took := time.Since(begun); took > most+1500*time.Millisecond { // a second is for goroutines to end
				t.Errorf("it took %v, want at most %v", took, most)
			}
			if err != nil && !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			if err := await(t, served, "the listener"); err != nil {
				t.Error(err)
			}
			var m strings.Builder
			h.Gateway.WriteMetrics(&m)
			if !strings.Contains(m.String(), "\ngatehouse_connections_open 0\n") {
				t.Error("connections live on")
			}
		})
	}
}

// A backend that refuses a request it has read whole does not cost the client
// its connection.
func TestRefusalKeepsConnection(t *testing.T) {
	_, addr := serveTCP(t, func(c net.Conn) {
		defer c.Close()
		r := bufio.NewReader(c)
		for {
			request, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			if _, err := io.Copy(io.Discard, request.Body); err != nil {
				return
			}
			if _, err := io.WriteString(c, "HTTP/1.1 422 Unprocessable Entity\r\nContent-Length: 2\r\n\r\nno"); err != nil {
				return
			}
		}
	}, nil)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	for i := range 3 {
		say(t, c, "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
		answer, err := proxytest.ReadAnswer(r, "POST")
		if err != nil || status(answer) != "422" || strings.Contains(answer, "Connection: close") {
			t.Fatalf("answer %d: %s, %v", i, answer, err)
		}
	}
}

// The head of an answer does not wait for its body, whatever its length.
func TestHeadComesFirst(t *testing.T) {
	flushed, proceed := make(chan struct{}, 2), make(chan struct{})
	_, addr := serveTCP(t, func(c net.Conn) {
		defer c.Close()
		if !readHead(c) {
			return
		}
		if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"); err != nil {
			return
		}
		flushed <- struct{}{}
		<-proceed
		_, _ = io.WriteString(c, "hello")
	}, nil)
	c, r := send(t, addr)
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	<-flushed
	for line := ""; line != "\r\n"; { // the backend waits until the head is here
		var err error
		if line, err = r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	close(proceed)
	body := make([]byte, 5)
	if _, err := io.ReadFull(r, body); err != nil || string(body) != "hello" {
		t.Errorf("%q, %v", body, err)
	}
}

// An early refusal reaches a client that is slow to send what nobody wants.
func TestEarlyRefusal(t *testing.T) {
	_, addr := serveTCP(t, func(c net.Conn) {
		defer c.Close()
		if !readHead(c) {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
		_, _ = io.Copy(io.Discard, c)
	}, nil)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil { // the idle time is a minute
		t.Fatal(err)
	}
	say(t, c, "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5000000\r\n\r\nabc")
	answer, err := proxytest.ReadAnswer(bufio.NewReader(c), "POST")
	if err != nil || status(answer) != "413" || !strings.HasSuffix(answer, "no") {
		t.Errorf("%s, %v", answer, err)
	}
}
