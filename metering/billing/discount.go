package billing

import (
	"slices"
	"time"
)

// Discount is a coupon or a rebate on an invoice, taken off before tax.
type Discount struct {
	// ID is unique within the subscription. Name is the text on the invoice;
	// default: the id.
	ID   string `json:"id"`
	Name string `json:"name,omitempty"`
	// Percent of what is left of the lines, or Amount of money: one of them.
	// An amount takes no more than there is.
	Percent Decimal `json:"percent,omitzero"`
	Amount  Decimal `json:"amount,omitzero"`
	// Times is how many invoices it is taken off; 0 is every one. Those that cut
	// a period count as one, and share an Amount. An invoice from which it could
	// take nothing does not count.
	Times int `json:"times,omitempty"`
	// Start is when it begins: with the first period that begins then or
	// later. Default: with the subscription.
	Start time.Time `json:"start,omitzero"`
	// Prices narrows it to lines of these prices. Default: all.
	Prices []string `json:"prices,omitempty"`
	// only narrows it further. Nil: not.
	only func(Line) bool
}

// takes reports whether the discount may be taken off a line.
func (d *Discount) takes(l Line) bool {
	named := len(d.Prices) == 0 || slices.Contains(d.Prices, l.Price)
	return named && (d.only == nil || d.only(l))
}

// Applied is an amount that a discount, a credit note or a grant has taken off
// an invoice.
type Applied struct {
	// ID and Name are of the discount, note or grant; Amount is what it has taken
	// off.
	ID     string  `json:"id"`
	Name   string  `json:"name,omitempty"`
	Amount Decimal `json:"amount"`
}

// live reports whether the discount applies to a period, when it has been
// taken off so many invoices.
func (d Discount) live(period Period, used int) bool {
	return !period.Start.Before(d.Start) && (d.Times == 0 || used < d.Times)
}

// discount takes the discounts off the lines, one after the other, in order.
// Credits (negative lines) are left alone: they were discounted when they were
// charged.
func discount(lines []Line, c Currency, mode Rounding, ds []Discount) []Applied {
	var applied []Applied
	for _, d := range ds {
		weights := make([]Decimal, len(lines))
		for i, l := range lines {
			if d.takes(l) {
				weights[i] = l.Amount.Sub(l.Discount).Max(Decimal{})
			}
		}
		base := Sum(weights...)
		amount := Minor(d.Amount, c, mode)
		if d.Percent.Sign() > 0 {
			amount = Minor(base.Mul(d.Percent).Div(Int(100)), c, mode)
		}
		amount = amount.Min(base)
		if amount.Sign() <= 0 {
			continue
		}
		for i, part := range Split(amount, c, weights) {
			if part.Sign() != 0 {
				lines[i].Discount = lines[i].Discount.Add(part)
				lines[i].Discounts = gather(slices.Clone(lines[i].Discounts), Applied{d.ID, "", part})
			}
		}
		applied = gather(applied, Applied{d.ID, d.Name, amount})
	}
	return applied
}

// gather adds an amount to that of the same id.
func gather(to []Applied, a Applied) []Applied {
	for i := range to {
		if to[i].ID == a.ID {
			to[i].Amount = to[i].Amount.Add(a.Amount)
			return to
		}
	}
	return append(to, a)
}
