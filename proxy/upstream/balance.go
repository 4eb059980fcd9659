package upstream

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// standing is how fit a member is to be picked; of all members those of the
// lowest, which is the best, are.
type standing uint8

const (
	wellUntried standing = iota
	benched              // ejected, for a retry: what failed a while ago, rather than what failed just now
	well
	untried
	anyone
	nobody // the circuit is open
)

// question is what one pick goes by.
type question struct {
	now   time.Duration // 0 where no member's standing or weight goes by the time
	plain bool          // all members are well, whole and untried
	tried []int         // members
	least standing      // that a member must have
}

// ticket is the right to one attempt at a member, and what its result is
// counted by.
type ticket struct {
	member int
	round  uint32 // outlier.rounds at the pick
	term   uint32 // circuit.term at the pick
	trial  uint32 // of the circuit; 0: the circuit is closed
}

// choose picks the member for an attempt. report, which ends it, must be
// called with the ticket. It fails with errNoEndpoint or errCircuit.
func (b *Backend) choose(key uint64, tried []int) (ticket, error) {
	// A pick is in vain when another request began the trial of that
	// member's circuit in between, and so once for each member at most.
	for range max(len(b.members), 1) {
		t := ticket{member: b.pick(key, tried)}
		if t.member < 0 {
			break
		}
		m := &b.members[t.member]
		if m.outlier != nil {
			t.round = m.outlier.rounds.Load()
		}
		if m.circuit == nil {
			return t, nil
		}
		passed, changed := m.circuit.enter(&t, b.client.clock)
		if changed {
			b.log().Info("circuit is half open", "endpoint", m.url)
		}
		if passed {
			return t, nil
		}
	}
	if len(b.members) == 0 {
		return ticket{}, errNoEndpoint
	}
	return ticket{}, errCircuit
}

// well reports whether member i passes its health checks, or has none.
func (b *Backend) well(i int) bool { return !b.checked() || !b.members[i].sick.Load() }

// standing returns the standing of member i.
func (b *Backend) standing(i int, q *question) standing {
	m := &b.members[i]
	if m.circuit != nil && !m.circuit.admits(q.now) {
		return nobody
	}
	isTried := slices.Contains(q.tried, i)
	out := m.outlier != nil && m.outlier.out(q.now)
	switch {
	case b.well(i) && !out && isTried:
		return well
	case b.well(i) && !out:
		return wellUntried
	case isTried:
		return anyone
	case b.well(i) && len(q.tried) > 0:
		return benched
	}
	return untried
}

// meets reports whether member i is one of those to pick from.
func (b *Backend) meets(i int, q *question) bool { return q.plain || b.standing(i, q) <= q.least }

// weight is what member i is worth at the moment, in thousandths.
func (b *Backend) weight(i int, q *question) int64 {
	m := &b.members[i]
	if q.now == 0 {
		return m.weight * wholeShare
	}
	return m.weight * b.share(m, q.now)
}

// pick returns the member for a request, or -1 where there is none. It avoids
// members that fail their checks or are ejected while others are well, and
// then those tried; a retry goes to one that is ejected rather than to where
// it has just failed. While none is well all are used, but for those whose
// circuit is open.
func (b *Backend) pick(key uint64, tried []int) int {
	if len(b.members) <= 1 && (len(b.members) == 0 || b.members[0].circuit == nil) {
		return len(b.members) - 1
	}
	q := &question{tried: tried}
	if b.survey(q); !q.plain {
		if q.least = b.strictest(q); q.least == nobody {
			return -1
		}
	}
	switch b.balance {
	case gatehouse.LeastRequests:
		return b.pickLeast(q)
	case gatehouse.ConsistentHash:
		return b.pickHash(key, q)
	default:
		return b.pickTurn(q)
	}
}

// survey sets now and plain of q. The time, which costs more than a pick, is
// asked for where something depends on it. Ejections that are over are noticed.
func (b *Backend) survey(q *question) {
	q.plain = len(q.tried) == 0
	for i := range b.members {
		m := &b.members[i]
		if !b.well(i) {
			q.plain = false
		}
		ejected := m.outlier != nil && m.outlier.until.Load() != 0
		if !ejected && (m.circuit == nil || m.circuit.until.Load() == 0) && (b.slowStart == 0 || m.risen.Load() == 0) {
			continue
		}
		if q.plain = false; q.now == 0 {
			q.now = max(b.client.clock.now(), 1)
		}
		if ejected && m.outlier.over(q.now) {
			b.readmit(m, q.now)
		}
	}
}

// strictest returns the best standing of all members.
func (b *Backend) strictest(q *question) standing {
	best := nobody
	for i := range b.members {
		if best = min(best, b.standing(i, q)); best == wellUntried {
			break
		}
	}
	return best
}

// pickTurn is smooth weighted round robin, as nginx has it: in any sequence of
// picks, each member's share is within one of its weight's.
func (b *Backend) pickTurn(q *question) int {
	b.turns.Lock()
	defer b.turns.Unlock()
	best, total := -1, int64(0)
	for i := range b.members {
		if !b.meets(i, q) {
			continue
		}
		m, w := &b.members[i], b.weight(i, q)
		m.turn += w
		total += w
		if best < 0 || m.turn > b.members[best].turn {
			best = i
		}
	}
	if best < 0 { // health changed since q was put
		return 0
	}
	b.members[best].turn -= total
	return best
}

// pickLeast is the power of two choices: of two members drawn by weight, the
// one with fewer requests in flight.
func (b *Backend) pickLeast(q *question) int {
	first := b.draw(q, -1)
	if first < 0 {
		return 0
	}
	second := b.draw(q, first)
	if second >= 0 && b.members[second].inFlight.Load() < b.members[first].inFlight.Load() {
		return second
	}
	return first
}

// draw returns a member by weight. With another, not, it returns a second one,
// or -1 where there is none, or where the draw falls on weight that slow start
// keeps back.
func (b *Backend) draw(q *question, not int) int {
	total := int64(0)
	for i := range b.members {
		switch {
		case i == not || !b.meets(i, q):
		case not < 0:
			total += b.weight(i, q)
		default:
			total += b.members[i].weight * wholeShare
		}
	}
	if total == 0 {
		return -1
	}
	n, last := rand.Int64N(total), -1
	for i := range b.members {
		if i == not || !b.meets(i, q) {
			continue
		}
		if n -= b.weight(i, q); n < 0 {
			return i
		}
		last = i
	}
	if not >= 0 {
		return -1
	}
	return last
}

// pickHash is weighted rendezvous hashing: a key goes to the member where
// weight / -ln(hash) is largest, so that only the keys of a member that goes
// move, and those that come to a new one. It goes by URL, so the order of the
// document does not matter, and all gateways agree, slow starts aside.
func (b *Backend) pickHash(key uint64, q *question) int {
	best, highest := 0, -1.0
	for i := range b.members {
		if !b.meets(i, q) {
			continue
		}
		const unit = 1.0 / (1 << 53)
		u := (float64(mix(key^b.members[i].seed)>>11) + 0.5) * unit
		if score := float64(b.weight(i, q)) / -math.Log(u); score > highest {
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
