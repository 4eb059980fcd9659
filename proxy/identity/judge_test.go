package identity

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	gatehouse "github.com/gatehouse-gateway/gatehouse"
)

// Judging a key says what its use would, and is none.
func TestJudgeKey(t *testing.T) {
	good, bad := newKey(t, 1), newKey(t, 2)
	v := compile(t, "studio", gatehouse.Identity{APIKeys: &gatehouse.APIKeys{Keys: []gatehouse.Key{{ID: "ci", Hash: good.Hash(), Roles: []string{"dev"}}}}})
	now, from := time.Now(), netip.MustParseAddr("192.0.2.1")
	state := func() string {
		used := 0
		for range v.LastUsed() {
			used++
		}
		return fmt.Sprint(used, len(v.keys.warm.ring))
	}
	for range 3 {
		who, err := v.JudgeKey([]byte(good.Reveal()), from, now)
		if err != nil || who.Principal.ID != "key:ci" || who.KeyID != "ci" || who.Method != MethodAPIKey {
			t.Fatalf("%+v %v", who, err)
		}
		if _, err := v.JudgeKey([]byte(bad.Reveal()), from, now); gatehouse.CodeOf(err) != gatehouse.CodeInvalidCredential {
			t.Error(err)
		}
	}
	expect(t, "after judging", state(), "0 0")
	used, err := v.Key([]byte(good.Reveal()), from, now)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "after a use", state(), "1 1")
	judged, err := v.JudgeKey([]byte(good.Reveal()), from, now)
	if err != nil || judged != used {
		t.Errorf("%p %p %v", judged, used, err)
	}
}

// Judging a token with its proof remembers neither: the proof passes once all
// the same, and then no more.
func TestJudgeToken(t *testing.T) {
	p := private()
	v := compile(t, "acme", gatehouse.Identity{JWT: []gatehouse.Issuer{issuerDoc()}})
	token := sign("EdDSA", object{"kid": "d"}, good(object{"cnf": object{"jkt": jkt(p.p256)}}), p.ed)
	by := shown(nil)
	by.Proof = proof("ES256", p.p256, token, nil, nil)
	state := func() string {
		return fmt.Sprint(v.tokens.cache.bytes.Load(), v.proofs.count)
	}
	const untouched = "0 0"
	for range 2 {
		expect(t, "good", challenge(v.JudgeToken([]byte(token), by, noon)), "alice")
		if _, err := v.JudgeToken([]byte(token[:len(token)-8]+"AAAAAAAA"), by, noon); gatehouse.CodeOf(err) != gatehouse.CodeInvalidCredential {
			t.Error(err)
		}
	}
	expect(t, "after judging", state(), untouched)
	expect(t, "used", challenge(v.Token([]byte(token), by, noon)), "alice")
	expect(t, "judged after its use", challenge(v.JudgeToken([]byte(token), by, noon)), challenge(v.Token([]byte(token), by, noon)))
	if _, err := v.JudgeToken([]byte(token), by, noon); gatehouse.CodeOf(err) != gatehouse.CodeInvalidCredential {
		t.Error(err)
	}
	if _, err := v.JudgeOpaque([]byte("opaque"), by, noon); gatehouse.CodeOf(err) != gatehouse.CodeInvalidCredential {
		t.Error(err)
	}
}
