package proxy_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/gatehouse-gateway/gatehouse/proxy"
	"github.com/gatehouse-gateway/gatehouse/proxy/proxytest"
)

// echoSocket is a backend that sends back what comes.
func echoSocket(t *testing.T) (addr string) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true, Subprotocols: []string{"chat"}})
		if err != nil {
			return
		}
		defer c.CloseNow() //nolint:errcheck // whatever is left
		c.SetReadLimit(2 << 20)
		for {
			kind, message, err := c.Read(context.Background())
			if err != nil {
				return
			}
			if err := c.Write(context.Background(), kind, message); err != nil {
				return
			}
		}
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// sockets is a gateway in front of an echo, with a second tenant beside it.
func sockets(t *testing.T, route string, configure func(*proxy.Config)) (h *proxytest.Harness, url string) {
	t.Helper()
	document := fmt.Sprintf(`
  - id: a
    domain: "127.0.0.1"
    backends: [{id: app, endpoints: [{url: "http://%s"}]}]
    routes: [{id: all, match: {path: /}, auth: none, backend: app%s}]
`, echoSocket(t), route)
	document = strings.Replace(document, `domain: "127.0.0.1"`, "domain: a.test", 1)
	h = proxytest.New(t, "tenants:"+document+one("other", "other.test", "other.app"), proxytest.Options{TCP: true, Config: configure})
	return h, "ws://" + listen(t, h.Gateway.Serve) + "/"
}

func open(t *testing.T, url string) *websocket.Conn {
	t.Helper()
	c, err := dialSocket(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.CloseNow() })
	return c
}

func dialSocket(url string) (*websocket.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, answer, err := websocket.Dial(ctx, url, &websocket.DialOptions{Host: "a.test", Subprotocols: []string{"chat"}})
	if answer != nil && answer.Body != nil && err != nil {
		answer.Body.Close()
	}
	if err == nil {
		c.SetReadLimit(2 << 20)
	}
	return c, err
}

func exchange(t *testing.T, c *websocket.Conn, message []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := c.Write(ctx, websocket.MessageBinary, message); err != nil {
		t.Fatal(err)
	}
	_, back, err := c.Read(ctx)
	if err != nil || !bytes.Equal(back, message) {
		t.Fatalf("%d bytes came back, %v", len(back), err)
	}
}

// A WebSocket passes messages of any size, is counted, and has one record.
func TestWebSocket(t *testing.T) {
	h, url := sockets(t, "", nil)
	c := open(t, url)
	if c.Subprotocol() != "chat" {
		t.Errorf("the subprotocol is %q", c.Subprotocol())
	}
	exchange(t, c, []byte("hello"))
	exchange(t, c, bytes.Repeat([]byte("0123456789abcdef"), 1<<16)) // 1 MiB
	if err := c.Close(websocket.StatusNormalClosure, "done"); err != nil {
		t.Error(err)
	}
	record := h.Access()
	for _, want := range []string{`"status":101`, `"bytes_in":1048`, `"bytes_out":1048`, `"tenant":"a"`} {
		if !strings.Contains(record, want) || strings.Count(record, "\n") != 1 {
			t.Errorf("%s is not in %s", want, record)
		}
	}
}

// Changes of other tenants, and of its own, do not touch a WebSocket.
func TestWebSocketSurvivesChanges(t *testing.T) {
	h, url := sockets(t, "", nil)
	c := open(t, url)
	addr := echoSocket(t)
	for i := range 1000 {
		h.Apply("tenants:" + one("a", "a.test", addr) + one("other", fmt.Sprintf("other%d.test", i%2), "other.app"))
		if i%100 == 0 {
			exchange(t, c, []byte("still here"))
		}
	}
	exchange(t, c, []byte("still here"))
}

// A tenant has as many tunnels as it may, and no more.
func TestTunnelsOfTenant(t *testing.T) {
	_, url := sockets(t, "", func(c *proxy.Config) { c.Limits.PerTenant.Tunnels = 2 })
	one, two := open(t, url), open(t, url)
	if _, err := dialSocket(url); err == nil || !strings.Contains(err.Error(), "got 503") {
		t.Errorf("a third: %v", err)
	}
	exchange(t, one, []byte("x"))
	exchange(t, two, []byte("x"))
	if err := one.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Error(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		c, err := dialSocket(url)
		if err == nil {
			_ = c.CloseNow()
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// In a drain WebSockets live on, and are asked to close before its end.
func TestTunnelDrain(t *testing.T) {
	h, url := sockets(t, "", nil)
	c := open(t, url)
	exchange(t, c, []byte("x"))
	ended := make(chan error)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		ended <- h.Gateway.Shutdown(ctx)
	}()
	for h.Gateway.Ready() == nil { // until the drain has begun
	}
	exchange(t, c, []byte("still here"))
	_, _, err := c.Read(context.Background())
	if websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Errorf("%v, want 1001", err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A tunnel ends when it is silent for too long, and when it is too old.
func TestTunnelTimes(t *testing.T) {
	f := func(name, route string, busy bool) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, url := sockets(t, route, nil)
			c := open(t, url)
			start := time.Now()
			var writer sync.WaitGroup
			stop := make(chan struct{})
			if busy {
				writer.Go(func() {
					tick := time.NewTicker(50 * time.Millisecond)
					defer tick.Stop()
					for {
						select {
						case <-stop:
							return
						case <-tick.C:
							_ = c.Write(context.Background(), websocket.MessageText, []byte("busy")) // until it is closed
						}
					}
				})
			}
			var err error
			for err == nil {
				_, _, err = c.Read(context.Background())
			}
			close(stop)
			writer.Wait()
			if took := time.Since(start); websocket.CloseStatus(err) != websocket.StatusGoingAway || took < 400*time.Millisecond || took > 5*time.Second {
				t.Errorf("%v after %v", err, took)
			}
		})
	}
	f("idle", ", upgrade: {idle: 500ms}", false)
	f("old", ", upgrade: {max_age: 700ms}", true)
}

// What a backend answers to an upgrade is checked.
func TestUpgradeAnswers(t *testing.T) {
	const ask = "GET / HTTP/1.1\nHost: a.test\nConnection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 13\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n\n"
	f := func(name, answer, want string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			h := proxytest.New(t, "tenants:"+one("a", "a.test", "a.app"), proxytest.Options{
				Backends: map[string]proxytest.Script{"a.app:80": proxytest.Answer(answer)},
			})
			if got := h.Do(ask); !strings.HasPrefix(got, want) {
				t.Errorf("%s", got)
			}
		})
	}
	const accept = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
	f("refused", "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", "HTTP/1.1 403 Forbidden\n")
	f("without accept", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", "HTTP/1.1 502 ")
	f("wrong accept", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: AAAA\r\n\r\n", "HTTP/1.1 502 ")
	f("other protocol", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n"+accept+"\r\n", "HTTP/1.1 502 ")
}

// The pool-poisoning of fasthttp's client: a 101 that was not asked for, and
// bytes behind it, never reach another request.
func TestUnaskedUpgrade(t *testing.T) {
	served := 0
	h := proxytest.New(t, "tenants:"+one("a", "a.test", "a.app"), proxytest.Options{
		Backends: map[string]proxytest.Script{"a.app:80": func(c net.Conn) {
			defer c.Close()
			served++
			if served == 1 {
				proxytest.Answer("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON")(c)
				return
			}
			proxytest.Answer("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood")(c)
		}},
	})
	first, second := get(h, "a.test", "/"), get(h, "a.test", "/")
	if status(first) != "502" || !strings.Contains(first, "http_upgrade_failed") || status(second) != "200" || !strings.HasSuffix(second, "good") {
		t.Errorf("%s\n%s", first, second)
	}
}

// A client that leaves before the answer is noticed, and its request to the
// backend given up.
func TestClientGone(t *testing.T) {
	asked, left := make(chan struct{}), make(chan error, 1)
	h, addr := serveTCP(t, func(c net.Conn) {
		defer c.Close()
		if !readHead(c) {
			return
		}
		close(asked)
		_, err := c.Read(make([]byte, 1)) // until the gateway hangs up
		left <- err
	}, nil)
	c, _ := send(t, addr)
	<-asked
	_ = c.Close()
	select {
	case err := <-left:
		if err == nil {
			t.Error("the backend got more of the request")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the backend still waits")
	}
	if r := h.Access(); !strings.Contains(r, `"status":499`) || !strings.Contains(r, `"error.type":"client_gone"`) {
		t.Error(r)
	}
}

// Of one tenant so many requests are in flight, and another's go on.
func TestTenantBusy(t *testing.T) {
	hold, asked := make(chan struct{}), make(chan struct{}, 2)
	h := proxytest.New(t, "tenants:"+one("a", "a.test", "a.app")+one("other", "other.test", "other.app"), proxytest.Options{
		Config: func(c *proxy.Config) { c.Limits.PerTenant.Requests, c.Limits.PerTenant.Queue = 2, 0 },
		Backends: map[string]proxytest.Script{"a.app:80": func(c net.Conn) {
			asked <- struct{}{}
			<-hold
			proxytest.Answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")(c)
		}},
	})
	var held sync.WaitGroup
	for range 2 {
		held.Go(func() {
			if answer := get(h, "a.test", "/"); status(answer) != "200" {
				t.Error(answer)
			}
		})
		<-asked
	}
	if answer := get(h, "a.test", "/"); status(answer) != "503" || !strings.Contains(answer, "GH-RS-004") || !strings.Contains(answer, "\nRetry-After: 1\n") {
		t.Error("a third:", answer)
	}
	if answer := get(h, "other.test", "/"); status(answer) != "200" {
		t.Error("another tenant:", answer)
	}
	close(hold)
	held.Wait()
	if answer := get(h, "a.test", "/"); status(answer) != "200" {
		t.Error("afterwards:", answer)
	}
}
