package identity

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/goleak"

	gatehouse "github.com/gatehouse-gateway/gatehouse"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// noon is the instant at which tests happen unless they say otherwise.
var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

const (
	iss = "https://issuer.example"
	api = "https://api.example"
)

// signers are private keys, made once.
type signers struct {
	rsa, rsa2, weak *rsa.PrivateKey
	p256, p384      *ecdsa.PrivateKey
	other           *ecdsa.PrivateKey // P-256, of somebody else
	p521            *ecdsa.PrivateKey
	ed              ed25519.PrivateKey
}

var private = sync.OnceValue(func() signers {
	var s signers
	var err error
	must := func(e error) {
		if err = e; err != nil {
			panic(err)
		}
	}
	var e error
	s.rsa, e = rsa.GenerateKey(rand.Reader, 2048)
	must(e)
	s.rsa2, e = rsa.GenerateKey(rand.Reader, 2048)
	must(e)
	s.weak, e = rsa.GenerateKey(rand.Reader, 1024)
	must(e)
	s.p256, e = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(e)
	s.other, e = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(e)
	s.p384, e = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(e)
	s.p521, e = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	must(e)
	_, s.ed, e = ed25519.GenerateKey(rand.Reader)
	must(e)
	return s
})

type object = map[string]any

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// jwk is the public key of a signer as a JSON Web Key.
func jwk(kid string, signer any, more object) object {
	m := object{"kid": kid}
	switch k := signer.(type) {
	case *rsa.PrivateKey:
		m["kty"], m["n"], m["e"] = "RSA", b64(k.N.Bytes()), b64(big.NewInt(int64(k.E)).Bytes())
	case *ecdsa.PrivateKey:
		size := (k.Curve.Params().BitSize + 7) / 8
		point, err := k.PublicKey.Bytes()
		if err != nil {
			panic(err)
		}
		m["kty"], m["crv"], m["x"], m["y"] = "EC", k.Curve.Params().Name, b64(point[1:1+size]), b64(point[1+size:])
	case ed25519.PrivateKey:
		m["kty"], m["crv"], m["x"] = "OKP", "Ed25519", b64(k.Public().(ed25519.PublicKey))
	}
	maps.Copy(m, more)
	return m
}

func jwks(keys ...object) string {
	b, err := json.Marshal(object{"keys": keys})
	if err != nil {
		panic(err)
	}
	return string(b)
}

// good are claims that everything accepts at noon.
func good(changes object) object {
	c := object{
		"iss": iss, "aud": api, "sub": "alice",
		"iat": noon.Add(-time.Minute).Unix(), "exp": noon.Add(time.Hour).Unix(),
	}
	maps.Copy(c, changes)
	for name, v := range c {
		if v == nil {
			delete(c, name)
		}
	}
	return c
}

// sign makes a token; header members come on top of alg.
func sign(alg string, header object, claims any, key any) string {
	t := &jwt.Token{Method: jwt.GetSigningMethod(alg), Header: object{"alg": alg}}
	maps.Copy(t.Header, header)
	h, err := json.Marshal(t.Header)
	if err != nil {
		panic(err)
	}
	var c []byte
	if raw, ok := claims.(string); ok {
		c = []byte(raw)
	} else if c, err = json.Marshal(claims); err != nil {
		panic(err)
	}
	text := b64(h) + "." + b64(c)
	sig, err := t.Method.Sign(text, key)
	if err != nil {
		panic(err)
	}
	return text + "." + b64(sig)
}

// issuerDoc accepts RS256, ES256 and EdDSA with the keys r, e and d.
func issuerDoc() gatehouse.Issuer {
	p := private()
	return gatehouse.Issuer{
		Issuer: iss, Audience: []string{"other", api}, Algorithms: []string{"RS256", "PS256", "ES256", "ES384", "ES512", "EdDSA"},
		JWKSFile: "keys.json",
		JWKS:     jwks(jwk("r", p.rsa, nil), jwk("e", p.p256, nil), jwk("d", p.ed, nil)),
	}
}

func compile(t testing.TB, tenant gatehouse.TenantID, doc gatehouse.Identity) *Verifier {
	t.Helper()
	v, faults := Compile(tenant, doc, nil, nil, nil)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	return v
}

// outcome is the principal's id, or the code, the message and the cause of the
// refusal.
func outcome(v *Verified, err error) string {
	if err == nil {
		return v.Principal.ID
	}
	e, ok := errors.AsType[*gatehouse.Error](err)
	if !ok {
		return "no gatehouse.Error: " + err.Error()
	}
	return string(e.Code) + " " + e.Message + " " + e.Err.Error()
}

// expect compares an outcome; want is a part of it, or all for an id.
func expect(t testing.TB, name, got, want string) {
	t.Helper()
	if got != want && (!strings.HasPrefix(got, "GH-") || !strings.Contains(got, want) || want == "") {
		t.Errorf("%s:\n got %s\nwant %s", name, got, want)
	}
}
