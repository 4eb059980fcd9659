package billing

import (
	"fmt"
	"slices"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// Disposition says where the money of a credit note goes.
type Disposition string

// The dispositions.
const (
	// ToBalance keeps it for later invoices. The default.
	ToBalance Disposition = "balance"
	// ToRefund pays it back.
	ToRefund Disposition = "refund"
)

// CreditAsk is how much of a line, before tax, is to be credited.
type CreditAsk struct {
	// Line is its id on the invoice, Net how much of it is credited, before tax:
	// below zero of a line that is.
	Line string  `json:"line"`
	Net  Decimal `json:"net"`
}

// CreditLine is a line of a credit note.
type CreditLine struct {
	// Line is its id on the invoice. Net is credited of it, and Tax, the sum of
	// Taxes, on top.
	Line  string    `json:"line"`
	Net   Decimal   `json:"net"`
	Tax   Decimal   `json:"tax,omitzero"`
	Taxes []LineTax `json:"taxes,omitempty"`
}

// CreditNote takes back a part of an invoice. It has a series of its own.
type CreditNote struct {
	// Number is of the seller's series of credit notes; Type is 381 (UNTDID 1001).
	Number string `json:"number"`
	Type   int    `json:"type"`
	// Invoice is the number of the invoice (EN 16931 BT-25).
	Invoice  string             `json:"invoice"`
	Tenant   gatehouse.TenantID `json:"tenant"`
	Currency Currency           `json:"currency"`
	// Reason is for the reader.
	Reason string       `json:"reason,omitempty"`
	To     Disposition  `json:"to"`
	Lines  []CreditLine `json:"lines"`
	// Subtotal is the sum of the lines, Tax of their taxes, Total of both.
	Subtotal Decimal `json:"subtotal"`
	Tax      Decimal `json:"tax"`
	Total    Decimal `json:"total"`
	// Issued is when.
	Issued time.Time `json:"issued"`
	// Previous and Hash chain the notes of a series, as invoices are chained.
	Previous string `json:"previous,omitempty"`
	Hash     string `json:"hash,omitempty"`
}

// Note makes a credit note for lines of a finalized invoice of which the
// earlier notes have taken their parts. Tax is that of the line on what is
// credited; the note that completes a line takes what is left of its tax, so
// that notes never sum to more than the invoice, nor to less when all is
// credited. Of a line below zero an amount below zero is credited. CodeInvalid:
// the invoice is a draft or void, a line is unknown, an amount has not the
// line's sign or is more than what is left, all of them come to zero or less, or
// to more than is left of the invoice, or a refund exceeds what was paid. The result has no number: Number and Seal give it one.
func Note(inv Invoice, earlier []CreditNote, asks []CreditAsk, to Disposition, reason string, mode Rounding, at time.Time) (CreditNote, error) {
	if inv.Status == Drafted || inv.Status == Void {
		return CreditNote{}, refuse("invoice %s is %s: it cannot be credited", inv.name(), inv.Status)
	}
	n := CreditNote{Type: TypeCreditNote, Invoice: inv.Number, Tenant: inv.Tenant, Currency: inv.Currency, Reason: reason, To: to, Issued: at.UTC()}
	if to == "" {
		n.To = ToBalance
	}
	var faults gatehouse.Faults
	for at, ask := range asks {
		i := slices.IndexFunc(inv.Lines, func(l Line) bool { return l.ID == ask.Line })
		if i < 0 {
			faults = append(faults, faultAt(gatehouse.Pointer("lines", at, "line"), "invoice %s has no line %s", inv.name(), ask.Line))
			continue
		}
		l, wrong := credit(inv, inv.Lines[i], gatehouse.Pointer("lines", at, "net"), ask.Net, append(earlier[:len(earlier):len(earlier)], n), mode)
		if wrong != nil {
			faults = append(faults, *wrong)
			continue
		}
		n.Lines = append(n.Lines, l)
		n.Subtotal, n.Tax = n.Subtotal.Add(l.Net), n.Tax.Add(l.Tax)
	}
	if len(faults) > 0 {
		return CreditNote{}, &gatehouse.Error{Code: gatehouse.CodeInvalid, Message: faults[0].Reason, Err: faults}
	}
	n.Total = n.Subtotal.Add(n.Tax)
	left, refundable := inv.Total, inv.Due
	for _, e := range earlier {
		if e.Invoice == inv.Number {
			left = left.Sub(e.Total)
			if e.To == ToRefund {
				refundable = refundable.Sub(e.Total)
			}
		}
	}
	if n.Total.Cmp(left) > 0 || n.Total.Sign() <= 0 {
		return CreditNote{}, refuse("%s cannot be credited: invoice %s has %s left", n.Total, inv.name(), left)
	}
	if n.To == ToRefund && (inv.Status != Paid || n.Total.Cmp(refundable) > 0) {
		return CreditNote{}, refuse("%s cannot be refunded: invoice %s is %s", n.Total, inv.name(), inv.Status)
	}
	return n, nil
}

func faultAt(pointer, format string, args ...any) gatehouse.Fault {
	return gatehouse.Fault{Pointer: pointer, Reason: fmt.Sprintf(format, args...)}
}

// credit makes one line from what the notes before have left of it, or tells
// what is wrong with net, which is at a pointer.
func credit(inv Invoice, of Line, at string, net Decimal, before []CreditNote, mode Rounding) (CreditLine, *gatehouse.Fault) {
	left, tax := of.Net, make([]Decimal, len(of.Taxes))
	for i, t := range of.Taxes {
		tax[i] = t.Amount
	}
	for _, n := range before {
		for _, l := range n.Lines {
			if n.Invoice != inv.Number || l.Line != of.ID {
				continue
			}
			left = left.Sub(l.Net)
			for i := range min(len(tax), len(l.Taxes)) {
				tax[i] = tax[i].Sub(l.Taxes[i].Amount)
			}
		}
	}
	within := net.Cmp(left) <= 0
	if left.Sign() < 0 {
		within = net.Cmp(left) >= 0
	}
	if net.IsZero() || net.Sign() != left.Sign() || !within || Minor(net, inv.Currency, mode).Cmp(net) != 0 {
		wrong := faultAt(at, "%s cannot be credited: line %s of invoice %s has %s left", net, of.ID, inv.name(), left)
		return CreditLine{}, &wrong
	}
	out := CreditLine{Line: of.ID, Net: net}
	for i, t := range of.Taxes {
		amount := tax[i]
		if part := Minor(net.Mul(t.Percent).Div(Int(100)), inv.Currency, mode); net.Cmp(left) != 0 && left.Sign() > 0 {
			amount = part.Min(tax[i])
		} else if net.Cmp(left) != 0 {
			amount = part.Max(tax[i])
		}
		out.Taxes = append(out.Taxes, LineTax{t.Code, t.Percent, net, amount})
		out.Tax = out.Tax.Add(amount)
	}
	return out, nil
}

// Seal gives the note its number and chains it to the hash of the one before.
// CodeInvalid: the number is empty.
func (n CreditNote) Seal(number, previous string) (CreditNote, error) {
	if number == "" {
		return n, refuse("a number is needed to seal a credit note of invoice %s", n.Invoice)
	}
	n.Number, n.Previous, n.Hash = number, previous, ""
	hash, err := digestOf(n)
	n.Hash = hash
	return n, err
}
