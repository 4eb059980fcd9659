package invoicing

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
	"github.com/gatehouse-gateway/gatehouse/metering/billing/render"
)

// Invoice returns one that is issued.
func (a *Accounts) Invoice(ctx context.Context, tenant gatehouse.TenantID, number string) (Invoice, error) {
	v, meta, err := get[Invoice](ctx, a, invoiceRef(tenant, number))
	v.Meta = meta
	return v, err
}

// InvoiceFilter selects invoices that are issued. Empty fields select all.
type InvoiceFilter struct {
	Tenant       gatehouse.TenantID
	Status       billing.Status
	Subscription string
	Number       string
	After        string
	// Limit is 100 when 0, at most 1,000.
	Limit int
}

// Invoices returns a page of invoices, newest first.
func (a *Accounts) Invoices(ctx context.Context, f InvoiceFilter) (control.Page[Invoice], error) {
	q := journal.Query{Kind: kindInvoice, Order: journal.ByNewest, After: f.After, Limit: f.Limit}
	for _, w := range []journal.Field{{Name: "tenant", Value: string(f.Tenant)}, {Name: "status", Value: string(f.Status)}, {Name: "subscription", Value: f.Subscription}, {Name: "number", Value: f.Number}} {
		if w.Value != "" {
			q.Where = append(q.Where, w)
		}
	}
	found, err := a.Store.List(ctx, q)
	if errors.Is(err, journal.ErrInvalid) {
		return control.Page[Invoice]{}, &gatehouse.Error{Code: gatehouse.CodeBadRequest, Message: "the cursor is not one of this list"}
	}
	if err != nil {
		return control.Page[Invoice]{}, coded(err)
	}
	page := control.Page[Invoice]{Items: make([]Invoice, len(found.Items)), Next: found.Next}
	for i := range found.Items {
		if err := decode(&found.Items[i], &page.Items[i]); err != nil {
			return control.Page[Invoice]{}, err
		}
		page.Items[i].Meta = metaOf(&found.Items[i])
	}
	return page, nil
}

// Format is a form of a document.
type Format string

// The formats.
const (
	JSON Format = "json"
	CSV  Format = "csv"
	HTML Format = "html"
	PDF  Format = "pdf"
	UBL  Format = "ubl"
)

// Formats gives the media type of each format.
var Formats = map[Format]string{
	JSON: "application/json", CSV: "text/csv; charset=utf-8", HTML: "text/html; charset=utf-8", PDF: "application/pdf", UBL: "application/xml",
}

// Document writes an invoice in a format. JSON is its canonical form, whose
// SHA-256 without hash, status and marks is its hash. A page and a PDF show what
// is due as issued and what was paid of it since; the others are as issued.
func (inv *Invoice) Document(f Format) ([]byte, error) {
	var out []byte
	var err error
	switch f {
	case JSON:
		out, err = billing.Canonical(inv.Invoice)
	case CSV:
		out, err = render.CSV(inv.Invoice)
	case HTML:
		out, err = render.HTML(inv.Invoice, inv.Parties, inv.settled()...)
	case PDF:
		out, err = render.PDF(inv.Invoice, inv.Parties, inv.settled()...)
	case UBL:
		out, err = render.UBL(inv.Invoice, inv.Parties)
	default:
		return nil, fault("/format", "is not json, csv, html, pdf or ubl", "")
	}
	return out, err
}

// NoteDocument writes a credit note as UBL, or as canonical JSON.
func (a *Accounts) NoteDocument(ctx context.Context, n Note, f Format) ([]byte, error) {
	switch f {
	case JSON:
		return billing.Canonical(n.CreditNote)
	case UBL:
		inv, err := a.Invoice(ctx, n.Tenant, n.Invoice)
		if err != nil {
			return nil, err
		}
		return render.UBLCreditNote(n.CreditNote, inv.Invoice, inv.Parties)
	}
	return nil, fault("/format", "is not json or ubl", "")
}

// VerifyInvoices checks that the invoices of a seller's series have no gap and
// that each is chained to the one before. It reads all of them. What is wrong
// with them is *Broken; other errors say that they could not be read.
func (a *Accounts) VerifyInvoices(ctx context.Context, seller string) (int, error) {
	var series []link
	for r, err := range a.Store.All(ctx, kindInvoice) {
		if err != nil {
			return 0, coded(err)
		}
		var inv Invoice
		if err := json.Unmarshal(r.Body, &inv); err != nil {
			return 0, err
		}
		l, ours := linkOf(&inv.Invoice, seller)
		if !ours {
			continue
		}
		if err := billing.Verify([]billing.Invoice{inv.Invoice}); err != nil {
			return 0, &Broken{err.Error()}
		}
		series = append(series, l)
	}
	return len(series), gapless(series, seller)
}
