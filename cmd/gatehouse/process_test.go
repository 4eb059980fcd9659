package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets the test binary be the program: signals need a real process.
func TestMain(m *testing.M) {
	if os.Getenv("GATEHOUSE_TEST_MAIN") == "1" {
		main()
		return
	}
	testscript.Main(m, map[string]func(){"gatehouse": main})
}

func noEnvironment(string) string { return "" }

// program is a running gatehouse.
type program struct {
	t             *testing.T
	cmd           *exec.Cmd
	data, control string // addresses
	stdout        *lines
	stderr        *lines
	ended         chan error
}

// lines keeps output and tells when it holds something.
type lines struct {
	mu   sync.Mutex
	buf  bytes.Buffer // guarded by mu
	news chan struct{}
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.news <- struct{}{}:
	default:
	}
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// await returns the first match in the output, which comes within a minute.
func (p *program) await(l *lines, expr string) []string {
	p.t.Helper()
	re := regexp.MustCompile(expr)
	limit := time.After(time.Minute)
	for {
		if m := re.FindStringSubmatch(l.String()); m != nil {
			return m
		}
		select {
		case <-l.news:
		case err := <-p.ended:
			p.ended <- err
			if m := re.FindStringSubmatch(l.String()); m != nil {
				return m
			}
			p.t.Fatalf("ended (%v) without %q\n%s\n%s", err, expr, p.stdout, p.stderr)
		case <-limit:
			p.t.Fatalf("no %q in\n%s\n%s", expr, p.stdout, p.stderr)
		}
	}
}

// start starts a process, and waits until it serves.
func start(t *testing.T, args ...string) *program {
	t.Helper()
	p := launch(t, args...)
	m := p.await(p.stderr, `msg=serving .*data_plane=(\S+) control=(\S+)`)
	p.data, p.control = m[1], m[2]
	return p
}

func (p *program) wait() int {
	p.t.Helper()
	select {
	case err := <-p.ended:
		p.ended <- err
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(time.Minute):
		p.t.Fatalf("did not end\n%s", p.stderr)
		return -1
	}
}

// tenants writes one document per tenant, each with a backend of its own.
func tenants(t *testing.T, names ...string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, name := range names {
		backend := newBackend(t, name, nil)
		write(t, filepath.Join(dir, name+".yaml"), document(name, backend, "first"))
	}
	return dir
}

func document(name, backend, feature string) string {
	return fmt.Sprintf(`tenants:
  - id: %[1]s
    domain: %[1]s.test
    features: [%[3]s]
    backends: [{id: app, endpoints: [{url: "http://%[2]s"}]}]
    routes: [{id: all, match: {path: /}, auth: none, backend: app}]
`, name, backend, feature)
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
}

// newBackend serves name, and counts connections where asked to.
func newBackend(t *testing.T, name string, conns *atomic.Int64) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{
		ReadHeaderTimeout: time.Minute,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, name) // the gateway may be gone
		}),
		ConnState: func(_ net.Conn, s http.ConnState) {
			if conns != nil && s == http.StateNew {
				conns.Add(1)
			}
		},
	}
	go s.Serve(ln) //nolint:errcheck // ends with the test
	t.Cleanup(func() { _ = s.Close() })
	return ln.Addr().String()
}

// load keeps n clients busy with keep-alive requests until stop is closed.
// A request fails when it was sent and not answered whole with 200, or when
// it could not be sent on a connection that was open. Connections that the
// gateway closed after an answer, and new ones that it refuses while it
// drains, are not failures.
type load struct {
	ok, failed atomic.Int64
	mu         sync.Mutex
	first      string // first failure, guarded by mu
	clients    sync.WaitGroup
}

func (l *load) fail(format string, args ...any) {
	l.failed.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == "" {
		l.first = fmt.Sprintf(format, args...)
	}
}

func startLoad(addr, host, body string, n int, stop <-chan struct{}) *load {
	l := &load{}
	for range n {
		l.clients.Go(func() { l.client(addr, host, body, stop) })
	}
	return l
}

func (l *load) client(addr, host, body string, stop <-chan struct{}) {
	for {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return // not accepting any more
		}
		if !l.connection(c, host, body, stop) {
			return
		}
	}
}

// connection reports whether the client should go on with another.
func (l *load) connection(c net.Conn, host, body string, stop <-chan struct{}) bool {
	defer c.Close()
	r := bufio.NewReader(c)
	for {
		select {
		case <-stop:
			return false
		default:
		}
		if _, err := fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", host); err != nil {
			l.fail("send: %v", err)
			return true
		}
		answer, err := http.ReadResponse(r, nil)
		if err != nil {
			l.fail("read answer: %v", err)
			return true
		}
		text, err := io.ReadAll(answer.Body)
		if err != nil || answer.StatusCode != http.StatusOK || string(text) != body {
			l.fail("answer %d %q: %v", answer.StatusCode, text, err)
			return true
		}
		l.ok.Add(1)
		if answer.Close {
			return true
		}
	}
}

func (l *load) check(t *testing.T, atLeast int64) {
	t.Helper()
	l.clients.Wait()
	t.Logf("%d requests, %d failed", l.ok.Load(), l.failed.Load())
	if l.failed.Load() > 0 || l.ok.Load() < atLeast {
		t.Errorf("%d requests, %d failed, the first: %s", l.ok.Load(), l.failed.Load(), l.first)
	}
}

// The law of shutdown: SIGTERM under load fails no request and exits 0, with
// the counters written.
func TestTermUnderLoad(t *testing.T) {
	dir, data := tenants(t, "a"), t.TempDir()
	p := start(t, "--tenants", dir, "--data", data)
	stop := make(chan struct{})
	defer close(stop)
	l := startLoad(p.data, "a.test", "a", 16, stop)
	waitFor(t, func() bool { return l.ok.Load() > 2000 || l.failed.Load() > 0 })
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := p.wait(); code != exitOK {
		t.Errorf("exit code %d\n%s", code, p.stderr)
	}
	l.check(t, 2000)

	if requests := counted(t, data); requests != l.ok.Load() {
		t.Errorf("%d requests were counted, %d were answered", requests, l.ok.Load())
	}
}

// fetchHost is status and text of an answer.
func fetchHost(t *testing.T, address, host string) string {
	t.Helper()
	return fetchPath(t, address, host, "/")
}

func fetchPath(t *testing.T, address, host, path string) string {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, "http://"+address+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = host
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(answer.StatusCode, " ", string(text))
}

// waitFor polls a counter that has no event of its own.
func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	limit := time.After(time.Minute)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-limit:
			t.Fatal("waited a minute")
		case <-tick.C:
		}
	}
}

func (p *program) get(path string, v any) {
	p.t.Helper()
	r, err := http.Get("http://" + p.control + path)
	if err != nil {
		p.t.Fatal(err)
	}
	defer r.Body.Close()
	if err := json.NewDecoder(r.Body).Decode(v); err != nil {
		p.t.Fatal(err)
	}
}

type revisions struct{ Items []control.Revision }

func (p *program) revisions() []control.Revision {
	var rs revisions
	p.get("/api/v1/revisions/", &rs)
	return rs.Items
}

// The law of change: saving one tenant's file, over and over, fails no request
// of another, and opens it no new connection.
func TestSavesUnderLoad(t *testing.T) {
	const saves = 1000
	dir := t.TempDir()
	var conns atomic.Int64
	write(t, filepath.Join(dir, "busy.yaml"), document("busy", newBackend(t, "busy", &conns), "first"))
	other := newBackend(t, "other", nil)
	write(t, filepath.Join(dir, "other.yaml"), document("other", other, "first"))
	p := start(t, "--tenants", dir, "--data", t.TempDir())
	stop := make(chan struct{})
	l := startLoad(p.data, "busy.test", "busy", 8, stop)
	waitFor(t, func() bool { return l.ok.Load() > 200 })
	began := p.revisions()[0].Revision
	for i := range saves {
		write(t, filepath.Join(dir, "other.yaml"), document("other", other, fmt.Sprintf("f%d", i)))
		if i%50 == 49 { // let a change through now and then: saves in one breath are one change
			want := fmt.Sprintf("f%d", i)
			waitFor(t, func() bool {
				var tenant struct{ Features map[string]bool }
				p.get("/api/v1/tenants/other/", &tenant)
				return tenant.Features[want]
			})
		}
	}
	close(stop)
	l.check(t, 200)
	if n := conns.Load(); n > 8 {
		t.Errorf("%d connections to the backend of the tenant that did not change, by 8 clients", n)
	}
	for _, r := range p.revisions() {
		if r.Revision > began && (r.Result != control.Applied || len(r.Changed) != 1 || r.Changed[0] != "other") {
			t.Fatalf("revision %+v", r)
		}
	}
	t.Logf("%d saves made %d changes", saves, p.revisions()[0].Revision-began)
}

// A faulty file keeps its tenants in force and says why; the others change on.
func TestFaultySave(t *testing.T) {
	dir := t.TempDir()
	a, b := newBackend(t, "a", nil), newBackend(t, "b", nil)
	write(t, filepath.Join(dir, "a.yaml"), document("a", a, "first"))
	write(t, filepath.Join(dir, "b.yaml"), document("b", b, "first"))
	p := start(t, "--tenants", dir, "--data", t.TempDir())
	latest := func(result control.Result, reason string) control.Revision {
		var r control.Revision
		waitFor(t, func() bool {
			r = p.revisions()[0]
			return r.Result == result && strings.Contains(r.Problems.Error(), reason)
		})
		return r
	}

	write(t, filepath.Join(dir, "a.yaml"), strings.Replace(document("a", a, "second"), "backend: app", "backend: ap", 1))
	r := latest(control.Refused, `backend "ap" does not exist`)
	if got := r.Problems[0].Place; got.Line != 6 || filepath.Base(got.File) != "a.yaml" {
		t.Errorf("place %v", got)
	}
	p.await(p.stderr, `level=ERROR msg="tenant document" place=\S*a.yaml:6:\d+ reason="backend \\"ap\\" does not exist`)
	if got := fetchHost(t, p.data, "a.test"); got != "200 a" {
		t.Errorf("the faulty tenant: %s", got)
	}

	write(t, filepath.Join(dir, "b.yaml"), strings.Replace(document("b", b, "first"), "b.test", "bb.test", 1))
	r = latest(control.Partial, `backend "ap" does not exist`)
	if fmt.Sprint(r.Changed) != "[b]" {
		t.Errorf("changed %v", r.Changed)
	}
	if got := fetchHost(t, p.data, "bb.test"); got != "200 b" {
		t.Errorf("the other tenant: %s", got)
	}

	// A Rego fault is found by the compiler, not by validation.
	write(t, filepath.Join(dir, "a.yaml"), document("a", a, "third")+"    policy: {modules: [{name: m.rego, source: \"package other\"}]}\n")
	latest(control.Refused, "package")
	if got := fetchHost(t, p.data, "a.test"); got != "200 a" {
		t.Errorf("the faulty tenant: %s", got)
	}

	// A tenant may not take the host of another.
	write(t, filepath.Join(dir, "a.yaml"), strings.Replace(document("a", a, "fourth"), "a.test", "bb.test", 1))
	latest(control.Refused, `host "bb.test" is claimed twice`)
	if got := fetchHost(t, p.data, "bb.test"); got != "200 b" {
		t.Errorf("the contested host: %s", got)
	}

	// An emptied file is a fault, a deleted one is meant.
	write(t, filepath.Join(dir, "a.yaml"), "")
	latest(control.Refused, "the file is empty")
	if err := os.Remove(filepath.Join(dir, "a.yaml")); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return strings.HasPrefix(fetchHost(t, p.data, "a.test"), "404") })
	latest(control.Applied, "") // the record follows the change

	// SIGHUP reads at once; nothing has changed, so nothing is said.
	before := p.revisions()[0].Revision
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if got := fetchHost(t, p.data, "bb.test"); got != "200 b" || p.revisions()[0].Revision != before {
		t.Errorf("after SIGHUP: %s, revision %d", got, p.revisions()[0].Revision)
	}
}

// A second signal ends the wait for a request that does not finish.
func TestSecondSignal(t *testing.T) {
	reached, release := make(chan struct{}), make(chan struct{})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	slow := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(reached)
		<-release
	})}
	go slow.Serve(ln) //nolint:errcheck // ends with the test
	defer slow.Close()
	defer close(release)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.yaml"), document("a", ln.Addr().String(), "first"))
	p := start(t, "--tenants", dir, "--data", t.TempDir())
	c, err := net.Dial("tcp", p.data)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-reached
	for range 2 {
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		p.await(p.stderr, "msg=draining")
		waitFor(t, func() bool {
			r, err := http.Get("http://" + p.control + "/readyz")
			if err != nil {
				return true // gone already, after the second signal
			}
			defer r.Body.Close()
			text, err := io.ReadAll(r.Body)
			return err != nil || r.StatusCode == http.StatusServiceUnavailable && strings.Contains(string(text), "draining")
		})
	}
	if code := p.wait(); code != exitError {
		t.Errorf("exit code %d\n%s", code, p.stderr)
	}
	p.await(p.stderr, "1 requests were cut off")
}

// What keeps a process from starting is said in one line, with the exit code.
func TestStartFaults(t *testing.T) {
	dir := tenants(t, "a")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "not a folder")
	used := t.TempDir()
	lock, err := lockFolder(used)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	broken := t.TempDir()
	write(t, filepath.Join(broken, "a.yaml"), "tenants: [{id: a, plan: none}]\n")
	cfg := func(text string) string {
		name := filepath.Join(t.TempDir(), "gatehouse.yaml")
		write(t, name, text)
		return name
	}
	for _, tt := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"tenants of a data plane", []string{"--roles", "proxy", "--tenants", dir}, exitUsage, "--tenants: tenants from documents need both roles in one process"},
		{"no control plane", []string{"--roles", "proxy"}, exitUsage, "control.url: control.url is missing"},
		{"unknown role", []string{"--roles", "prox"}, exitUsage, "--roles: role \"prox\" is unknown\n  hint: use proxy and control"},
		{"takeover of a control plane", []string{"--roles", "control", "--takeover"}, exitUsage, "a control plane alone is not taken over"},
		{"unknown store", []string{"--config", cfg("store: {url: \"mysql://x\"}\n")}, exitFindings, "the store is unknown"},
		{"control beyond loopback", []string{"--listen", "127.0.0.1:0", "--control", "0.0.0.0:0"}, exitUsage, "--control: 0.0.0.0:0 is not loopback, and tokens would pass in clear\n  hint: set control.tls.cert and control.tls.key"},
		{"token in clear", []string{"--config", cfg("roles: [proxy]\ncontrol: {url: \"http://control.example.com\", token_file: t}\n")}, exitFindings, "the token would be sent in clear"},
		{"unknown flag", []string{"--nope"}, exitUsage, "unknown flag: --nope"},
		{"argument", []string{"x"}, exitUsage, "\"x\" is one argument too many\nusage: gatehouse run"},
		{"missing folder", []string{"--tenants", "/nonexistent"}, exitFindings, "/nonexistent: cannot be read: no such file or directory"},
		{"faulty document", []string{"--tenants", broken}, exitFindings, `plan "none" does not exist`},
		{"port in use", []string{"--tenants", dir, "--listen", taken.Addr().String()}, exitError, "data plane: listen tcp " + taken.Addr().String() + ": bind: address already in use"},
		{"control port in use", []string{"--tenants", dir, "--listen", "127.0.0.1:0", "--control", taken.Addr().String()}, exitError, "control plane: listen tcp " + taken.Addr().String()},
		{"data is a file", []string{"--tenants", dir, "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--data", file}, exitUsage, "--data: " + file + " is a file"},
		{"data in use", []string{"--tenants", dir, "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--data", used}, exitError, "data folder " + used + " is in use by another gatehouse"},
		{"missing configuration", []string{"--config", "/nonexistent"}, exitError, "read configuration: open /nonexistent: no such file or directory"},
		{"unknown key", []string{"--config", cfg("prxy: {}\n")}, exitFindings, `gatehouse.yaml:1:1: unknown key "prxy"`},
		{"later setting", []string{"--config", cfg("telemetry: {otlp: \"http://x\"}\n")}, exitFindings, "OpenTelemetry is not available yet"},
		{"bad access log", []string{"--tenants", dir, "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--config", cfg("log: {access: /nonexistent/x}\n")}, exitFindings, "gatehouse.yaml:1:15: /nonexistent: cannot be read"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			args := append([]string{"run", "--data", t.TempDir()}, tt.args...)
			code := run(context.Background(), args, noEnvironment, strings.NewReader(""), &out, &errs)
			if code != tt.code || !strings.Contains(errs.String(), tt.want) {
				t.Errorf("exit code %d, want %d\n%s\nwant %s", code, tt.code, errs.String(), tt.want)
			}
			if out.Len() > 0 {
				t.Errorf("standard output: %s", out.String())
			}
		})
	}
}

// The shipped configurations start.
func TestExamples(t *testing.T) {
	for _, name := range []string{"tenants.yaml", "demo.yaml"} {
		var out, errs bytes.Buffer
		if code := run(context.Background(), []string{"check", "--strict", filepath.Join("../../configs", name)}, noEnvironment, nil, &out, &errs); code != exitOK {
			t.Errorf("%s: %d\n%s", name, code, errs.String())
		}
	}
	p := start(t, "--config", "../../configs/gatehouse.yaml", "--tenants", "../../configs/tenants.yaml", "--data", t.TempDir())
	var tenants struct{ Items []struct{ ID string } }
	p.get("/api/v1/tenants", &tenants)
	if fmt.Sprint(tenants.Items) != "[{label} {studio}]" {
		t.Errorf("tenants: %v", tenants.Items)
	}
}

// A profile is there when the process has ended, whole, and nothing is left
// beside it; where it cannot be written the process does not start.
func TestCPUProfile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "cpu.prof")
	documents := tenants(t, "a")
	p := start(t, "--tenants", documents, "--data", t.TempDir(), "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--cpu-profile", file)
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := p.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	b, err := os.ReadFile(file)
	if err != nil || !bytes.HasPrefix(b, []byte{0x1f, 0x8b}) { // gzip
		t.Errorf("%d bytes: %v", len(b), err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("%v: %v", entries, err)
	}
	p = launch(t, "--tenants", documents, "--data", t.TempDir(), "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--cpu-profile", filepath.Join(dir, "none", "x"))
	if code := p.wait(); code != exitError || !strings.Contains(p.stderr.String(), "profile: ") {
		t.Errorf("exit code %d: %s", code, p.stderr)
	}
}
