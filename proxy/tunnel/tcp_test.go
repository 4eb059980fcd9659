package tunnel

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// joined is a tunnel over loopback.
func joined(tb testing.TB, set *Set, o Options) (client, backend *net.TCPConn, result chan Result) {
	tb.Helper()
	client, gc := tcp(tb)
	gb, backend := tcp(tb)
	result = make(chan Result, 1)
	go func() { result <- set.Join(gc, gb, o) }()
	return client, backend, result
}

// outcome is a result without the numbers of the machine's errors.
func outcome(r Result) string {
	s := fmt.Sprint(r.Reason, " ", r.FromClient, " ", r.FromBackend)
	switch {
	case r.Err == nil:
	case errors.Is(r.Err, syscall.ECONNRESET):
		s += " reset"
	case errors.Is(r.Err, syscall.EPIPE):
		s += " pipe"
	default:
		s += " " + r.Err.Error()
	}
	return s
}

func send(tb testing.TB, w io.Writer, s string) {
	tb.Helper()
	if _, err := io.WriteString(w, s); err != nil {
		tb.Error(err)
	}
}

func receive(tb testing.TB, r io.Reader, want string) {
	tb.Helper()
	b := make([]byte, len(want))
	if _, err := io.ReadFull(r, b); err != nil || string(b) != want {
		tb.Errorf("got %q %v, want %q", b, err, want)
	}
}

func end(tb testing.TB, r io.Reader) {
	tb.Helper()
	if b, err := io.ReadAll(r); err != nil || len(b) > 0 {
		tb.Errorf("got %q %v, want the end", b, err)
	}
}

func TestSockets(t *testing.T) {
	f := func(name string, o Options, script func(t *testing.T, set *Set, client, backend *net.TCPConn), want string) {
		t.Run(name, func(t *testing.T) {
			set := NewSet()
			client, backend, result := joined(t, set, o)
			script(t, set, client, backend)
			got := outcome(<-result)
			if !slices.ContainsFunc(strings.Split(want, "|"), func(w string) bool { return got == w || strings.HasPrefix(got, w+" ") }) {
				t.Errorf("got %s, want %s", got, want)
			}
			if n := set.Len(); n != 0 {
				t.Errorf("%d left", n)
			}
		})
	}
	reset := func(t *testing.T, c *net.TCPConn) {
		if err := c.SetLinger(0); err != nil {
			t.Error(err)
		}
		c.Close()
	}
	f("half-closed by the client", Options{Idle: time.Minute}, func(t *testing.T, _ *Set, c, b *net.TCPConn) {
		send(t, c, "question")
		_ = c.CloseWrite()
		receive(t, b, "question")
		end(t, b)
		send(t, b, "answer")
		b.Close()
		receive(t, c, "answer")
		end(t, c)
	}, "client_closed 8 6")
	f("reset by the client", Options{}, func(t *testing.T, _ *Set, c, b *net.TCPConn) {
		send(t, c, "a")
		receive(t, b, "a")
		reset(t, c)
		end(t, b)
		b.Close()
	}, "client_error 1 0 reset")
	f("reset by the backend", Options{WebSocket: true}, func(t *testing.T, _ *Set, c, b *net.TCPConn) {
		send(t, b, "\x81\x01a")
		receive(t, c, "\x81\x01a")
		reset(t, b)
		end(t, c)
		c.Close()
	}, "backend_error 0 3 reset")
	f("reset while written to", Options{}, func(t *testing.T, _ *Set, c, b *net.TCPConn) {
		receiveSome := make([]byte, 1)
		go func() {
			chunk := make([]byte, 64<<10)
			for {
				if _, err := c.Write(chunk); err != nil {
					return
				}
			}
		}()
		_, _ = b.Read(receiveSome)
		send(t, b, "last words")
		receive(t, c, "last words")
		reset(t, b)
		end(t, c) // the client is told, while it sends
		c.Close()
	}, "backend_error|backend_closed") // the kernel tells of a reset once, be it the reader or the writer
	f("silent for too long", Options{Idle: 30 * time.Millisecond}, func(t *testing.T, _ *Set, c, b *net.TCPConn) {
		end(t, c)
		end(t, b)
		c.Close()
		b.Close()
	}, "idle 0 0")
	f("cut by a drain", Options{}, func(t *testing.T, set *Set, c, b *net.TCPConn) {
		send(t, c, "a")
		receive(t, b, "a")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := set.Drain(ctx); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		end(t, c)
		end(t, b)
	}, "drained 1 0")
}

// A connection that is no plain socket is read by its Read, and nothing that
// it has taken from the socket is left waiting in it.
func TestTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(nil)
	server.StartTLS()
	defer server.Close()
	certificates, roots := server.TLS.Certificates, server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs

	pc, pgc := tcp(t)
	gb, b := tcp(t)
	c := tls.Client(pc, &tls.Config{RootCAs: roots, ServerName: "example.com"})
	gc := tls.Server(pgc, &tls.Config{Certificates: certificates})
	result := make(chan Result, 1)
	set := NewSet()
	go func() { result <- set.Join(gc, gb, Options{WebSocket: true, Idle: time.Minute}) }()

	big := strings.Repeat("0123456789abcdef", 1<<16)
	for _, payload := range []string{"", "a", strings.Repeat("b", smallSize-6), strings.Repeat("b", smallSize-5), strings.Repeat("c", 4000), big, "d"} {
		message := string(frame(0x82, payload, true))
		go send(t, c, message)
		receive(t, b, message)
		message = string(frame(0x82, payload, false))
		go send(t, b, message)
		receive(t, c, message)
	}
	drained := make(chan error, 1)
	go func() { drained <- set.Drain(t.Context()) }()
	for peer, want := range map[net.Conn]string{c: "close 1001", b: "masked close 1001"} {
		if got, _, _, err := readFrame(peer); got != want || err != nil {
			t.Errorf("got %s %v, want %s", got, err, want)
		}
	}
	send(t, c, string(frame(0x88, "\x03\xe9", true)))
	send(t, b, string(frame(0x88, "\x03\xe9", false)))
	end(t, c) // with TLS's own parting, or this is an error
	end(t, b)
	if r := <-result; r.Reason != Drained || r.Err != nil || <-drained != nil {
		t.Errorf("%+v", r)
	}
}

// A write that gets on, however slowly, is no stuck one, and the other
// direction does not take it for silence.
func TestSlowReader(t *testing.T) {
	got := play(t, false, Options{Idle: 10 * second}, func(s *scene) {
		s.backend.deaf = true
		s.begin()
		go s.client.send(strings.Repeat("x", 1000))
		for range 10 {
			s.wait(9 * second)
			receive(t, s.backend.conn, strings.Repeat("x", 10))
		}
		s.client.conn.Close()
	})
	want := "client: 1m30s end\nbackend: \nbackend_error 100 0 at 1m57.5s: a write made no progress within the idle time"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// What cannot be waited for without a buffer holds one for a second.
func TestLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, gc := newDuplex()
		gb, b := newDuplex()
		set := NewSet()
		tunnel := newTunnel(gc, gb, Options{}, &set.buffers)
		over := make(chan Result, 1)
		go func() { over <- tunnel.run(nil, nil) }()
		holds := func(after time.Duration, want bool) {
			t.Helper()
			<-time.After(after)
			synctest.Wait()
			if got := tunnel.up.from.held != nil; got != want {
				t.Errorf("a buffer is held: %v", got)
			}
		}
		go io.Copy(io.Discard, b) //nolint:errcheck // ends with the tunnel
		holds(0, false)
		send(t, c, strings.Repeat("x", smallSize-1))
		holds(0, false)
		send(t, c, strings.Repeat("x", 1000))
		holds(linger/2, true)
		send(t, c, "x")
		holds(linger*5/4, true) // what came in the first linger has begun another
		send(t, c, "x")
		holds(linger*5/2, false)
		c.Close()
		b.Close()
		<-over
	})
}
