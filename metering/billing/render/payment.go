package render

import (
	"time"

	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

// Payment is what was paid of an invoice since it was issued.
type Payment struct {
	// At is when it was noted; Ref names the payment, if it has a name.
	At  time.Time
	Ref string
	// Amount is in the invoice's currency.
	Amount billing.Decimal
}

// left is what is to be paid by now: nothing of a void invoice.
func left(inv billing.Invoice, payments []Payment) billing.Decimal {
	if inv.Status == billing.Void {
		return billing.Decimal{}
	}
	left := inv.Due
	for _, p := range payments {
		left = left.Sub(p.Amount)
	}
	return left
}

// since reports whether something has become of what was due when the invoice
// was issued.
func since(inv billing.Invoice, payments []Payment) bool {
	return len(payments) > 0 || inv.Status == billing.Void
}
