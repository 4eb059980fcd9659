package invoicing

import (
	"cmp"
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
		cells, _ = net(cells, s, book)
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

func takesBack(c metering.Cell) bool { return c.Value < 0 }

// net takes negative cells off the others of their meter within the same
// segment of the same period, the nearest in time first, and of their route
// and consumer where they name one. Those that name most are first, wherever
// they lie: what may be taken off any usage leaves them theirs. What is more
// than there was is lost: usage is not below zero.
func net(cells []metering.Cell, s *billing.Subscription, book billing.Book) (out []metering.Cell, lost int64) {
	var back []metering.Cell
	for _, c := range cells {
		if takesBack(c) {
			back = append(back, c)
		} else {
			out = append(out, c)
		}
	}
	out = billing.Fold(out)
	slices.SortFunc(back, func(x, y metering.Cell) int {
		return cmp.Or(cmp.Compare(wide(&x), wide(&y)), x.Window.Compare(y.Window), cmp.Compare(x.Meter, y.Meter), cmp.Compare(x.Series.Route, y.Series.Route),
			cmp.Compare(x.Series.Consumer, y.Series.Consumer), cmp.Compare(x.Series.Plan, y.Series.Plan), cmp.Compare(x.Value, y.Value))
	})
	for _, b := range back {
		within := segmentAt(s, book, b.Window)
		var near []*metering.Cell
		for i := range out {
			c := &out[i]
			if c.Meter == b.Meter && within.Has(c.Window) && (b.Series.Route == "" || b.Series.Route == c.Series.Route) &&
				(b.Series.Consumer == "" || b.Series.Consumer == c.Series.Consumer) {
				near = append(near, c)
			}
		}
		slices.SortStableFunc(near, func(x, y *metering.Cell) int {
			return cmp.Compare(x.Window.Sub(b.Window).Abs(), y.Window.Sub(b.Window).Abs())
		})
		left := -b.Value
		for _, c := range near {
			part := min(left, c.Value)
			c.Value -= part
			left -= part
		}
		lost += left
	}
	return out, lost
}

// wide is how little a cell that takes usage back names of what it is taken
// off: 0 for a route and a consumer, 3 for neither.
func wide(c *metering.Cell) (n int) {
	if c.Series.Route == "" {
		n += 2
	}
	if c.Series.Consumer == "" {
		n++
	}
	return n
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
