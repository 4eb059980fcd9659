package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse/proxy/proxytest"
)

var (
	bodyMiB = flag.Int("body-mib", 128, "size of the bodies in TestFlatMemory, in MiB")
	idle    = flag.Int("idle", 1000, "sockets in TestIdleSockets")
)

// zeros is an endless body.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// sink is a backend that counts what it is sent, answers GET /N with N bytes,
// and holds WebSockets open.
func sink(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "echo" {
			holdOpen(w)
			return
		}
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			return
		}
		if size, err := strconv.ParseInt(r.URL.Path[1:], 10, 64); err == nil {
			w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
			_, _ = io.CopyN(w, zeros{}, size) // the client may go
			return
		}
		fmt.Fprint(w, n)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func holdOpen(w http.ResponseWriter) {
	c, rw, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	if _, err := io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"); err != nil {
		return
	}
	_, _ = io.Copy(c, rw) // until either side ends it
}

func saved(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tenants.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

var highWater = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// peak returns the most memory that the process has had, in bytes.
func (p *program) peak() int64 {
	p.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	m := highWater.FindSubmatch(status)
	if m == nil {
		p.t.Fatalf("no VmHWM in %s", status)
	}
	kib, err := strconv.ParseInt(string(m[1]), 10, 64)
	if err != nil {
		p.t.Fatal(err)
	}
	return kib << 10
}

// Bodies of any size pass in the same memory, up and down, by length and by
// chunks, over HTTP/1.1 and HTTP/2.
func TestFlatMemory(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Log("memory is read from /proc: only the bodies are checked")
	}
	size := int64(*bodyMiB) << 20
	p := start(t, "--data", t.TempDir(), "--tenants", saved(t, fmt.Sprintf(`tenants:
  - id: a
    domain: a.test
    backends: [{id: app, endpoints: [{url: "%s"}]}]
    routes: [{id: all, match: {path: /}, auth: none, backend: app, max_body: 4GiB}]
`, sink(t))))
	client := func(http2 bool) *http.Client {
		protocols := new(http.Protocols)
		protocols.SetHTTP1(!http2)
		protocols.SetUnencryptedHTTP2(http2)
		return &http.Client{Transport: &http.Transport{Protocols: protocols, DisableCompression: true}}
	}
	pass := func(c *http.Client, size, length int64) {
		t.Helper()
		up, err := http.NewRequest(http.MethodPost, "http://"+p.data+"/", io.LimitReader(zeros{}, size))
		if err != nil {
			t.Fatal(err)
		}
		up.Host, up.ContentLength = "a.test", length
		answer, err := c.Do(up)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close() // read to its end
		if err != nil || string(text) != strconv.FormatInt(size, 10) {
			t.Fatalf("of %d bytes sent: %q, %v", size, text, err)
		}
		down, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://%s/%d", p.data, size), nil)
		if err != nil {
			t.Fatal(err)
		}
		down.Host = "a.test"
		answer, err = c.Do(down)
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, answer.Body)
		_ = answer.Body.Close() // read to its end
		if err != nil || n != size {
			t.Fatalf("of %d bytes asked for: %d, %v", size, n, err)
		}
	}
	old, young := client(false), client(true)
	pass(old, 8<<20, -1) // whatever is made once
	pass(young, 8<<20, -1)
	if runtime.GOOS != "linux" {
		pass(old, size, size)
		return
	}
	before := p.peak()
	began := time.Now()
	pass(old, size, size)
	pass(old, size, -1)
	pass(young, size, -1)
	after := p.peak()
	t.Logf("%d MiB up and down, three times, in %v: at most %.1f MiB, %.1f MiB before", *bodyMiB, time.Since(began), mib(after), mib(before))
	if after-before > racing*24<<20 {
		t.Errorf("memory grew from %.1f to %.1f MiB", mib(before), mib(after))
	}
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }

// Sockets that rest, tunnels and kept connections, take little memory each.
func TestIdleSockets(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Log("memory is read from /proc: nothing to see here")
		return
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if most := int(limit.Max)/2 - 100; *idle > most {
		t.Fatalf("-idle %d needs %d descriptors, and the limit is %d", *idle, 2*(*idle), limit.Max)
	}
	limit.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	p := start(t, "--data", t.TempDir(), "--tenants", saved(t, fmt.Sprintf(`tenants:
  - id: a
    domain: a.test
    backends: [{id: app, endpoints: [{url: "%s"}]}]
    routes: [{id: all, match: {path: /}, auth: none, backend: app, upgrade: {protocols: [echo]}}]
`, sink(t))))
	var open []net.Conn
	leave := func() {
		for _, c := range open {
			_ = c.Close() // whatever its state
		}
		open = nil
	}
	defer leave()
	dial := func(request, want string) net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", p.data)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
		if _, err := io.WriteString(c, request); err != nil {
			t.Fatal(err)
		}
		answer, err := proxytest.ReadAnswer(bufio.NewReader(c), "GET")
		if err != nil || !strings.HasPrefix(answer, want) {
			t.Fatalf("%s, %v", answer, err)
		}
		return c
	}
	const upgrade = "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
	const get = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"
	f := func(what, request, want string, most int64) {
		t.Helper()
		dial(request, want)
		before := p.resident()
		var last net.Conn
		for range *idle {
			last = dial(request, want)
		}
		<-time.After(3 * time.Second) // buffers are kept for as long as a second
		each := (p.resident() - before) / int64(*idle)
		t.Logf("%d %s: %.1f KiB each", *idle, what, float64(each)/1024)
		if each > racing*most {
			t.Errorf("%s take %d bytes each, more than %d", what, each, racing*most)
		}
		if request == upgrade {
			if _, err := io.WriteString(last, "still here"); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, len("still here"))
			if _, err := io.ReadFull(last, b); err != nil || string(b) != "still here" {
				t.Fatalf("%q, %v", b, err)
			}
		}
		leave()
	}
	f("kept connections", get, "HTTP/1.1 200", 24<<10)
	f("tunnels", upgrade, "HTTP/1.1 101", 40<<10)
}

var residentSet = regexp.MustCompile(`VmRSS:\s+(\d+) kB`)

// resident returns the memory that the process has now.
func (p *program) resident() int64 {
	p.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	m := residentSet.FindSubmatch(status)
	kib, err := strconv.ParseInt(string(m[1]), 10, 64)
	if err != nil {
		p.t.Fatal(err)
	}
	return kib << 10
}

// The program serves TLS beside plain HTTP, with the certificates of its
// configuration.
func TestServesTLS(t *testing.T) {
	folder := t.TempDir()
	authority := proxytest.NewAuthority(t, "test authority")
	authority.Install(folder, "a", "a.test")
	config := filepath.Join(t.TempDir(), "gatehouse.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, "proxy: {tls: {listen: \"127.0.0.1:0\", certificates: %q}}\n", folder), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, "--config", config, "--data", t.TempDir(), "--tenants", saved(t, fmt.Sprintf(`tenants:
  - id: a
    domain: a.test
    backends: [{id: app, endpoints: [{url: "%s"}]}]
    routes: [{id: all, match: {path: /}, auth: none, backend: app}]
`, sink(t))))
	secure := p.await(p.stderr, `msg=serving .* tls=(\S+)`)[1]
	for _, protocol := range []string{"h2", "http/1.1"} {
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(authority.PEM)
		cfg := &tls.Config{RootCAs: pool, ServerName: "a.test", NextProtos: []string{protocol}, MinVersion: tls.VersionTLS13}
		protocols := new(http.Protocols)
		protocols.SetHTTP1(protocol != "h2")
		protocols.SetHTTP2(protocol == "h2")
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: cfg, Protocols: protocols}}
		r, err := http.NewRequest(http.MethodGet, "https://"+secure+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = "a.test"
		answer, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close() // not wanted
		if want := map[string]int{"h2": 2, "http/1.1": 1}[protocol]; answer.StatusCode != 200 || answer.ProtoMajor != want {
			t.Errorf("%s: %s %s", protocol, answer.Proto, answer.Status)
		}
		client.CloseIdleConnections()
	}
}
