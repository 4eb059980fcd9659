package billing

// Usage is what a price is applied to: all of it since the period began.
type Usage struct {
	// Quantity is the aggregated usage, in metered units.
	Quantity Decimal
	// Events are the amounts of single events, in order, for the percentage
	// and dynamic models. Without them these models see Quantity as the sum of
	// Count events.
	Events []Decimal
	Count  int
	// Peaks are the largest values by meter, for Capacity. Without them Quantity
	// is the peak of the price's meter.
	Peaks map[string]Decimal
	// Buckets replace Quantity where the period is cut into parts that are
	// priced each on its own.
	Buckets []Decimal
}

// Part is a step of a rating: units of one tier, or a fee.
type Part struct {
	// Tier counts from 1; it is 0 where the price has no tiers.
	Tier int `json:"tier,omitempty"`
	// Units are in the price's unit, at UnitPrice each, with FlatFee on top;
	// Amount is what they come to.
	Units     Decimal `json:"units"`
	UnitPrice Decimal `json:"unit_price"`
	FlatFee   Decimal `json:"flat_fee,omitzero"`
	Amount    Decimal `json:"amount"`
}

// Rating is what a price makes of usage, exact, before rounding.
type Rating struct {
	// Units are the units charged, converted and less those included.
	Units Decimal
	// Parts sum to the amount before discount, commitment and bounds.
	Parts []Part
	// Gross is the sum of Parts; Discount is what was taken off it; Overage is
	// what the commitment's factor added.
	Gross, Discount, Overage Decimal
	// Charge is what usage costs; TrueUp is what is added to reach the
	// commitment or the minimum.
	Charge, TrueUp Decimal
}

// Due is what a line pair of one price comes to, rounded.
type Due struct {
	// Usage is what usage costs, less what has been billed before; TrueUp is
	// what is added to reach the commitment or the minimum.
	Usage, TrueUp Decimal
	Rating        Rating
}

// Amount is Usage + TrueUp.
func (d Due) Amount() Decimal { return d.Usage.Add(d.TrueUp) }

// Due rates all usage of a period and takes off what has been billed of it.
// The amount is rounded as a whole, so that invoices that cut a period sum to
// what one invoice would have been.
func (p *Price) Due(c Currency, mode Rounding, u Usage, billed Decimal, final bool, fraction Decimal) Due {
	r := p.Rating(u, final, fraction)
	charge := Minor(r.Charge, c, mode)
	return Due{Usage: charge.Sub(billed), TrueUp: Minor(r.Amount(), c, mode).Sub(charge), Rating: r}
}

// Amount is what is due for the period: Charge + TrueUp.
func (r Rating) Amount() Decimal { return r.Charge.Add(r.TrueUp) }

// Rating applies the price to all usage of a period. Final says that the usage
// is complete, so that commitments and minimums are due. Fraction is the part
// of the period that was subscribed: what the price sets for a whole period is
// that part of it. It panics on a price that Plan.Validate refuses, such as a
// package of no units.
func (p *Price) Rating(u Usage, final bool, fraction Decimal) Rating {
	p = p.of(fraction)
	var r Rating
	short := Decimal{}
	if u.Buckets != nil {
		for _, b := range u.Buckets {
			s := p.add(&r, Usage{Quantity: b}, p.Commitment != nil && p.Commitment.Windowed)
			short = short.Add(s)
		}
	} else {
		short = p.add(&r, u, p.Commitment != nil && p.Commitment.Windowed)
	}
	if c := p.Commitment; c != nil && !c.Windowed {
		short = p.commit(&r, r.Gross)
	}
	r.Charge = r.Gross.Add(r.Overage)
	if p.Discount.Sign() > 0 {
		r.Discount = r.Charge.Mul(p.Discount).Div(Int(100))
		r.Charge = r.Charge.Sub(r.Discount)
	}
	if final {
		r.TrueUp = short
	}
	if p.Maximum != nil {
		r.Charge = r.Charge.Min(*p.Maximum)
		r.TrueUp = r.TrueUp.Min(p.Maximum.Sub(r.Charge))
	}
	if final && p.Minimum.Sign() > 0 {
		if missing := p.Minimum.Sub(r.Amount()); missing.Sign() > 0 {
			r.TrueUp = r.TrueUp.Add(missing)
		}
	}
	return r
}

// of returns the price with what it sets for a whole period, in money or in
// units, as the given part. What each bucket is held to stays whole.
func (p *Price) of(fraction Decimal) *Price {
	if fraction.Cmp(Int(1)) == 0 {
		return p
	}
	part := *p
	part.Minimum, part.FreeAmount = p.Minimum.Mul(fraction), p.FreeAmount.Mul(fraction)
	if p.Model == Flat {
		part.Amount = p.Amount.Mul(fraction)
	}
	if p.Maximum != nil {
		most := p.Maximum.Mul(fraction)
		part.Maximum = &most
	}
	if p.Bucket == "" {
		part.Included = p.Included.Mul(fraction)
	}
	if c := p.Commitment; c != nil && !c.Windowed {
		agreed := *c
		agreed.Amount = c.Amount.Mul(fraction)
		if agreed.Units.Sign() > 0 { // their price is that of the whole period
			agreed.Amount, agreed.Units = p.committed().Mul(fraction), Decimal{}
		}
		part.Commitment = &agreed
	}
	return &part
}

// committed is the amount that the commitment of a price comes to.
func (p *Price) committed() Decimal {
	amount := p.Commitment.Amount
	if p.Commitment.Units.Sign() > 0 {
		for _, part := range p.apply(p.Commitment.Units) {
			amount = amount.Add(part.Amount)
		}
	}
	return amount
}

// add rates one quantity into r and returns how far it stays below the
// commitment, if it is held to it alone.
func (p *Price) add(r *Rating, u Usage, commit bool) Decimal {
	if u.Quantity.IsZero() {
		u.Quantity = Sum(u.Events...)
	}
	units := p.convert(u.Quantity)
	if p.Included.Sign() > 0 {
		units = units.Sub(p.Included).Max(Decimal{})
	}
	var parts []Part
	switch {
	case p.Model == Percentage:
		parts = p.percentage(u)
	case p.Model == Dynamic && u.Events != nil:
		parts = unit(Sum(u.Events...), p.multiplier())
	case p.Model == Capacity:
		peaks := u.Peaks
		if peaks == nil {
			peaks = map[string]Decimal{p.Meter: units}
		}
		parts = p.capacity(peaks)
	default:
		parts = p.apply(units)
	}
	gross := Decimal{}
	for _, part := range parts {
		gross = gross.Add(part.Amount)
	}
	r.Units = r.Units.Add(units)
	r.Parts = append(r.Parts, parts...)
	r.Gross = r.Gross.Add(gross)
	if commit {
		return p.commit(r, gross)
	}
	return Decimal{}
}

// commit adds the overage of an amount above the commitment to r, and returns
// what a smaller one lacks, if the commitment is trued up.
func (p *Price) commit(r *Rating, gross Decimal) Decimal {
	c := p.Commitment
	over := gross.Sub(p.committed())
	if over.Sign() > 0 && c.Overage != nil {
		r.Overage = r.Overage.Add(over.Mul(c.Overage.Sub(Int(1))))
	}
	if over.Sign() < 0 && c.TrueUp {
		return over.Neg()
	}
	return Decimal{}
}

func (p *Price) convert(q Decimal) Decimal {
	c := p.Convert
	if c == nil {
		return q
	}
	if c.Multiply != nil {
		q = q.Mul(*c.Multiply)
	}
	if c.Divide != nil {
		q = q.Div(*c.Divide)
	}
	if c.Round == "" {
		return q
	}
	return q.Round(c.Places, c.Round)
}

func (p *Price) multiplier() Decimal {
	if p.Amount.IsZero() {
		return Int(1)
	}
	return p.Amount
}

func unit(units, price Decimal) []Part {
	return []Part{{Units: units, UnitPrice: price, Amount: units.Mul(price)}}
}

// apply is the model itself.
func (p *Price) apply(units Decimal) []Part {
	switch p.Model {
	case Flat:
		return []Part{{Units: Int(1), UnitPrice: p.Amount, Amount: p.Amount}}
	case Package:
		mode := Up
		if p.PackageRound != "" {
			mode = p.PackageRound
		}
		return unit(units.Div(p.Size).Round(0, mode), p.Amount)
	case Graduated, GraduatedPercentage:
		return p.graduated(units)
	case Volume, VolumePercentage:
		return p.volume(units)
	case Blocks:
		return p.blocks(units)
	case Percentage:
		return p.percentage(Usage{Quantity: units})
	case Dynamic:
		return unit(units, p.multiplier())
	default:
		return unit(units, p.Amount)
	}
}
