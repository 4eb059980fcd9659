package invoicing_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse/control/invoicing"
)

// TestRevenueOfThisSecond holds that a subscription counts from the second in
// which it began, and no more from the one in which it ended.
func TestRevenueOfThisSecond(t *testing.T) {
	t.Parallel()
	h := open(t, stores["SQLite"](t))
	h.price(premium)
	h.set("2026-01-10")
	h.subscribe("acme", "premium")
	see := func(want string) {
		t.Helper()
		r, err := h.Revenue(t.Context(), at("2026-01-10"), "EUR", dec("1"))
		if err != nil || r.Bridge.End.String() != want {
			t.Errorf("%s, want %s (%v)", r.Bridge.End, want, err)
		}
	}
	see("30")
	h.set("2026-01-11")
	if _, err := h.Cancel(t.Context(), "acme", "main", invoicing.Cancellation{}, as); err != nil {
		t.Fatal(err)
	}
	see("0")
}

// TestRevenueRounded holds that the bridge of a month balances to the cent, that
// figures are amounts of money for readers, and that the exact ones stand beside
// them.
func TestRevenueRounded(t *testing.T) {
	t.Parallel()
	h := open(t, stores["SQLite"](t))
	h.price(premium)
	h.price(enterprise)
	h.subscribe("acme", "premium")
	h.subscribe("beta", "premium")
	h.set("2026-01-20")
	if _, err := h.Cancel(t.Context(), "beta", "main", invoicing.Cancellation{At: at("2026-02-10")}, as); err != nil {
		t.Fatal(err)
	}
	h.set("2026-02-20")
	h.subscribe("gamma", "enterprise")
	h.subscribe("delta", "premium")
	h.set("2026-03-02")
	r, err := h.Revenue(t.Context(), at("2026-02-15"), "EUR", dec("0.7"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"bridge":{"start":"60","new":"120","reactivated":"0","expansion":"0","contraction":"0","churned":"30","end":"150","start_tenants":2,"end_tenants":3,"lost_tenants":1}`,
		`"metrics":{"mrr":"150","arr":"1800","arpu":"50","nrr":"0.5","grr":"0.5","churn":"0.5","revenue_churn":"0.5","ltv":"70"}`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
	if r.Bridge.Balance().Cmp(r.Bridge.End) != 0 {
		t.Errorf("the bridge comes to %s, not to %s", r.Bridge.Balance(), r.Bridge.End)
	}
	// 160 by three tenants.
	h.set("2026-03-03")
	h.price(strings.Replace(strings.Replace(premium, "id: premium", "id: small", 1), `"30"`, `"10"`, 1))
	if _, err := h.Subscribe(t.Context(), "acme", invoicing.NewSubscription{ID: "more", Plan: "small"}, as); err != nil {
		t.Fatal(err)
	}
	h.set("2026-03-04")
	if r, err = h.Revenue(t.Context(), at("2026-03-01"), "EUR", dec("1")); err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(r.Metrics.ARPU, " ", r.Exact.ARPU, " ", r.Metrics.NRR, " ", r.Exact.NRR, " ", r.Metrics.LTV)
	if want := "53.33 160/3 16/15 16/15 <nil>"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
