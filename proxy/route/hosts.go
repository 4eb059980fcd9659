// Package route finds the tenant of a host and the route of a request, in
// tables that are compiled once and read without a lock.
package route

import (
	"bytes"
	"hash/maphash"
	"maps"
	"sync/atomic"
)

// hostShards bounds what a change copies: with 100,000 hosts a shard holds
// about a hundred.
const hostShards = 1024

// Hosts maps host names to values. Find may run beside one writer; writers
// take turns by themselves.
type Hosts[T any] struct {
	seed   maphash.Seed
	shards [hostShards]atomic.Pointer[map[string]*T] // each map is never changed
}

// NewHosts returns an empty table.
func NewHosts[T any]() *Hosts[T] {
	h := &Hosts[T]{seed: maphash.MakeSeed()}
	empty := map[string]*T{}
	for i := range h.shards {
		h.shards[i].Store(&empty)
	}
	return h
}

// Find returns the value of host: the exact name's, else that of the longest
// wildcard above it, else nil. host is canonical.
func (h *Hosts[T]) Find(host []byte) *T {
	if v := h.get(host); v != nil {
		return v
	}
	for {
		dot := bytes.IndexByte(host, '.')
		if dot < 0 {
			return nil
		}
		// A wildcard is kept under its name without the star: ".example.com".
		if v := h.get(host[dot:]); v != nil {
			return v
		}
		host = host[dot+1:]
	}
}

func (h *Hosts[T]) get(key []byte) *T {
	shard := h.shards[maphash.Bytes(h.seed, key)%hostShards].Load()
	return (*shard)[string(key)]
}

// Owner returns the value set for exactly this name or wildcard, or nil.
func (h *Hosts[T]) Owner(name string) *T { return h.get([]byte(key(name))) }

// Change sets and removes names, copying each touched shard once. It must
// not run beside another Change.
func (h *Hosts[T]) Change(set map[string]*T, remove []string) {
	next := map[uint64]map[string]*T{}
	edit := func(name string) (map[string]*T, string) {
		k := key(name)
		i := maphash.String(h.seed, k) % hostShards
		if next[i] == nil {
			next[i] = maps.Clone(*h.shards[i].Load())
		}
		return next[i], k
	}
	for _, name := range remove {
		m, k := edit(name)
		delete(m, k)
	}
	for name, v := range set {
		m, k := edit(name)
		m[k] = v
	}
	for i, m := range next {
		h.shards[i].Store(&m)
	}
}

func key(name string) string {
	if len(name) > 1 && name[0] == '*' {
		return name[1:]
	}
	return name
}
