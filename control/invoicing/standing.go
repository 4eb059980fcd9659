package invoicing

import (
	"strings"

	"github.com/gatehouse-gateway/gatehouse/metering/billing"
	"github.com/gatehouse-gateway/gatehouse/metering/billing/render"
)

// Standing is an invoice that is issued with what is paid of it by now. The
// document within it is frozen; what is paid stands beside it.
type Standing struct {
	Invoice
	// Paid is what was paid of what is due, in part or all at once.
	Paid billing.Decimal `json:"paid"`
	// Left is what is to be paid by now; nothing of a void invoice.
	Left billing.Decimal `json:"left"`
	// Warnings say what the document lacks for those who read it, such as the
	// name of its seller.
	Warnings []string `json:"warnings,omitempty"`
}

// settled are all payments of an invoice, for print: those of a part, and the
// one that paid the rest.
func (inv *Invoice) settled() []render.Payment {
	out := make([]render.Payment, 0, len(inv.Payments)+1)
	for _, p := range inv.Payments {
		out = append(out, render.Payment{At: p.At, Ref: p.Ref, Amount: p.Amount})
	}
	if rest := inv.left(); inv.Status == billing.Paid && rest.Sign() > 0 {
		paid := inv.Marks[len(inv.Marks)-1] // nothing comes after it
		out = append(out, render.Payment{At: paid.At, Ref: paid.Ref, Amount: rest})
	}
	return out
}

// Standing says what is paid of an invoice, and what is left.
func (inv *Invoice) Standing() Standing {
	paid := inv.paid()
	if inv.Status == billing.Paid {
		paid = inv.Due // the last of it, or all, has no entry among the payments
	}
	return Standing{*inv, paid, inv.owed(), inv.warnings()}
}

// warnings tells of an invoice that was issued before its seller was set: it
// keeps the parties as they were. One that is void lacks nothing.
func (inv *Invoice) warnings() []string {
	if inv.Number == "" || inv.Parties.Seller.Name != "" || inv.Status == billing.Void {
		return nil
	}
	series, _, _ := strings.Cut(inv.Number, "-")
	return []string{"the invoice has no name of a seller: set seller " + series + " (PUT /api/v1/sellers/" + series + ") before one is issued; this one can be taken back, and its period billed anew"}
}

// Statement is the document of an invoice with its payments beside it.
type Statement struct {
	billing.Invoice
	// Payments are those of a part of what is due, oldest first.
	Payments []Payment `json:"payments,omitempty"`
	// Paid is what was paid of what is due, in part or all at once.
	Paid billing.Decimal `json:"paid"`
	// Left is what is to be paid by now; nothing of a void invoice.
	Left billing.Decimal `json:"left"`
	// Warnings say what the document lacks for those who read it, such as the
	// name of its seller.
	Warnings []string `json:"warnings,omitempty"`
}

// Statement returns it in canonical JSON.
func (inv *Invoice) Statement() ([]byte, error) {
	s := inv.Standing()
	return billing.Canonical(Statement{inv.Invoice, inv.Payments, s.Paid, s.Left, s.Warnings})
}
