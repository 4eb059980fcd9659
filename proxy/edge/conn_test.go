package edge

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// TestSniff: the first bytes tell, as soon as they can, and are read again.
func TestSniff(t *testing.T) {
	f := func(on bool, want string, pieces ...string) {
		t.Helper()
		l := Listen(newPipes(), Config{HTTP2: on})
		defer l.Close()
		done := make(chan struct{})
		go func() {
			defer close(done)
			c := l.inner.(*pipes).dial()
			defer c.Close()
			for _, p := range pieces {
				_, _ = io.WriteString(c, p)
			}
		}()
		c := accept(t, l)
		if err := c.Handshake(); err != nil {
			t.Fatal(err)
		}
		read, err := io.ReadAll(c)
		if s := c.ConnectionState(); err != nil || string(read) != strings.Join(pieces, "") || c.Protocol() != want ||
			s.NegotiatedProtocol != want || s.HandshakeComplete || c.TLS() != nil || c.ServerName() != "" || c.head != nil {
			t.Errorf("%q: %s, %q, %v", pieces, c.Protocol(), read, err)
		}
		if !c.Peer().IsUnspecified() || !c.Direct().IsUnspecified() || !c.Local().IsUnspecified() || c.Gone() {
			t.Errorf("in memory: peer %s, direct %s, local %s, gone %t", c.Peer(), c.Direct(), c.Local(), c.Gone())
		}
		<-done
	}
	f(true, HTTP1, "GET / HTTP/1.1\r\n\r\n")
	f(true, HTTP1, "G", "ET / HTTP/1.1\r\n\r\n")
	f(true, HTTP1, "P", "OST / HTTP/1.1\r\n\r\n", "body")
	f(true, HTTP1, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r", "x")
	f(true, HTTP1, "PRI / HTTP/1.1\r\n\r\n")
	f(true, HTTP1, "\x16\x03\x01")
	f(true, HTTP1, strings.Repeat("x", 10000))
	f(true, HTTP2, preface)
	f(true, HTTP2, "PRI * HTT", "P/2.0\r\n\r\nSM\r\n\r\n", "frames")
	f(true, HTTP2, preface+strings.Repeat("x", 5000))
	f(false, HTTP1, preface)
	f(false, HTTP1, "GET")
}

// TestReadInPieces: a reader with a small buffer gets all of it, in order.
func TestReadInPieces(t *testing.T) {
	l, dial := listenTCP(t, Config{HTTP2: true})
	client := dial()
	sent := strings.Repeat("0123456789", 2000)
	go func() {
		_, _ = io.WriteString(client, sent)
		_ = client.CloseWrite()
	}()
	c := accept(t, l)
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if _, err := io.CopyBuffer(struct{ io.Writer }{&got}, struct{ io.Reader }{c}, make([]byte, 7)); err != nil || got.String() != sent {
		t.Errorf("%d of %d bytes, %v", got.Len(), len(sent), err)
	}
}

// TestNoDeadline: nothing is left of the handshake's deadline.
func TestNoDeadline(t *testing.T) {
	l, dial := listenTCP(t, Config{HTTP2: true, HeaderTimeout: 50 * time.Millisecond})
	client := dial()
	write(t, client, "GET")
	c := accept(t, l)
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	<-time.After(80 * time.Millisecond) // longer than the deadline that must be gone
	readN(t, c, 3)
	write(t, client, "x")
	readN(t, c, 1)
	_ = c.SetReadDeadline(time.Now().Add(-time.Second))
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("a deadline has no effect")
	}
}

// TestBare: x/net's server takes a plain connection through Bare, and would
// refuse it otherwise.
func TestBare(t *testing.T) {
	f := func(wrap func(*Conn) net.Conn, want bool) {
		t.Helper()
		l, dial := listenTCP(t, Config{HTTP2: true})
		client := dial()
		write(t, client, preface)
		framer := http2.NewFramer(client, client)
		if err := framer.WriteSettings(); err != nil {
			t.Fatal(err)
		}
		c := accept(t, l)
		if err := c.Handshake(); err != nil || c.Protocol() != HTTP2 {
			t.Fatal(c.Protocol(), err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			(&http2.Server{}).ServeConn(wrap(c), nil) //nolint:staticcheck // the codec gets single connections
		}()
		served := false
		for {
			frame, err := framer.ReadFrame()
			if err != nil {
				break
			}
			if s, ok := frame.(*http2.SettingsFrame); ok && s.IsAck() {
				served = true
				_ = client.Close()
			}
		}
		_ = client.Close()
		<-done
		if served != want {
			t.Errorf("served: %t", served)
		}
		if err := c.Close(); err == nil && l.Open() != 0 {
			t.Errorf("%d open", l.Open())
		}
	}
	f(func(c *Conn) net.Conn { return c.Bare() }, true)
	f(func(c *Conn) net.Conn { return c }, false)
}

// TestLinger: a client that is still sending reads the answer, not a reset.
func TestLinger(t *testing.T) {
	const body = 256 << 10
	f := func(name string, l *Listener, client net.Conn) {
		t.Helper()
		sent, served := make(chan error, 1), make(chan struct{})
		go func() {
			_, err := client.Write(make([]byte, body))
			sent <- err
		}()
		go func() {
			defer close(served)
			c := accept(t, l)
			if err := c.Handshake(); err != nil {
				t.Error(err)
			}
			_, _ = c.Read(make([]byte, 10))
			_, _ = c.Write([]byte("413"))
			c.Linger(patient/2, 1<<20)
		}()
		if err := <-sent; err != nil {
			t.Errorf("%s: the client cannot send: %v", name, err)
		}
		if answer, err := io.ReadAll(client); string(answer) != "413" || err != nil {
			t.Errorf("%s: the client reads %q, %v", name, answer, err)
		}
		began := time.Now()
		_ = client.Close()
		if <-served; time.Since(began) > patient/4 || l.Open() != 0 {
			t.Errorf("%s: %v after the client has left; %d open", name, time.Since(began), l.Open())
		}
	}
	l, dial := listenTCP(t, Config{})
	f("plain", l, dial())

	a, folder := newAuthority(t), t.TempDir()
	a.put(t, folder, "a", leaf{names: []string{"a.test"}})
	l, dial = listenTCP(t, Config{TLS: newTLS(t, TLSConfig{Folder: folder})})
	f("tls", l, dialTLS(t, dial, a, "a.test"))
}

// TestLingerEnds: at the time, at the bytes, and where there are no halves.
func TestLingerEnds(t *testing.T) {
	l, dial := listenTCP(t, Config{})
	dial()
	c := accept(t, l)
	began := time.Now()
	c.Linger(30*time.Millisecond, 1<<20)
	if took := time.Since(began); took < 30*time.Millisecond || took > patient/2 {
		t.Errorf("a silent client is waited for %v", took)
	}

	client := dial()
	c = accept(t, l)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for { // until the reset
			if _, err := client.Write(make([]byte, 1<<10)); err != nil {
				return
			}
		}
	}()
	c.Linger(time.Hour, 64<<10)
	<-done

	in := Listen(newPipes(), Config{})
	defer in.Close()
	go func() { _, _ = io.ReadAll(in.inner.(*pipes).dial()) }()
	c = accept(t, in)
	if err := c.CloseWrite(); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("halves in memory: %v", err)
	}
	c.Linger(time.Hour, 64<<10)
	if err := c.Close(); !errors.Is(err, net.ErrClosed) || in.Open()+l.Open() != 0 {
		t.Errorf("closed again: %v; %d open", err, in.Open()+l.Open())
	}
}

// TestHeads: connections read ahead into buffers that others have used, and
// never see what those held.
func TestHeads(t *testing.T) {
	l, dial := listenTCP(t, Config{HTTP2: true})
	for i := range 100 {
		sent := strings.Repeat(string(rune('a'+i%26)), 100-i)
		client := dial()
		write(t, client, sent)
		_ = client.CloseWrite()
		c := accept(t, l)
		if err := c.Handshake(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(c); string(got) != sent || err != nil {
			t.Fatalf("%q, want %q, %v", got, sent, err)
		}
		_ = c.Close()
	}
}
