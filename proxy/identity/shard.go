package identity

import (
	"maps"
	"sync/atomic"
)

// table is a map that is read without a lock. A change copies the shards that
// it touches; the caller keeps writers apart and chooses a key's shard by a hash of it.
type table[K comparable, V any] [directoryShards]atomic.Pointer[map[K]V]

// at returns the shard of a hash, which is not to be changed. It may be nil.
func (t *table[K, V]) at(hash uint64) map[K]V {
	if m := t[hash%directoryShards].Load(); m != nil {
		return *m
	}
	return nil
}

// tableEdit is a change of a table on its way: it copies a shard once, however
// much of it changes.
type tableEdit[K comparable, V any] struct {
	table *table[K, V]
	next  map[uint64]map[K]V // shards of its own, by number
}

func (t *table[K, V]) edit() tableEdit[K, V] { return tableEdit[K, V]{table: t} }

// shard returns the shard of a hash, to be changed.
func (e *tableEdit[K, V]) shard(hash uint64) map[K]V {
	m, own := e.next[hash%directoryShards]
	if own {
		return m
	}
	if m = maps.Clone(e.table.at(hash)); m == nil {
		m = make(map[K]V, 1)
	}
	if e.next == nil {
		e.next = map[uint64]map[K]V{}
	}
	e.next[hash%directoryShards] = m
	return m
}

func (e *tableEdit[K, V]) store(hash uint64, k K, v V) { e.shard(hash)[k] = v }

func (e *tableEdit[K, V]) remove(hash uint64, k K) { delete(e.shard(hash), k) }

// done shows readers the change.
func (e *tableEdit[K, V]) done() {
	for i, m := range e.next {
		if len(m) == 0 {
			e.table[i].Store(nil)
		} else {
			e.table[i].Store(&m)
		}
	}
}
