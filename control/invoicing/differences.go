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
// than the ledger has by now.
type Difference struct {
	// Tenant and Subscription are whose usage it is.
	Tenant       gatehouse.TenantID `json:"tenant"`
	Subscription string             `json:"subscription"`
	// Invoice is that of the period, Price the one that charged the usage, of
	// that version of the Plan.
	Invoice string          `json:"invoice,omitempty"`
	Plan    billing.PlanRef `json:"plan"`
	Price   string          `json:"price"`
	// Period is the part of the billing period that the line is of.
	Period billing.Period `json:"period"`
	// Quantity and Amount are what the ledger has more than the invoices say,
	// below zero where it has less; Amount is before tax, in Currency. Both are
	// 0 where the cells are others but come to the same.
	Quantity billing.Decimal  `json:"quantity"`
	Amount   billing.Decimal  `json:"amount"`
	Currency billing.Currency `json:"currency"`
	// Cells is how many cells the ledger has, and Hash the SHA-256 of them, as in
	// the trace of a line.
	Cells int    `json:"cells"`
	Hash  string `json:"hash,omitempty"`
}

// Traced is what came of tracing the invoices of some subscriptions.
type Traced struct {
	// Items are the differences.
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
// when it has taken 20 seconds. CodeNotFound: a tenant that is named has no
// subscription.
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
	for begun := time.Now(); out.Subscriptions < f.Limit && (out.Subscriptions == 0 || time.Since(begun) < tracing); {
		page, err := a.Store.List(ctx, q)
		if errors.Is(err, journal.ErrInvalid) {
			return out, &gatehouse.Error{Code: gatehouse.CodeBadRequest, Message: "the cursor is not one of this list"}
		}
		if err != nil {
			return out, coded(err)
		}
		for i := range page.Items {
			var s Subscription
			if err := decode(&page.Items[i], &s); err != nil {
				return out, err
			}
			if err := a.traceOne(ctx, &s, &f, &out); err != nil {
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

func (a *Accounts) traceOne(ctx context.Context, s *Subscription, f *TraceFilter, out *Traced) error {
	out.Subscriptions++
	lines, err := a.Differences(ctx, s.Tenant, s.ID)
	if err != nil {
		return err
	}
	issued, err := a.earlier(ctx, s.Tenant, s.ID)
	if err != nil {
		return err
	}
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
			Tenant: s.Tenant, Subscription: s.ID, Invoice: l.Corrects, Plan: l.Plan, Price: l.Price, Period: l.Period,
			Quantity: l.Quantity, Amount: l.Amount, Currency: currency,
		}
		if l.Trace != nil {
			d.Cells, d.Hash = l.Trace.Cells, l.Trace.Hash
		}
		out.Items = append(out.Items, d)
	}
	return nil
}
