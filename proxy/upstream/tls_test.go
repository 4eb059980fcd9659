package upstream

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
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

// texts are a certificate and its key in PEM.
func texts(t *testing.T, c tls.Certificate) (cert string, key gatehouse.Secret) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	cert = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}))
	return cert, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// What a document says of TLS is what endpoints are verified by, and shown.
func TestBackendTLS(t *testing.T) {
	local, _ := authority(t, "127.0.0.1")
	named, _ := authority(t, "app.example")
	mine, myRoots := authority(t, "gateway")
	stranger, _ := authority(t, "gateway")
	localCA, _ := texts(t, local)
	namedCA, _ := texts(t, named)
	cert, key := texts(t, mine)
	strange, strangeKey := texts(t, stranger)

	f := func(name string, server *tls.Config, doc gatehouse.BackendTLS, expected string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			url := secureBackend(t, server, always(ok))
			b := version(t, client(t, Config{}), nil, gatehouse.Backend{TLS: doc, Timeouts: brief}, url)
			for range 2 {
				want(t, outcome(b, get()), expected+" attempts=1")
			}
			large := post(strings.Repeat("x", 1<<20))
			if got := outcome(b, large); strings.HasPrefix(expected, "GH") && got != expected+" attempts=1" &&
				got != "GH-FW-001 connection_terminated attempts=1" { // the reset may overtake the alert
				t.Errorf("with a large body: %s", got)
			}
		})
	}
	plain := &tls.Config{Certificates: []tls.Certificate{local}}
	f("own authority", plain, gatehouse.BackendTLS{CA: localCA}, `200 "ok"`)
	f("other authority", plain, gatehouse.BackendTLS{CA: namedCA}, "GH-FW-001 tls_certificate_error")
	f("the system's", plain, gatehouse.BackendTLS{}, "GH-FW-001 tls_certificate_error")
	f("two authorities", plain, gatehouse.BackendTLS{CA: namedCA + localCA}, `200 "ok"`)
	f("name", &tls.Config{Certificates: []tls.Certificate{named}}, gatehouse.BackendTLS{CA: namedCA, ServerName: "app.example"}, `200 "ok"`)
	f("other name", plain, gatehouse.BackendTLS{CA: localCA, ServerName: "app.example"}, "GH-FW-001 tls_certificate_error")

	old := &tls.Config{Certificates: []tls.Certificate{local}, MaxVersion: tls.VersionTLS12}
	f("1.2", old, gatehouse.BackendTLS{CA: localCA, MinVersion: "1.2"}, `200 "ok"`)
	f("1.2 for 1.3", old, gatehouse.BackendTLS{CA: localCA, MinVersion: "1.3"}, "GH-FW-001 tls_alert_received")

	for name, most := range map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13} {
		mutual := &tls.Config{
			Certificates: []tls.Certificate{local}, ClientAuth: tls.RequireAndVerifyClientCert,
			ClientCAs: myRoots, MaxVersion: most,
		}
		f("mutual, "+name, mutual, gatehouse.BackendTLS{CA: localCA, Cert: cert, Key: key}, `200 "ok"`)
		f("no certificate, "+name, mutual, gatehouse.BackendTLS{CA: localCA}, "GH-FW-001 tls_alert_received")
		mutual = mutual.Clone()
		mutual.ClientAuth = tls.RequireAnyClientCert
		mutual.VerifyPeerCertificate = func([][]byte, [][]*x509.Certificate) error { return net.ErrClosed }
		mutual.ClientCAs = nil
		f("refused certificate, "+name, mutual, gatehouse.BackendTLS{CA: localCA, Cert: strange, Key: strangeKey}, "GH-FW-001 tls_alert_received")
	}
}

func TestBadTLS(t *testing.T) {
	mine, _ := authority(t, "a")
	other, _ := authority(t, "a")
	cert, key := texts(t, mine)
	_, otherKey := texts(t, other)
	f := func(doc gatehouse.BackendTLS, expected string) {
		t.Helper()
		_, err := client(t, Config{}).Backend("acme", gatehouse.Backend{ID: "app", TLS: doc}, nil)
		if err == nil || !strings.HasPrefix(err.Error(), "backend acme/app: tls: "+expected) {
			t.Errorf("got %v", err)
		}
	}
	f(gatehouse.BackendTLS{CA: "no PEM"}, "ca_file holds no certificate in PEM")
	f(gatehouse.BackendTLS{CA: string(key)}, "ca_file holds no certificate in PEM")
	f(gatehouse.BackendTLS{CAFile: "ca.pem"}, "ca_file ca.pem is empty")
	f(gatehouse.BackendTLS{Cert: cert}, "cert_file and key_file: ")
	f(gatehouse.BackendTLS{Key: key}, "cert_file and key_file: ")
	f(gatehouse.BackendTLS{CertFile: "a", KeyFile: "b"}, "cert_file and key_file: ")
	f(gatehouse.BackendTLS{Cert: cert, Key: otherKey}, "cert_file and key_file: ")
	f(gatehouse.BackendTLS{Cert: cert, Key: gatehouse.Secret("x")}, "cert_file and key_file: ")
	f(gatehouse.BackendTLS{MinVersion: "1.1"}, `min_version "1.1"`)
}

// Versions of a backend share connections only where TLS and protocol are the
// same.
func TestIdentity(t *testing.T) {
	mine, _ := authority(t, "a")
	other, _ := authority(t, "a")
	cert, key := texts(t, mine)
	otherCert, otherKey := texts(t, other)
	base := gatehouse.Backend{TLS: gatehouse.BackendTLS{CA: cert, Cert: cert, Key: key, CAFile: "a.pem", MinVersion: "1.2"}}
	f := func(name string, shared bool, change func(*gatehouse.Backend)) {
		t.Helper()
		c := client(t, Config{})
		v1 := version(t, c, nil, base, "https://a")
		doc := base
		change(&doc)
		v2 := version(t, c, v1, doc, "https://a")
		if (v1.members[0].endpoint == v2.members[0].endpoint) != shared {
			t.Errorf("%s: shared is %v", name, !shared)
		}
	}
	f("nothing", true, func(*gatehouse.Backend) {})
	f("name of a file", true, func(b *gatehouse.Backend) { b.TLS.CAFile = "b.pem" })
	f("default spelled out", true, func(b *gatehouse.Backend) { b.Protocol = gatehouse.HTTP1 })
	f("protocol", false, func(b *gatehouse.Backend) { b.Protocol = gatehouse.HTTP2 })
	f("authority", false, func(b *gatehouse.Backend) { b.TLS.CA = otherCert })
	f("certificate", false, func(b *gatehouse.Backend) { b.TLS.Cert, b.TLS.Key = otherCert, otherKey })
	if renewed := (gatehouse.Backend{TLS: gatehouse.BackendTLS{Cert: otherCert}}); newIdentity(renewed) == newIdentity(gatehouse.Backend{}) {
		t.Error("a certificate of the same key is shared")
	}
	f("none", false, func(b *gatehouse.Backend) { b.TLS = gatehouse.BackendTLS{} })
	f("name", false, func(b *gatehouse.Backend) { b.TLS.ServerName = "b" })
	f("version", false, func(b *gatehouse.Backend) { b.TLS.MinVersion = "1.3" })
}

// Health checks are made with the same TLS as requests.
func TestSecureHealth(t *testing.T) {
	local, _ := authority(t, "127.0.0.1")
	mine, myRoots := authority(t, "gateway")
	ca, _ := texts(t, local)
	cert, key := texts(t, mine)
	for _, protocol := range []gatehouse.Protocol{gatehouse.HTTP1, gatehouse.HTTP2} {
		url := secureBackend(t, &tls.Config{
			Certificates: []tls.Certificate{local}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: myRoots,
		}, always(ok))
		if protocol == gatehouse.HTTP2 {
			url = serveH2(t, h2Server{tls: &tls.Config{
				Certificates: []tls.Certificate{local}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: myRoots,
			}}, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/healthz" || r.Method != "GET" || r.Host == "" {
					w.WriteHeader(404)
				}
			})
		}
		b := version(t, client(t, Config{}), nil, gatehouse.Backend{
			Protocol: protocol, TLS: gatehouse.BackendTLS{CA: ca, Cert: cert, Key: key},
		}, url)
		k := &check{endpoint: b.members[0].endpoint, rules: gatehouse.Health{Path: "/healthz"}}
		if err := k.probe(t.Context(), time.Now().Add(5*time.Second)); err != nil {
			t.Errorf("%s: %v", protocol, err)
		}
	}
}
