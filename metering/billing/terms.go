package billing

import (
	"strconv"
	"time"
)

// invoice sums the lines.
func (r *run) invoice() Invoice {
	planOf := func(l Line) *Plan {
		if plan := r.Book[l.Plan]; plan != nil {
			return plan
		}
		return r.plan
	}
	taxes := r.Taxes
	if taxes == nil {
		taxes = func(l Line) []Tax { return planOf(l).Taxes }
	}
	t := Terms{
		Currency: r.plan.Currency, Rounding: r.plan.Rounding, Discounts: r.discounts(), Floors: r.floors(), Taxes: taxes, CreditNotes: r.CreditNotes,
		Included: func(l Line) bool { return planOf(l).TaxIncluded }, Mode: func(l Line) Rounding { return planOf(l).Rounding },
	}
	period := r.span
	if r.Kind == Progressive {
		period = period.Cut(Period{period.Start, r.Through})
	}
	if r.Wallet != nil {
		t.Wallet = r.Wallet.Within(period, r.At)
	}
	kind := TypeInvoice
	if r.Kind == Correction {
		kind = TypeCorrected
	}
	mark := Watermark{SealedUntil: r.Watermark.SealedUntil.UTC(), Missing: r.Watermark.Missing}
	return Invoice{
		Key: r.key(), Type: kind, Kind: r.Kind, Status: Drafted, Tenant: r.s.Tenant, Subscription: r.s.ID, Currency: r.plan.Currency,
		TimeZone: r.s.TimeZone, Period: period.utc(), Sheet: Settle(r.lines, t), Watermark: mark,
	}
}

func (r *run) key() string {
	start := r.whole.Start
	if r.Kind == Correction {
		start = r.whole.End
	}
	key := r.s.ID + "/" + start.UTC().Format(time.RFC3339) + "/" + string(r.Kind)
	switch r.Kind {
	case Progressive:
		key += "/" + r.Through.UTC().Format(time.RFC3339)
	case Correction:
		n := 1 // void ones count: an index is not used twice
		for _, inv := range r.Earlier {
			if inv.Kind == Correction {
				n++
			}
		}
		key += "/" + strconv.Itoa(n)
	}
	return key
}

// counted names the invoices that a discount counts as one: those that cut a
// period are one, whatever else there is stands for itself.
func (r *run) counted(inv *Invoice) string {
	if inv.Kind != Progressive && inv.Kind != Closing {
		return inv.Key
	}
	return strconv.Itoa(r.s.Index(r.Book[r.s.Plan].Cadence, inv.Period.Start))
}

// discounts are those that apply to the lines, as far as they are not used up.
// A fixed amount is taken once off all invoices that cut a period. What took
// the place of a fee in advance has the discounts of that fee: of a fixed
// amount as much as was returned with it.
func (r *run) discounts() []Discount {
	now := ""
	if r.Kind == Closing || r.Kind == Progressive {
		now = strconv.Itoa(r.Index)
	}
	var out []Discount
	for _, d := range r.s.Discounts {
		taken, others := Decimal{}, map[string]bool{}
		for _, inv := range r.live() {
			for _, a := range inv.Discounts {
				switch group := r.counted(inv); {
				case a.ID == d.ID && group == now:
					taken = taken.Add(a.Amount)
				case a.ID == d.ID:
					others[group] = true
				}
			}
		}
		fixed := d.Percent.IsZero()
		again := r.Kind == Correction && fixed // its period has had it
		live := d.live(r.span, len(others)) && !again
		returned, moved := r.back[d.ID]
		rest := d
		if fixed {
			rest.Amount = d.Amount.Sub(taken)
		}
		if moved && (fixed || !live) {
			rest.only = func(l Line) bool { return l.Kind != LineCharge }
			moved := d
			moved.only = func(l Line) bool { return l.Kind == LineCharge }
			if fixed {
				moved.Amount = returned
			}
			out = append(out, moved)
		}
		if usable := rest.Percent.Sign() > 0 || rest.Amount.Sign() > 0; live && usable {
			out = append(out, rest)
		}
	}
	return out
}

// floors are what the lines of periods must come to.
func (r *run) floors() []Floor {
	var out []Floor
	if r.Kind == Closing {
		out = r.floor(out, r.Index)
	}
	for _, index := range sortedInts(r.late) {
		out = r.floor(out, index)
	}
	return out
}

// floor is the minimum of a period: those of the plans for their parts of it,
// less what earlier invoices charged. Of what they charged to reach it as much
// is given back as late usage makes up for.
func (r *run) floor(to []Floor, index int) []Floor {
	c := r.Book[r.s.Plan].Cadence
	whole, span := r.s.Whole(c, index), r.s.Span(c, index)
	f := Floor{Counts: func(l Line) bool { return whole.Has(l.Period.Start) }}
	for _, seg := range byPlan(r.s.Segments(span)) {
		plan := r.Book[seg.Plan]
		f.Least = f.Least.Add(plan.Minimum.Mul(r.fraction(plan, seg.Period)))
	}
	if f.Least.Sign() == 0 {
		return to
	}
	plan := r.Book[r.s.At(span.Start).Plan]
	f.Line = Line{ID: "minimum/" + plan.Ref().String(), Text: "Minimum", Plan: plan.Ref(), Period: span.utc(), Trace: &Trace{Exact: f.Least}}
	for _, inv := range r.live() {
		for i := range inv.Lines {
			l := &inv.Lines[i]
			if !whole.Has(l.Period.Start) {
				continue
			}
			f.Least = f.Least.Sub(l.Amount).Add(l.Discount)
			if l.Kind == LineMinimum {
				f.Back = f.Back.Add(l.Amount)
				f.Line.Corrects = inv.Number
			}
		}
	}
	if r.late[index] {
		f.Line.ID += "/" + span.Start.UTC().Format(time.RFC3339)
	}
	return append(to, f)
}
