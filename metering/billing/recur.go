package billing

import "time"

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

// exchange gives back the unused part of fees paid in advance where the
// subscription changed, paused or ended within the period, and charges what
// takes their place: two lines for each change.
func (r *run) exchange() {
	segments := r.s.Segments(r.span)
	for i, seg := range segments {
		if i > 0 && seg.Period.Start.After(r.span.Start) {
			r.replace(segments[i-1], seg)
		}
	}
	if r.s.End.IsZero() || !r.s.Refund || !r.s.End.Before(r.whole.End) || len(segments) == 0 {
		return
	}
	last := segments[len(segments)-1]
	r.credit(last, Period{r.s.End, r.whole.End}, func(string) bool { return false })
}

// replace credits what was before from the change to the end of the period,
// and charges what is after it.
func (r *run) replace(before, after Segment) {
	rest := Period{after.Period.Start, r.whole.End}
	stays := func(price string) bool {
		return before.Plan == after.Plan && before.Paused == after.Paused && before.quantity(price).Cmp(after.quantity(price)) == 0
	}
	if !before.Paused {
		r.credit(before, rest, stays)
	}
	plan := r.Book[after.Plan]
	for i := range plan.Prices {
		if p := &plan.Prices[i]; p.Recurring() && p.Advance && !stays(p.ID) {
			r.fee(LineCharge, after, p, r.s.alive(rest), r.whole)
		}
	}
}

// credit gives back fees that were charged in advance for a span, at what was
// paid for them: after their discounts. Fees that stay as they are stay paid.
func (r *run) credit(seg Segment, span Period, stays func(price string) bool) {
	plan := r.Book[seg.Plan]
	for i := range plan.Prices {
		p := &plan.Prices[i]
		if !p.Recurring() || !p.Advance || stays(p.ID) {
			continue
		}
		paid, of := r.paid(p.ID, seg.Plan, span.Start)
		part := span.Cut(of)
		whole := plan.Proration.Of(of, r.whole, r.loc, plan.Cadence)
		if paid.Sign() <= 0 || part.Empty() || whole.Sign() == 0 {
			continue
		}
		f := plan.Proration.Of(part, r.whole, r.loc, plan.Cadence).Div(whole)
		exact := paid.Mul(f).Neg()
		amount := Minor(exact, plan.Currency, plan.Rounding)
		r.add(Line{Kind: LineCredit, Plan: seg.Plan, Period: part, Text: p.title() + ": unused", Quantity: seg.quantity(p.ID), Amount: amount, Trace: &Trace{Exact: exact, Fraction: notWhole(f)}}, p)
	}
}

// paid returns what was last charged for a fee in advance that covers an
// instant, after discounts, and the span it covers. Lines of this run come
// before those of earlier invoices.
func (r *run) paid(price string, plan PlanRef, at time.Time) (Decimal, Period) {
	amount, of := Decimal{}, Period{}
	look := func(lines []Line) {
		for _, l := range lines {
			if l.Price == price && l.Plan == plan && (l.Kind == LineRecurring || l.Kind == LineCharge) && (l.Period.Has(at) || l.Period.End.Equal(at)) {
				amount, of = l.Amount.Sub(l.Discount), l.Period
			}
		}
	}
	for _, inv := range r.Earlier {
		if inv.Status != Void {
			look(inv.Lines)
		}
	}
	look(r.lines)
	return amount, of
}

// invoice sums the lines.
func (r *run) invoice() Invoice {
	taxes := r.Taxes
	if taxes == nil {
		taxes = func(l Line) []Tax {
			if plan := r.Book[l.Plan]; plan != nil {
				return plan.Taxes
			}
			return r.plan.Taxes
		}
	}
	t := Terms{
		Currency: r.plan.Currency, Rounding: r.plan.Rounding, Discounts: r.discounts(), Taxes: taxes, TaxIncluded: r.plan.TaxIncluded,
		CreditNotes: r.CreditNotes,
	}
	if r.Wallet != nil {
		at := r.At
		if at.IsZero() {
			at = r.whole.End
		}
		t.Wallet = r.Wallet.Usable(at)
	}
	if r.Kind == Closing {
		t.Minimum = r.minimum().Max(Decimal{})
		t.Counts = func(l Line) bool { return r.whole.Has(l.Period.Start) }
		t.Shortfall = Line{ID: "minimum/" + r.plan.Ref().String(), Text: "Minimum", Plan: r.plan.Ref(), Period: r.span.utc(), Trace: &Trace{Exact: t.Minimum}}
	}
	period := r.span
	if r.Kind == Progressive {
		period = period.Cut(Period{period.Start, r.Through})
	}
	key := runKey(r.s.ID, r.whole.Start, r.Kind, r.Through)
	return Invoice{
		Key: key, Type: TypeInvoice, Kind: r.Kind, Status: Drafted, Tenant: r.s.Tenant, Subscription: r.s.ID, Currency: r.plan.Currency,
		Period: period.utc(), Sheet: Settle(r.lines, t), Watermark: r.Watermark,
	}
}

func runKey(sub string, start time.Time, kind Kind, through time.Time) string {
	key := sub + "/" + start.UTC().Format(time.RFC3339) + "/" + string(kind)
	if kind == Progressive {
		key += "/" + through.UTC().Format(time.RFC3339)
	}
	return key
}

// discounts are those that apply to the period and are not used up.
func (r *run) discounts() []Discount {
	var out []Discount
	for _, d := range r.s.Discounts {
		used := 0
		for _, inv := range r.Earlier {
			for _, a := range inv.Discounts {
				if a.ID == d.ID && inv.Status != Void {
					used++
				}
			}
		}
		if d.live(r.span, used) {
			out = append(out, d)
		}
	}
	return out
}

// minimum is what the lines of this invoice must come to: the minimums of the
// plans for their parts of the period, less what earlier invoices charged for
// the period.
func (r *run) minimum() Decimal {
	sum := Decimal{}
	for _, seg := range byPlan(r.s.Segments(r.span)) {
		plan := r.Book[seg.Plan]
		sum = sum.Add(plan.Minimum.Mul(r.fraction(plan, seg.Period)))
	}
	if sum.Sign() == 0 {
		return sum
	}
	for _, inv := range r.Earlier {
		for _, l := range inv.Lines {
			if inv.Status != Void && r.whole.Has(l.Period.Start) {
				sum = sum.Sub(l.Amount).Add(l.Discount)
			}
		}
	}
	return sum
}
