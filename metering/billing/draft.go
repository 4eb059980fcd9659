package billing

import (
	"errors"
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
	// Through ends the usage of a progressive invoice. It lies within the
	// period.
	Through time.Time
	// Cells are the tenant's usage, in any order and repeated at will; other
	// tenants' are passed over. CompleteFrom is since when no cell is lacking:
	// usage of earlier invoices from there on is rated again, and what has come
	// late becomes an adjustment. Zero: only the period itself. CompleteUntil
	// ends what is rated again; zero for all that has ended.
	Cells                       []metering.Cell
	CompleteFrom, CompleteUntil time.Time
	// Earlier are all invoices of the subscription so far, in order of issue;
	// void ones do not count.
	Earlier []Invoice
	// Taxes is the tax hook. Nil: the taxes of the plan.
	Taxes func(Line) []Tax
	// CreditNotes are balances that may be used up, oldest first.
	CreditNotes []Applied
	// Wallet may be nil. It is not changed: Book books what the invoice says.
	// Grants pay for the periods that their life overlaps, even if they have
	// expired meanwhile, and for what is issued during it.
	Wallet *Wallet
	// At is when the invoice is issued, and the latest that a grant may begin.
	// Default: the end of the period.
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
	// back is what of its discounts was returned with fees in advance, by id.
	back map[string]Decimal
	// late are the indexes of earlier periods that have adjustments.
	late map[int]bool
	err  error
}

// ErrNothing is within the error for a correction that nothing is to be charged
// by.
var ErrNothing = errors.New("nothing came late")

// Draft makes the invoice of a run. The same run gives the same invoice, to
// the byte. A gatehouse.Faults error names what is wrong with the input.
func Draft(in Run) (Invoice, error) {
	r := &run{Run: in, s: in.Subscription, loc: in.Subscription.Location(), back: map[string]Decimal{}, late: map[int]bool{}}
	if r.Kind == "" {
		r.Kind = Closing
	}
	if fs := r.check(); len(fs) > 0 {
		return Invoice{}, fs
	}
	r.cells = Fold(in.Cells)
	if err := r.place(); err != nil {
		return Invoice{}, err
	}
	switch r.Kind {
	case Opening:
		r.advance(r.Index)
	case Progressive:
		r.usage(r.span.Cut(Period{r.span.Start, r.Through}), false)
	case Correction:
		if r.adjust(r.span.End); len(r.lines) == 0 && r.err == nil {
			return Invoice{}, nothing(r.s)
		}
	default:
		r.adjust(r.span.Start)
		r.usage(r.span, true)
		r.arrears()
		r.exchange()
		r.advance(r.Index + 1)
	}
	if r.err != nil {
		return Invoice{}, r.err
	}
	return r.invoice(), nil
}

func nothing(s *Subscription) error {
	return &gatehouse.Error{Code: gatehouse.CodeInvalid, Message: fmt.Sprintf("subscription %s has nothing to correct", s.ID), Err: ErrNothing}
}

// place finds the period and the plan at its beginning.
func (r *run) place() error {
	c := r.Book[r.s.Plan].Cadence
	r.whole, r.span = r.s.Whole(c, r.Index), r.s.Span(c, r.Index)
	if r.Kind == Correction {
		r.whole = r.billedSpan()
		r.span = r.whole
	}
	if r.span.Empty() && r.Kind == Correction {
		return nothing(r.s)
	}
	if r.span.Empty() {
		return refuse("subscription %s has no period %d", r.s.ID, r.Index)
	}
	inside := r.Through.After(r.span.Start) && !r.Through.After(r.span.End)
	if r.Kind == Progressive && !inside {
		return gatehouse.Faults{{Pointer: "/through", Reason: fmt.Sprintf("%s is not within the period from %s to %s", when(r.Through), when(r.span.Start), when(r.span.End))}}
	}
	r.plan = r.Book[r.s.At(r.span.Start).Plan]
	return nil
}

// live are the earlier invoices that count.
func (r *run) live() []*Invoice {
	var out []*Invoice
	for i := range r.Earlier {
		if r.Earlier[i].Status != Void {
			out = append(out, &r.Earlier[i])
		}
	}
	return out
}

func (r *run) check() gatehouse.Faults {
	fs := r.s.Validate(r.Book, time.Time{}).Errors().Under("/subscription")
	for _, ref := range append([]PlanRef{r.s.Plan}, refs(r.s.Changes)...) {
		if plan := r.Book[ref]; plan != nil {
			fs = append(fs, plan.Validate().Errors().Under(gatehouse.Pointer("plans", ref.String()))...)
		}
	}
	v := &validation{}
	oneOf(v, "/kind", r.Kind, Opening, Closing, Progressive, Correction)
	fs = append(fs, v.faults...)
	for i, c := range r.Cells {
		if c.Value < 0 {
			fs = append(fs, gatehouse.Fault{Pointer: gatehouse.Pointer("cells", i, "value"), Reason: fmt.Sprintf("a quantity of %d is negative", c.Value), Hint: "usage is taken back by an adjustment"})
		}
	}
	for i, inv := range r.Earlier {
		if differs := inv.Currency != "" && len(fs) == 0 && inv.Currency != r.Book[r.s.Plan].Currency; differs {
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

// bound notes an amount that is beyond what can be billed.
func (r *run) bound(plan *Plan, p *Price, what string, amount Decimal) {
	if beyond := amount.Cmp(Int(maxAmount)) > 0; beyond && r.err == nil {
		r.err = gatehouse.Faults{{Pointer: gatehouse.Pointer("plans", plan.Ref().String(), "prices", p.ID), Reason: fmt.Sprintf("%s comes to %s, more than 10^15", what, amount)}}
	}
}

func refs(changes []Change) []PlanRef {
	out := make([]PlanRef, len(changes))
	for i, c := range changes {
		out[i] = c.Plan
	}
	return out
}
