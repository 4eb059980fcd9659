package invoicing

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

// Differences traces the metered lines of a subscription's invoices to the
// cells of the ledger: what is closed is rated once more, and each segment whose
// cells are not those that some line was made of, by their hash, is a line of
// what differs, also where that costs nothing. None: the invoices say what the
// ledger says. Only periods are traced that lie in the span, in part or whole;
// a zero Start or End has no bound. It goes period by period, with the usage of
// one and of Back more at hand, and changes nothing. A gatehouse.Faults error
// says what cannot be rated; the lines are of the other periods.
func (a *Accounts) Differences(ctx context.Context, tenant gatehouse.TenantID, subscription string, span billing.Period) ([]billing.Line, error) {
	lines, _, err := a.trace(ctx, subscriptionRef(tenant, subscription), span)
	return lines, err
}

// trace is Differences with the invoices. Where the subscription has changed
// meanwhile, such as by the closing of a period, the invoices and the cells may
// be of two states: it begins anew.
func (a *Accounts) trace(ctx context.Context, ref journal.Ref, span billing.Period) ([]billing.Line, []billing.Invoice, error) {
	for attempt := 1; ; attempt++ {
		c := &change{a: a, expect: map[journal.Ref]int64{}}
		lines, issued, err := c.trace(ctx, ref, span)
		was := c.expect[ref]
		if _, moved := c.read(ctx, ref, &Subscription{}); moved != nil {
			return nil, nil, errors.Join(err, moved)
		}
		if c.expect[ref] == was {
			return lines, issued, err
		}
		if attempt == attempts {
			return nil, nil, &gatehouse.Error{Code: gatehouse.CodeStale, Message: "the subscription changes too often to be traced; ask again"}
		}
	}
}

func (c *change) trace(ctx context.Context, ref journal.Ref, span billing.Period) ([]billing.Line, []billing.Invoice, error) {
	var s Subscription
	if err := c.must(ctx, ref, &s); err != nil {
		return nil, nil, err
	}
	if s.Closed.IsZero() {
		return nil, nil, nil
	}
	book, err := c.book(ctx, &s.Subscription, false)
	if err != nil {
		return nil, nil, err
	}
	first := book[s.Plan]
	if first == nil {
		return nil, nil, gatehouse.Faults{{Pointer: "/plan", Reason: fmt.Sprintf("there is no %s %s", kindVersion, s.Plan)}}
	}
	issued, err := c.a.earlier(ctx, s.Tenant, s.ID)
	if err != nil {
		return nil, nil, err
	}
	lines, err := c.a.retrace(ctx, &s, book, issued, span)
	return lines, issued, err
}

// retrace rates the closed periods of a span once more.
func (a *Accounts) retrace(ctx context.Context, s *Subscription, book billing.Book, issued []billing.Invoice, span billing.Period) ([]billing.Line, error) {
	first := book[s.Plan]
	from, to := 0, s.Closed
	if span.Start.After(s.Start) {
		from = s.Index(first.Cadence, span.Start)
	}
	if !span.End.IsZero() && span.End.Before(to) {
		to = span.End
	}
	var lines []billing.Line
	var bad gatehouse.Faults
	var held [][]metering.Cell // by period, from the one that is rated on
	for n := from; s.Whole(first.Cadence, n).Start.Before(to); n++ {
		for len(held) <= a.Back {
			p := s.Whole(first.Cadence, n+len(held)).Cut(billing.Period{Start: s.Start, End: a.until(s, first, s.Closed)})
			var cells []metering.Cell
			if !p.Empty() {
				var err error
				if cells, err = a.cells(ctx, &s.Subscription, book, billing.Period{Start: minute(p.Start), End: minute(p.End)}); err != nil {
					return nil, err
				}
			}
			held = append(held, cells)
		}
		whole := s.Whole(first.Cadence, n)
		inv, err := billing.Draft(billing.Run{
			Book: book, Subscription: &s.Subscription, Kind: billing.Correction, Cells: slices.Concat(held...), CompleteFrom: whole.Start, CompleteUntil: whole.End, Earlier: issued,
		})
		held = held[1:]
		if errors.Is(err, billing.ErrNothing) {
			continue
		}
		faults, ok := errors.AsType[gatehouse.Faults](err)
		if err != nil && !ok {
			return nil, fmt.Errorf("trace the invoices of %s/%s: %w", s.Tenant, s.ID, err)
		}
		for _, f := range faults {
			if !slices.Contains(bad, f) {
				bad = append(bad, f)
			}
		}
		lines = append(lines, inv.Lines...)
	}
	if len(bad) > 0 {
		return lines, bad
	}
	return lines, nil
}
