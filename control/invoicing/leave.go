package invoicing

import (
	"context"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

// Leaving is the end that a subscription has because its tenant was deleted.
type Leaving struct {
	// End is that end; another End was set since.
	End time.Time `json:"end"`
	// Until is the end it had before, zero for none, and Changes those that were
	// to come after End: they hold again when the tenant is restored.
	Until   time.Time        `json:"until,omitzero"`
	Changes []billing.Change `json:"changes,omitempty"`
}

var _ control.Books = (*Accounts)(nil)

// kept are the kinds of a tenant's resources that stay when it is purged.
var kept = []string{kindSubscription, kindInvoice, kindNote, kindWallet, kindBalance, kindCustomer, kindAlert}

// Keeps reports whether there is anything in the books of a tenant, which may be
// gone.
func (a *Accounts) Keeps(ctx context.Context, id gatehouse.TenantID) (bool, error) {
	of := string(id)
	for _, kind := range kept {
		page, err := a.Store.List(ctx, journal.Query{Kind: kind, Tenant: &of, Limit: 1})
		if err != nil {
			return false, coded(err)
		}
		if len(page.Items) > 0 {
			return true, nil
		}
	}
	return false, nil
}

// Fresh refuses an id that has books.
func (a *Accounts) Fresh(ctx context.Context, _ *journal.Change, id gatehouse.TenantID) error {
	has, err := a.Keeps(ctx, id)
	if err == nil && has {
		err = conflict("the id %q was another tenant's, whose invoices and credit are kept: choose another id", id)
	}
	return err
}

// Leave ends the subscriptions of a tenant that is deleted.
func (a *Accounts) Leave(ctx context.Context, c *journal.Change, id gatehouse.TenantID, d control.Deletion) error {
	return a.each(ctx, c, id, func(s *Subscription) (bool, error) {
		v, err := a.Version(ctx, s.Plan)
		if err != nil {
			return false, err
		}
		end := d.At
		if s.Start.Before(d.At) {
			end = s.Whole(v.Cadence, s.Index(v.Cadence, d.At)).End
		}
		for _, other := range []time.Time{d.Purge, s.End} {
			if !other.IsZero() && other.Before(end) {
				end = other
			}
		}
		if end.Before(s.Closed) {
			end = s.Closed
		}
		if !s.Start.Before(end) {
			end = s.Start.Add(time.Second)
		}
		if s.Done || !s.End.IsZero() && !s.End.After(end) {
			return false, nil
		}
		s.Leaving = &Leaving{End: end.UTC(), Until: s.End}
		s.End = end.UTC()
		var stay []billing.Change
		for _, move := range s.Changes {
			if move.At.Before(end) {
				stay = append(stay, move)
			} else {
				s.Leaving.Changes = append(s.Leaving.Changes, move)
			}
		}
		s.Changes = stay
		return true, nil
	})
}

// Return takes back the ends that a deletion set and that have not come.
func (a *Accounts) Return(ctx context.Context, c *journal.Change, id gatehouse.TenantID) error {
	return a.each(ctx, c, id, func(s *Subscription) (bool, error) {
		was := s.Leaving
		s.Leaving = nil
		if was != nil && !s.Done && s.End.Equal(was.End) && a.now().Before(was.End) {
			s.End = was.Until
			s.Changes = append(s.Changes[:len(s.Changes):len(s.Changes)], was.Changes...)
		}
		return was != nil, nil
	})
}

// Close refuses the purge of a tenant that is not billed to its end.
func (a *Accounts) Close(ctx context.Context, c *journal.Change, id gatehouse.TenantID) error {
	return a.each(ctx, c, id, func(s *Subscription) (bool, error) {
		switch {
		case s.Done && len(s.Again) == 0 && s.Owed.IsZero():
			return false, nil
		case s.Start.After(a.now()) && s.Closed.IsZero() && s.Next == 0:
			c.Deletes = append(c.Deletes, subscriptionRef(id, s.ID))
			return false, nil
		case s.End.IsZero():
			return false, conflict("subscription %q has no end: cancel it, and purge the tenant when its last invoice is issued", s.ID)
		case s.End.After(a.now()):
			return false, conflict("subscription %q ends at %s: cancel it now, or purge the tenant when its last invoice is issued", s.ID, s.End.Format(time.RFC3339))
		}
		return false, conflict("subscription %q has ended, but its last invoice is not issued yet", s.ID)
	})
}

// each adds to c the subscriptions that f changes.
func (a *Accounts) each(ctx context.Context, c *journal.Change, id gatehouse.TenantID, f func(*Subscription) (bool, error)) error {
	of := string(id)
	q := journal.Query{Kind: kindSubscription, Tenant: &of, Limit: 1000}
	for {
		page, err := a.Store.List(ctx, q)
		if err != nil {
			return coded(err)
		}
		for i := range page.Items {
			var s Subscription
			if err := decode(&page.Items[i], &s); err != nil {
				return err
			}
			changed, err := f(&s)
			if err != nil {
				return err
			}
			c.Expect[page.Items[i].Ref] = int64(page.Items[i].Revision)
			if changed {
				mine := change{}
				mine.put(page.Items[i].Ref, s)
				c.Puts = append(c.Puts, mine.puts...)
			}
		}
		if q.After = page.Next; q.After == "" {
			return nil
		}
	}
}
