// Package render writes invoices and credit notes for people and for other
// programs: CSV, a page for the browser and the printer, PDF, and UBL 2.1. The
// canonical JSON of billing is the truth; these show it. All are pure and give
// the same bytes for the same invoice.
package render

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"strings"
	"time"

	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

// Party is who sells or who buys.
type Party struct {
	// Name is that of the company, Street its address with the number, City and
	// PostCode where that is.
	Name     string `json:"name"`
	Street   string `json:"street,omitempty"`
	City     string `json:"city,omitempty"`
	PostCode string `json:"post_code,omitempty"`
	// Country is two letters of ISO 3166.
	Country string `json:"country,omitempty"`
	// VAT is the tax number with its country prefix.
	VAT string `json:"vat,omitempty"`
	// Email is where questions go.
	Email string `json:"email,omitempty"`
	// Endpoint is the electronic address, EndpointScheme its scheme of the EAS
	// code list.
	Endpoint       string `json:"endpoint,omitempty"`
	EndpointScheme string `json:"endpoint_scheme,omitempty"`
}

// Parties are the two sides of a document and what is the same on each.
type Parties struct {
	Seller Party `json:"seller"`
	Buyer  Party `json:"buyer"`
	// Terms is the sentence about payment.
	Terms string `json:"terms,omitempty"`
	// IBAN is where to pay.
	IBAN string `json:"iban,omitempty"`
}

// lines of an address, without the empty ones.
func (p Party) lines() []string {
	var out []string
	for _, s := range []string{p.Name, p.Street, strings.TrimSpace(p.PostCode + " " + p.City), p.Country, p.VAT, p.Email} {
		if s != "" {
			out = append(out, s)
		}
	}
	return out
}

// CSV returns one row for each line, after a row of names. Texts that a
// spreadsheet would take for a formula get an apostrophe in front.
func CSV(inv billing.Invoice) ([]byte, error) {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	rows := [][]string{{
		"invoice", "status", "tenant", "subscription", "currency", "line", "kind", "text", "plan", "price", "start", "end", "quantity", "unit_price",
		"amount", "discount", "net", "tax", "fraction", "corrects", "cells", "hash",
	}}
	for _, l := range inv.Lines {
		price, fraction, cells, hash := "", "", "", ""
		if l.UnitPrice != nil {
			price = l.UnitPrice.String()
		}
		if t := l.Trace; t != nil {
			if hash = t.Hash; hash != "" {
				cells = fmt.Sprint(t.Cells)
			}
			if t.Fraction != nil {
				fraction = t.Fraction.String()
			}
		}
		money := inv.Currency.Text
		rows = append(rows, []string{
			literal(inv.Number), string(inv.Status), literal(string(inv.Tenant)), literal(inv.Subscription), string(inv.Currency), literal(l.ID), string(l.Kind), literal(l.Text),
			literal(l.Plan.String()), literal(l.Price), stamp(l.Period.Start), stamp(l.Period.End), l.Quantity.String(), price,
			money(l.Amount), money(l.Discount), money(l.Net), money(l.Tax), fraction, literal(l.Corrects), cells, hash,
		})
	}
	if err := w.WriteAll(rows); err != nil {
		return nil, fmt.Errorf("write csv: %w", err)
	}
	return b.Bytes(), nil
}

func literal(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return "'" + s
	}
	return s
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func day(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.DateOnly)
}

// zone is where the days of an invoice's periods begin. One that is not known
// here is UTC.
func zone(inv billing.Invoice) *time.Location {
	if loc, err := time.LoadLocation(inv.TimeZone); err == nil {
		return loc
	}
	return time.UTC
}

// days are the first and the last day of a period.
func days(p billing.Period, loc *time.Location) (first, last string) {
	if p.Start.IsZero() && p.End.IsZero() {
		return "", ""
	}
	return p.Start.In(loc).Format(time.DateOnly), p.End.Add(-time.Nanosecond).In(loc).Format(time.DateOnly)
}

// span writes a period by its first and last day.
func span(p billing.Period, loc *time.Location) string {
	first, last := days(p, loc)
	return first + " – " + last
}

// quantity writes a number for readers: at most six digits after the point.
func quantity(d billing.Decimal) string { return d.Round(6, billing.HalfUp).String() }
