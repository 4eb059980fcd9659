package invoicing_test

import (
	"regexp"
	"testing"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/invoicing"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

// TestCreditOfAll holds that an invoice with lines below zero can be credited
// whole, also after a part of it, to its total and no further.
func TestCreditOfAll(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.price(premium)
		h.price(enterprise)
		h.subscribe("acme", "premium")
		h.round()
		if _, err := h.Change(ctx, "acme", "main", invoicing.Move{At: at("2026-01-11"), Plan: "enterprise"}, as); err != nil {
			t.Fatal(err)
		}
		h.use("acme", "2026-01-12", "requests", 1000)
		h.close("2026-02-01")
		credit := func(number string, to billing.Disposition, lines ...billing.CreditAsk) string {
			t.Helper()
			n, err := h.Credit(ctx, "acme", invoicing.NewNote{Invoice: number, Lines: lines, To: to, Reason: "wrong"}, as)
			if err != nil {
				return string(gatehouse.CodeOf(err))
			}
			text, err := h.NoteDocument(ctx, n, invoicing.UBL)
			if err != nil || regexp.MustCompile(`PriceAmount[^<]*>-`).Match(text) {
				t.Errorf("a price below zero: %s %v", text, err)
			}
			return n.Subtotal.String() + " " + n.Tax.String() + " " + n.Total.String()
		}
		inv, err := h.Invoice(ctx, "acme", "GH-2026-000002")
		if err != nil {
			t.Fatal(err)
		}
		var below, above billing.Line
		for _, l := range inv.Lines {
			if l.Net.Sign() < 0 {
				below = l
			} else if l.Kind == billing.LineCharge {
				above = l
			}
		}
		if got := credit(inv.Number, "", billing.CreditAsk{Line: below.ID, Net: below.Net}); got != string(gatehouse.CodeInvalid) {
			t.Errorf("a note below zero: %s", got)
		}
		if got := credit(inv.Number, "", billing.CreditAsk{Line: below.ID, Net: below.Net.Neg()}); got != string(gatehouse.CodeInvalid) {
			t.Errorf("a line below zero is credited: %s", got)
		}
		if got := credit(inv.Number, "", billing.CreditAsk{Line: above.ID, Net: dec("10")}); got != "10 2.2 12.2" {
			t.Errorf("a part: %s", got)
		}
		rest := inv.Total.Sub(dec("12.2")).String()
		if got := credit(inv.Number, ""); got != inv.Subtotal.Sub(dec("10")).String()+" "+inv.Tax.Sub(dec("2.2")).String()+" "+rest {
			t.Errorf("the rest is %s of %s %s %s", got, inv.Subtotal, inv.Tax, inv.Total)
		}
		if got := credit(inv.Number, ""); got != string(gatehouse.CodeInvalid) {
			t.Errorf("credited twice: %s", got)
		}
		sound(t, h)
	})
}
