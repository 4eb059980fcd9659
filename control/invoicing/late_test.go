package invoicing_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/invoicing"
	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
	"github.com/gatehouse-gateway/gatehouse/metering/ledger"
)

const metered = `
id: metered
currency: EUR
cadence: {unit: month}
prices:
  - {id: calls, meter: requests, model: per_unit, amount: "0.01"}
`

// close lets the periods before a day be closed.
func (h *house) close(day string) {
	h.t.Helper()
	h.seal(day)
	h.set(day)
	h.round()
}

// TestLateHoweverOld holds that usage which comes three periods after its own
// was billed is charged by the next invoice, once, and names its own.
func TestLateHoweverOld(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.price(metered)
		h.subscribe("acme", "metered")
		h.use("acme", "2026-01-10", "requests", 100)
		for _, day := range []string{"2026-02-01", "2026-03-01", "2026-04-01", "2026-05-01"} {
			h.close(day)
		}
		h.use("acme", "2026-01-20", "requests", 7)
		h.use("acme", "2026-04-30 23:59", "requests", 5)
		h.use("acme", "2026-05-02", "requests", 3)
		h.round() // the running period has not ended: nothing is billed
		h.close("2026-06-01")
		h.use("acme", "2026-01-20", "requests", 7) // once more: a gateway repeats itself
		h.close("2026-07-01")
		want := `GH-2026-000001 closing finalized 0101..0201 total 1 due 1
  usage calls x 100 = 1
GH-2026-000002 closing paid 0201..0301 total 0 due 0
  usage calls x 0 = 0
GH-2026-000003 closing paid 0301..0401 total 0 due 0
  usage calls x 0 = 0
GH-2026-000004 closing paid 0401..0501 total 0 due 0
  usage calls x 0 = 0
GH-2026-000005 closing finalized 0501..0601 total 0.15 due 0.15
  adjustment calls x 7 = 0.07 corrects GH-2026-000001
  adjustment calls x 5 = 0.05 corrects GH-2026-000004
  usage calls x 3 = 0.03
GH-2026-000006 closing paid 0601..0701 total 0 due 0
  usage calls x 0 = 0
`
		if got := h.invoices("acme"); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
		sound(t, h)
	})
}

// TestLateAfterTheEnd holds that usage of a subscription that has ended is
// billed by corrections: after a time of grace, whichever of two control planes
// comes first, once; and taken back by one below zero.
func TestLateAfterTheEnd(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.price(metered)
		h.subscribe("acme", "metered")
		h.use("acme", "2026-01-10", "requests", 100)
		if _, err := h.Cancel(ctx, "acme", "main", invoicing.Cancellation{At: at("2026-02-20")}, as); err != nil {
			t.Fatal(err)
		}
		h.close("2026-02-01")
		h.close("2026-02-20")
		if _, err := h.Finalize(ctx, "acme", invoicing.Ask{Kind: billing.Correction}, as); !errors.Is(err, billing.ErrNothing) {
			t.Errorf("nothing was corrected: %v", err)
		}
		h.use("acme", "2026-01-20", "requests", 7)
		h.use("acme", "2026-02-10", "requests", 2)
		h.use("acme", "2026-02-20", "requests", 1000) // after the end
		h.set("2026-02-20 23:59")
		if d := h.round(); d.Waiting != 1 || d.Finalized != 0 {
			t.Errorf("not waited: %+v", d)
		}
		h.set("2026-06-01")
		both := func(want int) {
			t.Helper()
			done := make([]int, 2)
			errs := atOnce(h, 2, func(i int, a *invoicing.Accounts) error {
				d, err := a.Round(ctx)
				done[i] = d.Finalized
				return err
			})
			if err := errors.Join(errs...); err != nil || done[0]+done[1] != want {
				t.Errorf("%v finalized, not %d: %v", done, want, err)
			}
		}
		both(1)
		both(0)
		h.set("2026-06-03")
		adjustment := ledger.Adjustment{ID: "x", Tenant: "acme", Meter: "requests", Time: at("2026-01-10"), Value: "-50", Reason: "outage"}
		if _, err := h.Adjust(ctx, adjustment, as); err != nil {
			t.Fatal(err)
		}
		both(1)
		h.set("2026-06-05")
		h.use("acme", "2026-01-20", "requests", 7) // changes nothing
		both(0)
		before, err := h.journal.Head(ctx)
		if err != nil {
			t.Fatal(err)
		}
		both(0)
		if after, err := h.journal.Head(ctx); err != nil || after.Seq != before.Seq {
			t.Errorf("what changed nothing is looked at again and again: %d, %d, %v", before.Seq, after.Seq, err)
		}
		want := `GH-2026-000001 closing finalized 0101..0201 total 1 due 1
  usage calls x 100 = 1
GH-2026-000002 closing paid 0201..0220 total 0 due 0
  usage calls x 0 = 0
GH-2026-000003 correction finalized 0101..0220 total 0.09 due 0.09
  adjustment calls x 7 = 0.07 corrects GH-2026-000001
  adjustment calls x 2 = 0.02 corrects GH-2026-000002
GH-2026-000004 correction paid 0101..0220 total -0.5 due 0
  adjustment calls x -50 = -0.5 corrects GH-2026-000001
`
		if got := h.invoices("acme"); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
		inv, err := h.Invoice(ctx, "acme", "GH-2026-000003")
		if err != nil || inv.Type != billing.TypeCorrected {
			t.Error(inv.Type, err)
		}
		sound(t, h)
	})
}

// TestLateAndVoid holds that void invoices do not swallow what they charged of
// earlier periods, be they corrections or not.
func TestLateAndVoid(t *testing.T) {
	mostly(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.price(metered)
		h.subscribe("acme", "metered")
		h.use("acme", "2026-01-10", "requests", 100)
		h.close("2026-02-01")
		h.use("acme", "2026-01-20", "requests", 7)
		h.close("2026-03-01")
		void := func(number string) {
			t.Helper()
			if _, err := h.Mark(ctx, "acme", number, invoicing.Mark{Status: billing.Void, Reissue: true}, as); err != nil {
				t.Fatal(err)
			}
		}
		void("GH-2026-000002")
		h.round()
		if _, err := h.Cancel(ctx, "acme", "main", invoicing.Cancellation{At: at("2026-03-20")}, as); err != nil {
			t.Fatal(err)
		}
		h.close("2026-03-20")
		h.use("acme", "2026-01-21", "requests", 4)
		h.set("2026-03-22")
		h.round()
		void("GH-2026-000005")
		h.set("2026-03-24")
		h.round()
		h.set("2026-03-26")
		h.round()
		want := `GH-2026-000001 closing finalized 0101..0201 total 1 due 1
  usage calls x 100 = 1
GH-2026-000002 closing void 0201..0301 total 0.07 due 0.07
  adjustment calls x 7 = 0.07 corrects GH-2026-000001
  usage calls x 0 = 0
GH-2026-000003 closing finalized 0201..0301 total 0.07 due 0.07
  adjustment calls x 7 = 0.07 corrects GH-2026-000001
  usage calls x 0 = 0
GH-2026-000004 closing paid 0301..0320 total 0 due 0
  usage calls x 0 = 0
GH-2026-000005 correction void 0101..0320 total 0.04 due 0.04
  adjustment calls x 4 = 0.04 corrects GH-2026-000001
GH-2026-000006 correction finalized 0101..0320 total 0.04 due 0.04
  adjustment calls x 4 = 0.04 corrects GH-2026-000001
`
		if got := h.invoices("acme"); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
		sound(t, h)
	})
}

// TestLateWithARestoredLedger holds that nothing is missed when the ledger is
// one from before the last invoice, whose notes begin anew: the next invoice, or
// a correction, charges what came late.
func TestLateWithARestoredLedger(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.price(metered)
		h.subscribe("acme", "metered")
		h.subscribe("gone", "metered")
		h.use("acme", "2026-01-10", "requests", 100)
		h.use("gone", "2026-01-10", "requests", 50)
		if _, err := h.Cancel(t.Context(), "gone", "main", invoicing.Cancellation{At: at("2026-02-01")}, as); err != nil {
			t.Fatal(err)
		}
		h.close("2026-02-01")
		for i := range 4 { // notes
			h.use("acme", "2026-01-20", "requests", int64(i+1))
			h.use("gone", "2026-01-20", "requests", int64(i+1))
		}
		h.close("2026-03-01")
		before, err := h.Subscription(t.Context(), "acme", "main")
		if err != nil || before.Rated != 4 {
			t.Fatalf("rated up to note %d: %v", before.Rated, err)
		}
		// Another ledger, with the usage of the first but none of its notes.
		if h.ledger, err = ledger.Open(t.Context(), filepath.Join(t.TempDir(), "restored.db")); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { h.ledger.Close() })
		h.Accounts = h.accounts(h.journal)
		for tenant, n := range map[string]int64{"acme": 100, "gone": 50} {
			h.use(tenant, "2026-01-10", "requests", n)
			h.use(tenant, "2026-01-20", "requests", 4)
			h.use(tenant, "2026-01-21", "requests", 10)
		}
		h.close("2026-04-01")
		h.set("2026-04-03")
		h.round()
		want := map[string]string{"acme": `GH-2026-000001 closing finalized 0101..0201 total 1 due 1
  usage calls x 100 = 1
GH-2026-000003 closing finalized 0201..0301 total 0.04 due 0.04
  adjustment calls x 4 = 0.04 corrects GH-2026-000001
  usage calls x 0 = 0
GH-2026-000005 closing finalized 0301..0401 total 0.1 due 0.1
  adjustment calls x 10 = 0.1 corrects GH-2026-000001
  usage calls x 0 = 0
`, "gone": `GH-2026-000002 closing finalized 0101..0201 total 0.5 due 0.5
  usage calls x 50 = 0.5
GH-2026-000004 correction finalized 0101..0201 total 0.04 due 0.04
  adjustment calls x 4 = 0.04 corrects GH-2026-000002
GH-2026-000006 correction finalized 0101..0201 total 0.1 due 0.1
  adjustment calls x 10 = 0.1 corrects GH-2026-000002
`}
		for tenant, want := range want {
			if got := h.invoices(tenant); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		}
		sound(t, h)
	})
}

// reading notes which spans are read of a ledger.
type reading struct {
	*ledger.Ledger
	spans []string
}

func (r *reading) TenantCells(ctx context.Context, tenant gatehouse.TenantID, from, to time.Time) iter.Seq2[metering.Cell, error] {
	r.spans = append(r.spans, from.Format("0102")+"-"+to.Format("0102"))
	return r.Ledger.TenantCells(ctx, tenant, from, to)
}

// TestLateReadsLittle holds that a period is closed from its own usage, and
// earlier usage is read where the ledger has noted that some came late, or
// where requests were interrupted, and nowhere else.
func TestLateReadsLittle(t *testing.T) {
	t.Parallel()
	h := open(t, stores["SQLite"](t))
	r := &reading{Ledger: h.ledger}
	h.Accounts = invoicing.New(invoicing.Parts{Store: h.journal, Usage: r, Now: h.clock})
	h.price(metered)
	h.subscribe("acme", "metered")
	see := func(want string) {
		t.Helper()
		if got := fmt.Sprint(r.spans); got != want {
			t.Errorf("read %s, want %s", got, want)
		}
		r.spans = nil
	}
	h.use("acme", "2026-01-10", "requests", 100)
	h.close("2026-02-01")
	h.close("2026-03-01")
	h.close("2026-04-01")
	see("[0101-0201 0201-0301 0301-0401]")
	h.use("acme", "2026-02-10", "requests", 1)
	h.round()
	see("[]")
	h.close("2026-05-01")
	see("[0201-0501]")
	h.use("acme", "2026-05-10", metering.MeterInterrupted, 1)
	h.close("2026-06-01")
	see("[0501-0601 0301-0601]")
	h.close("2026-07-01")
	see("[0601-0701]")
}

// TestInterruptedAfterTheEnd holds that requests which were interrupted are
// given back though the interruption is dated after the end of the
// subscription: known before its last invoice, or noted when all is billed.
func TestInterruptedAfterTheEnd(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.price(metered)
		h.subscribe("acme", "metered")
		h.use("acme", "2026-01-19 23:00", "requests", 100)
		h.set("2026-01-20")
		if _, err := h.Cancel(ctx, "acme", "main", invoicing.Cancellation{}, as); err != nil {
			t.Fatal(err)
		}
		h.set("2026-01-22")
		h.use("acme", "2026-01-21 10:00", "requests", 30) // nothing bills it
		h.write(interrupted("acme", "2026-01-21 10:30", 7, 33))
		h.close("2026-01-22")
		h.set("2026-02-10")
		h.write(interrupted("acme", "2026-02-07 12:00", 7, 5))
		h.round()
		h.use("acme", "2026-02-10 00:00", "requests", 9)
		h.set("2026-02-20")
		before, err := h.Subscription(ctx, "acme", "main")
		if err != nil {
			t.Fatal(err)
		}
		h.round()
		if after, err := h.Subscription(ctx, "acme", "main"); err != nil || after.Revision != before.Revision {
			t.Errorf("usage after the end was noted: %+v, %v", after, err)
		}
		want := `GH-2026-000001 closing finalized 0101..0120 total 0.97 due 0.97
  usage calls x 97 = 0.97
GH-2026-000002 correction paid 0101..0120 total -0.05 due 0
  adjustment calls x -5 = -0.05 corrects GH-2026-000001
`
		if got := h.invoices("acme"); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
		if lines, err := h.Differences(ctx, "acme", "main", billing.Period{}); err != nil || len(lines) != 0 {
			t.Errorf("%v, %v", lines, err)
		}
		sound(t, h)
	})
}

// interrupted is what gateway gw says of requests that were cut.
func interrupted(tenant, minute string, nonce uint64, n int64) metering.Batch {
	return metering.Batch{Cells: []metering.Cell{{
		Gateway: "gw", Epoch: metering.Epoch{Counter: 1, Nonce: nonce}, Window: at(minute), Meter: metering.MeterInterrupted, Value: n,
		Series: metering.SeriesKey{Tenant: gatehouse.TenantID(tenant), Route: "r", Plan: "p"},
	}}}
}
