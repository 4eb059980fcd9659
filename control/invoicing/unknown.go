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

// knownMeters are the meters that are known: those of every gateway, and those that
// were read, by which something was counted. Where the ledger could not be read,
// known is false.
func knownMeters(seen []string, err error) (names []string, known bool) {
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

// named is a meter that a plan names, and where.
type named struct{ at, meter string }

// meters are those that a plan charges or limits by.
func meters(p *billing.Plan) []named {
	var out []named
	add := func(at, meter string) {
		if meter != "" {
			out = append(out, named{at, meter})
		}
	}
	for i := range p.Prices {
		add(gatehouse.Pointer("prices", i, "meter"), p.Prices[i].Meter)
		for n := range p.Prices[i].Tiers {
			for _, meter := range slices.Sorted(maps.Keys(p.Prices[i].Tiers[n].Limits)) {
				add(gatehouse.Pointer("prices", i, "tiers", n, "limits", meter), meter)
			}
		}
	}
	for i := range p.Entitlements {
		add(gatehouse.Pointer("entitlements", i, "meter"), p.Entitlements[i].Meter)
	}
	return out
}

// unmetered warns of the meters of a plan by which nothing was ever counted, of
// whatever tenant: plans are the operator's.
func (a *Accounts) unmetered(ctx context.Context, p *billing.Plan) gatehouse.Faults {
	names, known := knownMeters(a.Usage.Meters(ctx))
	var out gatehouse.Faults
	for _, m := range meters(p) {
		if known && !slices.Contains(names, m.meter) {
			out = append(out, noMeter(m.at, m.meter, names))
		}
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
	if d.Meter != "" {
		if names, known := knownMeters(a.Usage.TenantMeters(ctx, tenant)); known && !slices.Contains(names, d.Meter) {
			return gatehouse.Faults{noMeter("/meter", d.Meter, names)}, nil
		}
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

// nameless refuses an adjustment of a meter that the tenant does not know: it
// would change nothing that is billed, and adjustments stay for ever.
// CodeNotFound: there is no such tenant.
func (a *Accounts) nameless(ctx context.Context, tenant gatehouse.TenantID, meter string) error {
	if meter == "" {
		return nil // the ledger refuses it
	}
	names, known := knownMeters(a.Usage.TenantMeters(ctx, tenant))
	if !known || slices.Contains(names, meter) {
		return nil
	}
	if err := a.Tenant(ctx, tenant); err != nil {
		return err
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
			if slices.ContainsFunc(meters(plan), func(m named) bool { return m.meter == meter }) {
				return nil
			}
		}
	}
	w := noMeter("/meter", meter, names)
	return fault(w.Pointer, w.Reason+" of the tenant, and no plan of it names it", "")
}
