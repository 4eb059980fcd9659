package identity

import (
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	gatehouse "github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/policy"
)

// MethodCertificate is the value of Verified.Method for a client certificate.
const MethodCertificate = "certificate"

const kindCertificate = "certificate"

// certIDPrefix begins the id of a principal that a certificate names.
const certIDPrefix = "cert:"

// certificates verifies the client certificates of one tenant.
type certificates struct {
	doc  *gatehouse.ClientCertificates
	pool *x509.CertPool
}

// compileCertificates keeps the pool of prev where the authorities are the
// same: TLS handshakes and sessions go by its identity.
func compileCertificates(doc *gatehouse.ClientCertificates, prev *Verifier) (*certificates, gatehouse.Faults) {
	if doc == nil {
		return nil, nil
	}
	if prev != nil && prev.certificates != nil && prev.certificates.doc.CA == doc.CA {
		return &certificates{doc, prev.certificates.pool}, nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(doc.CA)) {
		return nil, gatehouse.Faults{{Pointer: "/client_certificates/ca_file", Reason: "the file holds no certificate", Hint: "PEM blocks of type CERTIFICATE are read"}}
	}
	return &certificates{doc, pool}, nil
}

// ClientCAs returns the authorities of the tenant's client certificates, nil
// when it takes none. It is not to be changed.
func (v *Verifier) ClientCAs() *x509.CertPool {
	if v.certificates == nil {
		return nil
	}
	return v.certificates.pool
}

// Certificate returns who the caller is that showed chain, its own certificate
// first, in the TLS handshake. The chain is verified against the tenant's
// authorities of now, whatever the handshake made of it. The error is a
// *gatehouse.Error with CodeInvalidCredential.
func (v *Verifier) Certificate(chain []*x509.Certificate, now time.Time) (*Verified, error) {
	c := v.certificates
	if c == nil || len(chain) == 0 {
		return nil, invalid("the client certificate is not accepted", errors.New("the tenant takes no client certificates"))
	}
	leaf, between := chain[0], x509.NewCertPool()
	for _, cert := range chain[1:] {
		between.AddCert(cert)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{
		Roots: c.pool, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}); err != nil {
		return nil, invalid("the client certificate is not accepted", err)
	}
	name, err := c.name(leaf)
	if err != nil {
		return nil, invalid("the client certificate does not name its holder", err)
	}
	return &Verified{
		Principal:   policy.NewPrincipal(kindCertificate, certIDPrefix+name, string(v.tenant), c.doc.Roles, nil, nil, nil),
		Method:      MethodCertificate,
		Expires:     leaf.NotAfter,
		Certificate: policy.NewCertificate(leaf),
	}, nil
}

func uris(cert *x509.Certificate) []string {
	var texts []string
	for _, u := range cert.URIs {
		texts = append(texts, u.String())
	}
	return texts
}

// name returns the part of the certificate that names the caller. More than
// one value could be read as either, so there must be just one.
func (c *certificates) name(leaf *x509.Certificate) (string, error) {
	var names []string
	switch c.doc.Principal {
	case gatehouse.PrincipalDNS:
		names = leaf.DNSNames
	case gatehouse.PrincipalEmail:
		names = leaf.EmailAddresses
	case gatehouse.PrincipalURI:
		names = uris(leaf)
	default:
		names = []string{leaf.Subject.CommonName}
	}
	if len(names) != 1 || names[0] == "" {
		return "", fmt.Errorf("%d names of kind %q in the certificate", len(names), c.doc.Principal)
	}
	return names[0], nil
}
