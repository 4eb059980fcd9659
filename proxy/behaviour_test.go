package proxy_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/proxy"
	"github.com/gatehouse-gateway/gatehouse/proxy/proxytest"
)

// one is a document of one tenant with one open route.
func one(id, host, backend string) string {
	return fmt.Sprintf(`
  - id: %s
    domain: %s
    backends: [{id: app, endpoints: [{url: "http://%s"}]}]
    routes: [{id: all, match: {path: /}, auth: none, backend: app}]
`, id, host, backend)
}

func status(answer string) string {
	line, _, _ := strings.Cut(answer, "\n")
	_, code, _ := strings.Cut(line, " ")
	return code[:3]
}

func get(h *proxytest.Harness, host, path string, fields ...string) string {
	return h.Do("GET " + path + " HTTP/1.1\nHost: " + host + "\n" + strings.Join(append(fields, "", ""), "\n"))
}

// The law of change at the gateway: a thousand changes of one tenant under
// load fail no request of another and open it no connection.
func TestThousandChanges(t *testing.T) {
	h := proxytest.New(t, "tenants:"+one("busy", "busy.test", "busy.app")+one("other", "other.test", "other.app"))
	var stop atomic.Bool
	var ok atomic.Int64
	var clients sync.WaitGroup
	for range 4 {
		c := h.Dial()
		if err := c.SetDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		clients.Go(func() {
			defer c.Close()
			r := bufio.NewReader(c)
			for !stop.Load() {
				if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: busy.test\r\n\r\n"); err != nil {
					t.Errorf("send: %v", err)
					return
				}
				answer, err := proxytest.ReadAnswer(r, "GET")
				if err != nil || !strings.HasPrefix(answer, "HTTP/1.1 200 ") {
					t.Errorf("answer %v\n%s", err, answer)
					return
				}
				ok.Add(1)
			}
		})
	}
	warm := func(n int64) {
		for limit := time.Now().Add(time.Minute); ok.Load() < n && time.Now().Before(limit) && !t.Failed(); {
			get(h, "other.test", "/")
		}
	}
	warm(100)
	const changes = 1000
	for i := range changes {
		out := h.Gateway.Apply(gatehouse.Update{Revision: uint64(i + 2), Tenants: []gatehouse.Tenant{{
			ID: "other", Domain: "other.test", Features: gatehouse.Features{fmt.Sprint("f", i): true},
			Backends: []gatehouse.Backend{{ID: "app", Endpoints: []gatehouse.Endpoint{{URL: "http://other.app"}}}},
			Routes:   []gatehouse.Route{{ID: "all", Match: gatehouse.Match{Path: "/"}, Auth: gatehouse.AuthNone, Backend: "app"}},
		}}})
		if len(out.Applied) != 1 || out.Applied[0] != "other" {
			t.Fatalf("change %d: %+v", i, out)
		}
	}
	before := ok.Load()
	warm(before + 100)
	stop.Store(true)
	clients.Wait()
	if n := h.Dials("busy.app:80"); n > 4 {
		t.Errorf("%d connections opened for the tenant that did not change, by 4 clients", n)
	}
	if n := h.Dials("other.app:80"); n > 1 {
		t.Errorf("%d connections opened for the tenant that did, by one client: its pool was not kept", n)
	}
	t.Logf("%d changes, %d requests of the other tenant meanwhile", changes, ok.Load())
}

// Counts of limits go on across changes; a changed limit holds at once.
func TestLimitsSurviveChanges(t *testing.T) {
	doc := func(quota int, extra string) string {
		return fmt.Sprintf(`
tenants:
  - id: a
    domain: a.test
    limits: {rules: [{name: q, quota: %d, window: 1000h}]}
    features: [%s]
    backends: [{id: app, endpoints: [{url: "http://a.app"}]}]
    routes: [{id: all, match: {path: /}, auth: none, backend: app}]
`, quota, extra)
	}
	h := proxytest.New(t, doc(2, "one"))
	var got []string
	step := func() { got = append(got, status(get(h, "a.test", "/"))) }
	step()
	h.Apply(doc(2, "two"))
	step()
	step()
	h.Apply(doc(3, "two"))
	step()
	step()
	h.Apply(doc(1, "two"))
	step()
	if s := strings.Join(got, " "); s != "200 200 429 200 429 429" {
		t.Error(s)
	}
}

// Each tenant of an update is taken or refused as a whole.
func TestApply(t *testing.T) {
	h := proxytest.New(t, "tenants:"+one("a", "a.test", "a.app")+one("b", "b.test", "b.app"))
	tenant := func(id, host string) gatehouse.Tenant {
		return gatehouse.Tenant{
			ID: gatehouse.TenantID(id), Domain: host,
			Backends: []gatehouse.Backend{{ID: "app", Endpoints: []gatehouse.Endpoint{{URL: "http://" + id + ".app"}}}},
			Routes:   []gatehouse.Route{{ID: "all", Match: gatehouse.Match{Path: "/"}, Auth: gatehouse.AuthNone, Backend: "app"}},
		}
	}
	state := func() string {
		var s []string
		for _, host := range []string{"a.test", "b.test", "c.test"} {
			answer := get(h, host, "/")
			if status(answer) == "200" {
				_, body, _ := strings.Cut(answer, "\n\n")
				who, _, _ := strings.Cut(body, ".")
				s = append(s, host+"→"+who)
			}
		}
		return strings.Join(s, " ")
	}
	revision := uint64(10)
	apply := func(want, wantState string, u gatehouse.Update) {
		t.Helper()
		revision++
		u.Revision = revision
		out := h.Gateway.Apply(u)
		got := fmt.Sprint("applied ", out.Applied, " removed ", out.Removed)
		for _, r := range out.Refused {
			got += fmt.Sprintf(" refused %s %v", r.Tenant, r.Faults)
		}
		if got != want || state() != wantState {
			t.Errorf("got  %s, %s\nwant %s, %s", got, state(), want, wantState)
		}
	}
	broken := tenant("c", "c.test")
	broken.Policy.Modules = []gatehouse.Module{{Name: "m.rego", Source: "package gatehouse.tenant\nallow if input.x ="}}
	both := func(ts ...gatehouse.Tenant) gatehouse.Update { return gatehouse.Update{Tenants: ts} }

	apply("applied [b] removed [] refused c /policy/modules/0/source: "+policyFault(t, broken), "a.test→a b.test→b", both(broken, tenant("b", "b.test")))
	apply(`applied [] removed [] refused c /domain: host "a.test" belongs to another tenant`, "a.test→a b.test→b", both(tenant("c", "a.test")))
	apply("applied [a b] removed []", "a.test→b b.test→a", both(tenant("a", "b.test"), tenant("b", "a.test")))
	apply(`applied [] removed [] refused a /domain: host "a.test" belongs to another tenant refused b /plan: plan "none" does not exist`,
		"a.test→b b.test→a", both(tenant("a", "a.test"), func() gatehouse.Tenant { t := tenant("b", "b.test"); t.Plan = "none"; return t }()))
	apply("applied [c] removed [a]", "a.test→b b.test→c", gatehouse.Update{RemovedTenants: []gatehouse.TenantID{"a"}, Tenants: []gatehouse.Tenant{tenant("c", "b.test")}})
	apply("applied [a] removed [b c]", "a.test→a", gatehouse.Update{Full: true, Tenants: []gatehouse.Tenant{tenant("a", "a.test")}})
}

// policyFault is what the compiler says of a tenant's policy.
func policyFault(t *testing.T, doc gatehouse.Tenant) string {
	t.Helper()
	engine, err := proxytest.Engine()
	if err != nil {
		t.Fatal(err)
	}
	faults := proxy.Check(engine, &gatehouse.Document{Tenants: []gatehouse.Tenant{doc}})
	if len(faults) != 1 {
		t.Fatalf("%v", faults)
	}
	return strings.TrimPrefix(faults.Error(), faults[0].Pointer+": ")
}

// A plan's change holds for its tenants at once, though only the plan is sent.
func TestPlanChange(t *testing.T) {
	h := proxytest.New(t, `
plans: [{id: p, limits: {rules: [{name: q, quota: 1, window: 1000h}]}}]
tenants:
  - id: a
    domain: a.test
    plan: p
    backends: [{id: app, endpoints: [{url: "http://a.app"}]}]
    routes: [{id: all, match: {path: /}, auth: none, backend: app}]
`)
	before := status(get(h, "a.test", "/")) + status(get(h, "a.test", "/"))
	out := h.Gateway.Apply(gatehouse.Update{Revision: 9, Plans: []gatehouse.Plan{{ID: "p", Limits: gatehouse.Limits{Rules: []gatehouse.LimitRule{{Name: "q", Quota: 2, Window: gatehouse.Window{Length: 1000 * time.Hour}}}}}}})
	after := status(get(h, "a.test", "/")) + status(get(h, "a.test", "/"))
	if before+after != "200429200429" || fmt.Sprint(out.Applied) != "[a]" {
		t.Error(before, after, out)
	}
}

// The four ways to tell limits, as whole fields.
func TestHeaderStyles(t *testing.T) {
	const doc = `
tenants:
  - id: a
    domain: a.test
    limits: {concurrency: 7, rules: [{name: rate, rate: 1/h, burst: 1}, {name: q, quota: 50, window: 1000h}]}
    backends: [{id: app, endpoints: [{url: "http://a.app"}]}]
    routes: [{id: all, match: {path: /}, auth: none, backend: app}]
`
	for style, want := range map[proxy.HeaderStyle]string{
		proxy.HeadersIETF:    "200 | RateLimit-Policy: \"rate\";q=1;w=3600, \"q\";q=50;w=3600000, \"concurrency\";q=7;qu=\"concurrent-requests\" | RateLimit: \"rate\";r=0;t=3600 · 429 | RateLimit-Policy: \"rate\";q=1;w=3600, \"q\";q=50;w=3600000, \"concurrency\";q=7;qu=\"concurrent-requests\" | RateLimit: \"rate\";r=0;t=3600 | Retry-After: 3600",
		proxy.HeadersDraft03: "200 | RateLimit-Limit: 1, 1;w=3600, 50;w=3600000 | RateLimit-Remaining: 0 | RateLimit-Reset: 3600 · 429 | RateLimit-Limit: 1, 1;w=3600, 50;w=3600000 | RateLimit-Remaining: 0 | RateLimit-Reset: 3600 | Retry-After: 3600",
		proxy.HeadersX:       "200 | X-RateLimit-Limit: 1 | X-RateLimit-Remaining: 0 | X-RateLimit-Reset: 3600 · 429 | X-RateLimit-Limit: 1 | X-RateLimit-Remaining: 0 | X-RateLimit-Reset: 3600 | Retry-After: 3600",
		proxy.HeadersOff:     "200 · 429 | Retry-After: 3600",
	} {
		h := proxytest.New(t, doc, proxytest.Options{Headers: style})
		var got []string
		for range 2 {
			answer := get(h, "a.test", "/")
			fields := []string{status(answer)}
			for line := range strings.Lines(answer) {
				if strings.Contains(line, "RateLimit") || strings.HasPrefix(line, "Retry") {
					fields = append(fields, strings.TrimSpace(line))
				}
			}
			got = append(got, strings.Join(fields, " | "))
		}
		if s := strings.Join(got, " · "); s != want {
			t.Errorf("%s\ngot  %s\nwant %s", style, s, want)
		}
	}
}

// Limits of one name in several scopes are told apart.
func TestLimitNames(t *testing.T) {
	h := proxytest.New(t, `
plans: [{id: p, limits: {rules: [{name: q, quota: 50, window: 1000h}, {name: p, quota: 60, window: 1000h}]}}]
tenants:
  - id: a
    domain: a.test
    plan: p
    backends: [{id: app, endpoints: [{url: "http://a.app"}]}]
    routes: [{id: all, match: {path: /}, auth: none, backend: app, limits: {rules: [{name: q, quota: 1, window: 1000h}]}}]
`)
	get(h, "a.test", "/")
	answer := get(h, "a.test", "/")
	for _, want := range []string{
		"\nRateLimit-Policy: \"plan.q\";q=50;w=3600000, \"p\";q=60;w=3600000, \"route.q\";q=1;w=3600000\n",
		"\nRateLimit: \"route.q\";r=0;t=3600000\n", `"violated-policies":["route.q"]`, `the limit \"route.q\" is used up`,
	} {
		if !strings.Contains(answer, want) {
			t.Errorf("no %s in\n%s", want, answer)
		}
	}
}

// A concurrency limit answers 503, and its room comes back.
func TestConcurrency(t *testing.T) {
	inside, release := make(chan struct{}, 1), make(chan struct{})
	h := proxytest.New(t, `
tenants:
  - id: a
    domain: a.test
    limits: {concurrency: 1}
    backends: [{id: app, endpoints: [{url: "http://a.app"}]}]
    routes: [{id: all, match: {path: /}, auth: none, backend: app}]
`, proxytest.Options{Backends: map[string]proxytest.Script{"a.app:80": func(c net.Conn) {
		inside <- struct{}{}
		<-release
		proxytest.Answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")(c)
	}}})
	first := make(chan string)
	go func() { first <- get(h, "a.test", "/") }()
	<-inside
	answer := get(h, "a.test", "/")
	if status(answer) != "503" || !strings.Contains(answer, "\nRetry-After: 1\n") || !strings.Contains(answer, `"violated-policies":["concurrency"]`) {
		t.Error(answer)
	}
	close(release)
	if s := status(<-first); s != "200" {
		t.Error(s)
	}
	if s := status(get(h, "a.test", "/")); s != "200" {
		t.Errorf("after the first is done: %s", s)
	}
}

// What a client says of its address is believed of trusted proxies only.
func TestTrustedProxies(t *testing.T) {
	doc := "tenants:" + one("a", "a.test", "a.app")
	trust := func(cidr string) proxytest.Options {
		return proxytest.Options{Config: func(c *proxy.Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix(cidr)} }}
	}
	for _, tt := range []struct{ trusted, sent, want string }{
		{"10.0.0.0/8", "1.2.3.4", "0.0.0.0 for 0.0.0.0"},
		{"0.0.0.0/32", "1.2.3.4", "1.2.3.4 for 1.2.3.4, 0.0.0.0"},
		{"0.0.0.0/32", "evil, 1.2.3.4", "1.2.3.4 for 1.2.3.4, 0.0.0.0"},
		{"0.0.0.0/32", "1.2.3.4, 2001:db8::7", "2001:db8::7 for 1.2.3.4, 2001:db8::7, 0.0.0.0"},
		{"0.0.0.0/32", "garbage", "0.0.0.0 for 0.0.0.0"},
		{"0.0.0.0/0", "1.2.3.4, 5.6.7.8", "1.2.3.4 for 1.2.3.4, 5.6.7.8, 0.0.0.0"},
	} {
		h := proxytest.New(t, doc, trust(tt.trusted))
		answer := get(h, "a.test", "/", "X-Forwarded-For: "+tt.sent)
		var real, list string
		for line := range strings.Lines(answer) {
			if v, ok := strings.CutPrefix(strings.TrimSpace(line), "X-Real-Ip: "); ok {
				real = v
			}
			if v, ok := strings.CutPrefix(strings.TrimSpace(line), "X-Forwarded-For: "); ok {
				list = v
			}
		}
		if got := real + " for " + list; got != tt.want {
			t.Errorf("%s %s: got %s, want %s", tt.trusted, tt.sent, got, tt.want)
		}
	}
}

// Bodies stream both ways: the answer begins while the request body is still
// coming, and a broken answer never ends cleanly.
func TestStreaming(t *testing.T) {
	h := proxytest.New(t, "tenants:"+one("a", "a.test", "a.app")+one("cut", "cut.test", "cut.app"), proxytest.Options{
		Config: func(c *proxy.Config) { c.Limits.Body = 8 << 20 },
		Backends: map[string]proxytest.Script{
			"cut.app:80": proxytest.Answer("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("p", 50000)),
		},
	})
	body := strings.Repeat("b", 5<<20)
	answer := h.Raw("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5242880\r\n\r\n" + body)
	if !strings.HasPrefix(answer, "HTTP/1.1 200 ") || strings.Count(answer, "b") < len(body) {
		t.Errorf("5 MiB up and down: %d bytes", len(answer))
	}
	if answer := get(h, "a.test", "/?size=3000000"); strings.Count(answer, "z") < 3000000 {
		t.Errorf("3 MB down: %d bytes", len(answer))
	}
	if answer := get(h, "cut.test", "/"); !strings.HasPrefix(answer, "HTTP/1.1 200 ") || !strings.HasSuffix(answer, "ppp[cut off]") {
		t.Errorf("a broken answer: %.200s…", answer)
	}
	// A chunked body beyond the limit is found out while it is read.
	big := "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("100000\r\n"+strings.Repeat("c", 1<<20)+"\r\n", 9) + "0\r\n\r\n"
	if answer := h.Raw(big); !strings.HasPrefix(answer, "HTTP/1.1 413 ") {
		t.Errorf("a chunked body beyond the limit: %.200s", answer)
	}
}

// An answer without end is flushed as it comes.
func TestEventsAreFlushed(t *testing.T) {
	next := make(chan string)
	h := proxytest.New(t, "tenants:"+one("a", "a.test", "a.app"), proxytest.Options{Backends: map[string]proxytest.Script{
		"a.app:80": func(c net.Conn) {
			defer c.Close()
			if _, err := bufio.NewReader(c).ReadString('\n'); err != nil {
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
			for event := range next {
				_, _ = fmt.Fprintf(c, "%x\r\n%s\r\n", len(event), event)
			}
			_, _ = io.WriteString(c, "0\r\n\r\n")
		},
	}})
	c := h.Dial()
	defer c.Close()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	for _, event := range []string{"data: 1\n\n", "data: 2\n\n"} {
		next <- event
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(line, strings.TrimSpace(event)) {
				break
			}
		}
	}
	close(next)
}

// The record of a request, the usage of its tenant and the metrics tell the
// same story.
func TestRecords(t *testing.T) {
	expand := credentials(t)
	h := proxytest.New(t, expand(`
tenants:
  - id: a
    domain: a.test
    identity: {api_keys: {keys: [{id: ci, hash: "$HASH1"}]}}
    limits: {rules: [{name: q, quota: 2, window: 1000h}]}
    backends: [{id: app, endpoints: [{url: "http://a.app"}]}]
    routes: [{id: all, match: {path: /}, backend: app, meter: {units_header: X-Units}}]
`))
	key := expand("X-API-Key: $KEY1")
	get(h, "a.test", "/x?header=X-Units:2.5", key, "X-Request-Id: request-1", "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	get(h, "a.test", "/?size=30000", key)
	get(h, "a.test", "/\"quote", key)
	get(h, "a.test", "/")
	get(h, "nobody.test", "/")

	type record struct {
		RequestID string `json:"request_id"`
		TraceID   string `json:"trace_id"`
		Tenant, Client, Method, Host, Path, Route, Protocol, Auth,
		Principal, Phase, Code, Upstream, Limit string
		KeyID    string `json:"key_id"`
		Error    string `json:"error.type"`
		Status   int
		Attempts int
		Units    int64 `json:"units_millionths"`
		BytesOut int64 `json:"bytes_out"`
	}
	var records []record
	for line := range strings.Lines(h.Access()) {
		var r record
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		records = append(records, r)
	}
	if len(records) != 5 {
		t.Fatalf("%d records", len(records))
	}
	first := records[0]
	first.BytesOut = 0
	if want := (record{
		RequestID: "request-1", TraceID: "0af7651916cd43dd8448eb211c80319c", Tenant: "a", Client: "0.0.0.0", Method: "GET", Host: "a.test", Path: "/x",
		Route: "all", Protocol: "HTTP/1.1", Auth: "api_key", Principal: "key:ci", KeyID: "ci", Phase: "count", Upstream: "http://a.app", Attempts: 1,
		Limit: "q", Status: 200, Units: 2500000,
	}); first != want {
		t.Errorf("got  %+v\nwant %+v", first, want)
	}
	var story []string
	for _, r := range records[1:] {
		if r.Code != "" && (r.Upstream != "" || r.Attempts != 0) {
			t.Errorf("a record tells of a backend that was not asked: %+v", r)
		}
		story = append(story, fmt.Sprint(r.Status, " ", r.Phase, " ", r.Code, " ", r.Error))
	}
	if got, want := strings.Join(story, ", "), "200 count  , 429 limit GH-RL-001 http_request_denied, 401 identify GH-ID-001 http_request_denied, 404 resolve GH-RS-001 destination_not_found"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if strings.Contains(h.Access(), expand("$KEY1")) {
		t.Error("the access log holds a key")
	}

	usage := h.Meter.Usage("a", time.Now())
	total := usage.Total
	if total.Requests != 4 || total.Denied != 2 || total.Status.Success != 2 || total.Status.ClientError != 2 || total.Units != 2500000 {
		t.Errorf("usage %+v", total)
	}
	var out int64
	for _, r := range records[:4] {
		out += r.BytesOut
	}
	if total.BytesOut != out {
		t.Errorf("usage has %d bytes out, the records %d", total.BytesOut, out)
	}
	var m strings.Builder
	h.Gateway.WriteMetrics(&m)
	for _, line := range []string{
		`gatehouse_requests_total{phase="forward",outcome="2xx"} 2`,
		`gatehouse_requests_total{phase="limit",outcome="quota-exceeded"} 1`,
		`gatehouse_requests_total{phase="identify",outcome="unauthenticated"} 1`,
		`gatehouse_requests_total{phase="resolve",outcome="unknown-tenant"} 1`,
		`gatehouse_request_duration_seconds_count 5`,
		`gatehouse_requests_in_flight 0`,
		`gatehouse_tenants 1`,
		fmt.Sprintf(`gatehouse_body_bytes_total{direction="out"} %d`, out+records[4].BytesOut),
	} {
		if !strings.Contains(m.String(), line+"\n") {
			t.Errorf("the metrics have no line %s", line)
		}
	}
}

// A client may keep its body until the head has been judged.
func TestExpect(t *testing.T) {
	h := proxytest.New(t, "tenants:"+one("a", "a.test", "a.app"))
	c := h.Dial()
	defer c.Close()
	if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	if line, err := r.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatal(line, err)
	}
	if _, err := r.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "hello"); err != nil {
		t.Fatal(err)
	}
	answer, err := proxytest.ReadAnswer(r, "POST")
	if err != nil || status(answer) != "200" || !strings.HasSuffix(answer, "\nhello") || strings.Contains(answer, "Expect") {
		t.Errorf("%v %s", err, answer)
	}
}

// A client that is told to go on and does not gives back what it held.
func TestExpectAbandoned(t *testing.T) {
	h := proxytest.New(t, `
tenants:
  - id: a
    domain: a.test
    limits: {concurrency: 1}
    backends: [{id: app, endpoints: [{url: "http://a.app"}]}]
    routes: [{id: all, match: {path: /}, auth: none, backend: app}]
`)
	for range 3 {
		c := h.Dial()
		if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
			t.Fatal(line, err)
		}
		c.Close()
		idle := false
		for limit := time.Now().Add(10 * time.Second); !idle && time.Now().Before(limit); {
			var m strings.Builder
			h.Gateway.WriteMetrics(&m)
			idle = strings.Contains(m.String(), "gatehouse_requests_in_flight 0\n")
		}
		if !idle {
			t.Fatal("the request is still in flight")
		}
	}
	if s := status(get(h, "a.test", "/")); s != "200" {
		t.Errorf("after three abandoned bodies: %s", s)
	}
}

// A head that does not fit or does not come is refused, and said to be.
func TestHeadBounds(t *testing.T) {
	h := proxytest.New(t, "tenants:"+one("a", "a.test", "a.app"), proxytest.Options{Config: func(c *proxy.Config) {
		c.Limits.HeaderBytes = 2048
		c.Timeouts.Header = gatehouse.Duration(50 * time.Millisecond)
	}, TCP: true})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- h.Gateway.Serve(ln) }()
	for request, want := range map[string]string{
		"GET / HTTP/1.1\r\nHost: a.test\r\nX-Big: " + strings.Repeat("x", 4096) + "\r\n\r\n": "431 GH-AD-002",
		"GET / HTTP/1.1\r\nHost: a.te":                       "408 GH-AD-004",
		"GET / HTTP/1.1\r\nHost: a.test\r\nNo colon\r\n\r\n": "400 GH-AD-001",
	} {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, request); err != nil {
			t.Fatal(err)
		}
		answer, err := proxytest.ReadAnswer(bufio.NewReader(c), "GET")
		c.Close()
		code := answer[max(0, strings.Index(answer, `"code":"`)+8):]
		if err != nil || status(answer)+" "+code[:9] != want || !strings.Contains(answer, "\nConnection: close\n") {
			t.Errorf("%.60q: %v\n%s", request, err, answer)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := h.Gateway.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// OPTIONS goes as far as it asks to (RFC 9110, 7.6.2).
func TestMaxForwards(t *testing.T) {
	h := proxytest.New(t, "tenants:"+one("a", "a.test", "a.app"))
	f := func(method, value, want string) {
		t.Helper()
		answer := h.Do(method + " / HTTP/1.1\nHost: a.test\nMax-Forwards: " + value + "\n\n")
		if !strings.Contains(answer, want) {
			t.Errorf("%s with %s: %s", method, value, answer)
		}
	}
	f("OPTIONS", "0", "HTTP/1.1 204 No Content\n")
	f("OPTIONS", "1", "\nMax-Forwards: 0\n")
	f("OPTIONS", "7", "\nMax-Forwards: 6\n")
	f("GET", "0", "\nMax-Forwards: 0\n")
}

// What policy wants in the access log is there, apart from the gateway's own.
func TestObligationsLogged(t *testing.T) {
	h := proxytest.New(t, `tenants:
  - id: a
    domain: a.test
    backends: [{id: app, endpoints: [{url: "http://a.app"}]}]
    routes: [{id: all, match: {path: /}, auth: none, backend: app}]
    policy:
      modules:
        - name: main.rego
          source: |
            package gatehouse.tenant
            default allow := true
            obligations := {"log": {"project": input.request.segments[0], "status": "mine"}}
`)
	get(h, "a.test", "/studio")
	if r := h.Access(); !strings.Contains(r, `"status":200,`) || !strings.Contains(r, `,"policy":{"project":"studio","status":"mine"}`) {
		t.Error(r)
	}
}
