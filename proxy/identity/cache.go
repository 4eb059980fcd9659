package identity

import (
	"hash/maphash"
	"math"
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
	cacheRecent   = 8
)

// Bounds of one tenant's cache in bytes, as far as they can be told. A token
// may hold a hundred times its own length once it is read.
const (
	cacheBytes = 8 << 20
	// maxSeen is what one token may take; a larger one is verified each time.
	// Three hundred groups take 80 KiB.
	maxSeen = 128 << 10
)

// cache remembers verified tokens. Reads take no lock. The seeded hash only
// finds the slot; the whole token is compared.
type cache struct {
	seed maphash.Seed
	// recent are those of the entries in table that were put last: of a tenant
	// with few callers all, found without going through the table.
	recent [cacheRecent]cacheSlot

	table atomic.Pointer[cacheTable] // made by the first put
	bytes atomic.Int64               // of all entries
	hand  atomic.Uint64              // the segment swept last
}

type (
	cacheTable   [cacheSegments]atomic.Pointer[cacheSegment]
	cacheSegment [cacheSets * cacheWays]cacheSlot
	cacheSlot    = atomic.Pointer[seen]
)

// seen is one token and what was found about it. It is immutable.
type seen struct {
	hash      uint64
	token     string    // of an opaque token its SHA-256
	key       *key      // that verified it; nil for an opaque token
	notBefore time.Time // nbf and iat less the leeway; zero when neither was given
	until     time.Time // from when on it does not count
	// kept is from when on it is of no use at all; zero: from until. That an
	// opaque token was active once tells it from made-up ones.
	kept     time.Time
	verified *Verified
	err      error // instead of verified: an opaque token that is refused
}

// live reports whether the finding still holds at now: the key is still in
// force and now is in [notBefore, until).
func (s *seen) live(now time.Time) bool {
	return now.Before(s.until) && !now.Before(s.notBefore) && (s.key == nil || !s.key.retired.Load())
}

// useless reports whether nobody will want the entry any more.
func (s *seen) useless(now time.Time) bool {
	end := s.until
	if !s.kept.IsZero() {
		end = s.kept
	}
	return !now.Before(end) || s.key != nil && s.key.retired.Load()
}

// seenSize is what an entry takes beside its text and its principal, with the
// lines that backends are told.
const seenSize = 512 + maxTold

// size is what the entry takes of memory, in bytes and about.
func (s *seen) size() int64 {
	switch {
	case s == nil:
		return 0
	case s.verified != nil:
		return int64(seenSize + len(s.token) + s.verified.size)
	case s.err != nil:
		return int64(seenSize + len(s.token) + len(s.err.Error()))
	}
	return int64(seenSize + len(s.token))
}

// is reports whether s, which may be nil, is of the token. What is needed of it
// next is read while the token is compared.
func (s *seen) is(hash uint64, token []byte) bool {
	if s == nil || s.hash != hash {
		return false
	}
	sum := s.verified.prefetch()
	if s.key != nil && s.key.retired.Load() {
		sum++
	}
	return s.token == string(token) && sum != math.MaxUint64 // which it never is
}

func (c *cache) find(hash uint64, token []byte) *seen {
	if s := c.recent[hash%cacheRecent].Load(); s.is(hash, token) {
		return s
	}
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
		if s := segment[i].Load(); s.is(hash, token) {
			return s
		}
	}
	return nil
}

// put stores s in the place of itself, of nothing, of a dead entry, or of a
// random one of its set, unless it is too large. Each put sweeps another
// segment, and where the cache is full as many as it takes.
func (c *cache) put(s *seen, now time.Time) {
	if s.size() > maxSeen {
		return
	}
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
	c.recent[s.hash%cacheRecent].Store(s) // first, or it could outlive its place in the table
	old := segment[victim].Swap(s)
	c.bytes.Add(s.size() - old.size())
	if old != s {
		c.pass(old)
	}
	c.sweep(table, s, now)
}

// sweep drops what is useless of the next segment, and then, while the cache
// has too many bytes, all but s of one segment after the other.
func (c *cache) sweep(table *cacheTable, s *seen, now time.Time) {
	for n := range cacheSegments + 1 {
		full := n > 0
		if full && c.bytes.Load() <= cacheBytes {
			return
		}
		segment := table[c.hand.Add(1)%cacheSegments].Load()
		for i := 0; segment != nil && i < len(segment); i++ {
			old := segment[i].Load()
			if old == nil || old == s || !old.useless(now) && (!full || c.bytes.Load() <= cacheBytes) {
				continue
			}
			if segment[i].CompareAndSwap(old, nil) {
				c.bytes.Add(-old.size())
				c.pass(old)
			}
		}
	}
}

// pass takes an entry that has left the table, nil for none, from recent.
func (c *cache) pass(old *seen) {
	if old != nil {
		c.recent[old.hash%cacheRecent].CompareAndSwap(old, nil)
	}
}
