package ratelimit

import (
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

const day = 24 * time.Hour

// windowLength returns the nominal length of w.
func windowLength(w gatehouse.Window) time.Duration {
	switch w.Unit {
	case "second":
		return time.Second
	case "minute":
		return time.Minute
	case "hour":
		return time.Hour
	case "day":
		return day
	case "week":
		return 7 * day
	case "month":
		return 30 * day
	}
	return w.Length
}

// calendar returns the window of unit in t's zone that holds t: start <= t <
// end. The windows of a unit follow each other without gap or overlap. Months
// begin on the day anchor, or on their last where they have no such day.
//
// A day begins when the zone's clocks first reach midnight, or pass it where
// summer time skips it; weeks begin on Monday. Seconds, minutes and hours are
// cut by the local clock, and anew where the zone changes its offset.
func calendar(unit string, anchor int, t time.Time) (start, end time.Time) {
	switch unit {
	case "second", "minute", "hour":
		return clockWindow(windowLength(gatehouse.Window{Unit: unit}), t)
	}
	y, m, d := t.Date()
	var next func() (int, time.Month, int)
	switch unit {
	case "week":
		d -= (int(t.Weekday()) + 6) % 7
		next = func() (int, time.Month, int) { return y, m, d + 7 }
	case "month":
		if d < anchorIn(y, m, anchor) {
			m--
		}
		d = anchorIn(y, m, anchor)
		next = func() (int, time.Month, int) { return y, m + 1, anchorIn(y, m+1, anchor) }
	default:
		next = func() (int, time.Month, int) { return y, m, d + 1 }
	}
	start = midnight(y, m, d, t.Location())
	for {
		y, m, d = next()
		end = midnight(y, m, d, t.Location())
		// Clocks put back over midnight show the old date again within the
		// new day, which has begun already.
		if t.Before(end) {
			return start, end
		}
		start = end
	}
}

// anchorIn returns the day of the month on which its window begins.
func anchorIn(y int, m time.Month, anchor int) int {
	days := time.Date(y, m+1, 0, 0, 0, 0, 0, time.UTC).Day()
	return min(max(anchor, 1), days)
}

// clockWindow cuts the time of one zone offset in pieces of length.
func clockWindow(length time.Duration, t time.Time) (start, end time.Time) {
	_, offset := t.Zone()
	local := t.Unix() + int64(offset)
	seconds := int64(length / time.Second)
	into := ((local % seconds) + seconds) % seconds
	start = time.Unix(t.Unix()-into, 0).In(t.Location())
	end = start.Add(length)
	zoneStart, zoneEnd := t.ZoneBounds()
	if !zoneStart.IsZero() && start.Before(zoneStart) {
		start = zoneStart
	}
	if !zoneEnd.IsZero() && end.After(zoneEnd) {
		end = zoneEnd
	}
	return start, end
}

// midnight returns the first instant at which the clocks of loc show the
// start of the date or later. time.Date promises no such thing for a
// midnight that is skipped or happens twice.
func midnight(y int, m time.Month, d int, loc *time.Location) time.Time {
	local := time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Unix()
	const farthest = 26 * 60 * 60 // no offset is as large, in seconds
	t := time.Unix(local-farthest, 0).In(loc)
	for {
		_, offset := t.Zone()
		_, zoneEnd := t.ZoneBounds()
		at := max(t.Unix(), local-int64(offset))
		if zoneEnd.IsZero() || at < zoneEnd.Unix() {
			return time.Unix(at, 0).In(loc)
		}
		t = zoneEnd
	}
}
