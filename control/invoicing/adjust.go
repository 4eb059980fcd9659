package invoicing

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
	"github.com/gatehouse-gateway/gatehouse/metering/ledger"
)

// Adjust corrects usage by a signed amount, in the ledger. The next invoice
// charges it, or gives it back, if the period is closed already. No more is
// taken back than was used in the period.
func (a *Accounts) Adjust(ctx context.Context, in ledger.Adjustment, m control.Mutation) (ledger.Adjustment, error) {
	in.Approver = cmp.Or(in.Approver, m.Actor)
	_, err := a.Correct(ctx, in, m)
	return in, err
}

// Correct is Adjust with the verdict: Recorded, or Duplicate where the
// adjustment was there already. Whoever the approver is said to be, the journal
// has who made it.
func (a *Accounts) Correct(ctx context.Context, in ledger.Adjustment, m control.Mutation) (ledger.Verdict, error) {
	in.Approver = cmp.Or(in.Approver, m.Actor)
	value, err := billing.ParseDecimal(in.Value)
	if err != nil {
		return "", fault("/value", "is not a decimal number", "")
	}
	if err := a.nameless(ctx, in.Tenant, in.Meter); err != nil {
		return "", err
	}
	var periods []billed
	if value.Sign() < 0 {
		if periods, err = a.billed(ctx, &in); err != nil {
			return "", err
		}
	}
	verdict, err := a.Usage.AdjustIf(ctx, in, func(c metering.Cell, cells ledger.Cells) error {
		if err := a.Tenant(ctx, in.Tenant); err != nil {
			return err
		}
		for i := range periods {
			if err := periods[i].covers(ctx, c, value.Neg(), cells); err != nil {
				return err
			}
		}
		if m.DryRun {
			return errNothing
		}
		return nil
	})
	switch {
	case errors.Is(err, errNothing):
		return ledger.Recorded, nil
	case err != nil:
		return "", err
	case verdict == ledger.Conflict:
		return "", conflict("another adjustment has this id: %q exists with another content", in.ID)
	case m.DryRun:
		return verdict, nil
	}
	return verdict, a.journaled(ctx, &in, m)
}

// journaled says in the journal who made an adjustment, and why. Where that
// fails, the adjustment is made, and asking for it again says it.
func (a *Accounts) journaled(ctx context.Context, in *ledger.Adjustment, m control.Mutation) error {
	hash := sha256.Sum256([]byte(in.ID))
	ref := journal.Ref{Kind: kindAdjustment, Tenant: string(in.Tenant), ID: hex.EncodeToString(hash[:16])}
	own := control.Mutation{Actor: m.Actor, Why: cmp.Or(m.Why, in.Reason)}
	_, _, err := commit[ledger.Adjustment](ctx, a, own, event{"usage.adjust", in.Tenant, kindAdjustment}, func(c *change) error {
		found, err := c.read(ctx, ref, &ledger.Adjustment{})
		if err == nil && !found {
			c.put(ref, in)
		}
		return err
	})
	if errors.Is(err, errNothing) {
		return nil // said already
	}
	return err
}

// billed is a span that a subscription rates as one.
type billed struct {
	s    *billing.Subscription
	book billing.Book
	span billing.Period
}

// billed are the spans of a tenant's subscriptions that an adjustment counts in.
func (a *Accounts) billed(ctx context.Context, in *ledger.Adjustment) ([]billed, error) {
	subs, err := a.Subscriptions(ctx, in.Tenant)
	if err != nil {
		return nil, err
	}
	var out []billed
	for i := range subs {
		s := &subs[i].Subscription
		book, err := a.book(ctx, s)
		if err != nil {
			return nil, err
		}
		out = append(out, billed{s, book, segmentAt(s, book, in.Time)})
	}
	return out, nil
}

// covers refuses to take back more than was used, as net takes it off.
func (b *billed) covers(ctx context.Context, c metering.Cell, back billing.Decimal, read ledger.Cells) error {
	cells, err := read(b.span.Start, b.span.End)
	if err != nil {
		return err
	}
	_, before, err := net(ctx, cells, b.s, b.book)
	if err != nil {
		return err
	}
	_, after, err := net(ctx, append(cells, c), b.s, b.book)
	if err != nil {
		return err
	}
	if lost := after - before; lost > 0 {
		// The value is to what it is in the meter's smallest unit as what could
		// be taken is to that.
		have := back.Mul(billing.Int(-c.Value - lost)).Div(billing.Int(-c.Value))
		return fault("/value", fmt.Sprintf("takes back %s of %s, and %s were used from %s to %s", back, c.Meter, have, b.span.Start.UTC().Format(time.RFC3339), b.span.End.UTC().Format(time.RFC3339)), "")
	}
	return nil
}
