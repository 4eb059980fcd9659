package invoicing_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/invoicing"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

// watching counts the invoices that are read, and tells of what is committed.
type watching struct {
	*journal.Journal
	read      int
	committed func(kind string)
}

func (w *watching) Get(ctx context.Context, ref journal.Ref) (journal.Resource, error) {
	if ref.Kind == "invoice" {
		w.read++
	}
	return w.Journal.Get(ctx, ref)
}

func (w *watching) List(ctx context.Context, q journal.Query) (journal.Page, error) {
	page, err := w.Journal.List(ctx, q)
	if q.Kind == "invoice" {
		w.read += len(page.Items)
	}
	return page, err
}

func (w *watching) Commit(ctx context.Context, c journal.Change) (journal.Event, error) {
	e, err := w.Journal.Commit(ctx, c)
	if err == nil && w.committed != nil {
		w.committed(c.Kind)
	}
	return e, err
}

// TestReminders holds that unpaid invoices are marked when they are due and not
// again, that those are marked no more that are paid, void or given up, and
// that no invoice is read that is not due.
func TestReminders(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.price(premium)
		for i := range 6 {
			h.subscribe(fmt.Sprint("t", i), "premium")
		}
		h.round()
		h.set("2026-01-02")
		h.subscribe("later", "premium")
		h.round()
		mark := func(tenant string, number int, m invoicing.Mark) {
			t.Helper()
			if _, err := h.Mark(ctx, gatehouse.TenantID(tenant), billing.Number("GH", 2026, number), m, as); err != nil {
				t.Fatal(err)
			}
		}
		mark("t0", 1, invoicing.Mark{Status: billing.Paid, Ref: "all"})
		mark("t1", 2, invoicing.Mark{Status: billing.Void})
		mark("t2", 3, invoicing.Mark{Status: billing.Uncollectible})
		part, rest := dec("10"), dec("20")
		mark("t3", 4, invoicing.Mark{Status: billing.Paid, Ref: "a", Amount: &part})
		mark("t3", 4, invoicing.Mark{Status: billing.Paid, Ref: "b", Amount: &rest})
		w := &watching{Journal: h.journal}
		a := h.accounts(w)
		see := func(day string, marked, read int) {
			t.Helper()
			h.set(day)
			w.read = 0
			done, err := a.Round(ctx)
			if err != nil || done.Overdue != marked || w.read != read {
				t.Errorf("%s: %d marked and %d read, want %d and %d (%v)", day, done.Overdue, w.read, marked, read, err)
			}
		}
		see("2026-01-14", 0, 0)
		see("2026-01-15", 2, 2) // t4 and t5
		see("2026-01-15", 0, 0)
		see("2026-01-16", 1, 1) // later
		mark("t4", 5, invoicing.Mark{Status: billing.Paid, Ref: "late"})
		see("2026-01-22", 1, 1)
		see("2026-01-30", 2, 2) // t5 and later, both of 14 days
		inv, err := h.Invoice(ctx, "t5", billing.Number("GH", 2026, 6))
		if err != nil || fmt.Sprint(len(inv.Overdue), inv.Overdue[1].Days, inv.Overdue[2].Days) != "3 7 14" {
			t.Errorf("%v, %v", inv.Overdue, err)
		}
		see("2026-01-31", 0, 0)
	})
}

// TestRemindersOfEarlierVersions holds that Run schedules the reminders of
// invoices that were issued without.
func TestRemindersOfEarlierVersions(t *testing.T) {
	mostly(t, func(t *testing.T, h *house) {
		for i, status := range []billing.Status{billing.Finalized, billing.Paid} {
			number := billing.Number("GH", 2026, i+1)
			h.store(journal.Ref{Kind: "invoice", Tenant: "acme", ID: number}, invoicing.Invoice{Invoice: billing.Invoice{
				Number: number, Tenant: "acme", Subscription: "main", Status: status, Currency: "EUR", PayBy: at("2025-12-20"),
			}})
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		marked := 0
		w := &watching{Journal: h.journal, committed: func(kind string) {
			if kind == invoicing.KindOverdue {
				marked++
				cancel()
			}
		}}
		if err := h.accounts(w).Run(ctx); err != nil {
			t.Fatal(err)
		}
		inv, err := h.Invoice(t.Context(), "acme", billing.Number("GH", 2026, 1))
		if err != nil || marked != 1 || len(inv.Overdue) != 1 || inv.Overdue[0].Days != 7 {
			t.Errorf("%d marked: %v, %v", marked, inv.Overdue, err)
		}
	})
}
