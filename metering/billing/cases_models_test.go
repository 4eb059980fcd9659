package billing_test

import (
	"encoding/json"
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
		return outcome{exact: quantity, rounded: quantity}
	case "aggregation_priced", "weighted_sum", "bucketed", "windowed":
		return c.priced(p, u)
	case "multi_block", "multi_unit":
		return c.several(p)
	case "proration_change", "proration_change_tax", "proration_quantity_change":
		return c.exchange(p)
	case "proration_partial", "proration", "proration_trial", "trial":
		return c.partial(p)
	case "proration_upgrade":
		return c.upgrade(p)
	case "credit_note_unused", "credit_note":
		return c.creditNote(p)
	case "invoice_stack", "invoice", "discount_order", "coupon":
		return c.stack(p)
	case "mrr", "arr", "arpu":
		return c.recurring(p)
	case "nrr", "grr", "churn", "revenue_churn", "ltv", "bridge":
		return c.bridge(p)
	case "prepaid", "prepaid_credits", "wallet", "credit_burn", "burn_order", "rollover":
		return c.wallet(p)
	case "split", "allocation", "discount_split", "largest_remainder":
		return c.split(p)
	}
	return c.priced(p, u)
}

var models = map[string]billing.Model{
	"flat": billing.Flat, "flat_fee": billing.Flat, "fixed": billing.Flat, "recurring": billing.Flat, "fixed_fee": billing.Flat, "one_time": billing.Flat,
	"per_unit": billing.PerUnit, "unit": billing.PerUnit, "standard": billing.PerUnit, "overage": billing.PerUnit, "commitment": billing.PerUnit, "windowed_commitment": billing.PerUnit,
	"per_seat": billing.PerUnit, "unit_conversion": billing.PerUnit, "usage_discount": billing.PerUnit, "spending_cap": billing.PerUnit, "free_allowance": billing.PerUnit,
	"weighted_sum": billing.PerUnit, "aggregation_priced": billing.PerUnit,
	"graduated": billing.Graduated, "tiered_graduated": billing.Graduated, "tiered": billing.Graduated, "slab": billing.Graduated,
	"volume": billing.Volume, "tiered_volume": billing.Volume, "stair_step": billing.Volume, "stairstep": billing.Volume,
	"package": billing.Package, "block": billing.Package, "percentage": billing.Percentage,
	"graduated_percentage": billing.GraduatedPercentage, "volume_percentage": billing.VolumePercentage,
	"block_tiers": billing.Blocks, "multi_block": billing.Blocks, "tiered_block": billing.Blocks, "dynamic": billing.Dynamic, "capacity": billing.Capacity,
}

var roundings = map[string]billing.Rounding{
	"up": billing.Up, "ceil": billing.Up, "ceiling": billing.Up, "down": billing.Down, "floor": billing.Down, "none": billing.Exact,
	"half_up": billing.HalfUp, "round": billing.HalfUp, "nearest": billing.HalfUp, "half_even": billing.HalfEven, "bankers": billing.HalfEven,
}

// price reads the price of a case. What the source leaves out about a flat fee
// at zero usage is read as the file's conventions have it: not charged.
func (c *workedCase) price(model string, p *bag) *billing.Price {
	m, ok := models[model]
	if !ok {
		refuse("model %q is not known", model)
	}
	price := &billing.Price{ID: "case", Meter: "m", Model: m}
	zero := p.flag(false, "flat_fee_at_zero", "flat_at_zero")
	price.FlatAtZero = &zero
	switch m {
	case billing.Flat:
		price.Amount = p.need("amount", "flat_amount", "flat_fee", "price", "unit_price")
	case billing.PerUnit:
		price.Amount = p.need("unit_price", "unit_amount", "price_per_unit", "price", "overage_price", "amount")
	case billing.Dynamic:
		price.Amount = p.dec("multiplier")
	case billing.Package:
		price.Size = p.need("package_size", "size", "block_size", "divide_by", "quantity_per_package")
		price.Amount = p.need("package_price", "price", "block_price", "amount", "unit_price")
		price.PackageRound = word(p, roundings, "round", "rounding", "package_round")
	case billing.Blocks:
		c.blocks(price, p)
	case billing.Percentage:
		price.Rate = p.percent([]string{"rate_percent", "rate", "percent", "percentage"}, "rate_fraction")
	default:
		price.Tiers = c.tiers(p)
	}
	c.events(price, p)
	c.modifiers(price, p)
	return price
}

func (c *workedCase) tiers(p *bag) []billing.Tier {
	var out []billing.Tier
	for _, raw := range p.list("tiers", "ranges") {
		b := object("tiers", raw)
		t := billing.Tier{
			UnitPrice: b.dec("unit_price", "unit_amount", "per_unit_amount", "amount"), FlatFee: b.dec("flat_fee", "flat_amount", "flat_price", "price"),
			Rate: b.percent([]string{"rate_percent", "rate", "percent"}, "rate_fraction"),
		}
		b.raw("from", "from_value")
		if text := strings.Trim(string(b.raw("up_to", "to", "to_value", "max")), `"`); text != "" && text != "inf" && text != "-1" {
			bound := scalar("up_to", json.RawMessage(text))
			t.UpTo = &bound
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
	price.Policy = word(p, map[string]billing.BlockPolicy{"all_tiers": billing.AllTiers, "all_tier": billing.AllTiers, "top_tier": billing.TopTier}, "policy", "tier_block_policy")
	for _, raw := range p.list("tiers", "blocks") {
		b := object("tiers", raw)
		block := billing.Block{Size: b.need("block_size", "size"), Price: b.need("price", "block_price", "unit_price")}
		if bound := b.opt("max_blocks", "max"); bound != nil && bound.Sign() >= 0 {
			block.Max = bound
		}
		b.drained()
		price.Blocks = append(price.Blocks, block)
	}
}

// events reads what belongs to the percentage models.
func (c *workedCase) events(price *billing.Price, p *bag) {
	if price.Model != billing.Percentage {
		return
	}
	price.Fee = p.dec("fixed_fee_per_event", "fixed_fee", "fixed_amount", "fee_per_event")
	price.FreeEvents = p.integer("free_events", "free_units_per_events")
	price.FreeAmount = p.dec("free_amount", "free_units_per_total_aggregation")
	price.EventMin = p.opt("per_event_min", "per_transaction_min", "per_transaction_min_amount")
	price.EventMax = p.opt("per_event_max", "per_transaction_max", "per_transaction_max_amount")
}

// modifiers reads what any price may have.
func (c *workedCase) modifiers(price *billing.Price, p *bag) {
	price.Included = price.Included.Add(p.dec("free_units", "included_units", "included", "free_quantity", "free_allowance")).Add(p.dec("usage_discount", "usage_discount_units", "usage_discount_quantity"))
	price.Discount = price.Discount.Add(p.percent([]string{"discount_percent", "percentage_discount", "discount_percentage"}, "discount_fraction"))
	price.Minimum = price.Minimum.Max(p.dec("minimum_amount", "min_amount", "minimum", "minimum_spend"))
	if most := p.opt("maximum_amount", "max_amount", "maximum", "maximum_spend", "spending_cap", "spend_cap"); most != nil {
		price.Maximum = most
	}
	if p.has("convert_divide_by", "convert_multiply_by", "convert_multiply", "convert_divide") {
		price.Convert = &billing.Conversion{
			Divide: p.opt("convert_divide_by", "convert_divide"), Multiply: p.opt("convert_multiply_by", "convert_multiply"),
			Round: word(p, roundings, "convert_round", "convert_rounding"), Places: p.integer("convert_precision", "convert_places"),
		}
	}
	if p.has("committed_units", "committed_amount", "commitment_quantity", "commitment_units", "commitment_amount", "commitment") {
		price.Commitment = &billing.Commitment{
			Units: p.dec("committed_units", "commitment_quantity", "commitment_units"), Amount: p.dec("committed_amount", "commitment_amount", "commitment"),
			Overage: p.opt("overage_factor"), TrueUp: p.flag(false, "true_up"), Windowed: p.flag(c.Model == "windowed_commitment" || p.has("buckets", "windows"), "windowed", "windowed_commitment"),
		}
	}
}

// priced rates the usage of a case and sums its lines.
func (c *workedCase) priced(p, u *bag) outcome {
	var price *billing.Price
	if inner := p.raw("inner"); inner != nil {
		b := object("inner", inner)
		price = c.price(b.text("model"), b)
		b.drained()
		if price.Commitment != nil {
			price.Commitment.Windowed = true
		}
		c.modifiers(price, p)
	} else {
		price = c.price(c.Model, p)
	}
	// Some systems rate each piece of a split on its own; this product is
	// cumulative whatever a source says.
	word(p, map[string]string{"per_line": "x", "cumulative": "x"}, "split_rule")
	mode := billing.HalfUp
	if price.Model != billing.Package {
		mode = word(p, roundings, "rounding", "rounding_mode")
	}
	var now billing.Usage
	if p.has("aggregation") || u.has("level_segments") {
		now = billing.Usage{Quantity: c.aggregate(p, u)}
	} else {
		now = c.usage(price, u)
	}
	before := billing.Usage{Quantity: u.dec("previous_quantity", "previous_amount", "pre_line_quantity"), Events: u.decs("previous_events"), Count: u.integer("previous_count")}
	now.Quantity = now.Quantity.Add(before.Quantity)
	now.Count += before.Count
	now.Events = append(before.Events[:len(before.Events):len(before.Events)], now.Events...)
	if len(now.Events) == 0 {
		now.Events = nil
	}
	fraction := billing.Int(1)
	if f := p.opt("minimum_proration", "proration", "proration_fraction"); f != nil {
		fraction = *f
	}
	final := p.flag(true, "final", "last_line", "last_in_period")
	switch p.text("line_mode") {
	case "", "single", "single_per_period", "last", "last_in_period":
	case "mid", "mid_period":
		final = false
	default:
		refuse("line_mode is not known")
	}
	billed, exactBilled := billing.Decimal{}, billing.Decimal{}
	if d := p.opt("previously_billed", "already_billed", "already_invoiced"); d != nil {
		billed, exactBilled = *d, *d
	} else if before.Quantity.Sign() > 0 || before.Events != nil {
		exactBilled = price.Rating(before, false, fraction).Amount()
		billed = billing.Minor(exactBilled, c.Currency, mode)
	}
	due := price.Due(c.Currency, mode, now, billed, final, fraction)
	lines := []billing.Line{{ID: "usage", Kind: billing.LineUsage, Amount: due.Usage}}
	if due.TrueUp.Sign() != 0 {
		lines = append(lines, billing.Line{ID: "true_up", Kind: billing.LineTrueUp, Amount: due.TrueUp})
	}
	sheet := billing.Settle(lines, c.terms(p, mode))
	got := outcome{rounded: sheet.Total, exact: sheet.Total}
	if sheet.Tax.IsZero() && len(sheet.Discounts) == 0 {
		got.exact = due.Rating.Amount().Sub(exactBilled)
	}
	for _, l := range sheet.Lines {
		figures := map[string]billing.Decimal{string(l.Kind): l.Amount, "amount": l.Amount, "net": l.Net, "tax": l.Tax, "total": l.Net.Add(l.Tax)}
		if l.Kind == billing.LineTrueUp {
			figures["minimum"], figures["min_spend"], figures["commitment"] = l.Amount, l.Amount, l.Amount
		}
		got.lines = append(got.lines, figures)
	}
	for _, part := range due.Rating.Parts {
		got.lines = append(got.lines, map[string]billing.Decimal{"tier": billing.Int(int64(part.Tier)), "units": part.Units, "quantity": part.Units, "amount": part.Amount, "flat_fee": part.FlatFee, "unit_price": part.UnitPrice})
	}
	if d := due.Rating.Discount; !d.IsZero() {
		got.lines = append(got.lines, map[string]billing.Decimal{"discount": d})
	}
	if o := due.Rating.Overage; !o.IsZero() {
		got.lines = append(got.lines, map[string]billing.Decimal{"overage": o})
	}
	if !now.Quantity.IsZero() {
		got.lines = append(got.lines, map[string]billing.Decimal{"units": due.Rating.Units, "quantity": due.Rating.Units})
	}
	return got
}

// terms reads what an invoice is settled by.
func (c *workedCase) terms(p *bag, mode billing.Rounding) billing.Terms {
	t := billing.Terms{Currency: c.Currency, Rounding: mode, TaxIncluded: p.flag(false, "tax_inclusive", "tax_included")}
	for i, raw := range p.list("discounts", "coupons") {
		b := object("discounts", raw)
		t.Discounts = append(t.Discounts, billing.Discount{ID: strconv.Itoa(i), Percent: b.dec("percent"), Amount: b.dec("amount")})
		b.drained()
	}
	if d := p.dec("coupon_percent"); d.Sign() > 0 {
		t.Discounts = append(t.Discounts, billing.Discount{ID: "percent", Percent: d})
	}
	if d := billing.Sum(p.decs("coupon", "coupon_amount", "discount_amount", "discount", "fixed_discount")...); d.Sign() > 0 {
		t.Discounts = append(t.Discounts, billing.Discount{ID: "amount", Amount: d})
	}
	if rate := p.opt("tax_percent", "tax_rate_percent", "vat_percent"); rate != nil {
		t.Taxes = func(billing.Line) []billing.Tax { return []billing.Tax{{Code: "VAT", Percent: *rate}} }
	}
	return t
}

func (c *workedCase) usage(price *billing.Price, u *bag) billing.Usage {
	var out billing.Usage
	if raw := u.list("buckets", "windows"); raw != nil {
		out.Buckets = []billing.Decimal{}
		for _, b := range raw {
			var values []json.RawMessage
			if json.Unmarshal(b, &values) != nil {
				out.Buckets = append(out.Buckets, scalar("buckets", b))
				continue
			}
			most := billing.Decimal{}
			for _, v := range values {
				most = most.Max(scalar("buckets", v))
			}
			out.Buckets = append(out.Buckets, most)
		}
		return out
	}
	out.Quantity = u.dec("quantity", "units", "value")
	for _, raw := range u.list("events", "transactions") {
		if raw[0] == '{' {
			b := object("events", raw)
			out.Events = append(out.Events, b.need("amount", "value", "precise_total_amount"))
			b.drained()
			continue
		}
		out.Events = append(out.Events, scalar("events", raw))
	}
	if d := u.opt("amount", "total_amount"); d != nil {
		out.Quantity = *d
	}
	out.Count = u.integer("count", "event_count", "events_count")
	if raw := u.raw("peaks", "quantities", "maxima"); raw != nil {
		out.Peaks = map[string]billing.Decimal{}
		for name, v := range object("peaks", raw).vals {
			out.Peaks[name] = scalar(name, v)
		}
	}
	if out.Events != nil && price.Model != billing.Percentage && price.Model != billing.Dynamic {
		out.Quantity, out.Events = billing.Sum(out.Events...), nil
	}
	return out
}

var aggregations = map[string]billing.Aggregation{
	"sum": billing.Total, "count": billing.Count, "max": billing.Max, "latest": billing.Latest, "last": billing.Latest,
	"unique": billing.Unique, "distinct": billing.Unique, "unique_count": billing.Unique, "count_distinct": billing.Unique, "distinct_count": billing.Unique, "weighted_sum": billing.Weighted,
}

// epoch is when the periods of cases begin that name no dates.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func span(b *bag, prefix string) (time.Duration, bool) {
	for _, unit := range []struct {
		name string
		of   time.Duration
	}{{"days", 24 * time.Hour}, {"hours", time.Hour}, {"minutes", time.Minute}, {"seconds", time.Second}} {
		if d := b.opt(prefix + unit.name); d != nil {
			n := d.Mul(billing.Int(int64(unit.of))).Round(0, billing.HalfUp)
			ns, err := strconv.ParseInt(n.String(), 10, 64)
			if err != nil {
				refuse("%s: %v", prefix+unit.name, err)
			}
			return time.Duration(ns), true
		}
	}
	return 0, false
}

// aggregate makes the quantity of events or of levels over time.
func (c *workedCase) aggregate(p, u *bag) billing.Decimal {
	kind := word(p, aggregations, "aggregation")
	field := p.text("field", "field_name", "property")
	period := billing.Period{Start: epoch, End: epoch.AddDate(100, 0, 0)}
	if d, ok := span(p, "period_"); ok {
		period.End = epoch.Add(d)
	}
	if raw := u.list("level_segments", "segments", "levels"); raw != nil {
		return levels(raw, period)
	}
	var samples []billing.Sample
	for i, raw := range u.list("events") {
		s := billing.Sample{Time: epoch.Add(time.Duration(i) * time.Nanosecond)}
		if raw[0] != '{' {
			s.Key = strings.Trim(string(raw), `"`)
			if kind != billing.Unique && kind != billing.Count {
				s.Value = scalar("events", raw)
			}
			samples = append(samples, s)
			continue
		}
		b := object("events", raw)
		if after, ok := span(b, "after_"); ok {
			s.Time = epoch.Add(after)
		} else if day := b.opt("day"); day != nil {
			n, err := strconv.Atoi(day.String())
			if err != nil {
				refuse("day: %v", err)
			}
			s.Time = epoch.AddDate(0, 0, n-1)
		}
		value := b.raw(field, "value")
		if value == nil && kind != billing.Count {
			refuse("an event has no %q", field)
		}
		s.Key = strings.Trim(string(value), `"`)
		if kind != billing.Unique && kind != billing.Count {
			s.Value = scalar(field, value)
		}
		samples = append(samples, s)
	}
	return billing.Aggregate(kind, samples, period, u.dec("initial_level", "previous_level"))
}

func levels(raw []json.RawMessage, period billing.Period) billing.Decimal {
	at, level := period.Start, billing.Decimal{}
	var samples []billing.Sample
	for _, r := range raw {
		b := object("level_segments", r)
		next := b.need("level", "value", "quantity")
		lasts, ok := span(b, "")
		if !ok {
			refuse("level_segments: a segment has no length")
		}
		b.drained()
		samples = append(samples, billing.Sample{Time: at, Value: next.Sub(level)})
		at, level = at.Add(lasts), next
	}
	return billing.Aggregate(billing.Weighted, append(samples, billing.Sample{Time: at, Value: level.Neg()}), period, billing.Decimal{})
}

// several prices units that are charged each on its own, and settles them as
// the lines of one invoice.
func (c *workedCase) several(p *bag) outcome {
	var got outcome
	var lines []billing.Line
	policy := p.raw("policy")
	for i, raw := range p.list("units", "prices", "charges") {
		b := object("units", raw)
		if _, ok := b.vals["policy"]; !ok && policy != nil {
			b.vals["policy"] = policy
		}
		model := b.text("model")
		if model == "" {
			model = c.Model
		}
		b.text("name", "unit")
		one := workedCase{Model: model, Currency: c.Currency}
		o := one.priced(b, b)
		b.used["policy"] = true
		b.drained()
		got.exact = got.exact.Add(o.exact)
		got.lines = append(got.lines, o.lines...)
		got.lines = append(got.lines, map[string]billing.Decimal{"amount": o.rounded, "total": o.rounded})
		lines = append(lines, billing.Line{ID: strconv.Itoa(i), Kind: billing.LineUsage, Amount: o.rounded})
	}
	terms := c.terms(p, billing.HalfUp)
	if terms.Minimum = p.dec("minimum_amount", "min_amount", "minimum"); p.has("minimum_proration") {
		terms.Minimum = terms.Minimum.Mul(p.need("minimum_proration"))
	}
	sheet := billing.Settle(lines, terms)
	if got.rounded = sheet.Total; sheet.Total.Cmp(billing.Minor(got.exact, c.Currency, billing.HalfUp)) != 0 {
		got.exact = sheet.Total
	}
	for _, l := range sheet.Lines {
		figures := map[string]billing.Decimal{string(l.Kind): l.Amount, "amount": l.Amount, "net": l.Net, "tax": l.Tax}
		if l.Kind == billing.LineMinimum {
			figures["true_up"] = l.Amount
		}
		got.lines = append(got.lines, figures)
	}
	return got
}
