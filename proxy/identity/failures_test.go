package identity

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	gatehouse "github.com/gatehouse-gateway/gatehouse"
)

// counting is a signing method that counts what it verifies.
type counting struct {
	jwt.SigningMethod
	calls *int
}

func (c counting) Verify(text string, signature []byte, key any) error {
	*c.calls++
	return c.SigningMethod.Verify(text, signature, key)
}

// counted is a verifier of EdDSA tokens, and how many it verifies.
func counted(t *testing.T) (*Verifier, *int) {
	doc := issuerDoc()
	doc.Algorithms = []string{"EdDSA"}
	v, calls := compile(t, "acme", gatehouse.Identity{JWT: []gatehouse.Issuer{doc}}), new(int)
	by := v.tokens.issuers[iss]
	by.algorithms["EdDSA"] = counting{by.algorithms["EdDSA"], calls}
	return v, calls
}

func forged(n int) []byte {
	return []byte(sign("EdDSA", object{"kid": "d"}, good(object{"jti": fmt.Sprint(n)}), signerOf(n)))
}

func from(address string) *Presented { return &Presented{Client: netip.MustParseAddr(address)} }

// Forged tokens cost a bounded number of verifications, of an address and of a
// tenant; tokens that are known pass meanwhile, and others later.
func TestForgedTokensAreBounded(t *testing.T) {
	v, calls := counted(t)
	token := func(jti string) []byte {
		return []byte(sign("EdDSA", object{"kid": "d"}, good(object{"jti": jti}), private().ed))
	}
	known := token("known")
	f := func(name string, token []byte, by *Presented, now time.Time, want string, verified int) {
		t.Helper()
		before := *calls
		expect(t, name, outcome(v.Token(token, by, now)), want)
		if n := *calls - before; n != verified {
			t.Errorf("%s: verified %d times, not %d", name, n, verified)
		}
	}
	f("good", known, from("192.0.2.1"), noon, "alice", 1)
	before := *calls
	for i := range 1000 {
		_, _ = v.Token(forged(i), from("192.0.2.1"), noon)
	}
	if n := *calls - before; n != addressFailBurst {
		t.Errorf("one address had %d verified", n)
	}
	const away = "GH-ID-004 the credential cannot be checked at the moment too many tokens failed"
	f("known", known, from("192.0.2.1"), noon, "alice", 0)
	f("new, same address", token("a"), from("192.0.2.1"), noon, away, 0)
	f("new, another address", token("b"), from("192.0.2.2"), noon, "alice", 1)
	f("same /64", forged(0), from("2001:db8::1"), noon, "signature is invalid", 1)
	for i := range 1000 {
		_, _ = v.Token(forged(10_000+i), from("2001:db8::1:0:0:1"), noon)
		_, _ = v.Token(forged(20_000+i), from(fmt.Sprint("2001:db8::", i)), noon)
	}
	f("new, other /64", token("c"), from("2001:db8:0:1::1"), noon, "alice", 1)

	// From everywhere.
	for i := range 2000 {
		_, _ = v.Token(forged(i), from(fmt.Sprintf("198.51.%d.%d", i/200, i%200)), noon)
	}
	if n := *calls - before; n > failBurst+10 {
		t.Errorf("all addresses had %d verified", n)
	}
	f("known", known, nil, noon, "alice", 0)
	f("new, from nowhere bad", token("d"), from("203.0.113.1"), noon, away, 0)
	f("new, a second later", token("d"), from("203.0.113.1"), noon.Add(time.Second), "alice", 1)
	// A change of anything else does not start anew.
	next, _ := Compile("acme", gatehouse.Identity{JWT: []gatehouse.Issuer{issuerDoc()}}, nil, nil, v)
	if next.failed != v.failed || v.WithKeys(nil, nil).failed != v.failed {
		t.Error("a reload forgets the failures")
	}
	if other, _ := Compile("umbrella", gatehouse.Identity{}, nil, nil, v); other.failed == v.failed {
		t.Error("two tenants share failures")
	}
}

// A token that failed is not verified again, until the issuer's keys change.
func TestForgedTokenIsRemembered(t *testing.T) {
	v, calls := counted(t)
	bad := forged(1)
	var first string
	for i := range 2000 {
		got := outcome(v.Token(bad, from("192.0.2.1"), noon))
		if first == "" {
			first = got
		}
		if got != first {
			t.Fatalf("%d: %s, at first %s", i, got, first)
		}
	}
	if *calls != 1 {
		t.Errorf("verified %d times", *calls)
	}
	by := v.tokens.issuers[iss]
	set, _, err := parseKeySet([]byte(jwks(jwk("d", signerOf(1), nil))))
	if err != nil {
		t.Fatal(err)
	}
	by.fixed = set
	expect(t, "the key that signed it", outcome(v.Token(bad, from("192.0.2.1"), noon)), "alice")

	// Tokens that share a place are told apart.
	f, k := newFailures().note(here, noon), &key{}
	cause := errors.New("x")
	f.keep(&refusedToken{[sha256.Size]byte{1, 0, 1}, k, cause})
	for _, c := range []struct {
		hash [sha256.Size]byte
		key  *key
		want error
	}{{[sha256.Size]byte{1, 0, 1}, k, cause}, {[sha256.Size]byte{1, 0, 2}, k, nil}, {[sha256.Size]byte{1, 0, 1}, &key{}, nil}} {
		if got := f.before(&c.hash, c.key); !errors.Is(got, c.want) {
			t.Errorf("%v: %v", c.hash[:3], got)
		}
	}
}

// A proof whose signature does not hold counts as a token does.
func TestForgedProofsAreBounded(t *testing.T) {
	p := private()
	v := compile(t, "acme", gatehouse.Identity{JWT: []gatehouse.Issuer{issuerDoc()}})
	token := sign("ES256", object{"kid": "e"}, good(object{"cnf": object{"jkt": jkt(p.ed)}}), p.p256)
	bad := proof("EdDSA", p.ed, token, nil, nil)
	bad[len(bad)-3] ^= 1
	for range addressFailBurst {
		by := shown(bad)
		by.Client = here
		expect(t, "forged", outcome(v.Token([]byte(token), by, noon)), "GH-ID-002")
	}
	by := shown(proof("EdDSA", p.ed, token, nil, nil))
	by.Client = here
	expect(t, "good", outcome(v.Token([]byte(token), by, noon)), "GH-ID-004 the credential cannot be checked at the moment too many")
	expect(t, "good, later", outcome(v.Token([]byte(token), by, noon.Add(time.Second))), "alice")
}
