package render

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"time"

	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

//go:embed invoice.html
var page string

// HTML returns the invoice as one page that needs nothing else and prints on
// A4 and letter. All texts are escaped. What is due is shown as issued, and
// payments below it with what they leave.
func HTML(inv billing.Invoice, parties Parties, payments ...Payment) ([]byte, error) {
	loc := zone(inv)
	t, err := template.New("invoice").Funcs(template.FuncMap{
		"money": inv.Currency.Text, "quantity": quantity, "day": day, "dayThere": func(at time.Time) string { return at.In(loc).Format(time.DateOnly) }, "span": func(p billing.Period) string { return span(p, loc) },
	}).Parse(page)
	if err != nil {
		return nil, fmt.Errorf("parse the page: %w", err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, struct {
		billing.Invoice
		Seller, Buyer []string
		Terms, IBAN   string
		Draft, Since  bool
		Payments      []Payment
		Left          billing.Decimal
	}{
		inv, parties.Seller.lines(), parties.Buyer.lines(), parties.Terms, parties.IBAN, inv.Number == "", since(inv, payments), payments, left(inv, payments),
	}); err != nil {
		return nil, fmt.Errorf("write the page: %w", err)
	}
	return b.Bytes(), nil
}
