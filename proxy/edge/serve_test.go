package edge

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttputil"
)

// TestServed: fasthttp's server hands connections to the codec of their
// protocol, and never serves any itself, even those that failed.
func TestServed(t *testing.T) {
	a, folder := newAuthority(t), t.TempDir()
	a.put(t, folder, "a", leaf{names: []string{"a.test"}, common: "a"})
	x := newTLS(t, TLSConfig{Folder: folder})
	var mu sync.Mutex // guards bypassed
	bypassed := ""
	codec := func(nc net.Conn) error {
		c := nc.(*Conn)
		line, err := bufio.NewReader(c).ReadString('\n')
		if err != nil {
			return err
		}
		_, err = io.WriteString(c, c.Protocol()+" "+c.Peer().String()+" "+line)
		return err
	}
	f := func(cfg Config, inner net.Listener, dial func() (net.Conn, error), secure *tls.Config, send, want string) {
		t.Helper()
		l := Listen(inner, cfg)
		server := &fasthttp.Server{Logger: silent{}, NoDefaultDate: true, MaxIdleWorkerDuration: 10 * time.Millisecond, Handler: func(ctx *fasthttp.RequestCtx) {
			mu.Lock()
			defer mu.Unlock()
			bypassed += ctx.String()
		}}
		server.NextProto(HTTP1, codec)
		server.NextProto(HTTP2, codec)
		served := make(chan error, 1)
		go func() { served <- server.Serve(l) }()
		c, err := dial()
		if err != nil {
			t.Fatal(err)
		}
		if secure != nil {
			c = tls.Client(c, secure)
		}
		_, _ = io.WriteString(c, send)
		got, _ := io.ReadAll(c)
		if string(got) != want {
			t.Errorf("%q: %q, want %q", send, got, want)
		}
		_ = c.Close()
		if err := server.Shutdown(); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
		eventually(t, "all are closed", func() bool { return l.Open() == 0 })
	}
	socket := func(cfg Config, secure *tls.Config, send, want string) {
		t.Helper()
		inner, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		f(cfg, inner, func() (net.Conn, error) { return net.Dial("tcp", inner.Addr().String()) }, secure, send, want)
	}
	memory := func(cfg Config, secure *tls.Config, send, want string) {
		t.Helper()
		inner := fasthttputil.NewInmemoryListener()
		f(cfg, inner, inner.Dial, secure, send, want)
	}
	const get = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"
	h1 := &tls.Config{RootCAs: a.pool, ServerName: "a.test"}
	h2 := &tls.Config{RootCAs: a.pool, ServerName: "a.test", NextProtos: []string{"h2"}}
	unknown := &tls.Config{RootCAs: a.pool, ServerName: "b.test"}

	socket(Config{}, nil, get, "http/1.1 127.0.0.1 GET / HTTP/1.1\r\n")
	socket(Config{HTTP2: true}, nil, get, "http/1.1 127.0.0.1 GET / HTTP/1.1\r\n")
	socket(Config{HTTP2: true}, nil, preface, "h2 127.0.0.1 PRI * HTTP/2.0\r\n")
	socket(Config{TLS: x, HTTP2: true}, h1, get, "http/1.1 127.0.0.1 GET / HTTP/1.1\r\n")
	socket(Config{TLS: x, HTTP2: true}, h2, get, "h2 127.0.0.1 GET / HTTP/1.1\r\n")
	socket(Config{TLS: x, HTTP2: true}, unknown, get, "")
	memory(Config{PerAddress: 1}, nil, get, "http/1.1 0.0.0.0 GET / HTTP/1.1\r\n")
	memory(Config{HTTP2: true, PerAddress: 1}, nil, preface, "h2 0.0.0.0 PRI * HTTP/2.0\r\n")
	memory(Config{TLS: x, HTTP2: true}, h2, get, "h2 0.0.0.0 GET / HTTP/1.1\r\n")
	if bypassed = strings.TrimSpace(bypassed); bypassed != "" {
		t.Errorf("served past the codecs: %s", bypassed)
	}
}

type silent struct{}

func (silent) Printf(string, ...any) {}
