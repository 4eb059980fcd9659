package invoicing

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

// Actor is how the journal names the jobs of this package.
const Actor = "system:billing"

// Run does what is due until ctx ends: it closes periods, watches thresholds,
// marks what is overdue and books credit that has expired. It may run in
// several control planes; everything is done once.
func (a *Accounts) Run(ctx context.Context) error {
	tick := time.NewTicker(a.Every)
	defer tick.Stop()
	var slow, slower time.Time
	for {
		now := a.Now()
		if now.Sub(slower) >= daily {
			slower = now
			if err := a.adopt(ctx); err != nil && ctx.Err() == nil {
				a.Log.Error("reminders", "error", err)
			}
		}
		all := now.Sub(slow) >= seldom
		if all {
			slow = now
		}
		if _, err := a.round(ctx, all); err != nil && ctx.Err() == nil {
			a.Log.Error("billing", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// seldom is the time between two looks at what is overdue and what has
// expired, which reads every wallet; daily that between two looks for invoices
// without a reminder, which reads every one that is unpaid.
const (
	seldom = time.Hour
	daily  = 24 * time.Hour
)

// Done is what a round of Run has done.
type Done struct {
	// Finalized invoices, and reminders, and events of alerts.
	Finalized int `json:"finalized"`
	Overdue   int `json:"overdue"`
	Alerts    int `json:"alerts"`
	// Waiting are periods that have ended and whose usage is not complete.
	Waiting int `json:"waiting"`
}

// Round is one round of Run, with all that Run does seldom. What fails for one tenant does not keep the
// others from being billed; errors are joined.
func (a *Accounts) Round(ctx context.Context) (Done, error) { return a.round(ctx, true) }

func (a *Accounts) round(ctx context.Context, all bool) (Done, error) {
	var d Done
	err := errors.Join(a.close(ctx, &d), a.watch(ctx, &d))
	if all {
		err = errors.Join(err, a.remind(ctx, &d), a.expireAll(ctx))
	}
	return d, err
}

// close issues the invoices that are due.
func (a *Accounts) close(ctx context.Context, d *Done) error {
	due, failed := a.due(ctx)
	for i := range due {
		s := &due[i]
		if s.over() {
			if err := a.correct(ctx, s, d); err != nil {
				failed = errors.Join(failed, fmt.Errorf("correct %s/%s: %w", s.Tenant, s.ID, err))
			}
		} else if err := a.closeOne(ctx, s.Tenant, s.ID, d); err != nil {
			failed = errors.Join(failed, fmt.Errorf("bill %s/%s: %w", s.Tenant, s.ID, err))
		}
		if ctx.Err() != nil {
			return errors.Join(failed, ctx.Err())
		}
	}
	return failed
}

// due are the subscriptions of which something may be billed. The usage of
// their periods that have ended is watched, in one transaction for all.
func (a *Accounts) due(ctx context.Context) (due []Subscription, failed error) {
	// Notes that come while this runs are for the next round.
	notes, failed := a.Usage.Noted(ctx)
	plans, ends := map[billing.PlanRef]*billing.Plan{}, map[gatehouse.TenantID]time.Time{}
	for r, err := range a.Store.All(ctx, kindSubscription) {
		if err != nil {
			return due, errors.Join(failed, coded(err))
		}
		var s Subscription
		if err := decode(&r, &s); err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		if over := s.over(); over && !s.stale(notes[s.Tenant]) || !over && !a.ripe(ctx, &s, plans) {
			continue
		}
		due = append(due, s)
		if first := plans[s.Plan]; first != nil && !s.Done {
			if end := s.Span(first.Cadence, s.Next).End; !end.After(a.now()) && end.After(ends[s.Tenant]) {
				ends[s.Tenant] = end
			}
		}
	}
	if len(ends) > 0 {
		failed = errors.Join(failed, a.Usage.Watch(ctx, ends))
	}
	return due, failed
}

// ripe tells whether something of a subscription has ended, without reading
// its usage. Plans are those that were read before: a version in use does not
// change.
func (a *Accounts) ripe(ctx context.Context, s *Subscription, plans map[billing.PlanRef]*billing.Plan) bool {
	if len(s.Again) > 0 || !s.Opened && !a.now().Before(s.Start) {
		return true
	}
	first := plans[s.Plan]
	if first == nil {
		v, err := a.Version(ctx, s.Plan)
		if err != nil {
			return true // closeOne tells
		}
		first = &v.Plan
		plans[s.Plan] = first
	}
	span := s.Span(first.Cadence, s.Next)
	return span.Empty() || !a.now().Before(span.End)
}

// closeOne issues what is due of one subscription, oldest first.
func (a *Accounts) closeOne(ctx context.Context, tenant gatehouse.TenantID, id string, d *Done) error {
	for {
		s, err := a.Subscription(ctx, tenant, id)
		if err != nil {
			return err
		}
		if !a.ripe(ctx, &s, map[billing.PlanRef]*billing.Plan{}) {
			return nil
		}
		asks := a.pending(&s)
		if len(asks) == 0 {
			return nil
		}
		ready, err := a.ready(ctx, tenant, &s, asks[0])
		if err != nil {
			return err
		}
		if !ready {
			d.Waiting++
			return nil
		}
		_, err = a.Finalize(ctx, tenant, asks[0], control.Mutation{Actor: Actor})
		if gatehouse.CodeOf(err) == gatehouse.CodeConflict {
			// Another control plane has issued it, or it is not due after all.
			again, now := a.Subscription(ctx, tenant, id)
			if now != nil || again.Revision == s.Revision {
				return errors.Join(err, now)
			}
			continue
		}
		if err != nil {
			return err
		}
		d.Finalized++
	}
}

// ready tells whether the usage that an invoice charges is complete, or the
// time of grace over.
func (a *Accounts) ready(ctx context.Context, tenant gatehouse.TenantID, s *Subscription, ask Ask) (bool, error) {
	first, err := a.Version(ctx, s.Plan)
	if err != nil {
		return false, err
	}
	if ask.Kind == billing.Opening {
		return !a.now().Before(s.Start), nil
	}
	end := s.Span(first.Cadence, *ask.Period).End
	if a.now().Before(end) {
		return false, nil
	}
	gateways, err := a.Usage.Gateways(ctx)
	if err != nil {
		return false, fmt.Errorf("bill %s: %w", tenant, err)
	}
	_, sealed := watermark(gateways, end)
	return sealed || !a.now().Before(end.Add(a.Grace)), nil
}

func (a *Accounts) expireAll(ctx context.Context) error {
	var failed error
	for r, err := range a.Store.All(ctx, kindWallet) {
		if err != nil {
			return errors.Join(failed, coded(err))
		}
		var w billing.Wallet
		if err := decode(&r, &w); err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		// Credit that had not expired when a period ended pays for it: until
		// then, and a time of grace, it stays.
		if err := a.expire(ctx, gatehouse.TenantID(r.Tenant), &w, a.now().Add(-a.hold())); err != nil {
			failed = errors.Join(failed, fmt.Errorf("expire credit of %s: %w", r.Tenant, err))
		}
	}
	return failed
}

// hold is how long credit stays in the books after it has expired: as long as
// a period that it can pay for may be open.
func (a *Accounts) hold() time.Duration { return a.Grace + 24*time.Hour }

var _ Store = (*journal.Journal)(nil)
