package identity

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"testing"
	"time"

	gatehouse "github.com/gatehouse-gateway/gatehouse"
)

// issue makes a certificate of template for the key, by parent or by itself.
func issue(t testing.TB, template, parent *x509.Certificate, key, by *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	template.NotBefore, template.NotAfter = noon.Add(-time.Hour), noon.Add(time.Hour)
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// What policy reads of a client certificate.
func TestCertificateDescribed(t *testing.T) {
	key := private().p256
	root := issue(t, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Root", Organization: []string{"Acme, Inc."}},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, key, key)
	leaf := issue(t, &x509.Certificate{
		SerialNumber: big.NewInt(0xbeef), Subject: pkix.Name{CommonName: "billing"}, DNSNames: []string{"billing.acme.test", "b.test"},
		URIs: []*url.URL{{Scheme: "spiffe", Host: "acme", Path: "/billing"}}, EmailAddresses: []string{"b@acme.test"}, IPAddresses: []net.IP{net.IPv4(192, 0, 2, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, root, key, key)
	v := compile(t, "acme", gatehouse.Identity{ClientCertificates: &gatehouse.ClientCertificates{
		CAFile: "ca.pem", CA: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw})),
	}})
	who, err := v.Certificate([]*x509.Certificate{leaf}, noon)
	if err != nil {
		t.Fatal(err)
	}
	c := *who.Certificate
	if hex.EncodeToString(mustDecode(t, c.Thumbprint)) != c.Fingerprint || len(c.Fingerprint) != 64 || c.Thumbprint != Thumbprint(leaf) {
		t.Errorf("fingerprint %s, thumbprint %s", c.Fingerprint, c.Thumbprint)
	}
	c.Fingerprint, c.Thumbprint = "", ""
	const want = `{Subject:billing Issuer:CN=Root,O=Acme\, Inc. Serial:beef DNS:[billing.acme.test b.test] URI:[spiffe://acme/billing] Email:[b@acme.test] IP:[192.0.2.1] Fingerprint: Thumbprint:}`
	if got := fmt.Sprintf("%+v", c); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	if who.Principal.ID != "cert:billing" || who.Method != MethodCertificate || !who.Expires.Equal(leaf.NotAfter) {
		t.Errorf("%+v", who)
	}
}

// The thumbprint of the certificate of RFC 8705, appendix A.
func TestThumbprint(t *testing.T) {
	der := mustDecode(t, "MIIBBjCBrAIBAjAKBggqhkjOPQQDAjAPMQ0wCwYDVQQDDARtdGxzMB4XDTE4MTAxODEyMzcwOVoXDTIyMDUwMjEyMzcwOVowDzENMAsGA1UEAwwEbXRsczBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABNcnyxwqV6hY8QnhxxzFQ03C7HKW9OylMbnQZjjJ_Au08_coZwxS7LfA4vOLS9WuneIXhbGGWvsDSb0tH6IxLm8wCgYIKoZIzj0EAwIDSQAwRgIhAP0RC1E-vwJD_D1AGHGzuri-hlV_PpQEKTWUVeORWz83AiEA5x2eXZOVbUlJSGQgjwD5vaUaKlLR50Q2DmFfQj1L-SY")
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if got := Thumbprint(c); got != "A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0" {
		t.Error(got)
	}
}

func mustDecode(t testing.TB, s string) []byte {
	t.Helper()
	b, err := base64url.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
