package edge

import (
	"net/netip"
	"sync"
)

// shards spreads the locks of the counts over addresses.
const shards = 32

// addresses counts open connections by client address.
type addresses struct {
	bound  int // 0: nothing is counted
	shards [shards]struct {
		mu   sync.Mutex         // guards open
		open map[netip.Addr]int // no entry is 0
	}
}

// counted is the address that a is counted as: an IPv6 client has its /64.
func counted(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is4() {
		return a
	}
	p, _ := a.Prefix(64) // it fails for lengths that an address does not have
	return p.Addr()
}

func shardOf(a netip.Addr) int {
	n := byte(0)
	for _, b := range a.As16() {
		n = n*31 + b
	}
	return int(n % shards)
}

// take counts a connection of a, which is as counted returns it, unless that
// would be one too many.
func (s *addresses) take(a netip.Addr) bool {
	shard := &s.shards[shardOf(a)]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	n := shard.open[a]
	if n >= s.bound {
		return false
	}
	if shard.open == nil {
		shard.open = map[netip.Addr]int{}
	}
	shard.open[a] = n + 1
	return true
}

// free takes back one take.
func (s *addresses) free(a netip.Addr) {
	shard := &s.shards[shardOf(a)]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if n := shard.open[a]; n > 1 {
		shard.open[a] = n - 1
	} else {
		delete(shard.open, a)
	}
}
