package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse/metering"
)

var restarts = flag.Int("restarts", 10, "takeovers in a row in TestRestarts")

// strictly is a client to which every error is a failure: a connection that
// is refused, one that is closed before its answer, an answer that is not the
// expected. It leaves a connection where an answer asks it to, and after each
// answer with fresh set. pace is the time between two requests.
func (l *load) strictly(addr string, fresh bool, pace time.Duration, stop <-chan struct{}) {
	tick := make(<-chan time.Time)
	if pace > 0 {
		ticker := time.NewTicker(pace)
		defer ticker.Stop()
		tick = ticker.C
	}
	var c net.Conn
	var r *bufio.Reader
	leave := func() {
		if c != nil {
			_ = c.Close() // its answer was read
			c = nil
		}
	}
	defer leave()
	for {
		select {
		case <-stop:
			return
		default:
		}
		if pace > 0 {
			select {
			case <-tick:
			case <-stop:
				return
			}
		}
		used := c != nil
		if c == nil {
			var err error
			if c, err = net.Dial("tcp", addr); err != nil {
				l.fail("connect: %v", err)
				c = nil
				continue
			}
			r = bufio.NewReader(c)
		}
		last, err := exchange(c, r)
		if err != nil {
			l.fail("used before: %v, paced %v: %v", used, pace, err)
			leave()
			continue
		}
		l.ok.Add(1)
		if fresh || last {
			leave()
		}
	}
}

// exchange sends a request to the tenant a and reads its answer; last says that the answer is
// the last one of its connection.
func exchange(c net.Conn, r *bufio.Reader) (last bool, err error) {
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"); err != nil {
		return false, fmt.Errorf("send: %w", err)
	}
	answer, err := http.ReadResponse(r, nil)
	if err != nil {
		return false, fmt.Errorf("read answer: %w", err)
	}
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK || string(text) != "a" {
		return false, fmt.Errorf("answer %d %q: %w", answer.StatusCode, text, err)
	}
	return answer.Close, nil
}

// readiness asks /readyz on new connections until stop is closed; it must
// never say no.
func (l *load) readiness(addr string, stop <-chan struct{}) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		answer, err := client.Get("http://" + addr + "/readyz")
		if err != nil {
			l.fail("readyz: %v", err)
			continue
		}
		text, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if err != nil || answer.StatusCode != http.StatusOK {
			l.fail("readyz: %d %s %v", answer.StatusCode, text, err)
			continue
		}
		l.ok.Add(1)
	}
}

// counted returns the requests that are kept in a data folder.
func counted(t *testing.T, data string) (n int64) {
	t.Helper()
	kept, err := metering.Read(data)
	if err != nil {
		t.Fatal(err)
	}
	return kept.Sum(metering.MeterRequests)
}

func (p *program) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// terminate sends SIGTERM again and again until the process has seen two: two
// in one moment may be one to it.
func (p *program) terminate() {
	p.t.Helper()
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	limit := time.After(time.Minute)
	for !strings.Contains(p.stderr.String(), "msg=stopped") {
		p.signal(syscall.SIGTERM)
		select {
		case <-again.C:
		case <-limit:
			p.t.Fatalf("does not end\n%s", p.stderr)
		}
	}
}

func (p *program) exits(code int) {
	p.t.Helper()
	if got := p.wait(); got != code {
		p.t.Fatalf("exit code %d, want %d\n%s", got, code, p.stderr)
	}
}

// settings writes a process configuration.
func settings(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "gatehouse.yaml")
	write(t, name, text)
	return name
}

const silent = "log: {access: off}\n"

// The law of takeover: restarts in a row under load fail no request and refuse
// no connection, and what the processes counted adds up to what was answered.
func TestRestarts(t *testing.T) {
	data := t.TempDir()
	args := []string{"--takeover", "--config", settings(t, silent), "--tenants", tenants(t, "a"), "--data", data}
	p := start(t, args...)
	addr, control := p.data, p.control
	args = append(args, "--listen", addr, "--control", control)
	stop := make(chan struct{})
	var l, ready load
	for range 6 {
		l.clients.Go(func() { l.strictly(addr, false, 0, stop) })
		l.clients.Go(func() { l.strictly(addr, false, 20*time.Millisecond, stop) })
		l.clients.Go(func() { l.strictly(addr, true, 2*time.Millisecond, stop) })
	}
	ready.clients.Go(func() { ready.readiness(control, stop) })
	var serving, gone, slowest time.Duration
	for i := range *restarts {
		was := l.ok.Load()
		waitFor(t, func() bool { return l.ok.Load() > was+200 || l.failed.Load() > 0 })
		began := time.Now()
		next := start(t, args...)
		serving += time.Since(began)
		p.exits(exitOK)
		took := time.Since(began)
		gone += took
		slowest = max(slowest, took)
		if next.data != addr || next.control != control {
			t.Fatalf("takeover %d serves %s and %s, not %s and %s", i, next.data, next.control, addr, control)
		}
		p = next
	}
	close(stop)
	l.check(t, int64(200**restarts))
	ready.check(t, 1)
	p.signal(syscall.SIGTERM)
	p.exits(exitOK)
	if n := counted(t, data); n != l.ok.Load() {
		t.Errorf("%d requests were counted, %d were answered", n, l.ok.Load())
	}
	if left, err := filepath.Glob(filepath.Join(data, "*.sock")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	n := time.Duration(*restarts)
	t.Logf("%d takeovers: %v until the new process serves, %v until the old one has ended, %v at most",
		n, (serving / n).Round(time.Millisecond), (gone / n).Round(time.Millisecond), slowest.Round(time.Millisecond))
}

// launch starts a process that need not come to serve.
func launch(t *testing.T, args ...string) *program {
	t.Helper()
	p := &program{t: t, stdout: newLines(), stderr: newLines(), ended: make(chan error, 1)}
	p.cmd = exec.Command(os.Args[0], append([]string{"run", "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"}, args...)...)
	p.cmd.Env = append(os.Environ(), "GATEHOUSE_TEST_MAIN=1")
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.ended <- p.cmd.Wait() }()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // most have ended by themselves
		err := <-p.ended
		p.ended <- err
	})
	return p
}

func newLines() *lines { return &lines{news: make(chan struct{}, 1)} }

// A connection that the process before left open is answered there once more,
// and told to close; one that stays idle is closed without a reset.
func TestTakeoverIdle(t *testing.T) {
	args := []string{"--takeover", "--config", settings(t, silent), "--tenants", tenants(t, "a"), "--data", t.TempDir()}
	old := start(t, args...)
	var conns [2]net.Conn
	var readers [2]*bufio.Reader
	for i := range conns {
		c, err := net.Dial("tcp", old.data)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns[i], readers[i] = c, bufio.NewReader(c)
		if _, err := exchange(c, readers[i]); err != nil {
			t.Fatal(err)
		}
	}
	next := start(t, args...)
	waitFor(t, func() bool {
		last, err := exchange(conns[0], readers[0])
		if err != nil {
			t.Fatal(err)
		}
		return last
	})
	for i := range conns {
		if _, err := readers[i].ReadByte(); !errors.Is(err, io.EOF) {
			t.Errorf("connection %d: %v", i, err)
		}
	}
	old.exits(exitOK)
	fetch(t, next.data)
}

// refuses starts a process that must not come to serve.
func refuses(t *testing.T, code int, want string, args ...string) {
	t.Helper()
	p := launch(t, args...)
	p.exits(code)
	if !strings.Contains(p.stderr.String(), want) {
		t.Errorf("want %s in\n%s", want, p.stderr)
	}
}

// A takeover that fails leaves the process that serves as it was.
func TestTakeoverFaults(t *testing.T) {
	dir, data := tenants(t, "a"), t.TempDir()
	p := start(t, "--config", settings(t, silent), "--tenants", dir, "--data", data)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	broken := t.TempDir()
	write(t, filepath.Join(broken, "a.yaml"), "tenants: [{id: a, plan: none}]\n")
	stop := make(chan struct{})
	l := &load{}
	l.clients.Go(func() { l.strictly(p.data, false, 0, stop) })
	l.clients.Go(func() { l.strictly(p.data, true, time.Millisecond, stop) })
	for _, tt := range []struct {
		name string
		code int
		want string
		args []string
	}{
		{"without the flag", exitError, "is in use by another gatehouse: give each its own --data, or take over with --takeover", []string{"--tenants", dir}},
		{"faulty document", exitFindings, `plan "none" does not exist`, []string{"--takeover", "--tenants", broken}},
		{"faulty configuration", exitFindings, `unknown key "prxy"`, []string{"--takeover", "--tenants", dir, "--config", settings(t, "prxy: {}\n")}},
		{"another address in use", exitError, "data plane: listen tcp " + taken.Addr().String(), []string{"--takeover", "--tenants", dir, "--listen", taken.Addr().String()}},
		{"no access log", exitFindings, "/nonexistent: cannot be read", []string{"--takeover", "--tenants", dir, "--config", settings(t, "log: {access: /nonexistent/x}\n")}},
		{"demo", exitUsage, "leave out --takeover", []string{"--takeover", "--demo"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			refuses(t, tt.code, tt.want, append([]string{"--data", data}, tt.args...)...)
		})
	}
	was := l.ok.Load()
	waitFor(t, func() bool { return l.ok.Load() > was+100 || l.failed.Load() > 0 })
	close(stop)
	l.check(t, 100)
	p.signal(syscall.SIGTERM)
	p.exits(exitOK)
	if n := counted(t, data); n != l.ok.Load() {
		t.Errorf("%d requests were counted, %d were answered", n, l.ok.Load())
	}
}

// Where nobody holds the folder --takeover is a start like any other, also
// after a crash.
func TestTakeoverOfNobody(t *testing.T) {
	args := []string{"--takeover", "--config", settings(t, silent), "--tenants", tenants(t, "a"), "--data", filepath.Join(t.TempDir(), "new")}
	p := start(t, args...)
	p.signal(syscall.SIGKILL)
	p.exits(-1)
	p = start(t, args...)
	next := start(t, args...)
	p.exits(exitOK)
	next.signal(syscall.SIGTERM)
	next.exits(exitOK)
}

// long is a backend whose answers last until they are told to end.
type long struct {
	addr    string
	reached chan struct{}
	end     chan struct{}
}

func newLong(t *testing.T) *long {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &long{ln.Addr().String(), make(chan struct{}, 10), make(chan struct{})}
	s := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/long" {
			_, _ = io.WriteString(w, "a") // the gateway may be gone
			return
		}
		_, _ = io.WriteString(w, "begun,")
		w.(http.Flusher).Flush()
		b.reached <- struct{}{}
		select {
		case <-b.end:
			_, _ = io.WriteString(w, "ended")
		case <-r.Context().Done():
		}
	})}
	go s.Serve(ln) //nolint:errcheck // ends with the test
	t.Cleanup(func() { _ = s.Close() })
	return b
}

// request begins a long answer; the channel tells how it ended.
func (b *long) request(t *testing.T, addr string) <-chan string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if _, err := io.WriteString(c, "GET /long HTTP/1.1\r\nHost: a.test\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-b.reached
	got := make(chan string, 1)
	go func() {
		answer, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			got <- err.Error()
			return
		}
		text, err := io.ReadAll(answer.Body)
		got <- fmt.Sprintf("%s %v", text, err)
	}()
	return got
}

func fetch(t *testing.T, addr string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := exchange(c, bufio.NewReader(c)); err != nil {
		t.Fatal(err)
	}
}

// What may happen while a long answer keeps the process before in its drain.
// begin makes two processes, of which the second has taken over.
func TestTakeoverDrain(t *testing.T) {
	for _, tt := range []struct {
		name, drain string
		play        func(old, next *program, b *long)
		answer      string
		oldExit     int
		nextExit    int
		counted     int64 // of the requests
	}{
		{"the answer ends", "30s", func(old, next *program, b *long) {
			close(b.end)
			old.exits(exitOK)
			next.await(next.stderr, "counters taken over")
			next.signal(syscall.SIGTERM)
		}, "begun,ended <nil>", exitOK, exitOK, 5},
		{"the drain ends", "500ms", func(old, next *program, _ *long) {
			old.exits(exitError)
			old.await(old.stderr, "1 requests were cut off")
			next.await(next.stderr, "counters taken over")
			next.signal(syscall.SIGTERM)
		}, "begun, unexpected EOF", exitError, exitOK, 5},
		{"SIGTERM to the new one", "30s", func(old, next *program, b *long) {
			next.signal(syscall.SIGTERM)
			next.await(next.stderr, "draining")
			waitFor(next.t, func() bool { return refusesConnections(next.data) })
			close(b.end)
			old.exits(exitOK)
			next.await(next.stderr, "counters taken over")
		}, "begun,ended <nil>", exitOK, exitOK, 5},
		{"SIGTERM to the old one", "30s", func(old, next *program, b *long) {
			old.signal(syscall.SIGTERM)
			fetch(next.t, next.data)
			close(b.end)
			old.exits(exitOK)
			next.signal(syscall.SIGTERM)
		}, "begun,ended <nil>", exitOK, exitOK, 6},
		{"two SIGTERM to the old one", "30s", func(old, next *program, _ *long) {
			old.terminate()
			old.exits(exitError)
			next.signal(syscall.SIGTERM)
		}, "begun, unexpected EOF", exitError, exitOK, 5},
		{"SIGKILL to the old one", "30s", func(old, next *program, _ *long) {
			old.signal(syscall.SIGKILL)
			old.exits(-1)
			next.await(next.stderr, "counters taken over")
			next.signal(syscall.SIGTERM)
		}, "begun, unexpected EOF", -1, exitOK, 5},
		{"two SIGTERM to the new one", "30s", func(old, next *program, b *long) {
			next.terminate()
			next.exits(exitOK)
			next.await(next.stderr, "counters are left to the next process")
			close(b.end)
			old.exits(exitOK)
		}, "begun,ended <nil>", exitOK, exitOK, 5},
		{"a third process", "30s", func(old, next *program, b *long) {
			refuses(next.t, exitError, fmt.Sprintf("process %d refuses: another process is taking over already", old.cmd.Process.Pid), old.cmd.Args[2:]...)
			close(b.end)
			old.exits(exitOK)
			next.signal(syscall.SIGTERM)
		}, "begun,ended <nil>", exitOK, exitOK, 5},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir, data, b := t.TempDir(), t.TempDir(), newLong(t)
			write(t, filepath.Join(dir, "a.yaml"), document("a", b.addr, "first"))
			args := []string{
				"--takeover", "--tenants", dir, "--data", data,
				"--config", settings(t, silent+"metering: {flush: 20ms}\nproxy: {timeouts: {drain: "+tt.drain+"}}\n"),
			}
			old := start(t, args...)
			fetch(t, old.data)
			fetch(t, old.data)
			answer := b.request(t, old.data)
			waitFor(t, func() bool { // what a SIGKILL must not lose
				return counted(t, data) == 3
			})
			next := start(t, args...)
			fetch(t, next.data) // by either of them: the old one empties the queue for a moment
			fetch(t, next.data)
			waitFor(t, func() bool { return counted(t, data) == 5 })
			tt.play(old, next, b)
			old.exits(tt.oldExit)
			next.exits(tt.nextExit)
			if got := <-answer; got != tt.answer {
				t.Errorf("the long answer: %q, want %q", got, tt.answer)
			}
			if n := counted(t, data); n != tt.counted {
				t.Errorf("%d requests were counted, want %d", n, tt.counted)
			}
		})
	}
}

func refusesConnections(addr string) bool {
	c, err := net.Dial("tcp", addr)
	if err == nil {
		_ = c.Close() // somebody listens
	}
	return err != nil
}
