package invoicing

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
	"github.com/gatehouse-gateway/gatehouse/metering/billing/render"
)

// Invoice is one that is issued, or a draft.
type Invoice struct {
	billing.Invoice
	control.Meta
	// Parties are as they were when it was issued.
	Parties render.Parties `json:"parties"`
	// Payments are those of a part of what is due, oldest first.
	Payments []Payment `json:"payments,omitempty"`
	// Overdue are reminders that were due.
	Overdue []Overdue `json:"overdue,omitempty"`
	// Faults say why a draft cannot be made; it has no lines then.
	Faults gatehouse.Faults `json:"faults,omitempty"`
}

// Overdue says that an invoice was not paid so many days after PayBy.
type Overdue struct {
	// Days since PayBy; At is when that was noted.
	Days int       `json:"days"`
	At   time.Time `json:"at"`
}

// Ask names an invoice that is to be: what it charges of which period.
type Ask struct {
	// Subscription is DefaultSubscription if empty.
	Subscription string `json:"subscription,omitempty"`
	// Kind is closing if empty. A correction charges what came late after the
	// last period of a subscription that has ended.
	Kind billing.Kind `json:"kind,omitempty"`
	// Period is its index, as in Subscription.Next. Absent: the next one.
	Period *int `json:"period,omitempty"`
	// Early finalizes a period that has ended before its usage is complete.
	Early bool `json:"early,omitempty"`
}

// basis is what a draft is made from.
type basis struct {
	s      Subscription
	book   billing.Book
	kind   billing.Kind
	index  int
	run    billing.Run
	wallet billing.Wallet
	// entries is how many the wallet had before what has expired was booked.
	entries int
	funds   Balance
	ended   bool // by its time
	due     bool // by the seals of gateways too
	// note is the last note of late usage when the cells were read.
	note  int64
	draft billing.Invoice
}

// basis reads what an invoice depends on and drafts it. The last one is used
// again where nothing that it was made from has changed.
func (c *change) basis(ctx context.Context, tenant gatehouse.TenantID, ask Ask, last *basis, at map[journal.Ref]int64) (*basis, error) {
	b := &basis{kind: ask.Kind}
	if ask.Subscription == "" {
		ask.Subscription = DefaultSubscription
	}
	if b.kind == "" {
		b.kind = billing.Closing
	}
	if b.kind != billing.Closing && b.kind != billing.Opening && b.kind != billing.Correction {
		return nil, fault("/kind", "is not opening, closing or correction", "")
	}
	if err := c.must(ctx, subscriptionRef(tenant, ask.Subscription), &b.s); err != nil {
		return nil, err
	}
	b.index = b.s.Next
	if ask.Period != nil {
		b.index = *ask.Period
	}
	switch b.kind {
	case billing.Opening:
		b.index = 0
	case billing.Correction:
		if !b.s.Done {
			return nil, conflict("what comes late is charged by the next invoice of the subscription")
		}
		b.index = max(0, b.s.Next-1)
	}
	var err error
	if b.book, err = c.book(ctx, &b.s.Subscription, false); err != nil {
		return nil, err
	}
	first := b.book[b.s.Plan]
	if first == nil {
		return nil, notFound(kindVersion, b.s.Plan.String())
	}
	if err := c.money(ctx, tenant, first.Currency, b); err != nil {
		return nil, err
	}
	if last != nil && last.kind == b.kind && last.index == b.index && same(last, at, c.expect, tenant) {
		b.run, b.ended, b.due, b.draft, b.note = last.run, last.ended, last.due, last.draft, last.note
		b.wallet, b.entries, b.funds = last.wallet, last.entries, last.funds
		return b, nil
	}
	if b.index < 0 || b.index > maxPeriods {
		return nil, fault("/period", "is not an index of a period", "")
	}
	span := b.s.Span(first.Cadence, b.index)
	if span.Empty() {
		return nil, conflict("the subscription has no period %d", b.index)
	}
	if b.kind == billing.Correction {
		span = billing.Period{Start: b.s.Start, End: b.s.Closed}
	}
	if c.firm && b.kind != billing.Opening {
		if err := c.a.Usage.Watch(ctx, map[gatehouse.TenantID]time.Time{tenant: span.End}); err != nil {
			return nil, err
		}
	}
	return b, c.a.draft(ctx, b, first, span)
}

// maxPeriods bounds the index of a period.
const maxPeriods = 1_000_000

// same reports whether the resources that a draft is made from are at the
// revisions that they were at.
func same(last *basis, then, now map[journal.Ref]int64, tenant gatehouse.TenantID) bool {
	currency := string(last.draft.Currency)
	for _, ref := range []journal.Ref{subscriptionRef(tenant, last.s.ID), walletRef(tenant, currency), balanceRef(tenant, currency)} {
		if was, ok := then[ref]; !ok || was != now[ref] {
			return false
		}
	}
	return true
}

// money reads what may be used to pay.
func (c *change) money(ctx context.Context, tenant gatehouse.TenantID, currency billing.Currency, b *basis) error {
	b.wallet.Currency, b.funds.Currency = currency, currency
	if _, err := c.read(ctx, walletRef(tenant, string(currency)), &b.wallet); err != nil {
		return err
	}
	_, err := c.read(ctx, balanceRef(tenant, string(currency)), &b.funds)
	return err
}

// draft reads the usage and computes the invoice.
func (a *Accounts) draft(ctx context.Context, b *basis, first *billing.Plan, span billing.Period) error {
	earlier, err := a.earlier(ctx, b.s.Tenant, b.s.ID)
	if err != nil {
		return err
	}
	gateways, err := a.Usage.Gateways(ctx)
	if err != nil {
		return fmt.Errorf("read the gateways of the ledger: %w", err)
	}
	due := span.End
	if b.kind == billing.Opening {
		due = span.Start
	}
	mark, sealed := watermark(gateways, span.End)
	now := a.now()
	b.run = billing.Run{Book: b.book, Subscription: &b.s.Subscription, Index: b.index, Kind: b.kind, Earlier: earlier, CreditNotes: b.funds.Items, Wallet: &b.wallet, At: span.Start}
	if a.Taxes != nil {
		b.run.Taxes = a.taxes(b)
	}
	b.ended = !now.Before(due)
	b.due = b.ended
	if b.kind != billing.Opening {
		b.due = b.ended && (sealed || !now.Before(due.Add(a.Grace)))
		if err := a.read(ctx, b, first, span); err != nil {
			return err
		}
		b.run.Watermark, b.run.At = mark, span.End
	}
	if b.run.At.Before(now) { // credit that can be used when it is issued
		b.run.At = now
	}
	b.entries = len(b.wallet.Entries)
	b.wallet.Expire(span.Start, b.s.Location())
	b.draft, err = billing.Draft(b.run)
	return unbillable(err)
}

// unbillable says of faults that billing found in what is stored, such as usage
// that comes to more than 10^15, that they are not those of the request.
func unbillable(err error) error {
	faults, ok := errors.AsType[gatehouse.Faults](err)
	if !ok {
		return err
	}
	return &gatehouse.Error{
		Code: gatehouse.CodeInvalid, Message: "the invoice cannot be made: " + faults[0].Reason +
			"; take usage back by an adjustment, or change the plan from a time before", Err: &control.Invalid{Faults: faults},
	}
}

// minute is the first whole one not before t: cells count by minutes.
func minute(t time.Time) time.Time {
	if m := t.Truncate(time.Minute); m.Equal(t) {
		return t
	}
	return t.Truncate(time.Minute).Add(time.Minute)
}

// taxes asks the hook, and the plan where it has no answer.
func (a *Accounts) taxes(b *basis) func(billing.Line) []billing.Tax {
	return func(l billing.Line) []billing.Tax {
		if taxes := a.Taxes(b.s.Tenant, l); taxes != nil {
			return taxes
		}
		plan := b.book[l.Plan]
		if plan == nil {
			plan = b.book[b.s.Plan]
		}
		return plan.Taxes
	}
}

// earlier are the invoices of a subscription, in the order of their issue.
func (a *Accounts) earlier(ctx context.Context, tenant gatehouse.TenantID, subscription string) ([]billing.Invoice, error) {
	all, err := list[Invoice](ctx, a, kindInvoice, tenant, journal.Field{Name: "subscription", Value: subscription})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(all, func(x, y Invoice) int { return x.Issued.Compare(y.Issued) })
	out := make([]billing.Invoice, len(all))
	for i := range all {
		out[i] = all[i].Invoice
	}
	return out, nil
}

// Preview returns the invoice of a period as it would be by now: what Finalize
// makes, without a number.
func (a *Accounts) Preview(ctx context.Context, tenant gatehouse.TenantID, ask Ask) (Invoice, error) {
	c := &change{a: a, expect: map[journal.Ref]int64{}}
	b, err := c.basis(ctx, tenant, ask, nil, nil)
	if err != nil {
		return Invoice{}, err
	}
	_, parties, err := c.parties(ctx, tenant)
	return Invoice{Invoice: b.draft, Parties: parties}, err
}

// Drafts returns the invoices of a tenant that are not issued yet: those of
// periods that have ended, and of the one that runs. One that cannot be made is
// among them, and says why: it does not hide the others.
func (a *Accounts) Drafts(ctx context.Context, tenant gatehouse.TenantID) ([]Invoice, error) {
	subs, err := a.Subscriptions(ctx, tenant)
	if err != nil {
		return nil, err
	}
	out := []Invoice{}
	for i := range subs {
		for _, ask := range a.pending(&subs[i]) {
			inv, err := a.Preview(ctx, tenant, ask)
			if gatehouse.CodeOf(err) == gatehouse.CodeConflict { // there is no such period any more
				continue
			}
			if bad, ok := errors.AsType[*control.Invalid](err); ok {
				inv, err = a.faulty(ctx, &subs[i], ask, bad.Faults)
			}
			if err != nil {
				return nil, err
			}
			out = append(out, inv)
		}
	}
	return out, nil
}

// faulty is a draft that cannot be made: of which period, and why.
func (a *Accounts) faulty(ctx context.Context, s *Subscription, ask Ask, faults gatehouse.Faults) (Invoice, error) {
	v, err := a.Version(ctx, s.Plan)
	if err != nil {
		return Invoice{}, err
	}
	inv := Invoice{Invoice: billing.Invoice{
		Type: billing.TypeInvoice, Kind: cmp.Or(ask.Kind, billing.Closing), Status: billing.Drafted, Tenant: s.Tenant, Subscription: s.ID, Currency: v.Currency, TimeZone: s.TimeZone,
	}, Faults: faults}
	index := 0 // of the opening
	if ask.Period != nil {
		index = *ask.Period
	}
	inv.Period, inv.Lines = s.Span(v.Cadence, index), []billing.Line{}
	return inv, nil
}

// pending are the invoices that a subscription lacks: the next one to close,
// the one that opens it, and those that are billed anew.
func (a *Accounts) pending(s *Subscription) []Ask {
	var out []Ask
	if !s.Opened {
		out = append(out, Ask{Subscription: s.ID, Kind: billing.Opening})
	}
	for _, index := range s.Again {
		out = append(out, Ask{Subscription: s.ID, Period: &index})
	}
	if !s.Done {
		next := s.Next
		out = append(out, Ask{Subscription: s.ID, Period: &next})
	}
	return out
}
