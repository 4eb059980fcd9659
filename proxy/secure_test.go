package proxy_test

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse/proxy"
	"github.com/gatehouse-gateway/gatehouse/proxy/proxytest"
)

// secured is a gateway with a listener over TLS, whose certificates are of an
// authority of its own.
type secured struct {
	*proxytest.Harness
	t         *testing.T
	addr      string
	folder    string // of certificates
	authority *proxytest.Authority
}

func secure(t *testing.T, document string, certificates map[string][]string) *secured {
	t.Helper()
	s := &secured{t: t, folder: t.TempDir(), authority: proxytest.NewAuthority(t, "test authority")}
	for name, hosts := range certificates {
		s.authority.Install(s.folder, name, hosts...)
	}
	s.Harness = proxytest.New(t, document, proxytest.Options{Config: func(c *proxy.Config) { c.TLS.Certificates = s.folder }})
	s.addr = listen(t, s.Gateway.ServeTLS)
	return s
}

// ask sends one request over a connection of its own, with cfg changed by
// change, and returns the answer, or why there was no connection.
func (s *secured) ask(serverName, request string, change func(*tls.Config)) string {
	s.t.Helper()
	cfg := s.authority.Trust(serverName)
	cfg.NextProtos = []string{"http/1.1"}
	if change != nil {
		change(cfg)
	}
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", s.addr, cfg)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		s.t.Fatal(err)
	}
	if _, err := io.WriteString(c, strings.ReplaceAll(request, "\n", "\r\n")); err != nil {
		return err.Error()
	}
	answer, err := proxytest.ReadAnswer(bufio.NewReader(c), "GET")
	if err != nil {
		return err.Error()
	}
	return proxytest.Stable(answer)
}

func TestTLSVersions(t *testing.T) {
	h := secure(t, "tenants:"+one("old", "old.test", "old.app")+one("new", "new.test", "new.app")+"    tls: {min_version: \"1.3\"}\n",
		map[string][]string{"both": {"old.test", "new.test"}})
	f := func(host string, version uint16, want string) {
		t.Helper()
		got := h.ask(host, "GET / HTTP/1.1\nHost: "+host+"\n\n", func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, version })
		if !strings.Contains(got, want) {
			t.Errorf("%s by %s: %s", host, tls.VersionName(version), got)
		}
	}
	f("old.test", tls.VersionTLS13, "HTTP/1.1 200")
	f("old.test", tls.VersionTLS12, "HTTP/1.1 200")
	f("old.test", tls.VersionTLS11, "protocol version")
	f("new.test", tls.VersionTLS13, "HTTP/1.1 200")
	f("new.test", tls.VersionTLS12, "protocol version")
	f("new.test", tls.VersionTLS13, "\nX-Forwarded-Proto: https\n")
}

// A connection is of the tenant that its handshake named, whatever its
// requests say.
func TestMisdirected(t *testing.T) {
	h := secure(t, "tenants:"+one("a", "a.test", "a.app")+one("b", "b.test", "b.app")+one("c", "c.test", "c.app")+"    aliases: [\"*.c.test\"]\n",
		map[string][]string{"all": {"a.test", "b.test", "c.test", "x.c.test"}, "default": {"default.test"}})
	f := func(serverName, host, want string) {
		t.Helper()
		if got := status(h.ask(serverName, "GET / HTTP/1.1\nHost: "+host+"\n\n", func(c *tls.Config) { c.InsecureSkipVerify = serverName == "other.test" })); got != want {
			t.Errorf("%s on a connection for %s: %s, want %s", host, serverName, got, want)
		}
	}
	f("a.test", "a.test", "200")
	f("a.test", "A.test:443", "200")
	f("a.test", "b.test", "421")
	f("a.test", "nobody.test", "404")
	f("c.test", "y.c.test", "200")
	f("x.c.test", "c.test", "200")
	f("x.c.test", "a.test", "421")
	f("other.test", "a.test", "421") // the default certificate is nobody's
}

func TestClientCertificates(t *testing.T) {
	ours, theirs := proxytest.NewAuthority(t, "ours"), proxytest.NewAuthority(t, "theirs")
	folder := t.TempDir()
	files := map[string][]byte{"ours.pem": ours.PEM, "theirs.pem": theirs.PEM}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tenant := func(id, settings string) string {
		return fmt.Sprintf(`
  - id: %[1]s
    domain: %[1]s.test
    identity: {client_certificates: {%[2]s}}
    backends: [{id: app, endpoints: [{url: "http://%[1]s.app"}]}]
    routes:
      - {id: open, match: {path: /open/}, auth: optional, backend: app}
      - {id: all, match: {path: /}, backend: app}
      - {id: admin, match: {path: /admin/}, backend: app}
    policy:
      modules:
        - name: roles.rego
          source: |
            package gatehouse.tenant
            import rego.v1
            default allow := false
            allow if input.route != "admin"
            allow if "admin" in input.principal.roles
`, id, settings)
	}
	h := secure(t, "tenants:"+
		tenant("cn", "ca_file: "+folder+"/ours.pem")+
		tenant("uri", "ca_file: "+folder+"/ours.pem, principal: uri, roles: [admin]")+
		tenant("strict", "ca_file: "+folder+"/ours.pem, required: true")+
		tenant("other", "ca_file: "+folder+"/theirs.pem"),
		map[string][]string{"all": {"cn.test", "uri.test", "strict.test", "other.test"}})
	identity := func(cert, key []byte) func(*tls.Config) {
		return func(c *tls.Config) {
			pair, err := tls.X509KeyPair(cert, key)
			if err != nil {
				t.Fatal(err)
			}
			// As a client without scruples: whatever the server asks for.
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		}
	}
	nobody := func(*tls.Config) {}
	robot := identity(ours.Client("robot", "spiffe://test/robot"))
	plain := identity(ours.Client("robot", ""))
	foreign := identity(theirs.Client("robot", "spiffe://test/robot"))
	f := func(host, path string, who func(*tls.Config), want string) {
		t.Helper()
		got := h.ask(host, "GET "+path+" HTTP/1.1\nHost: "+host+"\n\n", who)
		line, _, _ := strings.Cut(got, "\n")
		if _, principal, ok := strings.Cut(got, "X-Gatehouse-Principal: "); ok {
			principal, _, _ = strings.Cut(principal, "\n")
			line += " " + principal
		}
		if !strings.Contains(line, want) {
			t.Errorf("%s%s: %s, want %s", host, path, line, want)
		}
	}
	f("cn.test", "/", robot, "200 OK cert:robot")
	f("cn.test", "/", nobody, "401 Unauthorized")
	f("cn.test", "/open/", nobody, "200 OK")
	f("cn.test", "/open/", robot, "200 OK cert:robot")
	f("cn.test", "/admin/", robot, "403 Forbidden")
	f("uri.test", "/", robot, "200 OK cert:spiffe://test/robot")
	f("uri.test", "/admin/", robot, "200 OK cert:spiffe://test/robot")
	f("uri.test", "/", plain, "401 Unauthorized") // nothing names its holder
	f("strict.test", "/open/", robot, "200 OK cert:robot")
	f("strict.test", "/open/", nobody, "remote error: tls: ")
	f("cn.test", "/", foreign, "remote error: tls: ")
	f("other.test", "/", foreign, "200 OK cert:robot")
	f("other.test", "/", robot, "remote error: tls: ")

	// A connection outlives a change of its tenant's authorities, and what it
	// proved does not.
	cfg := h.authority.Trust("cn.test")
	robot(cfg)
	c, err := tls.Dial("tcp", h.addr, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReader(c)
	ask := func() string {
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: cn.test\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		answer, err := proxytest.ReadAnswer(r, "GET")
		if err != nil {
			t.Fatal(err)
		}
		return status(answer)
	}
	before := ask()
	h.Apply("tenants:" + tenant("cn", "ca_file: "+folder+"/theirs.pem"))
	if after := ask(); before != "200" || after != "401" {
		t.Errorf("%s, and %s after the change", before, after)
	}
}

// A certificate that is saved is the next handshake's.
func TestCertificateSwap(t *testing.T) {
	h := secure(t, "tenants:"+one("a", "a.test", "a.app"), map[string][]string{"a": {"a.test"}})
	h.Run(t)
	serial := func() string {
		c, err := tls.Dial("tcp", h.addr, h.authority.Trust("a.test"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	before := serial()
	h.authority.Install(h.folder, "a", "a.test")
	for deadline := time.Now().Add(10 * time.Second); serial() == before; {
		if time.Now().After(deadline) {
			t.Fatal("the old certificate is still shown")
		}
	}
}

// The record of a request says what it came over.
func TestRecordOfTLS(t *testing.T) {
	h := secure(t, "tenants:"+one("a", "a.test", "a.app"), map[string][]string{"a": {"a.test"}})
	h.ask("a.test", "GET / HTTP/1.1\nHost: a.test\n\n", nil)
	var r struct {
		TLS      string `json:"tls"`
		Protocol string
	}
	if err := json.Unmarshal([]byte(h.Access()), &r); err != nil || r.TLS != "1.3" || r.Protocol != "HTTP/1.1" {
		t.Errorf("%+v, %v", r, err)
	}
}
