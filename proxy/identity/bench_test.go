package identity

import (
	"crypto/sha256"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	gatehouse "github.com/gatehouse-gateway/gatehouse"
)

func BenchmarkKey(b *testing.B) {
	doc := &gatehouse.APIKeys{}
	for i := range 1000 {
		doc.Keys = append(doc.Keys, gatehouse.Key{ID: gatehouse.KeyID(fmt.Sprint(i)), Hash: newKey(b, i).Hash(), Expires: gatehouse.Time{Time: noon.AddDate(1, 0, 0)}})
	}
	v := compile(b, "acme", gatehouse.Identity{APIKeys: doc})
	secret := []byte(newKey(b, 500).Reveal())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Key(secret, here, noon); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkKeyMalformed(b *testing.B) {
	v := compile(b, "acme", gatehouse.Identity{APIKeys: &gatehouse.APIKeys{}})
	secret := []byte(newKey(b, 500).Reveal())
	secret[20] ^= 1
	b.ReportAllocs()
	for b.Loop() {
		_, _ = v.Key(secret, here, noon)
	}
}

// filled makes a token of n bytes.
func filled(alg, kid string, key any, n int) []byte {
	fill := 0
	for {
		t := sign(alg, object{"kid": kid, "typ": "JWT"}, good(object{"fill": strings.Repeat("x", fill), "roles": []string{"reader", "writer"}, "scope": "orders:read orders:write"}), key)
		if len(t) >= n {
			return []byte(t)
		}
		fill += max(1, (n-len(t))*3/4-1)
	}
}

func BenchmarkTokenSeen(b *testing.B) {
	v := compile(b, "acme", gatehouse.Identity{JWT: []gatehouse.Issuer{issuerDoc()}})
	token := filled("RS256", "r", private().rsa, 800)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Token(token, nil, noon); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTokenNew(b *testing.B) {
	p := private()
	v := compile(b, "acme", gatehouse.Identity{JWT: []gatehouse.Issuer{issuerDoc()}})
	for _, c := range []struct {
		alg, kid string
		key      any
	}{{"RS256", "r", p.rsa}, {"PS256", "r", p.rsa}, {"ES256", "e", p.p256}, {"EdDSA", "d", p.ed}} {
		b.Run(c.alg, func(b *testing.B) {
			token := string(filled(c.alg, c.kid, c.key, 800))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.tokens.verify(token, noon, nil, v.failed, here); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// A token bound to a certificate, seen before.
func BenchmarkTokenSeenCertificate(b *testing.B) {
	v := compile(b, "acme", gatehouse.Identity{JWT: []gatehouse.Issuer{issuerDoc()}})
	certificate := sha256.Sum256(nil)
	token := []byte(sign("ES256", object{"kid": "e"}, good(object{"cnf": object{"x5t#S256": b64(certificate[:])}}), private().p256))
	by := &Presented{Certificate: &certificate}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Token(token, by, noon); err != nil {
			b.Fatal(err)
		}
	}
}

// A token bound to a key, seen before, with a proof that is new each time; its
// noting down is left out.
func BenchmarkTokenSeenProof(b *testing.B) {
	p := private()
	v := compile(b, "acme", gatehouse.Identity{JWT: []gatehouse.Issuer{issuerDoc()}})
	for alg, signer := range map[string]any{"ES256": p.p256, "EdDSA": p.ed, "RS256": p.rsa} {
		b.Run(alg, func(b *testing.B) {
			token := sign("ES256", object{"kid": "e"}, good(object{"cnf": object{"jkt": jkt(signer)}}), p.p256)
			by := shown(proof(alg, signer, token, nil, nil))
			b.ReportAllocs()
			for b.Loop() {
				clear(v.proofs.by)
				if _, err := v.Token([]byte(token), by, noon); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkReplays(b *testing.B) {
	r, key, n := &replays{limit: maxReplays}, [32]byte{}, 0
	b.ReportAllocs()
	for b.Loop() {
		at := noon.Add(time.Duration(n) * 100 * time.Microsecond) // 10,000 a second
		if err := r.use(proven{&key, fmt.Sprint(n), at, at}); err != nil && r.count < r.limit {
			b.Fatal(err)
		}
		n++
	}
}

func BenchmarkReplaysMemory(b *testing.B) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	r, key := &replays{limit: maxReplays}, [32]byte{}
	for i := range maxReplays {
		if err := r.use(proven{&key, strconv.Itoa(i), noon.Add(time.Duration(i%3-1) * time.Minute), noon}); err != nil {
			b.Fatal(err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	for b.Loop() {
		_ = r.use(proven{&key, "0", noon.Add(-time.Minute), noon})
	}
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MiB")
}

func BenchmarkOpaqueSeen(b *testing.B) {
	a := &authority{tokens: map[string]any{"mF_9.B5f-4.1JqM": object{"active": true, "sub": "alice"}}, status: 200}
	sets := NewKeySets(a, nil)
	defer sets.Close()
	v, _ := Compile("acme", opaqueDoc(), nil, sets, nil)
	defer v.Close()
	token := []byte("mF_9.B5f-4.1JqM")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Opaque(token, nil, noon); err != nil {
			b.Fatal(err)
		}
	}
}

// A hundred thousand tenants of two keys each, all with one shared issuer and
// each with one of its own.
func BenchmarkDirectory(b *testing.B) {
	d := NewDirectory()
	var middle *Verifier
	doc := gatehouse.Identity{APIKeys: &gatehouse.APIKeys{Keys: make([]gatehouse.Key, 2)}, JWT: []gatehouse.Issuer{{TenantClaim: "org", JWKSFile: "k"}, {JWKSFile: "k"}}}
	const n = 100_000
	for i := range n {
		id := gatehouse.TenantID(fmt.Sprintf("tenant-%d", i))
		for j := range doc.APIKeys.Keys {
			doc.APIKeys.Keys[j] = gatehouse.Key{ID: gatehouse.KeyID(fmt.Sprint(j)), Hash: newKey(b, 2*i+j).Hash()}
		}
		doc.JWT[0].Issuer, doc.JWT[1].Issuer = iss, fmt.Sprintf("https://%s.example", id)
		v := compile(b, id, doc)
		if err := d.Set(id, nil, v); err != nil {
			b.Fatal(err)
		}
		if i == n/2 {
			middle = v
		}
	}
	id := middle.Tenant()
	b.Run("key", func(b *testing.B) {
		secret := []byte(newKey(b, n).Reveal())
		b.ReportAllocs()
		for b.Loop() {
			if t, ok := d.TenantOfKey(secret); !ok || t != id {
				b.Fatal(t)
			}
		}
	})
	b.Run("token", func(b *testing.B) {
		tok := []byte(sign("RS256", nil, good(object{"org": id, "fill": strings.Repeat("x", 100)}), private().rsa))
		b.ReportAllocs()
		for b.Loop() {
			if t, ok := d.TenantOfToken(tok); !ok || t != id {
				b.Fatal(t)
			}
		}
	})
	b.Run("change", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := d.Set(id, middle, nil); err != nil {
				b.Fatal(err)
			}
			if err := d.Set(id, nil, middle); err != nil {
				b.Fatal(err)
			}
		}
	})
}
