package render

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/go-pdf/fpdf"

	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

// sheet is a PDF under way. Its fonts are those that every reader has; what
// Windows-1252 cannot write is shown as a point.
type sheet struct {
	*fpdf.Fpdf
	text func(string) string
}

// The columns of lines, in millimetres of 180.
var columns = [...]struct {
	title string
	width float64
	align string
}{{"Description", 82, "L"}, {"Quantity", 28, "R"}, {"Price", 22, "R"}, {"Tax", 22, "R"}, {"Net", 26, "R"}}

// PDF returns the invoice on A4. The same invoice gives the same bytes: dates
// are those of the invoice. Payments are shown as by HTML.
func PDF(inv billing.Invoice, parties Parties, payments ...Payment) ([]byte, error) {
	p := &sheet{Fpdf: fpdf.New("P", "mm", "A4", "")}
	p.text = p.UnicodeTranslatorFromDescriptor("")
	made := inv.Issued
	if made.IsZero() {
		made = inv.Period.End.UTC()
	}
	p.SetCreationDate(made)
	p.SetModificationDate(made)
	p.SetCatalogSort(true)
	p.SetMargins(15, 15, 15)
	p.SetAutoPageBreak(true, 18)
	title := "Draft invoice"
	if inv.Number != "" {
		title = "Invoice " + inv.Number
	}
	p.SetTitle(title, true)
	p.SetFooterFunc(func() {
		p.SetY(-12)
		p.SetFont("Helvetica", "", 7)
		p.CellFormat(0, 4, fmt.Sprintf("%d", p.PageNo()), "", 0, "R", false, 0, "")
		p.SetX(15)
		p.CellFormat(0, 4, inv.Hash, "", 0, "L", false, 0, "")
	})
	p.AddPage()
	p.head(inv, title, parties)
	p.lines(inv)
	p.sums(inv, parties, payments)
	var b bytes.Buffer
	if err := p.Output(&b); err != nil {
		return nil, fmt.Errorf("write pdf: %w", err)
	}
	return b.Bytes(), nil
}

func (p *sheet) row(height float64, s string) {
	p.CellFormat(0, height, p.text(s), "", 1, "L", false, 0, "")
}

func (p *sheet) head(inv billing.Invoice, title string, parties Parties) {
	p.SetFont("Helvetica", "B", 17)
	p.row(9, title)
	p.SetFont("Helvetica", "", 9)
	if inv.Status != billing.Finalized {
		p.row(5, string(inv.Status))
	}
	p.row(5, "Period "+span(inv.Period, zone(inv)))
	if !inv.Issued.IsZero() {
		p.row(5, "Issued "+inv.Issued.UTC().Format(time.DateOnly)+", due "+day(inv.PayBy))
	}
	p.row(5, "Subscription "+inv.Subscription)
	p.Ln(3)
	buyer := parties.Buyer.lines()
	if len(buyer) == 0 {
		buyer = []string{string(inv.Tenant)}
	}
	from, top := parties.Seller.lines(), p.GetY()
	for i, l := range from {
		p.SetXY(15, top+float64(i)*4.5)
		p.CellFormat(85, 4.5, p.text(l), "", 0, "L", false, 0, "")
	}
	for i, l := range buyer {
		p.SetXY(110, top+float64(i)*4.5)
		p.CellFormat(85, 4.5, p.text(l), "", 0, "L", false, 0, "")
	}
	p.SetXY(15, top+float64(max(len(from), len(buyer)))*4.5+6)
}

func (p *sheet) titles() {
	p.SetFont("Helvetica", "B", 8)
	for _, c := range columns {
		p.CellFormat(c.width, 6, c.title, "B", 0, c.align, false, 0, "")
	}
	p.Ln(7)
}

func (p *sheet) lines(inv billing.Invoice) {
	p.titles()
	_, bottom := p.GetPageSize()
	loc := zone(inv)
	for _, l := range inv.Lines {
		if p.GetY() > bottom-32 {
			p.AddPage()
			p.titles()
		}
		price := ""
		if l.UnitPrice != nil {
			price = l.UnitPrice.Round(12, billing.HalfUp).String()
		}
		p.SetFont("Helvetica", "", 9)
		text, more := l.Text, ""
		if len([]rune(text)) > lineText { // what stands behind the name goes below
			text, more, _ = strings.Cut(text, ": ")
		}
		for i, s := range [...]string{fit(text, lineText), quantity(l.Quantity), price, inv.Currency.Text(l.Tax), inv.Currency.Text(l.Net)} {
			p.CellFormat(columns[i].width, 4.5, p.text(s), "", 0, columns[i].align, false, 0, "")
		}
		p.Ln(4.5)
		p.SetFont("Helvetica", "", 7)
		note := span(l.Period, loc)
		if more != "" {
			note = more + "; " + note
		}
		if !l.Discount.IsZero() {
			note += ", " + inv.Currency.Text(l.Amount) + " less " + inv.Currency.Text(l.Discount)
		}
		if l.Corrects != "" {
			note += ", corrects " + l.Corrects
		}
		p.row(4.5, note)
	}
	p.Ln(3)
}

// lineText is how many characters a line's text may have in its column.
const lineText = 48

// fit cuts a text that is too long for its column.
func fit(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

func (p *sheet) sum(name string, amount string) {
	p.SetX(95)
	p.CellFormat(70, 5, p.text(name), "", 0, "R", false, 0, "")
	p.CellFormat(30, 5, p.text(amount), "", 1, "R", false, 0, "")
}

func (p *sheet) sums(inv billing.Invoice, parties Parties, payments []Payment) {
	money := inv.Currency.Text
	p.SetFont("Helvetica", "", 9)
	p.sum("Subtotal", money(inv.Subtotal))
	for _, t := range inv.Taxes {
		p.sum(t.Code+" "+t.Percent.String()+" % of "+money(t.Base), money(t.Amount))
	}
	p.sum("Total", money(inv.Total))
	for _, c := range inv.CreditNotes {
		p.sum("Credit note "+c.ID, money(c.Amount.Neg()))
	}
	for _, c := range inv.Wallet {
		p.sum("Prepaid credit "+c.ID, money(c.Amount.Neg()))
	}
	if !inv.Carried.IsZero() {
		p.sum("Carried to your balance", money(inv.Carried))
	}
	due, amount := "Due, ", inv.Due
	if since(inv, payments) {
		p.sum("Due as issued", money(inv.Due))
		for _, paid := range payments {
			name := "Paid, noted " + paid.At.In(zone(inv)).Format(time.DateOnly)
			if paid.Ref != "" {
				name += ", " + paid.Ref
			}
			p.sum(fit(name, 40), money(paid.Amount.Neg()))
		}
		due, amount = "To pay, ", left(inv, payments)
	}
	p.SetFont("Helvetica", "B", 11)
	p.sum(due+string(inv.Currency), money(amount))
	p.SetFont("Helvetica", "", 8)
	p.Ln(4)
	for _, s := range []string{parties.Terms, parties.IBAN} {
		if s != "" {
			p.MultiCell(0, 4, p.text(s), "", "L", false)
		}
	}
}
