package render_test

import (
	"encoding/xml"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/gatehouse-gateway/gatehouse/metering/billing"
	"github.com/gatehouse-gateway/gatehouse/metering/billing/render"
)

// ublInvoice is what the rules of EN 16931 are about.
type ublInvoice struct {
	TaxAmount []string `xml:"TaxTotal>TaxAmount"`
	Shares    []struct {
		Taxable  string `xml:"TaxableAmount"`
		Tax      string `xml:"TaxAmount"`
		Category string `xml:"TaxCategory>ID"`
		Percent  string `xml:"TaxCategory>Percent"`
		Reason   string `xml:"TaxCategory>TaxExemptionReason"`
	} `xml:"TaxTotal>TaxSubtotal"`
	Net       string   `xml:"LegalMonetaryTotal>LineExtensionAmount"`
	Exclusive string   `xml:"LegalMonetaryTotal>TaxExclusiveAmount"`
	Inclusive string   `xml:"LegalMonetaryTotal>TaxInclusiveAmount"`
	Prepaid   string   `xml:"LegalMonetaryTotal>PrepaidAmount"`
	Payable   string   `xml:"LegalMonetaryTotal>PayableAmount"`
	Corrects  []string `xml:"BillingReference>InvoiceDocumentReference>ID"`
	Line      []struct {
		ID       string `xml:"ID"`
		Quantity string `xml:"InvoicedQuantity"`
		Net      string `xml:"LineExtensionAmount"`
		Price    string `xml:"Price>PriceAmount"`
		Category string `xml:"Item>ClassifiedTaxCategory>ID"`
		Percent  string `xml:"Item>ClassifiedTaxCategory>Percent"`
	} `xml:"InvoiceLine"`
}

// TestRulesOfEN16931 holds the arithmetic rules of the standard, by their
// names in it, for invoices of any lines, taxes, discounts and credit.
func TestRulesOfEN16931(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		inv := anyInvoice(t)
		text, err := render.UBL(inv, parties)
		if err != nil {
			t.Fatal(err)
		}
		var u ublInvoice
		if err := xml.Unmarshal(text, &u); err != nil {
			t.Fatal(err)
		}
		equal := func(rule, got string, want billing.Decimal) {
			t.Helper()
			if num(got).Cmp(want) != 0 {
				t.Fatalf("%s: %s is not %s in\n%s", rule, got, want, text)
			}
		}
		lines, byRate := billing.Decimal{}, map[[2]string]billing.Decimal{}
		for _, l := range u.Line {
			lines = lines.Add(num(l.Net))
			key := [2]string{l.Category, l.Percent}
			byRate[key] = byRate[key].Add(num(l.Net))
			if num(l.Price).Sign() < 0 {
				t.Fatalf("BR-27: the price of line %s is %s", l.ID, l.Price)
			}
			if num(l.Price).Mul(num(l.Quantity)).Cmp(num(l.Net)) != 0 {
				t.Fatalf("line %s: %s x %s is not %s", l.ID, l.Quantity, l.Price, l.Net)
			}
		}
		equal("BR-CO-10", u.Net, lines)
		equal("BR-CO-13", u.Exclusive, lines)
		if len(u.TaxAmount) != 1 {
			t.Fatalf("BR-53: %d sums of tax", len(u.TaxAmount))
		}
		equal("BR-CO-15", u.Inclusive, num(u.Exclusive).Add(num(u.TaxAmount[0])))
		equal("BR-CO-16", u.Payable, num(u.Inclusive).Sub(num(u.Prepaid)))
		tax := billing.Decimal{}
		if len(u.Shares) != len(byRate) {
			t.Fatalf("BR-CO-18: %d rates in the breakdown, %d on lines", len(u.Shares), len(byRate))
		}
		for _, s := range u.Shares {
			tax = tax.Add(num(s.Tax))
			equal("BR-S-8, BR-Z-8, BR-E-8, BR-O-8", s.Taxable, byRate[[2]string{s.Category, s.Percent}])
			if exempt := s.Category == "E" || s.Category == "O"; exempt != (s.Reason != "") || exempt && !num(s.Tax).IsZero() {
				t.Fatalf("BR-E-9, BR-E-10, BR-O-9, BR-O-10: %+v", s)
			}
		}
		equal("BR-CO-14", u.TaxAmount[0], tax)
		amounts := append([]string{u.Net, u.Exclusive, u.Inclusive, u.Prepaid, u.Payable}, u.TaxAmount...)
		for _, s := range u.Shares {
			amounts = append(amounts, s.Taxable, s.Tax)
		}
		for _, l := range u.Line {
			amounts = append(amounts, l.Net)
		}
		for _, a := range amounts {
			if _, decimals, ok := strings.Cut(a, "."); ok && len(decimals) > 2 {
				t.Fatalf("BR-DEC: %s has more than two decimals", a)
			}
		}
		named := map[string]bool{}
		for _, number := range u.Corrects {
			if named[number] {
				t.Fatalf("%s is named twice", number)
			}
			named[number] = true
		}
		for _, l := range inv.Lines {
			if l.Corrects != "" && !named[l.Corrects] {
				t.Fatalf("BG-3: %s is not named", l.Corrects)
			}
		}
	})
}

func num(s string) billing.Decimal {
	if s == "" {
		return billing.Decimal{}
	}
	return dec(s)
}

// anyInvoice has up to eight lines of any sign, with up to three rates.
func anyInvoice(t *rapid.T) billing.Invoice {
	cents := func(name string, least int64) billing.Decimal {
		return billing.Fraction(rapid.Int64Range(least, 1_000_000).Draw(t, name), 100)
	}
	january := billing.Period{Start: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), End: time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)}
	var lines []billing.Line
	for range rapid.IntRange(1, 8).Draw(t, "lines") {
		price := billing.Fraction(rapid.Int64Range(0, 999_999).Draw(t, "price"), 1_000_000)
		quantity := billing.Int(rapid.Int64Range(0, 5000).Draw(t, "quantity"))
		l := billing.Line{Kind: billing.LineUsage, Text: "x", Period: january, Quantity: quantity, UnitPrice: &price, Amount: billing.Minor(quantity.Mul(price), "EUR", billing.HalfUp)}
		if rapid.Bool().Draw(t, "credit") {
			l.Amount, l.UnitPrice = cents("amount", -1_000_000), nil
		}
		l.Category = rapid.SampledFrom([]string{"", "full", "low", "zero"}).Draw(t, "category")
		l.Corrects = rapid.SampledFrom([]string{"", "GH-2026-000001", "GH-2026-000002"}).Draw(t, "corrects")
		lines = append(lines, l)
	}
	rates := map[string][]billing.Tax{"full": {{Code: "VAT", Percent: dec("22")}}, "low": {{Code: "VAT", Percent: dec("5.5")}}, "zero": {{Code: "VAT"}}}
	terms := billing.Terms{
		Currency: "EUR", Taxes: func(l billing.Line) []billing.Tax { return rates[l.Category] }, TaxIncluded: rapid.Bool().Draw(t, "included"),
		Wallet: []billing.Applied{{ID: "g", Amount: cents("credit", 0)}},
	}
	if rapid.Bool().Draw(t, "discounted") {
		terms.Discounts = []billing.Discount{{ID: "d", Percent: dec("7.5")}}
	}
	inv, err := billing.Invoice{
		Key: "k", Type: billing.TypeInvoice, Kind: billing.Closing, Status: billing.Drafted, Tenant: "acme", Currency: "EUR", Period: january, Sheet: billing.Settle(lines, terms),
	}.Finalize("GH-2026-000123", "", january.End, 0)
	if err != nil {
		t.Fatal(err)
	}
	return inv
}
