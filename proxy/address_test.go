package proxy_test

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse/proxy"
	"github.com/gatehouse-gateway/gatehouse/proxy/proxytest"
)

// told by the backend: the fields about the client.
func clientFields(answer string) string {
	var lines []string
	for line := range strings.Lines(answer) {
		for _, name := range []string{"Forwarded: ", "X-Forwarded-For: ", "X-Real-Ip: ", "X-Forwarded-Proto: "} {
			if strings.HasPrefix(line, name) {
				lines = append(lines, strings.TrimSpace(line))
			}
		}
	}
	return strings.Join(lines, "\n")
}

// What is believed of the client's address: a trusted proxy's word, up to the
// first that is not trusted, and nobody else's.
func TestForwardedTrust(t *testing.T) {
	header := proxy.TrustXForwardedFor
	f := func(name string, trusted []string, fields, want string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			h := proxytest.New(t, "tenants:"+one("a", "a.test", "a.app"), proxytest.Options{Config: func(c *proxy.Config) {
				c.TrustedHeader = header
				for _, p := range trusted {
					c.TrustedProxies = append(c.TrustedProxies, netip.MustParsePrefix(p))
				}
			}})
			addr := listen(t, h.Gateway.Serve)
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.test\r\n"+fields+"\r\n"); err != nil {
				t.Fatal(err)
			}
			answer, err := proxytest.ReadAnswer(bufio.NewReader(c), "GET")
			if err != nil {
				t.Fatal(err)
			}
			if got := clientFields(answer); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
	local := []string{"127.0.0.0/8"}
	f("nobody is trusted", nil, "X-Forwarded-For: 1.2.3.4\r\nForwarded: for=1.2.3.4;proto=https\r\nX-Forwarded-Proto: https\r\nX-Real-IP: 1.2.3.4\r\n",
		"Forwarded: for=127.0.0.1;by=_gatehouse;host=\"a.test\";proto=http\nX-Forwarded-For: 127.0.0.1\nX-Forwarded-Proto: http\nX-Real-Ip: 127.0.0.1")
	f("a proxy", local, "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\n",
		"Forwarded: for=1.2.3.4;by=_gatehouse;host=\"a.test\";proto=https\nX-Forwarded-For: 1.2.3.4, 127.0.0.1\nX-Forwarded-Proto: https\nX-Real-Ip: 1.2.3.4")
	f("a client's lie in front of it", local, "X-Forwarded-For: 9.9.9.9, 1.2.3.4\r\n",
		"Forwarded: for=1.2.3.4;by=_gatehouse;host=\"a.test\";proto=http\nX-Forwarded-For: 9.9.9.9, 1.2.3.4, 127.0.0.1\nX-Forwarded-Proto: http\nX-Real-Ip: 1.2.3.4")
	f("two proxies", append(local, "10.0.0.0/8"), "X-Forwarded-For: 1.2.3.4, 10.1.1.1\r\n",
		"Forwarded: for=1.2.3.4;by=_gatehouse;host=\"a.test\";proto=http\nX-Forwarded-For: 1.2.3.4, 10.1.1.1, 127.0.0.1\nX-Forwarded-Proto: http\nX-Real-Ip: 1.2.3.4")
	f("what cannot be read", append(local, "10.0.0.0/8"), "X-Forwarded-For: 1.2.3.4, nonsense, 10.1.1.1\r\n",
		"Forwarded: for=10.1.1.1;by=_gatehouse;host=\"a.test\";proto=http\nX-Forwarded-For: 10.1.1.1, 127.0.0.1\nX-Forwarded-Proto: http\nX-Real-Ip: 10.1.1.1")
	f("Forwarded beside it", local, "X-Forwarded-For: 1.2.3.4\r\nForwarded: for=\"6.6.6.6\r\n",
		"Forwarded: for=1.2.3.4;by=_gatehouse;host=\"a.test\";proto=http\nX-Forwarded-For: 1.2.3.4, 127.0.0.1\nX-Forwarded-Proto: http\nX-Real-Ip: 1.2.3.4")
	header = proxy.TrustForwarded
	f("X-Forwarded-For where it is not asked for", local, "X-Forwarded-For: 6.6.6.6\r\nForwarded: for=1.2.3.4\r\n",
		"Forwarded: for=1.2.3.4, for=127.0.0.1;by=_gatehouse;host=\"a.test\";proto=http\nX-Forwarded-For: 1.2.3.4, 127.0.0.1\nX-Forwarded-Proto: http\nX-Real-Ip: 1.2.3.4")
	f("an open quote", local, "Forwarded: for=\"6.6.6.6\r\n",
		"Forwarded: for=127.0.0.1;by=_gatehouse;host=\"a.test\";proto=http\nX-Forwarded-For: 127.0.0.1\nX-Forwarded-Proto: http\nX-Real-Ip: 127.0.0.1")
	f("Forwarded", local, "Forwarded: for=9.9.9.9, for=\"[2001:db8::1]:4711\";proto=https\r\n",
		"Forwarded: for=9.9.9.9, for=\"[2001:db8::1]:4711\";proto=https, for=127.0.0.1;by=_gatehouse;host=\"a.test\";proto=http\nX-Forwarded-For: 2001:db8::1, 127.0.0.1\nX-Forwarded-Proto: http\nX-Real-Ip: 2001:db8::1")
}

// proxyHeader is a PROXY protocol header, version 2, for TCP over IPv4.
func proxyHeader(client string, port uint16) string {
	b := []byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c")
	a := netip.MustParseAddr(client).As4()
	b = append(b, a[:]...)
	b = append(b, 127, 0, 0, 1)
	b = binary.BigEndian.AppendUint16(b, port)
	return string(binary.BigEndian.AppendUint16(b, 443))
}

// A listed peer's header says who the client is; one that is not listed says
// nothing, and its header is no request.
func TestProxyProtocol(t *testing.T) {
	f := func(name, from, sent, want string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			h := proxytest.New(t, "tenants:"+one("a", "a.test", "a.app"), proxytest.Options{Config: func(c *proxy.Config) {
				c.ProxyProtocol = []netip.Prefix{netip.MustParsePrefix(from)}
			}})
			c, err := net.Dial("tcp", listen(t, h.Gateway.Serve))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(c, sent); err != nil {
				t.Fatal(err)
			}
			answer, err := proxytest.ReadAnswer(bufio.NewReader(c), "GET")
			if got := clientFields(answer); err == nil && got != want && !strings.HasPrefix(answer, want) || err != nil && want != "" {
				t.Errorf("%s, %v", answer, err)
			}
		})
	}
	const get = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"
	f("a header", "127.0.0.0/8", proxyHeader("1.2.3.4", 5)+get,
		"Forwarded: for=1.2.3.4;by=_gatehouse;host=\"a.test\";proto=http\nX-Forwarded-For: 1.2.3.4\nX-Forwarded-Proto: http\nX-Real-Ip: 1.2.3.4")
	f("none", "127.0.0.0/8", get, "")
	f("not listed", "10.0.0.0/8", proxyHeader("1.2.3.4", 5)+get, "HTTP/1.1 400 ")
}

// Addresses of one IPv6 subscriber are counted as one, those of IPv4 each.
func TestAddressesCountAsNetworks(t *testing.T) {
	h := proxytest.New(t, `tenants:
  - id: a
    domain: a.test
    limits: {rules: [{name: one, quota: 1, window: hour, by: [address]}]}
    backends: [{id: app, endpoints: [{url: "http://a.app"}]}]
    routes: [{id: all, match: {path: /}, auth: none, backend: app}]
`, proxytest.Options{Config: func(c *proxy.Config) {
		c.TrustedHeader = proxy.TrustXForwardedFor
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
	}})
	f := func(address, want string) {
		t.Helper()
		status, _, _ := strings.Cut(identified(h.Do("GET / HTTP/1.1\nHost: a.test\nX-Forwarded-For: "+address+"\n\n")), "\n")
		if status != want {
			t.Errorf("%s: %s, want %s", address, status, want)
		}
	}
	f("2001:db8::1", "200")
	f("2001:db8::2", "429")
	f("2001:db8:0:1::1", "200")
	f("192.0.2.1", "200")
	f("192.0.2.2", "200")
	f("192.0.2.1", "429")
}
