package invoicing

import (
	"context"
	"errors"
	"fmt"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

// Differences traces every metered line of a subscription's invoices to the
// cells of the ledger: all that is closed is rated once more from its start,
// and each segment whose cells are not those that some line was made of, by
// their hash, is a line of what differs, also where that costs nothing. None:
// the invoices say what the ledger says. It reads all usage of the
// subscription, and changes nothing.
func (a *Accounts) Differences(ctx context.Context, tenant gatehouse.TenantID, subscription string) ([]billing.Line, error) {
	c := &change{a: a, expect: map[journal.Ref]int64{}}
	var s Subscription
	if err := c.must(ctx, subscriptionRef(tenant, subscription), &s); err != nil {
		return nil, err
	}
	if s.Closed.IsZero() {
		return nil, nil
	}
	book, err := c.book(ctx, &s.Subscription, false)
	if err != nil {
		return nil, err
	}
	first := book[s.Plan]
	if first == nil {
		return nil, notFound(kindVersion, s.Plan.String())
	}
	to := a.until(&s, first, s.Closed)
	issued, err := a.earlier(ctx, tenant, subscription)
	if err != nil {
		return nil, err
	}
	cells, err := a.cells(ctx, &s.Subscription, book, billing.Period{Start: minute(s.Start), End: minute(to)})
	if err != nil {
		return nil, err
	}
	inv, err := billing.Draft(billing.Run{Book: book, Subscription: &s.Subscription, Kind: billing.Correction, Cells: cells, CompleteFrom: s.Start, Earlier: issued})
	if errors.Is(err, billing.ErrNothing) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("trace the invoices of %s/%s: %w", tenant, subscription, err)
	}
	return inv.Lines, nil
}
