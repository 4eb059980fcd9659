package invoicing_test

import (
	"errors"
	"flag"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/invoicing"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

var long = flag.Bool("long", false, "everything on PostgreSQL too")

// atOnce calls f from n goroutines, each with accounts of another control
// plane, and returns what each returned.
func atOnce(h *house, n int, f func(i int, a *invoicing.Accounts) error) []error {
	var all sync.WaitGroup
	out := make([]error, n)
	planes := make([]*invoicing.Accounts, n)
	for i := range planes {
		planes[i] = h.accounts(h.openJournal())
	}
	for i := range n {
		all.Go(func() { out[i] = f(i, planes[i]) })
	}
	all.Wait()
	return out
}

// codes counts the codes of errors: "" is success.
func codes(errs []error) string {
	counts := map[gatehouse.Code]int{}
	for _, err := range errs {
		counts[gatehouse.CodeOf(err)]++
	}
	return fmt.Sprint(counts)
}

// TestTwoFinalizations holds that of all who finalize a period one does.
func TestTwoFinalizations(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.price(premium)
		h.subscribe("acme", "premium")
		h.subscribe("other", "premium")
		for i, ask := range []invoicing.Ask{{Kind: billing.Opening}, {Early: true}} {
			h.set([]string{"2026-01-01", "2026-02-01"}[i])
			errs := atOnce(h, 4, func(i int, a *invoicing.Accounts) error {
				_, err := a.Finalize(t.Context(), []gatehouse.TenantID{"acme", "other"}[i%2], ask, as)
				return err
			})
			if got := codes(errs); got != "map[:2 GH-CP-003:2]" {
				t.Errorf("%v: %s", ask, got)
			}
		}
		sound(t, h)
	})
}

// TestTwoPlanes holds that two control planes that close periods at once close
// each once.
func TestTwoPlanes(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.price(premium)
		for i := range 8 {
			h.subscribe(fmt.Sprint("t", i), "premium")
		}
		h.use("t1", "2026-01-10", "requests", 5)
		h.seal("2026-02-01")
		h.set("2026-02-01")
		var done atomic.Int64
		errs := atOnce(h, 2, func(_ int, a *invoicing.Accounts) error {
			d, err := a.Round(t.Context())
			done.Add(int64(d.Finalized))
			return err
		})
		if err := errors.Join(errs...); err != nil {
			t.Error(err)
		}
		if done.Load() != 16 {
			t.Errorf("%d invoices, not 16", done.Load())
		}
		if n, err := h.VerifyInvoices(t.Context(), "GH"); n != 16 || err != nil {
			t.Error(n, err)
		}
		sound(t, h)
	})
}

// TestVoidDuringPayment holds that an invoice becomes one or the other.
func TestVoidDuringPayment(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.price(premium)
		for i := range 4 {
			tenant := gatehouse.TenantID(fmt.Sprint("t", i))
			h.subscribe(string(tenant), "premium")
			inv, err := h.Finalize(t.Context(), tenant, invoicing.Ask{Kind: billing.Opening}, as)
			if err != nil {
				t.Fatal(err)
			}
			errs := atOnce(h, 2, func(i int, a *invoicing.Accounts) error {
				_, err := a.Mark(t.Context(), tenant, inv.Number, invoicing.Mark{Status: []billing.Status{billing.Paid, billing.Void}[i]}, as)
				return err
			})
			if got := codes(errs); got != "map[:1 GH-CP-003:1]" {
				t.Error(got)
			}
			now, err := h.Invoice(t.Context(), tenant, inv.Number)
			if want := billing.Paid; err != nil || (errs[0] == nil) != (now.Status == want) || len(now.Marks) != 2 {
				t.Error(now.Marks, errs, err)
			}
		}
		sound(t, h)
	})
}

// TestPlanEditedInUse holds that an invoice is made by the prices that are
// stored under its plan version, whoever edits them meanwhile.
func TestPlanEditedInUse(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		p := h.price(premium)
		dear := p
		dear.Prices = append([]billing.Price{}, p.Prices...)
		dear.Prices[0].Amount = dec("31")
		errs := atOnce(h, 2, func(i int, a *invoicing.Accounts) error {
			if i == 0 {
				_, err := a.Subscribe(t.Context(), "acme", invoicing.NewSubscription{Plan: "premium"}, as)
				return err
			}
			_, err := a.ReplaceVersion(t.Context(), p.Ref(), dear, as)
			return err
		})
		if errs[0] != nil || errs[1] != nil && gatehouse.CodeOf(errs[1]) != gatehouse.CodeConflict {
			t.Fatal(errs)
		}
		inv, err := h.Finalize(t.Context(), "acme", invoicing.Ask{Kind: billing.Opening}, as)
		if err != nil {
			t.Fatal(err)
		}
		want := "30"
		if errs[1] == nil {
			want = "31"
		}
		v, err := h.Version(t.Context(), p.Ref())
		if err != nil || v.Prices[0].Amount.String() != want || inv.Total.String() != want || !v.Used {
			t.Errorf("the version says %s, the invoice %s, want %s (%v)", v.Prices[0].Amount, inv.Total, want, err)
		}
	})
}

// TestKilled kills a billing run before and after each step that writes, and
// in the long form at each that reads as well, and holds that the next run ends
// where an undisturbed one does.
func TestKilled(t *testing.T) {
	t.Parallel()
	for name, address := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := open(t, address(t))
			h.fill()
			steps := 0
			if _, err := h.faulty(*long, func() (error, error) { steps++; return nil, nil }).Round(t.Context()); err != nil {
				t.Fatal(err)
			}
			want := h.everything()
			if steps < 10 {
				t.Fatalf("%d steps", steps)
			}
			step := 1
			if name == "PostgreSQL" && !*long {
				step = 6
			}
			if raced {
				step = 5
			}
			for k := 1; k <= steps; k += step {
				for _, after := range []bool{false, true} {
					h := open(t, address(t))
					h.fill()
					n := 0
					killed := errors.New("killed")
					run := h.faulty(*long, func() (error, error) {
						switch n++; {
						case n < k:
							return nil, nil
						case n == k && after:
							return nil, fmt.Errorf("%w: %w", journal.ErrUnknown, killed)
						}
						return killed, nil
					})
					if _, err := run.Round(t.Context()); !errors.Is(err, killed) && (k < steps || !after) {
						t.Fatalf("step %d did not fail: %v", k, err)
					}
					h.round()
					if got := h.everything(); got != want {
						t.Errorf("killed at step %d (made: %t): got\n%s\nwant\n%s", k, after, got, want)
					}
					sound(t, h)
				}
			}
		})
	}
}

// fill makes three tenants whose first period has ended, with credit, usage,
// and an alert, and one whose subscription has ended, with late usage.
func (h *house) fill() {
	h.t.Helper()
	ctx := h.t.Context()
	h.price(premium)
	for i := range 3 {
		tenant := gatehouse.TenantID(fmt.Sprint("t", i))
		h.subscribe(string(tenant), "premium")
		h.use(string(tenant), "2026-01-10", "requests", int64(100*i))
		if _, err := h.Grant(ctx, tenant, invoicing.Credit{Currency: "EUR", Grant: billing.Grant{ID: "g", Amount: dec("35")}}, as); err != nil {
			h.t.Fatal(err)
		}
	}
	if _, err := h.SetAlert(ctx, "t2", invoicing.NewAlert{ID: "spend", Watch: invoicing.WatchMoney, Thresholds: []billing.Decimal{dec("10")}}, as); err != nil {
		h.t.Fatal(err)
	}
	h.price(metered)
	h.subscribe("t3", "metered")
	h.use("t3", "2026-01-02", "requests", 100)
	if _, err := h.Cancel(ctx, "t3", "main", invoicing.Cancellation{At: at("2026-01-15")}, as); err != nil {
		h.t.Fatal(err)
	}
	h.seal("2026-01-15")
	h.set("2026-01-15")
	if _, err := h.Finalize(ctx, "t3", invoicing.Ask{}, as); err != nil {
		h.t.Fatal(err)
	}
	h.use("t3", "2026-01-03", "requests", 50)
	h.seal("2026-02-01")
	h.set("2026-02-01")
}

// everything is what a billing run brings about, but for the order in which
// tenants are numbered.
func (h *house) everything() string {
	h.t.Helper()
	out := ""
	for i := range 4 {
		tenant := fmt.Sprint("t", i)
		for _, l := range strings.SplitAfter(h.invoices(tenant), "\n") {
			if number, rest, ok := strings.Cut(l, " "); ok && strings.HasPrefix(number, "GH-") {
				l = rest
			}
			out += tenant + " " + l
		}
	}
	return out + books(h.t, h) + "\n" + messages(h.t, h, "alert.")
}

// TestIdempotency holds that a request that is repeated is answered as the
// first time and does nothing more.
func TestIdempotency(t *testing.T) {
	mostly(t, func(t *testing.T, h *house) {
		h.price(premium)
		h.subscribe("acme", "premium")
		m := control.Mutation{Actor: "me", Idempotency: journal.Idempotency{Key: "k", Request: "finalize"}}
		errs := atOnce(h, 3, func(_ int, a *invoicing.Accounts) error {
			inv, err := a.Finalize(t.Context(), "acme", invoicing.Ask{Kind: billing.Opening}, m)
			if err == nil && inv.Number != "GH-2026-000001" {
				t.Error(inv.Number)
			}
			return err
		})
		if got := codes(errs); got != "map[:3]" && got != "map[:2 GH-CP-003:1]" && got != "map[:1 GH-CP-003:2]" {
			t.Error(got)
		}
		if inv, err := h.Finalize(t.Context(), "acme", invoicing.Ask{Kind: billing.Opening}, m); err != nil || inv.Number != "GH-2026-000001" {
			t.Error(inv.Number, err)
		}
		m.Idempotency.Request = "other"
		if _, err := h.Finalize(t.Context(), "acme", invoicing.Ask{Kind: billing.Opening}, m); gatehouse.CodeOf(err) != gatehouse.CodeIdempotency {
			t.Error(err)
		}
	})
}
