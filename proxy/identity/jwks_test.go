package identity

import (
	"fmt"
	"strings"
	"testing"

	gatehouse "github.com/gatehouse-gateway/gatehouse"
)

func TestCompileFaults(t *testing.T) {
	p := private()
	f := func(name, set, want string) {
		t.Helper()
		doc := issuerDoc()
		doc.JWKS = set
		first := issuerDoc()
		first.Issuer = "https://first.example"
		v, faults := Compile("acme", gatehouse.Identity{JWT: []gatehouse.Issuer{first, doc}}, nil, nil, nil)
		if (v == nil) != (len(faults.Errors()) > 0) {
			t.Errorf("%s: verifier %v with %v", name, v, faults)
		}
		var got []string
		for _, f := range faults {
			kind := "error"
			if f.Warning {
				kind = "warning"
			}
			got = append(got, kind+" "+f.Pointer+" "+f.Reason)
		}
		if want == "" && len(got) > 0 || !strings.Contains(strings.Join(got, "; "), want) {
			t.Errorf("%s:\n got %q\nwant %s", name, got, want)
		}
	}
	const at = "error /jwt/1/jwks_file "
	f("not there yet", "", "")
	f("good", jwks(jwk("r", p.rsa, nil)), "")
	f("not JSON", "{", at+"not a JSON Web Key Set")
	f("list", "[]", at+"not a JSON Web Key Set")
	f("no keys", "{}", at+"no usable")
	f("empty", jwks(), at+"no usable")
	f("certificate", "-----BEGIN CERTIFICATE-----", at+"not a JSON Web Key Set")
	f("private EC", jwks(jwk("e", p.p256, object{"d": b64(make([]byte, 31)) + "AQ"})), at+`key 0 (kid "e") is private`)
	f("private RSA", jwks(jwk("r", p.rsa, nil), jwk("x", p.rsa2, object{"d": b64(p.rsa2.D.Bytes())})), at+`key 1 (kid "x") is private`)
	f("private part", jwks(jwk("r", p.rsa, object{"qi": "AQ"})), "is private")
	f("private OKP", jwks(jwk("d", p.ed, object{"d": b64(p.ed.Seed())})), "is private")
	f("symmetric", jwks(object{"kty": "oct", "k": b64([]byte("secret"))}), "symmetric")
	f("symmetric, empty", jwks(object{"kty": "oct"}), "is private or symmetric")
	f("weak", jwks(jwk("w", p.weak, nil)), at+"no usable")
	f("weak beside good", jwks(jwk("w", p.weak, nil), jwk("r", p.rsa, nil)), `warning /jwt/1/jwks_file key 0 (kid "w") is not used: RSA of 1024 bits`)
	f("huge", jwks(jwk("r", p.rsa, object{"n": b64(append([]byte{1}, make([]byte, 2048)...))})), at+"no usable")
	f("even exponent", jwks(jwk("r", p.rsa, object{"e": "BA"})), "exponent 4")
	f("exponent 1", jwks(jwk("r", p.rsa, object{"e": "AQ"})), `key 0 (kid "r")`)
	f("not on the curve", jwks(jwk("e", p.p256, object{"x": b64(make([]byte, 32))})), `key 0 (kid "e")`)
	f("wrong curve", jwks(jwk("e", p.p256, object{"crv": "P-384"})), `key 0 (kid "e")`)
	f("unsupported curve", jwks(jwk("e", p.p256, object{"crv": "secp256k1"})), "no usable")
	f("unsupported kind beside good", jwks(object{"kty": "AKP", "kid": "pq"}, jwk("r", p.rsa, nil)), "")
	f("missing member", jwks(object{"kty": "RSA", "kid": "r", "e": "AQAB"}), `key 0 (kid "r")`)
	f("short Ed25519", jwks(jwk("d", p.ed, object{"x": "AAAA"})), `key 0 (kid "d")`)
	f("kid twice", jwks(jwk("r", p.rsa, nil), jwk("r", p.rsa2, nil)), `kid "r" is given twice`)
	f("encryption only", jwks(jwk("r", p.rsa, object{"use": "enc"})), "no usable")
	var many []object
	for i := range maxKeys + 1 {
		many = append(many, jwk(fmt.Sprint(i), p.ed, nil))
	}
	f("100 keys", jwks(many[1:]...), "")
	f("101 keys", jwks(many...), "at most 100")
}

func TestCompileRefusesAlgorithms(t *testing.T) {
	f := func(doc gatehouse.Issuer, want string) {
		t.Helper()
		_, faults := Compile("acme", gatehouse.Identity{JWT: []gatehouse.Issuer{doc}}, nil, nil, nil)
		if len(faults) != 1 || faults[0].Warning || faults[0].Pointer != want {
			t.Errorf("%v: %v", doc.Algorithms, faults)
		}
	}
	f(gatehouse.Issuer{Issuer: iss, Algorithms: []string{"RS256", "none"}, JWKSFile: "k"}, "/jwt/0/algorithms/1")
	f(gatehouse.Issuer{Issuer: iss, Algorithms: []string{"HS256"}, JWKSFile: "k"}, "/jwt/0/algorithms/0")
	f(gatehouse.Issuer{Issuer: iss, Algorithms: []string{"RS256"}, SecretFile: "s"}, "/jwt/0/algorithms/0")
	f(gatehouse.Issuer{Issuer: iss, Algorithms: []string{"XX"}, JWKSURL: "https://k"}, "/jwt/0/algorithms/0")
}

// Without kid, a key is taken only where there is no choice.
func TestNoKID(t *testing.T) {
	p := private()
	f := func(want string, keys ...object) {
		t.Helper()
		doc := issuerDoc()
		doc.JWKS = jwks(keys...)
		v := compile(t, "acme", gatehouse.Identity{JWT: []gatehouse.Issuer{doc}})
		expect(t, want, outcome(v.Token([]byte(sign("RS256", nil, good(nil), p.rsa)), nil, noon)), want)
	}
	f("alice", jwk("r", p.rsa, nil), jwk("e", p.p256, nil))
	f("alice", jwk("r", p.rsa, nil), jwk("s", p.rsa2, object{"alg": "PS256"}))
	f("no kid", jwk("r", p.rsa, nil), jwk("s", p.rsa2, nil))
	f("no kid", jwk("e", p.p256, nil))
}
