package http2

import (
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	h2 "golang.org/x/net/http2"
)

// The life of a connection: how it begins, and what ends it when.
func TestLife(t *testing.T) {
	f := func(name string, handle func(s *Stream), script func(c *client), want, served string, after time.Duration) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Helper()
			connect(t, config(), handle, func(c *client) {
				t.Helper()
				start := time.Now()
				c.said()
				script(c)
				err := <-c.over
				got := "nil"
				if err != nil {
					got = err.Error()
				}
				if took := time.Since(start).Round(time.Millisecond); got != served || took != after {
					t.Errorf("Serve: %s after %v, want %s after %v", got, took, served, after)
				}
				c.want(want)
			})
		})
	}
	send := func(text string) func(c *client) {
		return func(c *client) { _, _ = io.WriteString(c.nc, text) }
	}
	f("nothing comes", ok, func(*client) {}, "GOAWAY 0 SETTINGS_TIMEOUT no SETTINGS in time\nclosed",
		"SETTINGS_TIMEOUT: no SETTINGS in time", 10*time.Second)
	f("only a preface", ok, send(preface), "GOAWAY 0 SETTINGS_TIMEOUT no SETTINGS in time\nclosed",
		"SETTINGS_TIMEOUT: no SETTINGS in time", 10*time.Second)
	f("another protocol", ok, send("GET / HTTP/1.1\r\n\r\n"), "GOAWAY 0 PROTOCOL_ERROR no preface of HTTP/2\nclosed",
		"PROTOCOL_ERROR: no preface of HTTP/2", 0)
	f("it ends wrongly", ok, send("PRI * HTTP/2.0\r\n\r\nSM\r\n\n"), "GOAWAY 0 PROTOCOL_ERROR no preface of HTTP/2\nclosed",
		"PROTOCOL_ERROR: no preface of HTTP/2", 0)
	f("another frame first", ok, send(preface+"\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678"),
		"GOAWAY 0 PROTOCOL_ERROR the first frame is not SETTINGS\nclosed", "PROTOCOL_ERROR: the first frame is not SETTINGS", 0)
	f("an acknowledgement first", ok, send(preface+"\x00\x00\x00\x04\x01\x00\x00\x00\x00"),
		"GOAWAY 0 PROTOCOL_ERROR the first frame is not SETTINGS\nclosed", "PROTOCOL_ERROR: the first frame is not SETTINGS", 0)
	f("no acknowledgement", ok, send(preface+"\x00\x00\x00\x04\x00\x00\x00\x00\x00"),
		"SETTINGS ack\nGOAWAY 0 SETTINGS_TIMEOUT our SETTINGS were not acknowledged in time\nclosed",
		"SETTINGS_TIMEOUT: our SETTINGS were not acknowledged in time", 10*time.Second)
	f("it leaves", ok, func(c *client) { c.greet(); _ = c.nc.Close() }, "closed", "nil", 0)
	f("it leaves in a frame", ok, func(c *client) {
		c.greet()
		send("\x00\x00\x08\x06\x00")(c)
		_ = c.nc.Close()
	}, "closed", "unexpected EOF", 0)
	f("idle", ok, func(c *client) { c.greet() }, "GOAWAY 0 NO_ERROR \nclosed", "nil", time.Minute)
	f("idle after a request, with pings", ok, func(c *client) {
		c.greet()
		c.pass(30 * time.Second)
		c.get(1)
		c.pass(45 * time.Second)
	}, "HEADERS 1 :status=204 END\nGOAWAY 1 NO_ERROR \nclosed", "nil", 90*time.Second)
	f("half a header block", ok, func(c *client) {
		c.greet()
		c.raw(kindHeaders, flagEndStream, 1, "\x82")
	}, "GOAWAY 1 CANCEL a frame did not arrive in time\nclosed", "CANCEL: a frame did not arrive in time", 10*time.Second)
	f("half a frame, byte by byte", ok, func(c *client) {
		c.greet()
		for _, b := range "\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678" {
			send(string(b))(c)
			<-time.After(time.Second)
		}
	}, "GOAWAY 0 CANCEL a frame did not arrive in time\nclosed", "CANCEL: a frame did not arrive in time", 17*time.Second)
	f("a slow frame of DATA, which goes on", wait, func(c *client) {
		c.greet()
		c.post(1)
		for _, b := range "\x00\x00\x08\x00\x01\x00\x00\x00\x0112345678" {
			send(string(b))(c)
			<-time.After(time.Second)
		}
		c.want("HEADERS 1 :status=204 END")
		_ = c.nc.Close()
	}, "closed", "nil", 17*time.Second)
	f("silence with a request", func(s *Stream) {
		for !s.Gone() {
			<-time.After(time.Second)
		}
	}, func(c *client) {
		c.greet()
		c.get(1)
	}, "PING alive...\nclosed", "the client has gone silent", 61*time.Second) // Serve has waited for the handler
	f("a request that takes long", func(s *Stream) {
		<-time.After(5 * time.Minute)
		ok(s)
	}, func(c *client) {
		c.greet()
		c.get(1)
		c.pass(5 * time.Minute)
		c.want("HEADERS 1 :status=204 END")
		_ = c.nc.Close()
	}, "closed", "nil", 5*time.Minute)
}

// TestBuffer lets go of memory and goroutines while nothing happens, and is
// woken by the first byte.
func TestBuffer(t *testing.T) {
	greeted(t, config(), wait, func(c *client) {
		before := runtime.NumGoroutine()
		c.post(1)
		c.post(3)
		c.data(3, true, "")
		c.want("HEADERS 3 :status=204 END")
		c.data(1, true, "")
		c.want("HEADERS 1 :status=204 END")
		<-time.After(2 * time.Second)
		synctest.Wait()
		if n := runtime.NumGoroutine(); n > before {
			t.Errorf("%d goroutines, there were %d", n, before)
		}
		if c.conn.in != nil {
			t.Error("the buffer is kept")
		}
		if c.conn.out != nil {
			t.Error("the output is kept")
		}
		c.get(5)
		c.want("HEADERS 5 :status=204 END")
	})
}

// The parting with a client.
func TestGoAway(t *testing.T) {
	f := func(name string, script func(c *client), want string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Helper()
			greeted(t, config(), wait, func(c *client) {
				t.Helper()
				script(c)
				start := time.Now()
				if err := <-c.over; err != nil || time.Since(start) > 0 {
					t.Errorf("%v after %v", err, time.Since(start))
				}
				c.want(want)
			})
		})
	}
	const announced = "GOAWAY 2147483647 NO_ERROR \nPING drain...\n"
	pong := func(c *client) { c.check(c.fr.WritePing(true, [8]byte([]byte(pingDrain)))) }
	f("idle", func(c *client) {
		c.conn.GoAway()
		c.want(announced)
		pong(c)
	}, "GOAWAY 0 NO_ERROR \nclosed")
	f("without an answer", func(c *client) {
		c.conn.GoAway()
		c.conn.GoAway()
		c.want(announced)
		<-time.After(time.Second + 1)
	}, "GOAWAY 0 NO_ERROR \nclosed")
	f("with a stream, and one that crosses", func(c *client) {
		c.post(1)
		c.conn.GoAway()
		c.want(announced)
		c.post(3)
		pong(c)
		c.want("GOAWAY 3 NO_ERROR \n")
		c.post(5)
		c.data(5, true, "ignored")
		c.data(3, true, "")
		c.want("HEADERS 3 :status=204 END")
		c.data(1, true, "")
	}, "HEADERS 1 :status=204 END\nclosed")
	f("before the preface", func(c *client) {
		c.conn.GoAway()
		c.want(announced)
		pong(c)
	}, "GOAWAY 0 NO_ERROR \nclosed")
}

// TestFaultAfterGoAway does not take back what the last stream was.
func TestFaultAfterGoAway(t *testing.T) {
	greeted(t, config(), wait, func(c *client) {
		c.post(1)
		c.conn.GoAway()
		c.check(c.fr.WritePing(true, [8]byte([]byte(pingDrain))))
		c.post(3)
		c.said()
		c.raw(kindPing, 0, 1, "12345678")
		c.want("GOAWAY 1 PROTOCOL_ERROR PING on a stream\nclosed")
	})
}

// What a client must not do too often.
func TestFloods(t *testing.T) {
	f := func(name string, handle func(s *Stream), step func(c *client, i uint32), limit int, reason string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Helper()
			greeted(t, config(), handle, func(c *client) {
				t.Helper()
				for i := range limit {
					step(c, uint32(i))
				}
				if got := c.said(); strings.Contains(got, "GOAWAY") {
					t.Errorf("the connection has ended too early: %s", got[max(0, len(got)-200):])
				}
				for i := range 10 {
					step(c, uint32(limit+i))
				}
				if got := c.said(); !strings.Contains(got, "ENHANCE_YOUR_CALM "+reason+"\nclosed\n") {
					t.Errorf("got %s", got[max(0, len(got)-200):])
				}
				if err := <-c.over; err == nil || err.Error() != "ENHANCE_YOUR_CALM: "+reason {
					t.Errorf("Serve: %v", err)
				}
			})
		})
	}
	const voids, churn = "too many frames that carry nothing", "too many streams that come to nothing"
	f("PING", ok, func(c *client, _ uint32) { c.raw(kindPing, 0, 0, "12345678") }, maxVoids-2, voids)
	f("SETTINGS", ok, func(c *client, _ uint32) { c.raw(kindSettings, 0, 0, "") }, maxVoids-2, voids)
	f("acknowledgements", ok, func(c *client, _ uint32) { c.raw(kindPing, flagAck, 0, "12345678") }, maxVoids-2, voids)
	f("PRIORITY", ok, func(c *client, i uint32) { c.raw(kindPriority, 0, 2*i+1, "\x00\x00\x00\x00\x10") }, maxVoids-2, voids)
	f("WINDOW_UPDATE", ok, func(c *client, _ uint32) { c.raw(kindWindowUpdate, 0, 0, "\x00\x00\x00\x01") }, maxVoids-2, voids)
	f("the unknown", ok, func(c *client, _ uint32) { c.raw(0x33, 0, 0, "") }, maxVoids-2, voids)
	f("GOAWAY", ok, func(c *client, _ uint32) { c.raw(kindGoAway, 0, 0, "12345678") }, maxVoids-2, voids)
	f("empty DATA", wait, func(c *client, i uint32) {
		if i == 0 {
			c.post(1)
		}
		c.check(c.fr.WriteDataPadded(1, false, nil, make([]byte, 9)))
	}, maxVoids-2, voids)
	f("DATA after the end", ok, func(c *client, i uint32) {
		if i == 0 {
			c.post(1)
			c.said()
		}
		c.raw(kindData, 0, 1, "")
	}, maxVoids/2-2, voids)
	hold := func(s *Stream) { <-time.After(time.Second) }
	f("rapid reset", hold, func(c *client, i uint32) {
		c.get(2*i + 1)
		c.raw(kindReset, 0, 2*i+1, "\x00\x00\x00\x08")
	}, 100, churn)
	f("refusals", hold, func(c *client, i uint32) { c.get(2*i + 1) }, 110, churn) // 10 are not
	f("malformed requests", ok, func(c *client, i uint32) { c.headers(2*i+1, true, "a: b") }, 100, churn)
}

// TestFloodWindow counts within a time only, and against what brings something.
func TestFloodWindow(t *testing.T) {
	greeted(t, config(), ok, func(c *client) {
		for i := range uint32(5) {
			for range maxVoids - 10 {
				c.raw(kindPriority, 0, 1001, "\x00\x00\x00\x00\x10")
			}
			<-time.After(allowed + 1)
			c.get(2*i + 1)
		}
		if got := c.said(); strings.Contains(got, "GOAWAY") {
			t.Error(got)
		}
		for i := range uint32(500) {
			id := 2*i + 11
			c.headers(id, true, request...)
			for range 2 {
				c.raw(kindPriority, 0, 5001, "\x00\x00\x00\x00\x10")
			}
			if i%50 == 0 {
				c.check(c.fr.WriteRSTStream(id, h2.ErrCodeCancel))
			}
			c.said()
		}
		c.get(4001)
		c.want("HEADERS 4001 :status=204 END")
	})
}

// TestResetHolds has requests that the client has reset count until their
// handlers return.
func TestResetHolds(t *testing.T) {
	var release chan struct{}
	greeted(t, config(), func(s *Stream) { <-release }, func(c *client) {
		release = make(chan struct{})
		for i := range uint32(10) {
			c.get(2*i + 1)
			c.raw(kindReset, 0, 2*i+1, "\x00\x00\x00\x08")
		}
		c.get(21)
		c.want("RST_STREAM 21 REFUSED_STREAM")
		close(release)
		c.want("")
		c.get(23)
		c.want("RST_STREAM 23 INTERNAL_ERROR")
	})
}

// TestDeafFlood bounds what is kept for a client that asks and does not read.
func TestDeafFlood(t *testing.T) {
	for _, request := range []string{
		"\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678", // PING
		"\x00\x00\x00\x04\x00\x00\x00\x00\x00",         // SETTINGS
	} {
		synctest.Test(t, func(t *testing.T) {
			c, near := deaf(config(), ok)
			_, _ = io.WriteString(near, preface+"\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x04\x01\x00\x00\x00\x00")
			_, _ = io.WriteString(near, strings.Repeat(request, 100_000))
			err := c.Serve()
			if e, ok := errors.AsType[*Error](err); !ok || e.Code != EnhanceYourCalm {
				t.Error(err)
			}
			if n := c.pending(); n > 2*maxControl {
				t.Errorf("%d bytes are kept", n)
			}
			_ = c.Close()
		})
	}
	// Answers, too: no more than can be sent are begun.
	synctest.Test(t, func(t *testing.T) {
		cfg := config()
		cfg.Streams = 100
		c, near := deaf(cfg, func(s *Stream) {
			s.Begin(200)
			s.Field([]byte("x"), make([]byte, 8<<10))
			_ = s.End()
		})
		over := make(chan struct{})
		_, _ = io.WriteString(near, preface+"\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x04\x01\x00\x00\x00\x00")
		for i := range byte(100) {
			_, _ = io.WriteString(near, "\x00\x00\x06\x01\x05\x00\x00\x00"+string([]byte{2*i + 1})+"\x82\x87\x84\x41\x01h")
		}
		go func() {
			defer close(over)
			_ = c.Serve()
		}()
		synctest.Wait()
		c.mu.Lock()
		if n := c.pending(); n > 2*maxOut {
			t.Errorf("%d bytes are kept", n)
		}
		c.mu.Unlock()
		<-over
		_ = c.Close()
	})
	// A client may take its time.
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		c := NewConn(far, config(), ok)
		over := make(chan error, 1)
		go func() {
			err := c.Serve()
			_ = c.Close()
			over <- err
		}()
		_, err := io.WriteString(near, preface+"\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x04\x01\x00\x00\x00\x00")
		for range 4 {
			for range maxVoids - 10 {
				if err == nil {
					_, err = io.WriteString(near, "\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678")
				}
			}
			<-time.After(allowed + 1)
		}
		_ = c.Close()
		if err := <-over; err == nil || err.Error() != "ENHANCE_YOUR_CALM: the client does not read what it asks for" {
			t.Error(err)
		}
	})
}
