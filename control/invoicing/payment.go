package invoicing

import (
	"context"
	"fmt"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

// Payment is a part of an invoice that was paid.
type Payment struct {
	// Ref is the payment; it counts once.
	Ref string `json:"ref"`
	// Amount is in the invoice's currency, in whole units of it; At is when it
	// was noted.
	Amount billing.Decimal `json:"amount"`
	At     time.Time       `json:"at"`
}

// payment is the one of a ref, nil if there is none.
func (inv *Invoice) payment(ref string) *Payment {
	for i := range inv.Payments {
		if inv.Payments[i].Ref == ref {
			return &inv.Payments[i]
		}
	}
	return nil
}

// paid is the sum of the payments in part.
func (inv *Invoice) paid() billing.Decimal {
	sum := billing.Decimal{}
	for _, p := range inv.Payments {
		sum = sum.Add(p.Amount)
	}
	return sum
}

// left is what is still to be paid.
func (inv *Invoice) left() billing.Decimal { return inv.Due.Sub(inv.paid()) }

// owed is what a customer is to pay by now.
func (inv *Invoice) owed() billing.Decimal {
	if inv.Status != billing.Finalized && inv.Status != billing.Uncollectible {
		return billing.Decimal{}
	}
	return inv.left()
}

// pay notes a payment of a part. The one that pays the last of what is due
// makes the invoice paid. A payment that is told again changes nothing. More
// than what is left is refused: it is not a payment of this invoice.
func (a *Accounts) pay(ctx context.Context, tenant gatehouse.TenantID, number string, in Mark, m control.Mutation) (Invoice, error) {
	amount := *in.Amount
	var faults gatehouse.Faults
	if in.Ref == "" {
		faults = append(faults, gatehouse.Fault{Pointer: "/ref", Reason: "is missing: it names the payment, so that it counts once"})
	}
	if amount.Sign() <= 0 {
		faults = append(faults, gatehouse.Fault{Pointer: "/amount", Reason: "is not more than 0"})
	}
	if err := invalid(faults); err != nil {
		return Invoice{}, err
	}
	already := false
	out, meta, err := commit[Invoice](ctx, a, m, event{KindPayment, tenant, kindInvoice}, func(c *change) error {
		var inv Invoice
		ref := invoiceRef(tenant, number)
		if err := c.must(ctx, ref, &inv); err != nil {
			return err
		}
		if err := c.match(&m, ref); err != nil {
			return err
		}
		if p := inv.payment(in.Ref); p != nil && p.Amount.Cmp(amount) != 0 {
			return conflict("payment %q of invoice %s is noted with %s", in.Ref, number, p.Amount)
		} else if already = p != nil; already {
			return errNothing
		}
		if inv.Status != billing.Finalized && inv.Status != billing.Uncollectible {
			return conflict("invoice %s is %s: nothing of it is to be paid", number, inv.Status)
		}
		switch left := inv.left(); {
		case billing.Minor(amount, inv.Currency, billing.HalfUp).Cmp(amount) != 0:
			return fault("/amount", fmt.Sprintf("has more digits than %s", inv.Currency), "")
		case amount.Cmp(left) > 0:
			return fault("/amount", fmt.Sprintf("is more than the %s that is left of invoice %s", left, number), "mark what is left, and give the rest back or grant it as credit")
		}
		from := AccountReceivable
		if inv.Status == billing.Uncollectible {
			from = AccountBadDebt
		}
		inv.Payments = append(inv.Payments[:len(inv.Payments):len(inv.Payments)], Payment{in.Ref, amount, a.now()})
		c.enter(posted(number+"/payment/"+in.Ref, a.now(), tenant, inv.Currency,
			billing.Posting{Account: AccountCash, Amount: amount}, billing.Posting{Account: from, Amount: amount.Neg()}), tenant)
		if inv.left().IsZero() {
			moved, err := inv.Move(billing.Paid, a.now(), in.Ref)
			if err != nil {
				return err
			}
			was := inv.unpaid()
			inv.Invoice, c.kind = moved, KindPaid
			if err := c.schedule(ctx, was, &inv); err != nil {
				return err
			}
		}
		c.put(ref, inv)
		return nil
	})
	if already && gatehouse.CodeOf(err) != gatehouse.CodeConflict {
		return a.Invoice(ctx, tenant, number)
	}
	out.Meta = meta
	return out, err
}
