package billing

// fee charges a recurring price for a part of a billing period.
func (r *run) fee(kind LineKind, seg Segment, p *Price, part, whole Period) {
	plan := r.Book[seg.Plan]
	if trial := r.s.TrialEnd(r.Book[r.s.Plan]); trial.After(part.Start) {
		part.Start = trial
	}
	if part.Empty() || seg.Paused {
		return
	}
	f := plan.Proration.Of(part, whole, r.loc, plan.Cadence)
	q := seg.quantity(p.ID)
	rating := p.Rating(Usage{Quantity: q}, true, Int(1))
	exact := rating.Amount().Mul(f)
	r.bound(plan, p, "a fee for "+q.String(), exact)
	amount := Minor(exact, plan.Currency, plan.Rounding)
	r.add(Line{Kind: kind, Plan: seg.Plan, Period: part, Quantity: q, UnitPrice: single(rating.Parts), Amount: amount, Trace: &Trace{Exact: exact, Fraction: notWhole(f)}}, p)
}

// advance charges the fees of a period that are paid when it begins, by what
// is known of it then.
func (r *run) advance(index int) {
	c := r.Book[r.s.Plan].Cadence
	whole, span := r.s.Whole(c, index), r.s.Span(c, index)
	if span.Empty() {
		return
	}
	seg := r.s.At(span.Start)
	plan := r.Book[seg.Plan]
	for i := range plan.Prices {
		if p := &plan.Prices[i]; p.Recurring() && p.Advance {
			r.fee(LineRecurring, seg, p, span, whole)
		}
	}
}

// arrears charges the fees of the period that are paid when it has ended,
// segment by segment.
func (r *run) arrears() {
	for _, seg := range r.s.Segments(r.span) {
		plan := r.Book[seg.Plan]
		for i := range plan.Prices {
			if p := &plan.Prices[i]; p.Recurring() && !p.Advance {
				r.fee(LineRecurring, seg, p, seg.Period, r.whole)
			}
		}
	}
}
