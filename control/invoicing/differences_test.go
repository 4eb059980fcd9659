package invoicing_test

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/invoicing"
	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
	"github.com/gatehouse-gateway/gatehouse/metering/ledger"
)

// TestTrace holds that the invoices of all tenants are traced page by page,
// that a changed cell is told with its invoice and what it comes to, and that
// a filter leaves out what is not of its tenant or span.
func TestTrace(t *testing.T) {
	mostly(t, func(t *testing.T, h *house) {
		h.price(premium)
		for _, tenant := range []string{"acme", "beta", "poor"} {
			h.subscribe(tenant, "premium")
			h.use(tenant, "2026-01-10", "requests", 100)
			h.use(tenant, "2026-02-10", "requests", 200)
		}
		h.close("2026-02-01")
		h.close("2026-03-01")
		altered := invoicing.New(invoicing.Parts{Store: h.journal, Now: h.clock, Usage: altered{h.ledger, func(c *metering.Cell) {
			if c.Series.Tenant == "beta" && c.Window.Equal(at("2026-02-10")) {
				c.Value -= 50
			}
		}}})
		see := func(a *invoicing.Accounts, f invoicing.TraceFilter, want string) {
			t.Helper()
			out, pages := "", 0
			subscriptions, lines := 0, 0
			for {
				got, err := a.Trace(t.Context(), f)
				if err != nil {
					t.Fatal(err)
				}
				pages, subscriptions, lines = pages+1, subscriptions+got.Subscriptions, lines+got.Lines
				for _, d := range got.Items {
					out += fmt.Sprintf("%s/%s %s of %s %s..%s %s = %s %s; ", d.Tenant, d.Subscription, d.Price, d.Invoice, d.Period.Start.Format("0102"), d.Period.End.Format("0102"), d.Quantity, d.Amount, d.Currency)
				}
				if f.After = got.Next; f.After == "" {
					break
				}
			}
			if got := strings.TrimSpace(fmt.Sprintf("%d of %d in %d: %s", lines, subscriptions, pages, out)); got != want {
				t.Errorf("%+v:\n%s, want\n%s", f, got, want)
			}
		}
		see(h.Accounts, invoicing.TraceFilter{}, "6 of 3 in 1:")
		see(h.Accounts, invoicing.TraceFilter{Limit: 1}, "6 of 3 in 3:")
		see(h.Accounts, invoicing.TraceFilter{Tenant: "acme"}, "2 of 1 in 1:")
		see(h.Accounts, invoicing.TraceFilter{From: at("2026-02-01")}, "3 of 3 in 1:")
		number := h.numberOf("beta", "2026-02-01")
		differs := "beta/main calls of " + number + " 0201..0301 -50 = -0.5 EUR;"
		see(altered, invoicing.TraceFilter{}, "6 of 3 in 1: "+differs)
		see(altered, invoicing.TraceFilter{Limit: 2}, "6 of 3 in 2: "+differs)
		see(altered, invoicing.TraceFilter{Tenant: "beta"}, "2 of 1 in 1: "+differs)
		see(altered, invoicing.TraceFilter{Tenant: "acme"}, "2 of 1 in 1:")
		see(altered, invoicing.TraceFilter{From: at("2026-02-28"), To: at("2026-03-29")}, "3 of 3 in 1: "+differs)
		see(altered, invoicing.TraceFilter{To: at("2026-02-01")}, "3 of 3 in 1:")
		if _, err := h.Trace(t.Context(), invoicing.TraceFilter{Tenant: "none"}); gatehouse.CodeOf(err) != gatehouse.CodeNotFound {
			t.Errorf("a tenant without subscriptions: %v", err)
		}
		if _, err := h.Trace(t.Context(), invoicing.TraceFilter{After: "x"}); gatehouse.CodeOf(err) != gatehouse.CodeBadRequest {
			t.Errorf("a cursor of another list: %v", err)
		}
	})
}

// telling is a ledger that tells what is read of it.
type telling struct {
	*ledger.Ledger
	read func(from, to time.Time)
}

func (r telling) TenantCells(ctx context.Context, tenant gatehouse.TenantID, from, to time.Time) iter.Seq2[metering.Cell, error] {
	r.read(from, to)
	return r.Ledger.TenantCells(ctx, tenant, from, to)
}

// TestTraceReads holds that of a subscription only the usage of the span is
// read, from the period in which it begins, with two periods behind it; period by
// period, and each once.
func TestTraceReads(t *testing.T) {
	mostly(t, func(t *testing.T, h *house) {
		h.price(premium)
		h.subscribe("acme", "premium")
		for month := 1; month <= 6; month++ {
			h.use("acme", fmt.Sprintf("2026-%02d-10", month), "requests", 100)
			h.close(fmt.Sprintf("2026-%02d-01", month+1))
			h.use("acme", fmt.Sprintf("2026-%02d-11", month), "requests", 1) // late
		}
		var read []string
		a := invoicing.New(invoicing.Parts{Store: h.journal, Now: h.clock, Usage: telling{h.ledger, func(from, to time.Time) {
			read = append(read, from.Format("0102")+"-"+to.Format("0102"))
		}}})
		see := func(from, to, want, differs string) {
			t.Helper()
			f := invoicing.TraceFilter{}
			if from != "" {
				f.From = at(from)
			}
			if to != "" {
				f.To = at(to)
			}
			read = nil
			got, err := a.Trace(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			months := ""
			for _, d := range got.Items {
				months += d.Period.Start.Format("0102") + " "
			}
			if all := strings.Join(read, " "); all != want || strings.TrimSpace(months) != differs {
				t.Errorf("%s to %s\nread %s, want %s\ndiffer %s, want %s", from, to, all, want, months, differs)
			}
		}
		// What came late in June is not billed yet.
		see("", "", "0101-0201 0201-0301 0301-0401 0401-0501 0501-0601 0601-0701", "0601")
		see("2026-03-15", "2026-03-20", "0301-0401 0401-0501 0501-0601", "")
		see("2026-06-30", "", "0601-0701", "0601")
		see("2026-05-01", "2026-06-01", "0501-0601 0601-0701", "")
		see("", "2026-01-02", "0101-0201 0201-0301 0301-0401", "")
		see("2026-07-01", "", "", "")
		see("2020-01-01", "2021-01-01", "", "")
	})
}

// TestTraceFailure holds that a subscription which cannot be traced is told with
// its faults, and hides neither its own other periods nor those after it.
func TestTraceFailure(t *testing.T) {
	mostly(t, func(t *testing.T, h *house) {
		h.price(dear)
		h.price(premium)
		h.subscribe("acme", "dear")
		h.subscribe("zeta", "premium")
		for _, tenant := range []string{"acme", "zeta"} {
			h.use(tenant, "2026-01-10", "requests", 900)
			h.use(tenant, "2026-02-10", "requests", 900)
		}
		h.close("2026-02-01")
		h.close("2026-03-01")
		h.use("acme", "2026-01-11", "requests", 101)
		h.use("acme", "2026-02-11", "requests", 1)
		h.use("zeta", "2026-01-11", "requests", 1)
		got, err := h.Trace(t.Context(), invoicing.TraceFilter{})
		if err != nil {
			t.Fatal(err)
		}
		out := ""
		for _, d := range got.Items {
			out += fmt.Sprintf("%s/%s %s %s", d.Tenant, d.Subscription, d.Price, d.Quantity)
			for _, f := range d.Faults {
				out += " " + f.Pointer + " " + f.Reason
			}
			out += "; "
		}
		const want = "acme/main calls 1; acme/main  0 /plans/dear~11/prices/calls usage of 1001 comes to 1001000000000000, more than 10^15; zeta/main calls 1; "
		if out != want || got.Subscriptions != 2 {
			t.Errorf("got %s of %d, want %s", out, got.Subscriptions, want)
		}
	})
}

// TestTraceWhileClosing holds that a period that is closed while it is traced is
// not taken for lost: the trace begins anew.
func TestTraceWhileClosing(t *testing.T) {
	mostly(t, func(t *testing.T, h *house) {
		h.price(premium)
		h.subscribe("acme", "premium")
		h.use("acme", "2026-01-10", "requests", 100)
		h.use("acme", "2026-02-10", "requests", 200)
		h.close("2026-02-01")
		times := 0
		a := invoicing.New(invoicing.Parts{Store: h.journal, Now: h.clock, Usage: telling{h.ledger, func(_, _ time.Time) {
			if times++; times == 1 { // the invoices are read, and the cells are not
				h.use("acme", "2026-01-11", "requests", 50)
				h.close("2026-03-01") // which bills them
			}
		}}})
		got, err := a.Trace(t.Context(), invoicing.TraceFilter{})
		if err != nil || len(got.Items) != 0 || got.Lines != 3 || times != 3 {
			t.Errorf("%+v after %d times, %v", got, times, err)
		}
	})
}

// TestTracePages holds that a page ends early when it has taken its time, and
// has one subscription at least.
func TestTracePages(t *testing.T) {
	mostly(t, func(t *testing.T, h *house) {
		h.price(premium)
		for _, tenant := range []string{"acme", "beta", "poor"} {
			h.subscribe(tenant, "premium")
		}
		h.close("2026-02-01")
		for took, want := range map[time.Duration]string{9 * time.Second: "[3]", 10 * time.Second: "[2 1]", 20 * time.Second: "[1 1 1]", time.Hour: "[1 1 1]"} {
			now := h.clock()
			a := invoicing.New(invoicing.Parts{Store: h.journal, Now: func() time.Time { return now }, Usage: telling{h.ledger, func(_, _ time.Time) { now = now.Add(took) }}})
			var pages []int
			for f := (invoicing.TraceFilter{}); ; {
				got, err := a.Trace(t.Context(), f)
				if err != nil {
					t.Fatal(err)
				}
				pages = append(pages, got.Subscriptions)
				if f.After = got.Next; f.After == "" {
					break
				}
			}
			if got := fmt.Sprint(pages); got != want {
				t.Errorf("%s each: %s, want %s", took, got, want)
			}
		}
	})
}

// TestTraceMinimum holds that what a minimum makes of a difference is told as
// such, with no price and no quantity, and that discounts are taken off.
func TestTraceMinimum(t *testing.T) {
	mostly(t, func(t *testing.T, h *house) {
		h.price(strings.Replace(free, `amount: "0"`, `amount: "1"`, 1) + "minimum: \"20\"\n")
		discounts := []billing.Discount{{ID: "half", Percent: dec("50")}}
		if _, err := h.Subscribe(t.Context(), "acme", invoicing.NewSubscription{Plan: "free", Discounts: discounts}, as); err != nil {
			t.Fatal(err)
		}
		h.use("acme", "2026-01-10", "requests", 10)
		h.close("2026-02-01")
		h.use("acme", "2026-01-11", "requests", 4)
		got, err := h.Trace(t.Context(), invoicing.TraceFilter{})
		if err != nil {
			t.Fatal(err)
		}
		out := ""
		for _, d := range got.Items {
			out += fmt.Sprintf("%s %q %s = %s; ", d.Kind, d.Price, d.Quantity, d.Amount)
		}
		if want := `adjustment "calls" 4 = 2; minimum "" 0 = -2; `; out != want {
			t.Errorf("got %s, want %s", out, want)
		}
	})
}

// numberOf is the number of a tenant's invoice of the period that begins on a
// day.
func (h *house) numberOf(tenant, day string) string {
	h.t.Helper()
	page, err := h.Invoices(h.t.Context(), invoicing.InvoiceFilter{Tenant: gatehouse.TenantID(tenant)})
	if err != nil {
		h.t.Fatal(err)
	}
	for _, inv := range page.Items {
		if inv.Kind == "closing" && inv.Period.Start.Equal(at(day)) {
			return inv.Number
		}
	}
	h.t.Fatalf("no invoice of %s", day)
	return ""
}
