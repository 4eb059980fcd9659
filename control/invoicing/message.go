package invoicing

import (
	"encoding/json"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
	"github.com/gatehouse-gateway/gatehouse/control/webhook"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

// Kinds of events that webhooks tell of, in the journal and on the wire.
const (
	KindFinalized     = "invoice.finalized"
	KindPaid          = "invoice.paid"
	KindPayment       = "invoice.payment"
	KindVoid          = "invoice.void"
	KindUncollectible = "invoice.uncollectible"
	KindOverdue       = "invoice.overdue"
	KindCredited      = "credit_note.created"
	KindTriggered     = "alert.triggered"
	KindResolved      = "alert.resolved"
)

// MessageKinds are all of them.
var MessageKinds = []string{KindFinalized, KindPaid, KindPayment, KindVoid, KindUncollectible, KindOverdue, KindCredited, KindTriggered, KindResolved}

// Summary is what a webhook tells of an invoice; the whole is read by the API.
type Summary struct {
	Number       string             `json:"number"`
	Tenant       gatehouse.TenantID `json:"tenant"`
	Subscription string             `json:"subscription"`
	Kind         billing.Kind       `json:"kind"`
	Status       billing.Status     `json:"status"`
	Currency     billing.Currency   `json:"currency"`
	Period       billing.Period     `json:"period"`
	Subtotal     billing.Decimal    `json:"subtotal"`
	Tax          billing.Decimal    `json:"tax"`
	Total        billing.Decimal    `json:"total"`
	Due          billing.Decimal    `json:"due"`
	// Left is what of Due is to be paid by now.
	Left   billing.Decimal `json:"left"`
	Issued time.Time       `json:"issued"`
	PayBy  time.Time       `json:"pay_by"`
	Hash   string          `json:"hash"`
	// OverdueDays is set in invoice.overdue.
	OverdueDays int `json:"overdue_days,omitempty"`
}

// Summary of an invoice.
func (inv *Invoice) Summary() Summary {
	return Summary{
		inv.Number, inv.Tenant, inv.Subscription, inv.Kind, inv.Status, inv.Currency, inv.Period, inv.Subtotal, inv.Tax, inv.Total, inv.Due, inv.owed(),
		inv.Issued, inv.PayBy, inv.Hash, 0,
	}
}

// Message is what webhooks tell of an event, for webhook.Config; false for one
// that they do not tell of.
func Message(e *journal.Event) (webhook.Message, bool) {
	var data any
	var err error
	switch e.Kind {
	case KindFinalized, KindPaid, KindPayment, KindVoid, KindUncollectible, KindOverdue:
		var inv Invoice
		inv, _, err = outcome[Invoice](e, kindInvoice)
		s := inv.Summary()
		if n := len(inv.Overdue); e.Kind == KindOverdue && n > 0 {
			s.OverdueDays = inv.Overdue[n-1].Days
		}
		data = s
	case KindCredited:
		var n Note
		n, _, err = outcome[Note](e, kindNote)
		n.Lines = nil
		data = n
	case KindTriggered, KindResolved:
		var s Alert
		s, _, err = outcome[Alert](e, kindAlert)
		data = s.Last
	default:
		return webhook.Message{}, false
	}
	if err != nil {
		return webhook.Message{}, false
	}
	body, err := json.Marshal(data)
	return webhook.Message{Kind: e.Kind, At: e.At, Tenant: e.Tenant, Data: body}, err == nil
}
