package render_test

import (
	"bytes"
	"compress/zlib"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse/metering/billing"
	"github.com/gatehouse-gateway/gatehouse/metering/billing/render"
)

// roman is a January of Rome with lines of two taxes, of one, and of none.
func roman(t *testing.T, taxes func(billing.Line) []billing.Tax) billing.Invoice {
	t.Helper()
	rome, err := time.LoadLocation("Europe/Rome")
	if err != nil {
		t.Fatal(err)
	}
	january := billing.Period{Start: time.Date(2026, 1, 1, 0, 0, 0, 0, rome).UTC(), End: time.Date(2026, 2, 1, 0, 0, 0, 0, rome).UTC()}
	var lines []billing.Line
	for _, id := range []string{"two", "one", "none", "zero"} {
		lines = append(lines, billing.Line{ID: id, Amount: dec("10"), Quantity: dec("1"), Period: january})
	}
	inv, err := billing.Invoice{
		Key: "k", Type: billing.TypeInvoice, Status: billing.Drafted, Currency: "EUR", TimeZone: "Europe/Rome", Period: january,
		Sheet: billing.Settle(lines, billing.Terms{Currency: "EUR", Taxes: taxes}),
	}.Finalize("GH-2026-000001", "", january.End, 0)
	if err != nil {
		t.Fatal(err)
	}
	return inv
}

// TestDaysOfTheZone holds that documents show days of the calendar in which
// periods were cut.
func TestDaysOfTheZone(t *testing.T) {
	inv := roman(t, nil)
	page, err := render.HTML(inv, parties)
	if err != nil || !bytes.Contains(page, []byte("2026-01-01 – 2026-01-31")) || bytes.Contains(page, []byte("2025-12-31")) {
		t.Errorf("the page has another period: %v", err)
	}
	doc, err := render.UBL(inv, parties)
	if err != nil {
		t.Fatal(err)
	}
	days := regexp.MustCompile(`<cbc:(Start|End)Date>([^<]*)<`).FindAllSubmatch(doc, -1)
	if len(days) != 10 {
		t.Errorf("%d days", len(days))
	}
	for _, d := range days {
		if want := map[string]string{"Start": "2026-01-01", "End": "2026-01-31"}[string(d[1])]; string(d[2]) != want {
			t.Errorf("%s is %s, want %s", d[1], d[2], want)
		}
	}
}

// TestDaysOfPayments holds that pages show the day of the zone on which a payment
// was noted.
func TestDaysOfPayments(t *testing.T) {
	noted := render.Payment{At: time.Date(2026, 2, 9, 23, 30, 0, 0, time.UTC), Ref: "wire", Amount: dec("5")}
	inv := roman(t, nil)
	const want = "Paid, noted 2026-02-10, wire"
	if page, err := render.HTML(inv, parties, noted); err != nil || !bytes.Contains(page, []byte(want)) {
		t.Errorf("the page has not %q: %v", want, err)
	}
	doc, err := render.PDF(inv, parties, noted)
	if err != nil {
		t.Fatal(err)
	}
	if text := printed(t, doc); !strings.Contains(text, want) {
		t.Errorf("the PDF has not %q: %s", want, text)
	}
}

// printed is what the pages of a PDF are drawn by: its texts are in brackets.
func printed(t *testing.T, doc []byte) string {
	t.Helper()
	var out strings.Builder
	for part := range bytes.SplitSeq(doc, []byte("\nstream\n")) {
		body, _, _ := bytes.Cut(part, []byte("\nendstream"))
		z, err := zlib.NewReader(bytes.NewReader(body))
		if err != nil { // not what is compressed
			continue
		}
		if _, err := io.Copy(&out, z); err != nil {
			t.Fatal(err)
		}
	}
	return out.String()
}

// TestBreakdown holds that every line is in one entry of the VAT breakdown,
// and that the entries sum to the totals.
func TestBreakdown(t *testing.T) {
	f := func(taxes func(billing.Line) []billing.Tax, want string) {
		t.Helper()
		doc, err := render.UBL(roman(t, taxes), parties)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, m := range regexp.MustCompile(`<cac:TaxSubtotal>.*?</cac:TaxSubtotal>`).FindAll(doc, -1) {
			got = append(got, strings.Join(strings.FieldsFunc(regexp.MustCompile(`<[^>]*>`).ReplaceAllString(string(m), "|"), func(r rune) bool { return r == '|' }), " "))
		}
		for _, m := range regexp.MustCompile(`ClassifiedTaxCategory><cbc:ID>(.)<`).FindAllSubmatch(doc, -1) {
			got = append(got, string(m[1]))
		}
		if all := strings.Join(got, "; "); all != want {
			t.Errorf("got %s\nwant %s", all, want)
		}
	}
	f(func(l billing.Line) []billing.Tax {
		switch l.ID {
		case "two":
			return []billing.Tax{{Code: "GST", Percent: dec("5")}, {Code: "PST", Percent: dec("7")}}
		case "one":
			return []billing.Tax{{Code: "VAT", Percent: dec("12")}}
		case "zero":
			return []billing.Tax{{Code: "VAT"}}
		}
		return nil
	}, "20.00 2.40 S 12 VAT; 10.00 0.00 E 0 Exempt from tax VAT; 10.00 0.00 Z 0 VAT; S; S; E; Z")
	f(nil, "40.00 0.00 O Not subject to tax VAT; O; O; O; O")
}
