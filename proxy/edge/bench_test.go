package edge

import (
	"crypto/tls"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"
)

const request = "GET /path HTTP/1.1\r\nHost: a.test\r\nUser-Agent: benchmark\r\nAccept: */*\r\n\r\n"

// connect returns both ends of one connection, the server's through l.
func connect(b testing.TB, l *Listener) (client net.Conn, c *Conn) {
	b.Helper()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	nc, err := l.Accept()
	if err != nil {
		b.Fatal(err)
	}
	return client, nc.(*Conn)
}

// BenchmarkShort is the whole life of a connection with one request: connect,
// handshake, read, answer, close. "bare" is without the package.
func BenchmarkShort(b *testing.B) {
	run := func(name string, cfg *Config) {
		b.Run(name, func(b *testing.B) {
			inner, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			defer inner.Close()
			ln := inner
			if cfg != nil {
				ln = Listen(inner, *cfg)
			}
			buf, answer := make([]byte, 4096), make([]byte, 16)
			b.ReportAllocs()
			for b.Loop() {
				client, err := net.Dial("tcp", inner.Addr().String())
				if err != nil {
					b.Fatal(err)
				}
				_, _ = io.WriteString(client, request)
				c, err := ln.Accept()
				if err != nil {
					b.Fatal(err)
				}
				if c, ok := c.(*Conn); ok {
					if err := c.Handshake(); err != nil {
						b.Fatal(err)
					}
				}
				for n := 0; n < len(request); {
					m, err := c.Read(buf)
					if err != nil {
						b.Fatal(err)
					}
					n += m
				}
				_, _ = c.Write(answer)
				_ = c.Close()
				_, _ = io.ReadFull(client, answer)
				_ = client.Close()
			}
		})
	}
	run("bare", nil)
	run("plain", &Config{})
	run("bounded", &Config{Connections: 100, PerAddress: 100})
	run("sniffed", &Config{Connections: 100, PerAddress: 100, HTTP2: true})
}

// BenchmarkHandshake is Handshake alone on a plain connection whose request is
// there, with giving out what was read ahead.
func BenchmarkHandshake(b *testing.B) {
	l := Listen(newPipes(), Config{HTTP2: true})
	defer l.Close()
	s := &source{}
	buf := make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		c := newConn(l, s)
		if err := c.Handshake(); err != nil {
			b.Fatal(err)
		}
		if n, _ := c.Read(buf); n != len(request) {
			b.Fatal(n)
		}
	}
}

// source always has the same request.
type source struct{ net.Conn }

func (*source) Read(p []byte) (int, error)      { return copy(p, request), nil }
func (*source) SetReadDeadline(time.Time) error { return nil }
func (*source) RemoteAddr() net.Addr            { return nil }
func (*source) LocalAddr() net.Addr             { return nil }

// BenchmarkRead is what a Conn adds to reading from a socket: nothing but the
// call.
func BenchmarkRead(b *testing.B) {
	l := Listen(newPipes(), Config{HTTP2: true})
	defer l.Close()
	c := newConn(l, &source{})
	buf := make([]byte, 4096)
	b.Run("bare", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = c.NetConn().Read(buf)
		}
	})
	b.Run("conn", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = c.Read(buf)
		}
	})
}

// TestNoAllocations: reading, writing and asking do not allocate.
func TestNoAllocations(t *testing.T) {
	l, _ := listenTCP(t, Config{HTTP2: true})
	client, c := connect(t, l)
	defer client.Close()
	defer c.Close()
	write(t, client, "GET ")
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64)
	readN(t, c, 4)
	c.Gone()
	n := testing.AllocsPerRun(100, func() {
		_, _ = client.Write(buf)
		_, _ = c.Read(buf)
		_, _ = c.Write(buf)
		_, _ = client.Read(buf)
		_ = c.SetReadDeadline(time.Time{})
		if c.Gone() || !c.Peer().IsValid() || !c.Local().IsValid() || !c.Direct().IsValid() || c.Protocol() != HTTP1 {
			t.Error("broken")
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkTLS is a full TLS 1.3 handshake with an ECDSA certificate, both
// ends, and one byte each way; "bare" is crypto/tls with one certificate.
func BenchmarkTLS(b *testing.B) {
	a, folder := newAuthority(b), b.TempDir()
	a.put(b, folder, "a", leaf{names: []string{"a.test"}})
	certificate, err := tls.LoadX509KeyPair(filepath.Join(folder, "a.crt"), filepath.Join(folder, "a.key"))
	if err != nil {
		b.Fatal(err)
	}
	x := newTLS(b, TLSConfig{Folder: folder, Host: tenants(map[string]Tenant{"a.test": {ID: "a"}})})
	run := func(name string, listen func(net.Listener) net.Listener) {
		b.Run(name, func(b *testing.B) {
			inner, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			ln := listen(inner)
			done := make(chan struct{})
			go func() {
				defer close(done)
				one := make([]byte, 1)
				for {
					c, err := ln.Accept()
					if err != nil {
						return
					}
					if c.(interface{ Handshake() error }).Handshake() == nil {
						_, _ = c.Read(one)
						_, _ = c.Write(one)
					}
					_ = c.Close()
				}
			}()
			cfg := &tls.Config{RootCAs: a.pool, ServerName: "a.test"}
			one := make([]byte, 1)
			b.ReportAllocs()
			for b.Loop() {
				c, err := tls.Dial("tcp", inner.Addr().String(), cfg)
				if err != nil {
					b.Fatal(err)
				}
				_, _ = c.Write(one)
				if _, err := c.Read(one); err != nil {
					b.Fatal(err)
				}
				_ = c.Close()
			}
			_ = ln.Close()
			<-done
		})
	}
	run("bare", func(l net.Listener) net.Listener {
		return tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{certificate}})
	})
	run("edge", func(l net.Listener) net.Listener {
		return Listen(l, Config{TLS: x, Handshakes: 4, Connections: 100, PerAddress: 100, HTTP2: true})
	})
}
