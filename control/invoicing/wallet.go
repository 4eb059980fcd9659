package invoicing

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

// Balance is what credit notes, and invoices below zero, have left for later
// invoices; oldest first.
type Balance struct {
	Currency billing.Currency  `json:"currency"`
	Items    []billing.Applied `json:"items,omitempty"`
}

func (b Balance) left(id string) billing.Decimal {
	for _, item := range b.Items {
		if item.ID == id {
			return item.Amount
		}
	}
	return billing.Decimal{}
}

// less returns the balance without what was used of it.
func (b Balance) less(used []billing.Applied) Balance {
	items := slices.Clone(b.Items)
	for _, u := range used {
		for i := range items {
			if items[i].ID == u.ID {
				items[i].Amount = items[i].Amount.Sub(u.Amount)
			}
		}
	}
	b.Items = slices.DeleteFunc(items, func(i billing.Applied) bool { return i.Amount.Sign() <= 0 })
	return b
}

func (b Balance) plus(item billing.Applied) Balance {
	items := slices.Clone(b.Items)
	for i := range items {
		if items[i].ID == item.ID {
			items[i].Amount = items[i].Amount.Add(item.Amount)
			b.Items = items
			return b
		}
	}
	b.Items = append(items, item)
	return b
}

// Wallet is a tenant's prepaid credit in one currency.
type Wallet struct {
	billing.Wallet
	control.Meta
	// Usable is what can be used now, in the order in which it burns.
	Usable []billing.Applied `json:"usable,omitempty"`
	// Recognized is the revenue of what has been burnt.
	Recognized billing.Decimal `json:"recognized,omitzero"`
}

// Credit is prepaid credit to be: bought, where Cost is set, or given.
type Credit struct {
	Currency billing.Currency `json:"currency"`
	billing.Grant
}

// Grant puts credit into a tenant's wallet.
func (a *Accounts) Grant(ctx context.Context, tenant gatehouse.TenantID, in Credit, m control.Mutation) (Wallet, error) {
	if _, ok := in.Currency.Places(); !ok {
		return Wallet{}, fault("/currency", "is not a currency", "a code of ISO 4217 in upper case, such as EUR")
	}
	if !plainID.MatchString(in.ID) {
		return Wallet{}, fault("/id", "is not a plain word of at most 63 letters, digits and _ . -", "")
	}
	if in.Cost.Sign() < 0 || in.Cost.Cmp(billing.Int(maxAmount)) > 0 || in.Amount.Cmp(billing.Int(maxAmount)) > 0 {
		return Wallet{}, fault("/amount", "is more than 10^15, or the cost is negative", "")
	}
	ref := walletRef(tenant, string(in.Currency))
	out, meta, err := commit[billing.Wallet](ctx, a, m, event{"credit.grant", tenant, kindWallet}, func(c *change) error {
		if err := a.Tenant(ctx, tenant); err != nil {
			return err
		}
		if !in.Expires.IsZero() && !in.Expires.After(a.or(in.Granted)) {
			return fault("/expires", "is not after it was granted", "")
		}
		w := billing.Wallet{Currency: in.Currency}
		if _, err := c.read(ctx, ref, &w); err != nil {
			return err
		}
		g := in.Grant
		g.Granted, g.Stated = a.or(g.Granted), !g.Granted.IsZero()
		if err := w.Add(g); err != nil {
			if refusal, ok := errors.AsType[*gatehouse.Error](err); ok {
				return fault("/amount", refusal.Message, "")
			}
			return err
		}
		from := billing.Posting{Account: AccountCash, Amount: g.Cost}
		given := billing.Posting{Account: AccountGiven, Amount: g.Amount.Sub(g.Cost)}
		c.enter(posted("grant/"+string(in.Currency)+"/"+g.ID, a.now(), tenant, in.Currency, from, given,
			billing.Posting{Account: AccountPrepaid, Amount: g.Amount.Neg()}), tenant)
		c.put(ref, w)
		return nil
	})
	return a.wallet(out, meta), err
}

const maxAmount = 1_000_000_000_000_000

func (a *Accounts) wallet(w billing.Wallet, meta control.Meta) Wallet {
	return Wallet{Wallet: w, Meta: meta, Usable: w.Usable(a.now()), Recognized: w.Recognized()}
}

// Wallets returns the wallets of a tenant.
func (a *Accounts) Wallets(ctx context.Context, tenant gatehouse.TenantID) ([]Wallet, error) {
	all, err := list[billing.Wallet](ctx, a, kindWallet, tenant)
	out := make([]Wallet, len(all))
	for i := range all {
		out[i] = a.wallet(all[i], control.Meta{})
	}
	return out, err
}

// Balances returns what credit notes have left of a tenant's.
func (a *Accounts) Balances(ctx context.Context, tenant gatehouse.TenantID) ([]Balance, error) {
	return list[Balance](ctx, a, kindBalance, tenant)
}

// expire books what has expired in a wallet.
func (a *Accounts) expire(ctx context.Context, tenant gatehouse.TenantID, w *billing.Wallet, at time.Time) error {
	trial := *w
	trial.Grants, trial.Entries = slices.Clone(w.Grants), slices.Clone(w.Entries)
	trial.Expire(at, time.UTC)
	if len(trial.Entries) == len(w.Entries) {
		return nil
	}
	ref := walletRef(tenant, string(w.Currency))
	_, _, err := commit[billing.Wallet](ctx, a, control.Mutation{Actor: Actor}, event{"credit.expire", tenant, kindWallet}, func(c *change) error {
		var now billing.Wallet
		if err := c.must(ctx, ref, &now); err != nil {
			return err
		}
		before := len(now.Entries)
		now.Expire(at, time.UTC)
		if len(now.Entries) == before {
			return errNothing
		}
		c.keep(tenant, &now, before)
		return nil
	})
	if errors.Is(err, errNothing) {
		return nil
	}
	return err
}

// keep stores a wallet that had so many entries before, and books the credit
// that has expired since as earned, and what was restored of it as prepaid.
func (c *change) keep(tenant gatehouse.TenantID, w *billing.Wallet, before int) {
	for _, e := range w.Entries[before:] {
		if e.Kind == "expire" {
			lost := e.Postings[1].Amount
			c.enter(posted("expired/"+string(w.Currency)+"/"+e.ID, c.a.now(), tenant, w.Currency,
				billing.Posting{Account: AccountPrepaid, Amount: lost}, billing.Posting{Account: AccountExpired, Amount: lost.Neg()}), tenant)
		}
		if e.Kind == "restore" {
			back := e.Postings[1].Amount
			c.enter(posted("restored/"+string(w.Currency)+"/"+e.ID, c.a.now(), tenant, w.Currency,
				billing.Posting{Account: AccountPrepaid, Amount: back.Neg()}, billing.Posting{Account: AccountExpired, Amount: back}), tenant)
		}
	}
	c.put(walletRef(tenant, string(w.Currency)), w)
}
