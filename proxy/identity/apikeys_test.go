package identity

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	gatehouse "github.com/gatehouse-gateway/gatehouse"
)

func keysDoc(keys ...gatehouse.Key) gatehouse.Identity {
	return gatehouse.Identity{APIKeys: &gatehouse.APIKeys{Keys: keys}}
}

func at(t time.Time) gatehouse.Time { return gatehouse.Time{Time: t} }

// A key that is rotated has two secrets until the overlap ends, and one
// identity all along.
func TestKeyRotation(t *testing.T) {
	old, fresh := newKey(t, 1), newKey(t, 2)
	key := gatehouse.Key{
		ID: "one", Hash: fresh.Hash(), Roles: []string{"admin"},
		Previous: &gatehouse.PreviousKey{Hash: old.Hash(), Until: at(noon.Add(time.Hour))},
	}
	v := compile(t, "acme", keysDoc(key))
	d := NewDirectory()
	if err := d.Set("acme", nil, v); err != nil {
		t.Fatal(err)
	}
	f := func(v *Verifier, k gatehouse.APIKey, now time.Time, want string) {
		t.Helper()
		expect(t, "key", outcome(v.Key([]byte(k.Reveal()), here, now)), want)
	}
	f(v, fresh, noon, "key:one")
	f(v, old, noon, "key:one")
	f(v, old, noon.Add(time.Hour-1), "key:one")
	f(v, old, noon.Add(time.Hour), "GH-ID-002 the API key has expired API key past the overlap")
	f(v, fresh, noon.Add(time.Hour), "key:one")

	a, _ := v.Key([]byte(fresh.Reveal()), here, noon)
	b, _ := v.Key([]byte(old.Reveal()), here, noon)
	if a.Principal != b.Principal || !a.Expires.IsZero() || !b.Expires.Equal(noon.Add(time.Hour)) || b.KeyID != "one" {
		t.Errorf("%+v %+v", a, b)
	}
	for _, k := range []gatehouse.APIKey{old, fresh} {
		if tenant, _ := d.TenantOfKey([]byte(k.Reveal())); tenant != "acme" {
			t.Errorf("directory: %q", tenant)
		}
		other := compile(t, "umbrella", keysDoc(gatehouse.Key{ID: "x", Hash: k.Hash()}))
		if err := d.Set("umbrella", nil, other); gatehouse.CodeOf(err) != gatehouse.CodeInvalid {
			t.Errorf("another tenant takes the key: %v", err)
		}
		other = compile(t, "umbrella", keysDoc(gatehouse.Key{ID: "x", Hash: newKey(t, 9).Hash(), Previous: &gatehouse.PreviousKey{Hash: k.Hash(), Until: at(noon)}}))
		if err := d.Set("umbrella", nil, other); gatehouse.CodeOf(err) != gatehouse.CodeInvalid {
			t.Errorf("another tenant takes the key as a previous one: %v", err)
		}
	}

	// The key's own expiry ends both; the end of the rotation leaves one.
	key.Expires = at(noon.Add(time.Minute))
	w := v.WithKeys([]gatehouse.Key{key}, nil)
	f(w, old, noon.Add(time.Minute), "GH-ID-002 the API key has expired API key past its expiry")
	key.Previous, key.Expires = nil, gatehouse.Time{}
	w = w.WithKeys([]gatehouse.Key{key}, nil)
	f(w, old, noon, "unknown")
	f(w, fresh, noon.AddDate(100, 0, 0), "key:one")
	if err := d.Set("acme", v, w); err != nil {
		t.Fatal(err)
	}
	if tenant, ok := d.TenantOfKey([]byte(old.Reveal())); ok {
		t.Errorf("the replaced secret is still of %s", tenant)
	}
}

func TestKeyAddresses(t *testing.T) {
	k := newKey(t, 1)
	prefix := func(s string) (p gatehouse.Prefix) {
		if err := p.UnmarshalText([]byte(s)); err != nil {
			t.Fatal(err)
		}
		return p
	}
	v := compile(t, "acme", keysDoc(gatehouse.Key{ID: "one", Hash: k.Hash(), Addresses: []gatehouse.Prefix{
		prefix("192.0.2.0/24"), prefix("2001:db8::/32"), prefix("198.51.100.7"),
	}}))
	f := func(client, want string) {
		t.Helper()
		a, err := netip.ParseAddr(client)
		if client != "" && err != nil {
			t.Fatal(err)
		}
		expect(t, client, outcome(v.Key([]byte(k.Reveal()), a, noon)), want)
	}
	f("192.0.2.255", "key:one")
	f("::ffff:192.0.2.1", "key:one")
	f("2001:db8:ffff::1", "key:one")
	f("2001:db8::1%eth0", "key:one")
	f("198.51.100.7", "key:one")
	const refused = "GH-ID-002 the API key is not valid "
	f("192.0.3.0", refused+`API key "one" is not accepted from 192.0.3.0`)
	f("198.51.100.8", refused+"API key \"one\" is not accepted from")
	f("2001:db9::1", refused+"API key \"one\" is not accepted from")
	f("", refused+"API key \"one\" is not accepted from invalid IP")
	if got := used(v); got != "one=43200" {
		t.Errorf("used: %s", got) // a refusal is no use
	}
}

// used is what LastUsed says, in seconds of the day.
func used(v *Verifier) string {
	var out []string
	for id, at := range v.LastUsed() {
		out = append(out, fmt.Sprintf("%s=%d", id, at.Sub(noon.Truncate(24*time.Hour))/time.Second))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// The last use is kept while the key is, however the key and the tenant
// change.
func TestKeyLastUsed(t *testing.T) {
	one, two, three := newKey(t, 1), newKey(t, 2), newKey(t, 3)
	key := func(id gatehouse.KeyID, k gatehouse.APIKey) gatehouse.Key {
		return gatehouse.Key{ID: id, Hash: k.Hash()}
	}
	use := func(v *Verifier, k gatehouse.APIKey, second int) {
		t.Helper()
		if _, err := v.Key([]byte(k.Reveal()), here, noon.Add(time.Duration(second)*time.Second+500)); err != nil {
			t.Fatal(err)
		}
	}
	follow := func(prev *Verifier, doc gatehouse.Identity) *Verifier {
		v, faults := Compile("acme", doc, nil, nil, prev)
		if len(faults) > 0 {
			t.Fatal(faults)
		}
		return v
	}
	f := func(v *Verifier, want string) {
		t.Helper()
		if got := used(v); got != want {
			t.Errorf("used %s, want %s", got, want)
		}
	}
	v := compile(t, "acme", keysDoc(key("a", one), key("b", two)))
	f(v, "")
	use(v, one, 1)
	f(v, "a=43201")
	use(v, one, 0) // a request that began before
	f(v, "a=43201")

	w := follow(v, keysDoc(key("a", three), key("b", two)))
	f(w, "a=43201")
	use(v, two, 2) // a request that still holds the old one
	use(v, one, 3)
	f(w, "a=43203 b=43202")
	use(w, three, 4)
	f(w, "a=43204 b=43202")

	w = follow(w, keysDoc(key("b", two)))
	f(w, "b=43202")
	w = follow(w, keysDoc(key("a", three), key("b", two)))
	f(w, "b=43202")
	w = w.WithKeys([]gatehouse.Key{key("c", one)}, []gatehouse.KeyID{"b", "none"})
	use(w, one, 9)
	f(w, "c=43209")
	f(compile(t, "acme", gatehouse.Identity{}), "")
	if v, _ := Compile("umbrella", keysDoc(key("c", one)), nil, nil, w); used(v) != "" {
		t.Error("another tenant has it")
	}
}

// Whatever the changes, and by whichever way, the keys are those of a
// document compiled alone, and so is the directory.
func TestWithKeysAgreesWithCompile(t *testing.T) {
	roles := [][]string{nil, {"reader"}, {"reader", "writer"}}
	rapid.Check(t, func(rt *rapid.T) {
		docs := map[gatehouse.KeyID]gatehouse.Key{}
		v := compile(t, "acme", keysDoc())
		d := NewDirectory()
		for range rapid.IntRange(1, 8).Draw(rt, "steps") {
			var changed []gatehouse.Key
			var removed []gatehouse.KeyID
			for _, n := range rapid.SliceOfNDistinct(rapid.IntRange(0, 40), 0, 20, rapid.ID).Draw(rt, "keys") {
				id := gatehouse.KeyID(fmt.Sprint(n))
				if rapid.Bool().Draw(rt, "remove") {
					removed = append(removed, id)
					delete(docs, id)
					continue
				}
				k := gatehouse.Key{ID: id, Roles: rapid.SampledFrom(roles).Draw(rt, "roles")}
				k.Hash = newKey(t, 100*n+rapid.IntRange(0, 2).Draw(rt, "hash")).Hash()
				if rapid.Bool().Draw(rt, "rotated") {
					k.Previous = &gatehouse.PreviousKey{Hash: newKey(t, 100*n+3).Hash(), Until: at(noon.Add(time.Hour))}
				}
				changed = append(changed, k)
				docs[id] = k
			}
			all := slices.Collect(maps.Values(docs))
			next := v.WithKeys(changed, removed)
			if rapid.Bool().Draw(rt, "whole") {
				next, _ = Compile("acme", keysDoc(all...), nil, nil, v)
			}
			if err := d.Set("acme", v, next); err != nil {
				rt.Fatal(err)
			}
			v = next
			alone := compile(t, "acme", keysDoc(all...))
			for n := range 41 {
				for h := range 4 {
					secret := []byte(newKey(t, 100*n+h).Reveal())
					got, err := v.Key(secret, here, noon)
					want, errAlone := alone.Key(secret, here, noon)
					if outcome(got, err) != outcome(want, errAlone) || err == nil && !reflect.DeepEqual(got.Principal.Roles, want.Principal.Roles) {
						rt.Fatalf("key %d.%d: %s, want %s", n, h, outcome(got, err), outcome(want, errAlone))
					}
					if _, known := d.TenantOfKey(secret); known != (errAlone == nil) {
						rt.Fatalf("key %d.%d in the directory: %v", n, h, known)
					}
				}
			}
			if v.keys.ids.count != len(docs) || d.keys.Load().count != v.keys.hashes.count {
				rt.Fatalf("%d keys, %d in the directory, want %d", v.keys.ids.count, d.keys.Load().count, len(docs))
			}
		}
	})
}

// WithKeys carries over all that is not of the keys.
func TestWithKeysKeepsTheRest(t *testing.T) {
	doc := keysDoc()
	doc.APIKeys.Header = "X-Token"
	doc.JWT = []gatehouse.Issuer{issuerDoc()}
	v := compile(t, "acme", doc)
	next := v.WithKeys(nil, nil)
	a, b := reflect.ValueOf(v).Elem(), reflect.ValueOf(next).Elem()
	for i := range a.NumField() {
		name := a.Type().Field(i).Name
		if name != "keys" && name != "closed" && !a.Field(i).Equal(b.Field(i)) {
			t.Errorf("%s is not carried over", name)
		}
	}
	if next.KeyHeader() != "X-Token" {
		t.Error(next.KeyHeader())
	}
}

// A tenant of many keys has no more principals at hand than stated.
func TestWarmIsBounded(t *testing.T) {
	const n = maxWarm + 100
	doc := keysDoc()
	for i := range n {
		doc.APIKeys.Keys = append(doc.APIKeys.Keys, gatehouse.Key{ID: gatehouse.KeyID(fmt.Sprint(i)), Hash: newKey(t, i).Hash()})
	}
	v := compile(t, "acme", doc)
	at := func(k *apiKey) bool { return k.current.who.Load() != nil }
	count := func() (n int) {
		for e := range v.keys.ids.all() {
			if at(e.secret.key) {
				n++
			}
		}
		return n
	}
	for i := range n {
		for range 2 {
			if _, err := v.Key([]byte(newKey(t, i).Reveal()), here, noon.Add(time.Duration(i)*time.Second)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := count(); got != maxWarm {
		t.Errorf("%d at hand, want %d", got, maxWarm)
	}
	if cooled := v.Cool(noon.Add((n - 10) * time.Second)); cooled != maxWarm-10 || count() != 10 {
		t.Errorf("%d cooled, %d at hand", cooled, count())
	}
	expect(t, "cooled", outcome(v.Key([]byte(newKey(t, 0).Reveal()), here, noon)), "key:0")
	if got := count(); got != 11 {
		t.Errorf("%d at hand after one more use", got)
	}
	if v := compile(t, "acme", gatehouse.Identity{}); v.Cool(noon) != 0 {
		t.Error("cooled without keys")
	}
}

// Requests go on while keys change and cool.
func TestKeysWhileTheyChange(t *testing.T) {
	doc := keysDoc()
	for i := range 50 {
		doc.APIKeys.Keys = append(doc.APIKeys.Keys, gatehouse.Key{ID: gatehouse.KeyID(fmt.Sprint(i)), Hash: newKey(t, i).Hash()})
	}
	v := compile(t, "acme", doc)
	d := NewDirectory()
	if err := d.Set("acme", nil, v); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	done := make(chan struct{})
	for range 2 {
		wg.Go(func() {
			secret := []byte(newKey(t, 7).Reveal())
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				if got := outcome(v.Key(secret, here, noon.Add(time.Duration(i)*time.Second))); got != "key:7" {
					t.Error(got)
				}
				if _, ok := d.TenantOfKey(secret); !ok {
					t.Error("not in the directory")
				}
			}
		})
	}
	last := v
	for i := range 300 {
		k := doc.APIKeys.Keys[i%50]
		k.Roles = []string{fmt.Sprint(i)}
		next := last.WithKeys([]gatehouse.Key{k}, nil)
		if err := d.Set("acme", last, next); err != nil {
			t.Fatal(err)
		}
		next.Cool(noon.AddDate(1, 0, 0))
		last = next
	}
	close(done)
	wg.Wait()
	if n := len(last.keys.grants.known); n != maxGrants {
		t.Errorf("%d grants remembered", n)
	}
}

// standingKeys are n keys of no document.
func standingKeys(n int) []gatehouse.Key {
	keys := make([]gatehouse.Key, n)
	for i := range keys {
		keys[i] = gatehouse.Key{ID: gatehouse.KeyID(fmt.Sprint("standing-", i)), Hash: gatehouse.KeyHash(sha256.Sum256(fmt.Append(nil, i)))}
	}
	return keys
}

// Saving a document beside which keys stand copies what changed, and keeps the
// last use of all.
func TestStandingKeys(t *testing.T) {
	follow := func(prev *Verifier, doc gatehouse.Identity, standing []gatehouse.Key) *Verifier {
		v, faults := Compile("acme", doc, standing, nil, prev)
		if len(faults) > 0 {
			t.Fatal(faults)
		}
		return v
	}
	one, two := newKey(t, 1), newKey(t, 2)
	standing := append(standingKeys(20_000), gatehouse.Key{ID: "one", Hash: one.Hash()})
	v := follow(nil, keysDoc(), standing)
	if _, err := v.Key([]byte(one.Reveal()), here, noon); err != nil {
		t.Fatal(err)
	}
	pages := func(v *Verifier) []*page { return slices.Concat(v.keys.hashes.pages, v.keys.ids.pages) }
	next := follow(v, keysDoc(), standing)
	if !slices.Equal(pages(v), pages(next)) {
		t.Error("pages of keys that did not change were copied")
	}
	if got := used(next); got != "one=43200" {
		t.Errorf("used: %s", got)
	}
	d := NewDirectory()
	if err := d.Set("acme", nil, v); err != nil {
		t.Fatal(err)
	}
	all := d.keys.Load()
	if err := d.Set("acme", v, next); err != nil || d.keys.Load() != all {
		t.Errorf("the directory changed: %v", err)
	}

	// What is copied goes with what changes, between the few and the many.
	f := func(name string, most float64, doc gatehouse.Identity, standing []gatehouse.Key) {
		t.Helper()
		if n := testing.AllocsPerRun(1, func() { follow(v, doc, standing) }); n > most {
			t.Errorf("%s: %v allocations, want at most %v", name, n, most)
		}
	}
	f("nothing", 200, keysDoc(), standing) // of the set of their ids
	f("a hundred gone", 200+100*20, keysDoc(), standing[100:])
	f("all but one gone", 20_000*4, keysDoc(), standing[20_000:])
	f("all gone", 20_000*4, keysDoc(), nil)
	if last := follow(follow(v, keysDoc(), nil), keysDoc(), standing); last.keys.ids.count != len(standing) || len(last.keys.ids.pages) != len(v.keys.ids.pages) {
		t.Errorf("%d keys on %d pages", last.keys.ids.count, len(last.keys.ids.pages))
	}
	if none := follow(v, keysDoc(), nil); none.keys.ids.mask != 0 || none.keys.hashes.mask != 0 {
		t.Errorf("no keys in %d buckets", none.keys.ids.mask+1)
	}

	// Of two with one id the standing one counts.
	both := follow(v, keysDoc(gatehouse.Key{ID: "one", Hash: two.Hash()}, gatehouse.Key{ID: "two", Hash: newKey(t, 3).Hash()}), standing)
	expect(t, "standing", outcome(both.Key([]byte(one.Reveal()), here, noon)), "key:one")
	expect(t, "document's", outcome(both.Key([]byte(two.Reveal()), here, noon)), "unknown API key")
	if got := both.keys.ids.count; got != len(standing)+1 {
		t.Errorf("%d keys", got)
	}

	// Keys that are off are off, and come back with the document.
	off := follow(v, gatehouse.Identity{}, standing)
	expect(t, "off", outcome(off.Key([]byte(one.Reveal()), here, noon)), "unknown API key")
	off = off.WithKeys(standing[:10], []gatehouse.KeyID{"one"})
	if off.keys != nil || off.KeyHeader() != "" {
		t.Error("keys that are off are remembered")
	}
	expect(t, "on again", outcome(follow(off, keysDoc(), standing).Key([]byte(one.Reveal()), here, noon)), "key:one")
}

// BenchmarkSave is the saving of a document beside which 100,000 keys stand.
func BenchmarkSave(b *testing.B) {
	standing := standingKeys(100_000)
	v, _ := Compile("acme", keysDoc(), standing, nil, nil)
	b.ReportAllocs()
	for b.Loop() {
		next, _ := Compile("acme", keysDoc(), standing, nil, v)
		v = next
	}
}
