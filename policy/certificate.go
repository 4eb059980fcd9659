package policy

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Certificate is input.client.cert: what policies see of the certificate that
// a client presented. It is made once per connection by NewCertificate, and is
// read-only from then on: safe for concurrent use and for keeping.
type Certificate struct {
	term *ast.Term
	node *node // the same, for cache keys
	// left is what the mask that last asked leaves of node.
	left atomic.Pointer[maskedNode]
}

// NewCertificate prepares c, which the caller has verified: policies take what
// it says for true.
func NewCertificate(c *x509.Certificate) *Certificate {
	sum := sha256.Sum256(c.Raw)
	uris := make([]string, len(c.URIs))
	for i, u := range c.URIs {
		uris[i] = u.String()
	}
	serial := ""
	if c.SerialNumber != nil {
		serial = c.SerialNumber.Text(16)
	}
	// RFC 5280 has 99991231235959Z for "no end": over 2^63 nanoseconds.
	notAfter := json.Number("0")
	if seconds := c.NotAfter.Unix(); seconds > 0 {
		notAfter = json.Number(strconv.FormatInt(seconds, 10) + "000000000")
	}
	return newCertificate(map[string]any{
		"subject": clean(c.Subject.String()), "issuer": clean(c.Issuer.String()),
		"san":    map[string]any{"dns": c.DNSNames, "uri": uris, "email": c.EmailAddresses},
		"serial": serial, "fingerprint": hex.EncodeToString(sum[:]), "not_after": notAfter,
	})
}

// clean is s as JSON can hold it.
func clean(s string) string { return strings.ToValidUTF8(s, "\ufffd") }

// masked is what m leaves of c. The text is empty without a certificate.
func (c *Certificate) masked(m *Mask) *maskedNode {
	if c == nil {
		return &maskedNode{}
	}
	left := c.left.Load()
	if left == nil || left.mask != m {
		left = m.maskNode(c.node, "/input/client/cert", m.cert)
		c.left.Store(left)
	}
	return left
}

func newCertificate(members map[string]any) *Certificate {
	c := &Certificate{}
	c.term, c.node = convert(members)
	return c
}

func (c *Certificate) appendKey(dst []byte, path []string) []byte {
	if c == nil {
		return append(dst, missing)
	}
	return appendNode(dst, c.node.at(path))
}
