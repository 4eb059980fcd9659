package upstream

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// h2Server is how serveH2 serves.
type h2Server struct {
	tls     *tls.Config // nil: prior knowledge
	streams int         // at once on a connection; 0: many
	idle    time.Duration
	header  int    // bytes of a request's header section; 0: many
	count   func() // called for each connection
}

// serveH2 runs a real server of HTTP/2 on loopback.
func serveH2(t testing.TB, s h2Server, handler http.HandlerFunc) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	scheme := "http://"
	if s.tls != nil {
		scheme = "https://"
	}
	server := &http.Server{
		Handler: handler, ErrorLog: log.New(io.Discard, "", 0), Protocols: &http.Protocols{}, IdleTimeout: s.idle, MaxHeaderBytes: s.header,
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: s.streams}, TLSConfig: s.tls,
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew && s.count != nil {
				s.count()
			}
		},
	}
	var over sync.WaitGroup
	if s.tls == nil {
		server.Protocols.SetUnencryptedHTTP2(true)
		over.Go(func() { _ = server.Serve(l) })
	} else {
		server.Protocols.SetHTTP2(true)
		over.Go(func() { _ = server.ServeTLS(l, "", "") })
	}
	t.Cleanup(func() { server.Close(); over.Wait() })
	return scheme + l.Addr().String()
}

// liveH2 makes a backend of one client that speaks HTTP/2.
func liveH2(t testing.TB, doc gatehouse.Backend, urls ...string) *Backend {
	t.Helper()
	doc.Protocol = gatehouse.HTTP2
	return live(t, doc, urls...)
}

// seen tells what a server got.
func seen(r *http.Request) string {
	var s strings.Builder
	fmt.Fprintf(&s, "%s %s %s", r.Method, r.RequestURI, r.Host)
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		fmt.Fprintf(&s, " %s=%q", name, r.Header[name])
	}
	body, err := io.ReadAll(r.Body)
	fmt.Fprintf(&s, " %q", clip(body))
	if err != nil {
		s.WriteString(" " + err.Error())
	}
	for _, name := range slices.Sorted(maps.Keys(r.Trailer)) {
		fmt.Fprintf(&s, " trailer %s=%q", name, r.Trailer[name])
	}
	return s.String()
}

func TestH2Request(t *testing.T) {
	var got string
	cert, roots := authority(t, "127.0.0.1")
	handler := func(_ http.ResponseWriter, r *http.Request) { got = seen(r) }
	over := version(t, client(t, Config{RootCAs: roots}), nil, gatehouse.Backend{Protocol: gatehouse.HTTP2},
		serveH2(t, h2Server{tls: &tls.Config{Certificates: []tls.Certificate{cert}}}, handler))
	plain := liveH2(t, gatehouse.Backend{}, serveH2(t, h2Server{}, handler))
	f := func(req func() *Request, expected string) {
		t.Helper()
		for _, b := range []*Backend{plain, over} {
			got = ""
			want(t, outcome(b, req()), `200 "" attempts=1`)
			want(t, got, expected)
		}
	}
	head := func(s string) func() *Request {
		return func() *Request {
			return &Request{Head: []byte(strings.ReplaceAll(s, "\n", "\r\n") + "\r\n\r\n"), IsHead: strings.HasPrefix(s, "HEAD")}
		}
	}
	f(get, `GET / a ""`)
	f(head("HEAD /a%2Fb/../c;x?y=z&%20 HTTP/1.1\nHost: a.example:81"), `HEAD /a%2Fb/../c;x?y=z&%20 a.example:81 ""`)
	f(head("GET //b/c? HTTP/1.1\nHost: a"), `GET //b/c? a ""`)
	f(head("GET //b%2F/c?//d HTTP/1.1\nHost: a"), `GET //b%2F/c?//d a ""`)
	f(head("GET / HTTP/1.1\nHost: a\nX-B: 2\nx-a: 1\nX-B: 3\nUser-Agent: u\nCookie: a=b; c=d"),
		`GET / a Cookie=["a=b; c=d"] User-Agent=["u"] X-A=["1"] X-B=["2" "3"] ""`)
	f(head("GET / HTTP/1.1\nHost: a\nConnection: x\nKeep-Alive: 1\nProxy-Connection: x\nUpgrade: x\nTE: trailers"),
		`GET / a Te=["trailers"] ""`)
	f(head("GET / HTTP/1.1\nHost: a\nTE: gzip"), `GET / a ""`)
	f(func() *Request { return post("abc") }, `POST / a Content-Length=["3"] "abc"`)
	f(func() *Request { return chunkedPost(strings.NewReader("abc")) }, `POST / a "abc"`)
	f(func() *Request { return chunkedPost(strings.NewReader("")) }, `POST / a ""`)
	f(func() *Request { return chunkedPost(iotest.DataErrReader(strings.NewReader("abc"))) }, `POST / a "abc"`)
	f(func() *Request {
		req := chunkedPost(strings.NewReader("abc"))
		req.Head = []byte("POST / HTTP/1.1\r\nHost: a\r\nTrailer: Digest, B\r\n\r\n")
		req.Trailer = func(dst []byte) []byte { return append(dst, "Digest: x\r\nB: 1\r\nB: 2\r\n"...) }
		return req
	}, `POST / a "abc" trailer B=["1" "2"] trailer Digest=["x"]`)
	for _, b := range []*Backend{plain, over} {
		if n := b.Stats().Endpoints[0].Dials; n != 1 {
			t.Errorf("%d dials", n)
		}
	}

	small := liveH2(t, gatehouse.Backend{}, serveH2(t, h2Server{header: 1000}, handler))
	want(t, outcome(small, head("GET / HTTP/1.1\nHost: a\nA: "+strings.Repeat("x", 5000))()), "GH-FW-003 http_protocol_error attempts=1")
	want(t, outcome(small, get()), `200 "" attempts=1`)

	want(t, outcome(plain, head("GET http://a/ HTTP/1.1\nHost: a")()), "GH-AD-001 http_request_error attempts=1")
	want(t, outcome(plain, head("GET / HTTP/1.1")()), "GH-AD-001 http_request_error attempts=1")
}

// told tells all of an answer: interim ones, fields and trailer.
func told(b *Backend, req *Request) string {
	var s strings.Builder
	req.Interim = func(status int, fields []Field) { fmt.Fprintf(&s, "%d%s, ", status, fieldText(fields)) }
	var resp Response
	if err := b.Do(req, &resp); err != nil {
		return s.String() + failureText(err)
	}
	defer resp.Release()
	fmt.Fprintf(&s, "%d%s length %d", resp.Status, fieldText(resp.Fields), resp.ContentLength)
	body, err := io.ReadAll(&resp)
	fmt.Fprintf(&s, " %q", clip(body))
	if err != nil {
		s.WriteString(" " + failureText(err))
	}
	for _, f := range resp.Trailer() {
		fmt.Fprintf(&s, " trailer %s=%q", f.Name, f.Value)
	}
	return s.String()
}

func TestH2Response(t *testing.T) {
	f := func(handler http.HandlerFunc, expected string) {
		t.Helper()
		b := liveH2(t, gatehouse.Backend{Timeouts: brief}, serveH2(t, h2Server{}, func(w http.ResponseWriter, r *http.Request) {
			w.Header()["Date"] = nil
			handler(w, r)
		}))
		for range 2 {
			want(t, told(b, get()), expected)
		}
		if s := b.Stats(); s.Live != 0 || s.Endpoints[0].InFlight != 0 || s.Endpoints[0].Dials != 1 {
			t.Errorf("%+v", s)
		}
	}
	f(func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["X-B"] = []string{"2", " 1 "}
		w.Header()["X-A"] = []string{""}
		w.Header()["Content-Type"] = []string{"a/b"}
		_, _ = io.WriteString(w, "hello")
	}, `200 Content-Length="5" Content-Type="a/b" X-A="" X-B="2" X-B="1" length 5 "hello"`)
	f(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, `204 length 0 ""`)
	f(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(304) }, `304 length 0 ""`)
	f(func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = nil
		w.Header().Set("Link", "</a>")
		w.WriteHeader(103)
		w.Header().Del("Link")
		w.WriteHeader(500)
	}, `103 Link="</a>", 500 Content-Length="0" length 0 ""`)
	f(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status, Grpc-Message")
		_, _ = io.WriteString(w, "abc")
		w.Header().Set("Grpc-Status", "0")
		w.Header().Set("Grpc-Message", "fine")
		w.Header().Set(http.TrailerPrefix+"Late", "x")
	}, `200 Content-Length="3" Content-Type="application/grpc" Trailer="Grpc-Message, Grpc-Status" length 3 "abc" trailer Grpc-Message="fine" trailer Grpc-Status="0" trailer Late="x"`)
	// What gRPC calls trailers-only is a header section that ends the stream.
	f(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Grpc-Status", "12")
	}, `200 Content-Length="0" Content-Type="application/grpc" Grpc-Status="12" length 0 ""`)
	f(func(w http.ResponseWriter, _ *http.Request) {
		for range maxFields + 1 {
			w.Header().Add("A", "b")
		}
	}, "GH-FW-003 http_response_header_section_size")
	f(func(w http.ResponseWriter, _ *http.Request) {
		for i := range 10 {
			w.Header().Set(fmt.Sprint("A", i), strings.Repeat("x", 6_560))
		}
	},
		"GH-FW-003 http_response_header_section_size")
	f(func(w http.ResponseWriter, _ *http.Request) {
		for range maxInterim + 1 {
			w.WriteHeader(103)
		}
	}, strings.Repeat("103, ", maxInterim)+"GH-FW-003 http_protocol_error")
	f(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "GH-FW-001 connection_terminated")
	f(func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = nil
		_, _ = io.WriteString(w, "abc")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}, `200 length -1 "abc" GH-FW-003 http_response_incomplete`)
	f(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "GH-FW-002 http_response_timeout")
	f(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Content-Type"] = nil
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}, `200 length -1 "" GH-FW-002 connection_read_timeout`)
}

func TestH2Whole(t *testing.T) {
	b := liveH2(t, gatehouse.Backend{}, serveH2(t, h2Server{}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "5")
		_, _ = io.WriteString(w, "hel")
		_ = http.NewResponseController(w).Flush()
		if r.URL.Path == "/cut" {
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, "lo")
	}))
	whole := func(path string, limit int) string {
		var resp Response
		if err := b.Do(&Request{Head: []byte("GET " + path + " HTTP/1.1\r\nHost: a\r\n\r\n")}, &resp); err != nil {
			return failureText(err)
		}
		defer resp.Release()
		body, all, err := resp.Whole(limit)
		if err != nil {
			return failureText(err)
		}
		rest, err := io.ReadAll(&resp)
		return fmt.Sprintf("%q %v, then %q %v", body, all, rest, err)
	}
	want(t, whole("/", 5), `"hello" true, then "" <nil>`)
	want(t, whole("/", 4), `"" false, then "hello" <nil>`)
	want(t, whole("/cut", 5), "GH-FW-003 http_response_incomplete")
}

// Both directions flow at once, and beyond Do.
func TestH2Duplex(t *testing.T) {
	b := liveH2(t, gatehouse.Backend{Timeouts: brief}, serveH2(t, h2Server{}, func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		_ = c.Flush()
		p := make([]byte, 100)
		for {
			n, err := r.Body.Read(p)
			_, _ = fmt.Fprintf(w, "<%s>", p[:n])
			_ = c.Flush()
			if err != nil {
				return
			}
		}
	}))
	in, out := io.Pipe()
	var resp Response
	if err := b.Do(chunkedPost(in), &resp); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 100)
	for _, word := range []string{"one", "two", "three"} {
		_, _ = io.WriteString(out, word)
		n, err := resp.Read(p)
		want(t, fmt.Sprintf("%s %v", p[:n], err), "<"+word+"> <nil>")
	}
	out.Close()
	rest, err := io.ReadAll(&resp)
	want(t, fmt.Sprintf("%s %v", rest, err), "<> <nil>")
	resp.Release()
}

// A release during the request's body interrupts it, and returns when nothing
// reads it any more; the connection serves on.
func TestH2Release(t *testing.T) {
	ended := make(chan string, 1)
	b := liveH2(t, gatehouse.Backend{}, serveH2(t, h2Server{}, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		if r.Method == "POST" {
			_, err := io.ReadAll(r.Body)
			ended <- fmt.Sprint(err)
		}
	}))
	in, _ := io.Pipe()
	var resp Response
	if err := b.Do(chunkedPost(in), &resp); err != nil {
		t.Fatal(err)
	}
	resp.Release()
	resp.Release()
	if got := <-ended; got == "<nil>" {
		t.Error("the backend saw a clean end")
	}
	if _, err := resp.Read(make([]byte, 1)); !errors.Is(err, errClosed) {
		t.Errorf("Read after Release: %v", err)
	}
	want(t, outcome(b, get()), `200 "" attempts=1`)

	// A body that cannot be closed is waited for.
	more := make(chan struct{})
	slow := &slowBody{more: more, reading: make(chan struct{})}
	if err := b.Do(chunkedPost(slow), &resp); err != nil {
		t.Fatal(err)
	}
	<-slow.reading
	released := make(chan struct{})
	go func() { resp.Release(); close(released) }()
	select {
	case <-released:
		t.Error("released while the body was being read")
	case <-time.After(50 * time.Millisecond):
	}
	close(more)
	<-released
	<-ended
	if s := b.Stats(); s.Live != 0 || s.Endpoints[0].InFlight != 0 || s.Endpoints[0].Dials != 1 {
		t.Errorf("%+v", s)
	}
}

type slowBody struct {
	more    <-chan struct{}
	reading chan struct{}
	once    sync.Once
}

func (s *slowBody) Read([]byte) (int, error) {
	s.once.Do(func() { close(s.reading) })
	<-s.more
	return 0, io.EOF
}
