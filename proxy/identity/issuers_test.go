package identity

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	gatehouse "github.com/gatehouse-gateway/gatehouse"
)

var issuersFlag = flag.Int("issuers", 3_000, "issuers of TestManyIssuers and BenchmarkIssuers")

const issuersPerTenant = 10

// many are n issuers, ten a tenant, each with keys of its own at a URL of its
// own.
type many struct {
	d       *Directory
	sets    *KeySets
	tenants []*Verifier
	fetches atomic.Int64
}

func (m *many) RoundTrip(r *http.Request) (*http.Response, error) {
	m.fetches.Add(1)
	var i int
	if _, err := fmt.Sscanf(r.URL.Path, "/%d", &i); err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(jwks(jwk(fmt.Sprint("k", i), signerOf(i), nil)))), Request: r}, nil
}

func signerOf(i int) ed25519.PrivateKey {
	seed := sha256.Sum256(fmt.Append(nil, "issuer", i))
	return ed25519.NewKeyFromSeed(seed[:])
}

func manyName(i int) string { return fmt.Sprintf("https://issuer-%d.example", i) }

func newMany(t testing.TB, n int) *many {
	m := &many{d: NewDirectory()}
	m.sets = NewKeySets(m, nil)
	t.Cleanup(m.sets.Close)
	for i := 0; i < n; i += issuersPerTenant {
		id := gatehouse.TenantID(fmt.Sprintf("tenant-%d", i/issuersPerTenant))
		var doc gatehouse.Identity
		for j := i; j < i+issuersPerTenant; j++ {
			doc.JWT = append(doc.JWT, gatehouse.Issuer{
				Issuer: manyName(j), Audience: []string{api}, Algorithms: []string{"EdDSA"}, JWKSURL: fmt.Sprintf("https://keys.example/%d", j),
			})
		}
		v, faults := Compile(id, doc, nil, m.sets, nil)
		if len(faults) > 0 {
			t.Fatal(faults)
		}
		if err := m.d.Set(id, nil, v); err != nil {
			t.Fatal(err)
		}
		m.tenants = append(m.tenants, v)
	}
	m.sets.Warm(context.Background())
	return m
}

func (m *many) token(i, signer int, kid string) []byte {
	return []byte(sign("EdDSA", object{"kid": kid}, good(object{"iss": manyName(i)}), signerOf(signer)))
}

// An issuer is found by tenant and name among all, and its keys are its own.
func TestManyIssuers(t *testing.T) {
	n := *issuersFlag / issuersPerTenant * issuersPerTenant
	m := newMany(t, n)
	if got := m.fetches.Load(); got != int64(n) {
		t.Fatalf("%d fetches for %d issuers", got, n)
	}
	f := func(v *Verifier, token []byte, want string) {
		t.Helper()
		expect(t, string(v.Tenant()), outcome(v.Token(token, nil, noon)), want)
	}
	for i := 0; i < n; i += n / 100 {
		v, other := m.tenants[i/issuersPerTenant], m.tenants[(i/issuersPerTenant+1)%len(m.tenants)]
		j := i/issuersPerTenant*issuersPerTenant + (i+1)%issuersPerTenant // of the same tenant
		token := m.token(i, i, fmt.Sprint("k", i))
		f(v, token, "alice")
		f(other, token, "no issuer of that name")
		f(v, m.token(i, j, fmt.Sprint("k", j)), "kid is not in")
		f(v, m.token(i, j, fmt.Sprint("k", i)), "signature is invalid")
		if id, ok := m.d.TenantOfToken(token); !ok || id != v.Tenant() {
			t.Errorf("issuer %d: tenant %q", i, id)
		}
	}
	// Each of the hundred had one fetch for its unknown kid; a flood has none.
	for range 1000 {
		f(m.tenants[0], m.token(0, 1, "made-up"), "kid is not in")
	}
	if got := m.fetches.Load() - int64(n); got != 100 {
		t.Errorf("%d fetches for unknown kids", got)
	}
}

// BenchmarkIssuers tells what an issuer costs in memory, all of it, and what it
// costs to find one of -issuers.
func BenchmarkIssuers(b *testing.B) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	n := *issuersFlag / issuersPerTenant * issuersPerTenant
	m := newMany(b, n)
	runtime.GC()
	runtime.ReadMemStats(&after)
	size := float64(after.HeapAlloc-before.HeapAlloc) / float64(n)
	token := bytes.Clone(m.token(n/2, n/2, fmt.Sprint("k", n/2)))
	v := m.tenants[n/2/issuersPerTenant]
	b.Run("directory", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if id, ok := m.d.TenantOfToken(token); !ok || id != v.Tenant() {
				b.Fatal(id)
			}
		}
		b.ReportMetric(size, "B/issuer")
	})
	b.Run("first", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := v.tokens.verify(string(token), noon, m.sets, v.failed, here); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("seen", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := v.Token(token, nil, noon); err != nil {
				b.Fatal(err)
			}
		}
	})
	runtime.KeepAlive(m)
}
