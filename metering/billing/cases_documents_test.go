package billing_test

import (
	"fmt"
	"strconv"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

var prorations = map[string]billing.Proration{
	"seconds": billing.Seconds, "second": billing.Seconds, "days": billing.Days, "day": billing.Days, "days_inclusive": billing.Days,
	"days_30": billing.Days30, "fixed_30": billing.Days30, "none": billing.Whole,
}

// fraction reads which part of a period is charged for.
func fraction(p *bag, parts []string, names ...string) billing.Decimal {
	if d := p.opt(names...); d != nil {
		return *d
	}
	basis := word(p, prorations, "basis", "proration")
	if at := p.text("change_at", "change_date"); at != "" {
		zone, err := time.LoadLocation(p.text("time_zone", "timezone"))
		if err != nil {
			refuse("%v", err)
		}
		whole := billing.Period{Start: instant(p.text("period_start"), zone), End: instant(p.text("period_end"), zone)}
		rest := billing.Period{Start: instant(at, zone), End: whole.End}
		return basis.Of(rest, whole, zone, billing.Cadence{Unit: billing.Month})
	}
	for _, unit := range []string{"days", "seconds", "hours"} {
		whole := p.opt("period_"+unit, "total_"+unit)
		if whole == nil {
			continue
		}
		var all []string
		for _, part := range parts {
			all = append(all, unit+"_"+part)
		}
		return p.need(all...).Div(*whole)
	}
	refuse("no fraction of a period is given")
	return billing.Decimal{}
}

func instant(s string, zone *time.Location) time.Time {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, zone); err == nil {
			return t
		}
	}
	refuse("%q is not a time", s)
	return time.Time{}
}

func (c *workedCase) exchange(p *bag) outcome {
	f := fraction(p, []string{"remaining", "remaining_inclusive", "left"}, "fraction_remaining", "fraction")
	mode, net := billing.HalfUp, false
	switch r := p.text("rounding"); r {
	case "", "per_line":
	case "net":
		net = c.Kind != "divergence" // this product rounds each line
	default:
		mode = roundings[r]
	}
	one := billing.Int(1)
	times := func(names ...string) billing.Decimal {
		if q := p.opt(names...); q != nil {
			return *q
		}
		return one
	}
	quantity := times("quantity")
	from := p.dec("old_price", "old_amount").Mul(times("old_quantity")).Mul(quantity)
	to := p.dec("new_price", "new_amount").Mul(times("new_quantity")).Mul(quantity)
	rebate := p.dec("discount_amount", "discount", "fixed_discount")
	keep := one.Sub(p.dec("discount_percent").Div(billing.Int(100)))
	from, to = from.Sub(rebate).Max(billing.Decimal{}).Mul(keep), to.Sub(rebate).Max(billing.Decimal{}).Mul(keep)
	e := c.Currency.Exchange(from, to, f, mode)
	if net {
		// One line for the difference instead of a pair.
		e = c.Currency.Exchange(billing.Decimal{}, to.Sub(from), f, mode)
	}
	var lines []billing.Line
	lines = append(lines, billing.Line{ID: "credit", Kind: billing.LineCredit, Amount: e.Credit}, billing.Line{ID: "charge", Kind: billing.LineCharge, Amount: e.Charge})
	next := p.dec("next_charge", "next_period_price", "renewal_price", "renewal")
	if next.Sign() > 0 {
		lines = append(lines, billing.Line{ID: "next", Kind: billing.LineRecurring, Amount: next})
	}
	terms := c.terms(p, mode)
	terms.Discounts = nil // taken off the fees above
	sheet := billing.Settle(lines, terms)
	got := outcome{rounded: sheet.Total, exact: sheet.Total}
	if sheet.Tax.IsZero() {
		got.exact = to.Sub(from).Mul(f).Add(next)
	}
	for _, l := range sheet.Lines {
		got.lines = append(got.lines, map[string]billing.Decimal{string(l.Kind): l.Amount, "net": l.Net, "tax": l.Tax})
	}
	got.lines = append(got.lines, map[string]billing.Decimal{"net": sheet.Subtotal}, map[string]billing.Decimal{"tax": sheet.Tax})
	return got
}

func (c *workedCase) partial(p *bag) outcome {
	f := fraction(p, []string{"billed", "remaining", "used", "charged"}, "fraction", "fraction_billed")
	price := p.need("price", "amount", "unit_price")
	if q := p.opt("quantity"); q != nil {
		price = price.Mul(*q)
	}
	f = f.Add(p.dec("full_periods", "cycles"))
	exact := price.Mul(f)
	sheet := billing.Settle([]billing.Line{{ID: "fee", Amount: billing.Minor(exact, c.Currency, billing.HalfUp)}}, c.terms(p, billing.HalfUp))
	got := outcome{exact: exact, rounded: sheet.Total, lines: []map[string]billing.Decimal{{"net": sheet.Subtotal}, {"tax": sheet.Tax}}}
	if !sheet.Tax.IsZero() {
		got.exact = sheet.Total
	}
	return got
}

// upgrade is a new fee for the rest of a period less what was paid for all of
// it: the rule that gives nothing back for the part that was used.
func (c *workedCase) upgrade(p *bag) outcome {
	p.raw("old_price", "change_day_of_month", "change_day")
	p.used["old_price"] = true
	f := fraction(p, []string{"remaining_inclusive", "remaining"}, "fraction_remaining", "fraction")
	if p.under != nil {
		p.under.raw("change_day_of_month")
	}
	e := c.Currency.Exchange(billing.Decimal{}, p.need("new_price"), f, billing.HalfUp)
	paid := p.dec("already_invoiced", "already_paid")
	return outcome{exact: p.need("new_price").Mul(f).Sub(paid), rounded: e.Charge.Sub(paid), lines: []map[string]billing.Decimal{{"charge": e.Charge}, {"credit": paid.Neg()}}}
}

func (c *workedCase) creditNote(p *bag) outcome {
	terms := c.terms(p, billing.HalfUp)
	paid := p.need("paid_net", "net", "amount")
	sheet := billing.Settle([]billing.Line{{ID: "fee", Kind: billing.LineRecurring, Amount: paid}}, terms)
	inv, err := billing.Invoice{Key: "case", Status: billing.Drafted, Currency: c.Currency, Sheet: sheet}.Finalize("GH-2026-000001", "", epoch, 0)
	if err != nil {
		refuse("%v", err)
	}
	if inv, err = inv.Move(billing.Paid, epoch, "case"); err != nil {
		refuse("%v", err)
	}
	credits := p.decs("credits", "credited_net")
	if credits == nil {
		f := fraction(p, []string{"unused", "remaining"}, "fraction_unused", "fraction_remaining")
		credits = append(credits, c.Currency.Unused(paid, f, billing.HalfUp))
	}
	var got outcome
	var notes []billing.CreditNote
	for _, net := range credits {
		note, err := billing.Note(inv, notes, []billing.CreditAsk{{Line: "fee", Net: net}}, billing.ToBalance, "unused", billing.HalfUp, epoch)
		if err != nil {
			refuse("%v", err)
		}
		notes = append(notes, note)
		got.rounded = got.rounded.Add(note.Total)
		got.lines = append(got.lines, map[string]billing.Decimal{"net": note.Subtotal, "tax": note.Tax, "total": note.Total})
	}
	got.exact = got.rounded
	return got
}

func (c *workedCase) stack(p *bag) outcome {
	terms := c.terms(p, billing.HalfUp)
	terms.Minimum = p.dec("minimum", "minimum_amount", "minimum_commitment")
	terms.CreditNotes = balances(p, "credit_notes", "credit_note")
	terms.Wallet = balances(p, "prepaid_credits", "wallet", "prepaid")
	var lines []billing.Line
	rates := map[string][]billing.Tax{}
	for i, raw := range p.list("lines", "fees") {
		l := billing.Line{ID: strconv.Itoa(i)}
		if raw[0] == '{' {
			b := object("lines", raw)
			l.Amount = b.need("amount", "net")
			if rate := b.opt("tax_percent"); rate != nil {
				rates[l.ID] = []billing.Tax{{Code: "VAT", Percent: *rate}}
			}
			b.drained()
		} else {
			l.Amount = scalar("lines", raw)
		}
		lines = append(lines, l)
	}
	if all := terms.Taxes; len(rates) > 0 {
		terms.Taxes = func(l billing.Line) []billing.Tax {
			if taxes, ok := rates[l.ID]; ok || all == nil {
				return taxes
			}
			return all(l)
		}
	}
	s := billing.Settle(lines, terms)
	got := outcome{exact: s.Due, rounded: s.Due, lines: []map[string]billing.Decimal{{
		"subtotal": s.Subtotal, "tax": s.Tax, "total": s.Total, "due": s.Due, "subtotal_excluding_tax": s.Subtotal, "subtotal_including_tax": s.Total,
	}}}
	for _, l := range s.Lines {
		got.lines = append(got.lines, map[string]billing.Decimal{"amount": l.Amount, "discount": l.Discount, "net": l.Net, "tax": l.Tax, string(l.Kind): l.Amount})
	}
	return got
}

func balances(p *bag, names ...string) []billing.Applied {
	var out []billing.Applied
	for i, d := range p.decs(names...) {
		out = append(out, billing.Applied{ID: strconv.Itoa(i), Amount: d})
	}
	return out
}

var intervals = map[string]billing.Cadence{
	"day": {Every: 1, Unit: billing.Day}, "daily": {Every: 1, Unit: billing.Day}, "week": {Every: 1, Unit: billing.Week}, "weekly": {Every: 1, Unit: billing.Week},
	"month": {Every: 1, Unit: billing.Month}, "monthly": {Every: 1, Unit: billing.Month}, "quarter": {Every: 3, Unit: billing.Month}, "quarterly": {Every: 3, Unit: billing.Month},
	"year": {Every: 1, Unit: billing.Year}, "yearly": {Every: 1, Unit: billing.Year}, "annual": {Every: 1, Unit: billing.Year},
}

func (c *workedCase) recurring(p *bag) outcome {
	mrr, customers := p.dec("mrr"), p.dec("customers", "subscribers")
	for _, raw := range p.list("subscriptions") {
		b := object("subscriptions", raw)
		n := billing.Int(1)
		if d := b.opt("count", "quantity"); d != nil {
			n = *d
		}
		cadence := billing.Cadence{Every: 1, Unit: billing.Month}
		if b.has("interval_months") {
			cadence.Every = b.integer("interval_months")
		} else if c := word(b, intervals, "interval", "interval_unit"); c.Unit != "" {
			cadence = c
			if b.has("interval_count") {
				cadence.Every *= b.integer("interval_count")
			}
		}
		fee := b.need("price", "amount").Sub(b.dec("discount_amount"))
		fee = fee.Sub(fee.Mul(b.dec("discount_percent")).Div(billing.Int(100)))
		b.drained()
		mrr, customers = mrr.Add(billing.Monthly(fee.Mul(n), cadence)), customers.Add(n)
	}
	var tenants int
	if _, err := fmt.Sscan(customers.String(), &tenants); err != nil {
		refuse("customers: %v", err)
	}
	m := billing.Bridge{End: mrr, EndTenants: tenants}.Metrics(billing.Int(1))
	value := m.MRR
	switch c.Model {
	case "arr":
		value = m.ARR
	case "arpu":
		value = *m.ARPU
	}
	return outcome{exact: value, rounded: billing.Minor(value, c.Currency, billing.HalfUp), lines: []map[string]billing.Decimal{{"mrr": m.MRR, "arr": m.ARR}}}
}

func (c *workedCase) bridge(p *bag) outcome {
	b := billing.Bridge{
		Start: p.dec("starting_mrr", "start_mrr", "start"), New: p.dec("new_mrr", "new"), Reactivated: p.dec("reactivation_mrr", "reactivation", "reactivated"),
		Expansion: p.dec("expansion_mrr", "expansion"), Contraction: p.dec("contraction_mrr", "contraction"), Churned: p.dec("churned_mrr", "churn_mrr", "churned"),
		StartTenants: p.integer("starting_customers", "customers_start", "start_customers"), LostTenants: p.integer("lost_customers", "churned_customers"),
		EndTenants: p.integer("ending_customers", "end_customers", "customers"),
	}
	b.End = b.Balance()
	margin := billing.Int(1)
	if d := p.opt("gross_margin", "margin"); d != nil {
		margin = *d
	}
	m := b.Metrics(margin)
	percent := func(d *billing.Decimal) billing.Decimal {
		if d == nil {
			refuse("the figure has no divisor")
		}
		return d.Mul(billing.Int(100))
	}
	var value billing.Decimal
	switch c.Model {
	case "nrr":
		value = percent(m.NRR)
	case "grr":
		value = percent(m.GRR)
	case "churn":
		value = percent(m.Churn)
	case "revenue_churn":
		value = percent(m.RevenueChurn)
	case "ltv":
		if arpu, churn := p.opt("arpu"), p.opt("churn_percent", "churn_rate_percent"); arpu != nil && churn != nil {
			value = arpu.Mul(margin).Div(churn.Div(billing.Int(100)))
		} else {
			value = *m.LTV
		}
	default:
		value = b.End
	}
	return outcome{exact: value, rounded: billing.Minor(value, c.Currency, billing.HalfUp)}
}

// wallet burns grants. The total is what is left to pay or, where only
// balances are asked for, the balance.
func (c *workedCase) wallet(p *bag) outcome {
	w := billing.Wallet{Currency: c.Currency}
	now := epoch.AddDate(0, 1, 0)
	if at := p.text("at"); at != "" {
		now = instant(at, time.UTC)
	}
	if c.Model == "rollover" {
		g := billing.Grant{ID: "included", Amount: p.need("included", "granted"), Granted: epoch, Expires: now, Rollover: &billing.Rollover{Max: p.opt("max", "rollover_max", "max_rollover")}}
		must(w.Add(g))
		w.Burn("case", epoch, p.dec("used", "usage"))
		w.Expire(now, time.UTC)
		must(w.Add(billing.Grant{ID: "next", Amount: g.Amount, Granted: now}))
		left := billing.Decimal{}
		for _, u := range w.Usable(now) {
			left = left.Add(u.Amount)
		}
		return outcome{exact: left, rounded: left}
	}
	var got outcome
	for i, raw := range p.list("grants", "credits") {
		b := object("grants", raw)
		g := billing.Grant{ID: strconv.Itoa(i), Amount: b.need("amount", "credits"), Priority: b.integer("priority"), Granted: epoch.Add(time.Duration(i)), Cost: b.dec("cost", "paid_amount")}
		if id := b.text("id", "name"); id != "" {
			g.ID = id
		}
		if at := b.text("granted", "granted_at", "effective_at", "created_at"); at != "" {
			g.Granted = instant(at, time.UTC)
		}
		if at := b.text("expires", "expires_at", "expiry"); at != "" {
			g.Expires = instant(at, time.UTC)
		}
		b.drained()
		must(w.Add(g))
	}
	used := billing.Sum(p.decs("usage", "amount", "charge", "charges", "burn")...)
	left := used
	figures := map[string]billing.Decimal{}
	for _, u := range w.Burn("case", now, used) {
		left = left.Sub(u.Amount)
		figures["burn_"+u.ID] = u.Amount
	}
	must(w.Check())
	for _, g := range w.Grants {
		figures[g.ID] = w.Left(g.ID)
		got.lines = append(got.lines, map[string]billing.Decimal{"balance": w.Left(g.ID)})
	}
	got.lines = append(got.lines, figures)
	got.exact, got.rounded = left, left
	return got
}

func must(err error) {
	if err != nil {
		refuse("%v: %s", err, gatehouse.CodeOf(err))
	}
}

func (c *workedCase) split(p *bag) outcome {
	amount := p.need("amount", "total", "discount")
	var got outcome
	for _, part := range billing.Split(amount, c.Currency, p.decs("weights", "lines", "parts")) {
		got.rounded = got.rounded.Add(part)
		got.lines = append(got.lines, map[string]billing.Decimal{"amount": part, "part": part})
	}
	got.exact = got.rounded
	return got
}
