package proxy_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/proxy"
	"github.com/gatehouse-gateway/gatehouse/proxy/proxytest"
)

// staticBackend answers every read with one fixed response and allocates
// nothing while it does: each request here arrives in one segment.
func staticBackend(tb testing.TB) (addr string) {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = ln.Close() })
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1024\r\n\r\n" + strings.Repeat("x", 1024))
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 64<<10)
				for {
					if _, err := c.Read(buf); err != nil {
						return
					}
					if _, err := c.Write(answer); err != nil {
						return
					}
				}
			}()
		}
	}()
	return ln.Addr().String()
}

// costDocument has one route for each thing whose cost is of interest.
const costDocument = `
plans:
  - {id: large, limits: {rules: [{name: per-second, rate: 1000000/s, burst: 1000000}, {name: monthly, quota: 1000000000, window: month}]}}
tenants:
  - id: plain
    domain: plain.test
    backends: [{id: app, endpoints: [{url: "http://%[1]s"}]}]
    routes: [{id: all, match: {path: /}, auth: none, backend: app}]
  - id: full
    domain: full.test
    plan: large
    identity:
      api_keys: {keys: [{id: ci, hash: "$HASH1", roles: [editor]}]}
      jwt: [{issuer: "https://id.studio.example.com/", audience: [studio-api], algorithms: [EdDSA], jwks_file: testdata/studio.jwks.json}]
    limits: {concurrency: 1000}
    backends: [{id: app, endpoints: [{url: "http://%[1]s"}]}]
    routes:
      - id: api
        match: {path: /api/, methods: [GET, POST]}
        backend: app
        limits: {rules: [{name: per-user, rate: 1000000/s, burst: 1000000, by: [principal]}]}
    policy:
      modules:
        - name: main.rego
          source: |
            package gatehouse.tenant
            default allow := false
            allow if { input.request.method == "GET"; "editor" in input.principal.roles }
`

// costs are the requests that tests of allocation and benchmarks make.
var costs = []struct{ name, request string }{
	{"plain", "GET /a/b HTTP/1.1\r\nHost: plain.test\r\nUser-Agent: test\r\nAccept: */*\r\n\r\n"},
	{"key", "GET /api/tracks/7 HTTP/1.1\r\nHost: full.test\r\nUser-Agent: test\r\nX-API-Key: $KEY1\r\n\r\n"},
	{"token", "GET /api/tracks/7 HTTP/1.1\r\nHost: full.test\r\nUser-Agent: test\r\nAuthorization: Bearer $STUDIO_EDITOR\r\n\r\n"},
}

// client is a kept connection that makes one request over and over.
type client struct {
	conn    net.Conn
	request []byte
	buf     []byte
}

func newClient(tb testing.TB, addr, request string) *client {
	tb.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	cl := &client{conn: c, request: []byte(request), buf: make([]byte, 64<<10)}
	if _, err := c.Write(cl.request); err != nil {
		tb.Fatal(err)
	}
	n, err := c.Read(cl.buf)
	if err != nil || !strings.HasPrefix(string(cl.buf[:n]), "HTTP/1.1 200 OK\r\n") {
		tb.Fatalf("%s %v", cl.buf[:n], err)
	}
	return cl
}

// do makes the request once more; the answer ends with the body's last byte.
func (c *client) do() error {
	if _, err := c.conn.Write(c.request); err != nil {
		return err
	}
	n := 0
	for n < 1024 || c.buf[n-1] != 'x' {
		m, err := c.conn.Read(c.buf[n:])
		if err != nil {
			return err
		}
		n += m
	}
	if string(c.buf[9:12]) != "200" {
		return fmt.Errorf("%s", c.buf[:n])
	}
	return nil
}

func costGateway(tb testing.TB, noAccess bool, parts ...func(*proxy.Parts)) (addr string) {
	tb.Helper()
	expand := credentials(tb)
	o := proxytest.Options{TCP: true, NoAccess: noAccess}
	for _, f := range parts {
		o.Parts = f
	}
	h := proxytest.New(tb, expand(fmt.Sprintf(costDocument, staticBackend(tb))), o)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- h.Gateway.Serve(ln) }()
	tb.Cleanup(func() {
		if err := <-served; err != nil {
			tb.Error(err)
		}
	})
	tb.Cleanup(func() { _ = ln.Close() })
	return ln.Addr().String()
}

// A request on a warm gateway allocates nothing: not in the line, not in the
// transport, not for the access log.
func TestNoAllocations(t *testing.T) {
	if raceEnabled {
		t.Log("the race detector allocates; the figures below are not held")
	}
	addr := costGateway(t, false)
	expand := credentials(t)
	for _, c := range costs {
		cl := newClient(t, addr, expand(c.request))
		for range 200 {
			if err := cl.do(); err != nil {
				t.Fatal(err)
			}
		}
		allocs := testing.AllocsPerRun(2000, func() {
			if err := cl.do(); err != nil {
				t.Fatal(err)
			}
		})
		t.Logf("%s: %.2f allocations a request", c.name, allocs)
		if allocs >= 1 && !raceEnabled {
			t.Errorf("%s: %.2f allocations a request", c.name, allocs)
		}
	}
}

// BenchmarkLine is the whole way over loopback: client, gateway, backend and
// back, in one process. The bare row is client to backend without a gateway.
func BenchmarkLine(b *testing.B) {
	expand := credentials(b)
	run := func(name, addr, request string) {
		b.Run(name, func(b *testing.B) {
			cl := newClient(b, addr, request)
			b.ReportAllocs()
			for b.Loop() {
				if err := cl.do(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	run("bare", staticBackend(b), costs[0].request)
	for _, access := range []bool{false, true} {
		addr := costGateway(b, !access)
		for _, c := range costs {
			run(fmt.Sprintf("%s/access=%v", c.name, access), addr, expand(c.request))
		}
	}
	// With counters in a mapped file and their log, and with none. The rows
	// take turns: the machine is not the same from one moment to the next.
	on := costGateway(b, true, func(p *proxy.Parts) { p.Meter = running(b) })
	off := costGateway(b, true, func(p *proxy.Parts) { p.Meter = nil })
	for turn := range 3 {
		for _, c := range costs[:2] {
			run(fmt.Sprintf("%s/metering=off/%d", c.name, turn), off, expand(c.request))
			run(fmt.Sprintf("%s/metering=on/%d", c.name, turn), on, expand(c.request))
		}
	}
}

// running is a meter that keeps its counts in a folder.
func running(tb testing.TB) *metering.Meter {
	tb.Helper()
	m, err := metering.Open(metering.Options{Dir: tb.TempDir()})
	if err != nil {
		tb.Fatal(err)
	}
	ctx, end := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	tb.Cleanup(func() {
		end()
		if err := <-ended; err != nil {
			tb.Error(err)
		}
	})
	return m
}
