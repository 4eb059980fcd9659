package proxy_test

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse/policy"
	"github.com/gatehouse-gateway/gatehouse/proxy/proxytest"
)

// A tenant that requires client certificates is not reached without one: not
// without SNI, nor over the listener without TLS.
func TestRequiredCertificateEverywhere(t *testing.T) {
	ours := proxytest.NewAuthority(t, "ours")
	ca := filepath.Join(t.TempDir(), "ours.pem")
	if err := os.WriteFile(ca, ours.PEM, 0o600); err != nil {
		t.Fatal(err)
	}
	s := secure(t, `tenants:
  - id: strict
    domain: strict.test
    identity: {client_certificates: {ca_file: `+ca+`, required: true}}
    backends: [{id: app, endpoints: [{url: "http://app.test"}]}]
    routes: [{id: open, match: {path: /}, auth: none, backend: app}]
`, map[string][]string{"all": {"strict.test"}, "default": {"default.test"}})
	const request = "GET / HTTP/1.1\nHost: strict.test\nConnection: close\n\n"
	if got := identified(s.ask("", request, func(c *tls.Config) { c.InsecureSkipVerify, c.ServerName = true, "" })); got != "421\nGH-AD-008" {
		t.Errorf("without SNI: %s", got)
	}
	if got := identified(s.Do(request)); got != "421\nGH-AD-008" {
		t.Errorf("without TLS: %s", got)
	}
	pair, err := tls.X509KeyPair(ours.Client("laptop", ""))
	if err != nil {
		t.Fatal(err)
	}
	if got := identified(s.ask("strict.test", request, func(c *tls.Config) { c.Certificates = []tls.Certificate{pair} })); got != "200" {
		t.Errorf("with a certificate: %s", got)
	}
}

// A field that policy sets or removes is not passed in the spelling that CGI
// takes for the same.
func TestObligationsAgainstUnderscores(t *testing.T) {
	h := proxytest.New(t, `tenants:
  - id: studio
    domain: studio.test
    backends: [{id: app, endpoints: [{url: "http://app.test"}]}]
    routes: [{id: all, match: {path: /}, auth: none, backend: app}]
    policy:
      modules:
        - name: live.rego
          source: |
            package gatehouse.tenant
            allow := true
            obligations := {"headers": {"set": {"x-user-tier": "free"}, "remove": ["x-debug"]}}
`)
	answer := h.Do("GET / HTTP/1.1\nHost: studio.test\nX_User_Tier: gold\nX_Debug: 1\nX-Other_Field: 1\n\n")
	if strings.Contains(answer, "gold") || strings.Contains(answer, "Debug: 1") || !strings.Contains(answer, "X-Other_Field: 1") && !strings.Contains(answer, "X-Other_field: 1") {
		t.Errorf("%s", answer)
	}
}

// What was kept of a removed tenant's decisions is not shown to one that is
// made anew under its id.
func TestDecisionsAreNotInherited(t *testing.T) {
	h := proxytest.New(t, watched)
	h.Do("GET /first HTTP/1.1\nHost: studio.test\n\n")
	if out := h.Apply("tenants: []\n"); len(out.Removed) != 1 {
		t.Fatal(out)
	}
	h.Apply(watched)
	entries, err := h.Gateway.Decisions("studio", policy.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(slices.Collect(entries)); n != 0 {
		t.Errorf("%d decisions of another tenant's", n)
	}
}

// A shadow does not outlive the mask that it was made with.
func TestShadowFollowsKeyHeader(t *testing.T) {
	expand := credentials(t)
	document := func(header string) string {
		return expand(fmt.Sprintf(`tenants:
  - id: studio
    domain: studio.test
    identity: {api_keys: {header: %s, keys: [{id: ci, hash: "$HASH1"}]}}
    backends: [{id: app, endpoints: [{url: "http://app.test"}]}]
    routes: [{id: all, match: {path: /}, auth: optional, backend: app}]
    policy:
      modules: [{name: live.rego, source: "package gatehouse.tenant\nallow := true"}]
      shadow: [{name: next.rego, source: "package gatehouse.tenant\nallow if count(input.request.headers) == 0"}]
`, header))
	}
	h := proxytest.New(t, document("X-One"))
	h.Run(t)
	h.Apply(document("X-Two"))
	h.Do(expand("GET / HTTP/1.1\nHost: studio.test\nX-Two: $KEY1\n\n"))
	report := shadowReport(t, h, 1)
	if text := fmt.Sprintf("%+v", report.Changes[0].Entry); strings.Contains(text, expand("$KEY1")) {
		t.Errorf("the report holds the key: %s", text)
	}
	b, err := report.Changes[0].Entry.MarshalJSON()
	if err != nil || strings.Contains(string(b), expand("$KEY1")) {
		t.Errorf("%s %v", b, err)
	}
}
