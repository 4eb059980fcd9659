package invoicing

import (
	"context"
	"slices"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

// Revenue are the figures of a month in one currency. What each is, billing
// says at Bridge and Metrics.
type Revenue struct {
	Currency billing.Currency `json:"currency"`
	// Month is from the first instant of a month, UTC, to that of the next, or
	// until now in the month that runs.
	Month billing.Period `json:"month"`
	// Bridge is how recurring revenue went from the begin to the end.
	Bridge billing.Bridge `json:"bridge"`
	// Metrics have money to the minor unit. Exact are the same figures as they
	// were computed, as fractions where their digits do not end.
	Metrics billing.Metrics `json:"metrics"`
	Exact   billing.Metrics `json:"exact"`
	// Invoiced is what was issued in the month, before tax, less what is void
	// or credited.
	Invoiced billing.Decimal `json:"invoiced"`
	// Tenants are those that paid at the begin or the end.
	Tenants []TenantRevenue `json:"tenants"`
}

// TenantRevenue is the recurring revenue of one tenant.
type TenantRevenue struct {
	Tenant gatehouse.TenantID `json:"tenant"`
	// Before and After are the recurring revenue at the begin and at the end.
	Before billing.Decimal `json:"before"`
	After  billing.Decimal `json:"after"`
}

// Revenue computes the figures of the month that an instant lies in. Margin is
// the gross margin as a fraction, for LTV; 1 for revenue alone. Subscriptions
// in their trial do not count.
func (a *Accounts) Revenue(ctx context.Context, at time.Time, currency billing.Currency, margin billing.Decimal) (Revenue, error) {
	at = at.UTC()
	start := time.Date(at.Year(), at.Month(), 1, 0, 0, 0, 0, time.UTC)
	r := Revenue{Currency: currency, Month: billing.Period{Start: start, End: start.AddDate(0, 1, 0)}, Tenants: []TenantRevenue{}}
	// What begins with the month is new in it, and what ends with it is lost in
	// the next; in the month that runs, what began this second counts.
	last := r.Month.End.Add(-time.Nanosecond)
	if now := a.now(); now.Before(r.Month.End) && now.After(start) {
		r.Month.End, last = now, now
	}
	before, after := map[gatehouse.TenantID]billing.Decimal{}, map[gatehouse.TenantID]billing.Decimal{}
	known := map[gatehouse.TenantID]bool{}
	for v, err := range a.Store.All(ctx, kindSubscription) {
		if err != nil {
			return r, coded(err)
		}
		var s Subscription
		if err := decode(&v, &s); err != nil {
			return r, err
		}
		book, err := a.book(ctx, &s.Subscription)
		if err != nil {
			return r, err
		}
		if first := book[s.Plan]; first == nil || first.Currency != currency {
			continue
		}
		add := func(to map[gatehouse.TenantID]billing.Decimal, t time.Time) {
			if m := mrr(&s.Subscription, book, t); m.Sign() > 0 {
				to[s.Tenant] = to[s.Tenant].Add(m)
			}
		}
		add(before, start.Add(-time.Nanosecond))
		add(after, last)
		known[s.Tenant] = known[s.Tenant] || everPaid(&s.Subscription, book, start)
	}
	r.Bridge = billing.Bridged(before, after, known)
	r.Exact = r.Bridge.Metrics(margin)
	r.Metrics = r.Exact.Rounded(currency)
	for tenant, n := range before {
		r.Tenants = append(r.Tenants, TenantRevenue{tenant, n, after[tenant]})
	}
	for tenant, n := range after {
		if _, ok := before[tenant]; !ok {
			r.Tenants = append(r.Tenants, TenantRevenue{tenant, billing.Decimal{}, n})
		}
	}
	slices.SortFunc(r.Tenants, func(x, y TenantRevenue) int {
		if x.Tenant < y.Tenant {
			return -1
		}
		return 1
	})
	var err error
	r.Invoiced, err = a.invoiced(ctx, r.Month, currency)
	return r, err
}

func mrr(s *billing.Subscription, book billing.Book, t time.Time) billing.Decimal {
	if s.State(book[s.Plan], t) != billing.Active {
		return billing.Decimal{}
	}
	return s.MRR(book, s.At(t))
}

// everPaid tells whether a subscription had recurring revenue before t.
func everPaid(s *billing.Subscription, book billing.Book, t time.Time) bool {
	paid := billing.Period{Start: s.TrialEnd(book[s.Plan]), End: t}
	for _, seg := range s.Segments(paid) {
		if mrr(s, book, seg.Period.Start).Sign() > 0 {
			return true
		}
	}
	return false
}

func (a *Accounts) invoiced(ctx context.Context, month billing.Period, currency billing.Currency) (billing.Decimal, error) {
	sum := billing.Decimal{}
	for r, err := range a.Store.All(ctx, kindInvoice) {
		if err != nil {
			return sum, coded(err)
		}
		var inv Invoice
		if err := decode(&r, &inv); err != nil {
			return sum, err
		}
		if inv.Currency == currency && inv.Status != billing.Void && month.Has(inv.Issued) {
			sum = sum.Add(inv.Subtotal)
		}
	}
	for r, err := range a.Store.All(ctx, kindNote) {
		if err != nil {
			return sum, coded(err)
		}
		var n Note
		if err := decode(&r, &n); err != nil {
			return sum, err
		}
		if n.Currency == currency && month.Has(n.Issued) {
			sum = sum.Sub(n.Subtotal)
		}
	}
	return sum, nil
}
