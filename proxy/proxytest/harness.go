// Package proxytest runs a real gateway on listeners in memory, with backends
// that answer what they were asked, for tests: YAML in, text out.
//
//	h := proxytest.New(t, yaml)
//	got := h.Do("GET /api/ HTTP/1.1\nHost: studio.example.com\n\n")
//
// A backend exists for every endpoint URL that the document names. Its answer
// lists the request as it arrived, so that one comparison shows both what the
// backend saw and what the client got.
package proxytest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/configs"
	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/policies"
	"github.com/gatehouse-gateway/gatehouse/policy"
	"github.com/gatehouse-gateway/gatehouse/proxy"
	"github.com/valyala/fasthttp/fasthttputil"
)

// Options change what New builds. The zero value is a gateway with the
// default configuration.
type Options struct {
	// Config changes the gateway's configuration.
	Config func(*proxy.Config)
	// Headers is how limits are told.
	Headers proxy.HeaderStyle
	// Parts changes what the gateway is built of.
	Parts func(*proxy.Parts)
	// Backends answer for an address, "host:port", in place of the echo. One
	// that is nil refuses connections.
	Backends map[string]Script
	// TCP dials the endpoints' real addresses; no backend is made up.
	TCP bool
	// NoAccess turns the access log off.
	NoAccess bool
}

// Script is a backend of raw bytes: it is handed each connection that the
// gateway opens, and closes it.
type Script func(net.Conn)

// Answer is a Script that reads one request head on each connection and then
// writes text, with its line ends as they are, and closes.
func Answer(text string) Script {
	return func(c net.Conn) {
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
		_, _ = io.WriteString(c, text) // a gateway that hung up is the test's to see
	}
}

// Harness is a running gateway.
type Harness struct {
	Gateway *proxy.Gateway
	Meter   *metering.Meter

	tb       testing.TB
	front    *fasthttputil.InmemoryListener
	served   chan error
	access   *log
	operator *log
	revision uint64

	mu       sync.Mutex
	backends map[string]*backend // guarded by mu
	scripts  map[string]Script   // guarded by mu
	conns    sync.WaitGroup      // connections of scripts
}

// log is a buffer that may be read while it is written to.
type log struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// New starts a gateway with the tenants of a YAML document, which must have
// no fault. It ends with the test.
func New(tb testing.TB, yaml string, opts ...Options) *Harness {
	tb.Helper()
	var o Options
	if len(opts) > 0 {
		o = opts[0]
	}
	h := &Harness{
		tb: tb, front: fasthttputil.NewInmemoryListener(), served: make(chan error, 1), access: &log{}, operator: &log{},
		backends: map[string]*backend{}, scripts: map[string]Script{},
	}
	for addr, s := range o.Backends {
		h.scripts[addr] = s
	}
	var err error
	if h.Meter, err = metering.Open(metering.Options{}); err != nil {
		tb.Fatal(err)
	}
	engine, err := Engine()
	if err != nil {
		tb.Fatal(err)
	}
	cfg := proxy.DefaultConfig()
	if o.Config != nil {
		o.Config(&cfg)
	}
	parts := proxy.Parts{
		Engine: engine, Meter: h.Meter, Log: slog.New(slog.NewTextHandler(h.operator, nil)), Headers: o.Headers,
	}
	if !o.NoAccess {
		parts.Access = h.access
	}
	if !o.TCP {
		parts.Upstream.Dial = h.dial
	}
	if o.Parts != nil {
		o.Parts(&parts)
	}
	h.Gateway, err = proxy.New(cfg, parts)
	if err != nil {
		tb.Fatal(err)
	}
	if out := h.Apply(yaml); len(out.Refused) > 0 {
		tb.Fatalf("refused: %+v", out.Refused)
	}
	go func() { h.served <- h.Gateway.Serve(h.front) }()
	tb.Cleanup(h.close)
	return h
}

// Engine returns a policy engine with the shipped baseline.
func Engine() (*policy.Engine, error) {
	var baseline []gatehouse.Module
	for name, source := range policies.Baseline() {
		baseline = append(baseline, gatehouse.Module{Name: name, Source: source})
	}
	return policy.NewEngine(policy.Config{Baseline: baseline})
}

func (h *Harness) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := h.Gateway.Shutdown(ctx); err != nil {
		h.tb.Errorf("shut down: %v", err)
	}
	if err := <-h.served; err != nil {
		h.tb.Errorf("serve: %v", err)
	}
	h.mu.Lock()
	for _, b := range h.backends {
		_ = b.server.Close() // idle by now
	}
	h.mu.Unlock()
	h.conns.Wait()
}

// Apply makes the tenants of a YAML document the whole configuration.
func (h *Harness) Apply(yaml string) gatehouse.Outcome {
	h.tb.Helper()
	f := configs.Parse("test.yaml", []byte(yaml))
	set := configs.Join(f)
	if errs := set.Problems.Errors(); len(errs) > 0 {
		h.tb.Fatalf("the document has faults:\n%v", errs)
	}
	h.revision++
	return h.Gateway.Apply(gatehouse.Update{Revision: h.revision, Full: true, Plans: set.Document.Plans, Tenants: set.Document.Tenants})
}

// Do sends one request, whose lines may end in "\n", on a connection of its
// own, and returns the answer as text: status line, fields, empty line, body.
// What differs from run to run is replaced: Date is left out, request ids and
// traces are named so.
func (h *Harness) Do(request string) string {
	h.tb.Helper()
	return Stable(h.Raw(strings.ReplaceAll(request, "\n", "\r\n")))
}

// Raw sends bytes on a connection of its own and returns all that comes back
// until one answer is complete or the connection ends.
func (h *Harness) Raw(request string) string {
	h.tb.Helper()
	c := h.Dial()
	defer c.Close()
	go func() { _, _ = io.WriteString(c, request) }()
	method, _, _ := strings.Cut(request, " ")
	text, err := ReadAnswer(bufio.NewReader(c), method)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		h.tb.Fatalf("read answer: %v\n%s", err, text)
	}
	return text
}

// Run does the gateway's work in the background until the test ends.
func (h *Harness) Run(tb testing.TB) {
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- h.Gateway.Run(ctx) }()
	tb.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			tb.Error(err)
		}
	})
}

// Dial opens a connection to the gateway.
func (h *Harness) Dial() net.Conn {
	h.tb.Helper()
	c, err := h.front.Dial()
	if err != nil {
		h.tb.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		h.tb.Fatal(err)
	}
	return c
}

// Listener returns the gateway's listener in memory, for clients of others.
func (h *Harness) Listener() interface{ Dial() (net.Conn, error) } { return h.front }

// ReadAnswer reads one answer: its head as it came, and its body without
// chunks. An answer that breaks off ends in "[cut off]".
func ReadAnswer(r *bufio.Reader, method string) (string, error) {
	var head strings.Builder
	tee := bufio.NewReader(io.TeeReader(r, &head))
	answer, err := http.ReadResponse(tee, &http.Request{Method: method})
	if err != nil {
		return head.String(), err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	text, _, _ := strings.Cut(head.String(), "\r\n\r\n")
	text = strings.ReplaceAll(text, "\r\n", "\n") + "\n\n" + string(body)
	if err != nil {
		text += "[cut off]"
	}
	return text, err
}

var unstable = []struct {
	find    *regexp.Regexp
	replace string
}{
	{regexp.MustCompile(`(?m)^Date: .*\n`), ""},
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}`), "REQUEST-ID"},
	{regexp.MustCompile(`00-[0-9a-f]{32}-[0-9a-f]{16}-00`), "TRACE"},
}

// Stable replaces in text what differs from run to run.
func Stable(text string) string {
	for _, u := range unstable {
		text = u.find.ReplaceAllString(text, u.replace)
	}
	return text
}

// Access returns the access log, once no request is in flight: a record is
// written when its answer is out.
func (h *Harness) Access() string {
	h.tb.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; {
		var m strings.Builder
		h.Gateway.WriteMetrics(&m)
		if strings.Contains(m.String(), "\ngatehouse_requests_in_flight 0\n") {
			break
		}
		if time.Now().After(deadline) {
			h.tb.Fatal("requests are still in flight")
		}
	}
	h.Gateway.FlushRecords()
	return h.access.String()
}

// Log returns the operator's log so far.
func (h *Harness) Log() string { return h.operator.String() }

// Dials returns how many connections the gateway opened to an address.
func (h *Harness) Dials(addr string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if b := h.backends[addr]; b != nil {
		return b.dials
	}
	return 0
}

// backend is an echo behind one address.
type backend struct {
	listener *fasthttputil.InmemoryListener
	server   *http.Server
	dials    int
}

func (h *Harness) dial(_ context.Context, _, addr string) (net.Conn, error) {
	h.mu.Lock()
	script, scripted := h.scripts[addr]
	b := h.backends[addr]
	if b == nil {
		b = &backend{listener: fasthttputil.NewInmemoryListener()}
		b.server = &http.Server{Handler: echo(addr), ReadHeaderTimeout: time.Minute}
		h.backends[addr] = b
		go b.server.Serve(b.listener) //nolint:errcheck // ends with close
	}
	b.dials++
	h.mu.Unlock()
	if !scripted {
		return b.listener.Dial()
	}
	if script == nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errRefused}
	}
	near, far := pipe()
	h.conns.Go(func() { script(far) })
	return near, nil
}

// pipe is a connection in memory with buffers and deadlines.
func pipe() (net.Conn, net.Conn) {
	p := fasthttputil.NewPipeConns()
	return p.Conn1(), p.Conn2()
}

// echo answers 200 with the request as it arrived. The query asks for more:
// status=N, header=Name:value (may be repeated), size=N bytes instead.
func echo(addr string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			body = append(body, "[cut off]"...)
		}
		q := r.URL.Query()
		for _, f := range q["header"] {
			name, value, _ := strings.Cut(f, ":")
			w.Header().Add(name, value)
		}
		status := http.StatusOK
		if s := q.Get("status"); s != "" {
			fmt.Sscan(s, &status) //nolint:errcheck // the test's own number
		}
		w.Header()["Date"] = nil
		var size int
		if s := q.Get("size"); s != "" {
			fmt.Sscan(s, &size) //nolint:errcheck // the test's own number
			w.WriteHeader(status)
			_, _ = io.Copy(w, io.LimitReader(zeros{}, int64(size))) // the gateway may hang up
			return
		}
		var b strings.Builder
		fmt.Fprintf(&b, "%s: %s %s %s\nHost: %s\n", addr, r.Method, r.RequestURI, r.Proto, r.Host)
		var lines []string
		for name, values := range r.Header {
			for _, v := range values {
				lines = append(lines, name+": "+v+"\n")
			}
		}
		slices.Sort(lines)
		b.WriteString(strings.Join(lines, ""))
		if len(r.TransferEncoding) > 0 {
			fmt.Fprintf(&b, "(%s)\n", strings.Join(r.TransferEncoding, ","))
		}
		b.Write(body)
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, b.String()) // the gateway may hang up
	})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'z'
	}
	return len(p), nil
}

var errRefused = os.NewSyscallError("connect", syscall.ECONNREFUSED)
