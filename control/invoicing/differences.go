package invoicing

import (
	"context"
	"errors"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

// TraceFilter selects the invoices that are traced. Empty fields select all.
type TraceFilter struct {
	Tenant gatehouse.TenantID
	// From and To are a span: lines whose period lies in it, in part or whole.
	From, To time.Time
	After    string
	// Limit is how many subscriptions are traced; 100 when 0, at most 1,000.
	Limit int
}

func (f *TraceFilter) has(p billing.Period) bool {
	return (f.To.IsZero() || p.Start.Before(f.To)) && (f.From.IsZero() || p.End.After(f.From))
}

// Difference is a metered price of a period that was billed by other cells
// than the ledger has by now, or a subscription that could not be traced whole.
type Difference struct {
	// Tenant and Subscription are whose usage it is.
	Tenant       gatehouse.TenantID `json:"tenant"`
	Subscription string             `json:"subscription"`
	// Kind is adjustment; minimum for what the minimum of the plan charges, or
	// gives back, because of the others of its period; absent where there are
	// Faults.
	Kind billing.LineKind `json:"kind,omitempty"`
	// Invoice is that of the period, Price the one that charged the usage, of
	// that version of the Plan. A minimum has no price.
	Invoice string          `json:"invoice,omitempty"`
	Plan    billing.PlanRef `json:"plan,omitzero"`
	Price   string          `json:"price,omitempty"`
	// Period is the part of the billing period that the line is of.
	Period billing.Period `json:"period,omitzero"`
	// Quantity and Amount are what the ledger has more than the invoices say,
	// below zero where it has less; Amount is after discounts and before tax, in
	// Currency. Both are 0 where the cells are others but come to the same. A
	// minimum has no quantity.
	Quantity billing.Decimal  `json:"quantity"`
	Amount   billing.Decimal  `json:"amount"`
	Currency billing.Currency `json:"currency,omitempty"`
	// Cells is how many cells the ledger has, and Hash the SHA-256 of them, as in
	// the trace of a line.
	Cells int    `json:"cells"`
	Hash  string `json:"hash,omitempty"`
	// Faults say why periods of the subscription could not be traced; nothing
	// else is set then but whose it is.
	Faults gatehouse.Faults `json:"faults,omitempty"`
}

// Traced is what came of tracing the invoices of some subscriptions.
type Traced struct {
	// Items are the differences, and the subscriptions that could not be traced.
	Items []Difference `json:"items"`
	// Subscriptions is how many were traced, and Lines how many metered lines
	// their invoices have in the span; those of void invoices do not count.
	Subscriptions int `json:"subscriptions"`
	Lines         int `json:"lines"`
	// Next asks for the subscriptions after; empty on the last page.
	Next string `json:"next,omitempty"`
}

// tracing is the time after which a page of Trace ends early.
const tracing = 20 * time.Second

// Trace holds the invoices of subscriptions against the ledger, as Differences
// does for one, in order of tenant and id. A page ends early, with a Next,
// when it has taken 20 seconds. A subscription that cannot be traced is an item
// with faults, and does not hide the others. CodeNotFound: a tenant that is named
// has no subscription.
func (a *Accounts) Trace(ctx context.Context, f TraceFilter) (Traced, error) {
	out := Traced{Items: []Difference{}}
	if f.Limit <= 0 {
		f.Limit = 100
	}
	f.Limit = min(f.Limit, 1000)
	q := journal.Query{Kind: kindSubscription, After: f.After, Limit: 1}
	if f.Tenant != "" {
		of := string(f.Tenant)
		q.Tenant = &of
	}
	for begun := a.Now(); out.Subscriptions < f.Limit && (out.Subscriptions == 0 || a.Now().Sub(begun) < tracing); {
		page, err := a.Store.List(ctx, q)
		if errors.Is(err, journal.ErrInvalid) {
			return out, &gatehouse.Error{Code: gatehouse.CodeBadRequest, Message: "the cursor is not one of this list"}
		}
		if err != nil {
			return out, coded(err)
		}
		for i := range page.Items {
			if err := a.traceOne(ctx, page.Items[i].Ref, &f, &out); err != nil {
				return out, err
			}
		}
		if out.Next = page.Next; out.Next == "" {
			break
		}
		q.After = out.Next
	}
	if out.Subscriptions == 0 && f.Tenant != "" && f.After == "" {
		return out, &gatehouse.Error{Code: gatehouse.CodeNotFound, Message: "the tenant has no subscription"}
	}
	return out, nil
}

func (a *Accounts) traceOne(ctx context.Context, ref journal.Ref, f *TraceFilter, out *Traced) error {
	tenant := gatehouse.TenantID(ref.Tenant)
	lines, issued, err := a.trace(ctx, ref, billing.Period{Start: f.From, End: f.To})
	if gatehouse.CodeOf(err) == gatehouse.CodeNotFound { // it is gone since it was listed
		return nil
	}
	faults, ok := errors.AsType[gatehouse.Faults](err)
	if err != nil && !ok {
		return err
	}
	out.Subscriptions++
	var currency billing.Currency
	for i := range issued {
		inv := &issued[i]
		currency = inv.Currency
		for j := range inv.Lines {
			l := &inv.Lines[j]
			if inv.Status != billing.Void && l.Trace != nil && l.Trace.Hash != "" && f.has(l.Period) {
				out.Lines++
			}
		}
	}
	for i := range lines {
		l := &lines[i]
		if !f.has(l.Period) {
			continue
		}
		d := Difference{
			Tenant: tenant, Subscription: ref.ID, Kind: l.Kind, Invoice: l.Corrects, Plan: l.Plan, Price: l.Price, Period: l.Period,
			Quantity: l.Quantity, Amount: l.Amount.Sub(l.Discount), Currency: currency,
		}
		if l.Kind == billing.LineMinimum {
			d.Quantity = billing.Decimal{}
		}
		if l.Trace != nil {
			d.Cells, d.Hash = l.Trace.Cells, l.Trace.Hash
		}
		out.Items = append(out.Items, d)
	}
	if len(faults) > 0 {
		out.Items = append(out.Items, Difference{Tenant: tenant, Subscription: ref.ID, Faults: faults})
	}
	return nil
}
