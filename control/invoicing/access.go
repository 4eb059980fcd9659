package invoicing

import (
	"context"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

// Access is what a tenant may use of a feature by now.
type Access struct {
	// Feature is what it is about, Meter what measures it; empty for a feature
	// that one has or has not.
	Feature string `json:"feature"`
	Meter   string `json:"meter,omitempty"`
	// Limit is absent where there is none.
	Limit *billing.Decimal    `json:"limit,omitempty"`
	At    billing.Enforcement `json:"at,omitempty"`
	billing.Access
}

// Entitlements returns what a subscription gives its tenant, by the ledger.
func (a *Accounts) Entitlements(ctx context.Context, tenant gatehouse.TenantID, subscription string) ([]Access, error) {
	if subscription == "" {
		subscription = DefaultSubscription
	}
	s, err := a.Subscription(ctx, tenant, subscription)
	if err != nil {
		return nil, err
	}
	book, err := a.book(ctx, &s.Subscription)
	if err != nil {
		return nil, err
	}
	out := []Access{}
	if s.State == billing.Pending || s.State == billing.Ended {
		return out, nil
	}
	now := a.now()
	plan := book[s.At(now).Plan]
	for i := range plan.Entitlements {
		v, err := a.access(ctx, &s.Subscription, book, &plan.Entitlements[i], billing.Decimal{}, now)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

// Entitled tells whether want more units of a feature are covered.
func (a *Accounts) Entitled(ctx context.Context, tenant gatehouse.TenantID, subscription, feature string, want billing.Decimal) (Access, error) {
	if subscription == "" {
		subscription = DefaultSubscription
	}
	s, err := a.Subscription(ctx, tenant, subscription)
	if err != nil {
		return Access{}, err
	}
	book, err := a.book(ctx, &s.Subscription)
	if err != nil {
		return Access{}, err
	}
	now := a.now()
	e := entitlement(book[s.At(now).Plan], feature)
	if e == nil || s.State == billing.Pending || s.State == billing.Ended {
		return Access{Feature: feature, Access: billing.Access{AsOf: now}}, nil
	}
	return a.access(ctx, &s.Subscription, book, e, want, now)
}

func (a *Accounts) access(ctx context.Context, s *billing.Subscription, book billing.Book, e *billing.Entitlement, want billing.Decimal, now time.Time) (Access, error) {
	v := Access{Feature: e.Feature, Meter: e.Meter, Limit: e.Limit, At: e.At}
	var usage billing.Decimal
	var window billing.Period
	if e.Meter != "" {
		var err error
		window = e.WindowAt(now, anchorOf(s), s.Location(), book[s.Plan].Cadence)
		if usage, err = a.usedIn(ctx, s, book, e.Meter, window); err != nil {
			return v, err
		}
	}
	v.Access = e.Check(usage, want, now, window)
	return v, nil
}

func entitlement(plan *billing.Plan, feature string) *billing.Entitlement {
	for i := range plan.Entitlements {
		if plan.Entitlements[i].Feature == feature {
			return &plan.Entitlements[i]
		}
	}
	return nil
}

func anchorOf(s *billing.Subscription) time.Time {
	if s.Anchor.IsZero() {
		return s.Start
	}
	return s.Anchor
}

// usedIn is the usage of one meter within a window.
func (a *Accounts) usedIn(ctx context.Context, s *billing.Subscription, book billing.Book, meter string, p billing.Period) (billing.Decimal, error) {
	cells, err := a.cells(ctx, s, book, billing.Period{Start: minute(p.Start), End: minute(p.End)})
	if err != nil {
		return billing.Decimal{}, err
	}
	return used(billing.Fold(cells), s.Tenant, meter, p, s.Location()), nil
}
