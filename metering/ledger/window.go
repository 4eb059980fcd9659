package ledger

import (
	"iter"
	"time"
)

// Window is the span of one item of usage.
type Window string

// The windows. Each is a part of the next in every zone: minutes of hours,
// hours of days, days of months.
const (
	Minute Window = "MINUTE"
	// Hour ends where the zone's clock shows a whole hour or is changed.
	Hour Window = "HOUR"
	// Day begins at the first instant at which the zone's clock has reached
	// the date; it has 23 to 25 hours where the clock is changed.
	Day Window = "DAY"
	// Month begins with the day that is its first.
	Month Window = "MONTH"
	// None is the whole range.
	None Window = "NONE"
)

// span is a window in minutes of Unix time: start is in it, end is not.
type span struct{ start, end int64 }

// windows returns the windows of [from, to) in order. The first and the last
// are cut at the range.
func windows(w Window, zone *time.Location, from, to int64) iter.Seq[span] {
	return func(yield func(span) bool) {
		for at := from; at < to; {
			end := min(next(w, zone, at, to), to)
			if !yield(span{at, end}) {
				return
			}
			at = end
		}
	}
}

// next returns the end of the window that holds the minute at.
func next(w Window, zone *time.Location, at, to int64) int64 {
	switch w {
	case Minute:
		return at + 1
	case Hour:
		return nextHour(zone, at)
	case Day:
		y, m, d := timeOf(at).In(zone).Date()
		for {
			d++
			if end := begin(zone, y, m, d); end > at {
				return end
			}
		}
	case Month:
		y, m, _ := timeOf(at).In(zone).Date()
		for {
			m++
			if end := begin(zone, y, m, 1); end > at {
				return end
			}
		}
	}
	return to
}

func nextHour(zone *time.Location, at int64) int64 {
	local := timeOf(at).In(zone)
	end := at + int64(60-local.Minute())
	if _, change := local.ZoneBounds(); !change.IsZero() && change.Unix()/60 < end {
		_, before := local.Zone()
		if _, after := change.Zone(); after != before {
			return change.Unix() / 60
		}
	}
	return end
}

// begin returns the first minute at which the clock of the zone shows the
// date or a later one. time.Date does not say which instant it means where
// midnight comes twice or not at all.
func begin(zone *time.Location, year int, month time.Month, day int) int64 {
	const beforeAll = 26 * time.Hour // no zone is farther from UTC
	midnight := time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
	at := midnight.Add(-beforeAll).In(zone)
	for {
		_, offset := at.Zone()
		reached := midnight.Add(-time.Duration(offset) * time.Second)
		if reached.Before(at) { // the clock was put over midnight
			return at.Unix() / 60
		}
		_, change := at.ZoneBounds()
		if change.IsZero() || reached.Before(change) {
			return reached.Unix() / 60
		}
		at = change
	}
}
