package invoicing_test

import (
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/invoicing"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
	"github.com/gatehouse-gateway/gatehouse/metering/ledger"
)

// dear is a price that can be billed for a thousand requests, and not for many
// more.
const dear = `
id: dear
currency: EUR
cadence: {unit: month}
prices:
  - {id: seats, model: per_unit, amount: "1000000000"}
  - {id: calls, meter: requests, model: per_unit, amount: "1000000000000"}
`

// TestUnbillable holds that a price which nothing could be billed by is not
// saved, nor a quantity, and that a tenant whose usage comes to more than can be
// billed keeps neither the others nor its own other drafts from being made.
func TestUnbillable(t *testing.T) {
	mostly(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		refused := func(err error, want string) {
			t.Helper()
			if gatehouse.CodeOf(err) != gatehouse.CodeInvalid || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want one that names %s", err, want)
			}
		}
		_, err := h.AddVersion(ctx, "premium", plan(t, strings.Replace(premium, "0.01", "1000000000000000", 1)), as)
		refused(err, "/prices/1/amount: usage of 1000 comes to")
		h.price(dear)
		h.price(premium)
		many := map[string]billing.Decimal{"seats": dec("1000001")}
		_, err = h.Subscribe(ctx, "acme", invoicing.NewSubscription{Plan: "dear", Quantities: many}, as)
		refused(err, "/quantities/seats: a fee for 1000001 comes to")
		h.subscribe("acme", "dear")
		_, err = h.Change(ctx, "acme", "main", invoicing.Move{Plan: "dear", At: at("2026-01-02"), Quantities: many}, as)
		refused(err, "/quantities/seats: a fee for 1000001 comes to")
		if _, err := h.Subscribe(ctx, "acme", invoicing.NewSubscription{ID: "other", Plan: "premium"}, as); err != nil {
			t.Fatal(err)
		}
		h.subscribe("zeta", "premium")
		h.use("acme", "2026-01-10", "requests", 1001)
		h.set("2026-02-01 00:05")
		h.seal("2026-02-01")
		const reason = "usage of 1001 comes to 1001000000000000, more than 10^15"
		_, err = h.Preview(ctx, "acme", invoicing.Ask{})
		refused(err, "the invoice cannot be made: "+reason+"; take usage back by an adjustment, or change the plan from a time before: /plans/dear~11/prices/calls: ")
		drafts, err := h.Drafts(ctx, "acme")
		if err != nil || len(drafts) != 3 {
			t.Fatalf("%v, %v", drafts, err)
		}
		for _, d := range drafts {
			if faulty := d.Subscription == "main"; faulty != (len(d.Faults) == 1) || faulty && (d.Faults[0].Reason != reason || !d.Period.End.Equal(at("2026-02-01"))) {
				t.Errorf("%s %v: %v", d.Subscription, d.Period, d.Faults)
			}
		}
		done, err := h.Round(ctx)
		if err == nil || !strings.HasPrefix(err.Error(), "bill acme/main: ") || !strings.Contains(err.Error(), reason) || strings.Contains(err.Error(), "zeta") || done.Finalized != 4 {
			t.Errorf("%+v, %v", done, err)
		}
		h.set("2026-02-01 00:10")
		back := ledger.Adjustment{ID: "a", Tenant: "acme", Meter: "requests", Time: at("2026-01-10"), Value: "-1", Reason: "a test"}
		if _, err := h.Adjust(ctx, back, as); err != nil {
			t.Fatal(err)
		}
		if done := h.round(); done.Finalized != 1 {
			t.Errorf("%+v once the usage is corrected", done)
		}
		sound(t, h)
	})
}
