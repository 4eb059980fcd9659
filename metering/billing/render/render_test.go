package render_test

import (
	"bytes"
	"encoding/csv"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse/metering/billing"
	"github.com/gatehouse-gateway/gatehouse/metering/billing/render"
)

var update = flag.Bool("update", false, "write the goldens anew")

func dec(s string) billing.Decimal {
	d, err := billing.ParseDecimal(s)
	if err != nil {
		panic(err)
	}
	return d
}

var parties = render.Parties{
	Seller: render.Party{Name: "Gate & House <GmbH>", Street: "Am Tor 1", City: "Köln", PostCode: "50667", Country: "DE", VAT: "DE123456789", Email: "billing@example.com", Endpoint: "billing@example.com", EndpointScheme: "EM"},
	Buyer:  render.Party{Name: "Acme S.p.A.", City: "Roma", Country: "IT", VAT: "IT00000000000"},
	Terms:  "Within 14 days.", IBAN: "DE02120300000000202051",
}

func invoice(t *testing.T) billing.Invoice {
	t.Helper()
	january := billing.Period{Start: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), End: time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)}
	price, fraction := dec("0.01"), dec("21/31")
	plan := billing.PlanRef{ID: "premium", Version: 2}
	s := billing.Settle([]billing.Line{
		{ID: "usage/1", Kind: billing.LineUsage, Text: `=HYPERLINK("<script>alert(1)</script>")`, Price: "calls", Plan: plan, Period: january, Quantity: dec("1200"), UnitPrice: &price, Amount: dec("12"), Trace: &billing.Trace{Cells: 2, Hash: strings.Repeat("ab", 32), Metered: dec("1200")}},
		{ID: "credit/1", Kind: billing.LineCredit, Text: "Base fee: unused", Price: "base", Plan: plan, Period: january, Quantity: dec("1"), Amount: dec("-20.32"), Trace: &billing.Trace{Fraction: &fraction}},
		{ID: "charge/1", Kind: billing.LineCharge, Text: "Base fee", Price: "base", Plan: plan, Period: january, Quantity: dec("1"), Amount: dec("60.97"), Corrects: "GH-2026-000001"},
	}, billing.Terms{
		Currency: "EUR", Discounts: []billing.Discount{{ID: "hi", Name: "Welcome", Percent: dec("10")}}, Taxes: func(billing.Line) []billing.Tax { return []billing.Tax{{Code: "VAT", Percent: dec("19")}} },
		CreditNotes: []billing.Applied{{ID: "GH-CN-2026-000001", Amount: dec("5")}}, Wallet: []billing.Applied{{ID: "g1", Amount: dec("3")}},
	})
	inv, err := billing.Invoice{
		Key: "s1/2026-01-01T00:00:00Z/closing", Type: billing.TypeInvoice, Kind: billing.Closing, Status: billing.Drafted, Tenant: "acme", Subscription: "s1", Currency: "EUR", Period: january,
		Sheet: s, Watermark: billing.Watermark{Missing: []string{"gw-7"}},
	}.Finalize("GH-2026-000123", "", january.End, 14*24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return inv
}

// golden compares with a file, whole.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := "testdata/" + name
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs:\n%s", name, got)
	}
}

func TestCSV(t *testing.T) {
	got, err := render.CSV(invoice(t))
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "invoice.csv", got)
	rows, err := csv.NewReader(bytes.NewReader(got)).ReadAll()
	if err != nil || len(rows) != 4 || !strings.HasPrefix(rows[1][7], "'=") {
		t.Errorf("%d rows, %v", len(rows), err)
	}
}

func TestHTML(t *testing.T) {
	inv := invoice(t)
	got, err := render.HTML(inv, parties)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "invoice.html", got)
	for _, bad := range []string{"<script", "http://", "https://", "src=", "Gate & House <"} {
		if bytes.Contains(got, []byte(bad)) {
			t.Errorf("the page has %s", bad)
		}
	}
	inv.Number, inv.Status = "", billing.Drafted
	if got, err = render.HTML(inv, render.Parties{}); err != nil || !bytes.Contains(got, []byte("Draft invoice")) {
		t.Errorf("a draft: %v", err)
	}
}

func TestPDFIsTheSameEachTime(t *testing.T) {
	inv := invoice(t)
	for range 80 {
		inv.Lines = append(inv.Lines, inv.Lines[0])
	}
	first, err := render.PDF(inv, parties)
	if err != nil {
		t.Fatal(err)
	}
	second, err := render.PDF(inv, parties)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Error("two runs differ")
	}
	if !bytes.HasPrefix(first, []byte("%PDF-1.")) || !bytes.HasSuffix(first, []byte("%%EOF\n")) || !bytes.Contains(first, []byte("(D:20260201000000")) {
		t.Error("that is no PDF of the invoice's date")
	}
	if n := bytes.Count(first, []byte("/Type /Page\n")); n < 4 {
		t.Errorf("%d pages", n)
	}
	inv.Issued = inv.Issued.Add(time.Hour)
	if third, err := render.PDF(inv, parties); err != nil || bytes.Equal(first, third) {
		t.Errorf("another date gives the same bytes: %v", err)
	}
}

// order is the sequence of elements that the schemas of UBL 2.1 fix, as far
// as these documents use it.
var order = map[string][]string{
	"Invoice":                  strings.Fields("CustomizationID ID IssueDate DueDate InvoiceTypeCode Note DocumentCurrencyCode BuyerReference InvoicePeriod BillingReference AccountingSupplierParty AccountingCustomerParty PaymentMeans PaymentTerms TaxTotal LegalMonetaryTotal InvoiceLine"),
	"CreditNote":               strings.Fields("CustomizationID ID IssueDate CreditNoteTypeCode Note DocumentCurrencyCode BuyerReference InvoicePeriod BillingReference AccountingSupplierParty AccountingCustomerParty PaymentMeans PaymentTerms TaxTotal LegalMonetaryTotal CreditNoteLine"),
	"Party":                    strings.Fields("EndpointID PartyName PostalAddress PartyTaxScheme PartyLegalEntity Contact"),
	"PostalAddress":            strings.Fields("StreetName CityName PostalZone Country"),
	"PartyTaxScheme":           strings.Fields("CompanyID TaxScheme"),
	"TaxTotal":                 strings.Fields("TaxAmount TaxSubtotal"),
	"TaxSubtotal":              strings.Fields("TaxableAmount TaxAmount TaxCategory"),
	"TaxCategory":              strings.Fields("ID Percent TaxExemptionReason TaxScheme"),
	"ClassifiedTaxCategory":    strings.Fields("ID Percent TaxScheme"),
	"LegalMonetaryTotal":       strings.Fields("LineExtensionAmount TaxExclusiveAmount TaxInclusiveAmount PrepaidAmount PayableAmount"),
	"InvoiceLine":              strings.Fields("ID InvoicedQuantity LineExtensionAmount InvoicePeriod Item Price"),
	"CreditNoteLine":           strings.Fields("ID CreditedQuantity LineExtensionAmount InvoicePeriod Item Price"),
	"Item":                     strings.Fields("Description Name ClassifiedTaxCategory"),
	"InvoicePeriod":            strings.Fields("StartDate EndDate"),
	"PaymentMeans":             strings.Fields("PaymentMeansCode PayeeFinancialAccount"),
	"InvoiceDocumentReference": strings.Fields("ID IssueDate"),
	"AccountingSupplierParty":  {"Party"},
	"AccountingCustomerParty":  {"Party"},
	"BillingReference":         {"InvoiceDocumentReference"},
	"PartyName":                {"Name"},
	"PartyLegalEntity":         {"RegistrationName"},
	"Contact":                  {"ElectronicMail"},
	"Country":                  {"IdentificationCode"},
	"TaxScheme":                {"ID"},
	"Price":                    {"PriceAmount"},
	"PaymentTerms":             {"Note"},
	"PayeeFinancialAccount":    {"ID"},
}

func checkOrder(t *testing.T, doc []byte) {
	t.Helper()
	type open struct {
		name string
		last int
	}
	var stack []open
	d := xml.NewDecoder(bytes.NewReader(doc))
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		switch tok := tok.(type) {
		case xml.StartElement:
			if n := len(stack); n > 0 {
				in := &stack[n-1]
				i := slices.Index(order[in.name], tok.Name.Local)
				if i < in.last {
					t.Errorf("%s is out of place in %s", tok.Name.Local, in.name)
				}
				in.last = i
			}
			stack = append(stack, open{name: tok.Name.Local})
		case xml.EndElement:
			stack = stack[:len(stack)-1]
		}
	}
}

func TestUBL(t *testing.T) {
	inv := invoice(t)
	got, err := render.UBL(inv, parties)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "invoice.xml", got)
	checkOrder(t, got)
	note, err := billing.Note(inv, nil, []billing.CreditAsk{{Line: "charge/1", Net: dec("10")}}, "", "as agreed", billing.HalfUp, inv.Issued)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := render.UBLCreditNote(note, inv, parties); err == nil {
		t.Error("a note without a number was written")
	}
	if note, err = note.Seal("GH-CN-2026-000002", ""); err != nil {
		t.Fatal(err)
	}
	if got, err = render.UBLCreditNote(note, inv, parties); err != nil {
		t.Fatal(err)
	}
	golden(t, "credit-note.xml", got)
	checkOrder(t, got)
	inv.Currency = "KWD"
	if _, err := render.UBL(inv, parties); err == nil {
		t.Error("three digits were written")
	}
}
