package billing

// Tax is a rate as the tax hook gives it.
type Tax struct {
	// Code is for the reader and for exports: VAT, or a category of EN 16931.
	Code string `json:"code"`
	// Percent of the net amount.
	Percent Decimal `json:"percent"`
}

// Terms are what turns lines into a sum that is due.
type Terms struct {
	Currency Currency
	Rounding Rounding
	// Discounts are taken off in this order.
	Discounts []Discount
	// Minimum is what lines must come to after discounts; Shortfall is the
	// line that is added for what is missing. Counts tells which lines count;
	// nil is all.
	Minimum   Decimal
	Shortfall Line
	Counts    func(Line) bool
	// Floors are further minimums.
	Floors []Floor
	// Taxes returns the taxes on a line. Nil is none.
	Taxes func(Line) []Tax
	// TaxIncluded says that amounts contain the tax. Included says so line by
	// line, where it is not nil; Mode does the same for Rounding of tax.
	TaxIncluded bool
	Included    func(Line) bool
	Mode        func(Line) Rounding
	// CreditNotes and Wallet are what may be used after tax, in this order.
	CreditNotes []Applied
	Wallet      []Applied
}

// Floor is an amount that some lines must come to.
type Floor struct {
	// Least is what lines that count come to after discounts, at the least.
	// Counts nil counts all. Line is added for what is missing.
	Least  Decimal
	Counts func(Line) bool
	Line   Line
	// Back is how much was charged before for what was missing then. As far as
	// lines exceed Least, it is given back.
	Back Decimal
}

// lacks is what is missing; negative is to be given back.
func (f Floor) lacks(lines []Line, c Currency, mode Rounding) Decimal {
	missing := Minor(f.Least, c, mode)
	for _, l := range lines {
		if f.Counts == nil || f.Counts(l) {
			missing = missing.Sub(l.Amount).Add(l.Discount)
		}
	}
	return missing.Max(f.Back.Max(Decimal{}).Neg())
}

// Sheet is lines with everything that is summed from them.
type Sheet struct {
	Lines     []Line    `json:"lines"`
	Discounts []Applied `json:"discounts,omitempty"`
	Taxes     []LineTax `json:"taxes,omitempty"`
	// CreditNotes and Wallet are what was used of them.
	CreditNotes []Applied `json:"credit_notes,omitempty"`
	Wallet      []Applied `json:"wallet,omitempty"`
	// Subtotal is the sum of Net, Tax of the taxes, Total of both.
	Subtotal Decimal `json:"subtotal"`
	Tax      Decimal `json:"tax"`
	Total    Decimal `json:"total"`
	// Due is Total less credit notes and wallet. A negative total is not due but
	// Carried to the tenant's balance.
	Due     Decimal `json:"due"`
	Carried Decimal `json:"carried,omitzero"`
}

// Settle sums lines in the order of an invoice: lines, discounts, what is
// missing to the minimum, subtotal, tax per line, credit notes, wallet, due.
func Settle(lines []Line, t Terms) Sheet {
	s := Sheet{Lines: append([]Line{}, lines...)}
	s.Discounts = discount(s.Lines, t.Currency, t.Rounding, t.Discounts)
	floors := t.Floors
	if t.Minimum.Sign() > 0 {
		floors = append([]Floor{{Least: t.Minimum, Counts: t.Counts, Line: t.Shortfall}}, floors...)
	}
	for _, f := range floors {
		if missing := f.lacks(s.Lines, t.Currency, t.Rounding); missing.Sign() != 0 {
			l := f.Line
			l.Kind, l.Quantity, l.Amount = LineMinimum, Int(1), missing
			s.Lines = append(s.Lines, l)
		}
	}
	for i := range s.Lines {
		l := &s.Lines[i]
		l.Net = l.Amount.Sub(l.Discount)
		if t.Taxes != nil {
			l.tax(t)
		}
		s.Subtotal = s.Subtotal.Add(l.Net)
		s.Tax = s.Tax.Add(l.Tax)
		s.collect(l.Taxes)
	}
	s.Total = s.Subtotal.Add(s.Tax)
	left := s.Total
	if left.Sign() < 0 {
		s.Carried, left = left.Neg(), Decimal{}
	}
	s.CreditNotes, left = use(t.CreditNotes, left)
	s.Wallet, left = use(t.Wallet, left)
	s.Due = left
	return s
}

// tax puts the taxes on a line whose Net is still with any contained tax.
func (l *Line) tax(t Terms) {
	taxes, mode, included := t.Taxes(*l), t.Rounding, t.TaxIncluded
	if t.Mode != nil {
		mode = t.Mode(*l)
	}
	if t.Included != nil {
		included = t.Included(*l)
	}
	base, rates := l.Net, make([]Decimal, len(taxes))
	amounts := make([]Decimal, len(taxes))
	for i, tax := range taxes {
		rates[i] = tax.Percent.Div(Int(100))
		amounts[i] = Minor(base.Mul(rates[i]), t.Currency, mode)
	}
	if included {
		base = Minor(l.Net.Div(Int(1).Add(Sum(rates...))), t.Currency, mode)
		amounts = Split(l.Net.Sub(base), t.Currency, rates)
	}
	l.Net, l.Tax, l.Taxes = base, Sum(amounts...), nil
	for i, tax := range taxes {
		l.Taxes = append(l.Taxes, LineTax{tax.Code, tax.Percent, base, amounts[i]})
	}
}

// collect adds taxes of a line to those of the sheet, by code and rate.
func (s *Sheet) collect(taxes []LineTax) {
next:
	for _, tax := range taxes {
		for i := range s.Taxes {
			if have := &s.Taxes[i]; have.Code == tax.Code && have.Percent.Cmp(tax.Percent) == 0 {
				have.Base, have.Amount = have.Base.Add(tax.Base), have.Amount.Add(tax.Amount)
				continue next
			}
		}
		s.Taxes = append(s.Taxes, tax)
	}
}

// use takes up to due from the balances, in order.
func use(balances []Applied, due Decimal) ([]Applied, Decimal) {
	var used []Applied
	for _, b := range balances {
		part := b.Amount.Min(due)
		if part.Sign() <= 0 {
			continue
		}
		used = append(used, Applied{b.ID, b.Name, part})
		due = due.Sub(part)
	}
	return used, due
}
