package identity

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
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

// Whom a client certificate names.
func TestCertificatePrincipal(t *testing.T) {
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
	if who.Certificate == nil {
		t.Error("policy sees no certificate")
	}
	if who.Principal.ID != "cert:billing" || who.Method != MethodCertificate || !who.Expires.Equal(leaf.NotAfter) {
		t.Errorf("%+v", who)
	}
}
