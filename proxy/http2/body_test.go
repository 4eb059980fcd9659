package http2

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// stored is a socket whose client has sent something and reads nothing.
type stored struct {
	net.Conn
	sent io.Reader
}

func (s stored) Read(p []byte) (int, error) {
	if n, err := s.sent.Read(p); err == nil {
		return n, nil
	}
	return s.Conn.Read(p)
}

// deaf is a connection whose client writes, and does not read.
func deaf(cfg *Config, handle func(*Stream)) (c *Conn, near io.Writer) {
	_, far := net.Pipe()
	sent := new(strings.Builder)
	s := &lazy{b: sent}
	return NewConn(stored{far, s}, cfg, handle), sent
}

// lazy reads what was written to b before the first read.
type lazy struct {
	b *strings.Builder
	r *strings.Reader
}

func (l *lazy) Read(p []byte) (int, error) {
	if l.r == nil {
		l.r = strings.NewReader(l.b.String())
	}
	return l.r.Read(p)
}

// What becomes of a body whose client, or whose reader, does not go on.
func TestBodies(t *testing.T) {
	f := func(name string, handle func(s *Stream) error, script func(c *client), want string, is error) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Helper()
			got := make(chan error, 1)
			greeted(t, config(), func(s *Stream) { got <- handle(s) }, func(c *client) {
				t.Helper()
				c.post(1)
				script(c)
				c.want(want)
			})
			if err := <-got; !errors.Is(err, is) {
				t.Errorf("%v, want %v", err, is)
			}
		})
	}
	read := func(s *Stream) error {
		_, err := io.Copy(io.Discard, s)
		if err == nil {
			ok(s)
		}
		return err
	}
	pass := func(d time.Duration) func(c *client) {
		return func(c *client) {
			c.data(1, false, "abc")
			c.pass(d)
		}
	}
	f("pause", read, pass(59*time.Second), "", io.ErrUnexpectedEOF)
	f("long pause", read, pass(60*time.Second), "RST_STREAM 1 INTERNAL_ERROR", os.ErrDeadlineExceeded)
	f("reset", func(s *Stream) error {
		_, err := io.Copy(io.Discard, s)
		if !s.Gone() {
			t.Error("not gone")
		}
		return err
	}, func(c *client) { c.data(1, false, "abc"); c.raw(kindReset, 0, 1, "\x00\x00\x00\x08") }, "", io.ErrUnexpectedEOF)
	f("the client leaves", read, func(c *client) { _ = c.nc.Close() }, "closed", io.ErrUnexpectedEOF)
	f("nobody reads", func(s *Stream) error { ok(s); return nil }, func(c *client) {
		c.data(1, false, "abc") // or it is not on its way any more
	}, "HEADERS 1 :status=204 END\nRST_STREAM 1 NO_ERROR", nil)
	f("nobody reads what has come", func(s *Stream) error {
		<-time.After(time.Second)
		ok(s)
		return nil
	}, func(c *client) { c.data(1, true, "abc"); c.pass(time.Second) }, "HEADERS 1 :status=204 END", nil)
	f("interrupted", func(s *Stream) error {
		go func() {
			<-time.After(time.Second)
			s.Interrupt()
		}()
		_, err := io.Copy(io.Discard, s)
		if s.Gone() {
			t.Error("gone")
		}
		ok(s)
		return err
	}, func(c *client) { c.data(1, false, "abc"); c.pass(time.Second) }, "HEADERS 1 :status=204 END\nRST_STREAM 1 NO_ERROR", errInterrupted)
	f("the answer has ended", func(s *Stream) error { ok(s); return read(s) }, func(c *client) {
		c.data(1, false, "abc")
		c.data(1, true, "abc")
	}, "HEADERS 1 :status=204 END", nil)
}

// What a client may send, and when it may send more.
func TestCredit(t *testing.T) {
	small := func() *Config {
		cfg := config()
		cfg.StreamWindow, cfg.ConnWindow = 20<<10, 100<<10
		return cfg
	}
	var began chan *Stream
	var release chan struct{}
	handle := func(s *Stream) {
		began <- s
		<-release
	}
	connect(t, small(), handle, func(c *client) {
		began, release = make(chan *Stream, 10), make(chan struct{})
		c.want("SETTINGS 3=10 4=20480 6=4096 9=1\nWINDOW_UPDATE 0 36865")
		c.greet()
		send := func(id uint32, n int) {
			for ; n > 0; n -= maxFrame {
				c.data(id, false, strings.Repeat("a", min(n, maxFrame)))
			}
		}
		c.post(1)
		stream := <-began
		read := func(n int) {
			if _, err := io.ReadFull(stream, make([]byte, n)); err != nil {
				t.Error(err)
			}
		}
		send(1, 20<<10)
		c.want("")
		read(10<<10 - 1)
		c.want("")
		read(1)
		c.want("WINDOW_UPDATE 1 10240")
		c.check(c.fr.WriteDataPadded(1, false, []byte("abc"), make([]byte, 99)))
		read(10<<10 + 3)
		c.want("WINDOW_UPDATE 1 10343") // with the padding
		send(1, 20<<10+1)
		c.want("RST_STREAM 1 FLOW_CONTROL_ERROR")

		close(release)
	})

	// What is not read holds the connection's window. The others get back at
	// once what they use of the rest.
	connect(t, small(), handle, func(c *client) {
		began, release = make(chan *Stream, 10), make(chan struct{})
		c.greet()
		for id := uint32(1); id <= 9; id += 2 {
			c.post(id)
			<-began
			c.data(id, false, strings.Repeat("a", maxFrame))
		}
		c.post(11)
		stream := <-began
		for range 2 {
			c.data(11, false, strings.Repeat("a", 10<<10))
		}
		c.want("")
		for range 2 {
			if _, err := io.ReadFull(stream, make([]byte, 10<<10)); err != nil {
				t.Error(err)
			}
		}
		c.want("WINDOW_UPDATE 11 10240\nWINDOW_UPDATE 0 20480\nWINDOW_UPDATE 11 10240")
		close(release)
	})
}

// TestEarlyCredit lets a client that has not seen our settings yet send what it
// may without them, and no more once it has.
func TestEarlyCredit(t *testing.T) {
	cfg := config()
	cfg.StreamWindow = 1000
	connect(t, cfg, wait, func(c *client) {
		_, _ = io.WriteString(c.nc, preface)
		c.check(c.fr.WriteSettings())
		c.post(1)
		c.post(3)
		c.said()
		c.data(1, false, strings.Repeat("a", 10_000))
		c.want("WINDOW_UPDATE 1 8192\nWINDOW_UPDATE 1 1808")
		c.check(c.fr.WriteSettingsAck())
		c.data(1, false, strings.Repeat("a", 1000))
		c.want("WINDOW_UPDATE 1 1000")
		c.data(3, false, strings.Repeat("a", 1001))
		c.want("RST_STREAM 3 FLOW_CONTROL_ERROR")
	})
}

// TestConnectionCredit holds a client to the window of all streams.
func TestConnectionCredit(t *testing.T) {
	cfg := config()
	cfg.ConnWindow = firstWindow
	var release chan struct{}
	greeted(t, cfg, func(*Stream) { <-release }, func(c *client) {
		release = make(chan struct{})
		for i := range 4 {
			id := uint32(2*i + 1)
			c.post(id)
			c.data(id, false, strings.Repeat("a", maxFrame-1))
		}
		c.want("")
		c.data(1, false, "abcd")
		got := c.said()
		if !strings.Contains(got, "GOAWAY 7 FLOW_CONTROL_ERROR more DATA than the connection's window") {
			t.Error(got)
		}
		close(release)
	})
}
