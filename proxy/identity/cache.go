package identity

import (
	"hash/maphash"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// A cache holds at most segments × sets × ways = 4096 tokens. Segments are
// made when first written, so a tenant that sees few tokens pays little.
const (
	cacheSegments = 64
	cacheSets     = 16
	cacheWays     = 4
)

// cache remembers verified tokens. Reads take no lock. The seeded hash only
// finds the slot; the whole token is compared.
type cache struct {
	seed  maphash.Seed
	table atomic.Pointer[cacheTable] // made by the first put
}

type (
	cacheTable   [cacheSegments]atomic.Pointer[cacheSegment]
	cacheSegment [cacheSets * cacheWays]atomic.Pointer[seen]
)

// seen is one token and what was found about it. It is immutable.
type seen struct {
	hash      uint64
	token     string    // of an opaque token its SHA-256
	key       *key      // that verified it; nil for an opaque token
	notBefore time.Time // nbf and iat less the leeway; zero when neither was given
	until     time.Time // from when on it does not count
	verified  *Verified
	err       error // instead of verified: an opaque token that is refused
}

// live reports whether the finding still holds at now: the key is still in
// force and now is in [notBefore, until).
func (s *seen) live(now time.Time) bool {
	return now.Before(s.until) && !now.Before(s.notBefore) && (s.key == nil || !s.key.retired.Load())
}

func (c *cache) find(hash uint64, token []byte) *seen {
	table := c.table.Load()
	if table == nil {
		return nil
	}
	segment := table[hash>>58].Load()
	if segment == nil {
		return nil
	}
	first := hash % cacheSets * cacheWays
	for i := first; i < first+cacheWays; i++ {
		if s := segment[i].Load(); s != nil && s.hash == hash && s.token == string(token) {
			return s
		}
	}
	return nil
}

// put stores s in the place of itself, of nothing, of a dead entry, or of a
// random one of its set.
func (c *cache) put(s *seen, now time.Time) {
	table := c.table.Load()
	if table == nil {
		c.table.CompareAndSwap(nil, new(cacheTable))
		table = c.table.Load()
	}
	slot := &table[s.hash>>58]
	segment := slot.Load()
	if segment == nil {
		slot.CompareAndSwap(nil, new(cacheSegment))
		segment = slot.Load()
	}
	first := s.hash % cacheSets * cacheWays
	victim := first + rand.Uint64N(cacheWays)
	for i := first; i < first+cacheWays; i++ {
		old := segment[i].Load()
		if old != nil && old.hash == s.hash && old.token == s.token {
			victim = i
			break
		}
		if old == nil || !old.live(now) {
			victim = i
		}
	}
	segment[victim].Store(s)
}
