package billing_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

func simple(net string) billing.Invoice {
	sheet := billing.Settle([]billing.Line{{ID: "a", Text: "Calls", Amount: dec(net)}}, billing.Terms{Currency: "EUR", Taxes: func(billing.Line) []billing.Tax { return []billing.Tax{{Code: "VAT", Percent: dec("20")}} }})
	return billing.Invoice{Key: "s1/2026-01/closing", Type: billing.TypeInvoice, Kind: billing.Closing, Status: billing.Drafted, Tenant: "acme", Subscription: "s1", Currency: "EUR", Sheet: sheet}
}

func TestLifeOfAnInvoice(t *testing.T) {
	now := at("2026-02-01T00:00:00Z")
	f := func(from billing.Status, to billing.Status, want string) {
		t.Helper()
		inv := simple("10")
		inv.Status = from
		out, err := inv.Move(to, now, "why")
		got := string(out.Status)
		if err != nil {
			if got = "refused"; gatehouse.CodeOf(err) != gatehouse.CodeInvalid || out.Status != from {
				t.Errorf("%s to %s: %v", from, to, err)
			}
		}
		if got != want {
			t.Errorf("%s to %s: got %s, want %s", from, to, got, want)
		}
	}
	for _, to := range []billing.Status{billing.Drafted, billing.Finalized, billing.Paid, billing.Void, billing.Uncollectible, "lost"} {
		f(billing.Drafted, to, "refused")
	}
	for _, to := range []billing.Status{billing.Paid, billing.Void, billing.Uncollectible} {
		f(billing.Finalized, to, string(to))
		f(billing.Uncollectible, to, string(to))
	}
	for _, from := range []billing.Status{billing.Finalized, billing.Paid, billing.Void, billing.Uncollectible} {
		f(from, billing.Drafted, "refused")
		f(from, billing.Finalized, "refused")
	}
	paid, err := finalize(t, simple("1"), 1, "").Move(billing.Paid, now, "tr_1")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := paid.Move(billing.Paid, now.Add(1), "tr_1"); err != nil || len(again.Marks) != 2 {
		t.Errorf("the same payment again: %v, %v", again.Marks, err)
	}
	if again, err := paid.Move(billing.Paid, now, "tr_2"); gatehouse.CodeOf(err) != gatehouse.CodeInvalid || len(again.Marks) != 2 {
		t.Errorf("another payment: %v, %v", again.Marks, err)
	}
	f(billing.Void, billing.Void, "void")
	f(billing.Paid, billing.Void, "refused")
	f(billing.Void, billing.Paid, "refused")
	f(billing.Paid, billing.Uncollectible, "refused")
	f(billing.Void, billing.Uncollectible, "refused")
	if _, err := finalize(t, simple("1"), 1, "").Finalize("GH-2026-000002", "", now, 0); err == nil {
		t.Error("an invoice was finalized twice")
	}
	if _, err := simple("1").Finalize("", "", now, 0); err == nil {
		t.Error("an invoice was finalized without a number")
	}
}

func TestChain(t *testing.T) {
	var series []billing.Invoice
	previous := ""
	for n := range 4 {
		inv := finalize(t, simple(fmt.Sprint(n+1)), n+1, previous)
		previous = inv.Hash
		series = append(series, inv)
	}
	if series[2].Number != "GH-2026-000003" {
		t.Errorf("the number is %s", series[2].Number)
	}
	paid, err := series[1].Move(billing.Paid, at("2026-03-01T00:00:00Z"), "tr_1")
	if err != nil {
		t.Fatal(err)
	}
	series[1] = paid
	if err := billing.Verify(series); err != nil {
		t.Errorf("a mark broke the chain: %v", err)
	}
	f := func(name string, change func(s []billing.Invoice) []billing.Invoice) {
		t.Helper()
		text, err := json.Marshal(series)
		if err != nil {
			t.Fatal(err)
		}
		var copied []billing.Invoice
		if err := json.Unmarshal(text, &copied); err != nil {
			t.Fatal(err)
		}
		if err := billing.Verify(copied); err != nil {
			t.Fatalf("the chain does not survive JSON: %v", err)
		}
		if billing.Verify(change(copied)) == nil {
			t.Errorf("%s was not found", name)
		}
	}
	f("an altered amount", func(s []billing.Invoice) []billing.Invoice { s[1].Lines[0].Amount = dec("0.01"); return s })
	f("an altered tenant", func(s []billing.Invoice) []billing.Invoice { s[1].Tenant = "evil"; return s })
	f("a missing invoice", func(s []billing.Invoice) []billing.Invoice { return append(s[:1], s[2:]...) })
	f("a missing first", func(s []billing.Invoice) []billing.Invoice { s[1].Previous = ""; return s[1:] })
	f("another order", func(s []billing.Invoice) []billing.Invoice { s[1], s[2] = s[2], s[1]; return s })
}

func TestCanonical(t *testing.T) {
	got, err := billing.Canonical(map[string]any{"b": "<&>", "a": []any{dec("1.50"), nil, 7}})
	if err != nil || string(got) != `{"a":["1.5",null,7],"b":"<&>"}` {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestCreditNotes(t *testing.T) {
	inv := finalize(t, simple("769"), 1, "")
	note := func(inv billing.Invoice, earlier []billing.CreditNote, net string, to billing.Disposition) string {
		n, err := billing.Note(inv, earlier, []billing.CreditAsk{{Line: "a", Net: dec(net)}}, to, "", billing.HalfUp, at("2026-03-01T00:00:00Z"))
		if err != nil {
			if gatehouse.CodeOf(err) != gatehouse.CodeInvalid {
				t.Errorf("%v", err)
			}
			return "refused"
		}
		return n.Subtotal.String() + " " + n.Tax.String() + " " + n.Total.String()
	}
	f := func(inv billing.Invoice, earlier []billing.CreditNote, net string, to billing.Disposition, want string) {
		t.Helper()
		if got := note(inv, earlier, net, to); got != want {
			t.Errorf("%s of it: got %s, want %s", net, got, want)
		}
	}
	first, err := billing.Note(inv, nil, []billing.CreditAsk{{Line: "a", Net: dec("726.86")}}, "", "", billing.HalfUp, at("2026-03-01T00:00:00Z"))
	if err != nil {
		t.Fatal(err)
	}
	f(inv, nil, "726.86", "", "726.86 145.37 872.23")
	f(inv, []billing.CreditNote{first}, "42.14", "", "42.14 8.43 50.57")
	f(inv, []billing.CreditNote{first}, "42.15", "", "refused")
	f(inv, nil, "0", "", "refused")
	f(inv, nil, "-1", "", "refused")
	f(inv, nil, "0.001", "", "refused")
	f(inv, nil, "1", billing.ToRefund, "refused")
	paid, err := inv.Move(billing.Paid, at("2026-02-02T00:00:00Z"), "")
	if err != nil {
		t.Fatal(err)
	}
	f(paid, nil, "1", billing.ToRefund, "1 0.2 1.2")
	f(simple("1"), nil, "1", "", "refused")
	void, err := inv.Move(billing.Void, at("2026-02-02T00:00:00Z"), "")
	if err != nil {
		t.Fatal(err)
	}
	f(void, nil, "1", "", "refused")
	if _, err := billing.Note(inv, nil, []billing.CreditAsk{{Line: "z", Net: dec("1")}}, "", "", billing.HalfUp, inv.Issued); err == nil || !strings.Contains(err.Error(), "no line z") {
		t.Errorf("an unknown line: %v", err)
	}
	if _, err := billing.Note(inv, nil, []billing.CreditAsk{{Line: "a", Net: dec("500")}, {Line: "a", Net: dec("500")}}, "", "", billing.HalfUp, inv.Issued); err == nil {
		t.Error("one note credits a line twice beyond what it has")
	}
	sealed, err := first.Seal(billing.Number("GH-CN", 2026, 1), "")
	if err != nil || sealed.Number != "GH-CN-2026-000001" || len(sealed.Hash) != 64 {
		t.Errorf("sealed as %s, %v", sealed.Number, err)
	}
}
