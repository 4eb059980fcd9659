package identity

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	gatehouse "github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/policy"
)

const sharedSecret = "0123456789abcdef0123456789abcdef"

func pkcs8(t testing.TB, key any) gatehouse.Secret {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// forwardKeys are one key of each kind that a Forward takes.
func forwardKeys(t testing.TB) map[string]gatehouse.Secret {
	return map[string]gatehouse.Secret{
		"hmac-sha256": gatehouse.Secret(sharedSecret), "ed25519": pkcs8(t, private().ed), "ecdsa-p256-sha256": pkcs8(t, private().p256),
	}
}

func newSigner(t testing.TB, doc gatehouse.Forward) *Signer {
	t.Helper()
	s, err := NewSigner("acme", gatehouse.Identity{Forward: doc})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func whoIs(id string, roles, scopes []string) *Verified {
	return &Verified{Principal: policy.NewPrincipal(kindUser, id, "acme", roles, scopes, nil, nil), Method: MethodJWT, Expires: noon.Add(time.Hour)}
}

var alice = whoIs("alice", []string{"reader", "writer"}, []string{"orders:read", "orders:write"})

func get(who *Verified) *Assertion {
	return &Assertion{Who: who, Method: []byte("GET"), Authority: []byte("API.example"), Path: []byte("/orders/%2F1"), Audience: "orders"}
}

// What is remembered of a caller is the signer's own: a change of the document
// makes another.
func TestForwardChanges(t *testing.T) {
	who := policy.NewIssued("https://one", kindUser, "alice", "acme", nil, nil, nil, nil)
	verified := &Verified{Principal: who, Method: MethodJWT, Expires: noon.Add(time.Hour)}
	one, err := NewSigner("acme", gatehouse.Identity{JWT: make([]gatehouse.Issuer, 1)})
	if err != nil {
		t.Fatal(err)
	}
	two, err := NewSigner("acme", gatehouse.Identity{JWT: make([]gatehouse.Issuer, 2)})
	if err != nil {
		t.Fatal(err)
	}
	const line = "X-Gatehouse-Issuer: https://one"
	for i, s := range []*Signer{one, one, two, two, one} {
		if got := string(s.Append(nil, get(verified), noon)); strings.Contains(got, line) != (s == two) {
			t.Errorf("%d: %s", i, got)
		}
	}
}

func TestForwardHeaders(t *testing.T) {
	f := func(mode gatehouse.ForwardMode, who *Verified, want string) {
		t.Helper()
		got := strings.ReplaceAll(string(newSigner(t, gatehouse.Forward{Mode: mode}).Append(nil, get(who), noon)), "\r\n", "\n")
		if got != want {
			t.Errorf("got\n%swant\n%s", got, want)
		}
	}
	f("", alice, "X-Gatehouse-Tenant: acme\nX-Gatehouse-Principal: alice\nX-Gatehouse-Roles: reader,writer\nX-Gatehouse-Scopes: orders:read,orders:write\n")
	f("", nil, "X-Gatehouse-Tenant: acme\n")
	f("", whoIs("a", nil, []string{"x"}), "X-Gatehouse-Tenant: acme\nX-Gatehouse-Principal: a\nX-Gatehouse-Scopes: x\n")
	f("", whoIs("a\r\nX-Gatehouse-Roles: admin", []string{"a,b", "ü%\n"}, nil),
		"X-Gatehouse-Tenant: acme\nX-Gatehouse-Principal: a%0D%0AX-Gatehouse-Roles:%20admin\nX-Gatehouse-Roles: a%2Cb,%C3%BC%25%0A\n")
	f(gatehouse.ForwardNone, alice, "")
}

// The vectors of RFC 9421, appendices B.2.5 and B.2.6.
func TestSignatureVectors(t *testing.T) {
	f := func(key, base, want string) {
		t.Helper()
		s := newSigner(t, gatehouse.Forward{Mode: gatehouse.ForwardSigned, Key: gatehouse.Secret(key)})
		st := s.states.Get().(*state)
		st.base = []byte(base)
		if got := base64.StdEncoding.EncodeToString(s.signature(st)); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	secret, err := base64.StdEncoding.DecodeString("uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==")
	if err != nil {
		t.Fatal(err)
	}
	f(string(secret), `"date": Tue, 20 Apr 2021 02:07:55 GMT
"@authority": example.com
"content-type": application/json
"@signature-params": ("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret"`,
		"pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=")
	f("-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF\n-----END PRIVATE KEY-----\n",
		`"date": Tue, 20 Apr 2021 02:07:55 GMT
"@method": POST
"@path": /foo
"@authority": example.com
"content-type": application/json
"content-length": 18
"@signature-params": ("date" "@method" "@path" "@authority" "content-type" "content-length");created=1618884473;keyid="test-key-ed25519"`,
		"wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==")
}

var input = regexp.MustCompile(`^gatehouse=(\(([^)]*)\);created=(\d+);expires=(\d+);keyid="([^"]*)";alg="([^"]*)")$`)

// verifyMessage is a backend that verifies what net/http read (RFC 9421, 3.2).
func verifyMessage(r *http.Request, public any, now time.Time) error {
	m := input.FindStringSubmatch(r.Header.Get("Signature-Input"))
	if m == nil {
		return fmt.Errorf("signature input %q", r.Header.Get("Signature-Input"))
	}
	var base strings.Builder
	for name := range strings.FieldsSeq(m[2]) {
		name = strings.Trim(name, `"`)
		value := ""
		switch name {
		case "@method":
			value = r.Method
		case "@authority":
			value = strings.ToLower(r.Host)
		case "@path":
			value = r.URL.EscapedPath()
		default:
			values, ok := r.Header[http.CanonicalHeaderKey(name)]
			if !ok {
				return fmt.Errorf("%s is missing", name)
			}
			value = strings.Join(values, ", ")
		}
		fmt.Fprintf(&base, "%q: %s\n", name, value)
	}
	fmt.Fprintf(&base, "\"@signature-params\": %s", m[1])
	text := strings.TrimSuffix(strings.TrimPrefix(r.Header.Get("Signature"), "gatehouse=:"), ":")
	sig, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return err
	}
	created, _ := strconv.ParseInt(m[3], 10, 64)
	expires, _ := strconv.ParseInt(m[4], 10, 64)
	if now.Unix() < created || now.Unix() >= expires {
		return fmt.Errorf("at %d, not in %d to %d", now.Unix(), created, expires)
	}
	if m[5] != "acme" {
		return fmt.Errorf("keyid %q", m[5])
	}
	good := false
	digest := sha256.Sum256([]byte(base.String()))
	switch key := public.(type) {
	case []byte:
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(base.String()))
		good = m[6] == "hmac-sha256" && hmac.Equal(mac.Sum(nil), sig)
	case ed25519.PublicKey:
		good = m[6] == "ed25519" && ed25519.Verify(key, []byte(base.String()), sig)
	case *ecdsa.PublicKey:
		good = m[6] == "ecdsa-p256-sha256" && len(sig) == 64 && ecdsa.Verify(key, digest[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:]))
	}
	if !good {
		return fmt.Errorf("the signature does not hold over\n%s", base.String())
	}
	return nil
}

// publicOf is what a backend knows: the key in the signer's JWKS, or the
// secret.
func publicOf(t *testing.T, s *Signer) any {
	t.Helper()
	var set struct {
		Keys []struct{ Kty, Crv, X, Y, Kid, Use, Alg string }
	}
	if err := json.Unmarshal(s.JWKS(), &set); err != nil {
		t.Fatal(err)
	}
	if len(set.Keys) == 0 {
		return []byte(sharedSecret)
	}
	k := set.Keys[0]
	x, _ := base64.RawURLEncoding.DecodeString(k.X)
	y, _ := base64.RawURLEncoding.DecodeString(k.Y)
	if k.Kid != "acme" || k.Use != "sig" {
		t.Errorf("%+v", k)
	}
	if k.Kty == "OKP" && k.Crv == "Ed25519" && k.Alg == "EdDSA" {
		return ed25519.PublicKey(x)
	}
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, x...), y...))
	if err != nil || k.Kty != "EC" || k.Crv != "P-256" || k.Alg != "ES256" {
		t.Fatal(err, k)
	}
	return public
}

func TestForwardSigned(t *testing.T) {
	for name, key := range forwardKeys(t) {
		s := newSigner(t, gatehouse.Forward{Mode: gatehouse.ForwardSigned, Key: key, Lifetime: gatehouse.Duration(30 * time.Second)})
		public := publicOf(t, s)
		send := func(who *Verified) string {
			a := get(who)
			return "GET /orders/%2F1?q=1 HTTP/1.1\r\nHost: API.example\r\n" + string(s.Append(nil, a, noon)) + "\r\n"
		}
		check := func(wire string, now time.Time, good bool) {
			t.Helper()
			r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(wire)))
			if err != nil {
				t.Fatal(err, wire)
			}
			if err := verifyMessage(r, public, now); (err == nil) != good {
				t.Errorf("%s: want good %v: %v\n%s", name, good, err, wire)
			}
		}
		for _, who := range []*Verified{alice, nil, whoIs("a", nil, nil), whoIs("ü\r\nx: y", []string{"a b", "c,d"}, nil)} {
			check(send(who), noon, true)
		}
		wire := send(alice)
		check(wire, noon.Add(29*time.Second), true)
		check(wire, noon.Add(30*time.Second), false)
		for _, change := range [][2]string{
			{"GET", "PUT"},
			{"API.", "other."},
			{"/orders", "/admin"},
			{"alice", "bob"},
			{"reader", "admin"},
			{"orders:read", "orders"},
			{"Tenant: acme", "Tenant: umbrella"},
			{"expires=1", "expires=2"},
			{"X-Gatehouse-Roles", "X-Gatehouse-Roles: admin\r\nX-Gatehouse-Roles"},
		} {
			changed := strings.Replace(wire, change[0], change[1], 1)
			if changed == wire {
				t.Fatal(change)
			}
			check(changed, noon, false)
		}
		check(strings.Replace(send(nil), "Principal: ", "Principal: root", 1), noon, false)
	}
}

// A byte that would end a line of what is signed makes a signature of
// something else.
func TestSignedLinesCannotBeForged(t *testing.T) {
	s := newSigner(t, gatehouse.Forward{Mode: gatehouse.ForwardSigned, Key: gatehouse.Secret(sharedSecret)})
	a := get(nil)
	honest := string(s.Append(nil, a, noon))
	b := &Assertion{Method: []byte("GET\n\"@authority\": API.example"), Authority: nil, Path: a.Path}
	if string(s.Append(nil, b, noon)) == honest {
		t.Error("two requests of one signature")
	}
	a.Path = nil
	slash := get(nil)
	slash.Path = []byte("/")
	if !bytes.Equal(s.Append(nil, a, noon), s.Append(nil, slash, noon)) {
		t.Error("an empty path is not /")
	}
}

func TestForwardJWT(t *testing.T) {
	for name, key := range forwardKeys(t) {
		s := newSigner(t, gatehouse.Forward{Mode: gatehouse.ForwardJWT, Key: key})
		public := publicOf(t, s)
		alg := map[string]string{"hmac-sha256": "HS256", "ed25519": "EdDSA", "ecdsa-p256-sha256": "ES256"}[name]
		tell := func(who *Verified, audience gatehouse.BackendID, now time.Time) string {
			t.Helper()
			a := get(who)
			a.Audience = audience
			line := string(s.Append([]byte("X: y\r\n"), a, now))
			text, ok := strings.CutPrefix(line, "X: y\r\nX-Gatehouse-Identity: ")
			if !ok || !strings.HasSuffix(text, "\r\n") {
				t.Fatal(line)
			}
			return strings.TrimSuffix(text, "\r\n")
		}
		claimsOf := func(text string, now time.Time) string {
			t.Helper()
			parsed, err := jwt.Parse(text, func(*jwt.Token) (any, error) { return public, nil },
				jwt.WithValidMethods([]string{alg}), jwt.WithIssuer("gatehouse"), jwt.WithAudience("orders"), jwt.WithTimeFunc(func() time.Time { return now }), jwt.WithExpirationRequired())
			if err != nil {
				t.Fatal(name, err)
			}
			if parsed.Header["kid"] != "acme" || parsed.Header["typ"] != "JWT" {
				t.Error(parsed.Header)
			}
			c := parsed.Claims.(jwt.MapClaims)
			if id, _ := c["jti"].(string); len(id) != 22 {
				t.Errorf("jti %v", c["jti"])
			}
			delete(c, "jti")
			b, _ := json.Marshal(c)
			return string(b)
		}
		want := func(rest string) string {
			return fmt.Sprintf(`{"aud":"orders","exp":%d,"iat":%d,"iss":"gatehouse",%s,"tenant":"acme"}`, noon.Unix()+60, noon.Unix(), rest)
		}
		first := tell(alice, "orders", noon)
		if got, want := claimsOf(first, noon), want(`"method":"jwt","roles":["reader","writer"],"scope":"orders:read orders:write","sub":"alice"`); got != want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want)
		}
		if got, want := claimsOf(tell(nil, "orders", noon), noon), want(`"method":"none","roles":[]`); got != want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want)
		}
		if got, want := claimsOf(tell(whoIs("\"<\r\n", nil, nil), "orders", noon), noon), want(`"method":"jwt","roles":[],"sub":"\"\u003c\r\n"`); got != want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want)
		}

		// The same until half its life has passed, and for nobody else.
		if tell(alice, "orders", noon.Add(29*time.Second)) != first {
			t.Error("a new token before half of its life")
		}
		if tell(alice, "other", noon) == first || tell(whoIs("alice", nil, nil), "orders", noon) == first {
			t.Error("one token for two")
		}
		second := tell(alice, "orders", noon.Add(30*time.Second))
		if second == first || tell(alice, "orders", noon.Add(31*time.Second)) != second {
			t.Error("half of the life has passed, and the token is the same; or it is not kept")
		}
		// It ends with the credential.
		short := &Verified{Principal: alice.Principal, Method: alice.Method, Expires: noon.Add(10 * time.Second)}
		got := claimsOf(tell(short, "orders", noon), noon)
		if !strings.Contains(got, fmt.Sprintf(`"exp":%d`, noon.Unix()+10)) {
			t.Error(got)
		}
		if tell(short, "orders", noon.Add(4*time.Second)) == tell(short, "orders", noon.Add(5*time.Second)) {
			t.Error("half of the shorter life has passed")
		}
	}
}

// While one request makes the next token, others go on with the old one until
// it ends.
func TestForwardJWTRenewal(t *testing.T) {
	s := newSigner(t, gatehouse.Forward{Mode: gatehouse.ForwardJWT, Key: gatehouse.Secret(sharedSecret)})
	first := string(s.Append(nil, get(alice), noon))
	var kept *mintedToken
	for i := range s.minted.table.Load().sets {
		if set := s.minted.table.Load().sets[i].Load(); set != nil {
			kept = set[0].Load()
		}
	}
	kept.renewing.Store(true) // by a request that is still at it
	if string(s.Append(nil, get(alice), noon.Add(59*time.Second))) != first {
		t.Error("two make the next token")
	}
	if string(s.Append(nil, get(alice), noon.Add(60*time.Second))) == first {
		t.Error("a token past its end")
	}
}

// Tokens that share a place are told apart by all that they say.
func TestForwardJWTIsOfItsAudience(t *testing.T) {
	s := newSigner(t, gatehouse.Forward{Mode: gatehouse.ForwardJWT, Key: gatehouse.Secret(sharedSecret)})
	for i := range 4 * mintedSets {
		a := get(alice)
		a.Audience = gatehouse.BackendID(fmt.Sprintf("backend-%d", i))
		line := string(s.Append(nil, a, noon))
		if claims, ok := payloadOf([]byte(line), make([]byte, maxToken)); !ok || !strings.Contains(string(claims), `"aud":"`+string(a.Audience)+`"`) {
			t.Fatalf("%s is told %s", a.Audience, claims)
		}
	}
}

// What is kept of many callers is bounded.
func TestForwardJWTIsBounded(t *testing.T) {
	s := newSigner(t, gatehouse.Forward{Mode: gatehouse.ForwardJWT, Key: gatehouse.Secret(sharedSecret)})
	for i := range 3 * mintedSets * mintedWays {
		s.Append(nil, get(whoIs(fmt.Sprint(i), nil, nil)), noon)
	}
	n := 0
	for i := range s.minted.table.Load().sets {
		if set := s.minted.table.Load().sets[i].Load(); set != nil {
			for j := range set {
				if set[j].Load() != nil {
					n++
				}
			}
		}
	}
	if n > mintedSets*mintedWays || n < mintedSets {
		t.Errorf("%d tokens kept", n)
	}
}

func TestForwardDoesNotAllocate(t *testing.T) {
	buf := make([]byte, 0, 4096)
	for _, mode := range []gatehouse.ForwardMode{gatehouse.ForwardHeaders, gatehouse.ForwardSigned, gatehouse.ForwardJWT} {
		s := newSigner(t, gatehouse.Forward{Mode: mode, Key: gatehouse.Secret(sharedSecret)})
		a := get(alice)
		least := 1.0
		for range 100 { // with the race detector a pool loses some of what it is given
			least = min(least, testing.AllocsPerRun(1, func() { s.Append(buf, a, noon) }))
		}
		if least != 0 {
			t.Errorf("%s: %v allocations", mode, least)
		}
	}
}

func TestNewSignerRefuses(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	f := func(key gatehouse.Secret, want string) {
		t.Helper()
		for _, mode := range []gatehouse.ForwardMode{gatehouse.ForwardSigned, gatehouse.ForwardJWT} {
			_, err := NewSigner("acme", gatehouse.Identity{Forward: gatehouse.Forward{Mode: mode, Key: key}})
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %s", err, want)
			}
		}
	}
	f(nil, "0 bytes")
	f(gatehouse.Secret(sharedSecret[1:]), "31 bytes")
	f(pkcs8(t, p384), "neither Ed25519 nor ECDSA P-256")
	f(pkcs8(t, private().rsa), "neither Ed25519 nor ECDSA P-256")
}

func BenchmarkForward(b *testing.B) {
	buf := make([]byte, 0, 4096)
	run := func(name string, s *Signer) {
		b.Run(name, func(b *testing.B) {
			a := get(alice)
			b.ReportAllocs()
			for b.Loop() {
				s.Append(buf, a, noon)
			}
		})
	}
	run("headers", newSigner(b, gatehouse.Forward{}))
	for name, key := range forwardKeys(b) {
		run("signed/"+name, newSigner(b, gatehouse.Forward{Mode: gatehouse.ForwardSigned, Key: key}))
	}
	run("jwt/kept", newSigner(b, gatehouse.Forward{Mode: gatehouse.ForwardJWT, Key: pkcs8(b, private().ed)}))
	b.Run("jwt/new", func(b *testing.B) {
		s := newSigner(b, gatehouse.Forward{Mode: gatehouse.ForwardJWT, Key: pkcs8(b, private().ed)})
		b.ReportAllocs()
		for b.Loop() {
			s.mint(subject{alice.Principal, MethodJWT, noExpiry, "orders"}, noon)
		}
	})
}
