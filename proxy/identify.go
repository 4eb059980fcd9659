package proxy

import (
	"bytes"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/policy"
	"github.com/gatehouse-gateway/gatehouse/proxy/identity"
	"github.com/gatehouse-gateway/gatehouse/proxy/ingress"
)

// anyCredential is the order in which credentials are looked for where the
// route does not say. The one of the handshake is last: a key or token is of
// this very request.
var anyCredential = []gatehouse.Credential{
	gatehouse.CredentialKey, gatehouse.CredentialJWT, gatehouse.CredentialOpaque, gatehouse.CredentialCertificate,
}

// credentials are what a request's fields show of its caller. Its slices are
// the request's.
type credentials struct {
	key, token []byte // nil where there is none
	scheme     identity.Scheme
}

// credentials returns the API key and the token of the request. A key of ours
// may also come as a bearer token.
func (x *Exchange) credentials(keyHeader string) (c credentials, err error) {
	key, n := x.In.Sole(keyHeader)
	if n > 1 {
		return c, refuse(gatehouse.CodeAmbiguousIdentity, "the request has more than one API key")
	}
	c.key, n = key, 0
	for i := range x.In.Fields {
		f := &x.In.Fields[i]
		if f.Kind != ingress.Authorization {
			continue
		}
		if n++; n > 1 {
			return c, refuse(gatehouse.CodeAmbiguousIdentity, "the request has more than one Authorization")
		}
		scheme, rest, _ := bytes.Cut(f.Value, []byte(" "))
		switch rest = bytes.TrimLeft(rest, " "); {
		case len(rest) == 0:
		case ingress.EqualFold(scheme, string(identity.SchemeBearer)):
			c.token, c.scheme = rest, identity.SchemeBearer
		case ingress.EqualFold(scheme, string(identity.SchemeDPoP)):
			c.token, c.scheme = rest, identity.SchemeDPoP
		}
	}
	if bytes.HasPrefix(c.token, []byte(gatehouse.KeyPrefix)) {
		if c.key != nil {
			return c, refuse(gatehouse.CodeAmbiguousIdentity, "the request has more than one API key")
		}
		return credentials{key: c.token}, nil
	}
	return c, nil
}

// identify proves who the caller is, as far as the route asks for it.
func (g *Gateway) identify(x *Exchange) error {
	if x.route.auth == gatehouse.AuthNone && x.domain == nil {
		return nil
	}
	v := x.table.verifier
	header := v.KeyHeader()
	if header == "" || x.domain != nil { // as resolve read it
		header = gatehouse.DefaultKeyHeader
	}
	c, err := x.credentials(header)
	if err != nil {
		return err
	}
	if v.KeyHeader() == "" && !gatehouse.WellFormedKey(c.key) {
		c.key = nil // the tenant takes no keys of ours, and this is none
	}
	if c.token != nil && x.domain == nil && !takes(v, c.token) {
		if _, known := g.directory.TenantOfToken(c.token); !known {
			c.token = nil // an Authorization that is the backend's own
		}
	}
	x.spent = c.token != nil // ours, judged or not: no backend's to see
	if len(x.route.all) > 0 {
		return g.identifyAll(x, v, &c)
	}
	if c.key != nil && c.token != nil {
		return refuse(gatehouse.CodeAmbiguousIdentity, "the request has an API key and a token; send one")
	}
	for _, kind := range x.route.any {
		if who, has, err := g.prove(x, v, &c, kind); has || err != nil {
			x.who = who
			return err
		}
	}
	if c.key != nil || c.token != nil {
		return refuse(gatehouse.CodeUnauthenticated, "this route takes another kind of credential")
	}
	if x.route.auth == gatehouse.AuthRequired {
		return refuse(gatehouse.CodeUnauthenticated, "this route needs a credential")
	}
	return nil
}

// takes reports whether a tenant judges tokens of this form.
func takes(v *identity.Verifier, token []byte) bool {
	if v.TakesTokens() {
		return true
	}
	return v.TakesOpaque() && !identity.IsJWT(token)
}

// identifyAll proves every credential that the route asks for. The first says
// who the caller is.
func (g *Gateway) identifyAll(x *Exchange, v *identity.Verifier, c *credentials) error {
	var first *identity.Verified
	missing := 0
	for _, kind := range x.route.all {
		who, has, err := g.prove(x, v, c, kind)
		if err != nil {
			return err
		}
		if !has {
			missing++
		} else if first == nil {
			first = who
		}
	}
	if missing == 0 {
		x.who = first
		return nil
	}
	if missing == len(x.route.all) && x.route.auth == gatehouse.AuthOptional && c.key == nil && c.token == nil {
		return nil
	}
	return refuse(gatehouse.CodeUnauthenticated, "this route needs several credentials at once, and one is missing")
}

// prove judges the request's credential of one kind, if it has one.
func (g *Gateway) prove(x *Exchange, v *identity.Verifier, c *credentials, kind gatehouse.Credential) (who *identity.Verified, has bool, err error) {
	if x.dry {
		return g.judge(x, v, c, kind)
	}
	switch kind {
	case gatehouse.CredentialKey:
		if c.key == nil {
			return nil, false, nil
		}
		who, err = v.Key(c.key, x.client, x.start)
		if err != nil && g.foreignKey(x, c.key) {
			err = refuse(gatehouse.CodeForeignCredential, "the API key belongs to another tenant")
		}
		return who, true, err
	case gatehouse.CredentialJWT:
		if c.token == nil || opaque(v, c.token) {
			return nil, false, nil
		}
		x.present(c)
		if who, err = v.Token(c.token, &x.presented, x.start); err != nil && g.foreignToken(x, c.token) {
			err = refuse(gatehouse.CodeForeignCredential, "the token belongs to another tenant")
		}
		return who, true, err
	case gatehouse.CredentialOpaque:
		if c.token == nil || !opaque(v, c.token) {
			return nil, false, nil
		}
		x.present(c)
		who, err = v.Opaque(c.token, &x.presented, x.start)
		return who, true, err
	case gatehouse.CredentialCertificate:
		who, err = x.transport.certificate(v, x.start)
		return who, who != nil, err
	}
	return nil, false, nil
}

// opaque reports whether a token is one to ask its server about. Where the
// tenant has no such server, whatever it is, it is judged as a JWT.
func opaque(v *identity.Verifier, token []byte) bool {
	return v.TakesOpaque() && !identity.IsJWT(token)
}

// present notes what the request shows beside its token.
func (x *Exchange) present(c *credentials) {
	x.presented = identity.Presented{Scheme: c.scheme, Client: x.client, Certificate: x.transport.thumbprint()}
	if c.scheme == identity.SchemeDPoP {
		p := &x.presented
		p.Proof, p.Proofs = x.In.Sole(proofField)
		p.Method, p.Secure, p.Authority, p.Path = x.In.Method, x.TLS, x.In.Authority, x.In.RawPath
	}
}

// proofField carries the proof of a DPoP request (RFC 9449, 4.1).
const proofField = "DPoP"

// clientCertificate returns what policy sees of the certificate of the
// handshake, where the tenant's authorities vouch for it.
func (x *Exchange) clientCertificate() *policy.Certificate {
	if x.secured == nil || len(x.secured.PeerCertificates) == 0 {
		return nil
	}
	if who, err := x.transport.certificate(x.table.verifier, x.start); err == nil && who != nil {
		return who.Certificate
	}
	return nil
}

// foreignKey reports whether a refused key is good at another tenant, from
// where the caller is and now. Of a key that is not, nobody learns whose it was.
func (g *Gateway) foreignKey(x *Exchange, key []byte) bool {
	id, ok := g.directory.TenantOfKey(key)
	t := g.other(x, id, ok)
	return t != nil && t.verifier.GenuineKey(key, x.client, x.start)
}

// foreignToken reports whether a refused token is good at another tenant. It
// is verified there, so that a forged token learns nothing, and nothing of that
// tenant is changed.
func (g *Gateway) foreignToken(x *Exchange, token []byte) bool {
	id, ok := g.directory.TenantOfToken(token)
	t := g.other(x, id, ok)
	return t != nil && t.verifier.GenuineToken(token, &x.presented, x.start, x.table.verifier)
}

// other returns the table of a tenant that was found, nil where it is the
// request's own or not served.
func (g *Gateway) other(x *Exchange, id gatehouse.TenantID, found bool) *table {
	if !found || string(id) == x.table.id {
		return nil
	}
	s := g.tenants.Find([]byte(id))
	if s == nil {
		return nil
	}
	return s.table.Load()
}
