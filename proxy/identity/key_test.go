package identity

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"time"

	gatehouse "github.com/gatehouse-gateway/gatehouse"
)

// here is where callers are unless they say otherwise.
var here = netip.MustParseAddr("192.0.2.1")

// newKey makes the API key of a number.
func newKey(t testing.TB, n int) gatehouse.APIKey {
	t.Helper()
	k, err := gatehouse.NewAPIKey(bytes.NewReader(fmt.Appendf(nil, "%032d", n)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKey(t *testing.T) {
	one, two, last := newKey(t, 1), newKey(t, 2), newKey(t, 3)
	v := compile(t, "acme", gatehouse.Identity{APIKeys: &gatehouse.APIKeys{Keys: []gatehouse.Key{
		{ID: "one", Hash: one.Hash(), Roles: []string{"admin"}, Scopes: []string{"orders:read"}},
		{ID: "last", Hash: last.Hash(), Expires: gatehouse.Time{Time: noon}},
	}}})
	f := func(secret string, now time.Time, want string) {
		t.Helper()
		expect(t, secret, outcome(v.Key([]byte(secret), here, now)), want)
	}
	const refused = "GH-ID-002 the API key is not valid "
	f(one.Reveal(), noon, "key:one")
	f(two.Reveal(), noon, refused+"unknown")
	f(last.Reveal(), noon.Add(-1), "key:last")
	f(last.Reveal(), noon, "GH-ID-002 the API key has expired ")
	f("", noon, refused+"not the form")
	f(one.Reveal()[1:], noon, refused+"not the form")
	f(one.Reveal()+"0", noon, refused+"not the form")
	f(one.Reveal()[:51]+"_", noon, refused+"not the form")

	got, err := v.Key([]byte(one.Reveal()), here, noon)
	if err != nil {
		t.Fatal(err)
	}
	p := got.Principal
	if p.Kind != "key" || p.Tenant != "acme" || p.Roles[0] != "admin" || p.Scopes[0] != "orders:read" || got.Method != MethodAPIKey || got.KeyID != "one" || !got.Expires.IsZero() {
		t.Errorf("%+v %+v", got, p)
	}
	none := compile(t, "acme", gatehouse.Identity{})
	expect(t, "no keys", outcome(none.Key([]byte(one.Reveal()), here, noon)), refused+"unknown")
}

// Keys that share the first eight bytes of their hash are told apart by the
// rest.
func TestKeyPrefixCollision(t *testing.T) {
	one := newKey(t, 1)
	other := one.Hash()
	other[31]++
	third := one.Hash()
	third[8]++
	v := compile(t, "acme", gatehouse.Identity{APIKeys: &gatehouse.APIKeys{Keys: []gatehouse.Key{
		{ID: "before", Hash: other}, {ID: "one", Hash: one.Hash()}, {ID: "after", Hash: third},
	}}})
	expect(t, "one", outcome(v.Key([]byte(one.Reveal()), here, noon)), "key:one")
	w := compile(t, "acme", gatehouse.Identity{APIKeys: &gatehouse.APIKeys{Keys: []gatehouse.Key{{ID: "x", Hash: other}, {ID: "y", Hash: third}}}})
	expect(t, "none", outcome(w.Key([]byte(one.Reveal()), here, noon)), "unknown")
}

func TestKeyHeader(t *testing.T) {
	f := func(keys *gatehouse.APIKeys, want string) {
		t.Helper()
		if got := compile(t, "acme", gatehouse.Identity{APIKeys: keys}).KeyHeader(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	f(nil, "")
	f(&gatehouse.APIKeys{}, "X-API-Key")
	f(&gatehouse.APIKeys{Header: "X-Token"}, "X-Token")
}

func TestKeyDoesNotAllocate(t *testing.T) {
	one := newKey(t, 1)
	v := compile(t, "acme", gatehouse.Identity{APIKeys: &gatehouse.APIKeys{Keys: []gatehouse.Key{{ID: "one", Hash: one.Hash()}}}})
	secret := []byte(one.Reveal())
	if n := testing.AllocsPerRun(100, func() { _, _ = v.Key(secret, here, noon) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
