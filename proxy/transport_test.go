package proxy_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/proxy"
	"github.com/gatehouse-gateway/gatehouse/proxy/proxytest"
)

// serveTCP runs a gateway and one scripted backend on real sockets: buffers
// and deadlines of connections in memory are not those of TCP.
func serveTCP(t *testing.T, script proxytest.Script, configure func(*proxy.Config)) (h *proxytest.Harness, addr string) {
	t.Helper()
	backend, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = backend.Close() })
	go func() {
		for {
			c, err := backend.Accept()
			if err != nil {
				return
			}
			go script(c)
		}
	}()
	h = proxytest.New(t, "tenants:"+one("a", "a.test", backend.Addr().String()), proxytest.Options{TCP: true, Config: configure})
	return h, listen(t, h.Gateway.Serve)
}

// listen has serve take connections from a port of its own.
func listen(t *testing.T, serve func(net.Listener) error) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- serve(ln) }()
	t.Cleanup(func() {
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { _ = ln.Close() })
	return ln.Addr().String()
}

func send(t *testing.T, addr string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if _, err := io.WriteString(c, plainGet); err != nil {
		t.Fatal(err)
	}
	return c, bufio.NewReader(c)
}

// readHead reads a request head and reports whether there was one.
func readHead(c net.Conn) bool {
	for r := bufio.NewReader(c); ; {
		line, err := r.ReadString('\n')
		if err != nil || line == "\r\n" {
			return err == nil
		}
	}
}

const plainGet = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"

// A backend may pause in its answer for longer than a client may.
func TestBackendPause(t *testing.T) {
	_, addr := serveTCP(t, func(c net.Conn) {
		defer c.Close()
		if !readHead(c) {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100010\r\n\r\n"+strings.Repeat("x", 100000))
		<-time.After(600 * time.Millisecond)
		_, _ = io.WriteString(c, "0123456789")
	}, func(c *proxy.Config) { c.Timeouts.Idle = gatehouse.Duration(200 * time.Millisecond) })
	_, r := send(t, addr)
	answer, err := proxytest.ReadAnswer(r, "GET")
	if err != nil || !strings.HasSuffix(answer, "x0123456789") {
		t.Errorf("%v …%s", err, answer[max(0, len(answer)-40):])
	}
}

// An answer that the client did not wait for is recorded as such.
func TestAbortedAnswer(t *testing.T) {
	h, addr := serveTCP(t, func(c net.Conn) {
		defer c.Close()
		if !readHead(c) {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
		for piece := strings.Repeat("x", 64<<10); ; {
			if _, err := io.WriteString(c, piece); err != nil {
				return
			}
		}
	}, nil)
	c, r := send(t, addr)
	if _, err := io.CopyN(io.Discard, r, 100<<10); err != nil {
		t.Fatal(err)
	}
	c.Close()
	metrics := func() string {
		var m strings.Builder
		h.Gateway.WriteMetrics(&m)
		return m.String()
	}
	for limit := time.Now().Add(10 * time.Second); !strings.Contains(metrics(), "gatehouse_responses_aborted_total 1\n"); {
		if time.Now().After(limit) {
			t.Fatal("not counted as aborted")
		}
	}
	if log := h.Access(); !strings.Contains(log, `"status":200`) || !strings.Contains(log, `"error.type":"client_gone"`) {
		t.Error(log)
	}
}

// A client that reads nothing is let go.
func TestClientThatDoesNotRead(t *testing.T) {
	_, addr := serveTCP(t, func(c net.Conn) {
		defer c.Close()
		for readHead(c) {
			if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 16000\r\n\r\n"+strings.Repeat("x", 16000)); err != nil {
				return
			}
		}
	}, func(c *proxy.Config) { c.Timeouts.Idle = gatehouse.Duration(200 * time.Millisecond) })
	c, _ := send(t, addr)
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := io.WriteString(c, plainGet); err != nil {
			if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
				t.Error("the connection was held for 20 s")
			}
			return // let go
		}
	}
}

// Field names have no case, that of Expect either.
func TestExpectInLowerCase(t *testing.T) {
	h := proxytest.New(t, "tenants:"+one("a", "a.test", "a.app"))
	c := h.Dial()
	defer c.Close()
	if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nhost: a.test\r\nexpect: 100-Continue\r\ncontent-length: 5\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
		t.Error(line, err)
	}
}

// HTTP/1.0 knows no chunks: an answer of unknown length ends with the
// connection, of any size.
func TestOldClient(t *testing.T) {
	chunked := func(size int) proxytest.Script {
		return proxytest.Answer(fmt.Sprintf("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", size, strings.Repeat("x", size)))
	}
	h := proxytest.New(t, "tenants:"+one("a", "a.test", "a.app")+one("big", "big.test", "big.app"), proxytest.Options{
		Backends: map[string]proxytest.Script{"a.app:80": chunked(30000), "big.app:80": chunked(2 << 20)},
	})
	f := func(host string, size int) {
		t.Helper()
		answer := h.Do("GET / HTTP/1.0\nHost: " + host + "\nConnection: keep-alive\n\n")
		head, body, _ := strings.Cut(answer, "\n\n")
		if strings.Contains(head, "Content-Length") || strings.Contains(head, "Transfer-Encoding") || !strings.Contains(head, "\nConnection: close") || body != strings.Repeat("x", size) {
			t.Errorf("%s: %d bytes, %s", host, len(body), head)
		}
	}
	f("a.test", 30_000)
	f("big.test", 2<<20)
}

// In a drain a kept connection gets one more answer, which closes it.
func TestDrainGrace(t *testing.T) {
	h, addr := serveTCP(t, func(c net.Conn) {
		defer c.Close()
		for readHead(c) {
			if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"); err != nil {
				return
			}
		}
	}, nil)
	c, r := send(t, addr)
	if answer, err := proxytest.ReadAnswer(r, "GET"); err != nil || strings.Contains(answer, "Connection: close") {
		t.Fatal(err, answer)
	}
	ended := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		ended <- h.Gateway.Shutdown(ctx)
	}()
	for h.Gateway.Ready() == nil { // until the drain has begun
	}
	<-time.After(200 * time.Millisecond) // well into it, and well within the grace
	if _, err := io.WriteString(c, plainGet); err != nil {
		t.Fatal(err)
	}
	answer, err := proxytest.ReadAnswer(r, "GET")
	if err != nil || status(answer) != "200" || !strings.Contains(answer, "\nConnection: close\n") {
		t.Error(err, answer)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	var m strings.Builder
	h.Gateway.WriteMetrics(&m)
	if !strings.Contains(m.String(), "\ngatehouse_connections_open 0\n") {
		t.Error("connections are still counted")
	}
}
