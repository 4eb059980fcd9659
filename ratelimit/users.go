package ratelimit

import (
	"time"

	"github.com/axiomhq/hyperloglog"
)

// exactUsers is how many users a set tells apart one by one. More are counted
// by HyperLogLog, whose standard error is 0.81 % of them (2^14 registers).
const exactUsers = 10_000

// users is the set of principals with a request in flight or in the last
// minute; Local.mu guards it. It is exact up to exactUsers. Of those beyond,
// only the number is known, so that a full set refuses them although they may
// be in it.
type users struct {
	all map[digest]*user
	// Those without a request in flight form a ring by the time of their last
	// one; idle.next is the one longest ago.
	idle user
	many *sketch // nil until there are too many
}

type user struct {
	key        digest
	inFlight   int
	last       time.Time
	prev, next *user // in the ring, while inFlight is 0

	// Of a limit in the store: the digest that it knows, and when it was last
	// told of the user.
	sum     [2]uint64
	touched time.Time
}

func newUsers() *users {
	u := &users{all: map[digest]*user{}}
	u.idle.prev, u.idle.next = &u.idle, &u.idle
	return u
}

// expire forgets those whose last request is a minute ago.
func (us *users) expire(now time.Time) {
	for u := us.idle.next; u != &us.idle && now.Sub(u.last) >= userWindow; u = us.idle.next {
		u.unlink()
		delete(us.all, u.key)
	}
}

func (us *users) active(now time.Time) int64 {
	us.expire(now)
	if us.many == nil {
		return int64(len(us.all))
	}
	n := us.many.active(now, us.all)
	if us.many.empty() {
		us.many = nil
	}
	return n
}

// admits reports whether key is in the set or there is room for it, and else
// how long until a place may be free.
func (us *users) admits(now time.Time, key digest, limit int64) (wait time.Duration, ok bool) {
	if us.active(now) < limit || us.all[key] != nil {
		return 0, true
	}
	if oldest := us.idle.next; oldest != &us.idle {
		return oldest.last.Add(userWindow).Sub(now), false
	}
	return busyRetry, false
}

// enter counts a request in flight.
func (us *users) enter(key digest) {
	u := us.all[key]
	switch {
	case u == nil:
		if len(us.all) >= exactUsers {
			us.crowd(key)
			return
		}
		u = &user{key: key}
		us.all[key] = u
	case u.inFlight == 0:
		u.unlink()
	}
	u.inFlight++
}

// crowd counts a user that is not kept apart.
func (us *users) crowd(key digest) {
	if us.many == nil {
		us.many = &sketch{}
	}
	us.many.add(key)
}

// leave ends a request that enter counted.
func (us *users) leave(now time.Time, key digest) {
	u := us.all[key]
	if u == nil || u.inFlight == 0 {
		if us.many != nil {
			us.many.roll(now)
			us.many.add(key)
		}
		return
	}
	u.inFlight--
	if u.inFlight > 0 {
		return
	}
	u.last = now
	us.link(u)
}

// lastSeen returns how many nanoseconds ago key was last seen, for undo.
func (us *users) lastSeen(now time.Time, key digest) (ago int64, known bool) {
	if u := us.all[key]; u != nil {
		return int64(now.Sub(u.last)), true
	}
	return 0, false
}

// undo takes back an enter, as if it had not been. A user of the crowd stays
// counted for a minute.
func (us *users) undo(key digest, last time.Time, known bool) {
	u := us.all[key]
	if u == nil || u.inFlight == 0 {
		return
	}
	u.inFlight--
	switch {
	case u.inFlight > 0:
	case !known:
		delete(us.all, key)
	default:
		u.last = last
		us.link(u)
	}
}

// link puts a user without a request in flight into the ring.
func (us *users) link(u *user) {
	after := us.idle.prev
	for after != &us.idle && after.last.After(u.last) {
		after = after.prev
	}
	u.prev, u.next = after, after.next
	u.prev.next, u.next.prev = u, u
}

func (u *user) unlink() {
	u.prev.next, u.next.prev = u.next, u.prev
	u.prev, u.next = nil, nil
}

// sketchSpan is the time that one sketch covers: users of the crowd stay
// counted for a minute, and this at most longer.
const sketchSpan = 10 * time.Second

// sketch counts the distinct users of the crowd in the last minute, about.
type sketch struct {
	parts  [userWindow/sketchSpan + 1]*hyperloglog.Sketch
	span   int64 // number of the span that parts[0] covers
	count  int64 // by the last estimate, those told apart included
	apart  int   // how many these were
	at     time.Time
	change bool // something came since
}

// estimateEvery is how old an estimate may be: merging sketches takes tens of
// microseconds.
const estimateEvery = 100 * time.Millisecond

// roll brings the sketch to now.
func (s *sketch) roll(now time.Time) {
	span := now.UnixNano() / int64(sketchSpan)
	if s.span == 0 {
		s.span = span
	}
	for ; s.span < span; s.span++ {
		copy(s.parts[1:], s.parts[:len(s.parts)-1])
		s.parts[0], s.change = nil, true
		if s.empty() {
			s.span = span
			return
		}
	}
}

func (s *sketch) empty() bool {
	for _, p := range s.parts {
		if p != nil {
			return false
		}
	}
	return true
}

func (s *sketch) add(key digest) {
	if s.parts[0] == nil {
		s.parts[0] = hyperloglog.New14()
	}
	s.parts[0].InsertHash(key[0])
	s.change = true
}

// active returns the estimate of users in the last minute, with those that are
// told apart: a user of the crowd may be one of them by now.
func (s *sketch) active(now time.Time, apart map[digest]*user) int64 {
	s.roll(now)
	if s.empty() {
		return int64(len(apart))
	}
	if (s.change || len(apart) != s.apart) && now.Sub(s.at) >= estimateEvery {
		sum := hyperloglog.New14()
		for _, p := range s.parts {
			if p != nil {
				_ = sum.Merge(p) // their precision is the same
			}
		}
		for key := range apart {
			sum.InsertHash(key[0])
		}
		s.count, s.apart, s.at, s.change = int64(sum.Estimate()), len(apart), now, false
	}
	return max(s.count+int64(max(len(apart)-s.apart, 0)), int64(len(apart)))
}
