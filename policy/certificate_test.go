package policy_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net/url"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse/policy"
)

func certificate(tb testing.TB) *x509.Certificate {
	tb.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		tb.Fatal(err)
	}
	spiffe, _ := url.Parse("spiffe://acme.example/mixer")
	template := &x509.Certificate{
		SerialNumber: big.NewInt(0x1f00d), Subject: pkix.Name{CommonName: "mixer", Organization: []string{"Acme"}},
		DNSNames: []string{"mixer.acme.example"}, URIs: []*url.URL{spiffe}, EmailAddresses: []string{"ops@acme.example"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(nil, template, template, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// TestCertificate: what policies see, and that it is not there without one.
func TestCertificate(t *testing.T) {
	c := certificate(t)
	p := compile(t, roomy(t), fmt.Sprintf(`package gatehouse.tenant
allow if input.client.cert == {
	"subject": "CN=mixer,O=Acme", "issuer": "CN=mixer,O=Acme", "serial": "1f00d", "fingerprint": "%x",
	"san": {"dns": ["mixer.acme.example"], "uri": ["spiffe://acme.example/mixer"], "email": ["ops@acme.example"]},
	"not_after": 253402300799000000000,
}
reason := "none" if not input.client.cert
`, sha256.Sum256(c.Raw)))
	in := salary()
	for range 2 {
		in.Cert = policy.NewCertificate(c)
		if d := p.Decide(in); !d.Allow {
			t.Errorf("%+v", d)
		}
		in.Cert = nil
		if d := p.Decide(in); d.Allow || d.Reason != "none" {
			t.Errorf("%+v", d)
		}
	}
	in.Cert = policy.NewCertificate(c)
	if n := testing.AllocsPerRun(100, func() { p.Decide(in) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
