package billing_test

import (
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

func TestBoundaries(t *testing.T) {
	f := func(zone string, c billing.Cadence, anchor string, n int, want string) {
		t.Helper()
		loc, err := time.LoadLocation(zone)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Boundary(at(anchor), loc, n).In(loc).Format(time.RFC3339); got != want {
			t.Errorf("%s %v from %s, %d: got %s, want %s", zone, c, anchor, n, got, want)
		}
	}
	month, year := billing.Cadence{Unit: billing.Month}, billing.Cadence{Unit: billing.Year}
	f("UTC", month, "2026-01-31T00:00:00Z", 1, "2026-02-28T00:00:00Z")
	f("UTC", month, "2026-01-31T00:00:00Z", 2, "2026-03-31T00:00:00Z")
	f("UTC", month, "2026-01-31T00:00:00Z", 3, "2026-04-30T00:00:00Z")
	f("UTC", month, "2026-01-31T00:00:00Z", 25, "2028-02-29T00:00:00Z")
	f("UTC", month, "2026-01-31T00:00:00Z", -2, "2025-11-30T00:00:00Z")
	f("UTC", year, "2024-02-29T00:00:00Z", 1, "2025-02-28T00:00:00Z")
	f("UTC", year, "2024-02-29T00:00:00Z", 4, "2028-02-29T00:00:00Z")
	f("UTC", billing.Cadence{Every: 3, Unit: billing.Month}, "2025-11-30T00:00:00Z", 1, "2026-02-28T00:00:00Z")
	f("Europe/Rome", billing.Cadence{Unit: billing.Week}, "2026-03-23T23:00:00Z", 1, "2026-03-31T00:00:00+02:00")
	// The hour from 2 to 3 is skipped on the 29th of March and comes twice on the 25th of October.
	f("Europe/Rome", billing.Cadence{Unit: billing.Day}, "2026-03-28T01:30:00Z", 1, "2026-03-29T03:30:00+02:00")
	f("Europe/Rome", billing.Cadence{Unit: billing.Day}, "2026-10-24T00:30:00Z", 1, "2026-10-25T02:30:00+02:00")
	f("Europe/Rome", month, "2026-01-29T01:30:00Z", 2, "2026-03-29T03:30:00+02:00")
	f("Europe/Rome", month, "2026-01-29T01:30:00Z", 3, "2026-04-29T02:30:00+02:00")
	f("Asia/Kathmandu", month, "2025-12-31T18:15:00Z", 1, "2026-02-01T00:00:00+05:45")
	f("Africa/Cairo", billing.Cadence{Unit: billing.Day}, "2026-04-22T22:00:00Z", 1, "2026-04-24T01:00:00+03:00")
	f("UTC", billing.Cadence{Every: 6, Unit: billing.Hour}, "2026-01-01T00:00:00Z", 5, "2026-01-02T06:00:00Z")
}

func TestProration(t *testing.T) {
	rome, err := time.LoadLocation("Europe/Rome")
	if err != nil {
		t.Fatal(err)
	}
	f := func(p billing.Proration, from, to, start, end, want string) {
		t.Helper()
		part, whole := billing.Period{Start: at(from), End: at(to)}, billing.Period{Start: at(start), End: at(end)}
		if got := p.Of(part, whole, rome, billing.Cadence{Unit: billing.Month}).String(); got != want {
			t.Errorf("%s: got %s, want %s", p, got, want)
		}
	}
	const a, b = "2026-02-28T23:00:00Z", "2026-03-31T22:00:00Z" // March in Rome has 743 hours
	f(billing.Seconds, "2026-03-15T11:00:00Z", b, a, b, "395/743")
	f("", a, b, a, b, "1")
	f(billing.Days, "2026-03-15T11:00:00Z", b, a, b, "17/31")
	f(billing.Days30, "2026-03-15T11:00:00Z", b, a, b, "8/15")
	f(billing.Days30, a, b, a, b, "1")
	f(billing.Days30, "2026-03-29T22:00:00Z", "2026-03-30T22:00:00Z", a, b, "0") // the 31st is the 30th
	f(billing.Whole, "2026-03-15T11:00:00Z", b, a, b, "1")
	f(billing.Seconds, "2026-01-15T11:00:00Z", "2026-05-01T00:00:00Z", a, b, "1")
	f(billing.Seconds, b, "2026-05-01T00:00:00Z", a, b, "0")
}

func TestFirstPeriodBeforeTheAnchor(t *testing.T) {
	c := billing.Cadence{Unit: billing.Month}
	s := billing.Subscription{Start: at("2026-01-18T00:00:00Z"), Anchor: at("2025-01-01T00:00:00Z")}
	f := func(n int, want string) {
		t.Helper()
		span, whole := s.Span(c, n), s.Whole(c, n)
		if got := span.Start.Format(time.DateOnly) + " " + span.End.Format(time.DateOnly) + " of " + whole.Start.Format(time.DateOnly); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
	f(0, "2026-01-18 2026-02-01 of 2026-01-01")
	f(1, "2026-02-01 2026-03-01 of 2026-02-01")
	s.End = at("2026-02-10T00:00:00Z")
	f(1, "2026-02-01 2026-02-10 of 2026-02-01")
	if n := s.Index(c, at("2026-03-05T00:00:00Z")); n != 2 {
		t.Errorf("the fifth of March is in period %d", n)
	}
}

func TestStates(t *testing.T) {
	p := plan(t, premium)
	p.TrialDays = 3
	s := billing.Subscription{Start: at("2026-01-01T00:00:00Z"), End: at("2026-02-01T00:00:00Z"), Pauses: []billing.Period{{Start: at("2026-01-10T00:00:00Z"), End: at("2026-01-11T00:00:00Z")}}}
	f := func(when string, want billing.State) {
		t.Helper()
		if got := s.State(p, at(when)); got != want {
			t.Errorf("%s: got %s, want %s", when, got, want)
		}
	}
	f("2025-12-31T23:59:59Z", billing.Pending)
	f("2026-01-01T00:00:00Z", billing.Trialing)
	f("2026-01-04T00:00:00Z", billing.Active)
	f("2026-01-10T00:00:00Z", billing.Paused)
	f("2026-01-11T00:00:00Z", billing.Active)
	f("2026-02-01T00:00:00Z", billing.Ended)
}
