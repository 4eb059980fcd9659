package billing

// tierPrice returns what a unit costs in tier t: a percentage tier takes its rate
// of each unit of the amount.
func (p *Price) tierPrice(t Tier) Decimal {
	if p.Model == GraduatedPercentage || p.Model == VolumePercentage {
		return t.Rate.Div(Int(100))
	}
	return t.UnitPrice
}

func (p *Price) part(i int, units Decimal) Part {
	t := p.Tiers[i]
	price := p.tierPrice(t)
	return Part{Tier: i + 1, Units: units, UnitPrice: price, FlatFee: t.FlatFee, Amount: units.Mul(price).Add(t.FlatFee)}
}

// graduated fills the tiers one after the other. Whatever is above the last
// bound belongs to the last tier.
func (p *Price) graduated(units Decimal) []Part {
	if units.Sign() <= 0 && !p.flatAtZero() {
		return nil
	}
	var parts []Part
	from := Decimal{}
	for i, t := range p.Tiers {
		if i > 0 && units.Cmp(from) <= 0 {
			break
		}
		to := units
		if t.UpTo != nil && i < len(p.Tiers)-1 {
			to = units.Min(*t.UpTo)
		}
		parts = append(parts, p.part(i, to.Sub(from).Max(Decimal{})))
		from = to
	}
	return parts
}

// volume finds the first tier whose bound is not below the quantity.
func (p *Price) volume(units Decimal) []Part {
	if units.Sign() <= 0 && !p.flatAtZero() || len(p.Tiers) == 0 {
		return nil
	}
	return []Part{p.part(p.tierOf(units), units)}
}

func (p *Price) tierOf(units Decimal) int {
	for i, t := range p.Tiers {
		if t.UpTo == nil || units.Cmp(*t.UpTo) <= 0 {
			return i
		}
	}
	return len(p.Tiers) - 1
}

// blocks counts begun blocks. Bounds are cumulative: a tier begins where the
// blocks of those before it end.
func (p *Price) blocks(units Decimal) []Part {
	var parts []Part
	from := Decimal{}
	for i, b := range p.Blocks {
		last := i == len(p.Blocks)-1 || b.Max == nil
		in := units.Sub(from)
		if !last {
			from = from.Add(b.Size.Mul(*b.Max))
		}
		switch inside := last || units.Cmp(from) <= 0; {
		case p.Policy == TopTier && inside:
			return []Part{block(i, units, b)}
		case p.Policy == TopTier:
		case inside:
			return append(parts, block(i, in, b))
		default:
			parts = append(parts, block(i, b.Size.Mul(*b.Max), b))
		}
	}
	return parts
}

func block(i int, units Decimal, b Block) Part {
	n := units.Div(b.Size).Round(0, Up)
	return Part{Tier: i + 1, Units: n, UnitPrice: b.Price, Amount: n.Mul(b.Price)}
}

// capacity finds the first tier that holds every peak. A meter that the tier
// does not name is not limited.
func (p *Price) capacity(peaks map[string]Decimal) []Part {
	for i, t := range p.Tiers {
		holds := true
		for meter, limit := range t.Limits {
			holds = holds && peaks[meter].Cmp(limit) <= 0
		}
		if holds || i == len(p.Tiers)-1 {
			return []Part{p.part(i, Decimal{})}
		}
	}
	return nil
}
