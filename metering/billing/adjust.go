package billing

import "time"

// adjust rates segments that have ended by then and are billed once more, as
// far as their usage is at hand whole: what came late is charged with a
// reference to the invoice it belongs to.
func (r *run) adjust(by time.Time) {
	if r.CompleteFrom.IsZero() {
		return
	}
	if until := r.CompleteUntil; !until.IsZero() && until.Before(by) {
		by = until
	}
	done := map[string]bool{}
	for _, inv := range r.live() {
		if inv.Kind == Progressive {
			continue
		}
		for i := range inv.Lines {
			l := &inv.Lines[i]
			key := l.Price + "\x00" + l.Plan.String() + "\x00" + l.Period.Start.String()
			whole := !l.Period.Start.Before(r.CompleteFrom)
			over := !l.Period.End.After(by)
			if l.Kind == LineUsage && whole && over && !done[key] {
				done[key] = true
				r.again(inv.Number, l)
			}
		}
	}
}

// again rates the segment of a line once more.
func (r *run) again(number string, l *Line) {
	plan := r.Book[l.Plan]
	if plan == nil || plan.Price(l.Price) == nil {
		return
	}
	p := plan.Price(l.Price)
	m, due := r.rate(plan, p, l.Period, true)
	known, seen := r.known(p.ID, l.Plan, l.Period.Start, m.Hash)
	if seen && due.Amount().Sign() == 0 {
		return
	}
	t := r.trace(plan, m, due, l.Period)
	t.Billed = r.billed(p.ID, l.Plan, l.Period.Start)
	r.late[r.s.Index(r.Book[r.s.Plan].Cadence, l.Period.Start)] = true
	r.add(Line{
		Kind: LineAdjustment, Plan: l.Plan, Period: l.Period, Text: p.title() + ": usage reported late", Quantity: m.Quantity.Sub(known), Amount: due.Amount(),
		Corrects: number, Trace: t,
	}, p)
}

// known returns the usage that the last line states for the segment that begins
// then, and whether it was made of the very same cells. Late usage that costs
// nothing gets a line too, so that all usage is on some line. The last counts,
// not the largest: usage may have been taken back.
func (r *run) known(price string, plan PlanRef, start time.Time, hash string) (Decimal, bool) {
	last, seen := Decimal{}, false
	for _, inv := range r.live() {
		for i := range inv.Lines {
			l := &inv.Lines[i]
			stated := l.Trace != nil && l.Kind != LineTrueUp
			if stated && l.ofUsage(price, plan, start) {
				last, seen = l.Trace.Metered, l.Trace.Hash == hash
			}
		}
	}
	return last, seen
}

// billedSpan is what the closing invoices cover so far.
func (r *run) billedSpan() Period {
	var out Period
	for _, inv := range r.live() {
		if inv.Kind != Closing {
			continue
		}
		if out.Start.IsZero() || inv.Period.Start.Before(out.Start) {
			out.Start = inv.Period.Start
		}
		if inv.Period.End.After(out.End) {
			out.End = inv.Period.End
		}
	}
	return out
}
