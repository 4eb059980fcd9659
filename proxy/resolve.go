package proxy

import (
	"bytes"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/proxy/identity"
	"github.com/gatehouse-gateway/gatehouse/proxy/ingress"
)

func refuse(code gatehouse.Code, message string) error {
	return &gatehouse.Error{Code: code, Message: message}
}

// resolve finds the tenant: by host, or on a platform domain by credential.
func (g *Gateway) resolve(x *Exchange) error {
	s := g.hosts.Find(x.In.Host)
	if s == nil {
		return refuse(gatehouse.CodeUnknownTenant, "this host is not served here")
	}
	if s.platform != nil {
		x.domain = s.platform
		found, err := g.resolveCredential(x)
		if err != nil {
			return err
		}
		s = found
	}
	if x.ServerName != "" && x.ServerName != string(x.In.Host) && g.hosts.Find(x.text(x.ServerName)) != g.hosts.Find(x.In.Host) {
		// The handshake, with its certificates, was another tenant's.
		return refuse(gatehouse.CodeMisdirected, "this connection was opened for another host")
	}
	if x.table = s.table.Load(); x.table == nil { // removed since it was found
		return refuse(gatehouse.CodeUnknownTenant, "this host is not served here")
	}
	x.fetched = x.table.prefetch()
	if x.secured != nil && x.secured.Version < x.table.minTLS {
		// Its handshake named another host, or none, or was before the change.
		return refuse(gatehouse.CodeMisdirected, "this host is served over a later version of TLS")
	}
	if x.table.needsCertificate {
		// The handshake asked for one if it named this host; else, and on the
		// listener without TLS, nobody has.
		if who, err := x.transport.certificate(x.table.verifier, x.start); err != nil || who == nil {
			return refuse(gatehouse.CodeMisdirected, "this host is served to callers with a client certificate")
		}
	}
	return nil
}

// resolveCredential finds the tenant that the request's key or token belongs
// to. It only names a candidate: identify verifies.
func (g *Gateway) resolveCredential(x *Exchange) (*slot, error) {
	c, err := x.credentials(gatehouse.DefaultKeyHeader)
	if err != nil {
		return nil, err
	}
	var found []gatehouse.TenantID
	missed := false
	note := func(id gatehouse.TenantID, ok bool) {
		if ok {
			found = append(found, id)
		}
		missed = missed || !ok
	}
	if c.key != nil && x.domain.by(ResolveKey) {
		note(g.directory.TenantOfKey(c.key))
	}
	if c.token != nil && x.domain.by(ResolveToken) {
		note(g.directory.TenantOfToken(c.token))
	}
	switch {
	case missed:
		return nil, refuse(gatehouse.CodeInvalidCredential, "the credential is not accepted")
	case len(found) == 0:
		return nil, refuse(gatehouse.CodeUnauthenticated, "on this host a key or token says which tenant is meant")
	case len(found) == 2 && found[0] != found[1]:
		return nil, refuse(gatehouse.CodeForeignCredential, "the credentials belong to different tenants")
	}
	s := g.tenants.Find([]byte(found[0]))
	if s == nil {
		return nil, refuse(gatehouse.CodeInvalidCredential, "the credential is not accepted")
	}
	return s, nil
}

func verifierOf(t *table) *identity.Verifier {
	if t == nil {
		return nil
	}
	return t.verifier
}

// limitValues serves the `by` selectors of limits from the exchange.
type limitValues Exchange

// Value returns the value that a selector picks, and whether there is one.
func (v *limitValues) Value(s gatehouse.Selector) ([]byte, bool) {
	x := (*Exchange)(v)
	switch s.Kind {
	case "principal":
		if x.who != nil {
			return x.text(x.who.Principal.ID), true
		}
	case "key":
		if x.who != nil && x.who.KeyID != "" {
			return x.text(string(x.who.KeyID)), true
		}
	case "address":
		return x.counted(), true
	case "header":
		return x.In.First(s.Name)
	case "cookie":
		return x.cookie(s.Name)
	case "claim":
		if x.who != nil {
			if text, ok := x.who.Principal.Claims[s.Name].(string); ok {
				return x.text(text), true
			}
		}
	}
	return nil, false
}

func (x *Exchange) cookie(name string) ([]byte, bool) {
	for i := range x.In.Fields {
		if x.In.Fields[i].Kind != ingress.Cookie {
			continue
		}
		for list := x.In.Fields[i].Value; len(list) > 0; {
			var pair []byte
			pair, list, _ = bytes.Cut(list, []byte(";"))
			k, v, ok := bytes.Cut(bytes.TrimSpace(pair), []byte("="))
			if ok && string(k) == name {
				return v, true
			}
		}
	}
	return nil, false
}

// methodError is a 405 with the methods that would do.
type methodError struct{ allow []string }

func (*methodError) Error() string { return "method not allowed" }

// Unwrap gives the code.
func (*methodError) Unwrap() error { return errMethod }

var errMethod = &gatehouse.Error{Code: gatehouse.CodeMethodNotAllowed, Message: "the route does not take this method"}
