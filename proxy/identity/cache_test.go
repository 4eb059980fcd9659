package identity

import (
	"errors"
	"fmt"
	"hash/maphash"
	"strings"
	"sync"
	"testing"
	"time"

	gatehouse "github.com/gatehouse-gateway/gatehouse"
)

// accepted1 returns what v makes of a token that it must accept.
func accepted1(t *testing.T, v *Verifier, token string, now time.Time) *Verified {
	t.Helper()
	got, err := v.Token([]byte(token), nil, now)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestCacheHonoursTime(t *testing.T) {
	v := compile(t, "acme", gatehouse.Identity{JWT: []gatehouse.Issuer{issuerDoc()}})
	exp := noon.Add(time.Hour)
	token := sign("RS256", object{"kid": "r"}, good(object{"nbf": noon.Unix(), "exp": exp.Unix()}), private().rsa)
	f := func(now time.Time, want string) {
		t.Helper()
		expect(t, now.String(), outcome(v.Token([]byte(token), nil, now)), want)
	}
	f(noon.Add(-61*time.Second), "future")
	f(noon.Add(-60*time.Second), "alice")
	first := accepted1(t, v, token, noon)
	if accepted1(t, v, token, exp.Add(-1)) != first {
		t.Error("the token was verified twice")
	}
	f(exp, "expired")
	f(exp.Add(1), "expired")
	f(noon.Add(-61*time.Second), "future") // a clock set back
	if accepted1(t, v, token, noon) != first {
		t.Error("a refusal dropped the entry")
	}
}

func TestCacheComparesWholeToken(t *testing.T) {
	p := private()
	v := compile(t, "acme", gatehouse.Identity{JWT: []gatehouse.Issuer{issuerDoc()}})
	token := sign("RS256", object{"kid": "r"}, good(nil), p.rsa)
	accepted1(t, v, token, noon)
	c := &v.tokens.cache
	other := token[:len(token)-1] + next(token[len(token)-1])
	hash := maphash.String(c.seed, token)
	if c.find(hash, []byte(token)) == nil {
		t.Error("the token is not remembered")
	}
	if c.find(hash, []byte(other)) != nil {
		t.Error("another token of the same hash is found")
	}
	// What was refused is not remembered.
	if _, err := v.Token([]byte(other), nil, noon); err == nil {
		t.Error("accepted")
	}
	if c.find(maphash.String(c.seed, other), []byte(other)) != nil {
		t.Error("a refused token is remembered")
	}
}

// inTable fails the test where recent has what the table has not, and returns
// how many recent has.
func (c *cache) inTable(t *testing.T) (n int) {
	t.Helper()
	for i := range c.recent {
		s := c.recent[i].Load()
		if s == nil {
			continue
		}
		n++
		segment, there := c.table.Load()[s.hash>>58].Load(), false
		for j := range segment {
			there = there || segment[j].Load() == s
		}
		if !there {
			t.Errorf("%q has left the table and is found all the same", s.token)
		}
	}
	return n
}

func TestCacheIsBounded(t *testing.T) {
	c := cache{seed: maphash.MakeSeed()}
	k := &key{}
	count := func() (n int) {
		for i := range c.table.Load() {
			if s := c.table.Load()[i].Load(); s != nil {
				for j := range s {
					if s[j].Load() != nil {
						n++
					}
				}
			}
		}
		return n
	}
	forever := &Verified{Expires: noon.Add(time.Hour)}
	put := func(hash uint64, by *key) *seen {
		s := &seen{hash: hash, token: fmt.Sprint(hash), key: by, verified: forever, until: forever.Expires}
		c.put(s, noon)
		c.put(s, noon)
		if c.find(hash, []byte(s.token)) != s || c.recent[hash%cacheRecent].Load() != s {
			t.Fatalf("%x is not found", hash)
		}
		return s
	}
	put(0, k)
	if count() != 1 {
		t.Fatalf("one token takes %d places", count())
	}
	for i := range uint64(50_000) {
		put(i*0x9e3779b97f4a7c15, k)
	}
	if n, recent := count(), c.inTable(t); n != 4096 || recent == 0 {
		t.Errorf("%d entries, %d recent", n, recent)
	}
	// The dead make room first, then one of the living.
	k.retired.Store(true)
	live := &key{}
	var all []*seen
	for i := range uint64(cacheWays + 1) {
		all = append(all, put(i<<8, live))
	}
	kept := 0
	for _, s := range all {
		if c.find(s.hash, []byte(s.token)) == s {
			kept++
		}
	}
	if kept != cacheWays || count() < 2048 || count() >= 4096 {
		t.Errorf("%d of %d kept in one set, %d in all", kept, len(all), count())
	}
	// Each put has swept another segment.
	for range cacheSegments {
		put(0, live)
	}
	if n := count(); n != cacheWays || c.inTable(t) != 1 {
		t.Errorf("%d left of the dead and %d living", n, cacheWays)
	}
	left := int64(0)
	for i := range c.table.Load()[0].Load() {
		left += c.table.Load()[0].Load()[i].Load().size()
	}
	if n := c.bytes.Load(); n != left {
		t.Errorf("%d entries are said to have %d bytes, not %d", cacheWays, n, left)
	}
}

// What a cache holds is bounded in bytes, and a token that is too large is not
// remembered.
func TestCacheBytes(t *testing.T) {
	c := cache{seed: maphash.MakeSeed()}
	sum := func() (n int64) {
		for i := range c.table.Load() {
			if s := c.table.Load()[i].Load(); s != nil {
				for j := range s {
					n += s[j].Load().size()
				}
			}
		}
		return n
	}
	put := func(hash uint64, size int) *seen {
		s := &seen{hash: hash, token: fmt.Sprint(hash), verified: &Verified{size: size}, until: noon.Add(time.Hour)}
		c.put(s, noon)
		return s
	}
	for i := range uint64(3000) {
		s := put(i*0x9e3779b97f4a7c15, 4000*int(i%30))
		if c.find(s.hash, []byte(s.token)) != s {
			t.Fatalf("put %d is not found", i)
		}
		if n := c.bytes.Load(); n > cacheBytes {
			t.Fatalf("%d bytes after put %d", n, i)
		}
	}
	if n := c.bytes.Load(); n != sum() || n < cacheBytes/2 {
		t.Errorf("%d bytes counted, %d are there", n, sum())
	}
	if s := put(1, maxSeen); c.find(1, []byte(s.token)) != nil {
		t.Error("a token of more than maxSeen is remembered")
	}
	var wg sync.WaitGroup
	for g := range uint64(4) {
		wg.Go(func() {
			for i := range uint64(500) {
				put((g+4*i)*0x9e3779b97f4a7c15, 20_000)
			}
		})
	}
	wg.Wait()
	if n := c.bytes.Load(); n != sum() || n > cacheBytes {
		t.Errorf("%d bytes counted, %d are there", n, sum())
	}
	c.inTable(t)
}

// Real tokens are remembered, with hundreds of groups; what is made to be large
// is refused or verified each time.
func TestLargeTokens(t *testing.T) {
	p := private()
	v := compile(t, "acme", gatehouse.Identity{JWT: []gatehouse.Issuer{issuerDoc()}})
	f := func(name string, claims any, want string, remembered bool) {
		t.Helper()
		token := []byte(sign("EdDSA", object{"kid": "d"}, claims, p.ed))
		got := outcome(v.Token(token, nil, noon))
		expect(t, name, got, want)
		if is := v.tokens.cache.find(maphash.Bytes(v.tokens.cache.seed, token), token) != nil; is != remembered {
			t.Errorf("%s: remembered %v, in %d bytes of token", name, is, len(token))
		}
	}
	var groups []string
	for i := range 300 {
		groups = append(groups, fmt.Sprintf("team-%05d", i))
	}
	f("300 groups", good(object{"groups": groups}), "alice", true)
	text := func(n int) string {
		return fmt.Sprintf(`{"iss":%q,"aud":%q,"sub":"alice","exp":%d,"x":[%s[]]}`, iss, api, noon.Add(time.Hour).Unix(), strings.Repeat("[],", n))
	}
	f("1900 arrays", text(1900), "alice", false)
	if _, err := readObject([]byte(text(maxNodes - 7))); err != nil {
		t.Error(err)
	}
	if _, err := readObject([]byte(text(maxNodes - 5))); !errors.Is(err, errNodes) {
		t.Error(err)
	}
}

func TestRecompile(t *testing.T) {
	p := private()
	doc := gatehouse.Identity{JWT: []gatehouse.Issuer{issuerDoc()}}
	v := compile(t, "acme", doc)
	token := sign("RS256", object{"kid": "r"}, good(nil), p.rsa)
	first := accepted1(t, v, token, noon)
	again := func(tenant gatehouse.TenantID, doc gatehouse.Identity) *Verifier {
		t.Helper()
		n, faults := Compile(tenant, doc, nil, nil, v)
		if len(faults) > 0 {
			t.Fatal(faults)
		}
		return n
	}

	same := doc
	same.JWT = []gatehouse.Issuer{issuerDoc()}
	same.JWT[0].JWKS = doc.JWT[0].JWKS
	same.APIKeys = &gatehouse.APIKeys{Header: "X-Other"}
	if accepted1(t, again("acme", same), token, noon) != first {
		t.Error("an unrelated change emptied the cache")
	}
	if accepted1(t, again("umbrella", same), token, noon) == first {
		t.Error("another tenant has the cache")
	}

	rotated := gatehouse.Identity{JWT: []gatehouse.Issuer{issuerDoc()}}
	rotated.JWT[0].JWKS = jwks(jwk("r", p.rsa2, nil))
	expect(t, "rotated", outcome(again("acme", rotated).Token([]byte(token), nil, noon)), "signature is invalid")

	narrowed := gatehouse.Identity{JWT: []gatehouse.Issuer{issuerDoc()}}
	narrowed.JWT[0].Audience = []string{"other"}
	expect(t, "narrowed", outcome(again("acme", narrowed).Token([]byte(token), nil, noon)), "aud has none")
	expect(t, "removed", outcome(again("acme", gatehouse.Identity{}).Token([]byte(token), nil, noon)), "no issuer")
	if accepted1(t, v, token, noon) != first {
		t.Error("the running verifier changed")
	}
}

func TestTokenSeenDoesNotAllocate(t *testing.T) {
	v := compile(t, "acme", gatehouse.Identity{JWT: []gatehouse.Issuer{issuerDoc()}})
	token := []byte(sign("RS256", object{"kid": "r"}, good(object{"fill": strings.Repeat("x", 300)}), private().rsa))
	if _, err := v.Token(token, nil, noon); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = v.Token(token, nil, noon) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
