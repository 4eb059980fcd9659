package invoicing_test

import (
	"testing"

	"github.com/gatehouse-gateway/gatehouse/control/invoicing"
	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

// void makes an invoice void.
func (h *house) void(number string, reissue bool) {
	h.t.Helper()
	if _, err := h.Mark(h.t.Context(), "acme", number, invoicing.Mark{Status: billing.Void, Ref: "wrong", Reissue: reissue}, as); err != nil {
		h.t.Fatal(err)
	}
}

// TestReissueOfFeesGivenBack holds that an invoice that is billed anew charges
// a fee in advance whole of which a later one has given back a part.
func TestReissueOfFeesGivenBack(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.price(premium)
		h.subscribe("acme", "premium")
		h.close("2026-02-01")
		if _, err := h.Cancel(t.Context(), "acme", "main", invoicing.Cancellation{At: at("2026-02-15"), Refund: true}, as); err != nil {
			t.Fatal(err)
		}
		h.close("2026-02-15")
		h.void("GH-2026-000002", true)
		h.round()
		want := `GH-2026-000001 opening finalized 0101..0201 total 30 due 30
  recurring base x 1 = 30
GH-2026-000002 closing void 0101..0201 total 30 due 30
  usage calls x 0 = 0
  recurring base x 1 = 30
GH-2026-000003 closing paid 0201..0215 total -15 due 0
  usage calls x 0 = 0
  credit base x 1 = -15
GH-2026-000004 closing finalized 0101..0201 total 30 due 15
  usage calls x 0 = 0
  recurring base x 1 = 30
`
		if got := h.invoices("acme"); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
		sound(t, h)
	})
}

// TestReissueOfTheOpening is the same of the first invoice, when all is billed.
func TestReissueOfTheOpening(t *testing.T) {
	mostly(t, func(t *testing.T, h *house) {
		h.price(premium)
		h.subscribe("acme", "premium")
		h.round()
		if _, err := h.Cancel(t.Context(), "acme", "main", invoicing.Cancellation{At: at("2026-01-17"), Refund: true}, as); err != nil {
			t.Fatal(err)
		}
		h.close("2026-01-17")
		h.void("GH-2026-000001", true)
		h.set("2026-01-19")
		h.round()
		want := `GH-2026-000001 opening void 0101..0201 total 30 due 30
  recurring base x 1 = 30
GH-2026-000002 closing paid 0101..0117 total -14.52 due 0
  usage calls x 0 = 0
  credit base x 1 = -14.52
GH-2026-000003 opening finalized 0101..0117 total 30 due 15.48
  recurring base x 1 = 30
`
		if got := h.invoices("acme"); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
		if s, err := h.Subscription(t.Context(), "acme", "main"); err != nil || !s.Opened {
			t.Errorf("%+v, %v", s, err)
		}
		sound(t, h)
	})
}

// TestVoidOwesWhatIsOfOthers holds that late usage of other periods is charged
// though the invoice that charged it is void and not billed anew, and that no
// note of it stays.
func TestVoidOwesWhatIsOfOthers(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.price(metered)
		h.subscribe("acme", "metered")
		h.use("acme", "2026-01-10", "requests", 100)
		h.close("2026-02-01")
		h.use("acme", "2026-01-20", "requests", 7)
		h.use("acme", "2026-02-10", "requests", 5)
		h.close("2026-03-01")
		if late, err := h.Late(ctx, "acme"); err != nil || len(late) != 1 {
			t.Errorf("%v %v", late, err)
		}
		h.void("GH-2026-000002", false)
		if late, err := h.Late(ctx, "acme"); err != nil || len(late) != 0 {
			t.Errorf("a void invoice has late usage: %v %v", late, err)
		}
		h.close("2026-04-01")
		want := `GH-2026-000001 closing finalized 0101..0201 total 1 due 1
  usage calls x 100 = 1
GH-2026-000002 closing void 0201..0301 total 0.12 due 0.12
  adjustment calls x 7 = 0.07 corrects GH-2026-000001
  usage calls x 5 = 0.05
GH-2026-000003 closing finalized 0301..0401 total 0.07 due 0.07
  adjustment calls x 7 = 0.07 corrects GH-2026-000001
  usage calls x 0 = 0
`
		if got := h.invoices("acme"); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
		if late, err := h.Late(ctx, "acme"); err != nil || len(late) != 1 || late[0].ChargedBy != "GH-2026-000003" {
			t.Errorf("%v %v", late, err)
		}
		sound(t, h)
	})
}

// TestReissueWithInterruptions holds that requests which were interrupted are
// not charged by an invoice that is billed anew, though the interruption is
// dated after its period; nor by a correction, though it is dated after the
// end.
func TestReissueWithInterruptions(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.price(metered)
		h.subscribe("acme", "metered")
		h.use("acme", "2026-01-31 23:59", "requests", 100)
		h.close("2026-02-01")
		h.use("acme", "2026-02-01 00:05", metering.MeterInterrupted, 40)
		h.close("2026-03-01")
		h.void("GH-2026-000001", true)
		h.round()
		if _, err := h.Cancel(ctx, "acme", "main", invoicing.Cancellation{At: at("2026-03-20")}, as); err != nil {
			t.Fatal(err)
		}
		h.use("acme", "2026-03-19 23:59", "requests", 10)
		h.close("2026-03-20")
		h.use("acme", "2026-03-20 00:05", metering.MeterInterrupted, 4)
		h.use("acme", "2026-03-19 23:59", "requests", 11)
		h.set("2026-03-22")
		h.round()
		want := `GH-2026-000001 closing void 0101..0201 total 1 due 1
  usage calls x 100 = 1
GH-2026-000002 closing paid 0201..0301 total -0.4 due 0
  adjustment calls x -40 = -0.4 corrects GH-2026-000001
  usage calls x 0 = 0
GH-2026-000003 closing finalized 0101..0201 total 1 due 0.6
  usage calls x 100 = 1
GH-2026-000004 closing finalized 0301..0320 total 0.1 due 0.1
  usage calls x 10 = 0.1
GH-2026-000005 correction paid 0101..0320 total -0.03 due 0
  adjustment calls x -3 = -0.03 corrects GH-2026-000004
`
		if got := h.invoices("acme"); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
		again, err := h.Invoice(ctx, "acme", "GH-2026-000003")
		if err != nil || again.Lines[0].Text != "calls: 60 in all, 40 given back before for 0.40" {
			t.Errorf("%s, %v", again.Lines[0].Text, err)
		}
		if lines, err := h.Differences(ctx, "acme", "main", billing.Period{}); err != nil || len(lines) != 0 {
			t.Errorf("%v, %v", lines, err)
		}
		sound(t, h)
	})
}
