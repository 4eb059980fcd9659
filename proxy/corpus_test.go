package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/proxy"
	"github.com/gatehouse-gateway/gatehouse/proxy/ingress"
	"github.com/gatehouse-gateway/gatehouse/proxy/ingress/corpus"
	"github.com/gatehouse-gateway/gatehouse/proxy/proxytest"
)

// everyHost is a tenant that answers for the hosts of both corpora.
const everyHost = `tenants:
  - id: a
    domain: a.test
    aliases: [b.test, a, a_b.test, example.com, www.example.com, example.org, localhost, 127.0.0.1, 0.0.0.0, 192.0.2.1]
    backends: [{id: app, endpoints: [{url: "http://%s"}]}]
    routes: [{id: all, match: {path: /}, auth: none, backend: app}]
`

// verdict is what must come of a case at a gateway of everyHost.
type verdict struct {
	corpus.Case
	answers []string // a status and, of an accepted request, what the backend says
	methods []string // of the request behind each answer, "" where it was not understood
	asked   []asked  // what the backend gets
	close   bool
	waits   bool // the last request is not complete
	leaves  bool // the client ends its side when all is sent
	body    bool // the last request is at fault in its body: the backend may have got the beginning of it
}

// bodyStalled is the answer where the rest of a body does not come.
const bodyStalled = "408"

// judge works out the verdict. The corpus is about what may be forwarded; the
// gateway answers some of that itself. 404, with the connection open, for an
// IPv6 address as host, which no tenant can have, and for "*", which no route
// takes. 400 and the end for a path with encoded separators, as is the default
// of Route.PathMode. 400 for a WebSocket handshake without a key.
//
// What the corpus does not tell, the method, the query and the bytes of a body,
// is taken from the case by the shortest way: the request is known to be
// well-formed.
func judge(t *testing.T, c *corpus.Case) verdict {
	t.Helper()
	v := verdict{Case: *c, close: c.Close}
	raw := c.Raw
	for _, w := range c.Wants {
		raw = bytes.TrimPrefix(raw, []byte("\r\n"))
		method, _, _ := strings.Cut(string(raw), " ")
		if w.Status != 200 {
			if method != "HEAD" {
				method = ""
			}
			v.methods = append(v.methods, method)
			v.waits, v.body = w.Status == 408, w.Body
			if v.waits && v.body {
				v.answers = append(v.answers, bodyStalled)
			} else {
				v.answers = append(v.answers, strconv.Itoa(w.Status))
			}
			return v
		}
		var r ingress.Request
		head, rest, _ := bytes.Cut(raw, []byte("\r\n\r\n"))
		if err := r.ParseHead(append(head[:len(head):len(head)], "\r\n\r\n"...)); err != nil {
			t.Fatalf("%s: %v", c.Name, err)
		}
		a := asked{method: method, host: string(r.Authority), target: string(r.Path), chunked: r.BodyLength < 0}
		if w.Known && (a.host != w.Authority || a.target != w.Path || r.BodyLength != w.Length) {
			t.Fatalf("%s: %s, not as the corpus has it", c.Name, a)
		}
		if r.HasQuery {
			a.target += "?" + string(r.Query)
		}
		if a.chunked {
			a.body, rest = dechunk(t, rest)
		} else {
			a.body, rest = string(rest[:r.BodyLength]), rest[r.BodyLength:]
		}
		raw = rest
		v.methods = append(v.methods, method)
		switch {
		case r.Authority[0] == '[', r.Path[0] == '*':
			v.answers = append(v.answers, "404")
			continue
		case r.Separators:
			v.answers = append(v.answers, "400")
			v.close = true
			return v
		case keyless(&r):
			v.answers = append(v.answers, "400")
			continue
		case method == "HEAD":
			v.answers = append(v.answers, "200")
		default:
			v.answers = append(v.answers, "200 "+a.echoed())
		}
		v.asked = append(v.asked, a)
	}
	return v
}

// keyless reports a request for a WebSocket that cannot become one (RFC 6455,
// 4.2.1).
func keyless(r *ingress.Request) bool {
	protocol, _ := r.Sole("Upgrade")
	key, _ := r.Sole("Sec-WebSocket-Key")
	return r.Upgrade && string(r.Method) == "GET" && r.BodyLength == 0 && strings.EqualFold(string(protocol), "websocket") && len(key) != 24
}

// dechunk takes a well-formed chunked body off raw.
func dechunk(t *testing.T, raw []byte) (body string, rest []byte) {
	t.Helper()
	for {
		line, behind, _ := bytes.Cut(raw, []byte("\r\n"))
		digits, _, _ := strings.Cut(string(line), ";")
		n, err := strconv.ParseUint(digits, 16, 31)
		if err != nil {
			t.Fatal(err)
		}
		raw = behind
		if n == 0 {
			break
		}
		body, raw = body+string(raw[:n]), raw[n+2:]
	}
	for {
		line, behind, _ := bytes.Cut(raw, []byte("\r\n"))
		raw = behind
		if len(line) == 0 {
			return body, raw
		}
	}
}

// judged returns both corpora with their verdicts.
func judged(t *testing.T, load func(string) ([]corpus.Case, error), dir string) []verdict {
	t.Helper()
	cases, err := load(dir)
	if err != nil {
		t.Fatal(err)
	}
	verdicts := make([]verdict, len(cases))
	for i := range cases {
		verdicts[i] = judge(t, &cases[i])
	}
	return verdicts
}

// left is the verdict where the client does not wait for a time-out, but ends
// its side when all is sent.
func (v verdict) left() verdict {
	v.answers = append(slices.Clone(v.answers[:len(v.answers)-1]), "400")
	v.Name, v.waits, v.leaves = v.Name+", left", false, true
	return v
}

func (v *verdict) answered() string {
	return strings.Join(v.answers, ", ") + map[bool]string{true: ", closed", false: ", open"}[v.close]
}

// readResponse reads the next final answer.
func readResponse(r *bufio.Reader, method string) (string, error) {
	for {
		a, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			return "", err
		}
		body, err := io.ReadAll(a.Body)
		switch {
		case err != nil:
			return "", err
		case a.StatusCode == http.StatusContinue:
		case a.StatusCode == http.StatusOK && len(body) > 0:
			return fmt.Sprint(a.StatusCode, " ", string(body)), nil
		default:
			return strconv.Itoa(a.StatusCode), nil
		}
	}
}

const canaryGet = "GET /canary HTTP/1.1\r\nHost: a.test\r\n\r\n"

// converse sends a case's bytes and tells the answers, and whether the
// connection is open then, which is tried by one more request. With step,
// each so many bytes go in a segment of their own.
func converse(from net.IP, addr string, v *verdict, step int) (answered string) {
	c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: from}}).Dial("tcp", addr)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err.Error()
	}
	var sending sync.WaitGroup
	defer sending.Wait()
	sending.Go(func() {
		for part := range slices.Chunk(v.Raw, step) {
			if _, err := c.Write(part); err != nil {
				return // whoever refuses need not read all of it
			}
		}
		if v.leaves {
			_ = c.(*net.TCPConn).CloseWrite()
		}
	})
	var got []string
	tell := func(err error) string { return strings.Join(append(got, err.Error()), ", ") }
	r := bufio.NewReader(c)
	for _, method := range v.methods {
		answer, err := readResponse(r, method)
		if err != nil {
			return tell(err)
		}
		got = append(got, answer)
	}
	if v.close {
		rest, err := io.ReadAll(r)
		if err != nil || len(rest) > 0 {
			return tell(fmt.Errorf("and then %q %w", rest, err))
		}
		return tell(errors.New("closed"))
	}
	sending.Wait()
	if _, err := io.WriteString(c, canaryGet); err != nil {
		return tell(err)
	}
	if answer, err := readResponse(r, "GET"); err != nil || answer != "200 GET /canary" {
		return tell(fmt.Errorf("and then %q %w", answer, err))
	}
	return tell(errors.New("open"))
}

// testCorpus sends every case to a gateway in front of a recorder. Every case
// comes from a loopback address of its own, by which the recorder's requests
// are told apart.
func testCorpus(t *testing.T, verdicts []verdict) {
	for _, v := range verdicts {
		if v.waits { // and once more with a client that does not
			verdicts = append(verdicts, v.left())
		}
	}
	t.Run("whole", func(t *testing.T) { testVerdicts(t, verdicts, 1<<20) })
	t.Run("in pieces", func(t *testing.T) { testVerdicts(t, verdicts, 7) })
}

func testVerdicts(t *testing.T, verdicts []verdict, step int) {
	start := time.Now()
	backend := record(t)
	document := fmt.Sprintf(everyHost, backend.addr)
	// HTTP/2 is off, or its preface would be no malformed request.
	patient := proxytest.New(t, document, proxytest.Options{TCP: true, NoAccess: true, Config: func(c *proxy.Config) { c.HTTP2.Off = true }})
	// Another for the cases that let it wait.
	hasty := proxytest.New(t, document, proxytest.Options{TCP: true, NoAccess: true, Config: func(c *proxy.Config) {
		c.HTTP2.Off = true
		c.Timeouts.Header, c.Timeouts.Idle = gatehouse.Duration(300*time.Millisecond), gatehouse.Duration(300*time.Millisecond)
	}})
	patientAddr, hastyAddr := listen(t, patient.Gateway.Serve), listen(t, hasty.Gateway.Serve)

	answered := make([]string, len(verdicts))
	next := make(chan int)
	var clients sync.WaitGroup
	for range 16 {
		clients.Go(func() {
			for i := range next {
				v := &verdicts[i]
				addr, step := patientAddr, max(step, len(v.Raw)/1000)
				if v.waits {
					addr, step = hastyAddr, len(v.Raw)
				}
				answered[i] = converse(clientOf(i), addr, v, step)
			}
		})
	}
	for i := range verdicts {
		next <- i
	}
	close(next)
	clients.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for _, h := range []*proxytest.Harness{patient, hasty} {
		if err := h.Gateway.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	}
	backend.conns.Wait() // the gateways have closed them all

	got, begun := map[string][]string{}, map[string]int{}
	for _, a := range backend.take() {
		if a.target != "/canary" {
			got[a.client] = append(got[a.client], a.framed())
		}
	}
	for _, a := range backend.unfinished {
		begun[a.client]++
	}
	requests, accepted := 0, 0
	for i := range verdicts {
		v := &verdicts[i]
		client := clientOf(i).String()
		var want []string
		for _, a := range v.asked {
			want = append(want, a.framed())
		}
		requests, accepted = requests+len(v.answers), accepted+len(want)
		if answered[i] != v.answered() {
			t.Errorf("%s (%s)\n%q\ngot  %s\nwant %s", v.Name, v.Source, clip(v.Raw), answered[i], v.answered())
		}
		if g, w := strings.Join(got[client], "\n     "), strings.Join(want, "\n     "); g != w {
			t.Errorf("%s (%s)\n%q\nthe backend got\n     %s\nand not\n     %s", v.Name, v.Source, clip(v.Raw), g, w)
		}
		if n := begun[client]; n > 1 || n == 1 && !v.body {
			t.Errorf("%s (%s)\n%q\nthe backend got the beginning of %d requests", v.Name, v.Source, clip(v.Raw), n)
		}
	}
	backend.fault(t)
	t.Logf("%d cases with %d requests, of which the backend got %d and the beginning of %d, in %v", len(verdicts), requests, accepted, len(backend.unfinished), time.Since(start).Round(time.Millisecond))
}

// framed is the request with how its end is found.
func (a asked) framed() string {
	return fmt.Sprintf("%s, %s", a, map[bool]string{true: "in chunks", false: "by length"}[a.chunked])
}

func clip(raw []byte) []byte { return raw[:min(len(raw), 400)] }

// clientOf is the address that the case of this index comes from.
func clientOf(i int) net.IP { return net.IPv4(127, 1, byte(i>>8), byte(i)).To4() }

// The law: of every case the client gets the verdict, and the backend exactly
// the requests that were accepted.
func TestCorpus(t *testing.T) {
	testCorpus(t, judged(t, corpus.Load, "ingress/testdata"))
}

// The published suites are held to it as well.
func TestPublicCorpus(t *testing.T) {
	testCorpus(t, judged(t, corpus.LoadPublic, "ingress/testdata/public"))
}

// TestProbes has a row for each thing that a fast HTTP library was found to do
// and that would be a danger in a gateway: the input, and that the danger is
// not here. The worst is first.
func TestProbes(t *testing.T) {
	for _, p := range []struct {
		input, danger string
		probe         func(t *testing.T)
	}{
		{"101 that was not asked for", "the bytes behind it answer another's request", probePoison},
		{"Content-Length and chunked", "another end of the body for the backend", refusedHead("400", "POST", "Content-Length: 3", "Transfer-Encoding: chunked")},
		{"Transfer-Encoding: identity", "another end of the body for the backend", refusedHead("501", "POST", "Transfer-Encoding: identity")},
		{"space in a field name", "a lenient backend reads Content-Length", refusedHead("400", "POST", "Content Length: 3")},
		{"folded line", "a field more, or less", refusedHead("400", "GET", "A: b\r\n c")},
		{"bare LF", "a field more, or less", refusedHead("400", "GET", "A: b\nC: d")},
		{"Host: a@b", "two readings of the tenant", probeTenant},
		{"dots, slashes and a fragment", "one path is matched, another forwarded", probePath},
		{"HTTP/1.2", "an unknown version is served", refusedRaw("505", "GET / HTTP/1.2\r\nHost: a.test\r\n\r\n")},
		{"Expect: foo", "an expectation is passed on unmet", refusedHead("417", "POST", "Expect: foo", "Content-Length: 3")},
		{"head of 12 KiB", "cookies and tokens do not fit", probeLargeHead},
		{"20 KB of a body that is not wanted", "the body is executed as requests", probeUnread},
		{"body larger than the limit", "it is streamed past the limit", probeBodyLimit},
		{"cookies", "they are rewritten", probeCookies},
		{"path in raw mode", "the client of the backends cleans it again", probeRawPath},
		{"absolute target", "Host becomes the backend's address", probeAbsolute},
		{"backend that breaks off", "requests are made many times", probeRepeat},
		{"backend that pauses", "a deadline of the whole cuts the stream", probePause},
		{"103 before 200", "Early Hints are lost", probeHints},
		{"answer without Content-Type", "one is made up", probeNoType},
		{"backend that breaks off in the body", "the answer seems whole", probeCutOff},
		{"HEAD, 304 and repeated fields", "fields are lost, merged or renamed", probeFields},
		{"trailers of the backend", "any of them pass", probeTrailers},
	} {
		t.Run(p.input, func(t *testing.T) {
			p.probe(t)
			if t.Failed() {
				t.Log("the danger:", p.danger)
			}
		})
	}
}

// probed is a gateway in memory whose backend takes one request a connection,
// answers with these bytes and closes. The heads it got are in asked.
func probed(t *testing.T, route, answer string) (h *proxytest.Harness, asked <-chan string) {
	t.Helper()
	heads := make(chan string, 100)
	document := strings.Replace(everyHost, "auth: none", "auth: none"+route, 1)
	h = proxytest.New(t, fmt.Sprintf(document, "a.app"), proxytest.Options{Backends: map[string]proxytest.Script{"a.app:80": func(c net.Conn) {
		defer c.Close()
		var head strings.Builder
		for r := bufio.NewReader(c); !strings.HasSuffix(head.String(), "\r\n\r\n"); {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			head.WriteString(line)
		}
		heads <- head.String()
		_, _ = io.WriteString(c, answer) // the gateway may have hung up
	}}})
	return h, heads
}

// whole sends a request that asks for the end of the connection, and returns
// all bytes of the answer but for what differs from run to run.
func whole(t *testing.T, h *proxytest.Harness, request string) string {
	t.Helper()
	c := h.Dial()
	defer c.Close()
	if _, err := io.WriteString(c, strings.Replace(request, "\r\n", "\r\nHost: a.test\r\nConnection: close\r\n", 1)+"\r\n"); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return proxytest.Stable(string(got))
}

// said is an answer through Via and the request's id, which are the gateway's.
func said(fields, body string) string {
	return "HTTP/1.1 200 OK\r\n" + fields + "Via: 1.1 gatehouse\r\nX-Request-Id: REQUEST-ID\r\n" + body
}

func wantText(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

const okAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// refusedRaw is the probe that a request gets this status and the end, and the
// backend nothing, though a clean request is right behind it.
func refusedRaw(status, raw string) func(t *testing.T) {
	return func(t *testing.T) {
		talk(t, raw+canaryGet, true, status)
	}
}

func refusedHead(status, method string, lines ...string) func(t *testing.T) {
	return refusedRaw(status, method+" / HTTP/1.1\r\nHost: a.test\r\n"+strings.Join(lines, "\r\n")+"\r\n\r\n")
}

// talk sends bytes to a gateway of everyHost, of another tenant, and of one
// with a small limit, in front of a recorder. The answers are a status, and for
// what the backend is to get, its method and target.
func talk(t *testing.T, raw string, closes bool, answers ...string) (asked []asked) {
	t.Helper()
	backend := record(t)
	document := fmt.Sprintf(everyHost, backend.addr) + one("x", "x.test", backend.addr) + strings.Replace(one("small", "small.test", backend.addr), "auth: none", "auth: none, max_body: 10", 1)
	h := proxytest.New(t, document, proxytest.Options{TCP: true})
	v := verdict{answers: answers, methods: make([]string, len(answers)), close: closes}
	v.Raw = []byte(raw)
	wantText(t, converse(clientOf(0), listen(t, h.Gateway.Serve), &v, 1<<20), v.answered())
	var want, got []string
	for _, a := range answers {
		if _, echoed, ok := strings.Cut(a, " "); ok {
			want = append(want, echoed)
		}
	}
	for _, a := range backend.take() {
		if a.target != "/canary" {
			asked, got = append(asked, a), append(got, a.echoed())
		}
	}
	wantText(t, strings.Join(got, ", "), strings.Join(want, ", "))
	backend.fault(t)
	return asked
}

// The backend keeps its connections, and the first of them has an answer too
// many.
func probePoison(t *testing.T) {
	f := func(first, want string) {
		t.Helper()
		answers := make(chan string, 2)
		answers <- first + "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON"
		answers <- okAnswer
		h := proxytest.New(t, "tenants:"+one("a", "a.test", "a.app"), proxytest.Options{Backends: map[string]proxytest.Script{"a.app:80": func(c net.Conn) {
			defer c.Close()
			if !readHead(c) {
				return
			}
			_, _ = io.WriteString(c, <-answers) // the gateway may have hung up
			_, _ = io.Copy(io.Discard, c)       // until the gateway hangs up
		}}})
		var got []string
		for range 2 {
			answer := get(h, "a.test", "/")
			_, body, _ := strings.Cut(answer, "\n\n")
			got = append(got, status(answer), strings.TrimSpace(body)[:2])
		}
		wantText(t, strings.Join(got, " "), want)
	}
	f("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", `502 {" 200 ok`)
	f(okAnswer, "200 ok 200 ok")
}

func probeTenant(t *testing.T) {
	talk(t, "GET / HTTP/1.1\r\nHost: a.test@x.test\r\n\r\n", true, "400")
	talk(t, "GET http://x.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", true, "400")
	if asked := talk(t, "GET http://x.test/ HTTP/1.1\r\nHost: x.test\r\n\r\n", false, "200 GET /"); len(asked) != 1 || asked[0].host != "x.test" {
		t.Error(asked)
	}
}

func probePath(t *testing.T) {
	f := func(target string, closes bool, want string) {
		t.Helper()
		talk(t, "GET "+target+" HTTP/1.1\r\nHost: a.test\r\n\r\n", closes, want)
	}
	f("/a%2Fb/../c//d/%2e%2e/x#frag", true, "400")
	f("/a%2Fb/../c//d/%2e%2e/x", true, "400")
	f("/a/../c//d/%2e%2e/x?q=/../", false, "200 GET /c/x?q=/../")
}

func probeLargeHead(t *testing.T) {
	h, asked := probed(t, "", okAnswer)
	cookie := strings.Repeat("c", 12<<10)
	wantText(t, status(get(h, "a.test", "/", "Cookie: "+cookie)), "200")
	if head := <-asked; !strings.Contains(head, "\r\nCookie: "+cookie+"\r\n") {
		t.Errorf("%.100s", head)
	}
}

func probeUnread(t *testing.T) {
	body := strings.Repeat("GET /evil HTTP/1.1\r\nHost: a.test\r\n\r\n", 600) // 21 KB
	post := "POST / HTTP/1.1\r\nHost: unknown.test\r\n"
	talk(t, fmt.Sprintf("%sContent-Length: %d\r\n\r\n%sGET /next HTTP/1.1\r\nHost: a.test\r\n\r\n", post, len(body), body), false, "404", "200 GET /next")
	talk(t, fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", post, 10*len(body), strings.Repeat(body, 10)), true, "404")
	talk(t, fmt.Sprintf("%sTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", post, len(body), body), true, "404")
}

func probeBodyLimit(t *testing.T) {
	const post, ten = "POST / HTTP/1.1\r\nHost: small.test\r\n", "0123456789"
	hundred := strings.Repeat(ten, 10)
	talk(t, post+"Content-Length: 10\r\n\r\n"+ten, false, "200 POST /")
	talk(t, post+"Content-Length: 100\r\n\r\n"+hundred, false, "413")
	talk(t, post+"Transfer-Encoding: chunked\r\n\r\na\r\n"+ten+"\r\n0\r\n\r\n", false, "200 POST /")
	talk(t, post+"Transfer-Encoding: chunked\r\n\r\n64\r\n"+hundred+"\r\n0\r\n\r\n", true, "413")
}

func probeCookies(t *testing.T) {
	h, asked := probed(t, "", okAnswer)
	lines := []string{`Cookie: z=1; d="x y"; =c; a`, "X: y", "cookie: b=;;  c"}
	get(h, "a.test", "/", lines...)
	if head := <-asked; !strings.Contains(head, "\r\n"+strings.Join(lines, "\r\n")+"\r\n") {
		t.Errorf("%q", head)
	}
}

func probeRawPath(t *testing.T) {
	h, asked := probed(t, ", path_mode: raw", okAnswer)
	get(h, "a.test", "/a%2fb//c%5C/%7ed/?x=%2f//..")
	line, _, _ := strings.Cut(<-asked, "\r\n")
	wantText(t, line, "GET /a%2Fb//c%5C/~d/?x=%2f//.. HTTP/1.1")
}

func probeAbsolute(t *testing.T) {
	h, asked := probed(t, "", okAnswer)
	get(h, "a.test", "http://A.test/p?q")
	head := strings.Join(strings.SplitAfter(<-asked, "\r\n")[:2], "")
	wantText(t, head, "GET /p?q HTTP/1.1\r\nHost: a.test\r\n")
}

func probeRepeat(t *testing.T) {
	h, asked := probed(t, "", "")
	for _, request := range []string{
		"GET / HTTP/1.1\nHost: a.test\n\n", "DELETE / HTTP/1.1\nHost: a.test\n\n",
		"PUT / HTTP/1.1\nHost: a.test\nContent-Length: 4\n\nbody", "POST / HTTP/1.1\nHost: a.test\nContent-Length: 4\n\nbody",
	} {
		if answer := h.Do(request); status(answer) != "502" {
			t.Error(answer)
		}
		if n := len(asked); n != 1 {
			t.Errorf("made %d times: %q", n, request)
		}
		for len(asked) > 0 {
			<-asked
		}
	}
}

func probePause(t *testing.T) {
	_, addr := serveTCP(t, func(c net.Conn) {
		defer c.Close()
		if !readHead(c) {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
		for range 4 {
			<-time.After(150 * time.Millisecond)
			_, _ = io.WriteString(c, "9\r\ndata: x\n\n\r\n")
		}
		_, _ = io.WriteString(c, "0\r\n\r\n")
	}, func(c *proxy.Config) {
		c.Timeouts.Header, c.Timeouts.Idle = gatehouse.Duration(100*time.Millisecond), gatehouse.Duration(100*time.Millisecond)
	})
	_, r := send(t, addr)
	answer, err := readResponse(r, "GET")
	if want := "200 " + strings.Repeat("data: x\n\n", 4); err != nil || answer != want {
		t.Errorf("%v %q", err, answer)
	}
}

func probeHints(t *testing.T) {
	const hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n"
	h, _ := probed(t, "", hints+okAnswer)
	wantText(t, whole(t, h, "GET / HTTP/1.1\r\n"), hints+said("", "Content-Length: 2\r\nConnection: close\r\n\r\nok"))
	wantText(t, whole(t, h, "GET / HTTP/1.0\r\n"), said("", "Content-Length: 2\r\nConnection: close\r\n\r\nok"))
}

func probeNoType(t *testing.T) {
	h, _ := probed(t, "", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>")
	wantText(t, whole(t, h, "GET / HTTP/1.1\r\n"), said("", "Content-Length: 6\r\nConnection: close\r\n\r\n<html>"))
}

// The first part is larger than what is awaited before the head is sent.
func probeCutOff(t *testing.T) {
	part := strings.Repeat("x", 100_000)
	h, _ := probed(t, "", "HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n"+part)
	wantText(t, whole(t, h, "GET / HTTP/1.1\r\n"), said("", "Content-Length: 200000\r\nConnection: close\r\n\r\n"+part))
	h, _ = probed(t, "", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n186a0\r\n"+part+"\r\n186a0\r\n")
	answer := whole(t, h, "GET / HTTP/1.1\r\n")
	if _, err := readResponse(bufio.NewReader(strings.NewReader(answer)), "GET"); !errors.Is(err, io.ErrUnexpectedEOF) ||
		strings.Count(answer, "x") < len(part) || strings.Contains(answer, "\r\n0\r\n") || strings.Contains(answer, "problem") {
		t.Errorf("%v …%q", err, answer[max(0, len(answer)-100):])
	}
}

func probeFields(t *testing.T) {
	const fields = "ETag: \"x\"\r\nSet-Cookie: a=1; Expires=Mon, 23 Nov 2026 00:00:00 GMT\r\nVary: a\r\nset-cookie: b=2\r\nVary: B, c\r\nX-empty: \r\n"
	h, _ := probed(t, "", "HTTP/1.1 200 OK\r\n"+fields+"Content-Length: 5\r\n\r\n")
	wantText(t, whole(t, h, "HEAD / HTTP/1.1\r\n"), said(fields, "Content-Length: 5\r\nConnection: close\r\n\r\n"))
	h, _ = probed(t, "", "HTTP/1.1 304 Not Modified\r\n"+fields+"Content-Length: 5\r\n\r\n")
	wantText(t, whole(t, h, "GET / HTTP/1.1\r\n"), strings.Replace(said(fields, "Content-Length: 5\r\nConnection: close\r\n\r\n"), "200 OK", "304 Not Modified", 1))
}

func probeTrailers(t *testing.T) {
	h, _ := probed(t, ", trailers: [x-sum]", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nX-Other: 1\r\nX-Sum: 2\r\nContent-Length: 3\r\nAuthorization: 4\r\n\r\n")
	answer := whole(t, h, "GET / HTTP/1.1\r\nTE: trailers\r\nConnection: TE\r\n")
	if _, body, _ := strings.Cut(answer, "\r\n\r\n"); body != "2\r\nok\r\n0\r\nX-Sum: 2\r\n\r\n" {
		t.Errorf("%q", answer)
	}
}
