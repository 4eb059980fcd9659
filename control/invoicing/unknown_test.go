package invoicing_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/invoicing"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
	"github.com/gatehouse-gateway/gatehouse/metering/ledger"
)

// TestUnknownNames holds that whoever names a meter by which nothing was ever
// counted, or a feature that there is not, is warned; that an adjustment of what
// nobody knows is refused; and that neither is when it is known.
func TestUnknownNames(t *testing.T) {
	mostly(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		see := func(what string, faults gatehouse.Faults, want string) {
			t.Helper()
			var got []string
			for _, f := range faults {
				if !f.Warning {
					t.Errorf("%s: %v is no warning", what, f)
				}
				got = append(got, f.Pointer+": "+f.Reason)
			}
			if all := strings.Join(got, "; "); all != want {
				t.Errorf("%s\n got %s\nwant %s", what, all, want)
			}
		}
		add := func(want string) {
			t.Helper()
			text := strings.Replace(metered, "requests", "tokens", 1) + "  - {id: more, meter: requests, model: per_unit, amount: \"1\"}\n" +
				"entitlements: [{feature: calls, meter: request}, {feature: words, meter: requests}, {feature: sso}]\n"
			v, err := h.AddVersion(ctx, "metered", plan(t, text), as)
			if err != nil {
				t.Fatal(err)
			}
			see("a version", v.Warnings, want)
		}
		adjust := func(id, meter string) error {
			_, err := h.Adjust(ctx, ledger.Adjustment{ID: id, Tenant: "acme", Meter: meter, Time: at("2026-01-01"), Value: "5", Reason: "a test"}, as)
			return err
		}
		alert := func(a invoicing.NewAlert, want string) {
			t.Helper()
			a.ID, a.Watch, a.Thresholds = "a", invoicing.WatchUsage, []billing.Decimal{dec("5")}
			got, err := h.SetAlert(ctx, "acme", a, as)
			if err != nil {
				t.Fatal(err)
			}
			see(fmt.Sprintf("an alert of %s%s", a.Feature, a.Meter), got.Warnings, want)
		}
		alert(invoicing.NewAlert{Feature: "words"}, `/subscription: there is no subscription "main"`)
		if err := adjust("1", "tokens"); gatehouse.CodeOf(err) != gatehouse.CodeInvalid || !strings.Contains(err.Error(), `/meter: nothing was ever counted by "tokens"`) {
			t.Errorf("an adjustment of what nobody knows: %v", err)
		}
		add(`/prices/0/meter: nothing was ever counted by "tokens"; /entitlements/0/meter: nothing was ever counted by "request"`)
		h.subscribe("acme", "metered")
		alert(invoicing.NewAlert{Feature: "words"}, "")
		alert(invoicing.NewAlert{Feature: "sso"}, `/feature: plan metered/1 has no feature "sso" that is metered`)
		alert(invoicing.NewAlert{Feature: "wrods"}, `/feature: plan metered/1 has no feature "wrods" that is metered`)
		alert(invoicing.NewAlert{Meter: "tokens"}, `/meter: nothing was ever counted by "tokens"`)
		if err := adjust("2", "tokens"); err != nil { // a price names it
			t.Error(err)
		}
		alert(invoicing.NewAlert{Meter: "tokens"}, "")
		h.use("acme", "2026-01-01", "request", 1) // whatever that is, it is counted
		add("")
		// What others count by is none of a tenant's business.
		h.use("other", "2026-01-01", "patients", 1)
		h.use("other", "2026-01-01", "beds", 1)
		own, err := h.SetAlert(ctx, "acme", invoicing.NewAlert{ID: "p", Watch: invoicing.WatchUsage, Meter: "patients", Thresholds: []billing.Decimal{dec("5")}}, as)
		if err != nil || len(own.Warnings) != 1 || strings.Contains(own.Warnings[0].Hint, "beds") || strings.Contains(own.Warnings[0].Hint, "patients") {
			t.Errorf("an alert of another's meter: %v, %v", own.Warnings, err)
		}
		if err := adjust("3", "patients"); gatehouse.CodeOf(err) != gatehouse.CodeInvalid || strings.Contains(err.Error(), "beds") {
			t.Errorf("an adjustment of another's meter: %v", err)
		}
		// A tier's limit names a meter too.
		sized := plan(t, "id: sized\ncurrency: EUR\ncadence: {unit: month}\nprices:\n  - {id: size, meter: requests, model: capacity, tiers: [{flat_fee: \"1\"}, {flat_fee: \"2\"}]}\n")
		sized.Prices[0].Tiers[0].Limits = map[string]billing.Decimal{"nodes": dec("5")}
		if _, err := h.AddVersion(ctx, "sized", sized, as); err != nil {
			t.Fatal(err)
		}
		h.subscribe("beta", "sized")
		in := ledger.Adjustment{ID: "4", Tenant: "beta", Meter: "nodes", Time: at("2026-01-01"), Value: "5", Reason: "a test"}
		if _, err := h.Adjust(ctx, in, as); err != nil {
			t.Error("an adjustment of what a tier limits:", err)
		}
		away := invoicing.New(invoicing.Parts{Store: h.journal, Usage: h.ledger, Now: h.clock, Tenant: func(context.Context, gatehouse.TenantID) error {
			return &gatehouse.Error{Code: gatehouse.CodeNotFound, Message: "there is no such tenant"}
		}})
		in.ID, in.Meter = "5", "never"
		if _, err := away.Adjust(ctx, in, as); gatehouse.CodeOf(err) != gatehouse.CodeNotFound {
			t.Error("a tenant that is not there, and a meter that is not either:", err)
		}
		blind := invoicing.New(invoicing.Parts{Store: h.journal, Usage: meterless{h.ledger}, Now: h.clock})
		v, err := blind.AddVersion(ctx, "metered", plan(t, strings.Replace(metered, "requests", "nothing", 1)), as)
		if err != nil || len(v.Warnings) > 0 {
			t.Errorf("without a ledger: %v, %v", v.Warnings, err)
		}
	})
}

// meterless is a ledger that cannot be read.
type meterless struct{ *ledger.Ledger }

func (meterless) Meters(context.Context) ([]string, error) { return nil, errors.New("it is away") }

func (meterless) TenantMeters(context.Context, gatehouse.TenantID) ([]string, error) {
	return nil, errors.New("it is away")
}
