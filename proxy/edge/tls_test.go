package edge

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// dialTLS returns a client connection that does its handshake when used.
func dialTLS(t testing.TB, dial func() *net.TCPConn, a *authority, name string) *tls.Conn {
	t.Helper()
	return tls.Client(dial(), &tls.Config{RootCAs: a.pool, ServerName: name})
}

// show tells an outcome in one line.
func (o outcome) show() string {
	if o.clientErr != nil || o.connErr != nil {
		return fmt.Sprintf("error %v", o.clientErr)
	}
	return fmt.Sprintf("%s %s %s", o.client.PeerCertificates[0].Subject.CommonName, tls.VersionName(o.client.Version), o.conn.Protocol())
}

// TestServerName: which certificate a client gets.
func TestServerName(t *testing.T) {
	a := newAuthority(t)
	folder, plain := t.TempDir(), t.TempDir()
	for _, f := range []string{folder, plain} {
		a.put(t, f, "exact", leaf{names: []string{"api.a.test", "b.test"}, common: "exact"})
		a.put(t, f, "wild", leaf{names: []string{"*.A.test"}, common: "wild"})
		a.put(t, f, "c-rsa", leaf{names: []string{"c.test"}, common: "c rsa", rsa: true})
		a.put(t, f, "c-ecdsa", leaf{names: []string{"c.test"}, common: "c ecdsa"})
		a.put(t, f, "d-old", leaf{names: []string{"d.a.test"}, common: "d expired", life: -time.Hour})
		a.put(t, f, "e-old", leaf{names: []string{"e.test"}, common: "e expired", life: -time.Hour})
		a.put(t, f, "e-rsa", leaf{names: []string{"e.test"}, common: "e rsa", rsa: true})
		a.put(t, f, "f-soon", leaf{names: []string{"f.test"}, common: "f ends sooner", life: time.Minute})
		a.put(t, f, "f-late", leaf{names: []string{"f.test"}, common: "f ends later"})
		a.put(t, f, "g-old", leaf{names: []string{"g.test"}, common: "g expired", life: -time.Hour})
	}
	a.put(t, folder, "default", leaf{common: "default"})
	f := func(folder, name, want string, change ...func(*tls.Config)) {
		t.Helper()
		l, dial := listenTCP(t, Config{TLS: newTLS(t, TLSConfig{Folder: folder}), HTTP2: true})
		cfg := &tls.Config{ServerName: name, InsecureSkipVerify: true}
		for _, c := range change {
			c(cfg)
		}
		o := shake(t, l, dial, cfg)
		if got := o.show(); got != want {
			t.Errorf("%q: %s, want %s", name, got, want)
		}
		if o.connErr == nil && (o.conn.ServerName() != strings.ToLower(name) || o.conn.TLS() == nil || o.conn.TLS().Version != o.client.Version) {
			t.Errorf("%q: server name %q", name, o.conn.ServerName())
		}
		if o.connErr != nil && want == "error remote error: tls: unrecognized name" && counts(l.counters) != "failed server_name 1" {
			t.Errorf("%q: %s, %v", name, counts(l.counters), o.connErr)
		}
		if l.Open() != 0 {
			t.Errorf("%q: %d open", name, l.Open())
		}
	}
	tls12 := func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }
	onlyRSA := func(c *tls.Config) {
		c.MaxVersion = tls.VersionTLS12
		c.CipherSuites = []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
	}
	h2 := func(c *tls.Config) { c.NextProtos = []string{"h2", "http/1.1"} }
	const unknown = "error remote error: tls: unrecognized name"

	f(plain, "api.a.test", "exact TLS 1.3 http/1.1")
	f(plain, "API.a.TEST", "exact TLS 1.3 http/1.1")
	f(plain, "b.test", "exact TLS 1.3 h2", h2)
	f(plain, "b.test", "exact TLS 1.2 http/1.1", tls12)
	f(plain, "x.a.test", "wild TLS 1.3 http/1.1")
	f(plain, "x.y.a.test", unknown)
	f(plain, "a.test", unknown)
	f(plain, "z.test", unknown)
	f(plain, "z.test", unknown, tls12)
	f(plain, "", unknown)
	f(folder, "", "default TLS 1.3 http/1.1")
	f(folder, "z.test", "default TLS 1.3 http/1.1")
	f(folder, "x.y.a.test", "default TLS 1.2 http/1.1", tls12)
	f(folder, "api.a.test", "exact TLS 1.3 http/1.1")
	f(plain, "c.test", "c ecdsa TLS 1.3 http/1.1")
	f(plain, "c.test", "c rsa TLS 1.2 http/1.1", onlyRSA)
	f(plain, "d.a.test", "wild TLS 1.3 http/1.1")
	f(plain, "e.test", "e rsa TLS 1.3 http/1.1")
	f(plain, "f.test", "f ends later TLS 1.3 http/1.1")
	f(plain, "g.test", "g expired TLS 1.3 http/1.1")
	f(plain, "b.test", "error remote error: tls: no application protocol", func(c *tls.Config) { c.NextProtos = []string{"spdy/3"} })
	f(plain, "b.test", "error remote error: tls: protocol version not supported", func(c *tls.Config) { c.MaxVersion = tls.VersionTLS11; c.MinVersion = tls.VersionTLS10 })
}

// TestNoHTTP2: without it the client is not offered it.
func TestNoHTTP2(t *testing.T) {
	a, folder := newAuthority(t), t.TempDir()
	a.put(t, folder, "a", leaf{names: []string{"a.test"}, common: "a"})
	l, dial := listenTCP(t, Config{TLS: newTLS(t, TLSConfig{Folder: folder})})
	o := shake(t, l, dial, &tls.Config{RootCAs: a.pool, ServerName: "a.test", NextProtos: []string{"h2", "http/1.1"}})
	if got, want := o.show(), "a TLS 1.3 http/1.1"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// tenants is a Host function over names.
func tenants(m map[string]Tenant) func(string) (Tenant, bool) {
	return func(name string) (Tenant, bool) {
		t, ok := m[name]
		return t, ok
	}
}

func TestTenants(t *testing.T) {
	a, folder := newAuthority(t), t.TempDir()
	a.put(t, folder, "wild", leaf{names: []string{"*.test"}, common: "wild"})
	clients, others := newAuthority(t), newAuthority(t)
	x := newTLS(t, TLSConfig{Folder: folder, Host: tenants(map[string]Tenant{
		"new.test":   {ID: "new", MinVersion: tls.VersionTLS13},
		"old.test":   {ID: "old", MinVersion: tls.VersionTLS10},
		"asks.test":  {ID: "asks", ClientCAs: clients.pool},
		"needs.test": {ID: "needs", ClientCAs: clients.pool, ClientAuth: true},
		"never.test": {ID: "never", ClientAuth: true},
	})})
	f := func(name string, with *tls.Certificate, most uint16, want, client string) {
		t.Helper()
		l, dial := listenTCP(t, Config{TLS: x})
		cfg := &tls.Config{RootCAs: a.pool, ServerName: name, MinVersion: tls.VersionTLS10, MaxVersion: most}
		if with != nil {
			cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return with, nil }
		}
		o := shake(t, l, dial, cfg)
		got := ""
		if o.connErr == nil && len(o.conn.TLS().VerifiedChains) > 0 {
			got = o.conn.TLS().VerifiedChains[0][0].Subject.CommonName
		}
		if o.show() != want || got != client {
			t.Errorf("%s: %s with client %q (%v), want %s with %q", name, o.show(), got, o.connErr, want, client)
		}
		if _, bad := errors.AsType[*tls.CertificateVerificationError](o.connErr); bad && counts(l.counters) != "failed certificate 1" {
			t.Errorf("%s: %s", name, counts(l.counters))
		}
	}
	ours, theirs := clients.client(t, "ours"), others.client(t, "theirs")
	const version = "error remote error: tls: protocol version not supported"
	f("new.test", nil, tls.VersionTLS13, "wild TLS 1.3 http/1.1", "")
	f("new.test", nil, tls.VersionTLS12, version, "")
	f("old.test", nil, tls.VersionTLS12, "wild TLS 1.2 http/1.1", "")
	f("old.test", nil, tls.VersionTLS11, version, "")
	f("none.test", nil, tls.VersionTLS11, version, "")
	f("none.test", ours, 0, "wild TLS 1.3 http/1.1", "")
	f("asks.test", nil, 0, "wild TLS 1.3 http/1.1", "")
	f("asks.test", ours, 0, "wild TLS 1.3 http/1.1", "ours")
	f("ASKS.test", ours, tls.VersionTLS12, "wild TLS 1.2 http/1.1", "ours")
	f("asks.test", theirs, 0, "error remote error: tls: unknown certificate authority", "")
	f("asks.test", theirs, tls.VersionTLS12, "error remote error: tls: unknown certificate authority", "")
	f("needs.test", ours, 0, "wild TLS 1.3 http/1.1", "ours")
	f("needs.test", nil, 0, "error remote error: tls: certificate required", "")
	f("never.test", ours, 0, "error remote error: tls: unknown certificate authority", "")
}

// one keeps the newest session whatever the name: a client that tries its
// ticket elsewhere.
type one struct {
	mu sync.Mutex // guards s
	s  *tls.ClientSessionState
}

func (o *one) Get(string) (*tls.ClientSessionState, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.s, o.s != nil
}

func (o *one) Put(_ string, s *tls.ClientSessionState) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.s = s
}

// TestTickets: a session resumes where it began and nowhere else.
func TestTickets(t *testing.T) {
	a, folder := newAuthority(t), t.TempDir()
	a.put(t, folder, "wild", leaf{names: []string{"*.test"}, common: "wild"})
	first, second := newAuthority(t), newAuthority(t)
	again := x509.NewCertPool() // another pool of the same authority
	again.AddCert(first.certificate)
	client := first.client(t, "client")

	current := map[string]Tenant{}
	var mu sync.Mutex // guards current
	x := newTLS(t, TLSConfig{Folder: folder, Host: func(name string) (Tenant, bool) {
		mu.Lock()
		defer mu.Unlock()
		c, ok := current[name]
		return c, ok
	}})
	l, dial := listenTCP(t, Config{TLS: x})
	visit := func(name string, as Tenant, version uint16, cache *one) bool {
		t.Helper()
		mu.Lock()
		if as.ID != "" {
			current[name] = as
		} else {
			delete(current, name)
		}
		mu.Unlock()
		o := shake(t, l, dial, &tls.Config{
			InsecureSkipVerify: true, ServerName: name, MaxVersion: version, ClientSessionCache: cache,
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return client, nil },
		})
		if o.connErr != nil {
			t.Fatal(o.connErr)
		}
		return o.client.DidResume
	}
	plain, other := Tenant{ID: "p"}, Tenant{ID: "q"}
	secure, elsewhere := Tenant{ID: "s", ClientCAs: first.pool}, Tenant{ID: "t", ClientCAs: first.pool}
	both := x509.NewCertPool()
	both.AddCert(first.certificate)
	both.AddCert(second.certificate)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		f := func(what string, at, then Tenant, between func(), want bool) {
			t.Helper()
			cache := &one{}
			visit("a.test", at, version, cache)
			if cache.s == nil {
				t.Fatalf("%s: no ticket", what)
			}
			between()
			if got := visit("b.test", then, version, cache); got != want {
				t.Errorf("%s, %s: resumed %t", tls.VersionName(version), what, got)
			}
		}
		nothing := func() {}
		f("no tenant", Tenant{}, Tenant{}, nothing, true)
		f("one tenant", plain, plain, nothing, true)
		f("one tenant with authorities", secure, secure, nothing, true)
		f("an equal pool", secure, Tenant{ID: "s", ClientCAs: again}, nothing, true)
		f("another tenant", plain, other, nothing, false)
		f("another tenant of the same authority", secure, elsewhere, nothing, false)
		f("to no tenant", secure, Tenant{}, nothing, false)
		f("from no tenant", Tenant{}, secure, nothing, false)
		f("authorities are new", plain, Tenant{ID: "p", ClientCAs: first.pool}, nothing, false)
		f("authorities are gone", secure, Tenant{ID: "s"}, nothing, false)
		f("authorities have changed", secure, Tenant{ID: "s", ClientCAs: both}, nothing, false)
		f("a certificate is now required", secure, Tenant{ID: "s", ClientCAs: first.pool, ClientAuth: true}, nothing, false)
		if version == tls.VersionTLS13 {
			f("the least version has changed", plain, Tenant{ID: "p", MinVersion: tls.VersionTLS13}, nothing, false)
			f("two rotations", secure, secure, func() { x.configs.rotate(); x.configs.rotate() }, true)
			f("three rotations", secure, secure, func() { x.configs.rotate(); x.configs.rotate(); x.configs.rotate() }, false)
		}
	}
	if h, r := l.counters.Handshakes.Load(), l.counters.Resumed.Load(); h != 54 || r != 9 {
		t.Errorf("%d handshakes, %d resumed", h, r)
	}
}

// TestTicketOfUnknownName: a ticket does not help past the want of a
// certificate.
func TestTicketOfUnknownName(t *testing.T) {
	a, folder := newAuthority(t), t.TempDir()
	a.put(t, folder, "a", leaf{names: []string{"a.test"}, common: "a"})
	l, dial := listenTCP(t, Config{TLS: newTLS(t, TLSConfig{Folder: folder})})
	cache := &one{}
	visit := func(name string) string {
		return shake(t, l, dial, &tls.Config{InsecureSkipVerify: true, ServerName: name, ClientSessionCache: cache}).show()
	}
	got := visit("a.test") + ", " + visit("b.test")
	if want := "a TLS 1.3 http/1.1, error remote error: tls: unrecognized name"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestConfigsAreBounded: the versions of a tenant, of which the newest stay.
func TestConfigsAreBounded(t *testing.T) {
	c := &configs{}
	c.rotate()
	for i := range 10 {
		s := settings{Tenant: Tenant{ID: "a", ClientCAs: x509.NewCertPool()}, http2: i%2 == 0}
		if first := c.of(s); c.of(s) != first {
			t.Error("not kept")
		}
	}
	if n := len(c.kept["a"]); n != configVersions {
		t.Errorf("%d versions", n)
	}
	if c.build(settings{Tenant: Tenant{ClientAuth: true}}).ClientCAs == nil {
		t.Error("without authorities those of the system verify clients")
	}
	for i := range configLimit + 10 {
		c.kept[fmt.Sprint(i)] = []*kept{} // as good as any for the count
		if len(c.kept) == configLimit {
			break
		}
	}
	c.of(settings{Tenant: Tenant{ID: "one more"}})
	if n := len(c.kept); n != configLimit || c.kept["one more"] == nil {
		t.Errorf("%d tenants", n)
	}
}

// TestHandshakes: no more than the bound compute at one time, silent clients
// take no slot, and who gets none in time is told apart.
func TestHandshakes(t *testing.T) {
	const bound, clients = 2, 8
	a, folder := newAuthority(t), t.TempDir()
	a.put(t, folder, "a", leaf{names: []string{"a.test"}})
	var now, most atomic.Int64
	inside, leave := make(chan struct{}, clients), make(chan struct{})
	x := newTLS(t, TLSConfig{Folder: folder, Host: func(string) (Tenant, bool) {
		n := now.Add(1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		inside <- struct{}{}
		<-leave
		now.Add(-1)
		return Tenant{}, false
	}})
	l, dial := listenTCP(t, Config{TLS: x, Handshakes: bound})
	var wg sync.WaitGroup
	defer wg.Wait()
	serve := func() {
		c := accept(t, l)
		wg.Go(func() {
			if c.Handshake() == nil {
				_, _ = c.Read(make([]byte, 1))
			}
			_ = c.Close()
		})
	}
	for range 3 * bound { // they connect and say nothing
		silent := dial()
		defer silent.Close()
		serve()
	}
	for range clients {
		c := dialTLS(t, dial, a, "a.test")
		wg.Go(func() {
			if err := c.Handshake(); err != nil {
				t.Error(err)
			}
			_ = c.Close()
		})
		serve()
	}
	for range bound {
		<-inside
	}
	select {
	case <-inside:
		t.Error("one more than the bound computes")
	case <-time.After(50 * time.Millisecond): // a broken bound shows in far less
	}
	for range clients {
		leave <- struct{}{}
	}
	if got := most.Load(); got != bound {
		t.Errorf("%d computed at one time, want %d", got, bound)
	}
}

func TestBusy(t *testing.T) {
	a, folder := newAuthority(t), t.TempDir()
	a.put(t, folder, "a", leaf{names: []string{"a.test"}})
	l, dial := listenTCP(t, Config{TLS: newTLS(t, TLSConfig{Folder: folder}), Handshakes: 1, HeaderTimeout: 50 * time.Millisecond})
	l.slots <- struct{}{}
	o := shake(t, l, dial, &tls.Config{RootCAs: a.pool, ServerName: "a.test"})
	if o.clientErr == nil || o.connErr == nil || counts(l.counters) != "failed busy 1" {
		t.Errorf("%v, %v, %s", o.clientErr, o.connErr, counts(l.counters))
	}
	<-l.slots
	if o := shake(t, l, dial, &tls.Config{RootCAs: a.pool, ServerName: "a.test"}); o.connErr != nil || len(l.slots) != 0 {
		t.Errorf("%v, %d slots taken", o.connErr, len(l.slots))
	}
}

// TestFailures: how handshakes that fail are counted.
func TestFailures(t *testing.T) {
	a, folder := newAuthority(t), t.TempDir()
	a.put(t, folder, "a", leaf{names: []string{"a.test"}})
	x := newTLS(t, TLSConfig{Folder: folder})
	f := func(want string, act func(*net.TCPConn)) {
		t.Helper()
		l, dial := listenTCP(t, Config{TLS: x, HeaderTimeout: 100 * time.Millisecond})
		client := dial()
		done := make(chan struct{})
		go func() {
			defer close(done)
			act(client)
			_, _ = io.ReadAll(client)
		}()
		c := accept(t, l)
		err := c.Handshake()
		if got := counts(l.counters); got != want || err == nil || c.Protocol() != HTTP1 || c.ConnectionState().NegotiatedProtocol != HTTP1 {
			t.Errorf("%v: %s, want %s", err, got, want)
		}
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Errorf("%s: read from a failed connection", want)
		}
		<-done
	}
	f("failed timeout 1", func(*net.TCPConn) {})
	f("failed timeout 1", func(c *net.TCPConn) { _, _ = c.Write([]byte{22, 3, 1, 2, 0, 1}) })
	f("failed left 1", func(c *net.TCPConn) { _ = c.CloseWrite() })
	f("failed not_tls 1", func(c *net.TCPConn) { _, _ = c.Write([]byte("GET / HTTP/1.1\r\n\r\n")) })
	f("failed tls 1", func(c *net.TCPConn) { _, _ = c.Write([]byte{22, 3, 1, 0, 4, 1, 0, 0, 0}) })
	f("failed alert 1", func(c *net.TCPConn) {
		_ = tls.Client(c, &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "a.test"}).Handshake()
	})
}

// glued sends something before and together with what is written first.
type glued struct {
	net.Conn
	before string
}

func (g *glued) Write(p []byte) (int, error) {
	before := len(g.before)
	n, err := g.Conn.Write(append([]byte(g.before), p...))
	g.before = ""
	return max(0, n-before), err
}

// TestProxiedTLS: the handshake follows the PROXY header, in one segment or
// not, and what the header says of the client holds.
func TestProxiedTLS(t *testing.T) {
	a, folder := newAuthority(t), t.TempDir()
	a.put(t, folder, "a", leaf{names: []string{"a.test"}})
	l, dial := listenTCP(t, Config{
		TLS: newTLS(t, TLSConfig{Folder: folder}), Handshakes: 1, HTTP2: true, PerAddress: 1,
		ProxyProtocol: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Refusal: []byte(refusal),
	})
	client := tls.Client(&glued{dial(), header(0x21, 0x11, v4)}, &tls.Config{RootCAs: a.pool, ServerName: "a.test", NextProtos: []string{"h2"}})
	done := make(chan error, 1)
	go func() {
		_, err := client.Write([]byte("hello"))
		done <- err
	}()
	c := accept(t, l)
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintf("%s of %s by %s for %s: %s", c.Protocol(), c.Peer(), c.Direct(), c.ServerName(), readN(t, c, 5))
	if want := "h2 of 192.0.2.7 by 127.0.0.1 for a.test: hello"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if err := <-done; err != nil || c.head != nil || len(l.slots) != 0 || c.Bare() != net.Conn(c) {
		t.Errorf("%v, %d slots taken", err, len(l.slots))
	}

	second := dial()
	write(t, second, header(0x21, 0x11, v4))
	over := accept(t, l)
	if err := over.Handshake(); !errors.Is(err, errRefused) {
		t.Errorf("over the bound: %v", err)
	}
	if said, err := io.ReadAll(second); len(said) != 0 || err != nil {
		t.Errorf("said %q, %v", said, err)
	}
}

// mute sends, and never reads until it is closed.
type mute struct {
	net.Conn
	closed chan struct{}
}

func (m mute) Read([]byte) (int, error) {
	<-m.closed
	return 0, io.EOF
}

// TestDawdler: a client that stops in the middle of its handshake keeps no
// slot from others.
func TestDawdler(t *testing.T) {
	a, folder := newAuthority(t), t.TempDir()
	a.put(t, folder, "a", leaf{names: []string{"a.test"}})
	l, dial := listenTCP(t, Config{TLS: newTLS(t, TLSConfig{Folder: folder}), Handshakes: 1, HeaderTimeout: 3 * patient})
	var wg sync.WaitGroup
	defer wg.Wait()
	m := mute{dial(), make(chan struct{})}
	defer close(m.closed)
	wg.Go(func() { _ = tls.Client(m, &tls.Config{ServerName: "a.test", RootCAs: a.pool}).Handshake() })
	c := accept(t, l)
	wg.Go(func() { _ = c.Handshake() })
	defer m.Close()
	answered := make([]byte, 1)
	if _, err := m.Conn.Read(answered); err != nil { // the server has computed
		t.Fatal(err)
	}
	if o := shake(t, l, dial, &tls.Config{RootCAs: a.pool, ServerName: "a.test"}); o.clientErr != nil || o.connErr != nil {
		t.Errorf("%v, %v", o.clientErr, o.connErr)
	}
}
