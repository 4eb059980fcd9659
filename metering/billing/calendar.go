package billing

import "time"

// Unit is a calendar unit.
type Unit string

// The units. Hours are of 60 minutes; the others are of the calendar of the
// subscription's time zone.
const (
	Hour  Unit = "hour"
	Day   Unit = "day"
	Week  Unit = "week"
	Month Unit = "month"
	Year  Unit = "year"
)

// Cadence is how often a period begins: every so many units.
type Cadence struct {
	// Every defaults to 1.
	Every int  `json:"every,omitempty"`
	Unit  Unit `json:"unit"`
}

func (c Cadence) every() int { return max(c.Every, 1) }

func (c Cadence) same(d Cadence) bool { return c.Unit == d.Unit && c.every() == d.every() }

// PerYear returns how many periods make a year, for figures such as recurring
// revenue: 12 months, 52 weeks, 365 days.
func (c Cadence) PerYear() Decimal {
	n := map[Unit]int64{Hour: 365 * 24, Day: 365, Week: 52, Month: 12, Year: 1}[c.Unit]
	return Fraction(n, int64(c.every()))
}

// Boundary returns the instant at which the n-th period after the anchor
// begins; n may be negative. It is counted from the anchor itself, so that an
// anchor on the 31st gives the last day of shorter months and the 31st of the
// longer ones. A wall clock time that the zone skips is moved on by the gap; of
// one that comes twice the first is meant.
func (c Cadence) Boundary(anchor time.Time, loc *time.Location, n int) time.Time {
	n *= c.every()
	if c.Unit == Hour {
		return anchor.Add(time.Duration(n) * time.Hour)
	}
	a := anchor.In(loc)
	y, m, d := a.Date()
	switch c.Unit {
	case Day:
		d += n
	case Week:
		d += 7 * n
	case Year:
		n *= 12
		fallthrough
	default:
		first := time.Date(y, m+time.Month(n), 1, 0, 0, 0, 0, time.UTC)
		y, m = first.Year(), first.Month()
		d = min(d, first.AddDate(0, 1, -1).Day())
	}
	if n == 0 {
		return anchor
	}
	h, mi, s := a.Clock()
	clock := time.Duration(h)*time.Hour + time.Duration(mi)*time.Minute + time.Duration(s)*time.Second + time.Duration(a.Nanosecond())
	return wall(time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Add(clock), loc)
}

// wall returns the instant at which clocks of the zone show what naive shows
// in UTC.
func wall(naive time.Time, loc *time.Location) time.Time {
	_, before := naive.Add(-24 * time.Hour).In(loc).Zone()
	_, after := naive.Add(24 * time.Hour).In(loc).Zone()
	first := naive.Add(-time.Duration(before) * time.Second)
	if _, is := first.In(loc).Zone(); is == before {
		return first.UTC()
	}
	second := naive.Add(-time.Duration(after) * time.Second)
	if _, is := second.In(loc).Zone(); is == after {
		return second.UTC()
	}
	return first.UTC()
}

// Index returns the n for which t lies within the n-th period.
func (c Cadence) Index(anchor time.Time, loc *time.Location, t time.Time) int {
	year := 365 * 24 * time.Hour
	span := map[Unit]time.Duration{Hour: time.Hour, Day: 24 * time.Hour, Week: 7 * 24 * time.Hour, Month: year / 12, Year: year}[c.Unit]
	n := 0
	if span > 0 {
		n = int(t.Sub(anchor) / (span * time.Duration(c.every())))
	}
	for c.Boundary(anchor, loc, n).After(t) {
		n--
	}
	for !c.Boundary(anchor, loc, n+1).After(t) {
		n++
	}
	return n
}

// Proration is how a part of a period is measured against the whole.
type Proration string

// The prorations.
const (
	// Seconds divides by elapsed time. The default.
	Seconds Proration = "seconds"
	// Days divides by days of the calendar: a day that is begun counts to the
	// part that begins with it.
	Days Proration = "days"
	// Days30 counts every month as 30 days: the 31st is the 30th, and the days
	// that February lacks belong to its last.
	Days30 Proration = "days_30"
	// Whole does not prorate: any part costs as much as the whole.
	Whole Proration = "none"
)

// Of returns which fraction of the whole period the part is, between 0 and 1.
func (p Proration) Of(part, whole Period, loc *time.Location, _ Cadence) Decimal {
	part = part.Cut(whole)
	if part.Empty() {
		return Decimal{}
	}
	var a, b Decimal
	switch p {
	case Whole:
		return Int(1)
	case Days:
		a, b = days(part, loc), days(whole, loc)
	case Days30:
		a, b = days30(part, loc), days30(whole, loc)
	default:
		a, b = part.seconds(), whole.seconds()
	}
	if b.Sign() <= 0 {
		return Decimal{}
	}
	return a.Div(b).Min(Int(1))
}

// days is the difference of the dates on which the period begins and ends.
func days(p Period, loc *time.Location) Decimal {
	return Int(int64(date(p.End, loc).Sub(date(p.Start, loc)) / (24 * time.Hour)))
}

// days30 is the difference of the dates where each month has 30 days: parts of
// a period sum to it.
func days30(p Period, loc *time.Location) Decimal {
	day := func(t time.Time) int64 {
		y, m, d := t.In(loc).Date()
		return 360*int64(y) + 30*int64(m) + int64(min(d, 30))
	}
	return Int(day(p.End) - day(p.Start))
}

func date(t time.Time, loc *time.Location) time.Time {
	y, m, d := t.In(loc).Date()
	return time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
}
