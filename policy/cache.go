package policy

import (
	"math/bits"
	"sync"
	"sync/atomic"
)

// ways is how many places a key may take.
const ways = 4

// firstSlots is the size of a cache's first table: most tenants see few
// different requests.
const firstSlots = 16

// maxKey bounds a key in bytes; a decision with a longer one is not kept.
const maxKey = 2048

// cache keeps decisions by key. Reads take no lock. It is set-associative: a
// key has ways slots, and takes the place of the one not used for longest, about.
type cache struct {
	limit int // slots, a power of two; 0: nothing is kept
	// table is nil until the first decision; replaced under mu as it grows.
	table atomic.Pointer[table]
	mu    sync.Mutex // guards growth
	hand  atomic.Uint32
}

type table struct {
	mask  uint64
	slots []atomic.Pointer[entry]
}

// entry is immutable apart from used.
type entry struct {
	hash     uint64
	key      string
	decision Decision
	// used is set by reads and cleared by the search for a slot to take.
	used atomic.Bool
}

// slotsFor is the largest power of two in entries, at least one set.
func slotsFor(entries int) int {
	if entries <= 0 {
		return 0
	}
	return max(ways, 1<<(bits.Len(uint(entries))-1))
}

func newTable(slots int) *table {
	return &table{mask: uint64(slots/ways - 1), slots: make([]atomic.Pointer[entry], slots)}
}

func (t *table) set(hash uint64) []atomic.Pointer[entry] {
	base := (hash & t.mask) * ways
	return t.slots[base : base+ways : base+ways]
}

// get returns the decision under key; the hash finds it, the key proves it.
func (c *cache) get(hash uint64, key []byte) *Decision {
	t := c.table.Load()
	if t == nil {
		return nil
	}
	set := t.set(hash)
	for i := range set {
		if e := set[i].Load(); e != nil && e.hash == hash && e.key == string(key) {
			if !e.used.Load() {
				e.used.Store(true)
			}
			return &e.decision
		}
	}
	return nil
}

func (c *cache) put(hash uint64, key []byte, d Decision) {
	if c.limit == 0 {
		return
	}
	e := &entry{hash: hash, key: string(key), decision: d}
	for {
		t := c.table.Load()
		if t != nil && t.place(e) {
			return
		}
		if t != nil && len(t.slots) >= c.limit {
			c.evict(t.set(hash), e)
			return
		}
		c.grow(t)
	}
}

// place puts e into a free slot, or into that of the same key.
func (t *table) place(e *entry) bool {
	set := t.set(e.hash)
	for i := range set {
		old := set[i].Load()
		if old == nil && set[i].CompareAndSwap(nil, e) {
			return true
		}
		if old != nil && old.hash == e.hash && old.key == e.key {
			return true
		}
	}
	return false
}

// evict takes the next slot that was not used since the last search.
func (c *cache) evict(set []atomic.Pointer[entry], e *entry) {
	start := c.hand.Add(1)
	for i := range uint32(ways) {
		slot := &set[(start+i)%ways]
		if old := slot.Load(); old == nil || !old.used.Swap(false) {
			slot.Store(e)
			return
		}
	}
	set[start%ways].Store(e)
}

// grow replaces old by a larger table, unless that has been done. What is put
// into old meanwhile is lost, as if evicted.
func (c *cache) grow(old *table) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.table.Load() != old {
		return
	}
	slots := min(firstSlots, c.limit)
	if old != nil {
		slots = min(4*len(old.slots), c.limit)
	}
	t := newTable(slots)
	if old != nil {
		for i := range old.slots {
			if e := old.slots[i].Load(); e != nil {
				t.place(e)
			}
		}
	}
	c.table.Store(t)
}
