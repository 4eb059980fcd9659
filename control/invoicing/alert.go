package invoicing

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

// Watched is what an alert watches.
type Watched string

// What can be watched: the usage of a meter or the money that the running
// period comes to, before tax, both at or above a threshold; or what a wallet
// holds, at or below it.
const (
	WatchUsage  Watched = "usage"
	WatchMoney  Watched = "money"
	WatchWallet Watched = "wallet"
)

// NewAlert says of which thresholds is told, each once in a billing period.
type NewAlert struct {
	// ID is unique within the tenant.
	ID    string  `json:"id"`
	Watch Watched `json:"watch"`
	// Subscription is DefaultSubscription if empty.
	Subscription string `json:"subscription,omitempty"`
	// Feature is the entitlement whose meter and limit are meant; or Meter
	// alone. For usage.
	Feature string `json:"feature,omitempty"`
	Meter   string `json:"meter,omitempty"`
	// Of is what percentages are of. Default: the limit of Feature.
	Of *billing.Decimal `json:"of,omitempty"`
	// Percents default to 50, 80, 100 and 120 where there is no Thresholds;
	// Thresholds are units or money.
	Percents   []int             `json:"percents,omitempty"`
	Thresholds []billing.Decimal `json:"thresholds,omitempty"`
	// Currency of the wallet that is watched.
	Currency billing.Currency `json:"currency,omitempty"`
	// Resolve tells too when a threshold that was told is no longer reached,
	// as with the begin of a period.
	Resolve bool `json:"resolve,omitempty"`
}

// Alert is one that is stored. What has been told is part of it, so that
// neither a restart nor a second control plane tells twice.
type Alert struct {
	NewAlert
	control.Meta
	// Period began when thresholds were last set back; Told are those that
	// were told in it, and Last the latest of these.
	Period time.Time `json:"period,omitzero"`
	Told   []string  `json:"told,omitempty"`
	Last   *Signal   `json:"last,omitempty"`
	// Warnings say why nothing would be told when it was set, such as a feature
	// that the plan does not have.
	Warnings gatehouse.Faults `json:"warnings,omitempty"`
}

// Signal is what is told of one threshold.
type Signal struct {
	// Alert is its id. Subscription, Meter and Currency are of what is watched, as
	// far as that has them.
	Alert        string             `json:"alert"`
	Tenant       gatehouse.TenantID `json:"tenant"`
	Subscription string             `json:"subscription,omitempty"`
	Watch        Watched            `json:"watch"`
	Meter        string             `json:"meter,omitempty"`
	Currency     billing.Currency   `json:"currency,omitempty"`
	// Threshold is as 80% or 1000000; Limit is what it comes to, and Value
	// what was reached.
	Threshold string          `json:"threshold"`
	Limit     billing.Decimal `json:"limit"`
	Value     billing.Decimal `json:"value"`
	Period    billing.Period  `json:"period"`
	// At is when it was told.
	At time.Time `json:"at"`
}

var defaultPercents = []int{50, 80, 100, 120}

func alertRef(tenant gatehouse.TenantID, id string) journal.Ref {
	return journal.Ref{Kind: kindAlert, Tenant: string(tenant), ID: id}
}

// SetAlert creates or replaces an alert. What was told of thresholds that stay
// is not told again.
func (a *Accounts) SetAlert(ctx context.Context, tenant gatehouse.TenantID, doc NewAlert, m control.Mutation) (Alert, error) {
	if err := invalid(doc.faults()); err != nil {
		return Alert{}, err
	}
	out, meta, err := commit[Alert](ctx, a, m, event{"alert.set", tenant, kindAlert}, func(c *change) error {
		if err := a.Tenant(ctx, tenant); err != nil {
			return err
		}
		var now Alert
		if _, err := c.read(ctx, alertRef(tenant, doc.ID), &now); err != nil {
			return err
		}
		if err := c.match(&m, alertRef(tenant, doc.ID)); err != nil {
			return err
		}
		warnings, err := a.unheard(ctx, tenant, &doc)
		if err != nil {
			return err
		}
		c.put(alertRef(tenant, doc.ID), Alert{NewAlert: doc, Period: now.Period, Told: now.Told, Last: now.Last, Warnings: warnings})
		return nil
	})
	out.Meta = meta
	return out, err
}

func (d *NewAlert) faults() gatehouse.Faults {
	var fs gatehouse.Faults
	bad := func(at, reason string) { fs = append(fs, gatehouse.Fault{Pointer: at, Reason: reason}) }
	if !plainID.MatchString(d.ID) {
		bad("/id", "is not a plain word of at most 63 letters, digits and _ . -")
	}
	switch d.Watch {
	case WatchUsage:
		if (d.Feature == "") == (d.Meter == "") {
			bad("/feature", "usage is of a feature or of a meter")
		}
	case WatchMoney:
	case WatchWallet:
		if _, ok := d.Currency.Places(); !ok {
			bad("/currency", "is not a currency")
		}
	default:
		bad("/watch", "is not usage, money or wallet")
	}
	if len(d.Percents) > 0 && d.Of == nil && d.Feature == "" {
		bad("/of", "is what percentages are of")
	}
	if len(d.Percents)+len(d.Thresholds) > 20 {
		bad("/thresholds", "are more than 20")
	}
	if len(d.Thresholds) == 0 && d.Of == nil && d.Feature == "" {
		bad("/thresholds", "are missing")
	}
	for i, p := range d.Percents {
		if p < 1 || p > 100_000 {
			bad(gatehouse.Pointer("percents", i), "must be between 1 and 100000")
		}
	}
	for i, t := range d.Thresholds {
		if t.Sign() < 0 || t.Cmp(billing.Int(maxAmount)) > 0 {
			bad(gatehouse.Pointer("thresholds", i), "must be between 0 and 10^15")
		}
	}
	return fs
}

// Alerts returns the alerts of a tenant.
func (a *Accounts) Alerts(ctx context.Context, tenant gatehouse.TenantID) ([]Alert, error) {
	return list[Alert](ctx, a, kindAlert, tenant)
}

// DeleteAlert removes an alert.
func (a *Accounts) DeleteAlert(ctx context.Context, tenant gatehouse.TenantID, id string, m control.Mutation) error {
	if m.DryRun {
		_, _, err := get[Alert](ctx, a, alertRef(tenant, id))
		return err
	}
	_, err := a.Store.Commit(ctx, journal.Change{
		Actor: m.Actor, Why: m.Why, Kind: "alert.delete", Tenant: string(tenant), Subject: id, Idempotency: m.Idempotency, Deletes: []journal.Ref{alertRef(tenant, id)},
	})
	if errors.Is(err, journal.ErrNotFound) {
		return notFound(kindAlert, id)
	}
	if errors.Is(err, journal.ErrReplayed) {
		return nil
	}
	return coded(err)
}

// watch tells of thresholds of all tenants.
func (a *Accounts) watch(ctx context.Context, d *Done) error {
	var failed error
	for r, err := range a.Store.All(ctx, kindAlert) {
		if err != nil {
			return errors.Join(failed, coded(err))
		}
		tenant := gatehouse.TenantID(r.Tenant)
		for range maxSignals {
			told, err := a.tell(ctx, tenant, r.ID)
			if err != nil {
				failed = errors.Join(failed, fmt.Errorf("alert %s/%s: %w", tenant, r.ID, err))
			}
			if err != nil || !told {
				break
			}
			d.Alerts++
		}
	}
	return failed
}

// maxSignals bounds the events of one alert in one round: as many thresholds
// can be resolved and told.
const maxSignals = 41

// tell makes the next event that an alert is due, each an event of its own.
func (a *Accounts) tell(ctx context.Context, tenant gatehouse.TenantID, id string) (bool, error) {
	var now Alert
	now, meta, err := get[Alert](ctx, a, alertRef(tenant, id))
	if err != nil {
		return false, err
	}
	next, kind, err := a.judge(ctx, tenant, now)
	if err != nil || kind == "" {
		return false, err
	}
	m := control.Mutation{Actor: Actor}
	_, _, err = commit[Alert](ctx, a, m, event{kind, tenant, kindAlert}, func(c *change) error {
		var still Alert
		if err := c.must(ctx, alertRef(tenant, id), &still); err != nil {
			return err
		}
		if c.expect[alertRef(tenant, id)] != int64(meta.Revision) {
			return errNothing // somebody else has told, or changed it
		}
		next.Meta = control.Meta{}
		c.put(alertRef(tenant, id), next)
		return nil
	})
	if errors.Is(err, errNothing) {
		return false, nil
	}
	return err == nil, err
}

// kindRewound is the event of an alert that was set back without a word.
const kindRewound = "alert.rewind"

// judge returns the alert as it would be after its next event, and the kind of
// that; empty where there is nothing to tell.
func (a *Accounts) judge(ctx context.Context, tenant gatehouse.TenantID, d Alert) (Alert, string, error) {
	s, limit, value, period, err := a.measure(ctx, tenant, &d)
	if err != nil {
		return d, "", err
	}
	if period.Empty() {
		return d, "", nil
	}
	signal := Signal{Alert: d.ID, Tenant: tenant, Subscription: s, Watch: d.Watch, Meter: d.Meter, Currency: d.Currency, Value: value, Period: period, At: a.now()}
	reached := func(t threshold) bool {
		if d.Watch == WatchWallet {
			return value.Cmp(t.limit) <= 0
		}
		return value.Cmp(t.limit) >= 0
	}
	all := d.thresholds(limit)
	if !d.Period.Equal(period.Start) && !d.Resolve {
		d.Period, d.Told = period.Start, nil
	}
	for i, name := range d.Told {
		at := slices.IndexFunc(all, func(t threshold) bool { return t.name == name })
		if gone := at >= 0 && !reached(all[at]); gone && (d.Resolve || d.Watch == WatchWallet) {
			d.Told = slices.Delete(slices.Clone(d.Told), i, i+1)
			signal.Threshold, signal.Limit = name, all[at].limit
			d.Last = &signal
			if d.Resolve {
				return d, KindResolved, nil
			}
			return d, kindRewound, nil
		}
	}
	d.Period = period.Start
	for _, t := range all {
		if reached(t) && !slices.Contains(d.Told, t.name) {
			d.Told = append(slices.Clone(d.Told), t.name)
			signal.Threshold, signal.Limit = t.name, t.limit
			d.Last = &signal
			return d, KindTriggered, nil
		}
	}
	return d, "", nil
}

type threshold struct {
	name  string
	limit billing.Decimal
}

// thresholds are those of an alert, percentages of limit first.
func (d *Alert) thresholds(limit *billing.Decimal) []threshold {
	var out []threshold
	percents := d.Percents
	if len(percents) == 0 && len(d.Thresholds) == 0 {
		percents = defaultPercents
	}
	if limit != nil {
		for _, p := range percents {
			out = append(out, threshold{strconv.Itoa(p) + "%", limit.Mul(billing.Fraction(int64(p), 100))})
		}
	}
	for _, t := range d.Thresholds {
		out = append(out, threshold{t.String(), t})
	}
	return out
}

// measure returns the subscription, what percentages are of, the value that is
// watched, and the period that it is of.
func (a *Accounts) measure(ctx context.Context, tenant gatehouse.TenantID, d *Alert) (id string, limit *billing.Decimal, value billing.Decimal, p billing.Period, err error) {
	if id = d.Subscription; id == "" {
		id = DefaultSubscription
	}
	limit = d.Of
	s, err := a.Subscription(ctx, tenant, id)
	if err != nil {
		return id, nil, value, p, err
	}
	book, err := a.book(ctx, &s.Subscription)
	if err != nil {
		return id, nil, value, p, err
	}
	first := book[s.Plan]
	now := a.now()
	index := s.Index(first.Cadence, now)
	if index < 0 || s.State == billing.Ended {
		return id, nil, value, p, nil
	}
	p = s.Span(first.Cadence, index)
	switch d.Watch {
	case WatchUsage:
		meter := d.Meter
		if d.Feature != "" {
			e := entitlement(book[s.At(now).Plan], d.Feature)
			if e == nil || e.Meter == "" {
				return id, nil, value, billing.Period{}, nil // the plan of now has no such limit
			}
			if meter = e.Meter; limit == nil {
				limit = e.Limit
			}
			p = e.WindowAt(now, anchorOf(&s.Subscription), s.Location(), first.Cadence)
		}
		d.Meter = meter
		value, err = a.usedIn(ctx, &s.Subscription, book, meter, p)
	case WatchMoney:
		var inv Invoice
		inv, err = a.Preview(ctx, tenant, Ask{Subscription: id, Period: &index})
		d.Currency = first.Currency
		value = inv.Subtotal
	case WatchWallet:
		var w billing.Wallet
		w, _, err = get[billing.Wallet](ctx, a, walletRef(tenant, string(d.Currency)))
		if gatehouse.CodeOf(err) == gatehouse.CodeNotFound {
			err = nil
		}
		for _, part := range w.Usable(now) {
			value = value.Add(part.Amount)
		}
	}
	return id, limit, value, p, err
}
