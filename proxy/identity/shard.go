package identity

import (
	"maps"
	"sync/atomic"
)

// table is a map that is read without a lock. A write copies one shard; the
// caller keeps writers apart and chooses a key's shard by a hash of it.
type table[K comparable, V any] [directoryShards]atomic.Pointer[map[K]V]

// at returns the shard of a hash, which is not to be changed. It may be nil.
func (t *table[K, V]) at(hash uint64) map[K]V {
	if m := t[hash%directoryShards].Load(); m != nil {
		return *m
	}
	return nil
}

func (t *table[K, V]) store(hash uint64, k K, v V) {
	m := maps.Clone(t.at(hash))
	if m == nil {
		m = make(map[K]V, 1)
	}
	m[k] = v
	t[hash%directoryShards].Store(&m)
}

func (t *table[K, V]) remove(hash uint64, k K) {
	m := maps.Clone(t.at(hash))
	delete(m, k)
	if len(m) == 0 {
		t[hash%directoryShards].Store(nil)
		return
	}
	t[hash%directoryShards].Store(&m)
}
