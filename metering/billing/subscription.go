package billing

import (
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// Subscription is what a tenant is billed for. Its history is kept: changes
// are added and never taken away once their period is billed.
type Subscription struct {
	// ID is unique within the tenant.
	ID     string             `json:"id"`
	Tenant gatehouse.TenantID `json:"tenant"`
	// Plan is the version it began with.
	Plan PlanRef `json:"plan"`
	// Start is when it begins; End, if there is one, when it ends.
	Start time.Time `json:"start"`
	End   time.Time `json:"end,omitzero"`
	// Refund gives back the unused part of fees paid in advance at End.
	Refund bool `json:"refund,omitempty"`
	// Anchor is an instant at which a period begins; the others are counted
	// from it. Default: Start. With an earlier one, say the first of the month,
	// the first period is shorter and prorated.
	Anchor time.Time `json:"anchor,omitzero"`
	// TimeZone is the IANA zone of the calendar. Default UTC.
	TimeZone string `json:"time_zone,omitempty"`
	// Quantities are the units of recurring fees, by price. Default 1.
	Quantities map[string]Decimal `json:"quantities,omitempty"`
	// Changes are in order of time.
	Changes []Change `json:"changes,omitempty"`
	// Pauses are spans for which recurring fees are not charged; one without an
	// end lasts.
	Pauses []Period `json:"pauses,omitempty"`
	// Discounts are taken off in this order.
	Discounts []Discount `json:"discounts,omitempty"`
}

// Change moves a subscription to another plan version or to other quantities.
type Change struct {
	// At is when.
	At   time.Time `json:"at"`
	Plan PlanRef   `json:"plan"`
	// Quantities replace those before.
	Quantities map[string]Decimal `json:"quantities,omitempty"`
}

// Location returns the zone of the calendar. An unknown one is UTC; Validate
// finds it.
func (s *Subscription) Location() *time.Location {
	if loc, err := time.LoadLocation(s.TimeZone); err == nil {
		return loc
	}
	return time.UTC
}

func (s *Subscription) anchor() time.Time {
	if s.Anchor.IsZero() {
		return s.Start
	}
	return s.Anchor
}

// Whole returns the n-th billing period as the calendar has it. Period 0 is
// the one that Start lies in.
func (s *Subscription) Whole(c Cadence, n int) Period {
	loc, anchor := s.Location(), s.anchor()
	n += c.Index(anchor, loc, s.Start)
	return Period{c.Boundary(anchor, loc, n), c.Boundary(anchor, loc, n+1)}
}

// Index returns the number of the billing period that t lies in; negative
// before Start's.
func (s *Subscription) Index(c Cadence, t time.Time) int {
	loc, anchor := s.Location(), s.anchor()
	return c.Index(anchor, loc, t) - c.Index(anchor, loc, s.Start)
}

// Span returns the part of the n-th period in which there is a subscription.
func (s *Subscription) Span(c Cadence, n int) Period { return s.alive(s.Whole(c, n)) }

func (s *Subscription) alive(p Period) Period {
	life := Period{s.Start, p.End}
	if !s.End.IsZero() {
		life.End = s.End
	}
	return p.Cut(life)
}

// TrialEnd returns when the trial of the first plan ends; Start without one.
func (s *Subscription) TrialEnd(first *Plan) time.Time {
	if first.TrialDays == 0 {
		return s.Start
	}
	return Cadence{Every: first.TrialDays, Unit: Day}.Boundary(s.Start, s.Location(), 1)
}

// State says what a subscription is at an instant.
type State string

// The states of a subscription.
const (
	Pending  State = "pending"
	Trialing State = "trialing"
	Active   State = "active"
	Paused   State = "paused"
	Ended    State = "ended"
)

// State returns what the subscription is at an instant. First is the plan it
// began with.
func (s *Subscription) State(first *Plan, t time.Time) State {
	switch {
	case t.Before(s.Start):
		return Pending
	case !s.End.IsZero() && !t.Before(s.End):
		return Ended
	case s.At(t).Paused:
		return Paused
	case t.Before(s.TrialEnd(first)):
		return Trialing
	}
	return Active
}

// Segment is a span in which nothing about a subscription changes.
type Segment struct {
	Period     Period             `json:"period"`
	Plan       PlanRef            `json:"plan"`
	Quantities map[string]Decimal `json:"quantities,omitempty"`
	Paused     bool               `json:"paused,omitempty"`
}

// Segments cuts a period where the plan, the quantities or a pause begin or
// end. What lies outside the subscription is left out.
func (s *Subscription) Segments(p Period) []Segment {
	p = s.alive(p)
	var out []Segment
	for at := p.Start; at.Before(p.End); {
		seg := s.At(at)
		seg.Period = Period{at, p.End}
		for _, c := range s.Changes {
			seg.Period = shorten(seg.Period, c.At)
		}
		for _, pause := range s.Pauses {
			seg.Period = shorten(seg.Period, pause.Start)
			if !pause.End.IsZero() {
				seg.Period = shorten(seg.Period, pause.End)
			}
		}
		out = append(out, seg)
		at = seg.Period.End
	}
	return out
}

func shorten(p Period, at time.Time) Period {
	if at.After(p.Start) && at.Before(p.End) {
		p.End = at
	}
	return p
}

// At returns what holds at an instant; its period is empty.
func (s *Subscription) At(t time.Time) Segment {
	seg := Segment{Plan: s.Plan, Quantities: s.Quantities}
	for _, c := range s.Changes {
		if !c.At.After(t) {
			seg.Plan, seg.Quantities = c.Plan, c.Quantities
		}
	}
	for _, pause := range s.Pauses {
		seg.Paused = seg.Paused || !t.Before(pause.Start) && (pause.End.IsZero() || t.Before(pause.End))
	}
	return seg
}

func (g Segment) quantity(price string) Decimal {
	if q, ok := g.Quantities[price]; ok {
		return q
	}
	return Int(1)
}

// byPlan merges neighbours of one plan version: usage does not begin anew when
// quantities change or a pause begins.
func byPlan(segments []Segment) []Segment {
	var out []Segment
	for _, s := range segments {
		if n := len(out); n > 0 && out[n-1].Plan == s.Plan {
			out[n-1].Period.End = s.Period.End
			continue
		}
		out = append(out, s)
	}
	return out
}
