package proxy_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse/proxy"
	"github.com/gatehouse-gateway/gatehouse/proxy/proxytest"
)

// Who names no host in its handshake gets the default certificate, and with
// it no way around a tenant's lowest version of TLS.
func TestVersionOfTLSWithoutName(t *testing.T) {
	h := secure(t, "tenants:"+one("old", "old.test", "old.app")+one("new", "new.test", "new.app")+"    tls: {min_version: \"1.3\"}\n",
		map[string][]string{"both": {"old.test", "new.test"}, "default": {"default.test"}})
	f := func(host string, version uint16, want string) {
		t.Helper()
		got := h.ask("", "GET / HTTP/1.1\nHost: "+host+"\n\n", func(c *tls.Config) { c.InsecureSkipVerify, c.MaxVersion = true, version })
		if !strings.HasPrefix(got, "HTTP/1.1 "+want) {
			t.Errorf("%s by %s, want %s:\n%s", host, tls.VersionName(version), want, got)
		}
	}
	f("new.test", tls.VersionTLS12, "421")
	f("new.test", tls.VersionTLS13, "200")
	f("old.test", tls.VersionTLS12, "200")
}

// A backend gets none of the fields that it might act on and that are not the
// client's to set, however they are spelled.
func TestFieldsThatStay(t *testing.T) {
	h := proxytest.New(t, "tenants:"+one("a", "a.test", "a.app"))
	var b strings.Builder
	for _, name := range []string{
		"Proxy", "Proxy-Foo", "Proxy-Connection", "Proxy-Authorization", "X-Forwarded-Ssl", "X-Forwarded-Prefix", "X-Forwarded-Scheme",
		"X-Forwarded-Port", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-For", "X-Real-IP", "X-Original-URL", "X-Rewrite-URL",
		"X-Gatehouse-Tenant", "X-Gatehouse-New",
	} {
		for _, spelled := range []string{name, strings.ToLower(name), strings.ReplaceAll(name, "-", "_"), strings.Replace(name, "-", "_", 1)} {
			fmt.Fprintf(&b, "%s: stays\n", spelled)
		}
	}
	got := h.Do("GET / HTTP/1.1\nHost: a.test\nX-Passes: 1\nProxied: 2\nX-Forwarded: 3\nX-Original: 4\nX_Passes: 5\n" + b.String() + "\n")
	_, body, _ := strings.Cut(got, "\n\n")
	const want = `a.app:80: GET / HTTP/1.1
Host: a.test
Forwarded: for=0.0.0.0;by=_gatehouse;host="a.test";proto=http
Proxied: 2
Traceparent: TRACE
Via: 1.1 gatehouse
X-Forwarded-For: 0.0.0.0
X-Forwarded-Host: a.test
X-Forwarded-Proto: http
X-Forwarded: 3
X-Gatehouse-Tenant: a
X-Original: 4
X-Passes: 1
X-Real-Ip: 0.0.0.0
X-Request-Id: REQUEST-ID
X_passes: 5
`
	if status(got) != "200" || body != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// A backend's Proxy-Status passes, unless it speaks in the gateway's name.
func TestProxyStatusOfBackend(t *testing.T) {
	f := func(value string, passes bool) {
		t.Helper()
		h := proxytest.New(t, "tenants:"+one("a", "a.test", "a.app"), proxytest.Options{Backends: map[string]proxytest.Script{
			"a.app:80": proxytest.Answer("HTTP/1.1 200 OK\r\nProxy-Status: " + value + "\r\nContent-Length: 2\r\n\r\nok"),
		}})
		got := get(h, "a.test", "/")
		if status(got) != "200" || strings.Contains(got, "\nProxy-Status: "+value+"\n") != passes || !passes && strings.Contains(got, "Proxy-Status") {
			t.Errorf("%s:\n%s", value, got)
		}
	}
	f("cache.example; error=connection_refused", true)
	f(`"edge of ours"; received-status=200`, true)
	f("gatehouse; error=connection_refused", false)
	f(`"gatehouse"; error=connection_refused`, false)
	f("cache.example, gatehouse; error=connection_refused", false)
}

// An interim answer has no fields of the backend's connection, none that is
// the gateway's, and no units.
func TestInterimFields(t *testing.T) {
	const hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nX-Internal: secret\r\nConnection: x-internal\r\nKeep-Alive: 5\r\nX-Units: 7\r\n" +
		"Proxy-Status: gatehouse; error=connection_refused\r\nX-Gatehouse-Tenant: b\r\nX-Passes: 1\r\n\r\n"
	h := proxytest.New(t, `tenants:
  - id: a
    domain: a.test
    backends: [{id: app, endpoints: [{url: "http://a.app"}]}]
    routes: [{id: all, match: {path: /}, auth: none, backend: app, meter: {units_header: X-Units}}]
`, proxytest.Options{Backends: map[string]proxytest.Script{"a.app:80": proxytest.Answer(hints + "HTTP/1.1 204 No Content\r\n\r\n")}})
	c := h.Dial()
	defer c.Close()
	say(t, c, plainGet)
	r := bufio.NewReader(c)
	var got strings.Builder
	for !strings.HasSuffix(got.String(), "\r\n\r\n") {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatal(err, got.String())
		}
		got.WriteString(line)
	}
	if want := "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nX-Passes: 1\r\n\r\n"; got.String() != want {
		t.Errorf("%q, want %q", got.String(), want)
	}
	if answer, err := proxytest.ReadAnswer(r, "GET"); err != nil || status(answer) != "204" {
		t.Error(err, answer)
	}
	if units := total(h, "a").Units; units != 0 {
		t.Errorf("%d units were counted", units)
	}
}

// asking sends lines of a head over TCP, as 127.0.0.1, and returns the status.
func asking(t *testing.T, addr string, lines ...string) string {
	t.Helper()
	c := dialTCP(t, addr)
	defer c.Close()
	say(t, c, strings.Join(lines, "\r\n")+"\r\n\r\n")
	answer, err := proxytest.ReadAnswer(bufio.NewReader(c), "GET")
	if err != nil {
		t.Fatal(err, answer)
	}
	return status(answer)
}

// Routes, limits and policies go by no field that the backend does not get:
// the client could take it back behind their backs.
func TestRulesSeeWhatPasses(t *testing.T) {
	field := func(name, document string, trusted bool, f func(name string, ask func(lines ...string) string)) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			h := proxytest.New(t, `tenants:
  - id: a
    domain: a.test
    backends: [{id: app, endpoints: [{url: "http://a.app"}]}]
`+document, proxytest.Options{Config: func(c *proxy.Config) {
				if trusted {
					c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
				}
			}})
			addr := listen(t, h.Gateway.Serve)
			f(name, func(lines ...string) string {
				return asking(t, addr, append([]string{"GET / HTTP/1.1", "Host: a.test"}, lines...)...)
			})
		})
	}
	hidden := []struct {
		name  string
		lines []string // of a request that tries with it
	}{
		{"X-Reviewed", []string{"X-Reviewed: yes", "Connection: x-reviewed"}},
		{"X-Reviewed", []string{"Connection: close, X-Reviewed", "X-Reviewed: yes"}},
		{"X-Gatehouse-Principal", []string{"X-Gatehouse-Principal: yes"}},
		{"TE", []string{"TE: yes"}},
		{"Keep-Alive", []string{"Keep-Alive: yes"}},
		{"Proxy-Foo", []string{"Proxy-Foo: yes"}},
	}
	said := []struct {
		name  string
		lines []string
	}{
		{"X-Forwarded-For", []string{"X-Forwarded-For: yes"}},
		{"X-Forwarded-Prefix", []string{"X-Forwarded-Prefix: yes"}},
		{"X-Forwarded-Host", []string{"X-Forwarded-Host: yes"}},
		{"X-Real-IP", []string{"X-Real-IP: yes"}},
		{"X-Original-URL", []string{"X-Original-URL: yes"}},
		{"Forwarded", []string{"Forwarded: yes"}},
	}
	route := func(name string) string {
		return fmt.Sprintf(`    routes: [{id: all, match: {path: /, headers: [{name: %s, value: "yes"}]}, auth: none, backend: app}]
`, name)
	}
	policy := func(name string) string {
		return fmt.Sprintf(`    routes: [{id: all, match: {path: /}, auth: none, backend: app}]
    policy:
      modules:
        - name: main.rego
          source: |
            package gatehouse.tenant
            default allow := false
            allow if input.request.headers["%s"] == "yes"
`, strings.ToLower(name))
	}
	limit := func(name string) string {
		return fmt.Sprintf(`    routes: [{id: all, match: {path: /}, auth: none, backend: app}]
    limits: {rules: [{name: q, quota: 1, window: 1000h, by: ["header:%s"]}]}
`, name)
	}
	other := func(lines []string) []string { // with another value
		other := make([]string, len(lines))
		for i := range lines {
			other[i] = strings.Replace(lines[i], ": yes", ": other", 1)
		}
		return other
	}
	f := func(name string, lines []string, trusted, seen bool) {
		t.Helper()
		check := func(got, visible, invisible string) {
			t.Helper()
			want := invisible
			if seen {
				want = visible
			}
			if got != want {
				t.Errorf("%s with %q, trusted %v: %s, want %s", name, lines, trusted, got, want)
			}
		}
		field("route by "+name, route(name), trusted, func(_ string, ask func(...string) string) {
			check(ask(lines...), "200", "404")
		})
		field("policy of "+name, policy(name), trusted, func(_ string, ask func(...string) string) {
			check(ask(lines...), "200", "403")
		})
		field("limit by "+name, limit(name), trusted, func(_ string, ask func(...string) string) {
			check(ask(lines...), "200", "200")
			check(ask(other(lines)...), "200", "429")
		})
	}
	for _, v := range hidden {
		f(v.name, v.lines, false, false)
		f(v.name, v.lines, true, false)
	}
	for _, v := range said {
		f(v.name, v.lines, false, false)
		f(v.name, v.lines, true, true)
	}
	f("X-Plain", []string{"X-Plain: yes"}, false, true)
}

// A path that HTTP/2 has no way to carry is the client's fault, where a route
// leaves paths as they are.
func TestRawPathToHTTP2(t *testing.T) {
	h := proxytest.New(t, `
tenants:
  - id: a
    domain: a.test
    backends: [{id: app, protocol: h2, endpoints: [{url: "http://a.app"}]}]
    routes: [{id: all, match: {path: /}, path_mode: raw, auth: none, backend: app}]
`)
	for _, path := range []string{"//a|b", "//a\"b", "//a^b", "//a|b?c"} {
		if got := h.Do("GET " + path + " HTTP/1.1\nHost: a.test\n\n"); status(got) != "400" || !strings.Contains(got, "Proxy-Status: gatehouse; error=http_request_error\n") {
			t.Errorf("%s: %s", path, got)
		}
	}
	if n := h.Dials("a.app:80"); n != 0 {
		t.Errorf("the backend was dialled %d times", n)
	}
}

// tracestate belongs to its traceparent: a new trace has none.
func TestTraceState(t *testing.T) {
	h := proxytest.New(t, "tenants:"+one("a", "a.test", "a.app"))
	const good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	f := func(want string, fields ...string) {
		t.Helper()
		var got []string
		for line := range strings.Lines(get(h, "a.test", "/", fields...)) {
			if strings.HasPrefix(line, "Tracestate: ") || strings.HasPrefix(line, "Traceparent: ") {
				got = append(got, strings.TrimSpace(line))
			}
		}
		if s := strings.Join(got, ", "); s != want {
			t.Errorf("%q: %s, want %s", fields, s, want)
		}
	}
	f("Traceparent: "+good+", Tracestate: a=1", "traceparent: "+good, "tracestate: a=1")
	f("Traceparent: "+good+", Tracestate: a=1, Tracestate: b=2", "tracestate: a=1", "Traceparent: "+good, "TraceState: b=2")
	f("Traceparent: TRACE", "tracestate: a=1")
	f("Traceparent: TRACE", "TRACESTATE: a=1", "traceparent: bad", "tracestate: b=2")
	f("Traceparent: TRACE", "traceparent: 00-00000000000000000000000000000000-b7ad6b7169203331-01", "tracestate: a=1")
}

// Only the word trailers, without a weight, says that trailers are read (RFC
// 9110, 10.1.4).
func TestTakesTrailers(t *testing.T) {
	h := proxytest.New(t, `tenants:
  - id: a
    domain: a.test
    backends: [{id: app, endpoints: [{url: "http://a.app"}]}]
    routes: [{id: all, match: {path: /}, auth: none, backend: app, trailers: [x-sum]}]
`)
	f := func(te string, takes bool) {
		t.Helper()
		got := get(h, "a.test", "/", "TE: "+te)
		asked, chunked := strings.Contains(got, "\nTe: trailers\n"), strings.Contains(got, "\nTransfer-Encoding: chunked\n")
		if status(got) != "200" || asked != takes || chunked != takes {
			t.Errorf("TE: %s: asked %v, chunked %v\n%s", te, asked, chunked, got)
		}
	}
	f("trailers", true)
	f("Trailers", true)
	f("gzip;q=0.5, trailers", true)
	f("trailers ,deflate", true)
	f("x-trailers", false)
	f("trailers-x", false)
	f("trailers;q=0", false)
	f("gzip, trailers; q=0", false)
	f("gzip", false)
	f("", false)
}
