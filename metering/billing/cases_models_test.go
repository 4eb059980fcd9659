package billing_test

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

// evaluate runs a case through the product.
func (c *workedCase) evaluate(p, u *bag) outcome {
	switch c.Model {
	case "aggregation":
		quantity := c.aggregate(p, u)
		return outcome{exact: quantity, rounded: quantity, views: [][]figure{{nums("units", quantity)}}}
	case "multi_block", "multi_unit":
		return c.several(p, u)
	case "proration_change", "proration_change_tax", "proration_quantity_change", "proration_downgrade", "proration_remove", "proration_add", "proration_swap":
		return c.exchange(p.or(u))
	case "proration_partial", "proration_partial_tax", "proration", "proration_trial", "trial":
		return c.partial(p.or(u))
	case "proration_upgrade":
		return c.upgrade(p.or(u))
	case "credit_note_unused", "credit_note":
		return c.creditNote(p.or(u))
	case "invoice_stack", "invoice", "discount_order", "coupon", "stack":
		return c.stack(p.or(u))
	case "mrr", "arr", "arpu", "arpa":
		return c.recurring(p.or(u))
	case "nrr", "grr", "churn", "revenue_churn", "ltv", "bridge", "mrr_growth", "net_new_mrr", "quick_ratio", "churn_rate", "subscriber_churn", "customer_churn", "logo_churn",
		"gross_mrr_churn", "gross_revenue_churn", "net_revenue_retention", "gross_revenue_retention", "clv", "mrr_bridge":
		return c.bridge(p.or(u))
	case "prepaid", "prepaid_credits", "wallet", "credit_burn", "burn_order", "credits", "rollover", "entitlement_balance":
		return c.wallet(p.or(u))
	case "entitlement":
		return c.entitlement(p.or(u))
	case "split", "allocation", "discount_split", "largest_remainder":
		return c.split(p.or(u))
	}
	return c.priced(p, u)
}

var models = map[string]billing.Model{
	"flat": billing.Flat, "flat_fee": billing.Flat, "fixed": billing.Flat, "recurring": billing.Flat, "fixed_fee": billing.Flat, "one_time": billing.Flat,
	"per_unit": billing.PerUnit, "unit": billing.PerUnit, "standard": billing.PerUnit, "overage": billing.PerUnit, "commitment": billing.PerUnit, "windowed_commitment": billing.PerUnit,
	"commitment_windowed": billing.PerUnit, "spend_commitment": billing.PerUnit, "hybrid": billing.PerUnit, "usage_based": billing.PerUnit, "metered": billing.PerUnit, "minimum": billing.PerUnit,
	"per_seat": billing.PerUnit, "seat": billing.PerUnit, "unit_conversion": billing.PerUnit, "usage_discount": billing.PerUnit, "spending_cap": billing.PerUnit, "free_allowance": billing.PerUnit,
	"weighted_sum": billing.PerUnit, "aggregation_priced": billing.PerUnit, "bucketed": billing.PerUnit, "bucketed_max": billing.PerUnit, "bucketed_sum": billing.PerUnit, "windowed": billing.PerUnit, "per_unit_price": billing.PerUnit,
	"graduated": billing.Graduated, "tiered_graduated": billing.Graduated, "graduated_tiered": billing.Graduated, "tiered": billing.Graduated, "slab": billing.Graduated, "prorated_graduated": billing.Graduated,
	"volume": billing.Volume, "tiered_volume": billing.Volume, "volume_tiered": billing.Volume, "stair_step": billing.Volume, "stairstep": billing.Volume, "tiered_flat": billing.Volume,
	"package": billing.Package, "packages": billing.Package, "block": billing.Package, "percentage": billing.Percentage,
	"graduated_percentage": billing.GraduatedPercentage, "volume_percentage": billing.VolumePercentage, "tiered_percentage": billing.GraduatedPercentage,
	"block_tiers": billing.Blocks, "tiered_blocks": billing.Blocks, "multi_block": billing.Blocks, "tiered_block": billing.Blocks, "dynamic": billing.Dynamic, "custom": billing.Dynamic, "capacity": billing.Capacity,
}

var roundings = map[string]billing.Rounding{
	"up": billing.Up, "ceil": billing.Up, "ceiling": billing.Up, "round_up": billing.Up, "down": billing.Down, "floor": billing.Down, "round_down": billing.Down, "none": billing.Exact,
	"half_up": billing.HalfUp, "round": billing.HalfUp, "nearest": billing.HalfUp, "per_line": billing.HalfUp, "half_even": billing.HalfEven, "bankers": billing.HalfEven, "banker": billing.HalfEven,
}

// model is which model the parameters describe: by name where there is one,
// and by tiers where the name is that of a use.
func (c *workedCase) model(name string, p *bag) billing.Model {
	if said := snake(p.text("model")); said != "" {
		name = said
	}
	m, ok := models[name]
	if !ok {
		refuse("model %q is not known", name)
	}
	tiered := p.has("tiers") && !p.has("unit_price")
	switch {
	case m == billing.PerUnit && tiered:
		return billing.Graduated
	case m == billing.Package && tiered && c.Kind != "divergence":
		return billing.Volume // one flat price for each range
	}
	return m
}

// price reads the price of a case. What the source leaves out about a flat fee
// at zero usage is read as the file's conventions have it: not charged.
func (c *workedCase) price(model string, p, u *bag) *billing.Price {
	m := c.model(model, p)
	price := &billing.Price{ID: "case", Meter: "m", Model: m}
	zero := p.flag(false, "flat_fee_at_zero")
	price.FlatAtZero = &zero
	switch m {
	case billing.Flat:
		price.Amount = p.need("flat_amount")
		if q := p.opt("quantity"); q != nil { // so many of them, not their usage
			price.Amount = price.Amount.Mul(*q)
		}
	case billing.PerUnit:
		money := p.has("committed_amount") && u.has("amount") && !p.has("unit_price")
		if price.Amount = billing.Int(1); !money {
			price.Amount = p.need("unit_price", "overage_price")
		}
	case billing.Dynamic:
		price.Amount = p.dec("multiplier")
	case billing.Package:
		if p.has("tiers") { // the packages are those of the first range
			first := c.tiers(p)[0]
			price.Size, price.Amount = *first.UpTo, first.FlatFee.Add(first.UnitPrice)
			break
		}
		price.Size, price.Amount = p.need("size"), p.need("package_price")
		price.PackageRound = word(p, roundings, "package_round")
	case billing.Blocks:
		c.blocks(price, p)
	case billing.Percentage:
		price.Rate = p.dec("rate_percent").Add(p.dec("rate_fraction").Mul(billing.Int(100)))
		price.Fee, price.FreeEvents, price.FreeAmount = p.dec("fee"), p.integer("free_events"), p.dec("free_amount")
		price.EventMin, price.EventMax = p.opt("event_min"), p.opt("event_max")
	default:
		if m == billing.Capacity {
			p.idle("policy") // of blocks
		}
		price.Tiers = c.tiers(p)
	}
	c.modifiers(price, p)
	return price
}

var endless = []string{"", "null", "inf", "infinity", "+inf", "unlimited", "unbounded", "none", "-1", "max"}

func (c *workedCase) tiers(p *bag) []billing.Tier {
	var out []billing.Tier
	bound := billing.Decimal{}
	for _, raw := range p.list("tiers") {
		b := object("tiers", raw)
		t := billing.Tier{UnitPrice: b.dec("tier_unit"), FlatFee: b.dec("tier_fee"), Rate: b.dec("rate_percent").Add(b.dec("rate_fraction").Mul(billing.Int(100)))}
		if from := b.opt("from"); from != nil && from.Cmp(bound) != 0 && from.Sub(bound).Cmp(billing.Int(1)) != 0 {
			refuse("tiers: the tier after %s begins at %s", bound, from)
		}
		if raw := b.raw("up_to"); !slices.Contains(endless, strings.ToLower(strings.Trim(string(raw), `"`))) {
			to := scalar("up_to", raw)
			t.UpTo, bound = &to, to
		}
		if raw := b.raw("limits"); raw != nil {
			t.Limits = map[string]billing.Decimal{}
			for name, limit := range object("limits", raw).vals {
				if d := scalar(name, limit); d.Sign() >= 0 {
					t.Limits[name] = d
				}
			}
		}
		b.drained()
		out = append(out, t)
	}
	if out == nil {
		refuse("%s: tiers are missing", p.name)
	}
	return out
}

func (c *workedCase) blocks(price *billing.Price, p *bag) {
	price.Policy = word(p, map[string]billing.BlockPolicy{"all_tiers": billing.AllTiers, "all_tier": billing.AllTiers, "top_tier": billing.TopTier}, "policy")
	for _, raw := range p.list("blocks") {
		b := object("blocks", raw)
		block := billing.Block{Size: b.need("size"), Price: b.need("package_price")}
		if bound := b.opt("max"); bound != nil && bound.Sign() >= 0 {
			block.Max = bound
		}
		b.drained()
		price.Blocks = append(price.Blocks, block)
	}
	if price.Blocks == nil {
		refuse("%s: blocks are missing", p.name)
	}
}

// modifiers reads what any price may have.
func (c *workedCase) modifiers(price *billing.Price, p *bag) {
	price.Included = price.Included.Add(p.dec("included")).Add(p.dec("usage_discount"))
	price.Discount = price.Discount.Add(p.dec("discount_percent")).Add(p.dec("discount_fraction").Mul(billing.Int(100)))
	price.Minimum = price.Minimum.Max(p.dec("minimum"))
	if most := p.opt("maximum"); most != nil {
		price.Maximum = most
	}
	c.conversion(price, p)
	if !p.has("committed_units", "committed_amount") {
		return
	}
	word(p, map[string]bool{"quantity": true, "units": true, "amount": true, "spend": true}, "commitment_type")
	price.Commitment = &billing.Commitment{Units: p.dec("committed_units"), Amount: p.dec("committed_amount"), Overage: p.opt("overage_factor"), TrueUp: p.flag(false, "true_up")}
	if at := p.opt("overage_price"); at != nil {
		factor := at.Div(price.Amount)
		price.Commitment.Overage = &factor
	}
	price.Commitment.Windowed = p.flag(strings.Contains(c.Model, "window"), "windowed")
}

func (c *workedCase) conversion(price *billing.Price, p *bag) {
	if !p.has("convert_divide", "convert_multiply", "convert_factor") {
		return
	}
	price.Convert = &billing.Conversion{Divide: p.opt("convert_divide"), Multiply: p.opt("convert_multiply"), Round: word(p, roundings, "convert_round"), Places: p.integer("convert_places")}
	if factor := p.opt("convert_factor"); factor != nil {
		switch p.text("convert_operation") {
		case "multiply":
			price.Convert.Multiply = factor
		case "divide":
			price.Convert.Divide = factor
		default:
			refuse("convert_operation is missing or not known")
		}
	}
}

// final tells whether the line is the last of its period, so that minimums
// are due.
func final(b *bag) bool {
	last := b.flag(true, "final") && !b.flag(false, "mid_period")
	switch mode := snake(b.text("line_mode")); {
	case mode == "" || strings.Contains(mode, "single") || strings.Contains(mode, "last") || strings.Contains(mode, "final") || strings.Contains(mode, "full"):
		return last
	case strings.Contains(mode, "mid") || strings.Contains(mode, "first") || strings.Contains(mode, "progressive"):
		return false
	default:
		refuse("line_mode: %q is not known", mode)
	}
	return last
}

// priced rates the usage of a case and sums its lines.
func (c *workedCase) priced(p, u *bag) outcome {
	both := u.or(p)
	var price *billing.Price
	if inner := p.raw("inner"); inner != nil {
		b := object("inner", inner)
		price = c.price("", b, u)
		b.drained()
		if price.Commitment != nil {
			price.Commitment.Windowed = true
		}
		c.modifiers(price, p)
	} else {
		price = c.price(c.Model, p, u)
	}
	if u.has("buckets") && price.Commitment != nil {
		price.Commitment.Windowed = true
	}
	// Some systems rate each piece of a split on its own; this product is
	// cumulative whatever a source says.
	word(p, map[string]string{"per_line": "x", "cumulative": "x"}, "split_rule")
	mode := billing.HalfUp
	if p.has("rounding") {
		mode = word(p, roundings, "rounding")
	}
	if fraction := both.opt("minimum_proration"); fraction != nil {
		price.Minimum = price.Minimum.Mul(*fraction)
	}
	now := c.metered(price, p, u)
	before := billing.Usage{Quantity: both.dec("previous_quantity"), Events: both.decs("previous_events"), Count: both.integer("previous_count")}
	now.Quantity = now.Quantity.Add(before.Quantity)
	now.Count += before.Count
	now.Events = append(before.Events[:len(before.Events):len(before.Events)], now.Events...)
	if len(now.Events) == 0 {
		now.Events = nil
	}
	one := billing.Int(1)
	split := before.Quantity.Sign() > 0 || before.Events != nil
	var earlier billing.Rating
	if split {
		earlier = price.Rating(before, false, one)
	}
	billed, exactBilled := billing.Minor(earlier.Amount(), c.Currency, mode), earlier.Amount()
	if d := both.opt("previously_billed"); d != nil {
		billed, exactBilled = *d, *d
	}
	due := price.Due(c.Currency, mode, now, billed, final(both), one)
	lines := []billing.Line{{ID: "usage", Kind: billing.LineUsage, Amount: due.Usage}}
	exact := due.Rating.Amount().Sub(exactBilled)
	if due.TrueUp.Sign() != 0 {
		lines = append(lines, billing.Line{ID: "true_up", Kind: billing.LineTrueUp, Amount: due.TrueUp})
	}
	if base := p.opt("base_fee"); base != nil && price.Model != billing.Flat {
		lines = append(lines, billing.Line{ID: "base", Kind: billing.LineRecurring, Amount: billing.Minor(*base, c.Currency, mode)})
		exact = exact.Add(*base)
	}
	sheet := billing.Settle(lines, c.terms(p, mode))
	got := outcome{rounded: sheet.Total, exact: sheet.Total, views: [][]figure{onInvoice(sheet), itemised(price, due, earlier)}}
	if sheet.Tax.IsZero() && len(sheet.Discounts) == 0 {
		got.exact = exact
	}
	return got
}

// onInvoice is the view of lines and sums as a document has them.
func onInvoice(s billing.Sheet) []figure {
	var out []figure
	for _, l := range s.Lines {
		f := nums("amount", l.Amount, "net", l.Net, "tax", l.Tax, "total", l.Net.Add(l.Tax), "discount", l.Discount.Neg(), string(l.Kind), l.Amount)
		switch l.Kind {
		case billing.LineMinimum:
			f.nums["true_up"] = l.Amount
		case billing.LineCredit, billing.LineCharge:
			f.nums[string(l.Kind)] = l.Amount.Sub(l.Discount)
		}
		out = append(out, f)
	}
	return append(out, nums("subtotal", s.Subtotal, "tax", s.Tax, "total_including_tax", s.Total, "due", s.Due), nums("net", s.Subtotal), nums("tax", s.Tax))
}

// itemised is the view of how the amount of one price comes about: what this
// line adds to those before it.
func itemised(p *billing.Price, due billing.Due, earlier billing.Rating) []figure {
	r := due.Rating
	out := []figure{nums("usage", r.Gross.Sub(earlier.Gross)), nums("units", r.Units.Sub(earlier.Units))}
	if c := p.Commitment; c != nil {
		agreed := c.Amount
		if c.Units.Sign() > 0 {
			agreed = p.Rating(billing.Usage{Quantity: c.Units}, false, billing.Int(1)).Gross
		}
		base := r.Gross.Min(agreed)
		out = append(out, nums("commitment", base), nums("overage", r.Gross.Sub(base).Add(r.Overage)))
	}
	if off := r.Discount.Sub(earlier.Discount); !off.IsZero() {
		out = append(out, nums("discount", off.Neg()))
	}
	cut := func(r billing.Rating) billing.Decimal { return r.Charge.Sub(r.Gross.Add(r.Overage).Sub(r.Discount)) }
	if off := cut(r).Sub(cut(earlier)); !off.IsZero() {
		out = append(out, nums("max_spend", off))
	}
	if due.TrueUp.Sign() != 0 {
		out = append(out, nums("true_up", due.TrueUp))
	}
	for i, part := range r.Parts {
		for _, was := range earlier.Parts {
			if part.Tier == was.Tier {
				part.Units, part.Amount, part.FlatFee = part.Units.Sub(was.Units), part.Amount.Sub(was.Amount), part.FlatFee.Sub(was.FlatFee)
			}
		}
		f := nums("tier", billing.Int(int64(part.Tier)), "units", part.Units, "amount", part.Amount, "flat_fee", part.FlatFee, "unit_price", part.UnitPrice)
		if p.Model == billing.Percentage {
			f.nums[[]string{"percentage", "fixed", "bound"}[i]] = part.Amount
		}
		out = append(out, f)
	}
	return out
}

// terms reads what an invoice is settled by.
func (c *workedCase) terms(p *bag, mode billing.Rounding) billing.Terms {
	t := billing.Terms{Currency: c.Currency, Rounding: mode, TaxIncluded: p.flag(false, "tax_inclusive")}
	for i, raw := range p.list("coupons") {
		d := billing.Discount{ID: strconv.Itoa(i)}
		if raw[0] != '{' {
			d.Amount = scalar("coupons", raw)
			t.Discounts = append(t.Discounts, d)
			continue
		}
		b := object("coupons", raw)
		switch kind := snake(b.text("type")); kind {
		case "percent", "percentage", "rate":
			d.Percent = b.need("value", "rate_percent")
		case "":
			d.Percent, d.Amount = b.dec("rate_percent"), b.dec("value")
		case "fixed", "amount", "fixed_amount":
			d.Amount = b.need("value")
		default:
			refuse("coupons: %q is not known", kind)
		}
		b.drained()
		t.Discounts = append(t.Discounts, d)
	}
	if d := p.dec("coupon_percent"); d.Sign() > 0 {
		t.Discounts = append(t.Discounts, billing.Discount{ID: "percent", Percent: d})
	}
	if d := billing.Sum(p.decs("coupon")...); d.Sign() > 0 {
		t.Discounts = append(t.Discounts, billing.Discount{ID: "amount", Amount: d})
	}
	if taxes := taxes(p); taxes != nil {
		t.Taxes = func(billing.Line) []billing.Tax { return taxes }
	}
	return t
}

// taxes are the taxes on all lines.
func taxes(p *bag) []billing.Tax {
	var out []billing.Tax
	if rate := p.opt("tax_percent"); rate != nil {
		out = append(out, billing.Tax{Code: "VAT", Percent: *rate})
	}
	if rate := p.rate("tax_rate"); rate != nil {
		out = append(out, billing.Tax{Code: "VAT", Percent: *rate})
	}
	for i, raw := range p.list("tax_percents") {
		code := "T" + strconv.Itoa(i)
		if raw[0] != '{' {
			out = append(out, billing.Tax{Code: code, Percent: scalar("taxes", raw)})
			continue
		}
		b := object("taxes", raw)
		out = append(out, billing.Tax{Code: code, Percent: b.need("rate_percent", "tax_percent")})
		b.drained()
	}
	return out
}

// metered reads the usage that is charged.
func (c *workedCase) metered(price *billing.Price, p, u *bag) billing.Usage {
	if raw := u.list("buckets"); raw != nil {
		return billing.Usage{Buckets: c.buckets(raw, p)}
	}
	if p.has("aggregation") || u.has("levels") || c.Model == "weighted_sum" {
		return billing.Usage{Quantity: c.aggregate(p, u)}
	}
	out := c.usage(price, u, p)
	if out.Events != nil && price.Model != billing.Percentage && price.Model != billing.Dynamic {
		out.Quantity, out.Events = billing.Sum(out.Events...), nil
	}
	return out
}

func (c *workedCase) usage(price *billing.Price, u, p *bag) billing.Usage {
	var out billing.Usage
	told := price.Model == billing.Flat
	if d := u.opt("quantity"); d != nil {
		out.Quantity, told = *d, true
	} else if d := p.opt("quantity"); d != nil {
		if told = true; price.Model != billing.Flat {
			out.Quantity = *d
		}
	}
	if d := u.opt("amount"); d != nil {
		out.Quantity, told = *d, true
	}
	if raw := u.raw("events"); raw != nil && raw[0] != '[' {
		out.Count, told = u.integer("events"), true // so many
	} else {
		for _, raw := range u.list("events") {
			if raw[0] == '{' {
				b := object("events", raw)
				out.Events = append(out.Events, b.need("event_amount"))
				b.idle("quantity", "time")
				b.drained()
				continue
			}
			out.Events = append(out.Events, scalar("events", raw))
		}
		told = told || raw != nil
	}
	if u.has("events_count") {
		out.Count = u.integer("events_count")
	}
	if price.Model == billing.Capacity && !told {
		out.Peaks = peaks(u)
		told = len(out.Peaks) > 0
	}
	if !told && !u.has("previous_quantity", "previous_events") {
		refuse("usage: the quantity is missing")
	}
	return out
}

// peaks reads the largest values by meter: an object, or the usage itself.
func peaks(u *bag) map[string]billing.Decimal {
	out, of := map[string]billing.Decimal{}, u
	if raw := u.raw("peaks"); raw != nil {
		of = object("peaks", raw)
	}
	for name, v := range of.vals {
		of.used[name] = name
		out[name] = scalar(name, v)
	}
	return out
}

var aggregations = map[string]billing.Aggregation{
	"sum": billing.Total, "total": billing.Total, "sum_with_multiplier": billing.Total, "count": billing.Count, "max": billing.Max, "maximum": billing.Max, "latest": billing.Latest, "last": billing.Latest,
	"last_during_period": billing.Latest, "unique": billing.Unique, "distinct": billing.Unique, "unique_count": billing.Unique, "count_unique": billing.Unique, "count_distinct": billing.Unique,
	"distinct_count": billing.Unique, "weighted_sum": billing.Weighted, "weighted": billing.Weighted, "avg": billing.Mean, "average": billing.Mean, "mean": billing.Mean, "min": billing.Min, "minimum": billing.Min,
	"sum_agg": billing.Total, "count_agg": billing.Count, "max_agg": billing.Max, "latest_agg": billing.Latest, "unique_count_agg": billing.Unique, "weighted_sum_agg": billing.Weighted,
}

// buckets aggregates what each bucket has, by the largest where nothing is
// said.
func (c *workedCase) buckets(raw []json.RawMessage, p *bag) []billing.Decimal {
	kind := billing.Max
	if p.has("bucket_aggregation") {
		kind = word(p, aggregations, "bucket_aggregation")
	}
	p.idle("bucket_size") // the buckets are given
	out := []billing.Decimal{}
	for _, b := range raw {
		var values []json.RawMessage
		var object map[string]json.RawMessage
		switch {
		case json.Unmarshal(b, &values) == nil:
		case json.Unmarshal(b, &object) == nil:
			if len(object) != 1 {
				refuse("buckets: %s has more than its value", b)
			}
			for name, v := range object {
				if _, known := aggregations[name]; !known && !slices.Contains(append(spellings["quantity"], "quantity"), name) {
					refuse("buckets: %q is not known here", name)
				}
				values = append(values, v)
			}
		default:
			values = append(values, b)
		}
		var samples []billing.Sample
		for i, v := range values {
			s := billing.Sample{Time: epoch.Add(time.Duration(i)), Key: string(v)}
			if kind != billing.Unique && kind != billing.Count {
				s.Value = scalar("buckets", v)
			}
			samples = append(samples, s)
		}
		out = append(out, billing.Aggregate(kind, samples, billing.Period{Start: epoch, End: epoch.AddDate(1, 0, 0)}, billing.Decimal{}))
	}
	return out
}

// epoch is when the periods of cases begin that name no dates.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// span reads a length of time in one of several units.
func span(b *bag, field string) (time.Duration, bool) {
	for _, unit := range []struct {
		name string
		of   time.Duration
	}{{"days", 24 * time.Hour}, {"hours", time.Hour}, {"mins", time.Minute}, {"secs", time.Second}} {
		if d := b.opt(field + "_" + unit.name); d != nil {
			ns, err := strconv.ParseInt(d.Mul(billing.Int(int64(unit.of))).Round(0, billing.HalfUp).String(), 10, 64)
			if err != nil {
				refuse("%s: %v", field, err)
			}
			return time.Duration(ns), true
		}
	}
	return 0, false
}

// aggregate makes the quantity of events or of levels over time.
func (c *workedCase) aggregate(p, u *bag) billing.Decimal {
	kind := word(p, aggregations, "aggregation")
	if kind == "" && c.Model == "weighted_sum" {
		kind = billing.Weighted
	}
	both := u.or(p)
	zone := zoneOf(both)
	period := billing.Period{Start: epoch}
	if from := both.text("period_start"); from != "" {
		period = billing.Period{Start: instant(from, zone), End: instant(both.text("period_end"), zone)}
	} else if d, ok := span(both, "period_lasts"); ok {
		period.End = epoch.Add(d)
	}
	var got billing.Decimal
	if raw := u.list("levels"); raw != nil {
		got = levels(raw, period)
	} else {
		if !u.has("events") {
			refuse("usage: events are missing")
		}
		samples := c.samples(kind, p.text("field"), period, zone, u)
		if period.End.IsZero() && kind == billing.Weighted {
			refuse("the period is missing")
		}
		if period.End.IsZero() { // all of them
			period = billing.Period{Start: epoch.AddDate(-100, 0, 0), End: epoch.AddDate(100, 0, 0)}
		}
		got = billing.Aggregate(kind, samples, period, both.dec("initial_level"))
	}
	if c.Model == "aggregation" {
		if times := p.opt("multiplier"); times != nil {
			got = got.Mul(*times)
		}
		if mode := word(p, roundings, "rounding_function"); mode != "" {
			got = got.Round(p.integer("precision"), mode)
		}
	}
	return got
}

// samples reads events. They are at their times, or else in order.
func (c *workedCase) samples(kind billing.Aggregation, field string, period billing.Period, zone *time.Location, u *bag) []billing.Sample {
	var out []billing.Sample
	if raw := u.raw("events"); raw[0] != '[' {
		if kind != billing.Count {
			refuse("usage: %s events have no values", raw)
		}
		for range u.integer("events") {
			out = append(out, billing.Sample{Time: period.Start})
		}
		return out
	}
	gone := map[string]int{}
	for i, raw := range u.list("events") {
		s := billing.Sample{Time: period.Start.Add(time.Duration(i) * time.Nanosecond), Order: strconv.Itoa(1_000_000 + i)}
		value := raw
		if raw[0] == '{' {
			b := object("events", raw)
			if value = b.vals[snake(field)]; value == nil {
				if value = b.vals["value"]; field == "" && value == nil && len(b.vals) == 1 {
					for _, value = range b.vals {
					}
				}
			}
			if after, ok := span(b, "event_after"); ok {
				s.Time = period.Start.Add(after)
			} else if day := b.opt("day"); day != nil {
				s.Time = period.Start.AddDate(0, 0, b.integer("day")-1)
			} else if at := b.text("time"); at != "" {
				s.Time = instant(at, zone)
			}
			if op := snake(b.text("operation")); op == "remove" {
				gone[string(value)] = i
			}
		}
		if value == nil && kind != billing.Count {
			refuse("an event has no %q", field)
		}
		s.Key = strings.Trim(string(value), `"`)
		if kind != billing.Unique && kind != billing.Count {
			s.Value = scalar("events", value)
		}
		out = append(out, s)
		if kind == billing.Unique {
			for key, at := range gone {
				if at == i {
					out = slices.DeleteFunc(out, func(s billing.Sample) bool { return s.Key == strings.Trim(key, `"`) })
				}
			}
		}
	}
	return out
}

func levels(raw []json.RawMessage, period billing.Period) billing.Decimal {
	at, level := period.Start, billing.Decimal{}
	var samples []billing.Sample
	for _, r := range raw {
		b := object("levels", r)
		next := b.need("level")
		lasts, ok := span(b, "level_lasts")
		if !ok {
			refuse("levels: a segment has no length")
		}
		b.drained()
		samples = append(samples, billing.Sample{Time: at, Value: next.Sub(level)})
		at, level = at.Add(lasts), next
	}
	if at.After(period.End) {
		refuse("levels: the segments are longer than the period")
	}
	samples = append(samples, billing.Sample{Time: at, Value: level.Neg()})
	return billing.Aggregate(billing.Weighted, samples, period, billing.Decimal{})
}

// several prices a product with several units, each on its own, and sums
// them.
func (c *workedCase) several(p, u *bag) outcome {
	got, lines, document := outcome{}, []billing.Line{}, []figure{}
	policy := p.raw("policy")
	listed := u.list("peaks")
	for i, raw := range p.list("units") {
		b := object("units", raw)
		own := newBag("units", map[string]json.RawMessage{})
		var name string
		if text := b.vals["unit"]; text != nil {
			if err := json.Unmarshal(text, &name); err != nil {
				refuse("unit: %v", err)
			}
		}
		switch usage, ok := u.vals[snake(name)]; {
		case ok:
			u.used[snake(name)] = "units"
			own.vals["quantity"] = usage
		case i < len(listed):
			own.vals["quantity"] = listed[i]
		}
		if _, ok := b.vals["policy"]; !ok && policy != nil && c.Model == "multi_block" {
			b.vals["policy"] = policy
		}
		one := workedCase{Model: c.Model, Currency: c.Currency}
		o := one.priced(b, own)
		b.drained()
		own.drained()
		got.exact = got.exact.Add(o.exact)
		document = append(document, nums("amount", o.rounded, "total", o.rounded))
		lines = append(lines, billing.Line{ID: strconv.Itoa(i), Kind: billing.LineUsage, Amount: o.rounded})
	}
	if len(lines) == 0 {
		refuse("units are missing")
	}
	terms := c.terms(p, billing.HalfUp)
	if terms.Minimum = p.dec("minimum"); p.has("minimum_proration") {
		terms.Minimum = terms.Minimum.Mul(p.need("minimum_proration"))
	}
	sheet := billing.Settle(lines, terms)
	if got.rounded = sheet.Total; sheet.Total.Cmp(billing.Minor(got.exact, c.Currency, billing.HalfUp)) != 0 {
		got.exact = sheet.Total
	}
	got.views = [][]figure{onInvoice(sheet), document}
	return got
}
