package identity

import (
	"fmt"
	"strings"
	"testing"
	"time"

	gatehouse "github.com/gatehouse-gateway/gatehouse"
)

// A client that chose a user's sub as its id is not that user (RFC 9700 section
// 4.15), and no token's sub passes for a client.
func TestClientIsNoUser(t *testing.T) {
	tokens := map[string]any{
		"user":   object{"active": true, "sub": "ada", "iss": "https://as.example"},
		"client": object{"active": true, "client_id": "ada"},
		"posing": object{"active": true, "sub": "client:ada"},
		"nested": object{"active": true, "client_id": "key:prod"},
	}
	doc := opaqueDoc()
	doc.Introspection.Issuer = "https://as.example"
	introspecting(t, doc, tokens, func(t *testing.T, _ *authority, v *Verifier) {
		f := func(token, kind, want string) {
			t.Helper()
			who, err := v.Opaque([]byte(token), nil, time.Now())
			expect(t, token, outcome(who, err), want)
			if err == nil && (who.Principal.Kind != kind || who.Principal.Issuer != "https://as.example") {
				t.Errorf("%s: kind %s of %s", token, who.Principal.Kind, who.Principal.Issuer)
			}
		}
		f("user", "user", "ada")
		f("client", "client", "client:ada")
		f("posing", "", `sub "client:ada" is missing or not allowed`)
		f("nested", "client", "client:key:prod")
	})
	v := compile(t, "acme", gatehouse.Identity{JWT: []gatehouse.Issuer{issuerDoc()}})
	token := sign("EdDSA", object{"kid": "d"}, good(object{"sub": "client:ada"}), private().ed)
	expect(t, "posing", outcome(v.Token([]byte(token), nil, noon)), `sub "client:ada" is missing or not allowed`)
}

// One sub of two issuers is two callers, and whoever is told of them is told
// which.
func TestIssuersAreTold(t *testing.T) {
	p := private()
	second := issuerDoc()
	second.Issuer = "https://other.example/ü"
	doc := gatehouse.Identity{JWT: []gatehouse.Issuer{issuerDoc(), second}}
	v := compile(t, "acme", doc)
	who := func(issuer string) *Verified {
		return accepted1(t, v, sign("EdDSA", object{"kid": "d"}, good(object{"iss": issuer}), p.ed), noon)
	}
	one, two := who(iss), who(second.Issuer)
	if one.Principal.ID != two.Principal.ID || one.Principal.Issuer != iss || two.Principal.Issuer != second.Issuer {
		t.Errorf("%s of %s, %s of %s", one.Principal.ID, one.Principal.Issuer, two.Principal.ID, two.Principal.Issuer)
	}
	key := newKey(t, 1)
	if who, err := compile(t, "acme", keysDoc(gatehouse.Key{ID: "k", Hash: key.Hash()})).Key([]byte(key.Reveal()), here, noon); err != nil || who.Principal.Issuer != "" {
		t.Errorf("%v %v", who, err)
	}

	f := func(name string, doc gatehouse.Identity, who *Verified, want string) {
		t.Helper()
		s, err := NewSigner("acme", doc)
		if err != nil {
			t.Fatal(err)
		}
		text := string(s.Append(nil, &Assertion{Who: who, Method: []byte("GET"), Authority: []byte("a"), Path: []byte("/"), Audience: "b"}, noon))
		got := ""
		for line := range strings.SplitSeq(text, "\r\n") {
			if strings.HasPrefix(line, FieldIssuer) {
				got += line
			}
			if strings.HasPrefix(line, FieldSignatureInput) && strings.Contains(line, `"x-gatehouse-issuer"`) {
				got += " signed"
			}
		}
		if got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	f("headers", doc, two, "X-Gatehouse-Issuer: https://other.example/%C3%BC")
	f("headers, anonymous", doc, nil, "")
	signed := doc
	signed.Forward = gatehouse.Forward{Mode: gatehouse.ForwardSigned, Key: gatehouse.Secret(sharedSecret)}
	f("signed", signed, one, "X-Gatehouse-Issuer: "+iss+" signed")
	f("signed, anonymous", signed, nil, "X-Gatehouse-Issuer:  signed")
	alone := gatehouse.Identity{JWT: doc.JWT[:1], Forward: signed.Forward}
	f("one issuer", alone, one, "")
	alone.Introspection = opaqueDoc().Introspection
	f("one, and a server", alone, one, "X-Gatehouse-Issuer: "+iss+" signed")

	alone = gatehouse.Identity{Forward: gatehouse.Forward{Mode: gatehouse.ForwardJWT, Key: gatehouse.Secret(sharedSecret)}}
	s, err := NewSigner("acme", alone)
	if err != nil {
		t.Fatal(err)
	}
	for who, want := range map[*Verified]any{one: iss, two: second.Issuer, nil: nil} {
		line := string(s.Append(nil, &Assertion{Who: who, Audience: "b"}, noon))
		payload, _ := base64url.DecodeString(strings.Split(strings.TrimSuffix(line, "\r\n"), ".")[1])
		c, err := readObject(payload)
		if err != nil || c["src_iss"] != want {
			t.Errorf("src_iss %v of %v, want %v: %v", c["src_iss"], who, want, err)
		}
	}
}

// What a signer keeps of callers is bounded in bytes, and a caller whose token is
// not remembered leaves nothing.
func TestMintedBytes(t *testing.T) {
	s := newSigner(t, gatehouse.Forward{Mode: gatehouse.ForwardJWT, Key: gatehouse.Secret(sharedSecret)})
	large := whoIs("large", nil, nil)
	large.size = maxSeen + 1
	s.Append(nil, &Assertion{Who: large, Audience: "b"}, noon)
	if n := s.minted.table.Load().bytes.Load(); n != 0 {
		t.Errorf("%d bytes kept of a large caller", n)
	}
	for i := range 500 {
		who := whoIs(fmt.Sprint(i), nil, nil)
		who.size = maxSeen
		first := string(s.Append(nil, &Assertion{Who: who, Audience: "b"}, noon))
		if s.minted.table.Load().bytes.Load() <= mintedBytes && string(s.Append(nil, &Assertion{Who: who, Audience: "b"}, noon)) != first {
			t.Errorf("%d: not kept", i)
		}
		sum := int64(0)
		for j := range s.minted.table.Load().sets {
			if set := s.minted.table.Load().sets[j].Load(); set != nil {
				for k := range set {
					if kept := set[k].Load(); kept != nil {
						sum += kept.size
					}
				}
			}
		}
		if n := s.minted.table.Load().bytes.Load(); n != sum || n > mintedBytes+2*maxSeen {
			t.Fatalf("%d bytes told, %d kept", n, sum)
		}
	}
}
