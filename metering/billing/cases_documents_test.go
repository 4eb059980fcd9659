package billing_test

import (
	"encoding/json"
	"math/big"
	"strconv"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

var prorations = map[string]billing.Proration{
	"seconds": billing.Seconds, "second": billing.Seconds, "second_based": billing.Seconds, "time": billing.Seconds, "elapsed_time": billing.Seconds,
	"days": billing.Days, "day": billing.Days, "days_inclusive": billing.Days, "day_based": billing.Days, "calendar_days": billing.Days, "daily": billing.Days,
	"days_30": billing.Days30, "fixed_30": billing.Days30, "fixed_30_days": billing.Days30, "thirty_days": billing.Days30, "30_days": billing.Days30, "none": billing.Whole,
}

// term is a billing period, and an instant in it.
type term struct {
	cadence    billing.Cadence
	basis      billing.Proration
	zone       string
	start, cut time.Time
	// left is the part of the period after the cut.
	left billing.Decimal
}

func (t term) end() time.Time {
	loc, err := time.LoadLocation(t.zone)
	must(err)
	return t.cadence.Boundary(t.start, loc, 1)
}

// termOf reads which part of a period is left, charged or not used. What is
// said twice must agree.
func termOf(p *bag) term {
	one := billing.Int(1)
	basis := word(p, prorations, "basis")
	var said []billing.Decimal
	for _, f := range []string{"fraction_remaining", "fraction_billed", "fraction_unused"} {
		if d := p.opt(f); d != nil {
			said = append(said, *d)
		}
	}
	if d := p.opt("fraction_used"); d != nil {
		said = append(said, one.Sub(*d))
	}
	for _, unit := range []string{"days", "hours", "seconds"} {
		whole := p.opt("period_" + unit)
		if whole == nil && unit == "days" && basis == billing.Days30 {
			whole = ptr(billing.Int(30))
		}
		left, used := p.opt(unit+"_remaining"), p.opt(unit+"_used")
		if unit == "days" && used == nil {
			used = p.opt("trial_days")
		}
		switch {
		case whole == nil && left == nil && used == nil:
		case whole == nil:
			refuse("period_%s is missing", unit)
		case left != nil:
			said = append(said, left.Div(*whole))
		case used != nil:
			said = append(said, one.Sub(used.Div(*whole)))
		}
	}
	p.idle("change_day")
	if at := p.text("change_at"); at != "" {
		t := dated(p, at, basis)
		for _, d := range said {
			if d.Cmp(t.left) != 0 {
				refuse("%s and %s of the period are left", d, t.left)
			}
		}
		return t
	}
	if len(said) == 0 {
		refuse("no part of a period is given")
	}
	for _, d := range said {
		if d.Cmp(said[0]) != 0 {
			refuse("%s and %s of the period are left", d, said[0])
		}
	}
	return cutAt(said[0])
}

// dated is a term of the calendar.
func dated(p *bag, at string, basis billing.Proration) term {
	zone := zoneOf(p)
	t := term{basis: basis, zone: zone.String(), start: instant(p.text("period_start"), zone), cut: instant(at, zone)}
	end := instant(p.text("period_end"), zone)
	for _, unit := range []billing.Unit{billing.Year, billing.Month, billing.Day, billing.Hour} {
		for every := range 400 {
			c := billing.Cadence{Every: every + 1, Unit: unit}
			if t.cadence.Unit == "" && c.Boundary(t.start, zone, 1).Equal(end) {
				t.cadence = c
			}
		}
	}
	if t.cadence.Unit == "" {
		refuse("no period lasts from %s to %s", t.start, end)
	}
	t.left = basis.Of(billing.Period{Start: t.cut, End: end}, billing.Period{Start: t.start, End: end}, zone, t.cadence)
	return t
}

// cutAt makes a period of days of which so much is left after an instant.
func cutAt(left billing.Decimal) term {
	r, ok := new(big.Rat).SetString(left.String())
	if !ok || left.Sign() < 0 || left.Cmp(billing.Int(1)) > 0 {
		refuse("%s of a period", left)
	}
	day := big.NewInt(int64(24 * time.Hour))
	days := new(big.Int).Div(r.Denom(), new(big.Int).GCD(nil, nil, r.Denom(), day))
	if !days.IsInt64() || days.Int64() > 1000 {
		refuse("%s of a period is no instant", left)
	}
	t := term{cadence: billing.Cadence{Every: int(days.Int64()), Unit: billing.Day}, start: epoch, left: left}
	ns := new(big.Int).Mul(new(big.Int).Mul(days, day), r.Num())
	t.cut = t.end().Add(-time.Duration(new(big.Int).Div(ns, r.Denom()).Int64()))
	return t
}

func zoneOf(b *bag) *time.Location {
	zone, err := time.LoadLocation(b.text("time_zone"))
	must(err)
	return zone
}

func instant(s string, zone *time.Location) time.Time {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, zone); err == nil {
			return t
		}
	}
	refuse("%q is not a time", s)
	return time.Time{}
}

func must(err error) {
	if err != nil {
		refuse("%v: %s", err, gatehouse.CodeOf(err))
	}
}

// account bills one subscription of fees in advance, invoice by invoice.
type account struct {
	c       *workedCase
	term    term
	book    billing.Book
	sub     *billing.Subscription
	terms   billing.Terms
	issued  []billing.Invoice
	periods int
}

// open begins a subscription. Its discounts, taxes and rounding are those of
// the terms.
func (c *workedCase) open(t term, terms billing.Terms, start time.Time, fee, quantity billing.Decimal) *account {
	a := &account{c: c, term: t, book: billing.Book{}, terms: terms}
	a.sub = &billing.Subscription{
		ID: "case", Tenant: "case", Plan: a.plan("old", fee), Start: start, Anchor: t.start, TimeZone: t.zone,
		Quantities: map[string]billing.Decimal{"fee": quantity}, Discounts: terms.Discounts,
	}
	return a
}

func (a *account) plan(id string, fee billing.Decimal) billing.PlanRef {
	p := &billing.Plan{
		ID: gatehouse.PlanID(id), Version: 1, Currency: a.c.money(), Cadence: a.term.cadence, Proration: a.term.basis, Rounding: a.terms.Rounding, TaxIncluded: a.terms.TaxIncluded,
		Prices: []billing.Price{{ID: "fee", Model: billing.PerUnit, Amount: fee, Advance: true}},
	}
	if a.terms.Taxes != nil {
		p.Taxes = a.terms.Taxes(billing.Line{})
	}
	a.book[p.Ref()] = p
	return p.Ref()
}

// money is the currency of the case, or one of two digits where it names none.
func (c *workedCase) money() billing.Currency {
	if _, ok := c.Currency.Places(); ok {
		return c.Currency
	}
	return "USD"
}

func (a *account) bill(kind billing.Kind) billing.Invoice {
	r := billing.Run{Book: a.book, Subscription: a.sub, Kind: kind, Index: a.periods, Earlier: a.issued}
	inv, err := billing.Draft(r)
	must(err)
	a.issued = append(a.issued, inv)
	if kind == billing.Closing {
		a.periods++
	}
	return inv
}

func (a *account) change(at time.Time, fee, quantity billing.Decimal) {
	id := "new" + strconv.Itoa(len(a.sub.Changes))
	a.sub.Changes = append(a.sub.Changes, billing.Change{At: at, Plan: a.plan(id, fee), Quantities: map[string]billing.Decimal{"fee": quantity}})
}

// exchange is a change from one fee to another within a period: two lines.
func (c *workedCase) exchange(p *bag) outcome {
	t := termOf(p)
	mode, net := billing.HalfUp, false
	switch r := snake(p.text("rounding")); r {
	case "", "per_line", "each_line", "line":
	case "net", "total", "none", "sum":
		net = c.Kind != "divergence" // this product rounds each line
	default:
		var ok bool
		if mode, ok = roundings[r]; !ok {
			refuse("rounding: %q is not known", r)
		}
	}
	one := billing.Int(1)
	times := func(field string) billing.Decimal {
		if q := p.opt(field); q != nil {
			return *q
		}
		return one
	}
	if !p.has("old_price") && !p.has("new_price") {
		refuse("old_price and new_price are missing")
	}
	all := times("times_quantity")
	oldQuantity, newQuantity := times("old_quantity").Mul(all), times("new_quantity").Mul(all)
	terms := billing.Terms{Currency: c.Currency, Rounding: mode, TaxIncluded: p.flag(false, "tax_inclusive"), Discounts: changeDiscounts(p)}
	if taxes := taxes(p); taxes != nil {
		terms.Taxes = func(billing.Line) []billing.Tax { return taxes }
	}
	if t.left.Sign() == 0 {
		return outcome{views: [][]figure{{nums("credit", billing.Decimal{}), nums("charge", billing.Decimal{})}}}
	}
	from, to := p.dec("old_price"), p.dec("new_price")
	a := c.open(t, terms, t.start, from, oldQuantity)
	if t.cut.Equal(t.start) { // a change when the fee has been paid in advance
		a.sub.Start, a.sub.Anchor = a.sub.Start.Add(-t.end().Sub(t.start)), time.Time{}
	}
	a.bill(billing.Opening)
	if t.cut.Equal(t.start) {
		a.bill(billing.Closing)
	}
	a.change(t.cut, to, newQuantity)
	if next := p.dec("next_charge"); next.Sign() > 0 {
		a.change(t.end(), next, one)
	} else {
		a.sub.End = t.end()
	}
	inv := a.bill(billing.Closing)
	got := outcome{rounded: inv.Total, exact: inv.Total, views: [][]figure{onInvoice(inv.Sheet)}}
	exact := billing.Decimal{}
	for _, l := range inv.Lines {
		exact = exact.Add(l.Trace.Exact)
	}
	if inv.Tax.IsZero() && len(inv.Discounts) == 0 {
		got.exact = exact
	}
	if net {
		got.rounded = billing.Minor(got.exact, c.Currency, mode)
	}
	return got
}

// changeDiscounts are those on the fees before and after a change.
func changeDiscounts(p *bag) []billing.Discount {
	var out []billing.Discount
	if d := p.dec("discount_percent", "coupon_percent"); d.Sign() > 0 {
		out = append(out, billing.Discount{ID: "percent", Percent: d})
	}
	amount := p.dec("fixed_discount")
	if p.has("old_discount", "new_discount") {
		if amount = p.dec("old_discount"); amount.Cmp(p.dec("new_discount")) != 0 {
			refuse("the discount changes with the fee")
		}
	}
	if amount.Sign() > 0 {
		out = append(out, billing.Discount{ID: "amount", Amount: amount})
	}
	return out
}

// partial is a fee for the part of its first period, and for whole ones after
// it.
func (c *workedCase) partial(p *bag) outcome {
	t := termOf(p)
	quantity, cycles := billing.Int(1), p.integer("full_periods")
	if q := p.opt("times_quantity"); q != nil {
		quantity = *q
	}
	price := p.need("fee_price")
	a := c.open(t, c.terms(p, billing.HalfUp), t.cut, price, quantity)
	if t.left.Sign() == 0 { // the first period is free
		a.sub.Start = t.start
		a.book[a.sub.Plan].TrialDays = int(t.end().Sub(t.start) / (24 * time.Hour))
	}
	all := []billing.Invoice{a.bill(billing.Opening)}
	for range cycles {
		all = append(all, a.bill(billing.Closing))
	}
	got := outcome{}
	untouched := true
	var view []figure
	for _, inv := range all {
		got.rounded = got.rounded.Add(inv.Total)
		for _, l := range inv.Lines {
			got.exact = got.exact.Add(l.Trace.Exact)
		}
		untouched = untouched && inv.Tax.IsZero() && len(inv.Discounts) == 0
		view = append(view, onInvoice(inv.Sheet)...)
	}
	if !untouched {
		got.exact = got.rounded
	}
	got.views = [][]figure{view}
	return got
}

// upgrade is a new fee for the rest of a period less what was paid for all of
// it: the rule that gives nothing back for the part that was used.
func (c *workedCase) upgrade(p *bag) outcome {
	t := termOf(p)
	p.idle("old_price")
	terms := c.terms(p, billing.HalfUp)
	paid := p.dec("already_invoiced")
	opening := c.open(t, terms, t.cut, p.need("new_price"), billing.Int(1)).bill(billing.Opening)
	lines := append([]billing.Line{}, opening.Lines...)
	exact := paid.Neg()
	for i := range lines {
		lines[i].Kind, exact = billing.LineCharge, exact.Add(lines[i].Trace.Exact)
	}
	lines = append(lines, billing.Line{ID: "paid", Kind: billing.LineCredit, Amount: paid.Neg()})
	sheet := billing.Settle(lines, terms)
	got := outcome{exact: sheet.Total, rounded: sheet.Total, views: [][]figure{onInvoice(sheet)}}
	if sheet.Tax.IsZero() && len(sheet.Discounts) == 0 {
		got.exact = exact
	}
	return got
}

// creditNote takes back the unused part of a fee that was paid in advance.
func (c *workedCase) creditNote(p *bag) outcome {
	terms := c.terms(p, billing.HalfUp)
	paid := p.need("paid_net")
	asks := p.decs("credits")
	t := term{cadence: billing.Cadence{Unit: billing.Month}, start: epoch}
	if asks == nil {
		t = termOf(p)
	}
	a := c.open(t, terms, t.start, paid, billing.Int(1))
	inv, err := a.bill(billing.Opening).Finalize("GH-2026-000001", "", epoch, 0)
	must(err)
	if inv, err = inv.Move(billing.Paid, epoch, "case"); err != nil {
		refuse("%v", err)
	}
	switch {
	case asks != nil:
	case t.cut.Equal(t.start):
		asks = append(asks, inv.Lines[0].Net)
	default:
		a.sub.End, a.sub.Refund = t.cut, true
		asks = append(asks, a.bill(billing.Closing).Lines[0].Amount.Neg())
	}
	var got outcome
	var notes []billing.CreditNote
	var view []figure
	for _, net := range asks {
		note, err := billing.Note(inv, notes, []billing.CreditAsk{{Line: inv.Lines[0].ID, Net: net}}, billing.ToBalance, "unused", billing.HalfUp, epoch)
		must(err)
		notes = append(notes, note)
		got.rounded = got.rounded.Add(note.Total)
		view = append(view, nums("net", note.Subtotal, "tax", note.Tax, "total", note.Total), nums("net", note.Subtotal), nums("tax", note.Tax))
	}
	got.exact, got.views = got.rounded, [][]figure{view}
	return got
}

func (c *workedCase) stack(p *bag) outcome {
	terms := c.terms(p, billing.HalfUp)
	terms.Minimum = p.dec("minimum")
	terms.CreditNotes = balances(p, "credit_notes")
	terms.Wallet = balances(p, "prepaid_credits")
	var lines []billing.Line
	rates := map[string][]billing.Tax{}
	for i, raw := range p.list("lines") {
		l := billing.Line{ID: strconv.Itoa(i)}
		if raw[0] == '{' {
			b := object("lines", raw)
			if b.has("quantity") {
				l.Amount = b.need("quantity").Mul(b.need("tier_unit"))
			} else {
				l.Amount = b.need("line_amount")
			}
			l.Amount = l.Amount.Sub(b.dec("line_discount"))
			if own := taxes(b); own != nil {
				rates[l.ID] = own
			}
			b.drained()
		} else {
			l.Amount = scalar("lines", raw)
		}
		lines = append(lines, l)
	}
	if fee := p.opt("base_fee"); fee != nil {
		lines = append(lines, billing.Line{ID: "fee", Kind: billing.LineRecurring, Amount: *fee})
	}
	if before := p.dec("progressive"); before.Sign() > 0 {
		lines = append(lines, billing.Line{ID: "progressive", Kind: billing.LineCredit, Amount: before.Neg()})
	}
	if len(lines) == 0 {
		refuse("lines are missing")
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
	return outcome{exact: s.Due, rounded: s.Due, views: [][]figure{onInvoice(s)}}
}

func balances(p *bag, field string) []billing.Applied {
	var out []billing.Applied
	for i, d := range p.decs(field) {
		out = append(out, billing.Applied{ID: strconv.Itoa(i), Amount: d})
	}
	return out
}

// wallet burns grants. The total is what is left to pay or, where only
// balances are asked for, the balance.
func (c *workedCase) wallet(p *bag) outcome {
	w := billing.Wallet{Currency: c.money()}
	now := epoch.AddDate(0, 1, 0)
	if at := p.text("at"); at != "" {
		now = instant(at, time.UTC)
	}
	if c.Model == "rollover" {
		return c.rollover(p, &w, now)
	}
	unit := billing.Int(1)
	if d := p.opt("convert_factor"); d != nil {
		unit = *d // of money for each credit
	}
	granted := p.list("grants")
	if d := p.opt("balance"); d != nil {
		granted = append(granted, json.RawMessage(`{"amount":"`+d.String()+`"}`))
	}
	if granted == nil {
		refuse("grants are missing")
	}
	for i, raw := range granted {
		if raw[0] != '{' {
			raw = json.RawMessage(`{"amount":` + string(raw) + `}`)
		}
		b := object("grants", raw)
		g := billing.Grant{ID: strconv.Itoa(i), Amount: b.need("grant_amount").Mul(unit), Priority: b.integer("priority"), Granted: epoch.Add(time.Duration(i)), Cost: b.dec("cost")}
		if id := b.text("id"); id != "" {
			g.ID = id
		}
		if at := b.text("granted"); at != "" {
			g.Granted = instant(at, time.UTC)
		}
		if at := b.text("expires"); at != "" {
			g.Expires = instant(at, time.UTC)
		}
		b.drained()
		must(w.Add(g))
	}
	if !p.has("burn") {
		refuse("usage is missing")
	}
	used := billing.Sum(p.decs("burn")...)
	left, rest := used, billing.Decimal{}
	all := nums()
	var view []figure
	for _, u := range w.Burn("case", now, used) {
		left = left.Sub(u.Amount)
		all.nums["burn_"+u.ID] = u.Amount
		f := nums("burned", u.Amount)
		f.id = u.ID
		view = append(view, f)
	}
	must(w.Check())
	for _, g := range w.Grants {
		all.nums[g.ID] = w.Left(g.ID)
		f := nums("balance", w.Left(g.ID))
		f.id = g.ID
		view = append(view, f)
	}
	for _, u := range w.Usable(now) {
		rest = rest.Add(u.Amount)
	}
	got := outcome{exact: left, rounded: left, views: [][]figure{append(view, all)}}
	switch ask := p.text("ask"); {
	case ask == "balance" || c.Model == "entitlement_balance":
		got.exact, got.rounded = rest, rest
	case ask != "" && ask != "due":
		refuse("ask: %q is not known", ask)
	}
	return got
}

func (c *workedCase) rollover(p *bag, w *billing.Wallet, now time.Time) outcome {
	used := p.dec("burn")
	g := billing.Grant{ID: "included", Amount: p.need("rollover_included"), Granted: epoch, Expires: now, Rollover: &billing.Rollover{Max: p.opt("rollover_max")}}
	if share := p.opt("rollover_percent"); share != nil {
		most := g.Amount.Sub(used).Mul(*share).Div(billing.Int(100))
		g.Rollover.Max = &most
	}
	must(w.Add(g))
	w.Burn("case", epoch, used)
	w.Expire(now, time.UTC)
	must(w.Add(billing.Grant{ID: "next", Amount: g.Amount, Granted: now}))
	left := billing.Decimal{}
	for _, u := range w.Usable(now) {
		left = left.Add(u.Amount)
	}
	return outcome{exact: left, rounded: left}
}

// entitlement is what is left of a limit.
func (c *workedCase) entitlement(p *bag) outcome {
	limit := p.need("limit")
	e := billing.Entitlement{Feature: "case", Meter: "m", Limit: &limit}
	a := e.Check(p.need("burn"), billing.Decimal{}, epoch, billing.Period{Start: epoch, End: epoch.AddDate(0, 1, 0)})
	return outcome{exact: *a.Balance, rounded: *a.Balance, views: [][]figure{{nums("balance", *a.Balance, "overage", a.Overage)}}}
}

func (c *workedCase) split(p *bag) outcome {
	amount := p.need("split_amount")
	got := outcome{views: [][]figure{nil}}
	for _, part := range billing.Split(amount, c.Currency, p.decs("weights")) {
		got.rounded = got.rounded.Add(part)
		got.views[0] = append(got.views[0], nums("part", part))
	}
	got.exact = got.rounded
	return got
}
