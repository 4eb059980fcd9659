package identity

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"runtime"
	"testing"

	gatehouse "github.com/gatehouse-gateway/gatehouse"
)

// manyKeys makes n keys of four kinds; each 997th has a secret that newKey
// tells by its number, the hashes of the others are nobody's.
func manyKeys(t testing.TB, n int) []gatehouse.Key {
	keys := make([]gatehouse.Key, n)
	for i := range keys {
		hash := gatehouse.KeyHash(sha256.Sum256(binary.LittleEndian.AppendUint64(nil, uint64(i))))
		if i%997 == 0 {
			hash = newKey(t, i).Hash()
		}
		keys[i] = gatehouse.Key{ID: gatehouse.KeyID(fmt.Sprintf("key-%d", i)), Hash: hash, Roles: []string{"reader"}, Scopes: []string{"orders:read", "orders:write"}[:1+i%2]}
		if i%3 == 0 {
			keys[i].Roles = []string{"reader", "writer"}
		}
	}
	return keys
}

func heap() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// perKey returns what the verifiers of a number of tenants and their
// directory take for each key, in bytes, with nothing of the documents but
// the ids.
func perKey(t testing.TB, tenants, each int) float64 {
	keys := manyKeys(t, tenants*each)
	before := heap()
	d := NewDirectory()
	vs := make([]*Verifier, tenants)
	for i := range vs {
		id := gatehouse.TenantID(fmt.Sprintf("tenant-%d", i))
		vs[i] = compile(t, id, keysDoc(keys[i*each:(i+1)*each]...))
		if err := d.Set(id, nil, vs[i]); err != nil {
			t.Fatal(err)
		}
	}
	after := heap()
	runtime.KeepAlive(vs)
	runtime.KeepAlive(keys)
	runtime.KeepAlive(d)
	return (after - before) / float64(tenants*each)
}

// A key that is not in use costs less than 200 bytes, its place in the
// directory included; where a tenant has ten of them, with the whole of its
// verifier shared among the ten, 300.
func TestKeyMemory(t *testing.T) {
	if got := perKey(t, 1, 30_000); got > 200 {
		t.Errorf("%.0f bytes a key", got)
	}
	if got := perKey(t, 3000, 10); got > 300 {
		t.Errorf("%.0f bytes a key of a small tenant", got)
	}
}

func BenchmarkKeyMemory(b *testing.B) {
	f := func(name string, tenants, each int) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				b.ReportMetric(perKey(b, tenants, each), "B/key")
			}
		})
	}
	f("1x1000000", 1, 1_000_000)
	f("100000x10", 100_000, 10)
}

func BenchmarkMillionKeys(b *testing.B) {
	const n = 1_000_000
	doc := keysDoc(manyKeys(b, n)...)
	v := compile(b, "acme", doc)
	d := NewDirectory()
	if err := d.Set("acme", nil, v); err != nil {
		b.Fatal(err)
	}
	secrets := make([][]byte, 0, n/997+1)
	for i := 0; i < n; i += 997 {
		secrets = append(secrets, []byte(newKey(b, i).Reveal()))
	}
	b.Run("key", func(b *testing.B) { // a thousand keys in use
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if _, err := v.Key(secrets[i%len(secrets)], here, noon); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("find", func(b *testing.B) { // any of the million, without the hash
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if v.keys.find(&doc.APIKeys.Keys[i*7919%n].Hash) == nil {
				b.Fatal("not found")
			}
		}
	})
	b.Run("unknown", func(b *testing.B) {
		secret := []byte(newKey(b, 1).Reveal())
		b.ReportAllocs()
		for b.Loop() {
			_, _ = v.Key(secret, here, noon)
		}
	})
	b.Run("compile", func(b *testing.B) {
		for b.Loop() {
			compile(b, "acme", doc)
		}
	})
	b.Run("recompile", func(b *testing.B) { // one of the document's keys changed
		b.ReportAllocs()
		for b.Loop() {
			doc.APIKeys.Keys[n/2].Hash[31]++
			if _, faults := Compile("acme", doc, nil, nil, v); faults != nil {
				b.Fatal(faults)
			}
		}
	})
	b.Run("revoke", func(b *testing.B) { // and bring back: two changes, live in verifier and directory
		b.ReportAllocs()
		last := v
		change := func(changed []gatehouse.Key, removed ...gatehouse.KeyID) {
			next := last.WithKeys(changed, removed)
			if err := d.Set("acme", last, next); err != nil {
				b.Fatal(err)
			}
			last = next
		}
		for i := 0; b.Loop(); i++ {
			k := &doc.APIKeys.Keys[i*7919%n]
			change(nil, k.ID)
			change([]gatehouse.Key{*k})
		}
	})
}
