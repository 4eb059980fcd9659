package api

import "testing"

// TestSubscribeReplayed holds that a tenant which is deleted begins no
// subscription, and that one begun before answers the same request as then.
func TestSubscribeReplayed(t *testing.T) {
	s := start(t, "")
	s.billAt("2026-01-01")
	do := func(request string, status int) string {
		t.Helper()
		w := s.ask(request)
		if w.Code != status {
			t.Fatalf("%s\nanswers %d: %s", request, w.Code, w.Body)
		}
		return w.Body.String()
	}
	do("POST /api/v1/tenants\n\n"+`{"id": "acme", "plan": "premium"}`, 201)
	do("POST /api/v1/plans/premium/versions\n\n"+`{"currency": "EUR", "cadence": {"unit": "month"}, "prices": [{"id": "base", "model": "flat", "amount": "30"}]}`, 201)
	const subscribe = "POST /api/v1/tenants/acme/billing\nIdempotency-Key: k\n\n" + `{"plan": "premium"}`
	first := do(subscribe, 201)
	do("DELETE /api/v1/tenants/acme\nIf-Match: *", 200)
	if again := do(subscribe, 201); again != first {
		t.Errorf("again %s\nfirst %s", again, first)
	}
	do("POST /api/v1/tenants/acme/billing\nIdempotency-Key: other\n\n"+`{"plan": "premium", "id": "other"}`, 409)
	do("POST /api/v1/tenants/nobody/billing\n\n"+`{"plan": "premium"}`, 404)
}
