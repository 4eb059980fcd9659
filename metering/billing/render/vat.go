package render

import "github.com/gatehouse-gateway/gatehouse/metering/billing"

// rate is what a line belongs to in the VAT breakdown. EN 16931 knows one
// category and one rate for each line (BG-30): taxes on one line are summed.
type rate struct {
	// id is of UNCL 5305: S with a rate, Z for a rate of zero, O where nothing
	// is taxed, and E for what is not taxed beside what is (BR-O-11).
	id      string
	percent billing.Decimal
}

// share is a rate with the lines that it is on.
type share struct {
	taxed     bool
	percent   billing.Decimal
	base, tax billing.Decimal
}

// breakdown is the VAT breakdown (BG-23): one entry for each category and
// rate, so that every line is in one of them.
type breakdown struct {
	shares []share
}

// summed is the rate of all taxes on a line.
func summed(taxes []billing.LineTax) billing.Decimal {
	sum := billing.Decimal{}
	for _, t := range taxes {
		sum = sum.Add(t.Percent)
	}
	return sum
}

// add counts a line.
func (b *breakdown) add(net, tax billing.Decimal, taxes []billing.LineTax) {
	taxed, percent := len(taxes) > 0, summed(taxes)
	for i := range b.shares {
		if s := &b.shares[i]; s.taxed == taxed && s.percent.Cmp(percent) == 0 {
			s.base, s.tax = s.base.Add(net), s.tax.Add(tax)
			return
		}
	}
	b.shares = append(b.shares, share{taxed, percent, net, tax})
}

// of is the rate of a line with these taxes.
func (b *breakdown) of(taxes []billing.LineTax) rate {
	return b.rate(len(taxes) > 0, summed(taxes))
}

func (b *breakdown) rate(taxed bool, percent billing.Decimal) rate {
	switch {
	case taxed && percent.IsZero():
		return rate{"Z", percent}
	case taxed:
		return rate{"S", percent}
	case len(b.shares) > 1:
		return rate{"E", percent}
	}
	return rate{"O", percent}
}

func (b *breakdown) total(tax billing.Decimal, money func(string, billing.Decimal) element) element {
	out := e("cac:TaxTotal", money("cbc:TaxAmount", tax))
	shares := b.shares
	if len(shares) == 0 {
		shares = []share{{}}
	}
	for _, s := range shares {
		of := b.rate(s.taxed, s.percent)
		reason := map[string]string{"O": "Not subject to tax", "E": "Exempt from tax"}[of.id]
		out.kids = append(out.kids, e("cac:TaxSubtotal", money("cbc:TaxableAmount", s.base), money("cbc:TaxAmount", s.tax), of.element("cac:TaxCategory", reason)))
	}
	return out
}

func (r rate) line() element { return r.element("cac:ClassifiedTaxCategory", "") }

func (r rate) element(name, reason string) element {
	percent := r.percent.String()
	if r.id == "O" {
		percent = "" // BR-O-05
	}
	return e(name, v("cbc:ID", r.id), v("cbc:Percent", percent), v("cbc:TaxExemptionReason", reason), e("cac:TaxScheme", v("cbc:ID", "VAT")))
}
