package billing

import (
	"fmt"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering"
)

// Run is everything that an invoice is made from.
type Run struct {
	Book         Book
	Subscription *Subscription
	// Index is the billing period; Kind what is charged of it. Default closing.
	Index int
	Kind  Kind
	// Through ends the usage of a progressive invoice.
	Through time.Time
	// Cells are the tenant's usage, in any order and repeated at will; other
	// tenants' are passed over. CompleteFrom is since when no cell is lacking:
	// usage of earlier invoices from there on is rated again, and what has come
	// late becomes an adjustment. Zero: only the period itself.
	Cells        []metering.Cell
	CompleteFrom time.Time
	// Earlier are all invoices of the subscription so far; void ones do not
	// count.
	Earlier []Invoice
	// Taxes is the tax hook. Nil: the taxes of the plan.
	Taxes func(Line) []Tax
	// CreditNotes are balances that may be used up, oldest first.
	CreditNotes []Applied
	// Wallet may be nil. It is not changed: Burn books what the invoice says.
	Wallet *Wallet
	// At is when the grants of the wallet must be usable. Default: the end of
	// the period.
	At        time.Time
	Watermark Watermark
}

// run is a Run under way.
type run struct {
	Run
	s     *Subscription
	loc   *time.Location
	cells []metering.Cell
	plan  *Plan // at the beginning of the period
	whole Period
	span  Period
	lines []Line
	err   error
}

// Draft makes the invoice of a run. The same run gives the same invoice, to
// the byte. A gatehouse.Faults error names what is wrong with the input.
func Draft(in Run) (Invoice, error) {
	r := &run{Run: in, s: in.Subscription, loc: in.Subscription.Location()}
	if r.Kind == "" {
		r.Kind = Closing
	}
	if fs := r.check(); len(fs) > 0 {
		return Invoice{}, fs
	}
	r.cells = Fold(in.Cells)
	c := r.Book[r.s.Plan].Cadence
	r.whole, r.span = r.s.Whole(c, r.Index), r.s.Span(c, r.Index)
	if r.span.Empty() {
		return Invoice{}, refuse("subscription %s has no period %d", r.s.ID, r.Index)
	}
	r.plan = r.Book[r.s.At(r.span.Start).Plan]
	switch r.Kind {
	case Opening:
		r.advance(r.Index)
	case Progressive:
		r.usage(r.span.Cut(Period{r.span.Start, r.Through}), false)
	default:
		r.adjust()
		r.usage(r.span, true)
		r.arrears()
		r.exchange()
		r.advance(r.Index + 1)
	}
	return r.invoice(), r.err
}

func (r *run) check() gatehouse.Faults {
	fs := r.s.Validate(r.Book, time.Time{}).Errors().Under("/subscription")
	for _, ref := range append([]PlanRef{r.s.Plan}, refs(r.s.Changes)...) {
		if plan := r.Book[ref]; plan != nil {
			fs = append(fs, plan.Validate().Errors().Under(gatehouse.Pointer("plans", ref.String()))...)
		}
	}
	for i, c := range r.Cells {
		if c.Value < 0 {
			fs = append(fs, gatehouse.Fault{Pointer: gatehouse.Pointer("cells", i, "value"), Reason: fmt.Sprintf("a quantity of %d is negative", c.Value), Hint: "usage is taken back by an adjustment"})
		}
	}
	for i, inv := range r.Earlier {
		if inv.Currency != "" && len(fs) == 0 && inv.Currency != r.Book[r.s.Plan].Currency {
			fs = append(fs, gatehouse.Fault{Pointer: gatehouse.Pointer("earlier", i, "currency"), Reason: "differs from the currency of the plan"})
		}
	}
	return fs
}

// add appends a line, named after what it charges for.
func (r *run) add(l Line, p *Price) {
	if p != nil {
		l.Price, l.Category = p.ID, p.Tax
		if l.Text == "" {
			l.Text = p.title()
		}
	}
	l.Period = l.Period.utc()
	l.ID = fmt.Sprintf("%s/%s/%s/%s", l.Kind, l.Plan, l.Price, l.Period.Start.UTC().Format(time.RFC3339))
	if l.Kind == LineCredit || l.Kind == LineCharge {
		l.ID += "/" + l.Period.End.UTC().Format(time.RFC3339)
	}
	r.lines = append(r.lines, l)
}

// usage charges the metered usage of a span, less what has been billed of it.
func (r *run) usage(span Period, final bool) {
	for _, seg := range byPlan(r.s.Segments(span)) {
		plan := r.Book[seg.Plan]
		// A segment that goes on beyond the span is not final: its minimum is
		// due with its last line.
		for i := range plan.Prices {
			p := &plan.Prices[i]
			if p.Recurring() {
				continue
			}
			m, due := r.rate(plan, p, seg.Period, final)
			l := Line{Kind: LineUsage, Plan: seg.Plan, Period: seg.Period, Quantity: due.Rating.Units, UnitPrice: single(due.Rating.Parts), Amount: due.Usage, Trace: r.trace(plan, m, due, seg.Period)}
			l.Trace.Billed = r.billed(p.ID, seg.Plan, seg.Period.Start)
			r.add(l, p)
			if due.TrueUp.Sign() != 0 {
				of := r.lines[len(r.lines)-1].ID
				r.add(Line{Kind: LineTrueUp, Plan: seg.Plan, Period: seg.Period, Text: p.title() + ": minimum", Quantity: Int(1), Amount: due.TrueUp, Of: of, Trace: &Trace{Exact: due.Rating.TrueUp, Fraction: l.Trace.Fraction}}, p)
			}
		}
	}
}

// rate meters and rates one price over one segment.
func (r *run) rate(plan *Plan, p *Price, seg Period, final bool) (Metered, Due) {
	metered := seg
	if trial := r.s.TrialEnd(r.Book[r.s.Plan]); plan.TrialUsage == TrialFree && trial.After(metered.Start) {
		metered.Start = trial
	}
	m := Meter(r.cells, r.s.Tenant, p, metered, r.loc, plan.Interrupted != Bill)
	due := p.Due(plan.Currency, plan.Rounding, m.Usage, r.billed(p.ID, plan.Ref(), seg.Start), final, r.fraction(plan, seg))
	if most := Int(maxAmount); due.Rating.Charge.Cmp(most) > 0 && r.err == nil {
		r.err = gatehouse.Faults{{Pointer: gatehouse.Pointer("plans", plan.Ref().String(), "prices", p.ID), Reason: fmt.Sprintf("usage of %s comes to %s, more than 10^15", m.Quantity, due.Rating.Charge)}}
	}
	return m, due
}

// fraction returns which part of its whole billing period a segment is.
func (r *run) fraction(plan *Plan, seg Period) Decimal {
	c := r.Book[r.s.Plan].Cadence
	return plan.Proration.Of(seg, r.s.Whole(c, r.s.Index(c, seg.Start)), r.loc, plan.Cadence)
}

func (r *run) trace(plan *Plan, m Metered, due Due, seg Period) *Trace {
	t := &Trace{Cells: m.Cells, Hash: m.Hash, Metered: m.Quantity, Exact: due.Rating.Charge, Parts: due.Rating.Parts}
	t.Fraction = notWhole(r.fraction(plan, seg))
	return t
}

func notWhole(f Decimal) *Decimal {
	if f.Cmp(Int(1)) == 0 {
		return nil
	}
	return &f
}

// single returns the unit price where there is one.
func single(parts []Part) *Decimal {
	if len(parts) != 1 || !parts[0].FlatFee.IsZero() {
		return nil
	}
	return &parts[0].UnitPrice
}

// billed sums what invoices have charged for usage of a price in the segment
// that begins then.
func (r *run) billed(price string, plan PlanRef, start time.Time) Decimal {
	sum := Decimal{}
	for _, inv := range r.Earlier {
		if inv.Status == Void {
			continue
		}
		for _, l := range inv.Lines {
			if l.Price == price && l.Plan == plan && l.Period.Start.Equal(start) && (l.Kind == LineUsage || l.Kind == LineTrueUp || l.Kind == LineAdjustment) {
				sum = sum.Add(l.Amount)
			}
		}
	}
	return sum
}

// adjust rates earlier periods again, as far as their usage is at hand whole:
// what came late is charged with a reference to the invoice it belongs to.
func (r *run) adjust() {
	if r.CompleteFrom.IsZero() {
		return
	}
	done := map[string]bool{}
	for _, inv := range r.Earlier {
		if inv.Status == Void || inv.Kind == Progressive {
			continue
		}
		for _, l := range inv.Lines {
			plan := r.Book[l.Plan]
			key := l.Price + "\x00" + l.Plan.String() + "\x00" + l.Period.Start.String()
			if l.Kind != LineUsage || l.Period.Start.Before(r.CompleteFrom) || !l.Period.End.Before(r.span.Start) && !l.Period.End.Equal(r.span.Start) || plan == nil || done[key] {
				continue
			}
			done[key] = true
			p := plan.Price(l.Price)
			if p == nil {
				continue
			}
			m, due := r.rate(plan, p, l.Period, true)
			known, seen := r.known(p.ID, l.Plan, l.Period.Start, m.Hash)
			if seen && due.Amount().Sign() == 0 {
				continue
			}
			t := r.trace(plan, m, due, l.Period)
			t.Billed = r.billed(p.ID, l.Plan, l.Period.Start)
			r.add(Line{Kind: LineAdjustment, Plan: l.Plan, Period: l.Period, Text: p.title() + ": usage reported late", Quantity: m.Quantity.Sub(known), Amount: due.Amount(), Corrects: inv.Number, Trace: t}, p)
		}
	}
}

// known returns the usage that earlier lines state for the segment that begins
// then, and whether one of them was made of the very same cells. Late usage
// that costs nothing gets a line too, so that all usage is on some line.
func (r *run) known(price string, plan PlanRef, start time.Time, hash string) (Decimal, bool) {
	most, seen := Decimal{}, false
	for _, inv := range r.Earlier {
		for _, l := range inv.Lines {
			if inv.Status != Void && l.Trace != nil && l.Price == price && l.Plan == plan && l.Period.Start.Equal(start) && (l.Kind == LineUsage || l.Kind == LineAdjustment) {
				most, seen = most.Max(l.Trace.Metered), seen || l.Trace.Hash == hash
			}
		}
	}
	return most, seen
}

func refs(changes []Change) []PlanRef {
	out := make([]PlanRef, len(changes))
	for i, c := range changes {
		out[i] = c.Plan
	}
	return out
}
