package render

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"strconv"
	"time"

	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

// The names of UBL 2.1 and of the European core invoice, EN 16931.
const (
	nsInvoice    = "urn:oasis:names:specification:ubl:schema:xsd:Invoice-2"
	nsCreditNote = "urn:oasis:names:specification:ubl:schema:xsd:CreditNote-2"
	nsAggregate  = "urn:oasis:names:specification:ubl:schema:xsd:CommonAggregateComponents-2"
	nsBasic      = "urn:oasis:names:specification:ubl:schema:xsd:CommonBasicComponents-2"
	core         = "urn:cen.eu:en16931:2017"
	one          = "C62" // UN/ECE Rec 20: one unit
)

// element is a node of XML: text, or children. Elements without either are
// not written.
type element struct {
	name  string
	attrs []string // names and values in turn
	text  string
	kids  []element
}

func e(name string, kids ...element) element { return element{name: name, kids: kids} }

func v(name, text string, attrs ...string) element {
	return element{name: name, text: text, attrs: attrs}
}

func (el element) empty() bool {
	for _, k := range el.kids {
		if !k.empty() {
			return false
		}
	}
	return el.text == ""
}

func (el element) write(b *bytes.Buffer) {
	if el.empty() {
		return
	}
	b.WriteString("<" + el.name)
	for i := 0; i < len(el.attrs); i += 2 {
		b.WriteString(" " + el.attrs[i] + `="`)
		xml.Escape(b, []byte(el.attrs[i+1]))
		b.WriteString(`"`)
	}
	b.WriteString(">")
	xml.Escape(b, []byte(el.text))
	for _, k := range el.kids {
		k.write(b)
	}
	b.WriteString("</" + el.name + ">")
}

// UBL returns a finalized invoice as a UBL 2.1 invoice of EN 16931. The order
// of elements and the arithmetic of the standard (BR-CO-10 to 17, BR-DEC,
// BR-S-8) are held by tests here; the OASIS schemas and the Schematron rules
// are not in this repository, so validate a sample before the first one is sent. A currency
// with more than two digits cannot meet the standard's BR-DEC rules, and a
// draft has no number: both are errors.
func UBL(inv billing.Invoice, parties Parties) ([]byte, error) {
	if err := fits(inv.Number, inv.Currency); err != nil {
		return nil, err
	}
	money, loc := amounts(inv.Currency), zone(inv)
	vat := &breakdown{}
	for _, l := range inv.Lines {
		vat.add(l.Net, l.Tax, l.Taxes)
	}
	doc := e("Invoice",
		v("cbc:CustomizationID", core),
		v("cbc:ID", inv.Number), v("cbc:IssueDate", day(inv.Issued)), v("cbc:DueDate", day(inv.PayBy)),
		v("cbc:InvoiceTypeCode", strconv.Itoa(inv.Type)), v("cbc:DocumentCurrencyCode", string(inv.Currency)),
		v("cbc:BuyerReference", string(inv.Tenant)),
		period(inv.Period, loc),
	)
	doc.kids = append(doc.kids, corrected(inv)...)
	doc.kids = append(doc.kids,
		party("cac:AccountingSupplierParty", parties.Seller, ""), party("cac:AccountingCustomerParty", parties.Buyer, string(inv.Tenant)),
		means(parties.IBAN), e("cac:PaymentTerms", v("cbc:Note", parties.Terms)),
		vat.total(inv.Tax, money),
		total(inv.Subtotal, inv.Tax, prepaid(inv), money),
	)
	for i, l := range inv.Lines {
		doc.kids = append(doc.kids, invoiceLine(i, l, vat, loc, money))
	}
	return document(doc, nsInvoice), nil
}

// corrected names the invoices whose usage came late (BG-3), each once.
func corrected(inv billing.Invoice) []element {
	var out []element
	named := map[string]bool{"": true}
	for _, l := range inv.Lines {
		if !named[l.Corrects] {
			named[l.Corrects] = true
			out = append(out, e("cac:BillingReference", e("cac:InvoiceDocumentReference", v("cbc:ID", l.Corrects))))
		}
	}
	return out
}

// UBLCreditNote returns a numbered credit note as a UBL 2.1 credit note that
// names its invoice. Errors are as for UBL.
func UBLCreditNote(n billing.CreditNote, of billing.Invoice, parties Parties) ([]byte, error) {
	if err := fits(n.Number, n.Currency); err != nil {
		return nil, err
	}
	money := amounts(n.Currency)
	vat := &breakdown{}
	for _, l := range n.Lines {
		vat.add(l.Net, l.Tax, l.Taxes)
	}
	doc := e("CreditNote",
		v("cbc:CustomizationID", core), v("cbc:ID", n.Number), v("cbc:IssueDate", day(n.Issued)),
		v("cbc:CreditNoteTypeCode", strconv.Itoa(n.Type)), v("cbc:Note", n.Reason), v("cbc:DocumentCurrencyCode", string(n.Currency)),
		v("cbc:BuyerReference", string(n.Tenant)),
		e("cac:BillingReference", e("cac:InvoiceDocumentReference", v("cbc:ID", n.Invoice), v("cbc:IssueDate", day(of.Issued)))),
		party("cac:AccountingSupplierParty", parties.Seller, ""), party("cac:AccountingCustomerParty", parties.Buyer, string(n.Tenant)),
		vat.total(n.Tax, money), total(n.Subtotal, n.Tax, billing.Decimal{}, money),
	)
	names := map[string]string{}
	for _, l := range of.Lines {
		names[l.ID] = l.Text
	}
	for i, l := range n.Lines {
		quantity, price := "1", l.Net
		if price.Sign() < 0 { // prices are never negative (BR-27)
			quantity, price = "-1", price.Neg()
		}
		doc.kids = append(doc.kids, e("cac:CreditNoteLine",
			v("cbc:ID", strconv.Itoa(i+1)), v("cbc:CreditedQuantity", quantity, "unitCode", one), money("cbc:LineExtensionAmount", l.Net),
			e("cac:Item", v("cbc:Name", or(names[l.Line], l.Line)), vat.of(l.Taxes).line()),
			e("cac:Price", v("cbc:PriceAmount", price.String(), "currencyID", string(n.Currency)))))
	}
	return document(doc, nsCreditNote), nil
}

func fits(number string, c billing.Currency) error {
	if number == "" {
		return fmt.Errorf("a draft has no number: UBL is of finalized documents")
	}
	if places, known := c.Places(); !known || places > 2 {
		return fmt.Errorf("%s has %d digits: EN 16931 allows two (BR-DEC)", c, places)
	}
	return nil
}

func document(root element, ns string) []byte {
	root.attrs = []string{"xmlns", ns, "xmlns:cac", nsAggregate, "xmlns:cbc", nsBasic}
	var b bytes.Buffer
	b.WriteString(xml.Header)
	root.write(&b)
	b.WriteString("\n")
	return b.Bytes()
}

func amounts(c billing.Currency) func(string, billing.Decimal) element {
	return func(name string, d billing.Decimal) element { return v(name, c.Text(d), "currencyID", string(c)) }
}

func party(name string, p Party, id string) element {
	vat := e("cac:PartyTaxScheme", v("cbc:CompanyID", p.VAT), e("cac:TaxScheme", v("cbc:ID", "VAT")))
	if p.VAT == "" {
		vat = element{}
	}
	return e(name, e("cac:Party",
		v("cbc:EndpointID", p.Endpoint, "schemeID", p.EndpointScheme),
		e("cac:PartyName", v("cbc:Name", or(p.Name, id))),
		e("cac:PostalAddress", v("cbc:StreetName", p.Street), v("cbc:CityName", p.City), v("cbc:PostalZone", p.PostCode), e("cac:Country", v("cbc:IdentificationCode", p.Country))),
		vat,
		e("cac:PartyLegalEntity", v("cbc:RegistrationName", or(p.Name, id))),
		e("cac:Contact", v("cbc:ElectronicMail", p.Email))))
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// means is a SEPA credit transfer (UNTDID 4461: 58).
func means(iban string) element {
	if iban == "" {
		return element{}
	}
	return e("cac:PaymentMeans", v("cbc:PaymentMeansCode", "58"), e("cac:PayeeFinancialAccount", v("cbc:ID", iban)))
}

func period(p billing.Period, loc *time.Location) element {
	first, last := days(p, loc)
	return e("cac:InvoicePeriod", v("cbc:StartDate", first), v("cbc:EndDate", last))
}

func prepaid(inv billing.Invoice) billing.Decimal {
	sum := billing.Decimal{}
	for _, a := range inv.CreditNotes {
		sum = sum.Add(a.Amount)
	}
	for _, a := range inv.Wallet {
		sum = sum.Add(a.Amount)
	}
	return sum
}

func total(net, tax, prepaid billing.Decimal, money func(string, billing.Decimal) element) element {
	gross := net.Add(tax)
	out := e("cac:LegalMonetaryTotal", money("cbc:LineExtensionAmount", net), money("cbc:TaxExclusiveAmount", net), money("cbc:TaxInclusiveAmount", gross))
	if !prepaid.IsZero() {
		out.kids = append(out.kids, money("cbc:PrepaidAmount", prepaid))
	}
	out.kids = append(out.kids, money("cbc:PayableAmount", gross.Sub(prepaid)))
	return out
}

// invoiceLine states quantity and price where they multiply to the net amount,
// and one unit at the net amount where they do not: tiers, fractions, discounts.
// Prices are never negative (BR-27); credits have a negative quantity.
func invoiceLine(i int, l billing.Line, vat *breakdown, loc *time.Location, money func(string, billing.Decimal) element) element {
	quantity, price, note := billing.Int(1), l.Net, ""
	if plain := l.UnitPrice != nil && l.UnitPrice.Sign() >= 0; plain && l.UnitPrice.Mul(l.Quantity).Cmp(l.Net) == 0 {
		quantity, price = l.Quantity, *l.UnitPrice
	} else {
		note = "Quantity " + l.Quantity.Round(6, billing.HalfUp).String()
	}
	if price.Sign() < 0 {
		quantity, price = quantity.Neg(), price.Neg()
	}
	amount := money("cbc:LineExtensionAmount", l.Net)
	return e("cac:InvoiceLine",
		v("cbc:ID", strconv.Itoa(i+1)), v("cbc:InvoicedQuantity", quantity.Round(12, billing.HalfUp).String(), "unitCode", one), amount,
		period(l.Period, loc),
		e("cac:Item", v("cbc:Description", note), v("cbc:Name", or(l.Text, string(l.Kind))), vat.of(l.Taxes).line()),
		e("cac:Price", v("cbc:PriceAmount", price.Round(12, billing.HalfUp).String(), amount.attrs...)))
}
