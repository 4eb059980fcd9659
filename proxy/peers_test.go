package proxy_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/template"
	"time"
)

// asked is a request as a backend understood it.
type asked struct {
	method, target, host, body string
	chunked                    bool
	client                     string // X-Real-IP: who sent it to the gateway
}

func (a asked) String() string {
	return fmt.Sprintf("%s %s of %s with %q", a.method, a.target, a.host, a.body)
}

// echoed is what a recorder answers, so that an answer shows whose it is.
func (a asked) echoed() string { return a.method + " " + a.target }

// recorder is a backend that writes down what it is asked, by a parser of its
// own that forgives nothing: whatever it notes was well-formed HTTP/1.1, with
// no byte between two requests.
type recorder struct {
	addr string

	mu         sync.Mutex
	open       map[net.Conn]bool // guarded by mu
	requests   []asked           // whole ones; guarded by mu
	unfinished []asked           // those whose connection ended in the body; guarded by mu
	faults     []string          // what was no request; guarded by mu
	conns      sync.WaitGroup
}

func record(t *testing.T) *recorder {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{addr: ln.Addr().String(), open: map[net.Conn]bool{}}
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			r.mu.Lock()
			r.open[c] = true
			r.mu.Unlock()
			r.conns.Go(func() { r.serve(c) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		accepting.Wait()
		r.mu.Lock()
		for c := range r.open {
			_ = c.Close()
		}
		r.mu.Unlock()
		r.conns.Wait()
	})
	return r
}

func (r *recorder) serve(c net.Conn) {
	defer func() {
		_ = c.Close()
		r.mu.Lock()
		delete(r.open, c)
		r.mu.Unlock()
	}()
	var raw bytes.Buffer
	for b := bufio.NewReader(io.TeeReader(c, &raw)); ; {
		a, err := readAsked(b)
		switch {
		case err == nil:
		case errors.Is(err, errEnded):
			return
		case errors.Is(err, errUnfinished):
			r.mu.Lock()
			r.unfinished = append(r.unfinished, a)
			r.mu.Unlock()
			return
		default:
			sent := raw.Bytes()
			r.mu.Lock()
			r.faults = append(r.faults, fmt.Sprintf("%v, at the end of %q", err, sent[max(0, len(sent)-2000):]))
			r.mu.Unlock()
			return
		}
		r.note(a)
		answer := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(a.echoed()))
		if a.method != "HEAD" {
			answer += a.echoed()
		}
		if _, err := io.WriteString(c, answer); err != nil {
			return
		}
	}
}

func (r *recorder) note(a asked) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = append(r.requests, a)
}

// take returns the whole requests since the last call.
func (r *recorder) take() []asked {
	r.mu.Lock()
	defer r.mu.Unlock()
	taken := r.requests
	r.requests = nil
	return taken
}

// count returns how many requests came so far, what was none included.
func (r *recorder) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.requests) + len(r.faults)
}

// fault reports what was no request, once.
func (r *recorder) fault(t *testing.T) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.faults {
		t.Error("the backend got what is no request:", f)
	}
	r.faults = nil
}

var (
	errEnded      = errors.New("the connection ended between two requests")
	errUnfinished = errors.New("the connection ended within a body")

	strictRequest = regexp.MustCompile("^([!#$%&'*+.^_`|~0-9A-Za-z-]+) (/[!-~]*|\\*) HTTP/1\\.1$")
	strictName    = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")
	strictLength  = regexp.MustCompile(`^(0|[1-9][0-9]{0,17})$`)
	strictSize    = regexp.MustCompile(`^[0-9a-fA-F]{1,15}$`)
)

// readAsked reads one request. With errUnfinished its head is known.
func readAsked(r *bufio.Reader) (a asked, err error) {
	if _, err := r.Peek(1); err != nil {
		return a, errEnded
	}
	line, err := strictLine(r)
	if err != nil {
		return a, err
	}
	parts := strictRequest.FindStringSubmatch(line)
	if parts == nil {
		return a, fmt.Errorf("request line %q", line)
	}
	a.method, a.target = parts[1], parts[2]
	fields, err := strictFields(r)
	if err != nil {
		return a, err
	}
	if len(fields["host"]) != 1 || len(fields["content-length"])+len(fields["transfer-encoding"]) > 1 {
		return a, fmt.Errorf("not one host and one framing in %q", fields)
	}
	a.host, a.client = fields["host"][0], strings.Join(fields["x-real-ip"], ",")
	switch length, coding := fields["content-length"], fields["transfer-encoding"]; {
	case length != nil && !strictLength.MatchString(length[0]):
		return a, fmt.Errorf("length %q", length)
	case length != nil:
		n, err := strconv.ParseInt(length[0], 10, 64)
		if err != nil {
			return a, err
		}
		a.body, err = exactly(r, n)
		return a, err
	case coding != nil && coding[0] != "chunked":
		return a, fmt.Errorf("coding %q", coding)
	case coding != nil:
		a.chunked = true
		a.body, err = strictChunks(r)
	}
	return a, err
}

// strictLine reads a line that ends in CR LF and has no other control
// characters.
func strictLine(r *bufio.Reader) (string, error) {
	text, err := r.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("a head breaks off: %w", err)
	}
	line, ok := strings.CutSuffix(text, "\r\n")
	if !ok || strings.ContainsFunc(line, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }) {
		return "", fmt.Errorf("line %q", text)
	}
	return line, nil
}

func strictFields(r *bufio.Reader) (map[string][]string, error) {
	fields := map[string][]string{}
	for {
		line, err := strictLine(r)
		if line == "" || err != nil {
			return fields, err
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || !strictName.MatchString(name) || strings.TrimRight(value, " \t") != value && value != " " {
			return nil, fmt.Errorf("field line %q", line)
		}
		name = strings.ToLower(name)
		fields[name] = append(fields[name], strings.Trim(value, " \t"))
	}
}

func exactly(r *bufio.Reader, n int64) (string, error) {
	var b strings.Builder
	if _, err := io.CopyN(&b, r, n); err != nil {
		return "", errUnfinished
	}
	return b.String(), nil
}

func strictChunks(r *bufio.Reader) (string, error) {
	var body strings.Builder
	for {
		text, err := r.ReadString('\n')
		if err != nil {
			return "", errUnfinished
		}
		digits, ok := strings.CutSuffix(text, "\r\n")
		if !ok || !strictSize.MatchString(digits) {
			return "", fmt.Errorf("chunk size %q", text)
		}
		n, err := strconv.ParseInt(digits, 16, 32)
		if err != nil {
			return "", err
		}
		if n == 0 {
			break
		}
		data, err := exactly(r, n+2)
		if err != nil {
			return "", err
		}
		if data[n:] != "\r\n" {
			return "", fmt.Errorf("behind a chunk: %q", data[n:])
		}
		body.WriteString(data[:n])
	}
	trailer, err := exactly(r, 2) // the route passes no trailers
	if err == nil && trailer != "\r\n" {
		err = fmt.Errorf("behind the last chunk: %q", trailer)
	}
	return body.String(), err
}

// peer is another HTTP server, and the recorder of what it understood.
type peer struct {
	name, addr string
	*recorder
}

var nginxMethod = regexp.MustCompile("^[A-Z_-]+$")

// declines reports that the peer answers 400 to a request though it is
// well-formed: nginx has methods of capital letters only.
func (p *peer) declines(a asked) bool { return p.name == "nginx" && !nginxMethod.MatchString(a.method) }

// peers starts all that there are: the recorder alone is the first.
func peers(t *testing.T) []peer {
	t.Helper()
	direct := record(t)
	return []peer{
		{"recorder", direct.addr, direct},
		netHTTP(t),
		daemon(t, "nginx", "nginx.conf", "-e", "stderr", "-c"),
		daemon(t, "haproxy", "haproxy.cfg", "-db", "-f"),
	}
}

func netHTTP(t *testing.T) peer {
	t.Helper()
	p := peer{"net/http", "", record(t)}
	s := http.Server{
		DisableGeneralOptionsHandler: true,
		ReadHeaderTimeout:            time.Minute,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			a := asked{method: r.Method, target: r.RequestURI, host: r.Host, body: string(body), client: r.Header.Get("X-Real-IP")}
			p.note(a)
			w.Header().Set("Content-Length", strconv.Itoa(len(a.echoed())))
			_, _ = io.WriteString(w, a.echoed()) // who asked may be gone
		}),
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.addr = ln.Addr().String()
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	t.Cleanup(func() {
		_ = s.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return p
}

// leash runs its arguments until they end or its own input does, which is
// when the test process is gone, in whatever way.
const leash = `exec 3<&0; "$@" 3<&- & server=$!; { cat <&3 >/dev/null; kill $server 2>/dev/null; } & wait $server`

// daemon starts a server with a configuration of testdata/peers in front of a
// recorder. args come before the configuration's name.
func daemon(t *testing.T, name, config string, args ...string) peer {
	t.Helper()
	program, err := exec.LookPath(name)
	if err != nil {
		if program, err = exec.LookPath("/usr/sbin/" + name); err != nil {
			t.Fatalf("%s is missing: run make tools", name)
		}
	}
	text, err := template.ParseFiles("testdata/peers/" + config)
	if err != nil {
		t.Fatal(err)
	}
	p := peer{name, "", record(t)}
	var failed string
	for range 3 { // another process may take the port first
		dir := t.TempDir()
		p.addr = freeAddr(t)
		var b bytes.Buffer
		if err := text.Execute(&b, struct{ Dir, Listen, Recorder string }{dir, p.addr, p.recorder.addr}); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, config)
		if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		if failed = leashed(t, dir, p.addr, program, append(args, file)...); failed == "" {
			return p
		}
	}
	t.Fatalf("%s does not start:\n%s", name, failed)
	return p
}

// leashed runs a server until the test ends, and returns once it listens, or
// with what it said before it ended.
func leashed(t *testing.T, dir, addr, program string, args ...string) (failed string) {
	t.Helper()
	said, err := os.Create(filepath.Join(dir, "output"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", append([]string{"-c", leash, "sh", program}, args...)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, said, said
	rope, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it is killed, or has said why
		close(ended)
	}()
	t.Cleanup(func() {
		_ = rope.Close()
		<-ended
		_ = said.Close()
	})
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for {
		select {
		case <-ended:
		case <-deadline:
		case <-tick.C:
			if c, err := net.Dial("tcp", addr); err == nil {
				_ = c.Close()
				return ""
			}
			continue
		}
		text, err := os.ReadFile(said.Name())
		if err != nil {
			t.Fatal(err)
		}
		return "it ended, or does not listen: " + string(text)
	}
}

func freeAddr(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}
