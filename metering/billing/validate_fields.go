package billing

import (
	"fmt"
	"slices"
)

// uses are the fields of a price that its model reads, beside those that every
// model does.
func (m Model) uses() []string {
	switch m {
	case Flat:
		return []string{"amount"}
	case PerUnit, Dynamic:
		return []string{"amount", "included", "convert"}
	case Graduated, Volume:
		return []string{"tiers", "tiers/unit_price", "tiers/flat_fee", "flat_at_zero", "included", "convert"}
	case GraduatedPercentage, VolumePercentage:
		return []string{"tiers", "tiers/rate", "tiers/flat_fee", "flat_at_zero", "included", "convert"}
	case Package:
		return []string{"amount", "size", "package_round", "included", "convert"}
	case Blocks:
		return []string{"blocks", "policy", "included", "convert"}
	case Percentage:
		return []string{"rate", "fee", "free_events", "free_amount", "event_min", "event_max"}
	case Capacity:
		return []string{"tiers", "tiers/flat_fee", "tiers/limits"}
	}
	return nil
}

// unused refuses fields that the model does not read: whoever sets one means
// something by it.
func (v *validation) unused(at string, p *Price) {
	read := p.Model.uses()
	if read == nil {
		return // the model is at fault
	}
	set := map[string]bool{
		"amount": !p.Amount.IsZero(), "tiers": len(p.Tiers) > 0, "flat_at_zero": p.FlatAtZero != nil, "size": !p.Size.IsZero(), "package_round": p.PackageRound != "",
		"blocks": len(p.Blocks) > 0, "policy": p.Policy != "", "rate": !p.Rate.IsZero(), "fee": !p.Fee.IsZero(), "free_events": p.FreeEvents != 0, "free_amount": !p.FreeAmount.IsZero(),
		"event_min": p.EventMin != nil, "event_max": p.EventMax != nil, "included": !p.Included.IsZero(), "convert": p.Convert != nil,
	}
	for _, name := range sorted(set) {
		if set[name] && !slices.Contains(read, name) {
			v.fault(at+"/"+name, fmt.Sprintf("means nothing to the model %s", p.Model), "")
		}
	}
	for i, t := range p.Tiers {
		set := map[string]bool{"unit_price": !t.UnitPrice.IsZero(), "rate": !t.Rate.IsZero(), "limits": len(t.Limits) > 0}
		for _, name := range sorted(set) {
			if set[name] && slices.Contains(read, "tiers") && !slices.Contains(read, "tiers/"+name) {
				v.fault(fmt.Sprintf("%s/tiers/%d/%s", at, i, name), fmt.Sprintf("means nothing to the model %s", p.Model), "")
			}
		}
	}
}

// metered refuses prices of usage that cells cannot answer: they hold sums of
// minutes, and not single events.
func (v *validation) metered(at string, p *Price) {
	if p.Meter == "" {
		return
	}
	const sums = "usage is metered in sums of minutes"
	if p.Model == Percentage {
		single := map[string]bool{
			"event_min": p.EventMin != nil, "event_max": p.EventMax != nil, "free_events": p.FreeEvents != 0 && !p.Rate.IsZero(), "free_amount": !p.FreeAmount.IsZero() && !p.Fee.IsZero(),
			"bucket": p.Bucket != "" && !p.Fee.IsZero(),
		}
		for _, name := range sorted(single) {
			if single[name] {
				v.fault(at+"/"+name, "needs the amounts of single events", sums)
			}
		}
	}
	peak := p.Bucket == "" && (p.Aggregation == "" || p.Aggregation == Max)
	if p.Model == Capacity && !peak {
		v.fault(at+"/aggregation", "a capacity is that of the largest minute", "leave out aggregation and bucket")
	}
	if p.Aggregation == Weighted && p.Bucket != "" {
		v.fault(at+"/bucket", "a mean level is that of the whole period", "")
	}
}
