package ratelimit

import "time"

// users is the exact set of principals with a request in flight or in the
// last minute; Local.mu guards it. Its limit bounds it.
type users struct {
	all map[digest]*user
	// Those without a request in flight form a ring by the time of their last
	// one; idle.next is the one longest ago.
	idle user
}

type user struct {
	key        digest
	inFlight   int
	last       time.Time
	prev, next *user // in the ring, while inFlight is 0
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
	return int64(len(us.all))
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
		u = &user{key: key}
		us.all[key] = u
	case u.inFlight == 0:
		u.unlink()
	}
	u.inFlight++
}

// leave ends a request that enter counted.
func (us *users) leave(now time.Time, key digest) {
	u := us.all[key]
	u.inFlight--
	if u.inFlight > 0 {
		return
	}
	u.last = now
	u.prev, u.next = us.idle.prev, &us.idle
	u.prev.next, u.next.prev = u, u
}

func (u *user) unlink() {
	u.prev.next, u.next.prev = u.next, u.prev
	u.prev, u.next = nil, nil
}
