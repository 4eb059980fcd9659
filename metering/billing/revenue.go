package billing

import (
	"maps"
	"slices"

	"github.com/gatehouse-gateway/gatehouse"
)

// Monthly returns what a fee per period is per month: fee * periods a year /
// 12. It is exact.
func Monthly(fee Decimal, c Cadence) Decimal { return fee.Mul(c.PerYear()).Div(Int(12)) }

// MRR is the monthly recurring revenue of a tenant: the fees per period of its
// plan at an instant, with quantities and running percentage discounts, as
// months, rounded to the minor unit. Usage, single fees, tax and paused
// subscriptions do not count.
func (s *Subscription) MRR(book Book, at Segment) Decimal {
	plan := book[at.Plan]
	if plan == nil || at.Paused {
		return Decimal{}
	}
	sum := Decimal{}
	for i := range plan.Prices {
		p := &plan.Prices[i]
		if !p.Recurring() {
			continue
		}
		fee := p.Rating(Usage{Quantity: at.quantity(p.ID)}, true, Int(1)).Amount()
		for _, d := range s.Discounts {
			if d.Times == 0 && (len(d.Prices) == 0 || slices.Contains(d.Prices, p.ID)) {
				fee = fee.Sub(fee.Mul(d.Percent).Div(Int(100)))
			}
		}
		sum = sum.Add(fee)
	}
	return Minor(Monthly(sum, plan.Cadence), plan.Currency, plan.Rounding)
}

// Bridge is how recurring revenue went from one month to the next, of one
// currency. Start + New + Reactivated + Expansion - Contraction - Churned is
// End, to the minor unit.
type Bridge struct {
	Start       Decimal `json:"start"`
	New         Decimal `json:"new"`
	Reactivated Decimal `json:"reactivated"`
	Expansion   Decimal `json:"expansion"`
	Contraction Decimal `json:"contraction"`
	Churned     Decimal `json:"churned"`
	End         Decimal `json:"end"`
	// StartTenants pay at the start and EndTenants at the end; LostTenants do no
	// longer.
	StartTenants int `json:"start_tenants"`
	EndTenants   int `json:"end_tenants"`
	LostTenants  int `json:"lost_tenants"`
}

// Bridged compares the recurring revenue of each tenant before and after.
// Known are those that paid in any earlier month: they come back instead of
// being new.
func Bridged(before, after map[gatehouse.TenantID]Decimal, known map[gatehouse.TenantID]bool) Bridge {
	var b Bridge
	all := maps.Clone(before)
	if all == nil {
		all = map[gatehouse.TenantID]Decimal{}
	}
	maps.Copy(all, after)
	for tenant := range all {
		from, to := before[tenant], after[tenant]
		change := to.Sub(from)
		b.Start, b.End = b.Start.Add(from), b.End.Add(to)
		if from.Sign() > 0 {
			b.StartTenants++
		}
		if to.Sign() > 0 {
			b.EndTenants++
		}
		switch {
		case from.Sign() <= 0 && to.Sign() > 0 && known[tenant]:
			b.Reactivated = b.Reactivated.Add(change)
		case from.Sign() <= 0:
			b.New = b.New.Add(change)
		case to.Sign() <= 0:
			b.Churned = b.Churned.Sub(change)
			b.LostTenants++
		case change.Sign() > 0:
			b.Expansion = b.Expansion.Add(change)
		default:
			b.Contraction = b.Contraction.Sub(change)
		}
	}
	return b
}

// Balance returns Start plus all movements, which is End.
func (b Bridge) Balance() Decimal {
	return Sum(b.Start, b.New, b.Reactivated, b.Expansion).Sub(b.Contraction).Sub(b.Churned)
}

// Metrics are figures of a month, exact unless they are Rounded. A ratio is absent where its divisor
// is zero.
type Metrics struct {
	// MRR is the recurring revenue at the end; ARR is 12 times that.
	MRR Decimal `json:"mrr"`
	ARR Decimal `json:"arr"`
	// ARPU is MRR per tenant that pays at the end.
	ARPU *Decimal `json:"arpu,omitempty"`
	// NRR is (Start + Expansion - Contraction - Churned) / Start: what the
	// tenants of the start pay now. GRR is the same without Expansion.
	NRR *Decimal `json:"nrr,omitempty"`
	GRR *Decimal `json:"grr,omitempty"`
	// Churn is the tenants lost over those of the start; RevenueChurn is
	// Churned over Start.
	Churn        *Decimal `json:"churn,omitempty"`
	RevenueChurn *Decimal `json:"revenue_churn,omitempty"`
	// LTV is ARPU times the gross margin over Churn: what a tenant brings in
	// while it stays, if nothing changes.
	LTV *Decimal `json:"ltv,omitempty"`
}

// Metrics computes the figures of a bridge. Margin is the gross margin as a
// fraction, 1 for revenue alone.
func (b Bridge) Metrics(margin Decimal) Metrics {
	kept := b.Start.Sub(b.Contraction).Sub(b.Churned)
	m := Metrics{
		MRR: b.End, ARR: b.End.Mul(Int(12)),
		ARPU:  ratio(b.End, Int(int64(b.EndTenants))),
		NRR:   ratio(kept.Add(b.Expansion), b.Start),
		GRR:   ratio(kept, b.Start),
		Churn: ratio(Int(int64(b.LostTenants)), Int(int64(b.StartTenants))), RevenueChurn: ratio(b.Churned, b.Start),
	}
	if m.ARPU != nil && m.Churn != nil {
		m.LTV = ratio(m.ARPU.Mul(margin), *m.Churn)
	}
	return m
}

// Rounded are the figures with money to the minor unit, halves up. Ratios stay
// exact.
func (m Metrics) Rounded(c Currency) Metrics {
	for _, d := range []**Decimal{&m.ARPU, &m.LTV} {
		if *d != nil {
			r := Minor(**d, c, HalfUp)
			*d = &r
		}
	}
	return m
}

func ratio(a, b Decimal) *Decimal {
	if b.Sign() == 0 {
		return nil
	}
	q := a.Div(b)
	return &q
}
