package invoicing_test

import (
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
