package identity

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	gatehouse "github.com/gatehouse-gateway/gatehouse"
)

// memory is all that a verifier remembers of requests.
func memory(v *Verifier, now time.Time) string {
	entries := func(c *cache) (n int) {
		if table := c.table.Load(); table != nil {
			for i := range table {
				if s := table[i].Load(); s != nil {
					for j := range s {
						if s[j].Load() != nil {
							n++
						}
					}
				}
			}
		}
		return n
	}
	s := fmt.Sprint("tokens ", entries(&v.tokens.cache), " in ", v.tokens.cache.bytes.Load(), " proofs ", v.proofs.count, " used ", used(v),
		" failed ", v.failed.seen.Load() != nil)
	for _, i := range v.tokens.issuers {
		if i.source != nil {
			s += fmt.Sprint(" source ", i.source.unknown.TokensAt(now), i.source.waiting.Load(), i.source.done != nil)
		}
	}
	return s
}

// The question of another tenant's request whether a credential is good here
// leaves no trace here, whatever the credential.
func TestGenuineLeavesNoTrace(t *testing.T) {
	p := private()
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		at := func(changes object) object {
			c := good(object{"iat": now.Unix(), "exp": now.Add(time.Hour).Unix()})
			for k, v := range changes {
				c[k] = v
			}
			return c
		}
		e := newEndpoint(jwks(jwk("e", p.p256, nil)))
		sets := NewKeySets(e, nil)
		defer sets.Close()
		key, old, walled := newKey(t, 1), newKey(t, 2), newKey(t, 3)
		var wall gatehouse.Prefix
		if err := wall.UnmarshalText([]byte("198.51.100.0/24")); err != nil {
			t.Fatal(err)
		}
		doc := urlDoc()
		doc.JWT[0].Algorithms = []string{"ES256"}
		doc.APIKeys = &gatehouse.APIKeys{Keys: []gatehouse.Key{
			{ID: "key", Hash: key.Hash()},
			{ID: "old", Hash: old.Hash(), Expires: gatehouse.Time{Time: now.Add(-time.Hour)}},
			{ID: "walled", Hash: walled.Hash(), Addresses: []gatehouse.Prefix{wall}},
		}}
		v, faults := Compile("acme", doc, nil, sets, nil)
		if len(faults) > 0 {
			t.Fatal(faults)
		}
		defer v.Close()
		synctest.Wait()
		asker := compile(t, "umbrella", gatehouse.Identity{})
		before := memory(v, now)
		still := func(name string) {
			t.Helper()
			if after := memory(v, now); after != before || e.count() != 1 {
				t.Errorf("%s left a trace, %d fetches:\n%s\n%s", name, e.count(), before, after)
			}
		}
		k := func(name string, secret gatehouse.APIKey, want bool) {
			t.Helper()
			if got := v.GenuineKey([]byte(secret.Reveal()), here, now); got != want {
				t.Errorf("%s: %v", name, got)
			}
			still(name)
		}
		k("key", key, true)
		k("expired key", old, false)
		k("key from elsewhere", walled, false)
		k("unknown key", newKey(t, 4), false)
		if v.keys.find(&doc.APIKeys.Keys[0].Hash).who.Load() != nil {
			t.Error("the key was prepared")
		}

		f := func(name string, token string, by *Presented, want bool) {
			t.Helper()
			for range 2 {
				start := time.Now()
				if got := v.GenuineToken([]byte(token), by, now, asker); got != want {
					t.Errorf("%s: %v", name, got)
				}
				if d := time.Since(start); d > 0 {
					t.Errorf("%s waited for %v", name, d)
				}
			}
			still(name)
		}
		bound := sign("ES256", object{"kid": "e"}, at(object{"cnf": object{"jkt": jkt(p.ed)}}), p.p256)
		by := shown(proof("EdDSA", p.ed, bound, nil, object{"iat": now.Unix()}))
		f("token", sign("ES256", object{"kid": "e"}, at(nil), p.p256), nil, true)
		f("expired", sign("ES256", object{"kid": "e"}, at(object{"exp": now.Unix()}), p.p256), nil, false)
		f("unknown kid", sign("ES256", object{"kid": "new"}, at(nil), p.p256), nil, false)
		f("forged", sign("ES256", object{"kid": "e"}, at(nil), p.other), nil, false)
		f("bound, without its proof", bound, nil, false)
		f("bound", bound, by, true)
		f("too long", string(make([]byte, maxToken+1)), nil, false)
		if asker.failed.seen.Load() == nil {
			t.Error("the forged token does not count where it was shown")
		}
		// The proof was not used up.
		expect(t, "at home", outcome(v.Token([]byte(bound), by, now)), "alice")
		if memory(v, now) == before {
			t.Error("memory sees nothing")
		}
	})
}
