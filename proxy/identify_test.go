package proxy_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse/proxy/proxytest"
)

func encode64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// object is what encodes as a JSON object.
type object map[string]any

func (o object) text() string {
	b, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	return encode64(b)
}

// studioToken signs claims as the issuer of testdata/studio.jwks.json.
func studioToken(claims object) string {
	all := object{"iss": "https://id.studio.example.com/", "aud": "studio-api", "sub": "ada", "exp": 4102444800, "roles": []string{"editor"}}
	for name, v := range claims {
		all[name] = v
	}
	text := object{"alg": "EdDSA", "kid": "studio-1", "typ": "JWT"}.text() + "." + all.text()
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte("s"), ed25519.SeedSize))
	return text + "." + encode64(ed25519.Sign(key, []byte(text)))
}

// holder has the key that its tokens are bound to by DPoP.
type holder struct{ key *ecdsa.PrivateKey }

func newHolder(t *testing.T) *holder {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &holder{key}
}

func (h *holder) jwk(t *testing.T) object {
	t.Helper()
	raw, err := h.key.PublicKey.Bytes() // 4, x, y
	if err != nil {
		t.Fatal(err)
	}
	return object{"kty": "EC", "crv": "P-256", "x": encode64(raw[1:33]), "y": encode64(raw[33:])}
}

// thumbprint is that of RFC 7638.
func (h *holder) thumbprint(t *testing.T) string {
	t.Helper()
	k := h.jwk(t)
	sum := sha256.Sum256(fmt.Appendf(nil, `{"crv":"P-256","kty":"EC","x":%q,"y":%q}`, k["x"], k["y"]))
	return encode64(sum[:])
}

// proof is one of RFC 9449 for a request.
func (h *holder) proof(t *testing.T, method, url, token string) string {
	t.Helper()
	ath := sha256.Sum256([]byte(token))
	text := object{"typ": "dpop+jwt", "alg": "ES256", "jwk": h.jwk(t)}.text() + "." +
		object{"htm": method, "htu": url, "iat": time.Now().Unix(), "jti": rand.Text(), "ath": encode64(ath[:])}.text()
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, h.key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + encode64(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...))
}

// identified is the status of an answer, its challenges, and whom the backend took
// the caller for.
func identified(answer string) string {
	var out []string
	for line := range strings.Lines(answer) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "HTTP/1.1 "):
			out = append(out, strings.Fields(line)[1])
		case strings.HasPrefix(line, "WWW-Authenticate: "), strings.HasPrefix(line, "X-Gatehouse-Principal: "), strings.HasPrefix(line, "Dpop: "), strings.HasPrefix(line, "Authorization: "):
			out = append(out, line)
		case strings.HasPrefix(line, "{"):
			if _, code, ok := strings.Cut(line, `"code":"`); ok {
				out = append(out, code[:9])
			}
		}
	}
	return strings.Join(out, "\n")
}

const boundTenants = `tenants:
  - id: studio
    domain: studio.test
    identity:
      client_certificates: {ca_file: CA}
      jwt: [{issuer: "https://id.studio.example.com/", audience: [studio-api], algorithms: [EdDSA], jwks_file: testdata/studio.jwks.json}]
    backends: [{id: app, endpoints: [{url: "http://app.test"}]}]
    routes: [{id: all, match: {path: /}, any_of: [jwt, certificate], backend: app}]
`

// Tokens that are bound to a certificate or a key pass with it, and with
// nothing else.
func TestBoundTokens(t *testing.T) {
	authority := proxytest.NewAuthority(t, "clients")
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, authority.PEM, 0o600); err != nil {
		t.Fatal(err)
	}
	s := secure(t, strings.Replace(boundTenants, "CA", ca, 1), map[string][]string{"studio": {"studio.test"}})
	certificate := func(name string) (func(*tls.Config), string) {
		certPEM, keyPEM := authority.Client(name, "")
		pair, err := tls.X509KeyPair(certPEM, keyPEM)
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(certPEM)
		sum := sha256.Sum256(block.Bytes)
		return func(c *tls.Config) { c.Certificates = []tls.Certificate{pair} }, encode64(sum[:])
	}
	withOwn, thumbprint := certificate("laptop")
	withOther, _ := certificate("other")
	request := func(authorization string, more ...string) string {
		return "GET /a?b=c HTTP/1.1\nHost: studio.test\nConnection: close\nAuthorization: " + authorization + "\n" + strings.Join(more, "") + "\n"
	}
	f := func(what string, change func(*tls.Config), request, want string) {
		t.Helper()
		if got := identified(s.ask("studio.test", request, change)); got != want {
			t.Errorf("%s:\n%s\nwant:\n%s", what, got, want)
		}
	}
	const refused = "401\nWWW-Authenticate: Bearer realm=\"studio.test\", error=\"invalid_token\"\nGH-ID-002"
	bound := "Bearer " + studioToken(object{"cnf": object{"x5t#S256": thumbprint}})
	f("its certificate", withOwn, request(bound), "200\nX-Gatehouse-Principal: ada")
	f("again, from the cache", withOwn, request(bound), "200\nX-Gatehouse-Principal: ada")
	f("another certificate", withOther, request(bound), refused)
	f("no certificate", nil, request(bound), refused)

	h, thief := newHolder(t), newHolder(t)
	token := studioToken(object{"cnf": object{"jkt": h.thumbprint(t)}})
	const url = "https://studio.test/a"
	badProof := "401\nWWW-Authenticate: DPoP realm=\"studio.test\", error=\"invalid_dpop_proof\", algs=\"ES256 ES384 ES512 EdDSA PS256 PS384 PS512 RS256 RS384 RS512\"\nGH-ID-002"
	good := h.proof(t, "GET", url, token)
	f("its proof", nil, request("DPoP "+token, "DPoP: "+good+"\n"), "200\nX-Gatehouse-Principal: ada")
	f("the same proof again", nil, request("DPoP "+token, "DPoP: "+good+"\n"), badProof)
	f("another's proof", nil, request("DPoP "+token, "DPoP: "+thief.proof(t, "GET", url, token)+"\n"), badProof)
	f("a proof for another method", nil, request("DPoP "+token, "DPoP: "+h.proof(t, "POST", url, token)+"\n"), badProof)
	f("a proof for another path", nil, request("DPoP "+token, "DPoP: "+h.proof(t, "GET", "https://studio.test/b", token)+"\n"), badProof)
	f("a proof for http", nil, request("DPoP "+token, "DPoP: "+h.proof(t, "GET", "http://studio.test/a", token)+"\n"), badProof)
	f("two proofs", nil, request("DPoP "+token, "DPoP: "+h.proof(t, "GET", url, token)+"\nDPoP: "+h.proof(t, "GET", url, token)+"\n"), badProof)
	f("no proof", nil, request("DPoP "+token), badProof)
	f("as a bearer token", nil, request("Bearer "+token), strings.Replace(badProof, "invalid_dpop_proof", "invalid_token", 1))
	free := studioToken(nil)
	f("a token that is not bound, by DPoP", nil, request("DPoP "+free, "DPoP: "+h.proof(t, "GET", url, free)+"\n"), refused)
}

// authorizationServer answers introspection requests: active for tokens that
// begin with good, and notes what it is asked.
func authorizationServer(t *testing.T, good string, asked *[]string) proxytest.Script {
	t.Helper()
	return func(c net.Conn) {
		defer c.Close()
		buf := make([]byte, 8<<10)
		n := 0
		for !bytes.Contains(buf[:n], []byte("token=")) || !bytes.HasSuffix(buf[:n], []byte("end")) && n < len(buf) {
			m, err := c.Read(buf[n:])
			if n += m; err != nil {
				break
			}
			if i := bytes.Index(buf[:n], []byte("token=")); i >= 0 && bytes.Contains(buf[i:n], []byte("zz")) {
				break // tokens end so
			}
		}
		*asked = append(*asked, string(buf[:n]))
		body := `{"active":false}`
		if bytes.Contains(buf[:n], []byte("token="+good)) {
			body = `{"active":true,"sub":"ada","scope":"read","roles":["editor"],"exp":4102444800}`
		}
		_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(body), body)
	}
}

const opaqueTenants = `tenants:
  - id: studio
    domain: studio.test
    identity:
      introspection: {url: "http://as.test/introspect", client_id: gatehouse, client_secret_file: testdata/hs256.secret}
    backends: [{id: app, endpoints: [{url: "http://app.test"}]}]
    routes: [{id: all, match: {path: /}, backend: app}]
`

// Opaque tokens are asked about at their server, once for as long as its
// answer holds.
func TestIntrospection(t *testing.T) {
	var asked []string
	bubbleWith(t, opaqueTenants, map[string]proxytest.Script{"as.test:80": authorizationServer(t, "good", &asked)}, func(h *proxytest.Harness) {
		ask := func(token string) string {
			return identified(h.Do("GET / HTTP/1.1\nHost: studio.test\nAuthorization: Bearer " + token + "\n\n"))
		}
		f := func(what, token, want string, calls int) {
			t.Helper()
			if got := ask(token); got != want || len(asked) != calls {
				t.Errorf("%s: %d calls so far\n%s", what, len(asked), got)
			}
		}
		const refused = "401\nWWW-Authenticate: Bearer realm=\"studio.test\", error=\"invalid_token\"\nGH-ID-002"
		f("an active token", "good-onezz", "200\nX-Gatehouse-Principal: ada", 1)
		f("again", "good-onezz", "200\nX-Gatehouse-Principal: ada", 1)
		f("an inactive token", "bad-onezz", refused, 2)
		f("again", "bad-onezz", refused, 2)
		f("a JWT", studioToken(nil), "401\nWWW-Authenticate: Bearer realm=\"studio.test\"\nGH-ID-001", 2)
		<-time.After(31 * time.Second) // of the bubble
		f("when the answer is old", "good-onezz", "200\nX-Gatehouse-Principal: ada", 3)
		if want := "POST /introspect HTTP/1.1\r\n"; !strings.HasPrefix(asked[0], want) || !strings.Contains(asked[0], "Authorization: Basic ") {
			t.Errorf("asked by\n%s", asked[0])
		}
	})
}

// While the server does not answer nobody is admitted, and known tokens are
// good for as long as they were.
func TestIntrospectionAway(t *testing.T) {
	bubbleWith(t, opaqueTenants, map[string]proxytest.Script{"as.test:80": nil}, func(h *proxytest.Harness) {
		if got := identified(h.Do("GET / HTTP/1.1\nHost: studio.test\nAuthorization: Bearer good-onezz\n\n")); got != "503\nGH-ID-004" {
			t.Error(got)
		}
	})
}

// The backend can verify whom a token of ours names, and nobody else's passes
// for it.
func TestForwardJWT(t *testing.T) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "forward.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	expand := credentials(t)
	h := proxytest.New(t, expand(`tenants:
  - id: studio
    domain: studio.test
    identity:
      api_keys: {keys: [{id: ci, hash: "$HASH1", roles: [robot]}]}
      forward: {mode: jwt, key_file: `+file+`}
    backends: [{id: app, endpoints: [{url: "http://app.test"}]}]
    routes: [{id: all, match: {path: /}, backend: app}]
`))
	answer := h.Do(expand("GET / HTTP/1.1\nHost: studio.test\nX-API-Key: $KEY1\nX-Gatehouse-Identity: forged\n\n"))
	_, token, ok := strings.Cut(answer, "X-Gatehouse-Identity: ")
	token, _, _ = strings.Cut(token, "\n")
	parts := strings.Split(strings.TrimSpace(token), ".")
	if !ok || len(parts) != 3 || strings.Contains(answer, "forged") {
		t.Fatalf("%s", answer)
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || !ed25519.Verify(public, []byte(parts[0]+"."+parts[1]), signature) {
		t.Error("the signature is not valid", err)
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims struct {
		Iss, Sub, Aud, Tenant string
		Roles                 []string
		Iat, Exp              int64
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	if claims.Sub != "key:ci" || claims.Aud != "app" || claims.Tenant != "studio" || claims.Exp-claims.Iat != 60 || len(claims.Roles) != 1 {
		t.Errorf("%s", payload)
	}
}
