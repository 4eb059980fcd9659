package invoicing

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

// reminders are the days after PayBy at which an unpaid invoice is marked.
var reminders = []int{0, 7, 14, 30}

// reminder names an invoice that is to be marked. Its id begins with the time
// at which it is due, so that those which are due are the first of all.
type reminder struct {
	Tenant  gatehouse.TenantID `json:"tenant"`
	Invoice string             `json:"invoice"`
}

// reminderRef is the next reminder of an invoice; false for one that has none
// to come.
func reminderRef(tenant gatehouse.TenantID, number string, u unpaid) (journal.Ref, bool) {
	if u.Status != billing.Finalized {
		return journal.Ref{}, false
	}
	for _, days := range reminders {
		if !slices.ContainsFunc(u.Overdue, func(o Overdue) bool { return o.Days >= days }) {
			at := u.PayBy.AddDate(0, 0, days).UTC().Format(time.RFC3339)
			return journal.Ref{Kind: kindReminder, ID: at + "/" + string(tenant) + "/" + number}, true
		}
	}
	return journal.Ref{}, false
}

func (inv *Invoice) unpaid() unpaid { return unpaid{inv.Status, inv.PayBy, inv.Overdue} }

// schedule puts the reminder of an invoice in place of the one that it had
// before.
func (c *change) schedule(ctx context.Context, before unpaid, inv *Invoice) error {
	was, had := reminderRef(inv.Tenant, inv.Number, before)
	is, has := reminderRef(inv.Tenant, inv.Number, inv.unpaid())
	if had && was != is {
		found, err := c.read(ctx, was, &reminder{})
		if err != nil {
			return err
		}
		if found {
			c.remove(was)
		}
	}
	if has && was != is {
		c.put(is, reminder{inv.Tenant, inv.Number})
	}
	return nil
}

// remind marks invoices that should have been paid. It reads no others.
func (a *Accounts) remind(ctx context.Context, d *Done) error {
	platform := ""
	q := journal.Query{Kind: kindReminder, Tenant: &platform}
	var failed error
	for {
		page, err := a.Store.List(ctx, q)
		if err != nil {
			return errors.Join(failed, coded(err))
		}
		for i := range page.Items {
			text, _, _ := strings.Cut(page.Items[i].ID, "/")
			var r reminder
			due, err := time.Parse(time.RFC3339, text)
			if err = errors.Join(err, decode(&page.Items[i], &r)); err != nil {
				failed = errors.Join(failed, fmt.Errorf("reminder %s: %w", page.Items[i].ID, err))
				continue
			}
			if a.now().Before(due) {
				return failed
			}
			if err := a.overdue(ctx, r, page.Items[i].Ref, d); err != nil {
				failed = errors.Join(failed, fmt.Errorf("remind of %s: %w", r.Invoice, err))
			}
		}
		if q.After = page.Next; page.Next == "" {
			return failed
		}
	}
}

// unpaid is what a reminder depends on: the rest of an invoice is long.
type unpaid struct {
	Status  billing.Status `json:"status"`
	PayBy   time.Time      `json:"pay_by"`
	Overdue []Overdue      `json:"overdue"`
}

// due returns the last reminder that has come and is not marked.
func (u unpaid) due(now time.Time) *int {
	for _, days := range slices.Backward(reminders) {
		marked := slices.ContainsFunc(u.Overdue, func(o Overdue) bool { return o.Days >= days })
		if marked {
			return nil
		}
		if u.Status == billing.Finalized && !now.Before(u.PayBy.AddDate(0, 0, days)) {
			return &days
		}
	}
	return nil
}

// overdue marks the invoice of a reminder. One that is not due any more, as
// where a control plane of an earlier version has marked it, goes.
func (a *Accounts) overdue(ctx context.Context, r reminder, ref journal.Ref, d *Done) error {
	_, _, err := commit[Invoice](ctx, a, control.Mutation{Actor: Actor}, event{KindOverdue, r.Tenant, kindInvoice}, func(c *change) error {
		var inv Invoice
		if err := c.must(ctx, invoiceRef(r.Tenant, r.Invoice), &inv); err != nil {
			return err
		}
		before := inv.unpaid()
		days := before.due(a.now())
		if days == nil {
			return errNothing
		}
		inv.Overdue = append(inv.Overdue, Overdue{*days, a.now()})
		c.put(invoiceRef(r.Tenant, r.Invoice), inv)
		return c.schedule(ctx, before, &inv)
	})
	if errors.Is(err, errNothing) {
		_, err = a.Store.Commit(ctx, journal.Change{Actor: Actor, Kind: "reminder.drop", Subject: r.Invoice, Deletes: []journal.Ref{ref}})
		if errors.Is(err, journal.ErrNotFound) {
			return nil // another control plane was faster
		}
		return coded(err)
	}
	if err == nil {
		d.Overdue++
	}
	return err
}

// adopt schedules the reminders of unpaid invoices that have none: those of
// control planes of earlier versions. It reads every unpaid invoice.
func (a *Accounts) adopt(ctx context.Context) error {
	q := journal.Query{Kind: kindInvoice, Where: []journal.Field{{Name: "status", Value: string(billing.Finalized)}}}
	var failed error
	for {
		page, err := a.Store.List(ctx, q)
		if err != nil {
			return errors.Join(failed, coded(err))
		}
		for i := range page.Items {
			tenant, number := gatehouse.TenantID(page.Items[i].Tenant), page.Items[i].ID
			var open unpaid
			if err := decode(&page.Items[i], &open); err != nil {
				failed = errors.Join(failed, err)
				continue
			}
			ref, has := reminderRef(tenant, number, open)
			if !has {
				continue
			}
			if _, err := a.Store.Get(ctx, ref); !errors.Is(err, journal.ErrNotFound) {
				failed = errors.Join(failed, coded(err))
				continue
			}
			c := change{expect: map[journal.Ref]int64{page.Items[i].Ref: int64(page.Items[i].Revision), ref: journal.Absent}}
			c.put(ref, reminder{tenant, number})
			_, err := a.Store.Commit(ctx, journal.Change{Actor: Actor, Kind: "reminder.set", Subject: number, Expect: c.expect, Puts: c.puts})
			if err != nil && !moved(err) { // what has moved has its reminder by that
				failed = errors.Join(failed, coded(err))
			}
		}
		if q.After = page.Next; page.Next == "" {
			return failed
		}
	}
}
