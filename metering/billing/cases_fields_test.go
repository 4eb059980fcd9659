package billing_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

// spellings are the fields of cases, by our name, and what other systems call
// them. A field is read by our name; its spellings are looked for in order.
var spellings = map[string][]string{
	// Prices.
	"model":             {"price_model", "charge_model", "pricing_model", "inner_model", "mode", "tier_mode", "tiers_mode"},
	"flat_amount":       {"amount", "flat_fee", "fixed_amount", "fee", "price", "unit_price"},
	"unit_price":        {"unit_amount", "price_per_unit", "per_unit_price", "unit_cost", "price_per_seat", "per_unit_amount", "price", "amount"},
	"overage_price":     {"overage_unit_price", "overage_rate", "overage_amount"},
	"multiplier":        {"markup_rate", "markup", "markup_multiplier", "factor"},
	"base_fee":          {"recurring_fee", "subscription_fee", "platform_fee", "base_price", "base_amount", "fixed_fee", "flat_fee", "flat_amount"},
	"size":              {"package_size", "block_size", "divide_by", "quantity_per_package", "package_units", "units_per_package"},
	"package_price":     {"price_per_package", "block_price", "price", "amount", "unit_price", "package_amount"},
	"package_round":     {"round", "rounding", "package_rounding"},
	"tiers":             {"ranges", "graduated_ranges", "volume_ranges", "price_tiers", "slabs", "brackets"},
	"flat_fee_at_zero":  {"flat_at_zero", "charge_flat_fee_at_zero"},
	"policy":            {"tier_block_policy", "block_policy"},
	"blocks":            {"tiers", "tiered_blocks"},
	"rate_percent":      {"rate", "percent", "percentage", "percentage_rate"},
	"rate_fraction":     {"fraction"},
	"fee":               {"fixed_fee_per_event", "fixed_fee", "fixed_amount", "fee_per_event", "fee_per_transaction", "per_event_fee", "flat_fee"},
	"free_events":       {"free_units_per_events", "free_transactions", "free_event_count"},
	"free_amount":       {"free_units_per_total_aggregation", "free_total"},
	"event_min":         {"per_event_min", "min_per_event", "per_transaction_min", "per_transaction_min_amount", "min_per_transaction", "event_minimum"},
	"event_max":         {"per_event_max", "max_per_event", "per_transaction_max", "per_transaction_max_amount", "max_per_transaction", "event_maximum"},
	"included":          {"free_units", "included_units", "included_quantity", "free_quantity", "free_allowance", "allowance"},
	"usage_discount":    {"usage_discount_units", "usage_discount_quantity", "discount_units"},
	"discount_percent":  {"percentage_discount", "discount_percentage", "percent_discount", "percent_off"},
	"discount_fraction": {},
	"minimum":           {"minimum_amount", "min_amount", "minimum_spend", "min_spend", "minimum_charge", "minimum_commitment"},
	"maximum":           {"maximum_amount", "max_amount", "maximum_spend", "max_spend", "spending_cap", "spend_cap", "cap", "maximum_charge"},
	"convert_divide":    {"convert_divide_by", "conversion_divide_by", "divide_units_by"},
	"convert_multiply":  {"convert_multiply_by", "conversion_multiply_by", "multiply_units_by"},
	"convert_operation": {"conversion_operation"},
	"convert_factor":    {"conversion_factor", "conversion_rate"},
	"convert_round":     {"convert_rounding", "conversion_rounding"},
	"convert_places":    {"convert_precision", "conversion_precision"},
	"committed_units":   {"commitment_quantity", "commitment_units", "committed_quantity"},
	"committed_amount":  {"commitment_amount", "commitment", "committed_spend", "spend_commitment"},
	"commitment_type":   {},
	"overage_factor":    {"overage_multiplier"},
	"true_up":           {"enable_true_up", "true_up_enabled", "commitment_true_up", "trueup"},
	"windowed":          {"windowed_commitment", "commitment_windowed", "is_window_commitment"},
	"inner":             {"inner_price"},
	"split_rule":        {},
	"rounding":          {"rounding_mode", "round_mode"},

	// Tiers.
	"up_to":     {"to", "to_value", "upto", "last_unit", "end", "max", "max_units", "upper"},
	"from":      {"from_value", "first_unit", "start", "min_units", "lower"},
	"tier_fee":  {"flat_fee", "flat_amount", "flat_price", "fixed_fee", "price"},
	"tier_unit": {"unit_price", "unit_amount", "per_unit_amount", "price_per_unit", "amount"},
	"limits":    {"peaks", "maxima"},
	"max":       {"max_blocks", "max_block"},

	// Usage.
	"quantity":          {"units", "value", "seats", "usage", "usage_quantity", "consumed", "used", "count_of_units", "total_units"},
	"amount":            {"total_amount", "sum", "total"},
	"events":            {"transactions", "samples", "records"},
	"events_count":      {"count", "event_count", "number_of_events", "transactions_count", "transaction_count", "n_events"},
	"buckets":           {"windows", "hours", "days"},
	"previous_quantity": {"pre_line_quantity", "previous_units", "quantity_before", "previous_amount", "already_used", "prior_quantity"},
	"previous_events":   {"prior_events"},
	"previous_count":    {"prior_count"},
	"previously_billed": {"already_billed", "already_invoiced", "already_paid", "billed_before", "previous_billed"},
	"peaks":             {"quantities", "maxima"},
	"final": {
		"last_line", "is_last_line", "last_line_of_period", "period_final", "minimum_applies", "last_in_period", "is_final",
		"is_last", "final_line", "last", "end_of_period",
	},
	"mid_period":         {"is_mid_period", "mid", "progressive", "not_last", "is_progressive"},
	"line_mode":          {"position", "mode_of_line", "line_position"},
	"minimum_proration":  {"proration_fraction", "minimum_fraction", "proration"},
	"bucket_aggregation": {"window_aggregation", "aggregation"},
	"bucket_size":        {"window", "window_size", "bucket"},

	// Aggregations.
	"aggregation":        {"aggregation_type", "agg"},
	"field":              {"field_name", "property", "value_property"},
	"rounding_function":  {"round", "rounding"},
	"precision":          {"rounding_precision", "round_precision"},
	"levels":             {"level_segments", "segments"},
	"level":              {"value", "quantity"},
	"initial_level":      {"previous_level", "initial_value", "starting_level", "start_level"},
	"time":               {"timestamp", "at", "date", "ts", "created_at"},
	"operation":          {"operation_type", "op"},
	"event_amount":       {"amount", "value", "precise_total_amount", "precise_total_amount_cents", "total"},
	"period_start":       {"start_date", "period_from"},
	"period_end":         {"end_date", "period_to"},
	"change_at":          {"change_date", "proration_date", "changed_at", "effective_date"},
	"time_zone":          {"timezone", "tz"},
	"level_lasts_days":   {"days"},
	"level_lasts_hours":  {"hours"},
	"level_lasts_secs":   {"seconds"},
	"level_lasts_mins":   {"minutes"},
	"event_after_days":   {"after_days"},
	"event_after_hours":  {"after_hours"},
	"event_after_secs":   {"after_seconds"},
	"event_after_mins":   {"after_minutes"},
	"day":                {},
	"period_lasts_days":  {"period_days"},
	"period_lasts_hours": {"period_hours"},
	"period_lasts_secs":  {"period_seconds"},
	"period_lasts_mins":  {"period_minutes"},

	// Proration.
	"basis":              {"proration", "proration_basis", "strategy", "proration_strategy"},
	"fraction_remaining": {"fraction", "remaining_fraction", "fraction_left", "proration_factor"},
	"fraction_billed":    {"fraction", "billed_fraction", "fraction_charged"},
	"fraction_unused":    {"unused_fraction", "fraction_remaining", "fraction"},
	"fraction_used":      {"used_fraction", "fraction_elapsed", "elapsed_fraction"},
	"days_remaining":     {"remaining_days", "days_left", "days_remaining_inclusive", "days_billed", "billed_days", "days_charged", "days_unused", "unused_days"},
	"days_used":          {"used_days", "days_elapsed", "elapsed_days"},
	"trial_days":         {"free_days"},
	"period_days":        {"total_days", "days_in_period", "days_in_month", "cycle_days"},
	"hours_remaining":    {"remaining_hours", "hours_left", "hours_billed", "hours_unused"},
	"hours_used":         {"used_hours", "hours_elapsed"},
	"period_hours":       {"total_hours", "hours_in_period"},
	"seconds_remaining":  {"remaining_seconds", "seconds_left", "seconds_billed", "seconds_unused"},
	"seconds_used":       {"used_seconds", "seconds_elapsed"},
	"period_seconds":     {"total_seconds", "seconds_in_period"},
	"change_day":         {"change_day_of_month"},
	"old_price":          {"old_amount", "from_price", "current_price"},
	"new_price":          {"new_amount", "to_price", "target_price"},
	"old_quantity":       {"from_quantity"},
	"new_quantity":       {"to_quantity"},
	"times_quantity":     {"quantity"},
	"old_discount":       {"old_discount_amount"},
	"new_discount":       {"new_discount_amount"},
	"fixed_discount":     {"discount_fixed", "discount_amount", "discount", "coupon", "coupon_amount"},
	"next_charge":        {"next_period_price", "renewal_price", "renewal"},
	"full_periods":       {"cycles", "full_cycles"},
	"fee_price":          {"price", "amount", "unit_price", "monthly_price", "plan_price"},
	"already_invoiced":   {"already_paid", "already_billed", "previously_billed"},

	// Documents.
	"paid_net":        {"net", "amount", "paid_amount", "fee"},
	"credits":         {"credited_net", "credit_net", "credit_amounts", "credit_amount"},
	"lines":           {"fees", "line_items", "charges"},
	"line_amount":     {"amount", "net", "subtotal"},
	"line_discount":   {"discount", "discount_amount"},
	"tax_percent":     {"tax_rate_percent", "vat_percent", "tax_percentage", "vat"},
	"tax_rate":        {"vat_rate"},
	"tax_percents":    {"taxes", "tax_rates"},
	"tax_inclusive":   {"tax_included", "prices_include_tax", "inclusive"},
	"coupons":         {"discounts"},
	"coupon_percent":  {"discount_percent_on_invoice"},
	"coupon":          {"coupon_amount", "discount_amount", "discount", "fixed_discount", "discount_fixed"},
	"credit_notes":    {"credit_note", "credits", "credit_balance", "account_credit"},
	"prepaid_credits": {"wallet", "prepaid", "prepaid_credit", "wallet_balance"},
	"progressive":     {"progressive_billing_credit", "progressive_billing_credits", "progressive_credit"},
	"units":           {"charges", "parts", "items"},
	"value":           {"amount"},
	"type":            {"kind", "coupon_type"},
	"code":            {"id"},

	// Revenue.
	"subscriptions":      {"contracts"},
	"count":              {"customers", "subscribers", "number"},
	"interval_months":    {"months"},
	"interval_days":      {},
	"interval":           {"interval_unit", "billing_interval", "cadence", "period"},
	"interval_count":     {"every"},
	"mrr":                {},
	"customers":          {"subscribers", "active_customers", "paying_customers"},
	"starting_mrr":       {"start_mrr", "start", "opening_mrr", "beginning_mrr"},
	"new":                {"new_mrr"},
	"reactivated":        {"reactivation_mrr", "reactivation"},
	"expansion":          {"expansion_mrr", "upgrades"},
	"contraction":        {"contraction_mrr", "downgrades"},
	"churned":            {"churned_mrr", "churn_mrr", "lost_mrr"},
	"starting_customers": {"customers_start", "start_customers", "start", "customers_at_start"},
	"lost_customers":     {"churned_customers", "churned", "cancelled_customers"},
	"ending_customers":   {"end_customers", "customers", "customers_at_end"},
	"gross_margin":       {"margin"},
	"gross_margin_pct":   {"gross_margin_percent", "margin_percent"},
	"arpu":               {"arpa", "average_revenue"},
	"churn_percent":      {"churn_rate_percent"},
	"churn_rate":         {"churn"},

	// Wallets and entitlements.
	"grants":            {"credits", "balances"},
	"balance":           {"opening_balance", "wallet_balance"},
	"grant_amount":      {"amount", "credits", "balance"},
	"priority":          {},
	"cost":              {"paid_amount", "cost_basis"},
	"id":                {"name"},
	"granted":           {"granted_at", "effective_at", "created_at", "effective_from"},
	"expires":           {"expires_at", "expiry", "expires_on", "expiration_at"},
	"at":                {"as_of", "now"},
	"ask":               {"question", "result"},
	"burn":              {"usage", "amount", "charge", "charges", "used", "quantity"},
	"rollover_included": {"included", "granted", "allowance"},
	"rollover_max":      {"max", "max_rollover"},
	"rollover_percent":  {"rollover_percentage"},
	"limit":             {"quota", "allowance", "included"},
	"weights":           {"lines", "parts", "ratios"},
	"split_amount":      {"amount", "total", "discount"},
}

// prose is what a case may say in any place and nobody computes with.
var prose = map[string]bool{
	"name": true, "description": true, "label": true, "title": true, "comment": true, "comments": true, "note": true, "notes": true, "tier": true, "unit": true,
	"tags": true, "section": true, "collected": true, "url": true, "code": true, "id": true,
}

// bag is a JSON object whose every member must be used.
type bag struct {
	name string
	vals map[string]json.RawMessage
	used map[string]string // the field that a name was read as
	then *bag              // looked into after it
}

func newBag(name string, vals map[string]json.RawMessage) *bag {
	b := &bag{name: name, vals: map[string]json.RawMessage{}, used: map[string]string{}}
	for k, v := range vals {
		key := snake(k)
		if _, ok := b.vals[key]; ok {
			refuse("%s: %q is there twice", name, key)
		}
		b.vals[key] = v
	}
	return b
}

// snake is a name in lower case with underscores.
func snake(s string) string {
	var out strings.Builder
	for i, r := range s {
		switch {
		case unicode.IsUpper(r) && i > 0 && strings.ToUpper(s) != s:
			out.WriteByte('_')
			out.WriteRune(unicode.ToLower(r))
		case r == '-' || r == ' ':
			out.WriteByte('_')
		default:
			out.WriteRune(unicode.ToLower(r))
		}
	}
	return strings.ReplaceAll(out.String(), "__", "_")
}

// object reads a nested object.
func object(name string, raw json.RawMessage) *bag {
	var vals map[string]json.RawMessage
	if err := json.Unmarshal(raw, &vals); err != nil {
		refuse("%s: %v", name, err)
	}
	return newBag(name, vals)
}

// or returns a bag that looks into b, then into c.
func (b *bag) or(c *bag) *bag { return &bag{name: b.name, vals: b.vals, used: b.used, then: c} }

func (b *bag) drained() {
	for _, name := range slices.Sorted(maps.Keys(b.vals)) {
		if b.used[name] == "" && !prose[name] {
			refuse("%s: %q is not known here", b.name, name)
		}
	}
}

// idle takes fields that have no effect on what is asked.
func (b *bag) idle(names ...string) {
	for _, n := range names {
		b.raw(n)
	}
}

// raw returns the first of the fields that is there and not null.
func (b *bag) raw(fields ...string) json.RawMessage {
	for _, f := range fields {
		others, known := spellings[f]
		if !known {
			panic("the field " + f + " has no spellings")
		}
		for _, n := range append([]string{f}, others...) {
			raw, ok := b.vals[n]
			if by := b.used[n]; !ok || by != "" && by != f {
				continue
			}
			b.used[n] = f
			if string(raw) != "null" {
				return raw
			}
		}
	}
	if b.then != nil {
		return b.then.raw(fields...)
	}
	return nil
}

// has reports whether one of the fields is there, and does not use it.
func (b *bag) has(fields ...string) bool {
	for _, f := range fields {
		for _, n := range append([]string{f}, spellings[f]...) {
			by := b.used[n]
			if raw, ok := b.vals[n]; ok && string(raw) != "null" && (by == "" || by == f) {
				return true
			}
		}
	}
	return b.then != nil && b.then.has(fields...)
}

var (
	thousands = regexp.MustCompile(`^-?[0-9]{1,3}(,[0-9]{3})+(\.[0-9]+)?$`)
	power     = regexp.MustCompile(`^(-?[0-9]+(?:\.[0-9]+)?)[eE]([-+]?[0-9]{1,2})$`)
)

// scalar reads a number, as JSON or as text: 12.5, "12.5", "1e-6", "$1,000".
func scalar(name string, raw json.RawMessage) billing.Decimal {
	text := strings.TrimSpace(strings.Trim(string(raw), `"`))
	text = strings.TrimSpace(strings.TrimSuffix(strings.TrimLeft(strings.ReplaceAll(text, "_", ""), "+$€£"), "%"))
	if thousands.MatchString(text) {
		text = strings.ReplaceAll(text, ",", "")
	}
	scale := billing.Int(1)
	if m := power.FindStringSubmatch(text); m != nil {
		n, err := strconv.Atoi(m[2])
		if err != nil {
			refuse("%s: %v", name, err)
		}
		for range max(n, -n) {
			scale = scale.Mul(billing.Int(10))
		}
		if text = m[1]; n < 0 {
			scale = billing.Int(1).Div(scale)
		}
	}
	d, err := billing.ParseDecimal(text)
	if err != nil {
		refuse("%s: %s: %v", name, raw, err)
	}
	return d.Mul(scale)
}

func (b *bag) dec(fields ...string) billing.Decimal {
	if d := b.opt(fields...); d != nil {
		return *d
	}
	return billing.Decimal{}
}

func (b *bag) opt(fields ...string) *billing.Decimal {
	if raw := b.raw(fields...); raw != nil {
		d := scalar(fields[0], raw)
		return &d
	}
	return nil
}

func (b *bag) need(fields ...string) billing.Decimal {
	d := b.opt(fields...)
	if d == nil {
		refuse("%s: %s is missing", b.name, fields[0])
	}
	return *d
}

// rate reads a rate that may be a fraction or a percentage, as its size tells,
// and returns it in percent.
func (b *bag) rate(field string) *billing.Decimal {
	d := b.opt(field)
	if d == nil {
		return nil
	}
	switch one := billing.Int(1); {
	case d.Cmp(one) == 0:
		refuse("%s: 1 may be a percent, or all of it", field)
	case d.Cmp(one) < 0:
		p := d.Mul(billing.Int(100))
		return &p
	}
	return d
}

func (b *bag) text(fields ...string) string {
	raw := b.raw(fields...)
	if raw == nil {
		return ""
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		refuse("%s: %v", fields[0], err)
	}
	return s
}

func (b *bag) flag(byDefault bool, fields ...string) bool {
	raw := b.raw(fields...)
	if raw == nil {
		return byDefault
	}
	switch strings.ToLower(strings.Trim(string(raw), `"`)) {
	case "true", "yes":
		return true
	case "false", "no":
		return false
	}
	refuse("%s: %s is neither true nor false", fields[0], raw)
	return false
}

func (b *bag) integer(fields ...string) int {
	d := b.dec(fields...)
	n, err := strconv.Atoi(d.String())
	if err != nil {
		refuse("%s: %s is not a whole number", fields[0], d)
	}
	return n
}

// list reads an array; what is no array is its only element.
func (b *bag) list(fields ...string) []json.RawMessage {
	raw := b.raw(fields...)
	if raw == nil {
		return nil
	}
	var out []json.RawMessage
	if err := json.Unmarshal(raw, &out); err != nil {
		return []json.RawMessage{raw}
	}
	return out
}

func (b *bag) decs(fields ...string) []billing.Decimal {
	var out []billing.Decimal
	for _, raw := range b.list(fields...) {
		out = append(out, scalar(fields[0], raw))
	}
	return out
}

// word maps what other systems call a thing to our name for it.
func word[T any](b *bag, known map[string]T, fields ...string) T {
	s := snake(b.text(fields...))
	v, ok := known[s]
	if !ok && s != "" {
		refuse("%s: %q is not known", fields[0], s)
	}
	return v
}

// refusal is a case that cannot be read: it fails, it is not skipped.
type refusal string

func refuse(format string, args ...any) { panic(refusal(fmt.Sprintf(format, args...))) }

// caught runs f and returns what it panicked with as an error: one case that
// breaks is the failure of that case alone.
func caught(f func() error) (err error) {
	defer func() {
		switch v := recover().(type) {
		case nil:
		case refusal:
			err = errors.New(string(v))
		default:
			err = fmt.Errorf("panic: %v", v)
		}
	}()
	return f()
}
