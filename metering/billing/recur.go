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
	if lines, ok := r.settled(index); ok {
		for _, l := range lines {
			seg := Segment{Plan: l.Plan, Quantities: map[string]Decimal{l.Price: l.Quantity}}
			r.fee(LineRecurring, seg, r.Book[l.Plan].Price(l.Price), l.Period, whole)
		}
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

// settled are the fees in advance of a void invoice that the closing of their
// period has taken for paid: it gave back a part of them, or charged others in
// their place. The invoice that is made in place of the void one charges the
// same, and not what is known of the period by now.
func (r *run) settled(index int) (out []*Line, ok bool) {
	c := r.Book[r.s.Plan].Cadence
	var closed *Invoice
	for _, inv := range r.live() {
		if inv.Kind == Closing && r.s.Index(c, inv.Period.Start) == index {
			closed = inv
		}
	}
	if closed == nil {
		return nil, false
	}
	for i := range r.Earlier {
		inv := &r.Earlier[i]
		if inv.Status != Void || inv.Key != r.key() || inv.voided().Before(closed.Issued) {
			continue
		}
		out, ok = nil, true
		for n := range inv.Lines {
			l := &inv.Lines[n]
			if plan := r.Book[l.Plan]; l.Kind == LineRecurring && plan != nil && plan.Price(l.Price) != nil && plan.Price(l.Price).Advance {
				out = append(out, l)
			}
		}
	}
	return out, ok
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
