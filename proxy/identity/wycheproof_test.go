package identity

import (
	"encoding/json"
	"io/fs"
	"strings"
	"testing"

	"github.com/c2sp/wycheproof"

	gatehouse "github.com/gatehouse-gateway/gatehouse"
)

// vectors are a file of Project Wycheproof, of type JsonWebSignature or
// JsonWebKey.
type vectors struct {
	NumberOfTests int
	TestGroups    []struct {
		Comment         string
		Public, Private json.RawMessage
		Tests           []struct {
			ID      int `json:"tcId"`
			Comment string
			Flags   []string
			Result  string
			JWS     json.RawMessage
		}
	}
}

func readVectors(t *testing.T, name string) (v vectors) {
	t.Helper()
	text, err := fs.ReadFile(wycheproof.TestVectors, name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// judged is what the verifier makes of a signature by a key or key set of
// Wycheproof: "accepted", or the reason of the refusal. Their payloads are no
// claims, so these are not looked at.
func judged(set, token string) string {
	doc := gatehouse.Issuer{
		Issuer: iss, JWKSFile: "k", JWKS: set,
		Algorithms: []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"},
	}
	var one struct{ KTY, ALG, K string }
	_ = json.Unmarshal([]byte(set), &one)
	if one.KTY == "oct" { // a shared secret is a file here, not a JWK
		secret, err := base64url.DecodeString(one.K)
		if err != nil {
			return "secret: " + err.Error()
		}
		doc.JWKSFile, doc.JWKS, doc.SecretFile, doc.Secret, doc.Algorithms = "", "", "s", secret, []string{one.ALG}
	} else if !strings.HasPrefix(set, `{"keys"`) {
		doc.JWKS = `{"keys":[` + set + `]}`
	}
	v, faults := Compile("acme", gatehouse.Identity{JWT: []gatehouse.Issuer{doc}}, nil, nil, nil)
	if v == nil {
		return "configuration: " + faults.Error()
	}
	j, err := parseJWS(token)
	if err != nil {
		return err.Error()
	}
	h, err := readHeader(j.header)
	if err != nil {
		return err.Error()
	}
	by := v.tokens.issuers[iss]
	k, err := by.find(h, noon, nil)
	if err == nil {
		err = v.failed.verify(token, &j, by.algorithms[h.alg], k, here, noon)
	}
	if err != nil {
		return err.Error()
	}
	return "accepted"
}

func TestWycheproofSignatures(t *testing.T) {
	const (
		ok, form, unknown = "accepted", "not three segments", "kid is not in the issuer's key set"
		forged, misfit    = "signature is invalid", "the key of that kid does not fit"
		disallowed        = "is not allowed"
	)
	// Where the verdict, or the reason, is not what the file would have, and why.
	differs := map[int]string{
		// No claims, no token.
		259: form, 264: form, 268: form, 272: form, 320: form, 325: form,
		// The token's alg is not that of the key, or the key's is none that
		// exists (RFC 7517 section 4.4).
		346: misfit, 350: misfit, 347: misfit, 351: misfit,
		// The same, and invalid in the file too, for the signature.
		332: misfit, 334: misfit, 336: misfit, 338: misfit, 340: misfit,
		// The very text of vector 357, which is valid.
		367: ok, 370: ok,
		// A character that is not of the alphabet (RFC 4648 section 3.3).
		372: form, 373: form,
	}
	// By the beginning of the comment.
	reasons := []struct{ comment, want string }{
		{"rejectsModifiedHeader", unknown},
		{"rejectsMissing", form},
		{"rejectsEmptyString", form},
		{"rejectsExtra", form},
		{"rejectsNoneAlgorithmAndMissingSignature", form},
		{"rejectsValidJsonSerialization", form},
		{"rejectsSymmetryConfusion", disallowed},
		{"rejectsAttackerProvidedEmbeddedJwk", forged},
		{"rejectsModified", forged},
		{"rejectsSpaces", form},
		{"rejectsInvalidCharacter", form},
		{"rejects0ReplacedbyInvalidCharacter", form},
		{"spacesIn", form},
		{"invalidCharacters", form},
		{"InvalidCharacterIn", form},
		{"ModifiedUnusedBits", "claims: illegal base64"},
		{"MacOfIncorrectlyEncodedMessage", "claims: illegal base64"},
		{"rejectWrong", "configuration: /jwt/0/jwks_file: no usable"}, // use and key_ops
		{"algIsNone", form},
	}
	file := readVectors(t, "json_web_signature_test.json")
	n, accepted := 0, 0
	for _, g := range file.TestGroups {
		for _, c := range g.Tests {
			n++
			want := ok
			if c.Result != "valid" {
				want = forged
				for _, r := range reasons {
					if strings.HasPrefix(c.Comment, r.comment) {
						want = r.want
						break
					}
				}
			}
			if d, there := differs[c.ID]; there {
				want = d
			}
			set := string(g.Public)
			if set == "" {
				set = string(g.Private)
				if want == unknown {
					want = forged // a shared secret has no kid
				}
			}
			var token string
			if json.Unmarshal(c.JWS, &token) != nil {
				token = string(c.JWS)
			}
			got := judged(set, token)
			if got == ok {
				accepted++
			}
			if !strings.Contains(got, want) {
				t.Errorf("%d %s (%s, %s):\n got %s\nwant %s", c.ID, c.Comment, g.Comment, c.Result, got, want)
			}
		}
	}
	if n != file.NumberOfTests || n < 401 {
		t.Errorf("%d vectors of %d", n, file.NumberOfTests)
	}
	t.Logf("%d vectors, %d accepted, %d not by the rule of their comment", n, accepted, len(differs))
}

func TestWycheproofKeys(t *testing.T) {
	const symmetric = "is private or symmetric"
	// Key sets with secrets are refused whole; their vectors are run a second
	// time, the secret alone.
	reasons := map[int][2]string{
		1: {symmetric}, 2: {symmetric, "accepted"}, 3: {symmetric, "signature is invalid"}, 4: {symmetric},
		5: {"accepted"}, 6: {"no usable"}, 7: {"no usable"}, 8: {"no usable"}, 9: {`key parameter "e" is out of range`},
		10: {symmetric, "bytes; HS256 needs at least 32"}, 11: {symmetric, "bytes; HS384 needs at least 48"}, 12: {symmetric, "bytes; HS512 needs at least 64"},
		13: {symmetric, "accepted"}, 14: {symmetric, "accepted"}, 15: {symmetric, "accepted"},
		16: {symmetric, "the issuer has no keys yet"}, 17: {symmetric, "the issuer has no keys yet"}, 18: {symmetric, "the issuer has no keys yet"},
		19: {"does not fit"}, 20: {"does not fit"}, 21: {"no usable"}, 22: {"configuration"}, 23: {"configuration"}, 24: {"configuration"},
		25: {symmetric, "is not supported"}, 26: {symmetric, "is not supported"},
	}
	file := readVectors(t, "json_web_key_test.json")
	n := 0
	for _, g := range file.TestGroups {
		for _, c := range g.Tests {
			n++
			set := g.Public
			if set == nil {
				set = g.Private
			}
			var token string
			if err := json.Unmarshal(c.JWS, &token); err != nil {
				t.Fatal(err)
			}
			got := judged(compacted(t, set), token)
			if want := reasons[c.ID][0]; want == "" || !strings.Contains(got, want) {
				t.Errorf("%d %s (%s, %s):\n got %s\nwant %s", c.ID, c.Comment, g.Comment, c.Result, got, want)
			}
			if want := reasons[c.ID][1]; want != "" {
				var keys struct{ Keys []json.RawMessage }
				if err := json.Unmarshal(set, &keys); err != nil {
					t.Fatal(err)
				}
				if got := judged(string(keys.Keys[0]), token); !strings.Contains(got, want) {
					t.Errorf("%d %s, the secret (%s):\n got %s\nwant %s", c.ID, c.Comment, c.Result, got, want)
				}
			}
		}
	}
	if n != file.NumberOfTests || n != len(reasons) {
		t.Errorf("%d vectors of %d", n, file.NumberOfTests)
	}
}

func compacted(t *testing.T, text []byte) string {
	t.Helper()
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Every token that is encrypted is refused, and none is taken for opaque.
func TestWycheproofEncryption(t *testing.T) {
	for _, name := range []string{"json_web_encryption_test.json", "json_web_crypto_test.json"} {
		var file struct {
			TestGroups []struct {
				Tests []struct {
					ID     int `json:"tcId"`
					Result string
					JWE    json.RawMessage
				}
			}
		}
		text, err := fs.ReadFile(wycheproof.TestVectors, name)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, &file); err != nil {
			t.Fatal(err)
		}
		v, n := compile(t, "acme", gatehouse.Identity{JWT: []gatehouse.Issuer{issuerDoc()}}), 0
		for _, g := range file.TestGroups {
			for _, c := range g.Tests {
				var token string
				if json.Unmarshal(c.JWE, &token) != nil || token == "" {
					continue
				}
				n++
				if got := outcome(v.Token([]byte(token), nil, noon)); !strings.Contains(got, "GH-ID-002") || !strings.Contains(got, "not three segments") {
					t.Errorf("%s %d: %s", name, c.ID, got)
				}
				if c.Result == "valid" && !IsJWT([]byte(token)) {
					t.Errorf("%s %d would be introspected", name, c.ID)
				}
			}
		}
		if n < 30 {
			t.Errorf("%s: %d vectors", name, n)
		}
	}
}
