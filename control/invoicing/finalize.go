package invoicing

import (
	"context"
	"slices"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

// Series is how far the numbers of a legal entity go.
type Series struct {
	Year int `json:"year"`
	// Last is the last number of the year, and Hash that of its document.
	Last int    `json:"last"`
	Hash string `json:"hash"`
}

// Late says that usage of an invoice's period was charged by a later one.
type Late struct {
	// Invoice is that of the period, ChargedBy the later one that charged the
	// usage, by its Line: so much Quantity for Amount.
	Invoice   string          `json:"invoice"`
	ChargedBy string          `json:"charged_by"`
	Line      string          `json:"line"`
	Quantity  billing.Decimal `json:"quantity"`
	Amount    billing.Decimal `json:"amount"`
}

// number takes the next one of a series. A year that has begun goes on to its
// end only forward: a clock that is behind does not number the year before.
func (c *change) number(ctx context.Context, series string, at time.Time) (number, previous string, done func(hash string), err error) {
	ref := journal.Ref{Kind: kindSeries, ID: series}
	var s Series
	if _, err := c.read(ctx, ref, &s); err != nil {
		return "", "", nil, err
	}
	previous = s.Hash
	if year := at.UTC().Year(); year > s.Year {
		s.Year, s.Last = year, 0
	}
	s.Last++
	return billing.Number(series, s.Year, s.Last), previous, func(hash string) {
		s.Hash = hash
		c.put(ref, s)
	}, nil
}

// Finalize issues the invoice of a period: it gets its number and does not
// change any more. CodeConflict: the period is billed already, has not ended,
// or is not complete and Early is not set.
func (a *Accounts) Finalize(ctx context.Context, tenant gatehouse.TenantID, ask Ask, m control.Mutation) (Invoice, error) {
	var last *basis
	var then map[journal.Ref]int64
	out, meta, err := commit[Invoice](ctx, a, m, event{KindFinalized, tenant, kindInvoice}, func(c *change) error {
		c.firm = !m.DryRun
		b, err := c.basis(ctx, tenant, ask, last, then)
		if err != nil {
			return err
		}
		last, then = b, c.expect
		ask.Period = &b.index // should it be closed meanwhile, the next is not meant
		return c.finalize(ctx, b, ask.Early)
	})
	out.Meta = meta
	return out, err
}

func (c *change) finalize(ctx context.Context, b *basis, early bool) error {
	tenant, now := b.s.Tenant, c.a.now()
	if err := b.open(); err != nil {
		return err
	}
	if !b.ended {
		if b.kind == billing.Closing {
			return conflict("period %d has not ended: it ends at %s", b.index, b.draft.Period.End.UTC().Format(time.RFC3339))
		}
		return conflict("period %d has not ended", b.index)
	}
	if !b.due && !early {
		return conflict("not every gateway has reported all of period %d yet", b.index)
	}
	var taken string
	found, err := c.read(ctx, keyRef(tenant, b.draft.Key), &taken)
	if err != nil {
		return err
	}
	if found {
		return conflict("the period is billed by invoice %s", taken)
	}
	seller, parties, err := c.parties(ctx, tenant)
	if err != nil {
		return err
	}
	number, previous, done, err := c.number(ctx, seller.ID, now)
	if err != nil {
		return err
	}
	frozen, err := b.draft.Finalize(number, previous, now, seller.due())
	if err != nil {
		return err
	}
	done(frozen.Hash)
	if err := c.settle(b, &frozen); err != nil {
		return err
	}
	for i := range frozen.Lines {
		if l := &frozen.Lines[i]; l.Kind == billing.LineAdjustment {
			c.put(lateRef(&frozen, l), Late{l.Corrects, number, l.ID, l.Quantity, l.Amount})
		}
	}
	c.enter(Issued(&frozen, now), tenant)
	if frozen.Due.Sign() == 0 {
		if frozen, err = frozen.Move(billing.Paid, now, "nothing is due"); err != nil {
			return err
		}
	}
	c.put(keyRef(tenant, frozen.Key), number)
	b.advance()
	c.put(subscriptionRef(tenant, b.s.ID), b.s)
	issued := Invoice{Invoice: frozen, Parties: parties}
	c.put(invoiceRef(tenant, number), issued)
	return c.schedule(ctx, unpaid{}, &issued)
}

// open refuses a period that is billed, or comes after one that is not.
func (b *basis) open() error {
	switch {
	case b.kind == billing.Opening && b.s.Opened:
		return conflict("the subscription is opened already")
	case b.kind == billing.Opening, b.kind == billing.Correction:
		return nil
	case slices.Contains(b.s.Again, b.index):
		return nil
	case b.index < b.s.Next || b.s.Done:
		return conflict("period %d is billed already", b.index)
	case b.index > b.s.Next:
		return conflict("period %d comes first", b.s.Next)
	case !b.s.Opened:
		return conflict("the invoice that opens the subscription comes first")
	}
	return nil
}

// settle takes what the invoice uses from the wallet and the balance.
func (c *change) settle(b *basis, inv *billing.Invoice) error {
	tenant, currency := b.s.Tenant, string(inv.Currency)
	if len(inv.Wallet) > 0 {
		w := b.wallet
		w.Grants, w.Entries = slices.Clone(w.Grants), slices.Clone(w.Entries)
		if err := w.Book(inv.Number, inv.Wallet, b.run.At); err != nil {
			return err
		}
		c.keep(tenant, &w, b.entries)
	}
	if len(inv.CreditNotes) > 0 || inv.Carried.Sign() > 0 {
		funds := b.funds.less(inv.CreditNotes)
		if inv.Carried.Sign() > 0 {
			funds = funds.plus(billing.Applied{ID: inv.Number, Amount: inv.Carried})
		}
		c.put(balanceRef(tenant, currency), funds)
	}
	return nil
}

// advance notes what has been billed.
func (b *basis) advance() {
	if b.kind == billing.Opening {
		b.s.Opened = true
		return
	}
	if b.kind == billing.Correction {
		b.rated()
		return
	}
	if i := slices.Index(b.s.Again, b.index); i >= 0 {
		b.s.Again = slices.Delete(slices.Clone(b.s.Again), i, i+1)
		return
	}
	b.rated()
	first := b.book[b.s.Plan]
	whole := b.s.Whole(first.Cadence, b.index)
	b.s.Next, b.s.Closed = b.index+1, whole.End
	if !b.s.End.IsZero() && !b.s.End.After(whole.End) {
		b.s.Done, b.s.Closed = true, b.s.End
	}
}

func invoiceRef(tenant gatehouse.TenantID, number string) journal.Ref {
	return journal.Ref{Kind: kindInvoice, Tenant: string(tenant), ID: number}
}

func lateRef(inv *billing.Invoice, l *billing.Line) journal.Ref {
	return journal.Ref{Kind: kindLate, Tenant: string(inv.Tenant), ID: l.Corrects + "/" + inv.Number + "/" + l.ID}
}

func keyRef(tenant gatehouse.TenantID, key string) journal.Ref {
	return journal.Ref{Kind: kindKey, Tenant: string(tenant), ID: key}
}

func balanceRef(tenant gatehouse.TenantID, currency string) journal.Ref {
	return journal.Ref{Kind: kindBalance, Tenant: string(tenant), ID: currency}
}

func walletRef(tenant gatehouse.TenantID, currency string) journal.Ref {
	return journal.Ref{Kind: kindWallet, Tenant: string(tenant), ID: currency}
}
