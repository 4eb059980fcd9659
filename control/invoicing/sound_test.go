package invoicing_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse/control/invoicing"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

// sound holds what is true of any books: no gap in the numbers, a whole chain,
// one invoice a period, entries that balance and agree with invoices, wallets
// and balances, and a journal that verifies.
func sound(t testing.TB, h *house) {
	t.Helper()
	ctx := t.Context()
	if _, err := h.VerifyInvoices(ctx, "GH"); err != nil {
		t.Error(err)
	}
	if r, err := h.journal.VerifyState(ctx); err != nil || r.Fault != nil {
		t.Error(r, err)
	}
	receivable, prepaid, balance := billing.Decimal{}, billing.Decimal{}, billing.Decimal{}
	keys := map[string]string{}
	for r, err := range h.journal.All(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		switch r.Kind {
		case "invoice":
			inv := read[invoicing.Invoice](t, r)
			if inv.Status == billing.Finalized {
				receivable = receivable.Add(inv.Due)
				for _, p := range inv.Payments {
					receivable = receivable.Sub(p.Amount)
				}
			}
			if key := r.Tenant + "/" + inv.Key; inv.Status != billing.Void {
				if other, ok := keys[key]; ok {
					t.Errorf("%s and %s are of one period", other, inv.Number)
				}
				keys[key] = inv.Number
			}
			sum := billing.Decimal{}
			for _, l := range inv.Lines {
				sum = sum.Add(l.Net).Add(l.Tax)
			}
			if sum.Cmp(inv.Total) != 0 {
				t.Errorf("the lines of %s come to %s, not %s", inv.Number, sum, inv.Total)
			}
		case "wallet":
			w := read[billing.Wallet](t, r)
			if err := w.Check(); err != nil {
				t.Error(err)
			}
			for _, g := range w.Grants {
				prepaid = prepaid.Sub(w.Left(g.ID))
			}
		case "credit-balance":
			for _, item := range read[invoicing.Balance](t, r).Items {
				balance = balance.Sub(item.Amount)
			}
		}
	}
	sums := accounts(t, h)
	for account, want := range map[string]billing.Decimal{"receivable": receivable, "prepaid": prepaid, "balance": balance} {
		if sums[account].Cmp(want) != 0 {
			t.Errorf("the account %s is at %s, and the documents come to %s", account, sums[account], want)
		}
	}
}

func read[T any](t testing.TB, r journal.Resource) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(r.Body, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func accounts(t testing.TB, h *house) map[string]billing.Decimal {
	t.Helper()
	sums := map[string]billing.Decimal{}
	for r, err := range h.journal.All(t.Context(), "entry") {
		if err != nil {
			t.Fatal(err)
		}
		total := billing.Decimal{}
		for _, p := range read[invoicing.Entry](t, r).Postings {
			sums[p.Account], total = sums[p.Account].Add(p.Amount), total.Add(p.Amount)
		}
		if !total.IsZero() {
			t.Errorf("%s does not balance", r.ID)
		}
	}
	return sums
}

// books are the accounts, by name.
func books(t testing.TB, h *house) string {
	t.Helper()
	sums := accounts(t, h)
	var out []string
	for name, sum := range sums {
		out = append(out, fmt.Sprintf("%s %s", name, sum))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// messages are those that webhooks tell, a line each.
func messages(t testing.TB, h *house, prefix string) string {
	t.Helper()
	var b strings.Builder
	events, err := h.journal.Events(t.Context(), journal.Filter{Kinds: invoicing.MessageKinds}, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for i := range events {
		m, ok := invoicing.Message(&events[i])
		if !ok {
			t.Errorf("nothing is told of %s", events[i].Kind)
		}
		if !strings.HasPrefix(m.Kind, prefix) {
			continue
		}
		var s invoicing.Signal
		if err := json.Unmarshal(m.Data, &s); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s %s %s of %s\n", m.Kind, s.Alert, s.Threshold, s.Value)
	}
	return b.String()
}
