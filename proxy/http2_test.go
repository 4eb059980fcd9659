package proxy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/proxy"
	"github.com/gatehouse-gateway/gatehouse/proxy/proxytest"
)

// http2Client speaks HTTP/2 to addr and nothing else, over TLS when cfg is
// not nil.
func http2Client(t *testing.T, addr string, cfg *tls.Config) *http.Client {
	t.Helper()
	p := new(http.Protocols)
	p.SetHTTP2(cfg != nil)
	p.SetUnencryptedHTTP2(cfg == nil)
	tr := &http.Transport{
		Protocols: p, TLSClientConfig: cfg, DisableCompression: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		},
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

// told is an answer as text.
func told(t *testing.T, r *http.Response, err error) string {
	t.Helper()
	if err != nil {
		return err.Error()
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	s := fmt.Sprintf("%s %s %s\n%s", r.Proto, r.Status, r.Header.Get("Content-Type"), proxytest.Stable(string(body)))
	for name, values := range r.Trailer {
		s += fmt.Sprintf("[%s: %s]", name, strings.Join(values, ","))
	}
	if err != nil {
		s += "[" + err.Error() + "]"
	}
	return s
}

// HTTP/2, over TLS and with prior knowledge, goes down the same line.
func TestHTTP2(t *testing.T) {
	h := secure(t, "tenants:"+one("a", "a.test", "a.app")+"    limits: {rules: [{name: q, quota: 3, window: hour}]}\n", map[string][]string{"a": {"a.test"}})
	plain := listen(t, h.Gateway.Serve)
	f := func(scheme string, client *http.Client) {
		t.Helper()
		r, err := client.Get(scheme + "://a.test/x//%7ey?q=1")
		got := told(t, r, err)
		if !strings.Contains(got, "a.app:80: GET /x/~y?q=1 HTTP/1.1\nHost: a.test\n") || !strings.HasPrefix(got, "HTTP/2.0 200 OK") || !strings.Contains(got, "\nX-Forwarded-Proto: "+scheme+"\n") || !strings.Contains(got, "\nVia: 2.0 gatehouse\n") {
			t.Error(got)
		}
		r, err = client.Post(scheme+"://a.test/", "text/plain", io.MultiReader(strings.NewReader("of unknown "), strings.NewReader("length")))
		if got := told(t, r, err); !strings.Contains(got, "\n(chunked)\nof unknown length") {
			t.Errorf("%s", got)
		}
	}
	f("https", http2Client(t, h.addr, h.authority.Trust("a.test")))
	c := http2Client(t, plain, nil)
	r, err := c.Head("http://a.test/?size=30000")
	if err != nil || r.ContentLength != 30000 && r.ContentLength != -1 {
		t.Error(r, err)
	}
	r, err = c.Get("http://a.test/")
	if got := told(t, r, err); !strings.HasPrefix(got, "HTTP/2.0 429 Too Many Requests application/problem+json\n") {
		t.Error(got)
	}
	r, err = c.Get("http://nobody.test/")
	if got := told(t, r, err); !strings.HasPrefix(got, "HTTP/2.0 404 Not Found application/problem+json\n") {
		t.Error(got)
	}
	if records := h.Access(); strings.Count(records, `"protocol":"HTTP/2.0"`) != 5 {
		t.Error(records)
	}
}

// A body that breaks off behind the gateway has no clean end for the client.
func TestHTTP2BrokenBody(t *testing.T) {
	h := proxytest.New(t, "tenants:"+one("a", "a.test", "a.app"), proxytest.Options{
		Backends: map[string]proxytest.Script{"a.app:80": proxytest.Answer("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 50_000))},
	})
	r, err := http2Client(t, listen(t, h.Gateway.Serve), nil).Get("http://a.test/")
	if got := told(t, r, err); !strings.Contains(got, "stream error: stream ID 1; INTERNAL_ERROR") {
		t.Errorf("%.200s", got[max(0, len(got)-200):])
	}
}

// What of HTTP/2 would be something else as HTTP/1.1 is refused.
func TestDowngrade(t *testing.T) {
	h := proxytest.New(t, "tenants:"+one("a", "a.test", "a.app"))
	addr := listen(t, h.Gateway.Serve)
	f := func(name, want string, fields ...string) {
		t.Helper()
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if got := frames(t, c, fields...); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	get := []string{":method", "GET", ":scheme", "http", ":authority", "a.test", ":path", "/"}
	with := func(fields ...string) []string { return append(append([]string(nil), get...), fields...) }
	f("plain", "200", get...)
	f("transfer-encoding", "reset PROTOCOL_ERROR", with("transfer-encoding", "chunked")...)
	f("connection", "reset PROTOCOL_ERROR", with("connection", "x")...)
	f("te", "200", with("te", "trailers")...)
	f("te of another kind", "reset PROTOCOL_ERROR", with("te", "gzip")...)
	f("upper case", "reset PROTOCOL_ERROR", with("X-Upper", "1")...)
	f("line end in a value", "reset PROTOCOL_ERROR", with("x", "a\r\nEvil: b")...)
	f("NUL in a value", "reset PROTOCOL_ERROR", with("x", "a\x00")...)
	f("space around a value", "reset PROTOCOL_ERROR", with("x", " a")...)
	f("another host", "400", with("host", "b.test")...)
	f("the same host", "200", with("host", "a.test")...)
	f("two lengths", "400", with("content-length", "0", "content-length", "0")...)
	f("a length and no body", "reset PROTOCOL_ERROR", with("content-length", "5")...)
	f("space in the path", "400", ":method", "GET", ":scheme", "http", ":authority", "a.test", ":path", "/a b")
	f("line end in the path", "reset PROTOCOL_ERROR", ":method", "GET", ":scheme", "http", ":authority", "a.test", ":path", "/ HTTP/1.1\r\nX: y")
	f("fragment", "400", ":method", "GET", ":scheme", "http", ":authority", "a.test", ":path", "/#a")
	f("user", "400", ":method", "GET", ":scheme", "http", ":authority", "x@a.test", ":path", "/")
	f("CONNECT", "405", ":method", "CONNECT", ":authority", "a.test:80")
	f("method with a space", "400", ":method", "GET /x", ":scheme", "http", ":authority", "a.test", ":path", "/")
}

// Trailers pass in both directions, as far as the route lets them.
func TestTrailers(t *testing.T) {
	backend := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "X-Sum, X-Other")
		fmt.Fprintf(w, "%s %v %v", body, r.Trailer, err)
		w.Header().Set("X-Sum", "42")
		w.Header().Set("X-Other", "43")
	}))
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	backend.Config.Protocols = p
	backend.Start()
	t.Cleanup(backend.Close)
	for _, protocol := range []string{"http1", "h2"} {
		document := fmt.Sprintf(`tenants:
  - id: a
    domain: a.test
    backends: [{id: app, protocol: %s, endpoints: [{url: "%s"}]}]
    routes: [{id: all, match: {path: /}, auth: none, backend: app, trailers: [x-sum, x-in]}]
`, protocol, backend.URL)
		h := proxytest.New(t, document, proxytest.Options{TCP: true})
		addr := listen(t, h.Gateway.Serve)
		r, err := http.NewRequest(http.MethodPost, "http://a.test/", io.MultiReader(strings.NewReader("body")))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("TE", "trailers")
		r.Trailer = http.Header{"X-In": {"7"}, "X-No": {"8"}}
		answer, err := http2Client(t, addr, nil).Do(r)
		if got := told(t, answer, err); !strings.HasSuffix(got, "body map[X-In:[7]] <nil>[X-Sum: 42]") {
			t.Errorf("HTTP/2 to %s: %s", protocol, got)
		}
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: a.test\r\nTE: trailers\r\nConnection: TE, close\r\nTrailer: X-In, X-No\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nX-In: 7\r\nX-No: 8\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		all, err := io.ReadAll(c)
		if got := string(all); err != nil || !strings.Contains(got, "body map[X-In:[7]] <nil>") || !strings.HasSuffix(strings.ToLower(got), "0\r\nx-sum: 42\r\n\r\n") {
			t.Errorf("HTTP/1.1 to %s: %q, %v", protocol, got, err)
		}
		_ = c.Close()
	}
}

// 103 reaches clients that know it, before the answer.
func TestEarlyHints(t *testing.T) {
	h := proxytest.New(t, "tenants:"+one("a", "a.test", "a.app"), proxytest.Options{
		Backends: map[string]proxytest.Script{"a.app:80": proxytest.Answer("HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\nConnection: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")},
	})
	f := func(version, want string) {
		t.Helper()
		c := h.Dial()
		defer c.Close()
		if _, err := io.WriteString(c, "GET / HTTP/"+version+"\r\nHost: a.test\r\nConnection: close\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(bufio.NewReader(c))
		if got := string(b); err != nil || !strings.HasPrefix(got, want) || !strings.HasSuffix(got, "\r\n\r\nok") {
			t.Errorf("%s: %q, %v", version, got, err)
		}
	}
	f("1.1", "HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\nHTTP/1.1 200 OK\r\n")
	f("1.0", "HTTP/1.1 200 OK\r\n")
}

// Floods of HTTP/2 are bounded: the connection ends, and the process goes on.
// Those of frames that are answered are of a client that reads no answers: one
// that reads them gets no more than it takes.
func TestHTTP2Floods(t *testing.T) {
	h := proxytest.New(t, "tenants:"+one("a", "a.test", "a.app"), proxytest.Options{
		Config: func(c *proxy.Config) { c.HTTP2.Streams = 10 },
		Backends: map[string]proxytest.Script{"a.app:80": func(c net.Conn) {
			defer c.Close()
			for readHead(c) {
				<-time.After(100 * time.Millisecond)
				if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"); err != nil {
					return
				}
			}
		}},
	})
	addr := listen(t, h.Gateway.Serve)
	f := func(name string, reads bool, flood func(fr *http2.Framer, i uint32) error) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			c, fr := preface(t, addr)
			if reads {
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					_, _ = io.Copy(io.Discard, c)
				}()
				defer func() { <-ended }()
			}
			for i := range uint32(5_000_000) {
				if err := flood(fr, i); err != nil {
					if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
						break
					}
					return
				}
			}
			t.Error("the connection goes on")
			_ = c.Close()
		})
	}
	head := encode(":method", "GET", ":scheme", "http", ":authority", "a.test", ":path", "/")
	f("rapid reset", true, func(fr *http2.Framer, i uint32) error {
		return errors.Join(
			fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*i + 1, BlockFragment: head, EndHeaders: true, EndStream: true}),
			fr.WriteRSTStream(2*i+1, http2.ErrCodeCancel))
	})
	f("continuation", true, func(fr *http2.Framer, i uint32) error {
		if i == 0 {
			return fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head})
		}
		return fr.WriteContinuation(1, false, encode(fmt.Sprintf("x-%d", i), strings.Repeat("a", 4000)))
	})
	f("header list", true, func(fr *http2.Framer, i uint32) error {
		return fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*i + 1, BlockFragment: encode(":method", "GET", "x", strings.Repeat("a", 15000)), EndHeaders: i%2 == 0})
	})
	f("ping", false, func(fr *http2.Framer, i uint32) error { return fr.WritePing(false, [8]byte{byte(i)}) })
	if answer := get(h, "a.test", "/"); status(answer) != "200" {
		t.Error("afterwards:", answer)
	}
}

// Settings are taken as fast as the client sends them: their answers are
// joined while the client reads none, so that they take no memory.
func TestHTTP2Settings(t *testing.T) {
	h := proxytest.New(t, "tenants:"+one("a", "a.test", "a.app"))
	_, fr := preface(t, listen(t, h.Gateway.Serve))
	inUse := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := inUse()
	for range 100_000 {
		if err := fr.WriteSettings(); err != nil {
			return // or the connection ends
		}
	}
	if after := inUse(); after > before+4<<20 {
		t.Errorf("%d bytes before, %d after", before, after)
	}
}

// Refusals of gRPC calls are statuses of gRPC.
func TestGRPCRefusals(t *testing.T) {
	h := proxytest.New(t, `tenants:
  - id: a
    domain: a.test
    backends: [{id: app, endpoints: [{url: "http://dead.test"}]}]
    routes:
      - {id: all, match: {path: /svc.S/}, auth: none, backend: app, limits: {rules: [{name: q, quota: 1, window: hour}]}}
      - {id: keyed, match: {path: /keyed.S/}, backend: app}
`, proxytest.Options{Backends: map[string]proxytest.Script{"dead.test:80": nil}})
	client := http2Client(t, listen(t, h.Gateway.Serve), nil)
	f := func(path, want string) {
		t.Helper()
		r, err := http.NewRequest(http.MethodPost, "http://a.test"+path, strings.NewReader("\x00\x00\x00\x00\x00"))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/grpc+proto")
		r.Header.Set("TE", "trailers")
		answer, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		got := fmt.Sprintf("%d %s %s %q %q %v", answer.StatusCode, answer.Header.Get("Content-Type"), answer.Header.Get("Grpc-Status"), answer.Header.Get("Grpc-Message"), body, err)
		if got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	f("/none.S/M", `200 application/grpc 12 "no%20route%20takes%20this%20request" "" <nil>`)
	f("/keyed.S/M", `200 application/grpc 16 "this%20route%20needs%20a%20credential" "" <nil>`)
	f("/svc.S/M", `200 application/grpc 14 "the%20backend%20cannot%20be%20reached" "" <nil>`)
	f("/svc.S/M", `200 application/grpc 8 "the%20limit%20\"q\"%20is%20used%20up" "" <nil>`)
	if r := h.Access(); !strings.Contains(r, `"status":429`) || !strings.Contains(r, `"status":502`) {
		t.Error(r)
	}
}

// A client that takes nothing of its answer is given up, however often it says
// that it is there.
func TestHTTP2StalledReader(t *testing.T) {
	h := proxytest.New(t, "tenants:"+one("a", "a.test", "a.app"), proxytest.Options{Config: func(c *proxy.Config) {
		c.Timeouts.Idle = gatehouse.Duration(500 * time.Millisecond)
	}})
	_, fr := preface(t, listen(t, h.Gateway.Serve))
	if err := fr.WriteHeaders(http2.HeadersFrameParam{
		StreamID: 1, EndHeaders: true, EndStream: true,
		BlockFragment: encode(":method", "GET", ":scheme", "http", ":authority", "a.test", ":path", "/?size=10000000"),
	}); err != nil {
		t.Fatal(err)
	}
	ended := make(chan string, 1)
	go func() {
		for {
			f, err := fr.ReadFrame()
			if err != nil {
				ended <- err.Error()
				return
			}
			if r, ok := f.(*http2.RSTStreamFrame); ok {
				ended <- "reset " + r.ErrCode.String()
				return
			}
		}
	}()
	ping := time.NewTicker(100 * time.Millisecond)
	defer ping.Stop()
	limit := time.After(10 * time.Second)
	for {
		select {
		case <-ping.C:
			if err := fr.WritePing(false, [8]byte{}); err != nil {
				t.Fatal(err)
			}
		case how := <-ended:
			if !strings.HasPrefix(how, "reset ") {
				t.Error(how)
			}
			if r := h.Access(); !strings.Contains(r, `"error.type":"client_timeout"`) {
				t.Error(r)
			}
			return
		case <-limit:
			t.Fatal("the stream is still held")
		}
	}
}
