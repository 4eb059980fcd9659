package upstream

import (
	"math"
	"math/rand/v2"
	"slices"

	"github.com/gatehouse-gateway/gatehouse"
)

// standing is which members may be picked: the strictest that some meet.
type standing uint8

const (
	wellUntried standing = iota
	well
	untried
	anyone
)

// well reports whether member i passes its health checks, or has none.
func (b *Backend) well(i int) bool { return !b.checked() || !b.members[i].sick.Load() }

// meets reports whether member i has standing s, given those tried before.
func (b *Backend) meets(i int, s standing, tried []int) bool {
	switch s {
	case wellUntried:
		return b.well(i) && !slices.Contains(tried, i)
	case well:
		return b.well(i)
	case untried:
		return !slices.Contains(tried, i)
	default:
		return true
	}
}

// pick returns the member for a request, or -1 where there is none. It avoids
// members that fail their checks while others pass, and then those tried.
func (b *Backend) pick(key uint64, tried []int) int {
	if len(b.members) <= 1 {
		return len(b.members) - 1
	}
	s := b.strictest(tried)
	switch b.balance {
	case gatehouse.LeastRequests:
		return b.pickLeast(s, tried)
	case gatehouse.ConsistentHash:
		return b.pickHash(key, s, tried)
	default:
		return b.pickTurn(s, tried)
	}
}

func (b *Backend) strictest(tried []int) standing {
	best := anyone
	for i := range b.members {
		isWell, isTried := b.well(i), slices.Contains(tried, i)
		switch {
		case isWell && !isTried:
			return wellUntried
		case isWell:
			best = min(best, well)
		case !isTried:
			best = min(best, untried)
		}
	}
	return best
}

// pickTurn is smooth weighted round robin, as nginx has it: in any sequence of
// picks, each member's share is within one of its weight's.
func (b *Backend) pickTurn(s standing, tried []int) int {
	b.turns.Lock()
	defer b.turns.Unlock()
	best, total := -1, int64(0)
	for i := range b.members {
		if !b.meets(i, s, tried) {
			continue
		}
		m := &b.members[i]
		m.turn += m.weight
		total += m.weight
		if best < 0 || m.turn > b.members[best].turn {
			best = i
		}
	}
	if best < 0 { // health changed since s was found
		return 0
	}
	b.members[best].turn -= total
	return best
}

// pickLeast is the power of two choices: of two members drawn by weight, the
// one with fewer requests in flight.
func (b *Backend) pickLeast(s standing, tried []int) int {
	first := b.draw(s, tried, -1)
	if first < 0 {
		return 0
	}
	second := b.draw(s, tried, first)
	if second >= 0 && b.members[second].inFlight.Load() < b.members[first].inFlight.Load() {
		return second
	}
	return first
}

// draw returns a member by weight, other than not, or -1 where there is none.
func (b *Backend) draw(s standing, tried []int, not int) int {
	total := int64(0)
	for i := range b.members {
		if i != not && b.meets(i, s, tried) {
			total += b.members[i].weight
		}
	}
	if total == 0 {
		return -1
	}
	n, last := rand.Int64N(total), -1
	for i := range b.members {
		if i == not || !b.meets(i, s, tried) {
			continue
		}
		if n -= b.members[i].weight; n < 0 {
			return i
		}
		last = i
	}
	return last
}

// pickHash is weighted rendezvous hashing: a key goes to the member where
// weight / -ln(hash) is largest, so that only the keys of a member that goes
// move, and those that come to a new one. It goes by URL, so the order of the
// document does not matter, and all gateways agree.
func (b *Backend) pickHash(key uint64, s standing, tried []int) int {
	best, highest := 0, -1.0
	for i := range b.members {
		if !b.meets(i, s, tried) {
			continue
		}
		const unit = 1.0 / (1 << 53)
		u := (float64(mix(key^b.members[i].seed)>>11) + 0.5) * unit
		if score := float64(b.members[i].weight) / -math.Log(u); score > highest {
			best, highest = i, score
		}
	}
	return best
}

// hashURL is FNV-1a, mixed.
func hashURL(s string) uint64 {
	h := uint64(0xcbf29ce484222325)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 0x100000001b3
	}
	return mix(h)
}

// mix is the finaliser of SplitMix64 (Steele, Lea, Flood 2014).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
