package upstream

import "time"

// A member's weight is counted in thousandths, so that slow start can give it
// a part of one. The three balances go by it in their own ways: in turn and by
// hash, the part is the weight that is meant in the formula. A key then moves
// at most once, to the endpoint that grows, and none moves between others. For
// least requests the part that is missing is drawn as well, and means that
// there is no second choice: of two endpoints both would be looked at always,
// whatever their weights, and the new one has the fewest requests.
const (
	wholeShare = 1000
	leastShare = wholeShare / 10
)

// rise begins the endpoint's slow start, for every version that has one.
func (e *endpoint) rise(now time.Duration) { e.risen.Store(max(int64(now), 1)) }

// share is how much of m's weight counts at the instant now.
func (b *Backend) share(m *member, now time.Duration) int64 {
	if b.slowStart == 0 {
		return wholeShare
	}
	risen := m.risen.Load()
	if risen == 0 {
		return wholeShare
	}
	grown := max(now-time.Duration(risen), 0)
	if grown >= b.slowStart {
		m.risen.CompareAndSwap(risen, 0)
		return wholeShare
	}
	return leastShare + int64(float64(wholeShare-leastShare)*(float64(grown)/float64(b.slowStart)))
}
