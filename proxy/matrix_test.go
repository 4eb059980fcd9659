package proxy_test

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/configs"
	"github.com/gatehouse-gateway/gatehouse/proxy"
	"github.com/gatehouse-gateway/gatehouse/proxy/proxytest"
)

// Every kind of credential of one tenant, shown at another: it is refused, the
// answer names nothing of either, the credential still works at home, and no
// second try at the other passes on what the first has left in a cache.
func TestCrossTenant(t *testing.T) {
	expand := credentials(t)
	folder := t.TempDir()
	cas := map[string]*proxytest.Authority{}
	for _, id := range []string{"studio", "label"} {
		cas[id] = proxytest.NewAuthority(t, id+" clients")
		if err := os.WriteFile(filepath.Join(folder, id+".pem"), cas[id].PEM, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var asked []string
	tenant := func(id, hash, previous string) string {
		return `
  - id: ` + id + `
    domain: ` + id + `.test
    identity:
      api_keys: {keys: [{id: ci, hash: "` + hash + `", previous: {hash: "` + previous + `", until: "2100-01-01T00:00:00Z"}}]}
      jwt: [{issuer: "https://id.` + id + `.example.com/", audience: [` + id + `-api], algorithms: [EdDSA], jwks_file: testdata/` + id + `.jwks.json, tenant_claim: tenant}]
      client_certificates: {ca_file: ` + filepath.Join(folder, id+".pem") + `}
      introspection: {url: "http://as-` + id + `.test/introspect", client_id: gatehouse, client_secret_file: testdata/hs256.secret}
    backends: [{id: app, endpoints: [{url: "http://app-` + id + `.test"}]}]
    routes: [{id: all, match: {path: /}, backend: app}]`
	}
	document := expand("tenants:" + tenant("studio", "$HASH1", "$HASH3") + tenant("label", "$HASH2", "$HASH4") + "\n")
	certificates := t.TempDir()
	servers := proxytest.NewAuthority(t, "servers")
	servers.Install(certificates, "all", "studio.test", "label.test")
	h := proxytest.New(t, document, proxytest.Options{
		Config: func(c *proxy.Config) { c.TLS.Certificates = certificates },
		Backends: map[string]proxytest.Script{
			"as-studio.test:80": authorizationServer(t, "good-studio", &asked), "as-label.test:80": authorizationServer(t, "good-label", new([]string)),
		},
	})
	s := &secured{Harness: h, t: t, authority: servers, addr: listen(t, h.Gateway.ServeTLS)}

	ofStudio, err := tls.X509KeyPair(cas["studio"].Client("laptop", ""))
	if err != nil {
		t.Fatal(err)
	}
	f := func(what, field string, own func(*tls.Config), foreign string) {
		t.Helper()
		ask := func(host string) string {
			return s.ask(host, "GET / HTTP/1.1\nHost: "+host+"\nConnection: close\n"+expand(field)+"\n", own)
		}
		for range 2 {
			answer := ask("label.test")
			if got, _, _ := strings.Cut(identified(answer), "\n"); got != foreign && !strings.Contains(answer, foreign) {
				t.Errorf("%s at the other tenant: %s", what, answer)
			}
			if body := answer[max(0, strings.Index(answer, "\r\n\r\n")):]; strings.Contains(body, "studio") {
				t.Errorf("%s: the answer tells of its tenant: %s", what, body)
			}
			if answer := ask("studio.test"); !strings.HasPrefix(answer, "HTTP/1.1 200") {
				t.Errorf("%s at home: %s", what, answer)
			}
		}
	}
	f("an API key", "X-API-Key: $KEY1\n", nil, "403")
	f("an API key as a bearer token", "Authorization: Bearer $KEY1\n", nil, "403")
	f("an API key's former secret", "X-API-Key: $KEY3\n", nil, "403")
	f("a token", "Authorization: Bearer $STUDIO_EDITOR\n", nil, "403")
	f("an opaque token", "Authorization: Bearer good-studiozz\n", nil, "401")
	f("a client certificate", "", func(c *tls.Config) {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &ofStudio, nil } // whoever asks
	}, "tls:")
}

// parse returns the tenants of a document without faults.
func parse(t *testing.T, document string) []gatehouse.Tenant {
	t.Helper()
	set := configs.Join(configs.Parse("test.yaml", []byte(document)))
	if errs := set.Problems.Errors(); len(errs) > 0 {
		t.Fatal(errs)
	}
	return set.Document.Tenants
}

// Keys that come as deltas, beside the document: each is accepted from the
// update that brings it, through changes of the document, until the one that
// takes it away; a refused document does not hold up a revocation.
func TestKeyDeltas(t *testing.T) {
	expand := credentials(t)
	document := func(route string) string {
		return expand(`tenants:
  - id: studio
    domain: studio.test
    identity: {api_keys: {keys: [{id: own, hash: "$HASH1"}]}}
    backends: [{id: app, endpoints: [{url: "http://app.test"}]}]
    routes: [{id: ` + route + `, match: {path: /}, backend: app}]
`)
	}
	h := proxytest.New(t, document("all")+strings.Replace(strings.ReplaceAll(strings.TrimPrefix(document("all"), "tenants:\n"), "studio", "label"), expand("$HASH1"), expand("$HASH4"), 1))
	key := func(id, hash string) gatehouse.Key {
		k := gatehouse.Key{ID: gatehouse.KeyID(id)}
		if err := k.Hash.UnmarshalText([]byte(expand(hash))); err != nil {
			t.Fatal(err)
		}
		return k
	}
	revision := uint64(100)
	apply := func(u gatehouse.Update) gatehouse.Outcome {
		revision++
		u.Revision = revision
		return h.Gateway.Apply(u)
	}
	f := func(what, want string) {
		t.Helper()
		var got []string
		for _, k := range []string{"$KEY1", "$KEY2", "$KEY3"} {
			status, _, _ := strings.Cut(identified(h.Do(expand("GET / HTTP/1.1\nHost: studio.test\nX-API-Key: "+k+"\n\n"))), "\n")
			got = append(got, status)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s", what, got, want)
		}
	}
	f("at first", "200 401 401")
	apply(gatehouse.Update{Keys: []gatehouse.KeyChange{{Tenant: "studio", Key: key("two", "$HASH2")}, {Tenant: "nobody", Key: key("x", "$HASH4")}}})
	f("with one more", "200 200 401")
	apply(gatehouse.Update{Tenants: parse(t, document("other"))})
	f("after a change of the document", "200 200 401")
	apply(gatehouse.Update{Keys: []gatehouse.KeyChange{{Tenant: "studio", Key: key("two", "$HASH3")}}})
	f("with another secret", "200 401 200")

	bad := parse(t, document("all"))
	bad[0].Routes[0].Backend = "nowhere"
	out := apply(gatehouse.Update{Tenants: bad, Keys: []gatehouse.KeyChange{{Tenant: "studio", Key: gatehouse.Key{ID: "two"}, Removed: true}}})
	if len(out.Refused) != 1 {
		t.Errorf("a route without backend: %+v", out)
	}
	f("revoked beside a refused document", "200 401 401")
	if out := apply(gatehouse.Update{Keys: []gatehouse.KeyChange{{Tenant: "studio", Key: key("three", "$HASH2")}}}); len(out.Refused) > 0 {
		t.Error(out)
	}
	f("a third", "200 200 401")
	// A key that cannot be had holds up neither a revocation beside it nor
	// what follows.
	out = apply(gatehouse.Update{Keys: []gatehouse.KeyChange{
		{Tenant: "studio", Key: gatehouse.Key{ID: "three"}, Removed: true}, {Tenant: "studio", Key: key("four", "$HASH4")},
	}})
	if len(out.Refused) != 1 || out.Refused[0].Faults[0].Pointer != "/keys/four" {
		t.Errorf("a key of another tenant: %+v", out)
	}
	f("revoked beside a key that is refused", "200 401 401")
	if out := apply(gatehouse.Update{Tenants: parse(t, document("third"))}); len(out.Refused) > 0 {
		t.Errorf("a document after a key that was refused: %+v", out)
	}
	apply(gatehouse.Update{Keys: []gatehouse.KeyChange{{Tenant: "studio", Key: key("three", "$HASH2")}}})
	f("the third again", "200 200 401")
	// A full update takes away what it does not hold, even where the document
	// is refused.
	bad = parse(t, document("all"))
	bad[0].Routes[0].Backend = "nowhere"
	other := parse(t, strings.Replace(strings.ReplaceAll(document("all"), "studio", "label"), expand("$HASH1"), expand("$HASH4"), 1))
	apply(gatehouse.Update{Full: true, Tenants: append(bad, other...)})
	f("a full update without it, of a document that is refused", "200 401 401")
	apply(gatehouse.Update{Keys: []gatehouse.KeyChange{{Tenant: "studio", Key: key("three", "$HASH2")}}})
	f("and once more", "200 200 401")
	apply(gatehouse.Update{RemovedTenants: []gatehouse.TenantID{"studio"}})
	apply(gatehouse.Update{Tenants: parse(t, document("all"))})
	f("after the tenant was removed and made anew", "200 401 401")
}
