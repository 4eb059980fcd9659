package billing

import "time"

// prepaid is a fee of this period that was charged in advance.
type prepaid struct {
	*Line
	price *Price
	// until is the first segment for which it does not hold.
	until int
}

// holds reports whether a segment is what the fee was paid for.
func (f prepaid) holds(seg Segment) bool {
	return !seg.Paused && seg.Plan == f.Plan && seg.quantity(f.price.ID).Cmp(f.Quantity) == 0
}

// fees are those that earlier invoices charged in advance for this period.
func (r *run) fees() []prepaid {
	var out []prepaid
	for _, inv := range r.live() {
		for i := range inv.Lines {
			l := &inv.Lines[i]
			plan := r.Book[l.Plan]
			if plan == nil || l.Kind != LineRecurring || !r.whole.Has(l.Period.Start) {
				continue
			}
			if p := plan.Price(l.Price); p != nil && p.Advance {
				out = append(out, prepaid{Line: l, price: p})
			}
		}
	}
	return out
}

// exchange gives back the unused part of fees paid in advance where the
// subscription changed, paused or ended within the period, and charges what
// took their place, each for the time that it held: what was charged in
// advance is known, so that nothing is charged here to be given back here.
func (r *run) exchange() {
	segments, fees := r.s.Segments(r.span), r.fees()
	for i := range fees {
		f := &fees[i]
		for f.until < len(segments) && f.holds(segments[f.until]) {
			f.until++
		}
		switch {
		case f.until < len(segments):
			r.giveBack(f, Period{segments[f.until].Period.Start, f.Period.End})
		case !r.s.End.IsZero() && r.s.Refund:
			r.giveBack(f, Period{r.s.End, f.Period.End})
		}
	}
	for i, seg := range segments {
		if seg.Paused {
			continue
		}
		plan := r.Book[seg.Plan]
		for n := range plan.Prices {
			p := &plan.Prices[n]
			paid := covered(fees, segments, i, p) || i == 0 && !r.begun()
			if p.Recurring() && p.Advance && !paid {
				r.fee(LineCharge, seg, p, Period{seg.Period.Start, lasts(segments, i, p)}, r.whole)
			}
		}
	}
}

// covered reports whether a segment's fee is paid in advance, or charged with
// the segment before.
func covered(fees []prepaid, segments []Segment, i int, p *Price) bool {
	if i > 0 && alike(segments[i-1], segments[i], p) {
		return true
	}
	for _, f := range fees {
		if f.Plan == segments[i].Plan && f.price.ID == p.ID && i < f.until {
			return true
		}
	}
	return false
}

// begun reports whether the invoice is at hand that charged the fees in
// advance of this period. Without it they are taken to be paid as they were
// when the period began.
func (r *run) begun() bool {
	c := r.Book[r.s.Plan].Cadence
	for _, inv := range r.live() {
		opened := inv.Kind == Opening && r.Index == 0
		closed := inv.Kind == Closing && r.s.Index(c, inv.Period.Start) == r.Index-1
		if opened || closed {
			return true
		}
	}
	return false
}

// lasts is when the fee of a segment ends: with the last segment for which it
// is the same.
func lasts(segments []Segment, i int, p *Price) (end time.Time) {
	for end = segments[i].Period.End; i+1 < len(segments) && alike(segments[i], segments[i+1], p); i++ {
		end = segments[i+1].Period.End
	}
	return end
}

func alike(a, b Segment, p *Price) bool {
	return a.Plan == b.Plan && a.Paused == b.Paused && a.quantity(p.ID).Cmp(b.quantity(p.ID)) == 0
}

// giveBack credits a fee for a part of its span at what was paid for it: after
// its discounts.
func (r *run) giveBack(f *prepaid, span Period) {
	plan, paid := r.Book[f.Plan], f.Amount.Sub(f.Discount)
	part := span.Cut(f.Period)
	whole := plan.Proration.Of(f.Period, r.whole, r.loc, plan.Cadence)
	if part.Empty() || whole.Sign() == 0 {
		return
	}
	share := plan.Proration.Of(part, r.whole, r.loc, plan.Cadence).Div(whole)
	for _, d := range f.Discounts {
		r.back[d.ID] = r.back[d.ID].Add(d.Amount.Mul(share))
	}
	if paid.Sign() <= 0 {
		return
	}
	exact := paid.Mul(share).Neg()
	r.add(Line{
		Kind: LineCredit, Plan: f.Plan, Period: part, Text: f.price.title() + ": unused", Quantity: f.Quantity, Amount: Minor(exact, plan.Currency, plan.Rounding),
		Trace: &Trace{Exact: exact, Fraction: notWhole(share)},
	}, f.price)
}
