package billing

import (
	"fmt"
	"slices"

	"github.com/gatehouse-gateway/gatehouse"
)

// plenty is how many units of a price must come to what can be billed.
const plenty = 1000

// Billable returns a fault for each price of a plan without faults that would
// come to more than 10^15, which no invoice charges: a recurring fee of one,
// usage of a thousand units, or as much of it as its tiers begin with. It is
// for plans that are saved: what a plan in use comes to, Draft tells.
func (p *Plan) Billable() gatehouse.Faults {
	v := &validation{}
	for i := range p.Prices {
		price := p.Prices[i]
		// Units are those that are priced.
		price.Convert, price.Included, price.FreeEvents, price.FreeAmount = nil, Decimal{}, 0, Decimal{}
		at := gatehouse.Pointer("prices", i)
		if price.Recurring() {
			v.billable(at, &price, Int(1), "a fee for 1")
			continue
		}
		before := len(v.faults)
		v.billable(at, &price, Int(plenty), fmt.Sprintf("usage of %d", plenty))
		for _, t := range price.Tiers {
			if t.UpTo != nil && len(v.faults) == before {
				begin := t.UpTo.Add(Int(1))
				v.billable(at, &price, begin, "usage of "+begin.String()+", where a tier begins,")
			}
		}
	}
	return v.faults
}

func (v *validation) billable(at string, p *Price, q Decimal, what string) {
	r := p.Rating(Usage{Quantity: q, Count: plenty}, true, Int(1))
	if r.Amount().Cmp(Int(maxAmount)) > 0 {
		v.fault(at+p.dearest(r), fmt.Sprintf("%s comes to %s, more than 10^15", what, r.Amount()), "")
	}
}

// dearest points to what of a price makes most of an amount.
func (p *Price) dearest(r Rating) string {
	if r.Gross.Cmp(Int(maxAmount)) <= 0 && p.Commitment != nil || len(r.Parts) == 0 {
		return "/commitment"
	}
	part := slices.MaxFunc(r.Parts, func(a, b Part) int { return a.Amount.Cmp(b.Amount) })
	fee := part.FlatFee.Cmp(part.Amount.Sub(part.FlatFee)) > 0
	switch {
	case p.Model == Blocks:
		return gatehouse.Pointer("blocks", part.Tier-1, "price")
	case part.Tier > 0 && fee:
		return gatehouse.Pointer("tiers", part.Tier-1, "flat_fee")
	case part.Tier > 0 && (p.Model == GraduatedPercentage || p.Model == VolumePercentage):
		return gatehouse.Pointer("tiers", part.Tier-1, "rate")
	case part.Tier > 0:
		return gatehouse.Pointer("tiers", part.Tier-1, "unit_price")
	case p.Model == Percentage && p.Rate.Mul(Int(plenty)).Div(Int(100)).Cmp(p.Fee.Mul(Int(plenty))) > 0:
		return "/rate"
	case p.Model == Percentage:
		return "/fee"
	}
	return "/amount"
}

// Billable returns a fault for each quantity of a recurring fee, from the n-th
// change on or from the begin for -1, with which the fee of one period is more
// than 10^15.
func (s *Subscription) Billable(book Book, n int) gatehouse.Faults {
	v := &validation{}
	each := func(at string, ref PlanRef, quantities map[string]Decimal) {
		for _, id := range sorted(quantities) {
			plan := book[ref]
			if plan == nil || plan.Price(id) == nil {
				continue
			}
			q := quantities[id]
			if amount := plan.Price(id).Rating(Usage{Quantity: q}, true, Int(1)).Amount(); amount.Cmp(Int(maxAmount)) > 0 {
				v.fault(at+gatehouse.Pointer("quantities", id), fmt.Sprintf("a fee for %s comes to %s, more than 10^15", q, amount), "")
			}
		}
	}
	if n < 0 {
		each("", s.Plan, s.Quantities)
	}
	for i := max(0, n); i < len(s.Changes); i++ {
		each(gatehouse.Pointer("changes", i), s.Changes[i].Plan, s.Changes[i].Quantities)
	}
	return v.faults
}
