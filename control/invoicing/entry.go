package invoicing

import (
	"context"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

// The accounts of the operator's books, by currency. What is owed to the
// operator is positive in AccountReceivable; revenue and tax are negative, as
// double entry has them.
const (
	AccountReceivable = "receivable"
	AccountCash       = "cash"
	AccountBadDebt    = "bad-debt"
	AccountRevenue    = "revenue"
	AccountTax        = "tax"
	// AccountPrepaid is what wallets hold, AccountBalance what credit notes
	// have left for later invoices.
	AccountPrepaid = "prepaid"
	AccountBalance = "balance"
	AccountRefund  = "refund"
	// AccountGiven is credit that was not paid for, AccountExpired credit that
	// nobody used.
	AccountGiven   = "given"
	AccountExpired = "expired"
)

// Entry is one event in the operator's books. Its postings sum to zero.
type Entry struct {
	// ID says what is booked: GH-2026-000001/issued. At is when.
	ID       string             `json:"id"`
	At       time.Time          `json:"at"`
	Tenant   gatehouse.TenantID `json:"tenant"`
	Currency billing.Currency   `json:"currency"`
	Postings []billing.Posting  `json:"postings"`
}

// Issued is the entry of an invoice when it is issued.
func Issued(inv *billing.Invoice, at time.Time) Entry {
	notes, wallet := billing.Decimal{}, billing.Decimal{}
	for _, n := range inv.CreditNotes {
		notes = notes.Add(n.Amount)
	}
	for _, w := range inv.Wallet {
		wallet = wallet.Add(w.Amount)
	}
	return posted(inv.Number+"/issued", at, inv.Tenant, inv.Currency,
		billing.Posting{Account: AccountReceivable, Amount: inv.Due},
		billing.Posting{Account: AccountBalance, Amount: notes.Sub(inv.Carried)},
		billing.Posting{Account: AccountPrepaid, Amount: wallet},
		billing.Posting{Account: AccountRevenue, Amount: inv.Subtotal.Neg()},
		billing.Posting{Account: AccountTax, Amount: inv.Tax.Neg()},
	)
}

// posted leaves out what is zero.
func posted(id string, at time.Time, tenant gatehouse.TenantID, currency billing.Currency, postings ...billing.Posting) Entry {
	e := Entry{ID: id, At: at, Tenant: tenant, Currency: currency, Postings: []billing.Posting{}}
	for _, p := range postings {
		if !p.Amount.IsZero() {
			e.Postings = append(e.Postings, p)
		}
	}
	return e
}

// Reversed is the entry that takes e back.
func (e Entry) Reversed(id string, at time.Time) Entry {
	out := Entry{ID: id, At: at, Tenant: e.Tenant, Currency: e.Currency, Postings: make([]billing.Posting, len(e.Postings))}
	for i, p := range e.Postings {
		out.Postings[i] = billing.Posting{Account: p.Account, Amount: p.Amount.Neg()}
	}
	return out
}

// enter books an entry.
func (c *change) enter(e Entry, tenant gatehouse.TenantID) {
	sum := billing.Decimal{}
	for _, p := range e.Postings {
		sum = sum.Add(p.Amount)
	}
	if !sum.IsZero() {
		panic("invoicing: the entry " + e.ID + " does not balance")
	}
	ref := journal.Ref{Kind: kindEntry, Tenant: string(tenant), ID: e.ID}
	c.expect[ref] = journal.Absent
	c.put(ref, e)
}

// Entries returns the entries of a tenant, by id.
func (a *Accounts) Entries(ctx context.Context, tenant gatehouse.TenantID) ([]Entry, error) {
	return list[Entry](ctx, a, kindEntry, tenant)
}

// Late returns what was charged later for usage of a tenant's invoices.
func (a *Accounts) Late(ctx context.Context, tenant gatehouse.TenantID) ([]Late, error) {
	return list[Late](ctx, a, kindLate, tenant)
}
