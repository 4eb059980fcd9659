package http2

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	h2 "golang.org/x/net/http2"

	"github.com/gatehouse-gateway/gatehouse/proxy/ingress"
)

// What a handler does, and what the client gets.
func TestAnswers(t *testing.T) {
	f := func(name string, handle func(s *Stream) error, want string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Helper()
			got := make(chan error, 1)
			greeted(t, config(), func(s *Stream) { got <- handle(s) }, func(c *client) {
				t.Helper()
				c.get(1)
				c.want(want)
			})
			if err := <-got; err != nil {
				t.Error(err)
			}
		})
	}
	name, value := []byte("X-Name"), []byte("value")
	f("whole", func(s *Stream) error {
		s.Begin(200)
		s.Field(name, value)
		s.Length(3)
		return s.Whole([]byte("abc"))
	}, "HEADERS 1 :status=200 x-name=value content-length=3\nDATA 1 \"abc\" END")
	f("no body", func(s *Stream) error {
		s.Begin(304)
		return s.Whole(nil)
	}, "HEADERS 1 :status=304 END")
	f("the date", func(s *Stream) error {
		s.Begin(503)
		s.Date()
		return s.End()
	}, "HEADERS 1 :status=503 date=Sat, 01 Jan 2000 00:00:00 GMT END")
	f("parts", func(s *Stream) error {
		s.Begin(200)
		for _, p := range []string{"a", "", "b"} {
			if _, err := s.Write([]byte(p)); err != nil {
				return err
			}
		}
		return s.End()
	}, "HEADERS 1 :status=200\nDATA 1 \"a\"\nDATA 1 \"b\"\nDATA 1 \"\" END")
	f("head first", func(s *Stream) error {
		s.Begin(200)
		if err := s.Flush(); err != nil {
			return err
		}
		return s.Whole([]byte("a"))
	}, "HEADERS 1 :status=200\nDATA 1 \"a\" END")
	f("trailers", func(s *Stream) error {
		s.Begin(200)
		if _, err := s.Write([]byte("a")); err != nil {
			return err
		}
		s.Field([]byte("Grpc-Status"), []byte("0"))
		return s.End()
	}, "HEADERS 1 :status=200\nDATA 1 \"a\"\nHEADERS 1 grpc-status=0 END")
	f("trailers alone", func(s *Stream) error {
		s.Begin(200)
		s.Field([]byte("grpc-status"), []byte("12"))
		return s.End()
	}, "HEADERS 1 :status=200 grpc-status=12 END")
	f("interim", func(s *Stream) error {
		if err := s.Interim(103, []ingress.Field{{Name: []byte("Link"), Value: value}}); err != nil {
			return err
		}
		s.Begin(200)
		if err := s.Flush(); err != nil {
			return err
		}
		return errors.Join(s.Interim(103, nil), s.End())
	}, "HEADERS 1 :status=103 link=value\nHEADERS 1 :status=200\nDATA 1 \"\" END")
	f("secrets", func(s *Stream) error {
		s.Begin(200)
		s.Field([]byte("Set-Cookie"), value)
		s.Field([]byte("Authorization"), value)
		return s.End()
	}, "HEADERS 1 :status=200 set-cookie=value(secret) authorization=value(secret) END")
	f("large head", func(s *Stream) error {
		s.Begin(200)
		s.Field(name, []byte(strings.Repeat("a", 40<<10)))
		s.Field([]byte("after"), value)
		return s.Whole([]byte("b"))
	}, "HEADERS 1 :status=200 x-name=(40960 bytes) after=value\nDATA 1 \"b\" END")
	f("large body", func(s *Stream) error {
		s.Begin(200)
		return s.Whole(make([]byte, 20<<10))
	}, "HEADERS 1 :status=200\nDATA 1 (16384 bytes)\nDATA 1 (4096 bytes) END")
	f("reset", func(s *Stream) error {
		s.Begin(200)
		_, err := s.Write([]byte("a"))
		s.Reset(Cancel)
		if !s.Gone() {
			return errors.New("not gone")
		}
		if _, werr := s.Write([]byte("b")); werr == nil {
			return errors.New("written after the reset")
		}
		return err
	}, "HEADERS 1 :status=200\nDATA 1 \"a\"\nRST_STREAM 1 CANCEL")
	f("nothing", func(*Stream) error { return nil }, "RST_STREAM 1 INTERNAL_ERROR")
	f("half an answer", func(s *Stream) error {
		s.Begin(200)
		_, err := s.Write([]byte("a"))
		return err
	}, "HEADERS 1 :status=200\nDATA 1 \"a\"\nRST_STREAM 1 INTERNAL_ERROR")
	f("twice", func(s *Stream) error {
		s.Begin(200)
		if err := s.End(); err != nil {
			return err
		}
		if s.End() == nil || s.Whole([]byte("a")) == nil {
			return errors.New("written after the end")
		}
		return nil
	}, "HEADERS 1 :status=200 END")
}

// TestPanic has a handler's panic reset its stream, and nothing else.
func TestPanic(t *testing.T) {
	greeted(t, config(), func(s *Stream) {
		if string(s.Path) == "/panic" {
			panic("here")
		}
		ok(s)
	}, func(c *client) {
		c.headers(1, true, ":method: GET", ":scheme: https", ":path: /panic")
		c.get(3)
		got := c.said()
		if !strings.Contains(got, "RST_STREAM 1 INTERNAL_ERROR\n") || !strings.Contains(got, "HEADERS 3 :status=204 END\n") {
			t.Error(got)
		}
	})
}

// TestContinue tells a client that waits for 100 to go on when somebody reads.
func TestContinue(t *testing.T) {
	greeted(t, config(), echo, func(c *client) {
		c.headers(1, false, append(request, "expect: 100-continue")...)
		c.want("HEADERS 1 :status=100")
		c.data(1, true, "abc")
		c.want("HEADERS 1 :status=200\nDATA 1 \"GET https h / expect=100-continue body=abc\" END")
	})
	greeted(t, config(), ok, func(c *client) {
		c.headers(1, false, append(request, "expect: 100-continue")...)
		c.want("HEADERS 1 :status=204 END\nRST_STREAM 1 NO_ERROR")
	})
}

// TestLateTrailer has a trailer whose stream ends between its parts come to
// nothing: the Stream may serve another by then.
func TestLateTrailer(t *testing.T) {
	greeted(t, config(), func(s *Stream) {
		if s.Ended {
			echo(s)
			return
		}
		<-time.After(time.Second)
		ok(s)
	}, func(c *client) {
		c.post(1)
		block := string(c.encode("a: b", "c: d"))
		c.raw(kindHeaders, flagEndStream, 1, block[:4])
		<-time.After(time.Second)
		c.want("HEADERS 1 :status=204 END\nRST_STREAM 1 NO_ERROR")
		c.raw(kindContinuation, flagEndHeaders, 1, block[4:])
		c.get(3)
		c.want("HEADERS 3 :status=200\nDATA 3 \"GET https h /\" END")
	})
}

// Answers under the windows of the client.
func TestWindows(t *testing.T) {
	hundred := func(s *Stream) {
		s.Begin(200)
		_ = s.Whole([]byte(strings.Repeat("a", 100)))
	}
	small := h2.Setting{ID: h2.SettingInitialWindowSize, Val: 10}
	connect(t, config(), hundred, func(c *client) {
		c.greet(small)
		c.get(1)
		c.want("HEADERS 1 :status=200\nDATA 1 \"aaaaaaaaaa\"")
		c.check(c.fr.WriteWindowUpdate(1, 1))
		c.want("DATA 1 \"a\"")
		c.check(c.fr.WriteSettings(h2.Setting{ID: h2.SettingInitialWindowSize, Val: 5}))
		c.want("SETTINGS ack") // the window is -5
		c.check(c.fr.WriteWindowUpdate(1, 5))
		c.want("")
		c.check(c.fr.WriteWindowUpdate(1, 2))
		c.want("DATA 1 \"aa\"")
		c.check(c.fr.WriteSettings(h2.Setting{ID: h2.SettingInitialWindowSize, Val: 1}, h2.Setting{ID: h2.SettingInitialWindowSize, Val: 8}))
		c.want("SETTINGS ack\nDATA 1 \"aaa\"")
		c.check(c.fr.WriteWindowUpdate(1, 1000))
		c.want("DATA 1 \"" + strings.Repeat("a", 84) + "\" END")
	})

	// The connection's window: whoever waits first is first, heads and ends
	// need none, and one that is reset steps aside.
	large := func(s *Stream) {
		s.Begin(200)
		_ = s.Whole(make([]byte, firstWindow))
	}
	greeted(t, config(), func(s *Stream) {
		switch string(s.Path) {
		case "/large":
			large(s)
		case "/none":
			ok(s)
		default:
			hundred(s)
		}
	}, func(c *client) {
		c.headers(1, true, ":method: GET", ":scheme: https", ":path: /large")
		c.said()
		c.get(3)
		c.want("HEADERS 3 :status=200")
		c.get(5)
		c.want("HEADERS 5 :status=200")
		c.get(7)
		c.want("HEADERS 7 :status=200")
		c.headers(9, true, ":method: GET", ":scheme: https", ":path: /none")
		c.want("HEADERS 9 :status=204 END")
		c.check(c.fr.WriteRSTStream(3, h2.ErrCodeCancel))
		c.want("")
		c.check(c.fr.WriteWindowUpdate(0, 10))
		c.want("DATA 5 \"aaaaaaaaaa\"")
		c.check(c.fr.WriteWindowUpdate(0, 20))
		c.want("DATA 7 \"aaaaaaaaaaaaaaaaaaaa\"")
		c.check(c.fr.WriteWindowUpdate(0, 1000))
		c.want("DATA 5 \"" + strings.Repeat("a", 90) + "\" END\nDATA 7 \"" + strings.Repeat("a", 80) + "\" END")
	})
}

// TestSlowReader gives up on a client that opens no window, and on one that
// does not read.
func TestSlowReader(t *testing.T) {
	got := make(chan error, 1)
	handle := func(s *Stream) {
		s.Begin(200)
		_, err := s.Write(make([]byte, 100<<10))
		got <- err
	}
	connect(t, config(), handle, func(c *client) {
		c.greet(h2.Setting{ID: h2.SettingInitialWindowSize, Val: 0})
		c.get(1)
		c.pass(59 * time.Second) // it lives, but does not move
		c.want("HEADERS 1 :status=200")
		c.pass(2 * time.Second)
		c.want("RST_STREAM 1 INTERNAL_ERROR")
	})
	if err := <-got; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	synctest.Test(t, func(t *testing.T) {
		c, near := deaf(config(), handle)
		_, err := io.WriteString(near, preface+"\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x04\x01\x00\x00\x00\x00\x00\x00\x06\x01\x05\x00\x00\x00\x01\x82\x87\x84\x41\x01h")
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if err := c.Serve(); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start).Round(time.Millisecond) != time.Minute {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		_ = c.Close()
	})
	if err := <-got; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
}

// TestPatience keeps a client that reads a little in time.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		c := NewConn(far, config(), func(s *Stream) {
			s.Begin(200)
			_ = s.Whole(make([]byte, 20<<10))
		})
		over := make(chan error, 1)
		go func() { over <- c.Serve() }()
		send := func(b string) {
			if _, err := io.WriteString(near, b); err != nil {
				t.Fatal(err)
			}
		}
		send(preface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x04\x01\x00\x00\x00\x00\x00\x00\x06\x01\x05\x00\x00\x00\x01\x82\x87\x84\x41\x01h")
		for range 20 {
			if _, err := io.ReadFull(near, make([]byte, 10)); err != nil {
				t.Fatal(err)
			}
			<-time.After(25 * time.Second)
			send("\x00\x00\x08\x06\x01\x00\x00\x00\x0012345678")
		}
		select {
		case err := <-over:
			t.Error(err)
		default:
		}
		_ = near.Close()
		// Closed between two frames, or in a write.
		if err := <-over; err != nil && !errors.Is(err, io.ErrClosedPipe) {
			t.Error(err)
		}
	})
}

// TestTurns has streams that wait for the connection's window take turns, of
// a frame each, and nobody go before who waits.
func TestTurns(t *testing.T) {
	connect(t, config(), func(s *Stream) {
		s.Begin(200)
		_ = s.Whole(make([]byte, firstWindow))
	}, func(c *client) {
		c.greet(h2.Setting{ID: h2.SettingInitialWindowSize, Val: 1 << 20})
		c.get(1)
		c.said() // the window is spent
		c.get(3)
		c.said()
		c.get(5)
		c.said()
		c.get(7)
		c.said()
		c.check(c.fr.WriteWindowUpdate(0, 5*maxFrame))
		c.want("DATA 3 (16384 bytes)\nDATA 5 (16384 bytes)\nDATA 7 (16384 bytes)\nDATA 3 (16384 bytes)\nDATA 5 (16384 bytes)\n")
		c.check(c.fr.WriteRSTStream(7, h2.ErrCodeCancel))
		c.check(c.fr.WriteWindowUpdate(0, 2*maxFrame))
		c.want("DATA 3 (16384 bytes)\nDATA 5 (16384 bytes)\n")
	})
}
