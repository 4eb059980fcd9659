package ratelimit

import (
	"math"
	"time"
)

// owed is what the store has to be told of one count: units spent without it,
// less units that go back to it.
type owed struct {
	// serial names it towards the store, which takes it once however often it
	// is sent. 0: it was not sent yet, and still grows.
	serial uint64
	units  int64     // below 0: more go back than were spent
	start  int64     // the window it belongs to, in µs since 1970; 0: the one that runs
	until  time.Time // the end of that window: it means nothing then
}

// owe notes units that the store is told of with the next question.
func (s *share) owe(units, start int64, until time.Time) {
	d := &s.debt
	switch {
	case units == 0 || start != 0 && start < d.start: // of a window that is over
		return
	case start > d.start && d.start != 0:
		*d = owed{}
	}
	d.units += units
	d.start = max(d.start, start)
	if until.After(d.until) {
		d.until = until
	}
}

// lapse drops what was owed to windows that are over.
func (s *share) lapse(now time.Time) {
	for _, o := range []*owed{&s.sent, &s.debt} {
		if !now.Before(o.until) {
			*o = owed{}
		}
	}
}

// owes reports whether the store has to be told of anything.
func (s *share) owes() bool { return s.sent.units != 0 || s.debt.units != 0 }

// bill writes onto a what is owed. What was sent and not answered is sent
// again under its old serial before anything new is: the store may have it
// already. l.mu is held.
func (l *Local) bill(s *share, a *Ask, now time.Time) {
	s.lapse(now)
	if s.sent.units == 0 {
		s.sent, s.debt = s.debt, owed{}
		if s.sent.units != 0 {
			s.sent.serial = l.shared.serials.Add(1)
		}
	}
	a.Debt, a.Start, a.Serial = s.sent.units, s.sent.start, s.sent.serial
	if a.Kind == Quota && !a.Forced && s.debt.units > 0 {
		a.unsent = s.debt.units
		a.Quota -= a.unsent
	}
}

// paid notes that the store has answered a, and so has what came with it.
func (s *share) paid(a *Ask) {
	if a.Serial != 0 && a.Serial == s.sent.serial {
		s.sent = owed{}
	}
}

// handBack makes what is in hand go back with the next question. l.mu is held.
func (l *Local) handBack(s *share, now time.Time) {
	if s.hand == 0 {
		return
	}
	l.shared.count.returned.Add(s.hand)
	s.owe(-s.hand, s.begin, s.counts(now))
	s.hand = 0
}

// counts returns until when a unit that is given back is of use: to the end of
// the window, or until the bucket would be full without it.
func (s *share) counts(now time.Time) time.Time {
	sp := s.spec
	if sp.facts.Kind == Quota {
		return s.end.Add(s.lag)
	}
	full := min(float64(sp.facts.Burst)/sp.perSecond, (1000 * day).Seconds())
	return now.Add(time.Duration(math.Ceil(full * float64(time.Second))))
}

// window returns the window that a quota is charged in while the store is
// away, on the store's clock, and its end on ours. part is this gateway's
// count, nil where it keeps none.
func (s *share) window(sp *spec, part *cell, now time.Time) (start int64, until time.Time) {
	switch {
	case sp.window.Unit == "" && now.Before(s.end):
		return s.begin, s.end
	case sp.window.Unit == "":
		return 0, now.Add(sp.window.Length)
	case part != nil:
		return part.start / int64(time.Microsecond), time.Unix(0, part.end)
	case s.debt.start != 0 && now.Before(s.debt.until):
		return s.debt.start, s.debt.until
	}
	from, end := calendar(sp.window.Unit, sp.anchor, now.In(sp.loc))
	return from.UnixMicro(), end
}
