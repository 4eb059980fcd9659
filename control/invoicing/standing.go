package invoicing

import "github.com/gatehouse-gateway/gatehouse/metering/billing"

// Standing is an invoice that is issued with what is paid of it by now. The
// document within it is frozen; what is paid stands beside it.
type Standing struct {
	Invoice
	// Paid is what was paid of what is due, in part or all at once.
	Paid billing.Decimal `json:"paid"`
	// Left is what is to be paid by now; nothing of a void invoice.
	Left billing.Decimal `json:"left"`
}

// Standing says what is paid of an invoice, and what is left.
func (inv *Invoice) Standing() Standing {
	paid := inv.paid()
	if inv.Status == billing.Paid {
		paid = inv.Due // the last of it, or all, has no entry among the payments
	}
	return Standing{*inv, paid, inv.owed()}
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
}

// Statement returns it in canonical JSON.
func (inv *Invoice) Statement() ([]byte, error) {
	s := inv.Standing()
	return billing.Canonical(Statement{inv.Invoice, inv.Payments, s.Paid, s.Left})
}
