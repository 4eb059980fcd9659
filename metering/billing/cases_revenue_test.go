package billing_test

import (
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

var intervals = map[string]billing.Cadence{
	"day": {Every: 1, Unit: billing.Day}, "daily": {Every: 1, Unit: billing.Day}, "week": {Every: 1, Unit: billing.Week}, "weekly": {Every: 1, Unit: billing.Week},
	"month": {Every: 1, Unit: billing.Month}, "monthly": {Every: 1, Unit: billing.Month}, "quarter": {Every: 3, Unit: billing.Month}, "quarterly": {Every: 3, Unit: billing.Month},
	"year": {Every: 1, Unit: billing.Year}, "yearly": {Every: 1, Unit: billing.Year}, "annual": {Every: 1, Unit: billing.Year}, "annually": {Every: 1, Unit: billing.Year},
	"half_year": {Every: 6, Unit: billing.Month}, "semiannual": {Every: 6, Unit: billing.Month},
}

// cadenceOf reads how often a subscription is charged. Intervals of 30 and of
// 365 days are the month and the year that they stand for.
func cadenceOf(b *bag) billing.Cadence {
	out := billing.Cadence{Every: 1, Unit: billing.Month}
	switch {
	case b.has("interval_months"):
		out.Every = b.integer("interval_months")
	case b.has("interval_days"):
		days := b.integer("interval_days")
		switch {
		case days%365 == 0:
			out = billing.Cadence{Every: days / 365, Unit: billing.Year}
		case days%30 == 0:
			out.Every = days / 30
		default:
			out = billing.Cadence{Every: days, Unit: billing.Day}
		}
	case b.has("interval"):
		out = word(b, intervals, "interval")
	}
	if b.has("interval_count") {
		out.Every *= b.integer("interval_count")
	}
	if out.Every < 1 {
		refuse("the interval is missing")
	}
	return out
}

func (c *workedCase) recurring(p *bag) outcome {
	if !p.has("mrr", "subscriptions") {
		refuse("subscriptions are missing")
	}
	mrr, customers := p.dec("mrr"), p.dec("customers")
	for _, raw := range p.list("subscriptions") {
		b := object("subscriptions", raw)
		n, each := billing.Int(1), billing.Int(1)
		if d := b.opt("count"); d != nil {
			n = *d
		}
		if d := b.opt("quantity"); d != nil {
			each = *d
		}
		fee := b.need("fee_price").Sub(b.dec("line_discount"))
		fee = fee.Sub(fee.Mul(b.dec("discount_percent")).Div(billing.Int(100))).Mul(each)
		cadence := cadenceOf(b)
		b.drained()
		mrr, customers = mrr.Add(billing.Monthly(fee.Mul(n), cadence)), customers.Add(n)
	}
	m := billing.Bridge{End: mrr, EndTenants: wholeNumber(customers)}.Metrics(billing.Int(1))
	value := m.MRR
	switch c.Model {
	case "arr":
		value = m.ARR
	case "arpu", "arpa":
		if m.ARPU == nil {
			refuse("the figure has no divisor")
		}
		value = *m.ARPU
	}
	return outcome{exact: value, rounded: billing.Minor(value, c.Currency, billing.HalfUp), views: [][]figure{{nums("mrr", m.MRR, "arr", m.ARR)}}}
}

func wholeNumber(d billing.Decimal) int {
	for n := range 10_000_000 {
		if billing.Int(int64(n)).Cmp(d) == 0 {
			return n
		}
		if billing.Int(int64(n)).Cmp(d) > 0 {
			break
		}
	}
	refuse("%s is not a count", d)
	return 0
}

func (c *workedCase) bridge(p *bag) outcome {
	b := billing.Bridge{}
	switch c.Model {
	case "churn", "churn_rate", "subscriber_churn", "customer_churn", "logo_churn":
		b.StartTenants, b.LostTenants, b.EndTenants = p.integer("starting_customers"), p.integer("lost_customers"), p.integer("ending_customers")
	case "ltv", "clv":
		return c.lifetime(p)
	default:
		b = billing.Bridge{
			Start: p.dec("starting_mrr"), New: p.dec("new"), Reactivated: p.dec("reactivated"), Expansion: p.dec("expansion"), Contraction: p.dec("contraction"), Churned: p.dec("churned"),
			StartTenants: p.integer("starting_customers"), LostTenants: p.integer("lost_customers"), EndTenants: p.integer("ending_customers"),
		}
	}
	b.End = b.Balance()
	m := b.Metrics(billing.Int(1))
	percent := func(d *billing.Decimal) billing.Decimal {
		if d == nil {
			refuse("the figure has no divisor")
		}
		return d.Mul(billing.Int(100))
	}
	var value billing.Decimal
	switch c.Model {
	case "nrr", "net_revenue_retention":
		value = percent(m.NRR)
	case "grr", "gross_revenue_retention":
		value = percent(m.GRR)
	case "churn", "churn_rate", "subscriber_churn", "customer_churn", "logo_churn":
		value = percent(m.Churn)
	case "revenue_churn":
		value = percent(m.RevenueChurn)
	case "gross_mrr_churn", "gross_revenue_churn": // what was lost of it in any way
		lost := billing.Int(1).Sub(percent(m.GRR).Div(billing.Int(100)))
		value = lost.Mul(billing.Int(100))
	case "mrr_growth", "net_new_mrr":
		value = b.End.Sub(b.Start)
	case "quick_ratio":
		gained, lost := billing.Sum(b.New, b.Reactivated, b.Expansion), b.Contraction.Add(b.Churned)
		if lost.Sign() == 0 {
			refuse("the figure has no divisor")
		}
		value = gained.Div(lost)
	default:
		value = b.End
	}
	return outcome{exact: value, rounded: billing.Minor(value, c.Currency, billing.HalfUp)}
}

// lifetime is the value of a tenant while it stays.
func (c *workedCase) lifetime(p *bag) outcome {
	margin := billing.Int(1)
	if d := p.opt("gross_margin"); d != nil {
		margin = *d
	}
	if d := p.opt("gross_margin_pct"); d != nil {
		margin = d.Div(billing.Int(100))
	}
	churn := p.opt("churn_percent")
	if churn == nil {
		churn = p.rate("churn_rate")
	}
	var value billing.Decimal
	if arpu := p.opt("arpu"); arpu != nil && churn != nil && churn.Sign() > 0 {
		value = arpu.Mul(margin).Div(churn.Div(billing.Int(100)))
	} else {
		b := billing.Bridge{End: p.dec("mrr"), StartTenants: p.integer("starting_customers"), LostTenants: p.integer("lost_customers"), EndTenants: p.integer("ending_customers")}
		m := b.Metrics(margin)
		if m.LTV == nil {
			refuse("the figure has no divisor")
		}
		value = *m.LTV
	}
	return outcome{exact: value, rounded: billing.Minor(value, c.Currency, billing.HalfUp)}
}
