package identity

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	gatehouse "github.com/gatehouse-gateway/gatehouse"
)

// tenantDoc has API keys by number and issuers by name, with the tenant claim
// org where the name begins with a star.
func tenantDoc(t testing.TB, keys []int, issuers ...string) gatehouse.Identity {
	t.Helper()
	doc := gatehouse.Identity{APIKeys: &gatehouse.APIKeys{}}
	for _, n := range keys {
		doc.APIKeys.Keys = append(doc.APIKeys.Keys, gatehouse.Key{ID: gatehouse.KeyID(fmt.Sprint(n)), Hash: newKey(t, n).Hash()})
	}
	for _, name := range issuers {
		i := issuerDoc()
		i.Issuer = strings.TrimPrefix(name, "*")
		if i.Issuer != name {
			i.TenantClaim = "org"
		}
		doc.JWT = append(doc.JWT, i)
	}
	return doc
}

func token(claims string) []byte { return []byte("e30." + b64([]byte(claims)) + ".AA") }

func TestDirectory(t *testing.T) {
	d := NewDirectory()
	now := map[gatehouse.TenantID]*Verifier{}
	set := func(tenant gatehouse.TenantID, v *Verifier) {
		t.Helper()
		if err := d.Set(tenant, now[tenant], v); err != nil {
			t.Fatal(err)
		}
		now[tenant] = v
	}
	key := func(n int, want gatehouse.TenantID) {
		t.Helper()
		got, ok := d.TenantOfKey([]byte(newKey(t, n).Reveal()))
		if got != want || ok != (want != "") {
			t.Errorf("key %d: %q %v, want %q", n, got, ok, want)
		}
	}
	of := func(claims string, want gatehouse.TenantID) {
		t.Helper()
		got, ok := d.TenantOfToken(token(claims))
		if got != want || ok != (want != "") {
			t.Errorf("%s: %q %v, want %q", claims, got, ok, want)
		}
	}
	key(1, "")
	of(`{"iss":"own"}`, "")

	set("acme", compile(t, "acme", tenantDoc(t, []int{1, 2}, "own", "*shared")))
	key(1, "acme")
	key(2, "acme")
	key(3, "")
	of(`{"iss":"own"}`, "acme")
	of(`{"sub":"x", "iss" : "own" , "org":"umbrella"}`, "acme") // own has no tenant claim
	of(`{"iss":"\u006fwn"}`, "acme")
	of(`{"iss":"shared"}`, "acme")
	of(`{"iss":"shared","org":"acme"}`, "acme")
	of(`{"iss":"shared","org":"umbrella"}`, "")
	of(`{"iss":1}`, "")
	of(`{"ISS":"own"}`, "")
	of(`{"x":{"iss":"own"}}`, "")

	set("umbrella", compile(t, "umbrella", tenantDoc(t, []int{3}, "*shared")))
	key(3, "umbrella")
	of(`{"iss":"shared","org":"acme"}`, "acme")
	of(`{"iss":"shared","org":"umbrella"}`, "umbrella")
	of(`{"iss":"shared","org":"nobody"}`, "")
	of(`{"iss":"shared"}`, "")

	// A third that shares the issuer without claim cannot be meant by one.
	set("third", compile(t, "third", tenantDoc(t, nil, "shared")))
	of(`{"iss":"shared","org":"third"}`, "")
	of(`{"iss":"shared","org":"acme"}`, "acme")

	// A key taken by another tenant changes nothing.
	taken := compile(t, "third", tenantDoc(t, []int{9, 1}, "new"))
	err := d.Set("third", now["third"], taken)
	if gatehouse.CodeOf(err) != gatehouse.CodeInvalid {
		t.Errorf("taken: %v", err)
	}
	if e, ok := errors.AsType[*gatehouse.Error](err); !ok || strings.Contains(e.Message, "acme") {
		t.Error("the message names another tenant")
	}
	key(9, "")
	key(1, "acme")
	of(`{"iss":"new"}`, "")

	set("third", nil)
	set("acme", compile(t, "acme", tenantDoc(t, []int{2, 4}, "shared")))
	key(1, "")
	key(2, "acme")
	key(4, "acme")
	of(`{"iss":"own"}`, "")
	of(`{"iss":"shared","org":"acme"}`, "") // no longer under that claim
	set("acme", nil)
	key(2, "")
	of(`{"iss":"shared"}`, "umbrella")
	set("umbrella", nil)
	of(`{"iss":"shared"}`, "")
	if len(d.shared) != 0 {
		t.Errorf("left behind: %v", d.shared)
	}
}

// Whatever the changes, the directory agrees with a plain search.
func TestDirectoryAgreesWithSearch(t *testing.T) {
	names := []string{"i0", "i1", "*i2", "*i3", "i3"}
	tenants := []gatehouse.TenantID{"a", "b", "c"}
	rapid.Check(t, func(rt *rapid.T) {
		d := NewDirectory()
		docs := map[gatehouse.TenantID]*Verifier{}
		for range rapid.IntRange(1, 12).Draw(rt, "changes") {
			tenant := rapid.SampledFrom(tenants).Draw(rt, "tenant")
			var next *Verifier
			if rapid.Bool().Draw(rt, "present") {
				keys := rapid.SliceOfNDistinct(rapid.IntRange(0, 5), 0, 3, rapid.ID).Draw(rt, "keys")
				used := rapid.SliceOfNDistinct(rapid.SampledFrom(names), 0, 3, func(s string) string { return strings.TrimPrefix(s, "*") }).Draw(rt, "issuers")
				doc := tenantDoc(t, keys, used...)
				for i := range doc.JWT {
					doc.JWT[i].JWKS = ""
				}
				next = compile(t, tenant, doc)
			}
			taken := false
			for e := range next.secrets().all() {
				for other, v := range docs {
					taken = taken || v != nil && other != tenant && v.keys.find(&e.secret.hash) != nil
				}
			}
			if err := d.Set(tenant, docs[tenant], next); (err != nil) != taken {
				rt.Fatalf("taken %v: %v", taken, err)
			}
			if !taken {
				docs[tenant] = next
			}
			for n := range 6 {
				var want gatehouse.TenantID
				hash := newKey(t, n).Hash()
				for tenant, v := range docs {
					if v != nil && v.keys.find(&hash) != nil {
						want = tenant
					}
				}
				if got, _ := d.TenantOfKey([]byte(newKey(t, n).Reveal())); got != want {
					rt.Fatalf("key %d: %q, want %q", n, got, want)
				}
			}
			for n := range 4 {
				iss := fmt.Sprintf("i%d", n)
				for _, org := range []gatehouse.TenantID{"", "a", "b", "c", "z"} {
					claims := object{"iss": iss}
					if org != "" {
						claims["org"] = string(org)
					}
					b, _ := json.Marshal(claims)
					got, _ := d.TenantOfToken(token(string(b)))
					if want := search(docs, iss, org); got != want {
						rt.Fatalf("%s: %q, want %q", b, got, want)
					}
				}
			}
		}
	})
}

func search(docs map[gatehouse.TenantID]*Verifier, iss string, org gatehouse.TenantID) gatehouse.TenantID {
	var all []gatehouse.TenantID
	claimed, named := false, false
	for tenant, v := range docs {
		for _, i := range v.issuers() {
			if i.Issuer == iss {
				all = append(all, tenant)
				claimed = claimed || i.TenantClaim != ""
				named = named || i.TenantClaim != "" && tenant == org
			}
		}
	}
	switch {
	case named:
		return org
	case len(all) == 1 && (org == "" || !claimed):
		return all[0]
	}
	return ""
}

// Every credential against every tenant: only one's own is accepted, and the
// directory knows whose the others are.
func TestTenantsAreApart(t *testing.T) {
	p := private()
	tenants := []gatehouse.TenantID{"acme", "umbrella"}
	signer := map[gatehouse.TenantID]any{"acme": p.rsa, "umbrella": p.rsa2}
	d := NewDirectory()
	verifier := map[gatehouse.TenantID]*Verifier{}
	for n, tenant := range tenants {
		doc := tenantDoc(t, []int{n}, "https://"+string(tenant)+".example", "*https://shared.example", "https://same.example")
		doc.JWT[0].JWKS = jwks(jwk("k", signer[tenant], nil))
		doc.JWT[1].JWKS = jwks(jwk("k", p.rsa, nil))
		doc.JWT[2].JWKS = jwks(jwk("k", signer[tenant], nil))
		verifier[tenant] = compile(t, tenant, doc)
		if err := d.Set(tenant, nil, verifier[tenant]); err != nil {
			t.Fatal(err)
		}
	}
	kid := object{"kid": "k"}
	for n, owner := range tenants {
		key := []byte(newKey(t, n).Reveal())
		own := []byte(sign("RS256", kid, good(object{"iss": "https://" + string(owner) + ".example"}), signer[owner]))
		shared := []byte(sign("RS256", kid, good(object{"iss": "https://shared.example", "org": owner}), p.rsa))
		same := []byte(sign("RS256", kid, good(object{"iss": "https://same.example"}), signer[owner]))
		for _, host := range tenants {
			v := verifier[host]
			want := map[bool][4]string{
				true:  {"key:" + fmt.Sprint(n), "alice", "alice", "alice"},
				false: {"unknown API key", "no issuer", "GH-RS-003", "signature is invalid"},
			}[host == owner]
			at := fmt.Sprintf("%s at %s: ", owner, host)
			expect(t, at+"key", outcome(v.Key(key, here, noon)), want[0])
			expect(t, at+"own issuer", outcome(v.Token(own, nil, noon)), want[1])
			expect(t, at+"shared issuer", outcome(v.Token(shared, nil, noon)), want[2])
			expect(t, at+"same issuer name", outcome(v.Token(same, nil, noon)), want[3])
		}
		for _, tok := range [][]byte{own, shared} {
			if got, _ := d.TenantOfToken(tok); got != owner {
				t.Errorf("token of %s: %q", owner, got)
			}
		}
		if got, _ := d.TenantOfKey(key); got != owner {
			t.Errorf("key of %s: %q", owner, got)
		}
	}
}

func TestDirectoryDoesNotAllocate(t *testing.T) {
	d := NewDirectory()
	if err := d.Set("acme", nil, compile(t, "acme", tenantDoc(t, []int{1}, "*own"))); err != nil {
		t.Fatal(err)
	}
	secret, tok := []byte(newKey(t, 1).Reveal()), token(`{"iss":"own","org":"acme"}`)
	n := testing.AllocsPerRun(100, func() {
		_, a := d.TenantOfKey(secret)
		_, b := d.TenantOfToken(tok)
		if !a || !b {
			t.Fatal("not found")
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}
