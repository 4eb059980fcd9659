package billing

import "time"

// usage charges the metered usage of a span, less what has been billed of it.
func (r *run) usage(span Period, final bool) {
	for _, seg := range byPlan(r.s.Segments(span)) {
		plan := r.Book[seg.Plan]
		// A segment that goes on beyond the span is not final: its minimum is
		// due with its last line.
		for i := range plan.Prices {
			if p := &plan.Prices[i]; !p.Recurring() {
				r.charge(plan, p, seg, final)
			}
		}
	}
}

// charge adds the line of one price, and what it lacks to its minimum.
func (r *run) charge(plan *Plan, p *Price, seg Segment, final bool) {
	m, due := r.rate(plan, p, seg.Period, final)
	l := Line{
		Kind: LineUsage, Plan: seg.Plan, Period: seg.Period, Quantity: due.Rating.Units, UnitPrice: single(due.Rating.Parts), Amount: due.Usage,
		Trace: r.trace(plan, m, due, seg.Period),
	}
	l.Trace.Billed = r.billed(p.ID, seg.Plan, seg.Period.Start)
	r.explain(&l, plan, p)
	r.add(l, p)
	if due.TrueUp.Sign() != 0 {
		of := r.lines[len(r.lines)-1].ID
		r.add(Line{
			Kind: LineTrueUp, Plan: seg.Plan, Period: seg.Period, Text: p.title() + ": minimum", Quantity: Int(1), Amount: due.TrueUp, Of: of,
			Trace: &Trace{Exact: due.Rating.TrueUp, Fraction: l.Trace.Fraction},
		}, p)
	}
}

// explain has a line of usage of which other invoices have charged a part, or
// given one back, say so: its amount is what is left to charge, and so is its
// quantity where units are those that were metered.
func (r *run) explain(l *Line, plan *Plan, p *Price) {
	before, some := Decimal{}, false
	for _, inv := range r.live() {
		for i := range inv.Lines {
			if m := &inv.Lines[i]; m.Kind != LineTrueUp && m.ofUsage(p.ID, l.Plan, l.Period.Start) {
				before, some = before.Add(m.Quantity), true
			}
		}
	}
	if !some {
		return
	}
	all, amount, whole := l.Quantity, l.Trace.Billed, p.Convert == nil && p.Included.IsZero()
	if whole {
		l.Quantity = all.Sub(before)
	}
	if u := l.UnitPrice; u != nil && Minor(u.Mul(l.Quantity), plan.Currency, plan.Rounding).Cmp(l.Amount) != 0 {
		l.UnitPrice = nil // what all of it costs is not what is charged here
	}
	l.Text = p.title() + ": " + all.Round(6, HalfUp).String() + " in all, "
	if whole {
		l.Text += units(before, all) + paid(before, amount, plan.Currency)
	} else {
		l.Text += plan.Currency.Text(amount.Abs()) + how(amount)
	}
}

// how says of what others have charged what became of it, by its sign.
func how(before Decimal) string {
	if before.Sign() < 0 {
		return " given back before"
	}
	return " billed before"
}

// units says what of all units others have billed or given back.
func units(before, all Decimal) string {
	of := ""
	if before.Sign() >= 0 && before.Cmp(all) <= 0 {
		of = " of them"
	}
	return before.Abs().Round(6, HalfUp).String() + of + how(before)
}

// paid says for how much that was. Usage may have been billed and money given
// back for it, where more costs less, and the other way round.
func paid(before, amount Decimal, c Currency) string {
	money := c.Text(amount.Abs())
	if amount.Sign()*before.Sign() < 0 || before.IsZero() && amount.Sign() < 0 {
		return ", and " + money + how(amount)
	}
	return " for " + money
}

// rate meters and rates one price over one segment.
func (r *run) rate(plan *Plan, p *Price, seg Period, final bool) (Metered, Due) {
	metered := seg
	if trial := r.s.TrialEnd(r.Book[r.s.Plan]); plan.TrialUsage == TrialFree && trial.After(metered.Start) {
		metered.Start = trial
	}
	m := meter(r.cells, r.s.Tenant, p, metered, r.around(seg), r.loc, plan.Interrupted != Bill)
	due := p.Due(plan.Currency, plan.Rounding, m.Usage, r.billed(p.ID, plan.Ref(), seg.Start), final, r.fraction(plan, seg))
	r.bound(plan, p, "usage of "+m.Quantity.String(), due.Rating.Charge)
	return m, due
}

// around is the billing period that a segment lies in.
func (r *run) around(seg Period) Period {
	c := r.Book[r.s.Plan].Cadence
	return r.s.Whole(c, r.s.Index(c, seg.Start))
}

// fraction returns which part of its whole billing period a segment is.
func (r *run) fraction(plan *Plan, seg Period) Decimal {
	return plan.Proration.Of(seg, r.around(seg), r.loc, plan.Cadence)
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

// ofUsage reports whether a line charges usage of a price in the segment that
// begins then.
func (l *Line) ofUsage(price string, plan PlanRef, start time.Time) bool {
	same := l.Price == price && l.Plan == plan && l.Period.Start.Equal(start)
	return same && (l.Kind == LineUsage || l.Kind == LineTrueUp || l.Kind == LineAdjustment)
}

// billed sums what invoices have charged for usage of a price in the segment
// that begins then.
func (r *run) billed(price string, plan PlanRef, start time.Time) Decimal {
	sum := Decimal{}
	for _, inv := range r.live() {
		for i := range inv.Lines {
			if l := &inv.Lines[i]; l.ofUsage(price, plan, start) {
				sum = sum.Add(l.Amount)
			}
		}
	}
	return sum
}
