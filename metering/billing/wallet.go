package billing

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// Grant is prepaid credit in a wallet, in the currency's minor units.
type Grant struct {
	// ID is unique within the wallet; Amount is how much can be used.
	ID     string  `json:"id"`
	Amount Decimal `json:"amount"`
	// Priority orders the burning: lower first. Then the earliest expiry, then
	// the oldest.
	Priority int `json:"priority,omitempty"`
	// Granted is when it can first be used, Expires when it no longer can;
	// absent for never.
	Granted time.Time `json:"granted"`
	Expires time.Time `json:"expires,omitzero"`
	// Stated says that Granted was asked for, and is not just when it was
	// granted: what is used before it is not paid by this credit.
	Stated bool `json:"stated,omitempty"`
	// Cost is what was paid for it in all; zero for a gift. Of revenue, each
	// part burnt recognizes its share.
	Cost Decimal `json:"cost,omitzero"`
	// Rollover is kept when the grant expires.
	Rollover *Rollover `json:"rollover,omitempty"`
}

// Rollover is what is left of an expired grant and for how long it lasts.
type Rollover struct {
	// Max is the most that is kept. Absent: all.
	Max *Decimal `json:"max,omitempty"`
	// For is how long it lasts after the expiry; absent for ever.
	For Cadence `json:"for,omitzero"`
}

// The accounts of a wallet's ledger besides those of its grants.
const (
	// AccountPaid is money received for credit, AccountGift credit given away.
	AccountPaid = "paid"
	AccountGift = "gift"
	// AccountUsed is credit burnt by invoices; AccountExpired is credit lost.
	AccountUsed    = "used"
	AccountExpired = "expired"
)

// Posting is one side of an entry. The account of a grant is "grant:" and its
// id. A negative amount leaves the account.
type Posting struct {
	// Account is as receivable, revenue, tax or prepaid; Amount is added to it.
	Account string  `json:"account"`
	Amount  Decimal `json:"amount"`
}

// Entry is one event in a wallet. Its postings sum to zero.
type Entry struct {
	// ID is unique within the wallet; Time is when it was booked.
	ID   string    `json:"id"`
	Time time.Time `json:"time"`
	// Kind is grant, burn, expire, rollover, return, or restore: credit that had
	// expired and pays for a period in which it had not.
	Kind string `json:"kind"`
	// Ref is the invoice for a burn and for a return.
	Ref      string    `json:"ref,omitempty"`
	Postings []Posting `json:"postings"`
}

// Wallet is a tenant's prepaid credit: grants, and the ledger of what became
// of them. Balances are sums of postings and are kept nowhere else.
type Wallet struct {
	Currency Currency `json:"currency"`
	Grants   []Grant  `json:"grants,omitempty"`
	Entries  []Entry  `json:"entries,omitempty"`
}

func account(grant string) string { return "grant:" + grant }

// Balance returns the sum of postings on an account.
func (w *Wallet) Balance(name string) Decimal {
	total := Decimal{}
	for _, e := range w.Entries {
		for _, p := range e.Postings {
			if p.Account == name {
				total = total.Add(p.Amount)
			}
		}
	}
	return total
}

// Left returns what is left of a grant.
func (w *Wallet) Left(grant string) Decimal { return w.Balance(account(grant)) }

// Add puts a grant into the wallet. CodeInvalid: the id is taken, the amount
// is not positive, or it is finer than the minor unit.
func (w *Wallet) Add(g Grant) error {
	if slices.ContainsFunc(w.Grants, func(h Grant) bool { return h.ID == g.ID }) {
		return refuse("grant %s exists already", g.ID)
	}
	if g.Amount.Sign() <= 0 || Minor(g.Amount, w.Currency, HalfUp).Cmp(g.Amount) != 0 {
		return refuse("grant %s: %s is not a positive amount of %s", g.ID, g.Amount, w.Currency)
	}
	g.Granted, g.Expires = g.Granted.UTC(), g.Expires.UTC()
	w.Grants = append(w.Grants, g)
	from := AccountGift
	if g.Cost.Sign() > 0 {
		from = AccountPaid
	}
	w.post("grant/"+g.ID, g.Granted, "grant", "", from, account(g.ID), g.Amount)
	return nil
}

// post books an amount. An id that is taken gets a number.
func (w *Wallet) post(id string, at time.Time, kind, ref, from, to string, amount Decimal) {
	free := id
	for n := 2; slices.ContainsFunc(w.Entries, func(e Entry) bool { return e.ID == free }); n++ {
		free = fmt.Sprintf("%s/%d", id, n)
	}
	w.Entries = append(w.Entries, Entry{free, at.UTC(), kind, ref, []Posting{{from, amount.Neg()}, {to, amount}}})
}

// Usable returns the balances of the grants that can be used at that time, in
// the order in which they burn.
func (w *Wallet) Usable(at time.Time) []Applied {
	grants := slices.Clone(w.Grants)
	slices.SortStableFunc(grants, burnOrder)
	var out []Applied
	for _, g := range grants {
		if g.Granted.After(at) || !g.Expires.IsZero() && !at.Before(g.Expires) {
			continue
		}
		if left := w.Left(g.ID); left.Sign() > 0 {
			out = append(out, Applied{ID: g.ID, Amount: left})
		}
	}
	return out
}

// Within returns the balances that can pay for a period: of the grants whose
// life overlaps it, and that begin no later than at, if that is set; and of
// those that can be used at that instant, but for those whose begin is stated
// and is not before the end of the period. What has expired unused since the
// period began counts: it was there to be used. They are in the order in which
// they burn.
func (w *Wallet) Within(p Period, at time.Time) []Applied {
	grants := slices.Clone(w.Grants)
	slices.SortStableFunc(grants, burnOrder)
	var out []Applied
	for _, g := range grants {
		from := w.origin(g)
		begins := from.Granted
		over := func(t time.Time) bool { return !g.Expires.IsZero() && !g.Expires.After(t) }
		begun := at.IsZero() || !begins.After(at)
		early := begins.Before(p.End)
		overlaps := early && !over(p.Start)
		usable := (early || !from.Stated) && !at.IsZero() && !over(at)
		if !begun || !overlaps && !usable {
			continue
		}
		if left := w.Left(g.ID).Add(w.lost(g.ID)); left.Sign() > 0 {
			out = append(out, Applied{ID: g.ID, Amount: left})
		}
	}
	return out
}

const rolled = "/rollover"

// origin is the grant that says when another can first be used: what rolled over
// is as old as the one that it comes from.
func (w *Wallet) origin(g Grant) Grant {
	from, ok := strings.CutSuffix(g.ID, rolled)
	if i := slices.IndexFunc(w.Grants, func(h Grant) bool { return h.ID == from }); ok && i >= 0 {
		return w.Grants[i]
	}
	return g
}

// lost is how much of a grant has expired and was not restored.
func (w *Wallet) lost(grant string) Decimal {
	return w.moved(grant, func(e Entry) bool { return e.Kind == "expire" || e.Kind == "restore" })
}

// moved is how much has left a grant by some entries.
func (w *Wallet) moved(grant string, by func(Entry) bool) Decimal {
	total, name := Decimal{}, account(grant)
	for _, e := range w.Entries {
		if !by(e) {
			continue
		}
		for _, p := range e.Postings {
			if p.Account == name {
				total = total.Sub(p.Amount)
			}
		}
	}
	return total
}

func burnOrder(a, b Grant) int {
	return cmp.Or(cmp.Compare(a.Priority, b.Priority), expiry(a, b), a.Granted.Compare(b.Granted), cmp.Compare(a.ID, b.ID))
}

func expiry(a, b Grant) int {
	switch {
	case a.Expires.IsZero() && b.Expires.IsZero():
		return 0
	case a.Expires.IsZero():
		return 1
	case b.Expires.IsZero():
		return -1
	}
	return a.Expires.Compare(b.Expires)
}

// Burn takes up to amount from the usable grants for an invoice and returns
// what was taken of which. A second burn for the same invoice takes nothing
// and returns what the first took.
func (w *Wallet) Burn(invoice string, at time.Time, amount Decimal) []Applied {
	if used := w.burnt(invoice); used != nil {
		return used
	}
	used, _ := use(w.Usable(at), amount)
	for _, u := range used {
		w.burn(invoice, u, at)
	}
	return used
}

func (w *Wallet) burn(invoice string, u Applied, at time.Time) {
	w.post("burn/"+invoice+"/"+u.ID, at, "burn", invoice, account(u.ID), AccountUsed, u.Amount)
}

// Book burns exactly what an invoice used, as its Wallet says. To book the same
// again changes nothing; after Return it can be booked anew. CodeInvalid, and
// nothing is booked: something else is booked for the invoice, a grant is
// unknown, or it has less than was used.
func (w *Wallet) Book(invoice string, used []Applied, at time.Time) error {
	if before := w.burnt(invoice); len(before) > 0 {
		if !sameAmounts(before, used) {
			return refuse("invoice %s is booked with other amounts", invoice)
		}
		return nil
	}
	for _, u := range used {
		have := w.Left(u.ID).Add(w.lost(u.ID))
		if u.Amount.Sign() <= 0 || u.Amount.Cmp(have) > 0 {
			return refuse("invoice %s uses %s of grant %s, which has %s", invoice, u.Amount, u.ID, have)
		}
	}
	for _, u := range used {
		if short := u.Amount.Sub(w.Left(u.ID)); short.Sign() > 0 {
			w.post("restore/"+invoice+"/"+u.ID, at, "restore", invoice, AccountExpired, account(u.ID), short)
		}
		w.burn(invoice, u, at)
	}
	return nil
}

func sameAmounts(a, b []Applied) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(x Applied) bool {
		return !slices.ContainsFunc(b, func(y Applied) bool { return x.ID == y.ID && x.Amount.Cmp(y.Amount) == 0 })
	})
}

// burnt is what an invoice has burnt and was not returned, by grant.
func (w *Wallet) burnt(invoice string) []Applied {
	var used []Applied
	for _, g := range w.Grants {
		amount := w.moved(g.ID, func(e Entry) bool { return e.Ref == invoice && (e.Kind == "burn" || e.Kind == "return") })
		if amount.Sign() > 0 {
			used = append(used, Applied{ID: g.ID, Amount: amount})
		}
	}
	slices.SortStableFunc(used, func(a, b Applied) int { return cmp.Compare(w.booked(invoice, a.ID), w.booked(invoice, b.ID)) })
	return used
}

// booked is where the last burn of a grant for an invoice is in the ledger.
func (w *Wallet) booked(invoice, grant string) int {
	at := -1
	for i, e := range w.Entries {
		if e.Kind == "burn" && e.Ref == invoice && e.Postings[0].Account == account(grant) {
			at = i
		}
	}
	return at
}

// Return puts back what an invoice burnt, when it is void; what is put back
// already it leaves alone. Credit that has expired meanwhile is put back too,
// and expires anew with the next Expire.
func (w *Wallet) Return(invoice string, at time.Time) {
	for _, u := range w.burnt(invoice) {
		w.post("return/"+invoice+"/"+u.ID, at, "return", invoice, AccountUsed, account(u.ID), u.Amount)
	}
}

// Expire books what is left of grants that have expired by then, and makes
// grants of what rolls over. Rolled-over credit does not roll over again.
func (w *Wallet) Expire(at time.Time, loc *time.Location) {
	for _, g := range slices.Clone(w.Grants) {
		left := w.Left(g.ID)
		if g.Expires.IsZero() || at.Before(g.Expires) || left.Sign() <= 0 {
			continue
		}
		kept := Decimal{}
		if r := g.Rollover; r != nil {
			if kept = left; r.Max != nil {
				kept = kept.Min(*r.Max)
			}
			next := Grant{ID: g.ID + rolled, Amount: kept, Priority: g.Priority, Granted: g.Expires, Cost: g.Cost.Mul(kept).Div(g.Amount)}
			if r.For.Unit != "" {
				next.Expires = r.For.Boundary(g.Expires, loc, 1)
			}
			if kept.Sign() > 0 && !slices.ContainsFunc(w.Grants, func(h Grant) bool { return h.ID == next.ID }) {
				w.Grants = append(w.Grants, next)
				w.post("rollover/"+g.ID, g.Expires, "rollover", "", account(g.ID), account(next.ID), kept)
			} else {
				kept = Decimal{}
			}
		}
		if lost := left.Sub(kept); lost.Sign() > 0 {
			w.post(fmt.Sprintf("expire/%s/%d", g.ID, len(w.Entries)), g.Expires, "expire", "", account(g.ID), AccountExpired, lost)
		}
	}
}

// Recognized returns the revenue of what has been burnt: of each grant its
// cost in the proportion in which it was used, exact.
func (w *Wallet) Recognized() Decimal {
	total := Decimal{}
	for _, g := range w.Grants {
		used := w.moved(g.ID, func(e Entry) bool { return e.Kind == "burn" || e.Kind == "return" })
		total = total.Add(g.Cost.Mul(used).Div(g.Amount))
	}
	return total
}

// Check returns an error if an entry's postings do not sum to zero, two
// entries share an id, or a grant is overdrawn: a ledger that was not written
// by this package, or was tampered with.
func (w *Wallet) Check() error {
	seen := map[string]bool{}
	for _, e := range w.Entries {
		total := Decimal{}
		for _, p := range e.Postings {
			total = total.Add(p.Amount)
		}
		if total.Sign() != 0 || seen[e.ID] {
			return refuse("entry %s does not balance, or is there twice", e.ID)
		}
		seen[e.ID] = true
	}
	for _, g := range w.Grants {
		if left := w.Left(g.ID); left.Sign() < 0 || left.Cmp(g.Amount) > 0 {
			return refuse("grant %s has %s left of %s", g.ID, left, g.Amount)
		}
	}
	return nil
}

func refuse(format string, args ...any) error {
	return &gatehouse.Error{Code: gatehouse.CodeInvalid, Message: fmt.Sprintf(format, args...)}
}
