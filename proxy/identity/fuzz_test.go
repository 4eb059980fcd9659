package identity

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	gatehouse "github.com/gatehouse-gateway/gatehouse"
)

// Law: whatever the bytes and the instant, Token accepts nothing but the very
// tokens that were signed, and those only from nbf less the leeway until exp.
func FuzzToken(f *testing.F) {
	p := private()
	v := compile(f, "acme", gatehouse.Identity{JWT: []gatehouse.Issuer{issuerDoc()}})
	d := NewDirectory()
	if err := d.Set("acme", nil, v); err != nil {
		f.Fatal(err)
	}
	signed := map[string]bool{
		sign("RS256", object{"kid": "r"}, good(object{"nbf": noon.Unix()}), p.rsa): true,
		sign("EdDSA", object{"kid": "d"}, good(object{"nbf": noon.Unix()}), p.ed):  true,
	}
	for s := range signed {
		f.Add([]byte(s), int64(0))
		f.Add([]byte(s), int64(3600))
		f.Add([]byte(s[:len(s)-1]+next(s[len(s)-1])), int64(0))
	}
	f.Add([]byte(sign("RS256", object{"kid": "r"}, good(nil), p.rsa2)), int64(0))
	f.Add([]byte("e30.e30.AA"), int64(0))
	f.Fuzz(func(t *testing.T, token []byte, seconds int64) {
		seconds %= 1 << 32
		got, err := v.Token(token, nil, noon.Add(time.Duration(seconds)*time.Second))
		if err == nil && !signed[string(token)] {
			t.Fatalf("accepted: %s", token)
		}
		if within := seconds >= -60 && seconds < 3600; signed[string(token)] && within != (err == nil) {
			t.Fatalf("at %d s: %v", seconds, err)
		}
		if err == nil {
			if tenant, ok := d.TenantOfToken(token); !ok || tenant != "acme" || got.Principal.ID != "alice" {
				t.Fatalf("directory says %q, principal %+v", tenant, got.Principal)
			}
		}
	})
}

// Law: what the strict reader accepts, peek reads alike, and encoding/json
// too.
func FuzzPeek(f *testing.F) {
	for _, s := range []string{
		`{"iss":"a"}`, `{ "x" : [1,{"iss":"no"}] , "iss" : "a\"b" }`, `{"x":"}","iss":"\ud83d\ude00"}`, `{"iss":1}`, `{}`, `{"a":-1e5,"iss":""}`, `{"iss`, `{"iss":`, `{"a":}`, `{"a":]]]`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got, ok := peek(text, "iss")
		m, err := readObject(text)
		if err != nil {
			return
		}
		var plain object
		if err := json.Unmarshal(text, &plain); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		want, isText := m["iss"].(string)
		if other, ok := plain["iss"].(string); len(plain) != len(m) || other != want || ok != isText {
			t.Fatalf("%q: %v and %v", text, plain, m)
		}
		if ok && (!isText || want != string(got)) {
			t.Fatalf("%q: %q, want %q", text, got, want)
		}
		if !ok && isText && !bytes.ContainsRune(text, '\\') { // a name may have escapes
			t.Fatalf("%q: not found", text)
		}
	})
}

// Law: whatever the proof, it is accepted only if it is the one that was made
// for this very request.
func FuzzProof(f *testing.F) {
	p := private()
	v := compile(f, "acme", gatehouse.Identity{JWT: []gatehouse.Issuer{issuerDoc()}})
	token := sign("EdDSA", object{"kid": "d"}, good(object{"cnf": object{"jkt": jkt(p.ed)}}), p.ed)
	made := string(proof("EdDSA", p.ed, token, nil, nil)) // one of ES256 has two good signatures
	f.Add([]byte(made), "/v1/orders")
	f.Add([]byte(made), "/v1/./x/../orders")
	f.Add([]byte(made), "/v1%2forders")
	f.Add(proof("ES256", p.other, token, nil, nil), "/v1/orders")
	f.Add(proof("RS256", p.weak, token, nil, nil), "/")
	f.Fuzz(func(t *testing.T, proof []byte, path string) {
		v.proofs = &replays{limit: 1}
		by := shown(proof)
		by.Path = []byte(path)
		_, err := v.Token([]byte(token), by, noon)
		if err == nil && (string(proof) != made || normalPath(path) != "/v1/orders") {
			t.Fatalf("accepted at %q: %s", path, proof)
		}
		if r, ok := errors.AsType[*Refusal](err); err != nil && (!ok || r.Reason != ReasonProof) {
			t.Fatalf("%v", err)
		}
		if again := normalPath(normalPath(path)); again != normalPath(path) && !strings.Contains(path, "%") {
			t.Fatalf("%q: %q, then %q", path, normalPath(path), again)
		}
	})
}
