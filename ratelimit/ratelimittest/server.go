// Package ratelimittest holds the conformance suite of stores of limits, and
// starts real Redis servers for tests: on loopback, on free ports, in folders
// of the test, ended by their process id.
package ratelimittest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait for a server.
const patience = 20 * time.Second

// Server is one redis-server of a test. Its methods fail the test on errors;
// they are for one goroutine at a time.
type Server struct {
	// Addr is host:port, URL is redis://Addr.
	Addr, URL string

	t    testing.TB
	bin  string
	args []string
	cmd  *exec.Cmd
	done chan struct{}
}

// Single starts a redis-server without persistence. args are appended to its
// command line, as in "--appendonly", "yes".
func Single(t testing.TB, args ...string) *Server {
	t.Helper()
	addr := FreeAddr(t)
	s := newServer(t, "redis-server", addr, append([]string{"--port", port(addr)}, args...))
	s.Start()
	return s
}

// newServer prepares a server that speaks at addr.
func newServer(t testing.TB, bin, addr string, args []string) *Server {
	t.Helper()
	path, err := exec.LookPath(bin)
	if err != nil {
		t.Fatalf("%s is missing: apt-get install -y redis-server redis-sentinel", bin)
	}
	dir, err := os.MkdirTemp("", "gatehouse-redis") // t.TempDir is too long a path for some, and is removed too early
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Addr: addr, URL: "redis://" + addr, t: t, bin: path}
	s.args = append([]string{"--bind", "127.0.0.1", "--save", "", "--dir", dir, "--daemonize", "no", "--logfile", filepath.Join(dir, "log")}, args...)
	t.Cleanup(func() {
		s.Kill()
		_ = os.RemoveAll(dir)
	})
	return s
}

// Start starts the server, also again, and waits until it answers.
func (s *Server) Start() {
	s.t.Helper()
	s.launch()
	s.until("PONG", "PING")
}

func (s *Server) launch() {
	s.t.Helper()
	s.cmd = exec.Command(s.bin, s.args...)
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.done = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) {
		_ = cmd.Wait() // it is killed
		close(done)
	}(s.cmd, s.done)
}

// Kill ends the server at once, without a chance to write anything.
func (s *Server) Kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill() // it may have ended
	<-s.done
	s.cmd = nil
}

// Pause stops the server's process: connections stay and nothing is answered.
func (s *Server) Pause() { _ = s.cmd.Process.Signal(syscall.SIGSTOP) }

// Resume lets it go on.
func (s *Server) Resume() { _ = s.cmd.Process.Signal(syscall.SIGCONT) }

// Do sends one command and returns the answer as text: the elements of lists
// stand on lines of their own.
func (s *Server) Do(args ...string) string {
	s.t.Helper()
	out, err := s.try(args...)
	if err != nil {
		s.t.Fatalf("%s: %v", strings.Join(args, " "), err)
	}
	return out
}

// until repeats a command until its answer contains want.
func (s *Server) until(want string, args ...string) string {
	s.t.Helper()
	deadline := time.After(patience)
	for {
		out, err := s.try(args...)
		if err == nil && strings.Contains(out, want) {
			return out
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-deadline:
			s.t.Fatalf("%s at %s: got %q (%v), want %s", strings.Join(args, " "), s.Addr, out, err, want)
		}
	}
}

func (s *Server) try(args ...string) (string, error) {
	c, err := net.DialTimeout("tcp", s.Addr, time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(c, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(c, "$%d\r\n%s\r\n", len(a), a)
	}
	return reply(bufio.NewReader(c))
}

// reply reads one answer of the Redis protocol.
func reply(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimRight(line, "\r\n")
	switch line[0] {
	case '-':
		return "", fmt.Errorf("server: %s", line[1:])
	case '$', '*':
		n, err := strconv.Atoi(line[1:])
		if err != nil || n < 0 {
			return "", err
		}
		if line[0] == '$' {
			b := make([]byte, n+2)
			_, err := io.ReadFull(r, b)
			return string(b[:n]), err
		}
		var parts []string
		for range n {
			p, err := reply(r)
			if err != nil {
				return "", err
			}
			parts = append(parts, p)
		}
		return strings.Join(parts, "\n"), nil
	}
	return line[1:], nil
}

// FreeAddr returns a loopback address that nobody listens at.
func FreeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func port(addr string) string {
	_, p, _ := net.SplitHostPort(addr)
	return p
}
