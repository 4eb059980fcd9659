package edge

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain finds goroutines that are left over. The clock of fasthttp never ends.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"))
}

// patient bounds waits that end long before, unless something is broken.
const patient = 10 * time.Second

// listenTCP returns a listener on a loopback socket and how to connect to it.
func listenTCP(t testing.TB, cfg Config) (*Listener, func() *net.TCPConn) {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := Listen(inner, cfg)
	t.Cleanup(func() { _ = l.Close() })
	return l, func() *net.TCPConn {
		t.Helper()
		c, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		_ = c.SetDeadline(time.Now().Add(patient))
		return c.(*net.TCPConn)
	}
}

func accept(t testing.TB, l *Listener) *Conn {
	t.Helper()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.(*Conn)
}

// pipes is a listener in memory whose addresses are none of TCP.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes", Net: "unix"} }

func (p *pipes) dial() net.Conn {
	ours, theirs := net.Pipe()
	p.conns <- theirs
	return ours
}

func write(t testing.TB, c io.Writer, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Fatal(err)
	}
}

// readN reads exactly n bytes.
func readN(t testing.TB, c io.Reader, n int) string {
	t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// eventually waits for what the kernel or a watcher does in its own time.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	late := time.After(patient)
	for !ok() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("never: %s", what)
		}
	}
}

// counts shows the counters that are not zero.
func counts(c *Counters) string {
	var b strings.Builder
	for name, n := range c.Refusals() {
		if n > 0 {
			fmt.Fprintf(&b, "refused %s %d; ", name, n)
		}
	}
	for name, n := range c.Failures() {
		if n > 0 {
			fmt.Fprintf(&b, "failed %s %d; ", name, n)
		}
	}
	return strings.TrimSuffix(b.String(), "; ")
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// authority signs certificates.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pool        *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a := &authority{certificate: c, key: key, pool: x509.NewCertPool()}
	a.pool.AddCert(c)
	return a
}

// leaf is what a test asks of a certificate.
type leaf struct {
	names  []string
	common string        // shown by tests to tell certificates apart
	life   time.Duration // from now; 0: an hour; negative: expired
	rsa    bool
}

// issue returns a certificate and its key in PEM.
func (a *authority) issue(t testing.TB, l leaf) (chain, private []byte) {
	t.Helper()
	var key crypto.Signer
	var err error
	if l.rsa {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	if l.life == 0 {
		l.life = time.Hour
	}
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	c := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: l.common}, DNSNames: l.names,
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(l.life),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, c, a.certificate, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

// put issues a certificate into a folder under a name.
func (a *authority) put(t testing.TB, folder, name string, l leaf) {
	t.Helper()
	chain, private := a.issue(t, l)
	save(t, filepath.Join(folder, name+".crt"), chain)
	save(t, filepath.Join(folder, name+".key"), private)
}

// client returns a certificate for a client.
func (a *authority) client(t testing.TB, common string) *tls.Certificate {
	t.Helper()
	c, err := tls.X509KeyPair(a.issue(t, leaf{common: common}))
	if err != nil {
		t.Fatal(err)
	}
	return &c
}

// save replaces a file at once.
func save(t testing.TB, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(name+".new", content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
}

func newTLS(t testing.TB, cfg TLSConfig) *TLS {
	t.Helper()
	x, err := NewTLS(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// outcome is how one handshake went on both sides.
type outcome struct {
	client    tls.ConnectionState
	clientErr error
	conn      *Conn
	connErr   error
}

// shake does one handshake, and ends it with one byte to the client, which
// brings session tickets with it.
func shake(t testing.TB, l *Listener, dial func() *net.TCPConn, cfg *tls.Config) outcome {
	t.Helper()
	var o outcome
	raw := dial()
	defer raw.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		nc, err := l.Accept()
		if err != nil {
			o.connErr = err
			return
		}
		o.conn = nc.(*Conn)
		if o.connErr = o.conn.Handshake(); o.connErr == nil {
			_, _ = o.conn.Write([]byte("x"))
			_, _ = o.conn.Read(make([]byte, 1))
		}
		_ = o.conn.Close()
	}()
	c := tls.Client(raw, cfg)
	if o.clientErr = c.Handshake(); o.clientErr == nil {
		// A refusal of the client's certificate shows here on TLS 1.3.
		_, o.clientErr = c.Read(make([]byte, 1))
	}
	o.client = c.ConnectionState()
	_ = c.Close()
	<-done
	return o
}

func contains(t testing.TB, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want one with %q", parts)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("error %q does not have %q", err, p)
		}
	}
}

// syncBuffer is a log that may be read while it is written.
type syncBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
