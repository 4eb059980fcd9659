package invoicing

import (
	"context"
	"errors"
	"slices"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

// NewNote is what is to be credited.
type NewNote struct {
	// Invoice is the number of the one that is credited.
	Invoice string `json:"invoice"`
	// Lines are what is credited of which; none is all that is left.
	Lines []billing.CreditAsk `json:"lines,omitempty"`
	To    billing.Disposition `json:"to,omitempty"`
	// Reason is told on the note.
	Reason string `json:"reason,omitempty"`
}

// Note is a credit note.
type Note struct {
	billing.CreditNote
	control.Meta
}

func noteRef(tenant gatehouse.TenantID, number string) journal.Ref {
	return journal.Ref{Kind: kindNote, Tenant: string(tenant), ID: number}
}

// Credit issues a credit note for an invoice, in a series of its own.
func (a *Accounts) Credit(ctx context.Context, tenant gatehouse.TenantID, in NewNote, m control.Mutation) (Note, error) {
	var faults gatehouse.Faults
	if in.To != "" && in.To != billing.ToBalance && in.To != billing.ToRefund {
		faults = append(faults, gatehouse.Fault{Pointer: "/to", Reason: "is not balance or refund"})
	}
	out, meta, err := commit[Note](ctx, a, m, event{KindCredited, tenant, kindNote}, func(c *change) error {
		var inv Invoice
		if err := c.must(ctx, invoiceRef(tenant, in.Invoice), &inv); err != nil {
			return err
		}
		if len(inv.Lines) == 0 {
			return conflict("invoice %s has no lines to credit", in.Invoice)
		}
		c.put(invoiceRef(tenant, in.Invoice), inv) // so that two notes of one invoice do not miss one another
		earlier, err := list[billing.CreditNote](ctx, a, kindNote, tenant, journal.Field{Name: "invoice", Value: in.Invoice})
		if err != nil {
			return err
		}
		asks := in.Lines
		if len(asks) == 0 {
			asks = rest(&inv.Invoice, earlier)
		}
		v, err := a.Version(ctx, inv.Lines[0].Plan)
		if err != nil {
			return err
		}
		note, err := billing.Note(inv.Invoice, earlier, asks, in.To, in.Reason, v.Rounding, a.now())
		if more, ok := errors.AsType[gatehouse.Faults](err); ok {
			return invalid(append(slices.Clip(faults), more...))
		}
		if len(faults) > 0 {
			return invalid(faults)
		}
		if err != nil {
			return err
		}
		return c.note(ctx, &inv, note)
	})
	out.Meta = meta
	return out, err
}

// note numbers a credit note and books it.
func (c *change) note(ctx context.Context, inv *Invoice, note billing.CreditNote) error {
	tenant, currency := inv.Tenant, string(inv.Currency)
	seller, _, err := c.parties(ctx, tenant)
	if err != nil {
		return err
	}
	number, previous, done, err := c.number(ctx, seller.ID+"-CN", note.Issued)
	if err != nil {
		return err
	}
	if note, err = note.Seal(number, previous); err != nil {
		return err
	}
	done(note.Hash)
	to := AccountRefund
	if note.To == billing.ToBalance {
		to = AccountBalance
		funds := Balance{Currency: inv.Currency}
		if _, err := c.read(ctx, balanceRef(tenant, currency), &funds); err != nil {
			return err
		}
		c.put(balanceRef(tenant, currency), funds.plus(billing.Applied{ID: number, Amount: note.Total}))
	}
	c.enter(posted(number+"/issued", note.Issued, tenant, note.Currency,
		billing.Posting{Account: AccountRevenue, Amount: note.Subtotal}, billing.Posting{Account: AccountTax, Amount: note.Tax},
		billing.Posting{Account: to, Amount: note.Total.Neg()}), tenant)
	c.put(noteRef(tenant, number), Note{CreditNote: note})
	return nil
}

// rest asks for all that earlier notes have left, of lines below zero too: it
// comes to what is left of the total.
func rest(inv *billing.Invoice, earlier []billing.CreditNote) []billing.CreditAsk {
	var asks []billing.CreditAsk
	for _, l := range inv.Lines {
		left := l.Net
		for _, n := range earlier {
			for _, credited := range n.Lines {
				if credited.Line == l.ID {
					left = left.Sub(credited.Net)
				}
			}
		}
		if left.Sign() != 0 {
			asks = append(asks, billing.CreditAsk{Line: l.ID, Net: left})
		}
	}
	return asks
}

// Notes returns the credit notes of a tenant, by number.
func (a *Accounts) Notes(ctx context.Context, tenant gatehouse.TenantID) ([]Note, error) {
	return list[Note](ctx, a, kindNote, tenant)
}

// Note returns a credit note.
func (a *Accounts) Note(ctx context.Context, tenant gatehouse.TenantID, number string) (Note, error) {
	n, meta, err := get[Note](ctx, a, noteRef(tenant, number))
	n.Meta = meta
	return n, err
}
