package billing

import (
	"fmt"
	"maps"
	"slices"

	"github.com/gatehouse-gateway/gatehouse"
)

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func sortedInts[V any](m map[int]V) []int { return slices.Sorted(maps.Keys(m)) }

func (v *validation) price(at string, p *Price) {
	if p.ID == "" {
		v.fault(at+"/id", "is missing", "")
	}
	if p.Model == "" {
		v.fault(at+"/model", "is missing", "")
	}
	oneOf(v, at+"/model", p.Model, Flat, PerUnit, Graduated, Volume, Package, Percentage, GraduatedPercentage, VolumePercentage, Blocks, Dynamic, Capacity)
	oneOf(v, at+"/aggregation", p.Aggregation, Total, Count, Max, Min, Mean, Latest, Unique, Weighted)
	oneOf(v, at+"/bucket", p.Bucket, Hour, Day)
	oneOf(v, at+"/package_round", p.PackageRound, Up, Down, HalfUp)
	oneOf(v, at+"/policy", p.Policy, AllTiers, TopTier)
	fields := map[string]Decimal{"amount": p.Amount, "fee": p.Fee, "free_amount": p.FreeAmount, "included": p.Included, "minimum": p.Minimum, "rate": p.Rate}
	for _, name := range sorted(fields) {
		v.amount(at+"/"+name, fields[name])
	}
	v.optional(at+"/maximum", p.Maximum)
	v.optional(at+"/event_min", p.EventMin)
	v.optional(at+"/event_max", p.EventMax)
	v.percent(at+"/discount_percent", p.Discount)
	if p.FreeEvents < 0 {
		v.fault(at+"/free_events", "is negative", "")
	}
	v.bounds(at+"/maximum", &p.Minimum, p.Maximum)
	v.bounds(at+"/event_max", p.EventMin, p.EventMax)
	v.unused(at, p)
	v.metered(at, p)
	if metering := p.Aggregation != "" || p.Bucket != "" || p.Route != ""; p.Meter == "" && metering {
		v.fault(at+"/meter", "is missing: a recurring fee has no aggregation, bucket or route", "")
	}
	if p.Meter != "" && p.Advance {
		v.fault(at+"/advance", "usage cannot be charged before it is known", "")
	}
	switch p.Model {
	case Package:
		v.positive(at+"/size", p.Size)
	case Graduated, Volume, GraduatedPercentage, VolumePercentage:
		v.tiers(at, p)
	case Blocks:
		v.blocks(at, p)
	case Capacity:
		v.capacity(at, p)
	}
	v.conversion(at+"/convert", p.Convert)
	v.commitment(at+"/commitment", p.Commitment)
}

func (v *validation) bounds(at string, low, high *Decimal) {
	if low != nil && high != nil && high.Cmp(*low) < 0 {
		v.fault(at, fmt.Sprintf("%s is less than the minimum %s", high, low), "")
	}
}

func (v *validation) tiers(at string, p *Price) {
	if len(p.Tiers) == 0 {
		v.fault(at+"/tiers", "is missing", "")
	}
	bound := Decimal{}
	for i, t := range p.Tiers {
		at, last := at+gatehouse.Pointer("tiers", i), i == len(p.Tiers)-1
		v.amount(at+"/unit_price", t.UnitPrice)
		v.amount(at+"/flat_fee", t.FlatFee)
		v.amount(at+"/rate", t.Rate)
		v.optional(at+"/up_to", t.UpTo)
		if t.From != nil {
			switch t.From.Cmp(bound) {
			case 1:
				v.fault(at+"/from", fmt.Sprintf("leaves a gap: the tier before ends at %s", bound), "")
			case -1:
				v.fault(at+"/from", fmt.Sprintf("overlaps the tier before, which ends at %s", bound), "")
			}
		}
		switch {
		case t.UpTo == nil && !last:
			v.fault(at+"/up_to", "is missing: only the last tier has no bound", "")
		case t.UpTo != nil && last:
			v.fault(at+"/up_to", "usage above the last bound would have no price", "leave out the bound of the last tier")
		case t.UpTo != nil && t.UpTo.Cmp(bound) <= 0:
			v.fault(at+"/up_to", fmt.Sprintf("%s is not above the bound before, %s", t.UpTo, bound), "tiers ascend and do not overlap")
		}
		if t.UpTo != nil {
			bound = *t.UpTo
		}
	}
	if len(v.faults.Errors()) == 0 && (p.Model == Volume || p.Model == VolumePercentage) {
		v.inversion(at, p)
	}
}

// inversion warns where one unit more costs less in all.
func (v *validation) inversion(at string, p *Price) {
	for i := 1; i < len(p.Tiers); i++ {
		bound := *p.Tiers[i-1].UpTo
		below, above := p.part(i-1, bound).Amount, p.part(i, bound).Amount
		if above.Cmp(below) < 0 {
			v.faults = append(v.faults, gatehouse.Fault{
				Pointer: at + gatehouse.Pointer("tiers", i), Warning: true,
				Reason: fmt.Sprintf("the price falls from %s to %s where the tier begins", below, above),
				Hint:   "a graduated price never falls",
			})
		}
	}
}

func (v *validation) blocks(at string, p *Price) {
	if len(p.Blocks) == 0 {
		v.fault(at+"/blocks", "is missing", "")
	}
	for i, b := range p.Blocks {
		at, last := at+gatehouse.Pointer("blocks", i), i == len(p.Blocks)-1
		v.positive(at+"/size", b.Size)
		v.amount(at+"/price", b.Price)
		if b.Max != nil {
			v.positive(at+"/max", *b.Max)
		}
		if b.Max == nil != last {
			v.fault(at+"/max", "every tier of blocks but the last has a bound", "")
		}
	}
}

func (v *validation) conversion(at string, c *Conversion) {
	if c == nil {
		return
	}
	if c.Multiply != nil {
		v.positive(at+"/multiply", *c.Multiply)
	}
	if c.Divide != nil {
		v.positive(at+"/divide", *c.Divide)
	}
	oneOf(v, at+"/round", c.Round, HalfUp, HalfEven, Up, Down, Exact)
	if c.Places < 0 || c.Places > maxPlaces {
		v.fault(at+"/places", "must be between 0 and 12", "")
	}
}

func (v *validation) commitment(at string, c *Commitment) {
	if c == nil {
		return
	}
	v.amount(at+"/amount", c.Amount)
	v.amount(at+"/units", c.Units)
	v.optional(at+"/overage", c.Overage)
	if c.Amount.IsZero() == c.Units.IsZero() {
		v.fault(at, "needs either an amount or units", "")
	}
}

func (v *validation) capacity(at string, p *Price) {
	if len(p.Tiers) == 0 {
		v.fault(at+"/tiers", "is missing", "")
	}
	for i, t := range p.Tiers {
		at := at + gatehouse.Pointer("tiers", i)
		v.amount(at+"/flat_fee", t.FlatFee)
		for _, name := range sorted(t.Limits) {
			v.amount(at+gatehouse.Pointer("limits", name), t.Limits[name])
			if i > 0 && t.Limits[name].Cmp(p.Tiers[i-1].Limits[name]) < 0 {
				v.fault(at+gatehouse.Pointer("limits", name), "is less than in the tier before", "")
			}
		}
	}
}
