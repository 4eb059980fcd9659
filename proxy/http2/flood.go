package http2

import "time"

// allowance is how often a client may do what costs this side work and brings
// nothing forward, within a time. It is guarded by Conn.mu.
type allowance struct {
	used, limit int
	since       time.Duration
}

const (
	// allowed is the time that an allowance is for.
	allowed = 10 * time.Second
	// maxVoids is how many frames may carry nothing: PING, SETTINGS, PRIORITY,
	// WINDOW_UPDATE, empty DATA, and those of streams that have ended. What
	// moves bodies gives back, since every DATA frame is owed updates.
	maxVoids = 1000
)

// take reports whether it may be done once more.
func (a *allowance) take(now time.Duration) bool {
	if now-a.since > allowed {
		a.used, a.since = 0, now
	}
	a.used++
	return a.used <= a.limit
}

// updatesOwed is how many frames a client may send for n bytes of DATA that it
// is sent: an update of each window as it reads them, in pieces of 1 KiB at the
// least, and some pings.
func updatesOwed(n int) int { return 4 + 2*(n>>10) }

// give gives back n.
func (a *allowance) give(n int) { a.used = max(0, a.used-n) }

// mostOwed bounds what is owed for DATA that is on its way: that of 8 MiB.
const mostOwed = 1 << 14

// void notes a frame that carries nothing, beyond those that are owed for the
// DATA that the client was sent. The caller holds mu.
func (c *Conn) void() *Error {
	if c.owed > 0 {
		c.owed--
		return nil
	}
	if !c.voids.take(c.heard) {
		return fault(EnhanceYourCalm, "too many frames that carry nothing")
	}
	return nil
}

// churn notes a stream that ended before its time (CVE-2023-44487). The caller
// holds mu.
func (c *Conn) churn() *Error {
	if !c.resets.take(c.heard) {
		return fault(EnhanceYourCalm, "too many streams that come to nothing")
	}
	return nil
}

// closing is how a stream was closed: it decides what a late frame means.
type closing uint8

const (
	closedQuietly closing = iota // nothing is remembered
	closedByEnd                  // both sides have ended it
	closedByUs                   // with RST_STREAM
	closedByThem                 // with RST_STREAM
)

// memory remembers how the last streams were closed. Those that this side
// reset are remembered for longer, apart: the client may not know it yet.
type memory struct {
	ours   [64]uint32
	theirs [32]uint32
	ended  [32]uint32
	n      [4]uint8 // of each, where the next goes
}

func (m *memory) add(id uint32, how closing) {
	n := &m.n[how]
	switch how {
	case closedByEnd:
		m.ended[int(*n)%len(m.ended)] = id
	case closedByUs:
		m.ours[int(*n)%len(m.ours)] = id
	case closedByThem:
		m.theirs[int(*n)%len(m.theirs)] = id
	case closedQuietly:
	}
	*n++
}

func (m *memory) of(id uint32) closing {
	for _, x := range m.ours {
		if x == id {
			return closedByUs
		}
	}
	for _, x := range m.theirs {
		if x == id {
			return closedByThem
		}
	}
	for _, x := range m.ended {
		if x == id {
			return closedByEnd
		}
	}
	return closedQuietly
}
