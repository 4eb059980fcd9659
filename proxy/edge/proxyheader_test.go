package edge

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// header makes a PROXY header of a command, a family and what follows.
func header(command, family byte, rest string) string {
	b := append([]byte(proxySignature), command, family)
	return string(binary.BigEndian.AppendUint16(b, uint16(len(rest)))) + rest
}

func value(kind byte, content string) string {
	return string(binary.BigEndian.AppendUint16([]byte{kind}, uint16(len(content)))) + content
}

// addresses of 192.0.2.7:40000 to 198.51.100.1:443, and of 2001:db8::7 to ::1.
const (
	v4 = "\xc0\x00\x02\x07\xc6\x33\x64\x01\x9c\x40\x01\xbb"
	v6 = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07" +
		"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x9c\x40\x01\xbb"
	mapped = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc0\x00\x02\x07" +
		"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc6\x33\x64\x01\x9c\x40\x01\xbb"
)

// summed is a header with its right checksum, plus off.
func summed(off uint32) string {
	b := []byte(header(0x21, 0x11, v4+value(tlvCRC32C, "\x00\x00\x00\x00")+value(0x04, "padding")))
	at := proxyFixed + len(v4) + 3
	binary.BigEndian.PutUint32(b[at:], checksum(b, at)+off)
	return string(b)
}

func TestParseProxy(t *testing.T) {
	ssl := "\x01\x00\x00\x00\x00" + value(0x21, "TLSv1.3")
	for _, tt := range []struct{ name, in, want string }{
		{"v4", header(0x21, 0x11, v4), "192.0.2.7:40000 to 198.51.100.1:443"},
		{"v6", header(0x21, 0x21, v6), "[2001:db8::7]:40000 to [::1]:443"},
		{"v4 in v6", header(0x21, 0x21, mapped), "192.0.2.7:40000 to 198.51.100.1:443"},
		{"local", header(0x20, 0x00, ""), "local"},
		{"local with addresses", header(0x20, 0x11, v4), "local"},
		{"local with anything", header(0x20, 0x31, "anything"), "local"},
		{"unspec", header(0x21, 0x00, ""), "local"},
		{"unspec with values", header(0x21, 0x00, value(tlvALPN, "h2")), "local"},
		{"alpn", header(0x21, 0x11, v4+value(tlvALPN, "h2")), "192.0.2.7:40000 to 198.51.100.1:443"},
		{"authority", header(0x21, 0x11, v4+value(tlvAuthority, "a.test")), "192.0.2.7:40000 to 198.51.100.1:443"},
		{"ssl", header(0x21, 0x11, v4+value(tlvSSL, ssl)), "192.0.2.7:40000 to 198.51.100.1:443"},
		{"unknown value", header(0x21, 0x11, v4+value(0xea, "")), "192.0.2.7:40000 to 198.51.100.1:443"},
		{"checksum", summed(0), "192.0.2.7:40000 to 198.51.100.1:443"},
		{"longest", header(0x21, 0x11, v4+value(0x04, strings.Repeat("x", proxyRest-len(v4)-3))), "192.0.2.7:40000 to 198.51.100.1:443"},

		{"nothing", "", "more"},
		{"part of the signature", proxySignature[:7], "more"},
		{"signature", proxySignature, "more"},
		{"truncated", header(0x21, 0x11, v4)[:20], "more"},
		{"version 1", "PROXY TCP4 192.0.2.7 198.51.100.1 40000 443\r\n", "invalid PROXY header: no signature of version 2"},
		{"one wrong byte", "\r\n\r\n\x00\r\nQUIT\r", "invalid PROXY header: no signature of version 2"},
		{"http", "GET / HTTP/1.1\r\n", "invalid PROXY header: no signature of version 2"},
		{"version 3", header(0x31, 0x11, v4), "invalid PROXY header: version and command 0x31"},
		{"unknown command", header(0x22, 0x11, v4), "invalid PROXY header: version and command 0x22"},
		{"udp", header(0x21, 0x12, v4), "invalid PROXY header: family and transport 0x12"},
		{"unix", header(0x21, 0x31, strings.Repeat("x", 216)), "invalid PROXY header: family and transport 0x31"},
		{"short v4", header(0x21, 0x11, v4[:11]), "invalid PROXY header: 11 bytes for the addresses of family 0x11"},
		{"v4 as v6", header(0x21, 0x21, v4), "invalid PROXY header: 12 bytes for the addresses of family 0x21"},
		{"too long", header(0x21, 0x11, strings.Repeat("x", proxyRest+1)), "invalid PROXY header: 537 bytes; 536 is the limit"},
		{"too long, local", header(0x20, 0x00, "")[:14] + "\xff\xff", "invalid PROXY header: 65535 bytes; 536 is the limit"},
		{"truncated value", header(0x21, 0x11, v4+"\x04\x00"), "invalid PROXY header: truncated value"},
		{"value too long", header(0x21, 0x11, v4+"\x04\x00\x05abcd"), "invalid PROXY header: value of type 0x4 is longer than its header"},
		{"no alpn", header(0x21, 0x11, v4+value(tlvALPN, "")), "invalid PROXY header: value of type 0x1 with 0 bytes"},
		{"long authority", header(0x21, 0x11, v4+value(tlvAuthority, strings.Repeat("a", 256))), "invalid PROXY header: value of type 0x2 with 256 bytes"},
		{"short ssl", header(0x21, 0x11, v4+value(tlvSSL, "\x01\x00")), "invalid PROXY header: value of type 0x20 with 2 bytes"},
		{"truncated in ssl", header(0x21, 0x11, v4+value(tlvSSL, ssl[:len(ssl)-1])), "invalid PROXY header: value of type 0x21 is longer than its header"},
		{"wrong checksum", summed(1), "invalid PROXY header: value of type 0x3 with 4 bytes"},
	} {
		p, n, err := parseProxy([]byte(tt.in + "GET"))
		if tt.want == "more" {
			p, n, err = parseProxy([]byte(tt.in))
		}
		got := fmt.Sprintf("%v to %v", p.from, p.to)
		switch {
		case errors.Is(err, errProxyShort):
			got = "more"
		case err != nil:
			got = err.Error()
		case p.local:
			got = "local"
		}
		if got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, got, tt.want)
		}
		if want := len(tt.in); err == nil && n != want {
			t.Errorf("%s: took %d bytes, want %d", tt.name, n, want)
		}
	}
}

// FuzzParseProxy: no input panics, nothing beyond the header counts, and what
// a prefix says is never taken back by what follows.
func FuzzParseProxy(f *testing.F) {
	f.Add([]byte(header(0x21, 0x11, v4+value(tlvALPN, "h2"))), []byte("GET /"))
	f.Add([]byte(header(0x21, 0x21, v6+value(tlvSSL, "\x01\x00\x00\x00\x00"+value(0x21, "x")))), []byte{})
	f.Add([]byte(header(0x20, 0x00, "")), []byte(proxySignature))
	f.Add([]byte(summed(0)), []byte{1})
	f.Fuzz(func(t *testing.T, b, after []byte) {
		p, n, err := parseProxy(b)
		if errors.Is(err, errProxyShort) {
			if len(b) >= proxyFixed+proxyRest {
				t.Fatalf("wants more than %d bytes", len(b))
			}
			return
		}
		if n > len(b) || err != nil && n != 0 || err == nil && n < proxyFixed {
			t.Fatalf("took %d of %d bytes, error %v", n, len(b), err)
		}
		p2, n2, err2 := parseProxy(append(b[:len(b):len(b)], after...))
		if p2 != p || n2 != n || fmt.Sprint(err2) != fmt.Sprint(err) {
			t.Fatalf("with more bytes %v %d %v, without %v %d %v", p2, n2, err2, p, n, err)
		}
		if err != nil {
			return
		}
		if _, exact, err := parseProxy(b[:n]); err != nil || exact != n {
			t.Fatalf("the header alone: %d bytes, %v", exact, err)
		}
		if _, _, err := parseProxy(b[:n-1]); !errors.Is(err, errProxyShort) {
			t.Fatalf("one byte less: %v", err)
		}
	})
}

// TestProxied sends bytes over a real socket and shows what comes of them.
func TestProxied(t *testing.T) {
	loopback := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8")}
	f := func(peers []netip.Prefix, sent, want string) {
		t.Helper()
		l, dial := listenTCP(t, Config{ProxyProtocol: peers, HTTP2: true})
		client := dial()
		write(t, client, sent)
		_ = client.CloseWrite()
		c := accept(t, l)
		var got string
		if err := c.Handshake(); err != nil {
			again := c.Handshake()
			got = fmt.Sprintf("error %v", counts(l.counters))
			if !errors.Is(again, err) || l.Open() != 0 {
				t.Errorf("%q: then error %v, %d open", sent, again, l.Open())
			}
		} else {
			rest, err := io.ReadAll(c)
			if err != nil {
				t.Fatal(err)
			}
			got = fmt.Sprintf("%s %s to %s by %s: %q", c.Protocol(), c.Peer(), c.Local(), c.Direct(), rest)
			if c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr() != c.Peer() || c.LocalAddr().(*net.TCPAddr).AddrPort().Addr() != c.Local() {
				t.Errorf("%q: addresses %s and %s", sent, c.RemoteAddr(), c.LocalAddr())
			}
		}
		if got != want {
			t.Errorf("%q:\n got %s\nwant %s", sent, got, want)
		}
	}
	f(loopback, header(0x21, 0x11, v4)+"GET /", `http/1.1 192.0.2.7 to 198.51.100.1 by 127.0.0.1: "GET /"`)
	f(loopback, header(0x21, 0x21, v6+value(tlvALPN, "h2"))+"GET /", `http/1.1 2001:db8::7 to ::1 by 127.0.0.1: "GET /"`)
	f(loopback, header(0x21, 0x21, mapped)+"POST", `http/1.1 192.0.2.7 to 198.51.100.1 by 127.0.0.1: "POST"`)
	f(loopback, header(0x20, 0x00, "")+"GET /", `http/1.1 127.0.0.1 to 127.0.0.1 by 127.0.0.1: "GET /"`)
	f(loopback, header(0x21, 0x00, "")+"GET /", `http/1.1 127.0.0.1 to 127.0.0.1 by 127.0.0.1: "GET /"`)
	f(loopback, header(0x21, 0x11, v4)+preface+"x", `h2 192.0.2.7 to 198.51.100.1 by 127.0.0.1: "`+
		`PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nx"`)
	// A second header is not looked for.
	f(loopback, header(0x21, 0x11, v4)+header(0x20, 0, ""), `http/1.1 192.0.2.7 to 198.51.100.1 by 127.0.0.1: `+
		fmt.Sprintf("%q", header(0x20, 0, "")))
	f(loopback, "GET / HTTP/1.1\r\n", "error failed proxy_header 1")
	f(loopback, "PROXY TCP4 192.0.2.7 198.51.100.1 40000 443\r\nGET /", "error failed proxy_header 1")
	f(loopback, header(0x31, 0x11, v4)+"GET /", "error failed proxy_header 1")
	f(loopback, header(0x21, 0x11, v4)[:20], "error failed left 1")
	f(loopback, "", "error failed left 1")
	// From a peer that is not listed these are bytes like any others.
	f(nil, header(0x21, 0x11, v4)+"GET /", `http/1.1 127.0.0.1 to 127.0.0.1 by 127.0.0.1: `+
		fmt.Sprintf("%q", header(0x21, 0x11, v4)+"GET /"))
	f(loopback[:1], "GET /", `http/1.1 127.0.0.1 to 127.0.0.1 by 127.0.0.1: "GET /"`)
}

// TestProxiedBytewise: a header may come in any pieces.
func TestProxiedBytewise(t *testing.T) {
	l := Listen(newPipes(), Config{ProxyProtocol: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}})
	defer l.Close()
	client := make(chan error, 1)
	go func() {
		c := l.inner.(*pipes).dial()
		defer c.Close()
		for _, b := range []byte(header(0x21, 0x11, v4+value(tlvAuthority, "a.test")) + "GET /") {
			if _, err := c.Write([]byte{b}); err != nil {
				client <- err
				return
			}
		}
		client <- nil
	}()
	c := accept(t, l)
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	if got := readN(t, c, 5); got != "GET /" || c.Peer() != addr("192.0.2.7") {
		t.Errorf("%q of %s", got, c.Peer())
	}
	if err := <-client; err != nil {
		t.Error(err)
	}
}

// TestSlow: what must come first comes in time or the connection is closed.
func TestSlow(t *testing.T) {
	everyone := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
	f := func(cfg Config, sent string, want time.Duration) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			l := Listen(newPipes(), cfg)
			defer l.Close()
			dialed := make(chan net.Conn, 1)
			go func() {
				c := l.inner.(*pipes).dial()
				write(t, c, sent)
				dialed <- c
			}()
			c := accept(t, l)
			began := time.Now()
			err := c.Handshake()
			took := time.Since(began)
			var ne net.Error
			if !errors.As(err, &ne) || !ne.Timeout() || took != want || counts(l.counters) != "failed timeout 1" || l.Open() != 0 {
				t.Errorf("%q: %v after %v, %s, %d open", sent, err, took, counts(l.counters), l.Open())
			}
			client := <-dialed
			if _, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Errorf("%q: the client reads %v", sent, err)
			}
			_ = client.Close()
		})
	}
	f(Config{ProxyProtocol: everyone}, "", time.Second)
	f(Config{ProxyProtocol: everyone}, header(0x21, 0x11, v4)[:20], time.Second)
	f(Config{ProxyProtocol: everyone, HeaderTimeout: 300 * time.Millisecond}, "\r\n", 300*time.Millisecond)
	f(Config{ProxyProtocol: everyone, HTTP2: true}, header(0x21, 0x11, v4), 10*time.Second)
	f(Config{HTTP2: true}, "", 10*time.Second)
	f(Config{HTTP2: true, HeaderTimeout: 2 * time.Second}, "PRI * HTTP", 2*time.Second)
}
