package invoicing_test

import (
	"bytes"
	"compress/zlib"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/invoicing"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

// TestPayments holds that payments in part add up to what is due, each once,
// whoever tells of them at once; that more is refused; and that the books agree
// at each step.
func TestPayments(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.price(premium)
		for _, tenant := range []string{"acme", "other"} {
			h.subscribe(tenant, "premium")
		}
		h.round() // 30 each
		page, err := h.Invoices(ctx, invoicing.InvoiceFilter{Tenant: "acme"})
		if err != nil {
			t.Fatal(err)
		}
		number := page.Items[0].Number
		pay := func(a *invoicing.Accounts, ref, amount string) error {
			d := dec(amount)
			_, err := a.Mark(ctx, "acme", number, invoicing.Mark{Status: billing.Paid, Ref: ref, Amount: &d}, as)
			return err
		}
		see := func(want string) {
			t.Helper()
			inv, err := h.Invoice(ctx, "acme", number)
			if got := fmt.Sprint(inv.Status, " ", inv.Summary().Left, " of ", len(inv.Payments), "; ", books(t, h)); err != nil || got != want {
				t.Errorf("got %s, want %s (%v)", got, want, err)
			}
			sound(t, h)
		}
		errs := atOnce(h, 4, func(i int, a *invoicing.Accounts) error { return pay(a, fmt.Sprint("p", i%2), "10") })
		if got := codes(errs); got != "map[:4]" {
			t.Error(got)
		}
		see("finalized 10 of 2; cash 20, receivable 40, revenue -60")
		for ref, amount := range map[string]string{"p9": "10.01", "p8": "0", "p7": "-1", "p6": "0.001", "": "1"} {
			if err := pay(h.Accounts, ref, amount); gatehouse.CodeOf(err) != gatehouse.CodeInvalid {
				t.Errorf("%s of 10 is taken: %v", amount, err)
			}
		}
		if err := pay(h.Accounts, "p1", "9"); gatehouse.CodeOf(err) != gatehouse.CodeConflict {
			t.Error("one payment, two amounts:", err)
		}
		if _, err := h.Mark(ctx, "acme", number, invoicing.Mark{Status: billing.Void}, as); gatehouse.CodeOf(err) != gatehouse.CodeConflict {
			t.Error("an invoice that is paid in part is void:", err)
		}
		if _, err := h.Mark(ctx, "acme", number, invoicing.Mark{Status: billing.Uncollectible}, as); err != nil {
			t.Fatal(err)
		}
		see("uncollectible 10 of 2; bad-debt 10, cash 20, receivable 30, revenue -60")
		if err := pay(h.Accounts, "p3", "4"); err != nil {
			t.Error(err)
		}
		see("uncollectible 6 of 3; bad-debt 6, cash 24, receivable 30, revenue -60")
		// Two pay the rest at once: one does.
		errs = atOnce(h, 2, func(i int, a *invoicing.Accounts) error { return pay(a, fmt.Sprint("q", i), "6") })
		if got := codes(errs); got != "map[:1 GH-CP-003:1]" {
			t.Error(got)
		}
		see("paid 0 of 4; bad-debt 0, cash 30, receivable 30, revenue -60")
		if err := pay(h.Accounts, "p1", "10"); err != nil {
			t.Error("a payment that is told again:", err)
		}
		if _, err := h.Mark(ctx, "acme", number, invoicing.Mark{Status: billing.Paid, Ref: "p1"}, as); gatehouse.CodeOf(err) != gatehouse.CodeConflict {
			t.Error("one payment pays an invoice that others have paid:", err)
		}
		number = map[string]string{"GH-2026-000001": "GH-2026-000002", "GH-2026-000002": "GH-2026-000001"}[number]
		d := dec("12.34")
		if _, err := h.Mark(ctx, "other", number, invoicing.Mark{Status: billing.Paid, Ref: "a", Amount: &d}, as); err != nil {
			t.Error(err)
		}
		if _, err := h.Mark(ctx, "other", number, invoicing.Mark{Status: billing.Paid, Ref: "a"}, as); gatehouse.CodeOf(err) != gatehouse.CodeConflict {
			t.Error("a payment of a part that is told again, without its amount, pays the rest:", err)
		}
		for _, amount := range []*billing.Decimal{nil, &d} {
			for _, ref := range []string{strings.Repeat("x", 401), "a\x00"} {
				_, err := h.Mark(ctx, "other", number, invoicing.Mark{Status: billing.Paid, Ref: ref, Amount: amount}, as)
				if gatehouse.CodeOf(err) != gatehouse.CodeInvalid || !strings.Contains(err.Error(), "/ref") {
					t.Error("a ref that cannot be kept:", err)
				}
			}
		}
		if _, err := h.Mark(ctx, "other", number, invoicing.Mark{Status: billing.Paid, Ref: "b"}, as); err != nil {
			t.Error("the rest, without an amount:", err)
		}
		if got := books(t, h); got != "bad-debt 0, cash 60, receivable 0, revenue -60" {
			t.Error(got)
		}
		sound(t, h)
	})
}

// printed is what the pages of a PDF are drawn by: its texts are in brackets.
func printed(t *testing.T, doc []byte) string {
	t.Helper()
	var out strings.Builder
	for part := range bytes.SplitSeq(doc, []byte("\nstream\n")) {
		body, _, _ := bytes.Cut(part, []byte("\nendstream"))
		z, err := zlib.NewReader(bytes.NewReader(body))
		if err != nil { // not what is compressed
			continue
		}
		if _, err := io.Copy(&out, z); err != nil {
			t.Fatal(err)
		}
	}
	return out.String()
}

// TestPaymentsInPrint holds that a page shows what was due when the invoice was
// issued, what was paid since and when, and what that leaves.
func TestPaymentsInPrint(t *testing.T) {
	t.Parallel()
	h := open(t, stores["SQLite"](t))
	h.price(premium)
	for _, tenant := range []string{"acme", "void"} {
		h.subscribe(tenant, "premium")
	}
	h.round()
	see := func(tenant string, want ...string) {
		t.Helper()
		page, err := h.Invoices(t.Context(), invoicing.InvoiceFilter{Tenant: gatehouse.TenantID(tenant)})
		if err != nil {
			t.Fatal(err)
		}
		text, err := page.Items[0].Document(invoicing.HTML)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range want {
			if !strings.Contains(string(text), part) {
				t.Errorf("no %s in %s", part, text)
			}
		}
		doc, err := page.Items[0].Document(invoicing.PDF)
		if err != nil {
			t.Fatal(err)
		}
		sums := printed(t, doc)
		for _, part := range want {
			for _, text := range regexp.MustCompile(`<d[td]>([^<]+)`).FindAllStringSubmatch(part, -1) {
				if !strings.Contains(sums, "("+strings.ReplaceAll(text[1], "−", "-")+")") {
					t.Errorf("no %s in %s", text[1], sums)
				}
			}
		}
	}
	mark := func(tenant, number string, m invoicing.Mark) {
		t.Helper()
		if _, err := h.Mark(t.Context(), gatehouse.TenantID(tenant), number, m, as); err != nil {
			t.Fatal(err)
		}
	}
	const due, paid, left = "<dt>Due as issued</dt><dd>30.00</dd>", "<dt>Paid, noted 2026-01-05, wire 1</dt><dd>−12.50</dd>", "<dt>To pay, EUR</dt><dd>"
	see("acme", "<dt>Due, EUR</dt><dd>30.00</dd>")
	h.set("2026-01-05")
	part := dec("12.50")
	mark("acme", "GH-2026-000001", invoicing.Mark{Status: billing.Paid, Ref: "wire 1", Amount: &part})
	see("acme", due, paid, left+"17.50</dd>")
	h.set("2026-01-07")
	mark("acme", "GH-2026-000001", invoicing.Mark{Status: billing.Paid, Ref: "wire 2"})
	see("acme", due, paid, "<dt>Paid, noted 2026-01-07, wire 2</dt><dd>−17.50</dd>", left+"0.00</dd>")
	mark("void", "GH-2026-000002", invoicing.Mark{Status: billing.Void})
	see("void", due, left+"0.00</dd>")
}
