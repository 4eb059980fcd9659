package invoicing

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
	"github.com/gatehouse-gateway/gatehouse/metering/ledger"
)

// cells reads a tenant's usage of a span. Adjustments that take usage back are
// taken off the cells near them.
func (a *Accounts) cells(ctx context.Context, s *billing.Subscription, book billing.Book, p billing.Period) ([]metering.Cell, error) {
	cells, err := a.stored(ctx, s.Tenant, p)
	if slices.ContainsFunc(cells, takesBack) {
		cells, _, err = net(ctx, cells, s, book)
	}
	return cells, err
}

// stored reads a tenant's usage as it is in the ledger.
func (a *Accounts) stored(ctx context.Context, tenant gatehouse.TenantID, p billing.Period) ([]metering.Cell, error) {
	var cells []metering.Cell
	for c, err := range a.Usage.TenantCells(ctx, tenant, p.Start, p.End) {
		if err != nil {
			return nil, fmt.Errorf("read the usage of %s: %w", tenant, err)
		}
		cells = append(cells, c)
	}
	return cells, nil
}

// segmentAt is the span of one plan version within one period that an instant
// lies in.
func segmentAt(s *billing.Subscription, book billing.Book, at time.Time) billing.Period {
	first := book[s.Plan]
	whole := s.Whole(first.Cadence, s.Index(first.Cadence, at))
	for _, c := range s.Changes {
		if c.At.After(at) && c.At.Before(whole.End) {
			whole.End = c.At
		}
		if !c.At.After(at) && c.At.After(whole.Start) {
			whole.Start = c.At
		}
	}
	return whole
}

// watermark says how far the usage of a span is complete: done where every
// gateway has sealed it.
func watermark(gateways []ledger.Gateway, end time.Time) (mark billing.Watermark, done bool) {
	heard := false
	for _, g := range gateways {
		if !g.Retired.IsZero() {
			continue
		}
		if !heard || g.SealedUntil.Before(mark.SealedUntil) {
			mark.SealedUntil = g.SealedUntil
		}
		heard = true
		if g.SealedUntil.Before(end) {
			mark.Missing = append(mark.Missing, g.Name)
		}
	}
	return mark, heard && len(mark.Missing) == 0
}

// book is the versions of a subscription.
func (a *Accounts) book(ctx context.Context, s *billing.Subscription) (billing.Book, error) {
	c := change{a: a, expect: map[journal.Ref]int64{}}
	return c.book(ctx, s, false)
}

// used is the usage of one meter of a tenant within a span.
func used(cells []metering.Cell, tenant gatehouse.TenantID, meter string, p billing.Period, loc *time.Location) billing.Decimal {
	return billing.Meter(cells, tenant, &billing.Price{Meter: meter}, p, loc, false).Quantity
}
