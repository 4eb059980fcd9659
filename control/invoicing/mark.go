package invoicing

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

// Mark is what becomes of an invoice: it is paid, void or uncollectible.
type Mark struct {
	Status billing.Status `json:"status"`
	// Ref is the payment, or the reason, in at most 400 bytes.
	Ref string `json:"ref,omitempty"`
	// Amount is what was paid, where that is not all: the invoice is paid when
	// nothing is left. Several payments have a Ref each.
	Amount *billing.Decimal `json:"amount,omitempty"`
	// Reissue bills the period of a void invoice anew. What it charged of
	// earlier periods, because it came late, is charged again in any case.
	Reissue bool `json:"reissue,omitempty"`
}

// maxRef bounds a Ref, in bytes: with the number of its invoice it names an
// entry in the journal.
const maxRef = 400

// Mark moves an invoice to another status. To mark it so again changes nothing.
// CodeConflict: its status does not allow it, or a void one has been credited.
func (a *Accounts) Mark(ctx context.Context, tenant gatehouse.TenantID, number string, in Mark, m control.Mutation) (Invoice, error) {
	kinds := map[billing.Status]string{billing.Paid: KindPaid, billing.Void: KindVoid, billing.Uncollectible: KindUncollectible}
	kind, ok := kinds[in.Status]
	if !ok {
		return Invoice{}, fault("/status", "is not paid, void or uncollectible", "")
	}
	if in.Reissue && in.Status != billing.Void {
		return Invoice{}, fault("/reissue", "is for a void invoice", "")
	}
	if in.Amount != nil && in.Status != billing.Paid {
		return Invoice{}, fault("/amount", "is for a payment", "")
	}
	if len(in.Ref) > maxRef || strings.ContainsRune(in.Ref, 0) || !utf8.ValidString(in.Ref) {
		return Invoice{}, fault("/ref", fmt.Sprintf("is not text of at most %d bytes", maxRef), "")
	}
	if in.Amount != nil {
		return a.pay(ctx, tenant, number, in, m)
	}
	already := false
	out, meta, err := commit[Invoice](ctx, a, m, event{kind, tenant, kindInvoice}, func(c *change) error {
		var inv Invoice
		ref := invoiceRef(tenant, number)
		if err := c.must(ctx, ref, &inv); err != nil {
			return err
		}
		if err := c.match(&m, ref); err != nil {
			return err
		}
		before := inv.Status
		if p := inv.payment(in.Ref); p != nil && in.Status == billing.Paid && before != billing.Paid {
			return conflict("payment %q of invoice %s is noted with %s: the one of the rest has another ref", in.Ref, number, p.Amount)
		}
		moved, err := inv.Move(in.Status, a.now(), in.Ref)
		if err != nil {
			return conflict("invoice %s is %s: it cannot become %s", number, before, in.Status)
		}
		if already = before == in.Status; already {
			return errNothing
		}
		if in.Status == billing.Void && len(inv.Payments) > 0 {
			return conflict("%s of invoice %s is paid: credit it instead", inv.paid(), number)
		}
		was := inv.unpaid()
		inv.Invoice = moved
		if err := c.booked(ctx, &inv, before, in); err != nil {
			return err
		}
		c.put(ref, inv)
		return c.schedule(ctx, was, &inv)
	})
	if already {
		return a.Invoice(ctx, tenant, number)
	}
	out.Meta = meta
	return out, err
}

// booked books the change of status of an invoice.
func (c *change) booked(ctx context.Context, inv *Invoice, before billing.Status, in Mark) error {
	now, from := c.a.now(), AccountReceivable
	if before == billing.Uncollectible {
		from = AccountBadDebt
	}
	move := func(to string) {
		c.enter(posted(inv.Number+"/"+string(in.Status), now, inv.Tenant, inv.Currency,
			billing.Posting{Account: to, Amount: inv.left()}, billing.Posting{Account: from, Amount: inv.left().Neg()}), inv.Tenant)
	}
	switch in.Status {
	case billing.Paid:
		move(AccountCash)
	case billing.Uncollectible:
		move(AccountBadDebt)
	default:
		return c.void(ctx, &inv.Invoice, from, in.Reissue)
	}
	return nil
}

// void takes back everything that the invoice has brought about but its number.
func (c *change) void(ctx context.Context, inv *billing.Invoice, from string, reissue bool) error {
	now := c.a.now()
	notes, err := list[billing.CreditNote](ctx, c.a, kindNote, inv.Tenant, journal.Field{Name: "invoice", Value: inv.Number})
	if err != nil {
		return err
	}
	if len(notes) > 0 {
		return conflict("invoice %s has been credited by %s: credit the rest of it", inv.Number, notes[0].Number)
	}
	back := Issued(inv, now).Reversed(inv.Number+"/void", now)
	for i := range back.Postings {
		if back.Postings[i].Account == AccountReceivable {
			back.Postings[i].Account = from
		}
	}
	c.enter(back, inv.Tenant)
	if err := c.restore(ctx, inv); err != nil {
		return err
	}
	for i := range inv.Lines {
		if l := &inv.Lines[i]; l.Kind == billing.LineAdjustment {
			c.remove(lateRef(inv, l))
		}
	}
	var s Subscription
	ref := subscriptionRef(inv.Tenant, inv.Subscription)
	if err := c.must(ctx, ref, &s); err != nil {
		return err
	}
	s.Voids++
	s.owe(inv)
	if reissue {
		book, err := c.book(ctx, &s.Subscription, false)
		if err != nil {
			return err
		}
		index := s.Index(book[s.Plan].Cadence, inv.Period.Start)
		switch {
		case inv.Kind == billing.Opening:
			s.Opened = false
		case inv.Kind == billing.Closing && !slices.Contains(s.Again, index):
			s.Again = append(slices.Clone(s.Again), index)
			slices.Sort(s.Again) // what a period has paid in advance comes before it
		}
	}
	c.put(ref, s)
	var taken string
	if err := c.must(ctx, keyRef(inv.Tenant, inv.Key), &taken); err != nil {
		return err
	}
	c.remove(keyRef(inv.Tenant, inv.Key))
	return nil
}

// restore gives back what a void invoice took of wallet and balance.
func (c *change) restore(ctx context.Context, inv *billing.Invoice) error {
	tenant, currency := inv.Tenant, string(inv.Currency)
	if len(inv.Wallet) > 0 {
		w := billing.Wallet{Currency: inv.Currency}
		if err := c.must(ctx, walletRef(tenant, currency), &w); err != nil {
			return err
		}
		w.Return(inv.Number, c.a.now())
		c.put(walletRef(tenant, currency), w)
	}
	if len(inv.CreditNotes) > 0 || inv.Carried.Sign() > 0 {
		funds := Balance{Currency: inv.Currency}
		if err := c.must(ctx, balanceRef(tenant, currency), &funds); err != nil {
			return err
		}
		if inv.Carried.Sign() > 0 {
			carried := billing.Applied{ID: inv.Number, Amount: inv.Carried}
			if funds.left(inv.Number).Cmp(inv.Carried) < 0 {
				return conflict("the credit of invoice %s has been used", inv.Number)
			}
			funds = funds.less([]billing.Applied{carried})
		}
		for _, n := range inv.CreditNotes {
			funds = funds.plus(n)
		}
		c.put(balanceRef(tenant, currency), funds)
	}
	return nil
}
