package identity

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	gatehouse "github.com/gatehouse-gateway/gatehouse"
)

// proof makes a DPoP proof for token by a signer; changes are put over the
// header and the claims, a nil takes a member off.
func proof(alg string, signer any, token string, header, changes object) []byte {
	key := jwk("", signer, nil)
	delete(key, "kid")
	hash := sha256.Sum256([]byte(token))
	h := object{"typ": "dpop+jwt", "jwk": key}
	c := object{
		"jti": fmt.Sprint(proofs.Add(1)), "htm": "GET", "htu": "https://api.example/v1/orders", "iat": noon.Unix(), "ath": b64(hash[:]),
	}
	for into, from := range map[*object]object{&h: header, &c: changes} {
		maps.Copy(*into, from)
		maps.DeleteFunc(*into, func(_ string, v any) bool { return v == nil })
	}
	return []byte(sign(alg, h, c, signer))
}

// proofs counts them, so that each has a jti of its own.
var proofs atomic.Int64

// shown is a request with a proof, for the URI that proof makes proofs for.
func shown(proof []byte) *Presented {
	return &Presented{
		Scheme: SchemeDPoP, Proof: proof, Proofs: 1,
		Method: []byte("GET"), Secure: true, Authority: []byte("api.example"), Path: []byte("/v1/orders"),
	}
}

func jkt(signer any) string {
	text, err := json.Marshal(jwk("", signer, nil))
	if err != nil {
		panic(err)
	}
	h, err := readObject([]byte(`{"typ":"dpop+jwt","alg":"` + fitting(signer) + `","jwk":` + string(text) + `}`))
	if err != nil {
		panic(err)
	}
	_, t, err := proofKey(h)
	if err != nil {
		panic(err)
	}
	return b64(t[:])
}

func fitting(signer any) string {
	switch jwk("", signer, nil)["crv"] {
	case "P-256":
		return "ES256"
	case "P-384":
		return "ES384"
	case "P-521":
		return "ES512"
	case "Ed25519":
		return "EdDSA"
	}
	return "PS256"
}

// challenge is what WWW-Authenticate would say, then the outcome.
func challenge(v *Verified, err error) string {
	if r, ok := errors.AsType[*Refusal](err); ok {
		return fmt.Sprintf("%s %s %s", r.Scheme, r.Reason, outcome(v, err))
	}
	return outcome(v, err)
}

func TestBinding(t *testing.T) {
	p := private()
	certificate, other := sha256.Sum256([]byte("certificate")), sha256.Sum256([]byte("other"))
	strict := issuerDoc()
	strict.Issuer, strict.Bound = "https://strict.example", true
	v := compile(t, "acme", gatehouse.Identity{JWT: []gatehouse.Issuer{issuerDoc(), strict}})
	token := func(cnf any) string { return sign("EdDSA", object{"kid": "d"}, good(object{"cnf": cnf}), p.ed) }
	byCert := object{"x5t#S256": b64(certificate[:])}
	byKey := object{"jkt": jkt(p.p256)}
	both := object{"x5t#S256": b64(certificate[:]), "jkt": jkt(p.p256)}
	const (
		bearer = "Bearer invalid_token GH-ID-002 the token is bound to a certificate or key that the request does not show "
		dpop   = "DPoP invalid_token GH-ID-002 the token is bound to a certificate or key that the request does not show "
		plain  = "Bearer invalid_token GH-ID-002 the token is not valid "
		misfit = "the connection's certificate is not that of cnf x5t#S256"
		down   = "the token is bound to a DPoP key and came as a bearer token"
	)
	f := func(name, token string, by *Presented, want string) {
		t.Helper()
		for _, round := range []string{"first", "seen"} {
			if by.proves() && by.Proofs == 1 { // each has its own
				by.Proof = proof("ES256", p.p256, token, nil, nil)
			}
			if got := challenge(v.Token([]byte(token), by, noon)); got != want {
				t.Errorf("%s, %s:\n got %s\nwant %s", name, round, got, want)
			}
		}
	}
	with := func(c *[32]byte) *Presented {
		by := shown(nil)
		by.Certificate = c
		return by
	}
	unbound := token(nil)
	f("not bound", unbound, nil, "alice")
	f("not bound, certificate", unbound, &Presented{Certificate: &certificate}, "alice")
	f("not bound, stray proof", unbound, &Presented{Proof: []byte("x"), Proofs: 2}, "alice")
	f("not bound, by DPoP", unbound, with(nil), bearer+"the token came by the DPoP scheme and is not bound to a key")

	f("certificate", token(byCert), &Presented{Certificate: &certificate}, "alice")
	f("no certificate", token(byCert), &Presented{}, bearer+misfit)
	f("nothing", token(byCert), nil, bearer+misfit)
	f("another certificate", token(byCert), &Presented{Certificate: &other}, bearer+misfit)
	f("certificate, by DPoP", token(byCert), with(&certificate), bearer+"the token came by the DPoP scheme and is not bound to a key")

	f("key", token(byKey), with(nil), "alice")
	f("key, by bearer", token(byKey), nil, dpop+down)
	f("key, by bearer with a proof", token(byKey), &Presented{Proof: []byte("x"), Proofs: 1}, dpop+down)
	f("both", token(both), with(&certificate), "alice")
	f("both, no certificate", token(both), with(nil), dpop+misfit)
	f("both, no proof", token(both), &Presented{Certificate: &certificate}, dpop+down)
	f("key, other members", token(object{"jkt": jkt(p.p256), "kid": "x"}), with(nil), "alice")

	const confirm = plain + "cnf names no way to confirm the holder that is understood"
	f("empty cnf", token(object{}), nil, confirm)
	f("cnf of RFC 7800", token(object{"jwk": jwk("", p.p256, nil)}), nil, confirm)
	f("cnf text", token("x"), nil, confirm)
	f("SHA-1", token(object{"x5t": "x"}), &Presented{Certificate: &certificate}, confirm)
	f("short", token(object{"x5t#S256": "AAAA"}), nil, plain+"cnf member x5t#S256 is not a SHA-256 in base64url")
	f("padded", token(object{"jkt": jkt(p.p256) + "="}), nil, plain+"cnf member jkt is not a SHA-256 in base64url")
	f("number", token(object{"jkt": 1}), nil, plain+"cnf member jkt is not a SHA-256 in base64url")
	f("null", token(object{"x5t#S256": b64(certificate[:]), "jkt": nil}), &Presented{Certificate: &certificate}, plain+"cnf member jkt is not a SHA-256 in base64url")

	of := func(cnf any) string {
		return sign("EdDSA", object{"kid": "d"}, good(object{"iss": strict.Issuer, "cnf": cnf}), p.ed)
	}
	f("must be bound", of(nil), nil, plain+"the token is not bound to a certificate or key, as its issuer's must be")
	f("must be bound, is", of(byCert), &Presented{Certificate: &certificate}, "alice")

	// A refused token says by which scheme it came.
	if got := challenge(v.Token([]byte("x"), shown(nil), noon)); !strings.HasPrefix(got, "DPoP invalid_token GH-ID-002") {
		t.Error(got)
	}
}

func TestProof(t *testing.T) {
	p := private()
	v := compile(t, "acme", gatehouse.Identity{JWT: []gatehouse.Issuer{issuerDoc()}})
	bound := func(signer any) string {
		return sign("EdDSA", object{"kid": "d"}, good(object{"cnf": object{"jkt": jkt(signer)}}), p.ed)
	}
	token := bound(p.p256)
	f := func(name string, by *Presented, want string) {
		t.Helper()
		if want != "alice" {
			want = "DPoP invalid_dpop_proof GH-ID-002 the DPoP proof is not valid " + want
		}
		got := challenge(v.Token([]byte(token), by, noon))
		if got != want && (want == "alice" || !strings.HasPrefix(got, want)) {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want)
		}
	}
	header := func(h object) *Presented { return shown(proof("ES256", p.p256, token, h, nil)) }
	claim := func(c object) *Presented { return shown(proof("ES256", p.p256, token, nil, c)) }

	f("good", header(nil), "alice")
	f("key's own alg", header(object{"jwk": with(jwk("x", p.p256, nil), "alg", "ES256")}), "alice")
	f("key's use", header(object{"jwk": with(jwk("x", p.p256, nil), "use", "sig")}), "alice")
	for alg, signer := range map[string]any{"ES384": p.p384, "ES512": p.p521, "EdDSA": p.ed, "PS256": p.rsa, "RS256": p.rsa} {
		token := bound(signer)
		if got := challenge(v.Token([]byte(token), shown(proof(alg, signer, token, nil, nil)), noon)); got != "alice" {
			t.Errorf("%s: %s", alg, got)
		}
	}

	none, two := header(nil), header(nil)
	none.Proofs, none.Proof = 0, nil
	two.Proofs = 2
	f("no proof", none, "0 DPoP fields")
	f("two proofs", two, "2 DPoP fields")
	f("large", claim(object{"x": strings.Repeat("x", maxProof)}), "1 DPoP fields, of")
	f("not a JWS", shown([]byte("x")), "not three segments")
	f("typ JWT", header(object{"typ": "JWT"}), `typ "JWT" is not dpop+jwt`)
	f("no typ", header(object{"typ": nil}), `typ "" is not dpop+jwt`)
	f("crit", header(object{"crit": []string{"x"}}), "header member crit")
	f("none", header(object{"alg": "none"}), `algorithm "none" is not allowed`)
	f("HS256", shown(tampered(t, proof("ES256", p.p256, token, nil, nil), `"alg":"ES256"`, `"alg":"HS256"`)), `algorithm "HS256" is not allowed`)
	f("two algorithms", shown(tampered(t, proof("ES256", p.p256, token, nil, nil), `"alg":"ES256"`, `"alg":"ES256 ES384"`)), `algorithm "ES256 ES384" is not allowed`)
	f("no jwk", header(object{"jwk": nil}), "jwk")
	f("jwk text", header(object{"jwk": "x"}), "jwk")
	f("private jwk", header(object{"jwk": with(jwk("", p.p256, nil), "d", "AQ")}), "jwk has the private member d")
	f("null private", shown(tampered(t, proof("ES256", p.p256, token, nil, nil), `"kty"`, `"d":null,"kty"`)), "jwk has the private member d")
	f("secret", header(object{"jwk": object{"kty": "oct", "k": "AQ"}}), "jwk has the private member k")
	f("jwk for encryption", header(object{"jwk": with(jwk("", p.p256, nil), "use", "enc")}), "jwk is not for algorithm ES256")
	f("jwk of another alg", header(object{"jwk": with(jwk("", p.p256, nil), "alg", "ES384")}), "jwk")
	f("jwk twice", shown(tampered(t, proof("ES256", p.p256, token, nil, nil), `"typ"`, `"jwk":{},"typ"`)), `header: "jwk": member given twice`)
	f("weak key", shown(proof("RS256", p.weak, token, nil, nil)), "jwk: RSA of 1024 bits")
	f("another curve", header(object{"jwk": jwk("", p.p384, nil)}), "jwk is not for algorithm ES256")
	f("another's key", shown(proof("ES256", p.other, token, nil, nil)), "the proof's jwk is not the key of cnf jkt")
	f("another's signature", shown(proof("ES256", p.other, token, object{"jwk": jwk("", p.p256, nil)}, nil)), "signature is invalid")
	f("psychic signature", shown(append(header(nil).Proof[:bytes.LastIndexByte(header(nil).Proof, '.')+1], b64(make([]byte, 64))...)), "signature is invalid")

	f("iat 60 s ago", claim(object{"iat": noon.Add(-60 * time.Second).Unix()}), "alice")
	f("iat 60 s ahead", claim(object{"iat": noon.Add(60 * time.Second).Unix()}), "alice")
	f("iat 61 s ago", claim(object{"iat": noon.Add(-61 * time.Second).Unix()}), "iat is not within 1m0s")
	f("iat 61 s ahead", claim(object{"iat": noon.Add(61 * time.Second).Unix()}), "iat is not within 1m0s")
	f("iat 0", claim(object{"iat": 0}), "iat is not within 1m0s")
	f("iat at the end of time", claim(object{"iat": maxDate}), "iat is not within 1m0s")
	f("no iat", claim(object{"iat": nil}), "iat is missing")
	f("iat text", claim(object{"iat": "0"}), "iat is not a date")
	f("no jti", claim(object{"jti": nil}), "jti is missing")
	f("jti number", claim(object{"jti": 1}), "jti is missing")
	f("large jti", claim(object{"jti": strings.Repeat("x", 257)}), "jti is missing")
	f("htm", claim(object{"htm": "POST"}), `htm "POST" is not`)
	f("htm case", claim(object{"htm": "get"}), `htm "get" is not`)
	f("no htm", claim(object{"htm": nil}), `htm "" is not`)
	f("no htu", claim(object{"htu": nil}), `htu "" is not`)
	f("another host", claim(object{"htu": "https://other.example/v1/orders"}), `htu "https://other.example/v1/orders" is not`)
	f("ath of another", claim(object{"ath": b64(make([]byte, 32))}), "ath is not")
	f("no ath", claim(object{"ath": nil}), "ath is not")
	f("nonce", claim(object{"nonce": "x"}), "alice") // none is handed out
	f("claims twice", shown([]byte(sign("ES256", object{"typ": "dpop+jwt", "jwk": jwk("", p.p256, nil)}, `{"jti":"a","jti":"b"}`, p.p256))), `claims: "jti": member given twice`)

	// Once, and for the one who made it.
	first := header(nil)
	f("once", first, "alice")
	f("again", first, "a proof with this jti was used before")
	same := object{"jti": "same"}
	f("jti", claim(same), "alice")
	f("jti of another proof", claim(same), "a proof with this jti was used before")
	f("refused before it is noted", claim(object{"jti": "late", "htm": "POST"}), "htm")
	f("so it is not used up", claim(object{"jti": "late"}), "alice")
	mine := bound(p.ed)
	if got := challenge(v.Token([]byte(mine), shown(proof("EdDSA", p.ed, mine, nil, same)), noon)); got != "alice" {
		t.Errorf("the jti of another key: %s", got)
	}
	// Another tenant, or the issuers changed: what is used stays used.
	changed := issuerDoc()
	changed.Audience = []string{api}
	next, _ := Compile("acme", gatehouse.Identity{JWT: []gatehouse.Issuer{changed}}, nil, nil, v)
	if got := challenge(next.Token([]byte(token), first, noon)); !strings.Contains(got, "used before") {
		t.Errorf("after a change: %s", got)
	}
}

// with returns a JWK with one member more.
func with(m object, name string, v any) object {
	m[name] = v
	return m
}

// tampered changes the header of a proof and leaves its signature.
func tampered(t *testing.T, proof []byte, old, new string) []byte {
	t.Helper()
	h, rest, _ := strings.Cut(string(proof), ".")
	text, err := base64url.DecodeString(h)
	if err != nil || !strings.Contains(string(text), old) {
		t.Fatalf("%s has no %s: %v", text, old, err)
	}
	return []byte(b64([]byte(strings.Replace(string(text), old, new, 1))) + "." + rest)
}

func TestProofURI(t *testing.T) {
	f := func(htu string, secure bool, authority, path string, want bool) {
		t.Helper()
		p := &Presented{Secure: secure, Authority: []byte(authority), Path: []byte(path)}
		if got := p.at(htu); got != want {
			t.Errorf("%s at %v %s %s: %v", htu, secure, authority, path, got)
		}
	}
	const host = "api.example"
	f("https://api.example/a", true, host, "/a", true)
	f("HTTPS://API.example:443/a?x=1#y", true, host, "/a", true)
	f("https://api.example/a", true, "API.example:443", "/a", true)
	f("http://api.example:80/a", false, host, "/a", true)
	f("https://api.example:8443/a", true, "api.example:8443", "/a", true)
	f("https://[2001:db8::1]:443/a", true, "[2001:db8::1]", "/a", true)
	f("https://api.example", true, host, "/", true)
	f("https://api.example", true, host, "", true)
	f("https://api.example?x", true, host, "/", true)
	f("https://api.example/%7euser/%2f", true, host, "/~user/%2F", true)
	f("https://api.example/a/../b/./c/..", true, host, "/b/", true)
	f("https://api.example/../a", true, host, "/a", true)

	f("http://api.example/a", true, host, "/a", false)
	f("https://api.example/a", false, host, "/a", false)
	f("https://api.example:80/a", true, host, "/a", false)
	f("https://api.example:8443/a", true, host, "/a", false)
	f("https://api.example/a", true, "api.example:8443", "/a", false)
	f("https://api.example/A", true, host, "/a", false)
	f("https://api.example/a/", true, host, "/a", false)
	f("https://api.example//a", true, host, "/a", false)
	f("https://api.example/a%2Fb", true, host, "/a/b", false)
	f("https://api.example/%", true, host, "/%25", false)
	f("https://user@api.example/a", true, host, "/a", false)
	f("https://api.example.evil/a", true, host, "/a", false)
	f("https:///a", true, "", "/a", false)
	f("//api.example/a", true, host, "/a", false)
	f("/a", true, host, "/a", false)
	f("", true, host, "/", false)
}

// The examples of RFC 9449 section 7.1, RFC 7638 section 3.1 and RFC 8037
// appendix A.3.
func TestProofExamples(t *testing.T) {
	for jwk, want := range map[string]string{
		`{"alg":"ES256","jwk":{"kty":"EC","x":"l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs","y":"9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA","crv":"P-256"}`: "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I",
		`{"alg":"RS256","jwk":{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}`: "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs",
		`{"alg":"EdDSA","jwk":{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`: "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
	} {
		h, err := readObject([]byte(jwk + `,"typ":"dpop+jwt"}`))
		if err != nil {
			t.Fatal(err)
		}
		_, got, err := proofKey(h)
		if err != nil || b64(got[:]) != want {
			t.Errorf("%s: %s %v", jwk, b64(got[:]), err)
		}
	}
	const token = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"
	const text = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA"
	by := shown([]byte(text))
	by.Authority, by.Path = []byte("resource.example.org"), []byte("/protectedresource")
	want, _ := base64url.DecodeString("0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I")
	if _, err := newFailures().prove(by, []byte(token), (*[32]byte)(want), time.Unix(1562262618, 0)); err != nil {
		t.Error(err)
	}
}

// Law: of all uses of one proof at most one succeeds, whatever the order of the
// requests, as long as none is a minute behind another; and what is remembered
// is bounded.
func TestReplays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := &replays{limit: 200}
		key, now := [32]byte{}, noon
		used := map[string]bool{}
		for range rapid.IntRange(1, 300).Draw(t, "uses") {
			now = now.Add(time.Duration(rapid.IntRange(0, 40).Draw(t, "later")) * time.Second)
			began := now.Add(-time.Duration(rapid.IntRange(0, 59).Draw(t, "behind")) * time.Second)
			at := began.Add(time.Duration(rapid.IntRange(-60, 60).Draw(t, "iat")) * time.Second)
			jti := fmt.Sprint(at.Unix(), rapid.IntRange(0, 2).Draw(t, "jti"))
			err := r.use(proven{&key, jti, at, began})
			if err == nil && used[jti] {
				t.Fatalf("%s passed twice", jti)
			}
			if err != nil && !used[jti] && r.count < r.limit {
				t.Fatalf("%s: %v", jti, err)
			}
			used[jti] = used[jti] || err == nil
			if n := len(r.by); n > 8 || r.count > r.limit {
				t.Fatalf("%d minutes, %d proofs", n, r.count)
			}
		}
	})
}

// A request that began a minute before another, and comes here after it, finds
// what was used when it began.
func TestReplaysStraggler(t *testing.T) {
	r := &replays{limit: 10}
	key, at := [32]byte{}, noon.Add(-59*time.Second)
	for _, c := range []struct {
		jti     string
		at, now time.Time
		want    bool
	}{
		{"old", at, noon, true},
		{"new", noon.Add(time.Minute), noon.Add(time.Minute), true},
		{"old", at, noon, false},
		{"newer", noon.Add(10 * time.Minute), noon.Add(10 * time.Minute), true},
	} {
		if got := r.use(proven{&key, c.jti, c.at, c.now}) == nil; got != c.want {
			t.Errorf("%s at %v: %v", c.jti, c.now, got)
		}
	}
	if r.count != 1 || len(r.by) != 1 {
		t.Errorf("%d proofs of %d minutes are kept", r.count, len(r.by))
	}
}

func TestReplaysFull(t *testing.T) {
	r := &replays{limit: 2}
	key := [32]byte{}
	f := func(jti string, now time.Time, want string) {
		t.Helper()
		got := "noted"
		if err := r.use(proven{&key, jti, now, now}); err != nil {
			got = string(gatehouse.CodeOf(err)) + " " + errors.Unwrap(err).Error()
		}
		if got != want {
			t.Errorf("%s: %s, want %s", jti, got, want)
		}
	}
	f("a", noon, "noted")
	f("b", noon, "noted")
	f("c", noon, "GH-ID-004 no room to remember another proof; it would pass a second time")
	f("a", noon, "GH-ID-002 a proof with this jti was used before")
	f("c", noon.Add(4*time.Minute), "noted")
}

// Of many requests with one proof, one passes.
func TestProofRace(t *testing.T) {
	p := private()
	v := compile(t, "acme", gatehouse.Identity{JWT: []gatehouse.Issuer{issuerDoc()}})
	token := sign("EdDSA", object{"kid": "d"}, good(object{"cnf": object{"jkt": jkt(p.p256)}}), p.ed)
	by := shown(proof("ES256", p.p256, token, nil, nil))
	var passed atomic.Int32
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if _, err := v.Token([]byte(token), by, noon); err == nil {
				passed.Add(1)
			}
		})
	}
	wg.Wait()
	if n := passed.Load(); n != 1 {
		t.Errorf("%d passed", n)
	}
}
