package upstream

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// authority is a certificate for names and addresses, and a pool that trusts
// it.
func authority(t *testing.T, names ...string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			c.IPAddresses = append(c.IPAddresses, ip)
		} else {
			c.DNSNames = append(c.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, pool
}

func secureBackend(t *testing.T, cfg *tls.Config, serve func(int, *peer)) string {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	return "https://" + serveOn(t, l, serve)
}

func TestTLS(t *testing.T) {
	local, trusted := authority(t, "127.0.0.1")
	other, otherRoots := authority(t, "other.example")
	f := func(name string, server *tls.Config, roots *x509.CertPool, expected string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			url := secureBackend(t, server, always(ok))
			b := version(t, client(t, Config{RootCAs: roots}), nil, gatehouse.Backend{}, url)
			want(t, outcome(b, get()), expected)
		})
	}
	certs := func(c tls.Certificate) []tls.Certificate { return []tls.Certificate{c} }
	f("trusted", &tls.Config{Certificates: certs(local)}, trusted, `200 "ok" attempts=1`)
	f("TLS 1.2", &tls.Config{Certificates: certs(local), MaxVersion: tls.VersionTLS12}, trusted, `200 "ok" attempts=1`)
	f("not trusted", &tls.Config{Certificates: certs(local)}, otherRoots, `GH-FW-001 tls_certificate_error attempts=1`)
	f("wrong name", &tls.Config{Certificates: certs(other)}, otherRoots, `GH-FW-001 tls_certificate_error attempts=1`)
	f("TLS 1.1", &tls.Config{Certificates: certs(local), MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, trusted, `GH-FW-001 tls_alert_received attempts=1`)

	plain := backend(t, func(_ int, p *peer) { p.send("HTTP/1.1 400 Bad Request\r\n\r\n") })
	b := version(t, client(t, Config{RootCAs: trusted}), nil, gatehouse.Backend{}, strings.Replace(plain, "http:", "https:", 1))
	want(t, outcome(b, get()), `GH-FW-001 tls_protocol_error attempts=1`)

	mute := backend(t, func(_ int, p *peer) { p.hold() })
	b = version(t, client(t, Config{RootCAs: trusted}), nil, gatehouse.Backend{Timeouts: brief}, strings.Replace(mute, "http:", "https:", 1))
	want(t, outcome(b, get()), `GH-FW-002 connection_timeout attempts=1`)
}

// The host of the URL is what is asked for and verified.
func TestServerName(t *testing.T) {
	cert, roots := authority(t, "localhost")
	asked := make(chan string, 1)
	url := secureBackend(t, &tls.Config{GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		asked <- h.ServerName
		return &cert, nil
	}}, always(ok))
	b := version(t, client(t, Config{RootCAs: roots}), nil, gatehouse.Backend{}, strings.Replace(url, "127.0.0.1", "localhost", 1))
	want(t, outcome(b, get()), `200 "ok" attempts=1`)
	want(t, <-asked, "localhost")
}

// Connections under TLS are reused, bodies of all kinds pass, and what TLS has
// read ahead is noticed.
func TestSecureReuse(t *testing.T) {
	cert, roots := authority(t, "127.0.0.1")
	for _, newest := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		cfg := &tls.Config{Certificates: []tls.Certificate{cert}, MaxVersion: newest}
		b := version(t, client(t, Config{RootCAs: roots}), nil, gatehouse.Backend{}, secureBackend(t, cfg, checksum))
		for range 5 {
			want(t, outcome(b, post("abc")), `200 "3 c" attempts=1`)
			want(t, outcome(b, post(strings.Repeat("x", 300_000))), `200 "300000 x" attempts=1`)
		}
		if n := b.Stats().Endpoints[0].Dials; n != 1 {
			t.Errorf("%d dials", n)
		}

		// The second record may come with the first or later, so it is waited for.
		b = version(t, client(t, Config{RootCAs: roots}), nil, gatehouse.Backend{}, secureBackend(t, cfg, func(n int, p *peer) {
			for p.request() != "" {
				p.send(ok)
				if n == 1 {
					p.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON")
				}
			}
		}))
		var resp Response
		if err := b.Do(get(), &resp); err != nil {
			t.Fatal(err)
		}
		settle(t, &resp)
		want(t, outcome(b, get()), `200 "ok" attempts=1`)
	}
}

// A body that ends with the connection ends with TLS's own end, or else it
// was cut.
func TestSecureTruncation(t *testing.T) {
	cert, roots := authority(t, "127.0.0.1")
	f := func(cut bool, expected string) {
		t.Helper()
		b := version(t, client(t, Config{RootCAs: roots}), nil, gatehouse.Backend{}, secureBackend(t,
			&tls.Config{Certificates: []tls.Certificate{cert}}, func(_ int, p *peer) {
				p.request()
				p.send("HTTP/1.1 200 OK\r\n\r\nabc")
				if cut {
					p.Conn.(*tls.Conn).NetConn().Close()
				}
			}))
		want(t, outcome(b, get()), expected)
	}
	f(false, `200 "abc" attempts=1`)
	f(true, `200 "abc" GH-FW-003 http_response_incomplete attempts=1`)
}
