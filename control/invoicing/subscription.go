package invoicing

import (
	"context"
	"regexp"
	"strings"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

// Subscription is one of a tenant's, and how far it is billed.
type Subscription struct {
	billing.Subscription
	control.Meta
	// State is what it is now; it is not stored.
	State billing.State `json:"state,omitempty"`
	// Opened says that the fees in advance of the first period are billed.
	Opened bool `json:"opened,omitempty"`
	// Next is the index of the first period that is not closed, and Closed the
	// end of the last that is. Nothing can be dated before Closed.
	Next   int       `json:"next_period"`
	Closed time.Time `json:"closed_until,omitzero"`
	// Again are periods whose invoice is void and that are to be billed anew.
	Again []int `json:"again,omitempty"`
	// Rated is the last note of the ledger (ledger.LateUsage) that is taken into
	// account: what is noted later came after it was billed. Noted says that the
	// ledger notes all that comes late.
	Rated int64 `json:"rated,omitempty"`
	Noted bool  `json:"noted,omitempty"`
	// Owed is the begin of late usage whose invoice is void and that is to be
	// billed anew.
	Owed time.Time `json:"owed,omitzero"`
	// Done says that it has ended and all of it is billed; what comes later is
	// billed by corrections.
	Done bool `json:"done,omitempty"`
	// Leaving is set where the tenant was deleted and that set the end.
	Leaving *Leaving `json:"leaving,omitempty"`
	// Voids counts void invoices: whoever drafts depends on them.
	Voids int `json:"voids,omitempty"`
}

// DefaultSubscription is the id of a subscription that was given none.
const DefaultSubscription = "main"

// NewSubscription is what a tenant subscribes to.
type NewSubscription struct {
	// ID is unique within the tenant. Default: DefaultSubscription.
	ID   string           `json:"id,omitempty"`
	Plan gatehouse.PlanID `json:"plan"`
	// Version of the plan. Default: the newest.
	Version int `json:"version,omitempty"`
	// Start is now by default, End never; Anchor, TimeZone, Quantities and
	// Discounts are as in the subscription.
	Start      time.Time                  `json:"start,omitzero"`
	End        time.Time                  `json:"end,omitzero"`
	Anchor     time.Time                  `json:"anchor,omitzero"`
	TimeZone   string                     `json:"time_zone,omitempty"`
	Quantities map[string]billing.Decimal `json:"quantities,omitempty"`
	Discounts  []billing.Discount         `json:"discounts,omitempty"`
}

func subscriptionRef(tenant gatehouse.TenantID, id string) journal.Ref {
	return journal.Ref{Kind: kindSubscription, Tenant: string(tenant), ID: id}
}

var plainID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$`)

// Subscribe begins a subscription. From then on its plan version does not
// change.
func (a *Accounts) Subscribe(ctx context.Context, tenant gatehouse.TenantID, in NewSubscription, m control.Mutation) (Subscription, error) {
	if in.ID == "" {
		in.ID = DefaultSubscription
	}
	if !plainID.MatchString(in.ID) {
		return Subscription{}, fault("/id", "is not a plain word of at most 63 letters, digits and _ . -", "")
	}
	out, meta, err := commit[Subscription](ctx, a, m, event{"subscription.create", tenant, kindSubscription}, func(c *change) error {
		if err := a.Opens(ctx, tenant); err != nil {
			return err
		}
		ref := subscriptionRef(tenant, in.ID)
		if found, err := c.read(ctx, ref, &Subscription{}); found || err != nil {
			if err == nil {
				err = conflict("subscription %q exists already", in.ID)
			}
			return err
		}
		plan, err := a.newest(ctx, billing.PlanRef{ID: in.Plan, Version: in.Version})
		if err != nil {
			return err
		}
		s := Subscription{Subscription: billing.Subscription{
			ID: in.ID, Tenant: tenant, Plan: plan, Start: in.Start.UTC(), End: in.End, Anchor: in.Anchor, TimeZone: in.TimeZone,
			Quantities: in.Quantities, Discounts: in.Discounts,
		}}
		if in.Start.IsZero() {
			s.Start = a.now()
		}
		book, err := c.book(ctx, &s.Subscription, true)
		if err != nil {
			return err
		}
		if err := invalid(s.Validate(book, time.Time{})); err != nil {
			return err
		}
		if err := invalid(s.Billable(book, -1)); err != nil {
			return err
		}
		first, err := billing.Draft(billing.Run{Book: book, Subscription: &s.Subscription, Kind: billing.Opening})
		if err != nil {
			return refused(err)
		}
		s.Opened = len(first.Lines) == 0 // nothing is paid in advance
		c.put(ref, s)
		return nil
	})
	return a.shown(ctx, out, meta, err)
}

func (a *Accounts) now() time.Time { return a.Now().UTC().Truncate(time.Second) }

// newest puts the number of the newest version in place of 0.
func (a *Accounts) newest(ctx context.Context, ref billing.PlanRef) (billing.PlanRef, error) {
	if ref.Version != 0 || ref.ID == "" {
		return ref, nil
	}
	v, err := a.Version(ctx, ref)
	if gatehouse.CodeOf(err) == gatehouse.CodeNotFound {
		return ref, fault("/plan", "the plan has no prices yet", "gatehouse plan price")
	}
	return v.Ref(), err
}

// Move is a change of plan or quantities.
type Move struct {
	// At is when. Default: now.
	At   time.Time        `json:"at,omitzero"`
	Plan gatehouse.PlanID `json:"plan"`
	// Version of the plan. Default: the newest.
	Version int `json:"version,omitempty"`
	// Quantities replace those before. Absent: they stay, and a plan that has
	// not all of these fees is refused; {} is 1 of each.
	Quantities map[string]billing.Decimal `json:"quantities,omitempty"`
}

// Change moves a subscription to another plan version or other quantities.
func (a *Accounts) Change(ctx context.Context, tenant gatehouse.TenantID, id string, in Move, m control.Mutation) (Subscription, error) {
	return a.amend(ctx, tenant, id, "subscription.change", m, func(s *Subscription) (err error) {
		to := billing.Change{At: a.or(in.At), Quantities: in.Quantities}
		if to.Plan, err = a.newest(ctx, billing.PlanRef{ID: in.Plan, Version: in.Version}); err != nil {
			return err
		}
		if to.Quantities == nil {
			to.Quantities = s.At(to.At).Quantities
		}
		s.Changes = append(s.Changes[:len(s.Changes):len(s.Changes)], to)
		return nil
	})
}

func (a *Accounts) or(t time.Time) time.Time {
	if t.IsZero() {
		return a.now()
	}
	return t.UTC()
}

// Pause is a time without recurring fees.
type Pause struct {
	// At is when it begins, now by default; Until when it ends, absent for a
	// pause that lasts.
	At    time.Time `json:"at,omitzero"`
	Until time.Time `json:"until,omitzero"`
}

// Pause stops recurring fees for a while.
func (a *Accounts) Pause(ctx context.Context, tenant gatehouse.TenantID, id string, in Pause, m control.Mutation) (Subscription, error) {
	return a.amend(ctx, tenant, id, "subscription.pause", m, func(s *Subscription) error {
		p := billing.Period{Start: a.or(in.At), End: in.Until}
		if s.At(p.Start).Paused {
			return conflict("the subscription is paused already")
		}
		s.Pauses = append(s.Pauses[:len(s.Pauses):len(s.Pauses)], p)
		return nil
	})
}

// Resume ends the pause that holds at an instant, now by default.
func (a *Accounts) Resume(ctx context.Context, tenant gatehouse.TenantID, id string, at time.Time, m control.Mutation) (Subscription, error) {
	return a.amend(ctx, tenant, id, "subscription.resume", m, func(s *Subscription) error {
		at := a.or(at)
		if at.Before(s.Closed) {
			return fault("/at", "lies in a period that is finalized", "not before "+s.Closed.Format(time.RFC3339))
		}
		for i := range s.Pauses {
			if p := s.Pauses[i]; p.Start.Before(at) && (p.End.IsZero() || p.End.After(at)) {
				s.Pauses = append([]billing.Period{}, s.Pauses...)
				s.Pauses[i].End = at
				return nil
			}
		}
		return conflict("the subscription is not paused then")
	})
}

// Cancellation is the end of a subscription.
type Cancellation struct {
	// At is when it ends. Default: now, or with PeriodEnd the end of the
	// running period.
	At        time.Time `json:"at,omitzero"`
	PeriodEnd bool      `json:"period_end,omitempty"`
	// Refund gives back the unused part of fees paid in advance.
	Refund bool `json:"refund,omitempty"`
}

// Cancel ends a subscription. Its last period is closed as any other.
func (a *Accounts) Cancel(ctx context.Context, tenant gatehouse.TenantID, id string, in Cancellation, m control.Mutation) (Subscription, error) {
	return a.amend(ctx, tenant, id, "subscription.cancel", m, func(s *Subscription) error {
		at := a.or(in.At)
		if in.PeriodEnd {
			v, err := a.Version(ctx, s.Plan)
			if err != nil {
				return err
			}
			at = s.Whole(v.Cadence, s.Index(v.Cadence, at)).End
		}
		// One that ends where it is billed already has no last period: it may
		// be given another end.
		closable := s.End.After(s.Closed)
		if s.Done || closable && !s.End.After(a.now()) {
			return conflict("the subscription has ended")
		}
		s.End, s.Refund = at.UTC(), in.Refund
		return nil
	})
}

// Discount adds a discount, from the period that begins next or at its Start.
func (a *Accounts) Discount(ctx context.Context, tenant gatehouse.TenantID, id string, d billing.Discount, m control.Mutation) (Subscription, error) {
	return a.amend(ctx, tenant, id, "subscription.discount", m, func(s *Subscription) error {
		if d.Start.Before(s.Closed) {
			d.Start = s.Closed
		}
		s.Discounts = append(s.Discounts[:len(s.Discounts):len(s.Discounts)], d)
		return nil
	})
}

// amend changes a subscription where nothing is finalized yet.
func (a *Accounts) amend(ctx context.Context, tenant gatehouse.TenantID, id, kind string, m control.Mutation, f func(*Subscription) error) (Subscription, error) {
	out, meta, err := commit[Subscription](ctx, a, m, event{kind, tenant, kindSubscription}, func(c *change) error {
		ref := subscriptionRef(tenant, id)
		var now Subscription
		if err := c.must(ctx, ref, &now); err != nil {
			return err
		}
		if err := c.match(&m, ref); err != nil {
			return err
		}
		next := now
		if err := f(&next); err != nil {
			return err
		}
		book, err := c.book(ctx, &next.Subscription, true)
		if err != nil {
			return err
		}
		faults := now.Amend(&next.Subscription, book, now.Closed)
		if len(faults) == 0 {
			faults = next.Billable(book, len(now.Changes))
		}
		for i := range faults {
			faults[i].Pointer = ofRequest(faults[i].Pointer)
		}
		if err := invalid(faults); err != nil {
			return err
		}
		c.put(ref, next)
		return nil
	})
	return a.shown(ctx, out, meta, err)
}

// ofRequest turns the pointer of a fault in a subscription into one of the
// request that would bring it about: /changes/2/at is /at there.
func ofRequest(pointer string) string {
	parts := strings.SplitN(pointer, "/", 4)
	if len(parts) == 4 && (parts[1] == "changes" || parts[1] == "pauses" || parts[1] == "discounts") {
		pointer = "/" + parts[3]
		if parts[1] == "pauses" {
			pointer = strings.NewReplacer("/start", "/at", "/end", "/until").Replace(pointer)
		}
		return pointer
	}
	if pointer == "/end" || pointer == "/changes" {
		return "/at"
	}
	return pointer
}

// Subscription returns one of a tenant's.
func (a *Accounts) Subscription(ctx context.Context, tenant gatehouse.TenantID, id string) (Subscription, error) {
	s, meta, err := get[Subscription](ctx, a, subscriptionRef(tenant, id))
	return a.shown(ctx, s, meta, err)
}

// Subscriptions returns all of a tenant's.
func (a *Accounts) Subscriptions(ctx context.Context, tenant gatehouse.TenantID) ([]Subscription, error) {
	all, err := list[Subscription](ctx, a, kindSubscription, tenant)
	for i := range all {
		if err == nil {
			all[i], err = a.shown(ctx, all[i], control.Meta{}, nil)
		}
	}
	return all, err
}

// shown adds what is known of a subscription besides what is stored.
func (a *Accounts) shown(ctx context.Context, s Subscription, meta control.Meta, err error) (Subscription, error) {
	if err != nil {
		return Subscription{}, err
	}
	s.Meta = meta
	first, err := a.Version(ctx, s.Plan)
	if err != nil {
		return Subscription{}, err
	}
	s.State = s.Subscription.State(&first.Plan, a.now())
	return s, nil
}
