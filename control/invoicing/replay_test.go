package invoicing_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/invoicing"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
	"github.com/gatehouse-gateway/gatehouse/metering/ledger"
)

// TestReplayedRequests holds that a request that is made once more is answered
// as before, though its tenant and its plan are gone meanwhile and what it asks
// for is out of date; and that a new one is refused.
func TestReplayedRequests(t *testing.T) {
	mostly(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.price(premium)
		gone := false
		missing := func() error {
			if !gone {
				return nil
			}
			return &gatehouse.Error{Code: gatehouse.CodeNotFound, Message: "it is gone"}
		}
		a := invoicing.New(invoicing.Parts{
			Store: h.journal, Usage: h.ledger, Now: h.clock,
			Tenant: func(context.Context, gatehouse.TenantID) error { return missing() },
			Plan:   func(context.Context, gatehouse.PlanID) error { return missing() },
		})
		calls := map[string]func(control.Mutation) (any, error){
			"add a version": func(m control.Mutation) (any, error) {
				return a.AddVersion(ctx, "premium", plan(t, premium), m)
			},
			"subscribe": func(m control.Mutation) (any, error) {
				return a.Subscribe(ctx, "acme", invoicing.NewSubscription{Plan: "premium", ID: m.Idempotency.Key}, m)
			},
			"set the customer": func(m control.Mutation) (any, error) {
				return a.SetCustomer(ctx, "acme", invoicing.NewCustomer{}, m)
			},
			"grant": func(m control.Mutation) (any, error) {
				return a.Grant(ctx, "acme", invoicing.Credit{Currency: "EUR", Grant: billing.Grant{ID: m.Idempotency.Key, Amount: dec("5"), Expires: at("2026-01-01 12:00")}}, m)
			},
			"set an alert": func(m control.Mutation) (any, error) {
				return a.SetAlert(ctx, "acme", invoicing.NewAlert{ID: "a", Watch: invoicing.WatchMoney, Thresholds: []billing.Decimal{dec("5")}}, m)
			},
			"adjust": func(m control.Mutation) (any, error) {
				in := ledger.Adjustment{ID: m.Idempotency.Key, Tenant: "acme", Meter: "requests", Time: at("2026-01-10"), Value: "5", Reason: "a test"}
				return a.Correct(ctx, in, m)
			},
		}
		for name, call := range calls {
			m := func(key string) control.Mutation {
				m := as
				m.Idempotency = journal.Idempotency{Key: key, Request: name}
				return m
			}
			text := func(v any, err error) string {
				t.Helper()
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if verdict, ok := v.(ledger.Verdict); ok {
					return string(verdict)
				}
				body, err := json.Marshal(v)
				if err != nil {
					t.Fatal(err)
				}
				// The rest may be of now, such as what of a wallet can be used.
				var same struct {
					ID       string    `json:"id"`
					Revision uint64    `json:"revision"`
					Created  time.Time `json:"created"`
					Currency string    `json:"currency"`
				}
				if err := json.Unmarshal(body, &same); err != nil {
					t.Fatal(err)
				}
				if same.Revision == 0 || same.Created.IsZero() {
					t.Errorf("%s: no revision or no time: %s", name, body)
				}
				return fmt.Sprintf("%+v", same)
			}
			h.set("2026-01-01")
			gone = false
			first := text(call(m("one-" + strings.ReplaceAll(name, " ", "-"))))
			h.set("2026-01-01 20:00")
			gone = true
			if name == "adjust" {
				if first != string(ledger.Recorded) {
					t.Errorf("%s: %s", name, first)
				}
				first = string(ledger.Duplicate)
			}
			if again := text(call(m("one-" + strings.ReplaceAll(name, " ", "-")))); again != first {
				t.Errorf("%s\nagain %s\nwant  %s", name, again, first)
			}
			if _, err := call(m("two-" + strings.ReplaceAll(name, " ", "-"))); err == nil {
				t.Errorf("%s: what is gone was found", name)
			}
		}
	})
}
