package billing

// percentage charges events one by one where they are known, and their sum
// where they are not.
func (p *Price) percentage(u Usage) []Part {
	rate := p.Rate.Div(Int(100))
	if u.Events == nil {
		return p.percentageOfSum(u, rate)
	}
	paid, fees, bound := Decimal{}, Decimal{}, Decimal{}
	sum := Decimal{}
	for i, value := range u.Events {
		before := sum
		sum = sum.Add(value)
		if p.free(i, before) {
			if p.FreeAmount.IsZero() || sum.Cmp(p.FreeAmount) < 0 {
				continue
			}
			value = sum.Sub(p.FreeAmount)
		}
		charge := value.Mul(rate).Add(p.Fee)
		held := charge
		if p.EventMin != nil {
			held = held.Max(*p.EventMin)
		}
		if p.EventMax != nil {
			held = held.Min(*p.EventMax)
		}
		paid, fees, bound = paid.Add(value), fees.Add(p.Fee), bound.Add(held.Sub(charge))
	}
	parts := unit(paid, rate)
	if fees.Sign() > 0 {
		parts = append(parts, Part{Units: fees.Div(p.Fee), UnitPrice: p.Fee, Amount: fees})
	}
	if !bound.IsZero() {
		parts = append(parts, Part{Units: Int(1), UnitPrice: bound, Amount: bound})
	}
	return parts
}

// free reports whether the i-th event begins within every allowance that is
// set, when so much came before it.
func (p *Price) free(i int, before Decimal) bool {
	if p.FreeEvents == 0 && p.FreeAmount.IsZero() {
		return false
	}
	few := p.FreeEvents == 0 || i < p.FreeEvents
	little := p.FreeAmount.IsZero() || before.Cmp(p.FreeAmount) < 0
	return few && little
}

func (p *Price) percentageOfSum(u Usage, rate Decimal) []Part {
	parts := unit(u.Quantity.Sub(p.FreeAmount).Max(Decimal{}), rate)
	if n := u.Count - p.FreeEvents; n > 0 && p.Fee.Sign() > 0 {
		parts = append(parts, Part{Units: Int(int64(n)), UnitPrice: p.Fee, Amount: p.Fee.Mul(Int(int64(n)))})
	}
	return parts
}
