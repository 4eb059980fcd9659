package billing

import (
	"math/big"
	"slices"
)

// Rounding is how a number is brought to fewer digits.
type Rounding string

// The roundings. Money knows HalfUp and HalfEven alone; the others are for
// units.
const (
	// HalfUp rounds halves away from zero. The default.
	HalfUp Rounding = "half_up"
	// HalfEven rounds halves to the even neighbour.
	HalfEven Rounding = "half_even"
	// Up rounds to the next larger number.
	Up Rounding = "up"
	// Down rounds to the next smaller number.
	Down Rounding = "down"
	// Exact does not round.
	Exact Rounding = "none"
)

// Round returns d with at most the given digits after the point. An empty
// mode is HalfUp.
func (d Decimal) Round(places int, mode Rounding) Decimal {
	if mode == Exact {
		return d
	}
	scale := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(places)), nil)
	num := new(big.Int).Mul(d.rat().Num(), scale)
	// Euclidean division: the remainder is not negative, so q is the floor.
	q, rem := new(big.Int).DivMod(num, d.rat().Denom(), new(big.Int))
	half := rem.Lsh(rem, 1).Cmp(d.rat().Denom())
	up := false
	switch mode {
	case Up:
		up = rem.Sign() > 0
	case Down:
	case HalfEven:
		up = half > 0 || half == 0 && q.Bit(0) == 1
	default:
		up = half > 0 || half == 0 && num.Sign() > 0
	}
	if up {
		q.Add(q, big.NewInt(1))
	}
	return Decimal{new(big.Rat).SetFrac(q, scale)}
}

// Minor rounds an amount to the minor unit of its currency.
func Minor(d Decimal, c Currency, mode Rounding) Decimal {
	places, _ := c.Places()
	return d.Round(places, mode)
}

// Split divides an amount, a whole number of minor units, over parts in
// proportion to their weights, so that the parts are whole minor units and sum
// to the amount: each part is rounded towards zero, and what is left goes, a
// unit each, to the parts with the largest remainders, earlier parts first.
// Weights are not negative; if all are zero the first part takes everything.
func Split(amount Decimal, c Currency, weights []Decimal) []Decimal {
	parts := make([]Decimal, len(weights))
	if len(weights) == 0 {
		return parts
	}
	whole := Sum(weights...)
	if whole.Sign() == 0 {
		parts[0] = amount
		return parts
	}
	places, _ := c.Places()
	unit := Int(1).Div(Decimal{new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(places)), nil))})
	left, rests := amount, make([]Decimal, len(weights))
	negative := amount.Sign() < 0
	for i, w := range weights {
		share := amount.Mul(w).Div(whole)
		if parts[i] = share.Round(places, Down); negative {
			parts[i] = share.Round(places, Up)
		}
		rests[i] = share.Sub(parts[i])
		left = left.Sub(parts[i])
	}
	if negative {
		unit = unit.Neg()
		for i := range rests {
			rests[i] = rests[i].Neg()
		}
	}
	order := make([]int, len(weights))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return rests[b].Cmp(rests[a]) })
	for _, i := range order {
		if left.Sign() == 0 {
			break
		}
		parts[i] = parts[i].Add(unit)
		left = left.Sub(unit)
	}
	return parts
}
