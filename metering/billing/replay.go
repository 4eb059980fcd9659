package billing

import (
	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering"
)

// Past is the metered past of one tenant: what it paid by, and what it used.
type Past struct {
	Subscription *Subscription
	// Cells are complete for the period.
	Cells []metering.Cell
}

// Replayed is what a tenant would have paid for a period.
type Replayed struct {
	Tenant gatehouse.TenantID `json:"tenant"`
	// Paid is the total, before tax, discounts and wallet, under the plans that
	// applied; Would is that under each draft, in their order.
	Paid  Decimal   `json:"paid"`
	Would []Decimal `json:"would"`
	// Best is the index of the draft that is the cheapest for the tenant; -1
	// when none is cheaper than what it has. Saves is by how much.
	Best  int     `json:"best"`
	Saves Decimal `json:"saves"`
}

// Replay prices the period of the given index once more, for each tenant under
// each draft plan. Nothing is changed: the result is a proposal. Drafts that
// differ in currency or cadence from a tenant's plan are an error: their
// periods cannot be set side by side.
func Replay(book Book, drafts []*Plan, past []Past, index int) ([]Replayed, error) {
	out := make([]Replayed, 0, len(past))
	for _, p := range past {
		paid, err := worth(book, p, p.Subscription, index)
		if err != nil {
			return nil, err
		}
		row := Replayed{Tenant: p.Subscription.Tenant, Paid: paid, Best: -1}
		least := paid
		for i, d := range drafts {
			if d.Currency != book[p.Subscription.Plan].Currency {
				return nil, refuse("draft %s is in %s, not in %s", d.Ref(), d.Currency, book[p.Subscription.Plan].Currency)
			}
			if now := book[p.Subscription.Plan].Cadence; !d.Cadence.same(now) {
				return nil, refuse("draft %s bills every %d %s, not every %d %s", d.Ref(), d.Cadence.every(), d.Cadence.Unit, now.every(), now.Unit)
			}
			would := *p.Subscription
			would.Plan, would.Changes, would.Quantities = d.Ref(), nil, known(d, would.Quantities)
			amount, err := worth(Book{d.Ref(): d}, p, &would, index)
			if err != nil {
				return nil, err
			}
			row.Would = append(row.Would, amount)
			if amount.Cmp(least) < 0 {
				least, row.Best = amount, i
			}
		}
		row.Saves = paid.Sub(least)
		out = append(out, row)
	}
	return out, nil
}

// known are the quantities of fees that a plan has.
func known(plan *Plan, quantities map[string]Decimal) map[string]Decimal {
	out := map[string]Decimal{}
	for id, q := range quantities {
		if p := plan.Price(id); p != nil && p.Recurring() {
			out[id] = q
		}
	}
	return out
}

// worth is what one period comes to: its advance fees and its usage.
func worth(book Book, p Past, s *Subscription, index int) (Decimal, error) {
	bare := *s
	bare.Discounts, bare.Refund = nil, false
	sum := Decimal{}
	var earlier []Invoice
	for _, kind := range []Kind{Opening, Closing} {
		inv, err := Draft(Run{Book: book, Subscription: &bare, Index: index, Kind: kind, Cells: p.Cells, Earlier: earlier})
		if err != nil {
			return Decimal{}, err
		}
		earlier = append(earlier, inv)
		whole := bare.Whole(book[bare.Plan].Cadence, index)
		for _, l := range inv.Lines {
			if whole.Has(l.Period.Start) {
				sum = sum.Add(l.Net)
			}
		}
	}
	return sum, nil
}
