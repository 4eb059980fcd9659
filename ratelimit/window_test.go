package ratelimit

import (
	"testing"
	"time"
	_ "time/tzdata" // the same zones on every machine

	"pgregory.net/rapid"
)

func zone(t rapid.TB, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

func TestCalendar(t *testing.T) {
	f := func(unit, zoneName, at, want string) {
		t.Helper()
		now, err := time.Parse(time.RFC3339, at)
		if err != nil {
			t.Fatal(err)
		}
		start, end := calendar(unit, 1, now.In(zone(t, zoneName)))
		if got := start.Format(time.RFC3339) + " " + end.Format(time.RFC3339); got != want {
			t.Errorf("%s of %s in %s:\n got %s\nwant %s", unit, at, zoneName, got, want)
		}
	}
	f("second", "UTC", "2026-03-05T10:20:30Z", "2026-03-05T10:20:30Z 2026-03-05T10:20:31Z")
	f("minute", "UTC", "2026-03-05T10:20:30Z", "2026-03-05T10:20:00Z 2026-03-05T10:21:00Z")
	f("hour", "UTC", "2026-03-05T10:20:30Z", "2026-03-05T10:00:00Z 2026-03-05T11:00:00Z")
	f("week", "UTC", "2026-03-05T10:20:30Z", "2026-03-02T00:00:00Z 2026-03-09T00:00:00Z")
	f("week", "UTC", "2026-03-08T23:59:59Z", "2026-03-02T00:00:00Z 2026-03-09T00:00:00Z") // Sunday
	f("week", "UTC", "2026-03-09T00:00:00Z", "2026-03-09T00:00:00Z 2026-03-16T00:00:00Z") // Monday
	f("month", "UTC", "2028-02-29T10:20:30Z", "2028-02-01T00:00:00Z 2028-03-01T00:00:00Z")
	f("month", "UTC", "2026-12-31T23:59:59Z", "2026-12-01T00:00:00Z 2027-01-01T00:00:00Z")

	// Offsets of half hours and quarters.
	f("hour", "Asia/Kolkata", "2026-03-05T10:20:00Z", "2026-03-05T15:00:00+05:30 2026-03-05T16:00:00+05:30")
	f("day", "Asia/Kathmandu", "2026-03-05T18:20:00Z", "2026-03-06T00:00:00+05:45 2026-03-07T00:00:00+05:45")

	// Days of 23 and of 25 hours, and the hours in them.
	f("day", "Europe/Rome", "2026-03-29T12:00:00Z", "2026-03-29T00:00:00+01:00 2026-03-30T00:00:00+02:00")
	f("day", "Europe/Rome", "2026-10-25T12:00:00Z", "2026-10-25T00:00:00+02:00 2026-10-26T00:00:00+01:00")
	f("hour", "Europe/Rome", "2026-10-25T00:30:00Z", "2026-10-25T02:00:00+02:00 2026-10-25T02:00:00+01:00")
	f("hour", "Europe/Rome", "2026-10-25T01:30:00Z", "2026-10-25T02:00:00+01:00 2026-10-25T03:00:00+01:00")
	f("month", "Europe/Rome", "2026-03-15T12:00:00Z", "2026-03-01T00:00:00+01:00 2026-04-01T00:00:00+02:00")

	// Clocks that change by half an hour.
	f("hour", "Australia/Lord_Howe", "2026-04-04T14:45:00Z", "2026-04-05T01:00:00+11:00 2026-04-05T01:30:00+10:30")
	f("hour", "Australia/Lord_Howe", "2026-04-04T15:10:00Z", "2026-04-05T01:30:00+10:30 2026-04-05T02:00:00+10:30")

	// Clocks that change a minute past the hour.
	f("hour", "America/St_Johns", "2010-11-07T02:30:30Z", "2010-11-07T00:00:00-02:30 2010-11-06T23:01:00-03:30")
	f("hour", "America/St_Johns", "2010-11-07T02:31:00Z", "2010-11-06T23:01:00-03:30 2010-11-07T00:00:00-03:30")

	// Midnight is skipped, happens twice, and is passed twice.
	f("day", "America/Santiago", "2026-09-06T12:00:00Z", "2026-09-06T01:00:00-03:00 2026-09-07T00:00:00-03:00")
	f("day", "America/Havana", "2026-11-01T12:00:00Z", "2026-11-01T00:00:00-04:00 2026-11-02T00:00:00-05:00")
	f("day", "America/Havana", "2026-11-01T04:30:00Z", "2026-11-01T00:00:00-04:00 2026-11-02T00:00:00-05:00")
	f("day", "America/St_Johns", "2010-11-07T03:00:00Z", "2010-11-07T00:00:00-02:30 2010-11-08T00:00:00-03:30")

	// The 30th of December 2011 did not happen in Samoa.
	f("day", "Pacific/Apia", "2011-12-30T09:00:00Z", "2011-12-29T00:00:00-10:00 2011-12-31T00:00:00+14:00")
	f("day", "Pacific/Apia", "2011-12-30T11:00:00Z", "2011-12-31T00:00:00+14:00 2012-01-01T00:00:00+14:00")
}

// Months begin on the tenant's day, or on their last.
func TestAnchor(t *testing.T) {
	f := func(anchor int, at, want string) {
		t.Helper()
		now, err := time.Parse(time.RFC3339, at)
		if err != nil {
			t.Fatal(err)
		}
		start, end := calendar("month", anchor, now.In(zone(t, "Europe/Rome")))
		if got := start.Format(time.DateOnly) + " " + end.Format(time.DateOnly); got != want {
			t.Errorf("anchor %d, %s: got %s, want %s", anchor, at, got, want)
		}
	}
	f(15, "2026-03-20T12:00:00Z", "2026-03-15 2026-04-15")
	f(15, "2026-03-14T22:59:59Z", "2026-02-15 2026-03-15")
	f(15, "2026-03-14T23:00:00Z", "2026-03-15 2026-04-15")
	f(15, "2026-01-10T12:00:00Z", "2025-12-15 2026-01-15")
	f(31, "2026-01-31T12:00:00Z", "2026-01-31 2026-02-28")
	f(31, "2026-02-28T12:00:00Z", "2026-02-28 2026-03-31")
	f(30, "2028-02-29T12:00:00Z", "2028-02-29 2028-03-30")
	f(31, "2026-12-30T12:00:00Z", "2026-11-30 2026-12-31")
}

// The windows of a unit partition time, whatever the zone does.
func TestCalendarPartition(t *testing.T) {
	zones := []string{
		"UTC", "Europe/Rome", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe", "America/Santiago",
		"America/Havana", "America/St_Johns", "Pacific/Apia", "Africa/Casablanca", "Antarctica/Troll", "Asia/Pyongyang",
	}
	units := []string{"second", "minute", "hour", "day", "week", "month"}
	rapid.Check(t, func(t *rapid.T) {
		loc := zone(t, rapid.SampledFrom(zones).Draw(t, "zone"))
		unit := rapid.SampledFrom(units).Draw(t, "unit")
		anchor := rapid.IntRange(1, 31).Draw(t, "anchor")
		now := time.Unix(rapid.Int64Range(500_000_000, 2_500_000_000).Draw(t, "now"), 5e8).In(loc)
		if from, to := now.ZoneBounds(); rapid.Bool().Draw(t, "near") && !from.IsZero() && !to.IsZero() {
			now = to.Add(time.Duration(rapid.Int64Range(-7200, 7200).Draw(t, "off")) * time.Second)
		}
		start, end := calendar(unit, anchor, now)
		if now.Before(start) || !now.Before(end) {
			t.Fatalf("%v is not within %v .. %v", now, start, end)
		}
		for _, at := range []time.Time{start, end.Add(-1)} {
			if s, e := calendar(unit, anchor, at); !s.Equal(start) || !e.Equal(end) {
				t.Fatalf("%v is in %v .. %v, not in %v .. %v", at, s, e, start, end)
			}
		}
		if next, _ := calendar(unit, anchor, end); !next.Equal(end) {
			t.Fatalf("the window after %v begins at %v", end, next)
		}
	})
}
