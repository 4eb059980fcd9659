package invoicing

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

// read reads the usage that an invoice charges, and with it that of earlier
// periods in which something has come late: from the first of them on, all of
// it. The notes are read first, so that none is taken for rated whose usage
// was not there yet.
func (a *Accounts) read(ctx context.Context, b *basis, first *billing.Plan, span billing.Period) error {
	late, err := a.Usage.Late(ctx, b.s.Tenant, b.s.Rated)
	restored := late.Note < b.s.Rated
	if err == nil && restored { // which of its notes are billed is not known
		late, err = a.Usage.Late(ctx, b.s.Tenant, 0)
	}
	if err != nil {
		return fmt.Errorf("bill %s: %w", b.s.Tenant, err)
	}
	from, to := span.Start, a.until(&b.s, first, span.End)
	if b.kind == billing.Correction {
		from = span.End
	}
	reach := func(t time.Time) {
		if t.IsZero() {
			return
		}
		whole := b.s.Whole(first.Cadence, max(0, b.s.Index(first.Cadence, t))).Start
		if from = sooner(from, whole); from.Before(b.s.Start) {
			from = b.s.Start
		}
	}
	back := b.s.Whole(first.Cadence, max(0, b.index-a.Back)).Start
	reach(late.First)
	reach(b.s.Owed)
	switch {
	case b.s.Noted && !restored || b.s.Closed.IsZero(): // all is noted, or nothing is billed
	case b.kind == billing.Correction:
		reach(b.s.Start)
	default:
		reach(back)
	}
	for {
		cells, err := a.cells(ctx, &b.s.Subscription, b.book, billing.Period{Start: minute(from), End: minute(to)})
		if err != nil {
			return err
		}
		b.run.Cells, b.run.CompleteFrom, b.note = cells, from, late.Note
		// Requests that were interrupted are taken off earlier minutes of their
		// epoch, which may be those of a period before.
		cut := slices.ContainsFunc(cells, func(c metering.Cell) bool { return c.Meter == metering.MeterInterrupted })
		if !cut || !back.Before(from) || from.Equal(b.s.Start) {
			return nil
		}
		reach(back)
	}
}

// until is how far the usage is read that an invoice depends on. Requests that
// were interrupted are dated to the end of their epoch, which may come after
// the period: what is billed already is read with it, and after the end of the
// subscription as many periods as are read back elsewhere.
func (a *Accounts) until(s *Subscription, first *billing.Plan, to time.Time) time.Time {
	if to.Before(s.Closed) {
		to = s.Closed
	}
	if s.End.IsZero() || to.Before(s.End) {
		return to
	}
	return s.Whole(first.Cadence, s.Index(first.Cadence, s.End.Add(-time.Nanosecond))+a.Back).End
}

func sooner(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// rated notes how far late usage is billed.
func (b *basis) rated() { b.s.Rated, b.s.Noted, b.s.Owed = b.note, true, time.Time{} }

// stale tells whether something may have come late since the last invoice of a
// subscription that has ended. Fewer notes than were billed are those of a
// ledger that was restored.
func (s *Subscription) stale(note int64) bool {
	return note != s.Rated || !s.Noted || !s.Owed.IsZero()
}

// over says that no invoice is to come but corrections.
func (s *Subscription) over() bool { return s.Done && s.Opened && len(s.Again) == 0 }

// owe has what a void invoice charged of earlier periods billed anew.
func (s *Subscription) owe(inv *billing.Invoice) {
	for i := range inv.Lines {
		if l := &inv.Lines[i]; l.Kind == billing.LineAdjustment && (s.Owed.IsZero() || l.Period.Start.Before(s.Owed)) {
			s.Owed = l.Period.Start
		}
	}
}

// correct bills what came after the last period of a subscription, by an
// invoice of its own: no other will come. What comes within a time of grace is
// on one invoice.
func (a *Accounts) correct(ctx context.Context, s *Subscription, d *Done) error {
	issued, err := a.earlier(ctx, s.Tenant, s.ID)
	if err != nil {
		return err
	}
	if n := len(issued); n > 0 && a.now().Before(issued[n-1].Issued.Add(a.Grace)) {
		d.Waiting++
		return nil
	}
	_, err = a.Finalize(ctx, s.Tenant, Ask{Subscription: s.ID, Kind: billing.Correction}, control.Mutation{Actor: Actor})
	if errors.Is(err, billing.ErrNothing) {
		return a.unchanged(ctx, s)
	}
	if gatehouse.CodeOf(err) == gatehouse.CodeConflict {
		// Another control plane has issued it.
		again, now := a.Subscription(ctx, s.Tenant, s.ID)
		if now != nil || again.Rated == s.Rated && again.Owed.Equal(s.Owed) {
			return errors.Join(err, now)
		}
		return nil
	}
	if err == nil {
		d.Finalized++
	}
	return err
}

// unchanged notes that nothing of what came late is to be billed.
func (a *Accounts) unchanged(ctx context.Context, s *Subscription) error {
	_, _, err := commit[Subscription](ctx, a, control.Mutation{Actor: Actor}, event{"subscription.rated", s.Tenant, kindSubscription}, func(c *change) error {
		c.firm = true
		ref := subscriptionRef(s.Tenant, s.ID)
		var b basis
		if err := c.must(ctx, ref, &b.s); err != nil {
			return err
		}
		late, err := a.Usage.Late(ctx, s.Tenant, b.s.Rated)
		if err != nil {
			return err
		}
		trial := &change{a: a, expect: map[journal.Ref]int64{}, firm: true}
		if _, err := trial.basis(ctx, s.Tenant, Ask{Subscription: s.ID, Kind: billing.Correction}, nil, nil); !errors.Is(err, billing.ErrNothing) {
			if err == nil {
				err = errNothing // something has come meanwhile: the next round bills it
			}
			return err
		}
		b.note = late.Note
		b.rated()
		c.put(ref, b.s)
		return nil
	})
	if errors.Is(err, errNothing) {
		return nil
	}
	return err
}
