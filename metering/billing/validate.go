package billing

import (
	"fmt"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// Limits of what is accepted.
const (
	maxAmount = 1_000_000_000_000_000 // of money and of quantities
	maxPlaces = 12                    // digits after the point of prices
)

// validation collects faults.
type validation struct{ faults gatehouse.Faults }

func (v *validation) fault(at, reason, hint string) {
	v.faults = append(v.faults, gatehouse.Fault{Pointer: at, Reason: reason, Hint: hint})
}

// amount wants a number that is not negative, below 10^15, and has at most
// twelve digits after the point.
func (v *validation) amount(at string, d Decimal) {
	if d.Sign() < 0 {
		v.fault(at, d.String()+" is negative", "")
	}
	if d.Cmp(Int(maxAmount)) > 0 {
		v.fault(at, d.String()+" is more than 10^15", "")
	}
	if n, ends := d.Places(); !ends || n > maxPlaces {
		v.fault(at, fmt.Sprintf("%s has more than %d digits after the point", d, maxPlaces), "price a package of units instead")
	}
}

func (v *validation) optional(at string, d *Decimal) {
	if d != nil {
		v.amount(at, *d)
	}
}

func (v *validation) positive(at string, d Decimal) {
	v.amount(at, d)
	if d.Sign() == 0 {
		v.fault(at, "must be more than 0", "")
	}
}

func (v *validation) percent(at string, d Decimal) {
	v.amount(at, d)
	if d.Cmp(Int(100)) > 0 {
		v.fault(at, d.String()+" is more than 100 percent", "")
	}
}

// oneOf wants an empty value or one of those that are known.
func oneOf[T ~string](v *validation, at string, value T, known ...T) {
	for _, k := range append(known, "") {
		if value == k {
			return
		}
	}
	v.fault(at, fmt.Sprintf("%.40q is not known", string(value)), fmt.Sprintf("one of %v", known))
}

// Validate returns every fault of a plan version, with pointers that begin at
// the plan. A volume price that falls where a tier begins is a warning.
func (p *Plan) Validate() gatehouse.Faults {
	v := &validation{}
	if p.ID == "" {
		v.fault("/id", "is missing", "")
	}
	if p.Version < 1 {
		v.fault("/version", "must be 1 or more", "")
	}
	if _, ok := p.Currency.Places(); !ok {
		v.fault("/currency", fmt.Sprintf("%.40q is not a currency", string(p.Currency)), "a code of ISO 4217 in upper case, such as EUR")
	}
	v.cadence("/cadence", p.Cadence)
	if p.TrialDays < 0 || p.TrialDays > 3660 {
		v.fault("/trial_days", "must be between 0 and 3660", "")
	}
	oneOf(v, "/trial_usage", p.TrialUsage, TrialBilled, TrialFree)
	oneOf(v, "/proration", p.Proration, Seconds, Days, Days30, Whole)
	oneOf(v, "/rounding", p.Rounding, HalfUp, HalfEven)
	oneOf(v, "/interrupted", p.Interrupted, Waive, Bill)
	v.amount("/minimum", p.Minimum)
	for i, t := range p.Taxes {
		v.percent(gatehouse.Pointer("taxes", i, "percent"), t.Percent)
	}
	seen := map[string]int{}
	for i := range p.Prices {
		at, id := gatehouse.Pointer("prices", i), p.Prices[i].ID
		if first, ok := seen[id]; ok {
			v.faults = append(v.faults, gatehouse.Fault{Pointer: at + "/id", Reason: fmt.Sprintf("%q is taken", id), Also: gatehouse.Pointer("prices", first, "id")})
		}
		seen[id] = i
		v.price(at, &p.Prices[i])
	}
	v.entitlements(p.Entitlements)
	return v.faults
}

func (v *validation) cadence(at string, c Cadence) {
	if c.Unit == "" {
		v.fault(at+"/unit", "is missing", "hour, day, week, month or year")
	}
	oneOf(v, at+"/unit", c.Unit, Hour, Day, Week, Month, Year)
	if c.Every < 0 || c.Every > 1000 {
		v.fault(at+"/every", "must be between 1 and 1000", "")
	}
}

func (v *validation) entitlements(es []Entitlement) {
	for i, e := range es {
		at := gatehouse.Pointer("entitlements", i)
		if e.Feature == "" {
			v.fault(at+"/feature", "is missing", "")
		}
		oneOf(v, at+"/at", e.At, Hard, Soft, Overage)
		v.optional(at+"/limit", e.Limit)
		if e.Window.Unit != "" {
			v.cadence(at+"/window", e.Window)
		}
		if !e.Until.IsZero() && !e.From.Before(e.Until) {
			v.fault(at+"/until", "is not after from", "")
		}
	}
}

// Validate returns every fault of a subscription, with pointers that begin at
// it. Closed is the end of the last period that is finalized: nothing may be
// dated before it; zero for none.
func (s *Subscription) Validate(book Book, closed time.Time) gatehouse.Faults {
	v := &validation{}
	if s.ID == "" {
		v.fault("/id", "is missing", "")
	}
	first := v.ref("/plan", book, s.Plan)
	if s.Start.IsZero() {
		v.fault("/start", "is missing", "")
	}
	if !s.End.IsZero() && !s.Start.Before(s.End) {
		v.fault("/end", fmt.Sprintf("%s is not after the start %s", when(s.End), when(s.Start)), "")
	}
	v.open("/end", s.End, closed)
	if _, err := time.LoadLocation(s.TimeZone); err != nil {
		v.fault("/time_zone", fmt.Sprintf("%.40q is not a time zone", s.TimeZone), "an IANA name such as Europe/Rome")
	}
	v.quantities("/quantities", s.Quantities, first)
	for i, c := range s.Changes {
		at := gatehouse.Pointer("changes", i)
		if to := v.ref(at+"/plan", book, c.Plan); to != nil && first != nil {
			if to.Currency != first.Currency || !to.Cadence.same(first.Cadence) {
				v.fault(at+"/plan", fmt.Sprintf("%s has another currency or cadence", c.Plan), "end this subscription and begin another")
			}
		}
		within := c.At.After(s.Start) && (s.End.IsZero() || c.At.Before(s.End))
		ordered := i == 0 || c.At.After(s.Changes[i-1].At)
		if !within || !ordered {
			v.fault(at+"/at", fmt.Sprintf("%s is not within the subscription and after the change before", when(c.At)), "")
		}
		v.quantities(at+"/quantities", c.Quantities, book[c.Plan])
	}
	for i, p := range s.Pauses {
		if !p.End.IsZero() && p.Empty() {
			v.fault(gatehouse.Pointer("pauses", i, "end"), fmt.Sprintf("the period ends at %s, before it begins at %s", when(p.End), when(p.Start)), "")
		}
	}
	v.discounts(s.Discounts)
	return v.faults
}

// Amend returns the faults of replacing a subscription by another state of it
// when everything before closed is finalized: what lies there must stay. The
// law is that the segments up to closed are the same.
func (s *Subscription) Amend(to *Subscription, book Book, closed time.Time) gatehouse.Faults {
	v := &validation{faults: to.Validate(book, time.Time{})}
	for i, c := range to.Changes {
		if i >= len(s.Changes) || !same(s.Changes[i], c) {
			v.open(gatehouse.Pointer("changes", i, "at"), c.At, closed)
		}
	}
	for i, p := range to.Pauses {
		if i >= len(s.Pauses) || !s.Pauses[i].Start.Equal(p.Start) {
			v.open(gatehouse.Pointer("pauses", i, "start"), p.Start, closed)
		}
	}
	if !to.End.Equal(s.End) {
		v.closable(to.End, closed)
	}
	if moved := !s.Start.Equal(to.Start) || !s.anchor().Equal(to.anchor()); moved || s.Plan != to.Plan || s.TimeZone != to.TimeZone || s.Tenant != to.Tenant {
		v.open("/start", s.Start, closed)
	}
	if len(v.faults.Errors()) == 0 {
		v.past(s, to, closed)
	}
	return v.faults
}

// past wants the segments before closed, and how the subscription ended there,
// to be the same.
func (v *validation) past(s, to *Subscription, closed time.Time) {
	billed := Period{s.Start, closed}
	was, is := s.Segments(billed), to.Segments(billed)
	for i := range max(len(was), len(is)) {
		switch {
		case i < len(was) && i < len(is) && same(was[i].utc(), is[i].utc()):
			continue
		case i < len(was):
			v.open(v.where(s, to), was[i].Period.Start, closed)
		default:
			v.open(v.where(s, to), is[i].Period.Start, closed)
		}
		return
	}
	if ended := !s.End.IsZero() && s.End.Before(closed); ended && s.Refund != to.Refund {
		v.open("/refund", s.End, closed)
	}
}

// where names what of a subscription is another.
func (v *validation) where(s, to *Subscription) string {
	switch {
	case !same(s.Quantities, to.Quantities):
		return "/quantities"
	case !same(s.Changes, to.Changes):
		return "/changes"
	case !same(s.Pauses, to.Pauses):
		return "/pauses"
	}
	return "/end"
}

func (g Segment) utc() Segment {
	g.Period = g.Period.utc()
	return g
}

func same[T any](a, b T) bool {
	x, errX := Canonical(a)
	y, errY := Canonical(b)
	return errX == nil && errY == nil && string(x) == string(y)
}

// open wants an instant that is not in a finalized period.
func (v *validation) open(at string, t, closed time.Time) {
	if !t.IsZero() && t.Before(closed) {
		v.fault(at, fmt.Sprintf("%s lies in a period that is finalized", when(t)), "not before "+when(closed))
	}
}

// closable wants an end with a last period that can be finalized: something
// of it comes after closed.
func (v *validation) closable(end, closed time.Time) {
	v.open("/end", end, closed)
	if !closed.IsZero() && end.Equal(closed) {
		v.fault("/end", fmt.Sprintf("all up to %s is finalized, and no period would come after it", when(end)), "after "+when(closed))
	}
}

func (v *validation) ref(at string, book Book, r PlanRef) *Plan {
	p := book[r]
	if p == nil {
		v.fault(at, fmt.Sprintf("there is no plan %s", r), "")
	}
	return p
}

func (v *validation) quantities(at string, qs map[string]Decimal, plan *Plan) {
	for _, id := range sorted(qs) {
		at := at + gatehouse.Pointer(id)
		v.amount(at, qs[id])
		if plan == nil {
			continue
		}
		if p := plan.Price(id); p == nil || !p.Recurring() {
			v.fault(at, fmt.Sprintf("plan %s has no recurring fee %.40q", plan.Ref(), id), "name the quantities of this plan's own fees")
		}
	}
}

func (v *validation) discounts(ds []Discount) {
	seen := map[string]bool{}
	for i, d := range ds {
		at := gatehouse.Pointer("discounts", i)
		v.percent(at+"/percent", d.Percent)
		v.amount(at+"/amount", d.Amount)
		if d.ID == "" || seen[d.ID] {
			v.fault(at+"/id", "is missing or taken", "")
		}
		seen[d.ID] = true
		if d.Percent.IsZero() == d.Amount.IsZero() {
			v.fault(at, "needs either a percent or an amount", "")
		}
		if d.Times < 0 {
			v.fault(at+"/times", "is negative", "0 is for ever")
		}
	}
}

func when(t time.Time) string { return t.UTC().Format(time.RFC3339) }
