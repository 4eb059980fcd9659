package invoicing

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

// counted are the meters of every gateway.
var counted = []string{
	metering.MeterBytesIn, metering.MeterBytesOut, metering.MeterCompute, metering.MeterOverage, metering.MeterRequests,
	metering.MeterBillable, metering.MeterInterrupted, metering.MeterUnits,
}

// names are the meters that are known: those of every gateway, and those by
// which something was counted. Where the ledger cannot be read, known is false.
func (a *Accounts) names(ctx context.Context) (names []string, known bool) {
	seen, err := a.Usage.Meters(ctx)
	if err != nil {
		return counted, false
	}
	names = append(seen, counted...)
	slices.Sort(names)
	return slices.Compact(names), true
}

// noMeter warns of a meter by which nothing was counted yet. It is no more than
// a warning: backends and events may count by any name, from the next request on.
func noMeter(at, meter string, names []string) gatehouse.Fault {
	const most = 20
	hint := "nothing is charged or limited until something is: is it meant to be "
	if len(names) > most {
		names = names[:most]
	}
	return gatehouse.Fault{Pointer: at, Reason: fmt.Sprintf("nothing was ever counted by %.60q", meter), Hint: hint + strings.Join(names, ", ") + "?", Warning: true}
}

// unmetered warns of the meters of a plan by which nothing was ever counted.
func (a *Accounts) unmetered(ctx context.Context, p *billing.Plan) gatehouse.Faults {
	names, known := a.names(ctx)
	var out gatehouse.Faults
	look := func(at, meter string) {
		if known && meter != "" && !slices.Contains(names, meter) {
			out = append(out, noMeter(at, meter, names))
		}
	}
	for i := range p.Prices {
		look(gatehouse.Pointer("prices", i, "meter"), p.Prices[i].Meter)
		for n := range p.Prices[i].Tiers {
			limits := p.Prices[i].Tiers[n].Limits
			for _, meter := range slices.Sorted(maps.Keys(limits)) {
				look(gatehouse.Pointer("prices", i, "tiers", n, "limits", meter), meter)
			}
		}
	}
	for i := range p.Entitlements {
		look(gatehouse.Pointer("entitlements", i, "meter"), p.Entitlements[i].Meter)
	}
	return out
}

// unheard warns of an alert that nothing would set off by now: of a meter by
// which nothing was counted, a feature that the plan of now does not limit, or a
// subscription that is not there.
func (a *Accounts) unheard(ctx context.Context, tenant gatehouse.TenantID, d *NewAlert) (gatehouse.Faults, error) {
	warn := func(at, format string, args ...any) gatehouse.Faults {
		return gatehouse.Faults{{Pointer: at, Reason: fmt.Sprintf(format, args...), Hint: "nothing is told until there is", Warning: true}}
	}
	if names, known := a.names(ctx); known && d.Meter != "" && !slices.Contains(names, d.Meter) {
		return gatehouse.Faults{noMeter("/meter", d.Meter, names)}, nil
	}
	id := d.Subscription
	if id == "" {
		id = DefaultSubscription
	}
	s, err := a.Subscription(ctx, tenant, id)
	if gatehouse.CodeOf(err) == gatehouse.CodeNotFound {
		return warn("/subscription", "there is no subscription %.80q", id), nil
	}
	if err != nil || d.Feature == "" {
		return nil, err
	}
	book, err := a.book(ctx, &s.Subscription)
	if err != nil {
		return nil, err
	}
	now := s.At(a.now()).Plan
	if e := entitlement(book[now], d.Feature); e == nil || e.Meter == "" {
		return warn("/feature", "plan %s has no feature %.80q that is metered", now, d.Feature), nil
	}
	return nil, nil
}

// nameless refuses an adjustment of a meter that nobody knows: it would change
// nothing that is billed, and adjustments stay for ever.
func (a *Accounts) nameless(ctx context.Context, tenant gatehouse.TenantID, meter string) error {
	names, known := a.names(ctx)
	if !known || meter == "" || slices.Contains(names, meter) {
		return nil
	}
	subs, err := a.Subscriptions(ctx, tenant)
	if err != nil {
		return err
	}
	for i := range subs {
		book, err := a.book(ctx, &subs[i].Subscription)
		if err != nil {
			return err
		}
		for _, plan := range book {
			priced := slices.ContainsFunc(plan.Prices, func(p billing.Price) bool { return p.Meter == meter })
			limited := slices.ContainsFunc(plan.Entitlements, func(e billing.Entitlement) bool { return e.Meter == meter })
			if priced || limited {
				return nil
			}
		}
	}
	w := noMeter("/meter", meter, names)
	return fault(w.Pointer, w.Reason+", and no plan of the tenant names it", "")
}
