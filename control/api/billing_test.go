package api

import (
	"bytes"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse/metering"
)

// till is the clock of billing.
type till struct {
	mu  sync.Mutex
	now time.Time // guarded by mu
}

func (c *till) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *till) set(t testing.TB, day string) {
	t.Helper()
	at, err := time.Parse(time.DateOnly, day)
	if err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = at
}

// TestBilling goes through every operation that is about money.
func TestBilling(t *testing.T) {
	s := start(t, "")
	clock := s.billAt("2026-01-01")
	use := func(minute string, n int64) {
		t.Helper()
		at, err := time.Parse(time.RFC3339, minute)
		if err != nil {
			t.Fatal(err)
		}
		epoch := metering.Epoch{Counter: 1}
		if err := s.ledger.Write(t.Context(), metering.Batch{
			Cells: []metering.Cell{{Gateway: "gw", Epoch: epoch, Window: at, Meter: "requests", Value: n, Series: metering.SeriesKey{Tenant: "acme", Route: "r"}}},
			Seals: []metering.Seal{{Gateway: "gw", Epoch: epoch, Window: at}},
		}); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]bool{}
	do := func(request string, status int, want ...string) {
		t.Helper()
		w := s.ask(request)
		got := w.Body.String()
		if w.Code != status {
			t.Fatalf("%s\nanswers %d: %s", request, w.Code, got)
		}
		for _, part := range want {
			if !strings.Contains(got, part) {
				t.Errorf("%s\nno %s in %s", request, part, got)
			}
		}
		first, _, _ := strings.Cut(request, "\n")
		method, path, _ := strings.Cut(first, " ")
		path, _, _ = strings.Cut(path, "?")
		seen[method+" "+path] = true
	}
	const b = "/api/v1/tenants/acme/billing"
	do("POST /api/v1/tenants\n\n"+`{"id": "acme", "plan": "premium"}`, 201)
	do("GET "+b+"/", 200, `"subscriptions":[]`)
	do("POST "+b+"\n\n"+`{"plan": "premium"}`, 422, `"/plan"`, "no prices yet")
	prices := `{"currency": "EUR", "cadence": {"unit": "month"}, "entitlements": [{"feature": "calls", "meter": "requests", "limit": "10"}], "prices": [
		{"id": "base", "model": "flat", "amount": "30", "advance": true}, {"id": "calls", "meter": "requests", "model": "per_unit", "amount": "0.5"}]}`
	do("POST /api/v1/plans/premium/versions\n\n"+strings.Replace(prices, `"0.5"`, `"0.0000000000001"`, 1), 422, `"/prices/1/amount"`)
	do("POST /api/v1/plans/none/versions\n\n"+prices, 404)
	do("POST /api/v1/plans/premium/versions\n\n"+prices, 201, `"version":1`)
	do("PUT /api/v1/plans/premium/versions/1\n\n"+prices, 428)
	do("PUT /api/v1/plans/premium/versions/1\nIf-Match: *\n\n"+prices, 200)
	do("GET /api/v1/plans/premium/versions/1", 200, `"amount":"30"`)
	do("GET /api/v1/plans/premium/versions", 200, `"items":[{`)
	do("PUT /api/v1/sellers/AC\n\n"+`{"party": {"name": "Acme Gateways", "country": "IT", "vat": "IT1"}, "due_days": 30}`, 200)
	do("GET /api/v1/sellers", 200, `"id":"AC"`)
	do("PUT "+b+"/customer\n\n"+`{"seller": "XX", "party": {"name": "Acme"}}`, 422, `"/seller"`)
	do("PUT "+b+"/customer\n\n"+`{"seller": "AC", "party": {"name": "Acme & Sons", "country": "DE"}}`, 200)
	do("GET "+b+"/customer", 200, `"seller":"AC"`)
	do("POST /api/v1/webhooks\n\n"+`{"id": "erp", "url": "https://erp.test/hook"}`, 201, `"secret":"whsec_`)
	do("POST "+b+"/credits\n\n"+`{"currency": "EUR", "id": "gift", "amount": "5"}`, 201, `"usable":[{"id":"gift"`)
	do("POST "+b+"\n\n"+`{"plan": "premium"}`, 201, `"state":"active"`)
	do("POST "+b+"?dry_run=true\n\n"+`{"plan": "premium", "id": "two"}`, 200, `"preview"`)
	do("GET "+b+"/subscriptions/main", 200, `"next_period":0`)
	do("GET "+b, 200, `"customer"`, `"main"`, `"gift"`)
	do("PUT "+b+"/alerts/quota\n\n"+`{"watch": "usage", "feature": "calls"}`, 200)
	do("GET "+b+"/alerts", 200, `"quota"`)
	do("POST "+b+"/invoices\n\n"+`{"kind": "opening"}`, 201, `"number":"AC-2026-000001"`, `"due":"25"`)
	if got := s.ask("GET " + b + "/invoices").Body.String(); strings.Contains(got, "warnings") {
		t.Error("an invoice with a seller has warnings:", got)
	}
	do("POST "+b+"/invoices\n\n"+`{"kind": "opening"}`, 409)
	use("2026-01-31T23:59:00Z", 14)
	twice := `{"id": "twice", "meter": "requests", "time": "2026-01-31T23:59:00Z", "value": "-2", "reason": "counted twice"}`
	do("POST "+b+"/adjustments\n\n"+strings.Replace(twice, `"-2"`, `"-15"`, 1), 422, `"/value"`, "takes back 15")
	do("POST "+b+"/adjustments?dry_run=true\n\n"+twice, 200, `"value":"-2"`)
	do("POST "+b+"/adjustments\n\n"+strings.Replace(twice, `"-2"`, `"-12"`, 1), 201, `"approver":"token:bootstrap"`)
	do("POST "+b+"/adjustments\n\n"+strings.Replace(twice, `"-2"`, `"-12"`, 1), 201) // though as much is no longer there
	do("POST "+b+"/adjustments\n\n"+twice, 409)
	do("POST "+b+"/adjustments\n\n"+strings.NewReplacer("-2", "10", "twice", "back").Replace(twice), 201)
	do("GET "+b+"/preview", 200, `"status":"draft"`, `"due":"36"`)
	do("GET "+b+"/preview?kind=correction", 409, "charged by the next invoice")
	do("GET "+b+"/drafts", 200, `"due":"36"`)
	do("POST "+b+"/invoices\n\n{}", 409, "has not ended")
	do("POST "+b+"/subscriptions/main/pause\n\n"+`{"at": "2026-01-10T00:00:00Z", "until": "2026-01-05T00:00:00Z"}`, 422, `"/until"`)
	do("POST "+b+"/subscriptions/main/pause?dry_run=true", 200)
	do("POST "+b+"/subscriptions/main/resume", 409)
	do("POST "+b+"/subscriptions/main/changes?dry_run=true\n\n"+`{"plan": "premium", "at": "2026-01-15T00:00:00Z", "quantities": {"base": "2"}}`, 200)
	do("POST "+b+"/subscriptions/main/discounts\n\n"+`{"id": "d", "percent": "10"}`, 200)
	do("POST "+b+"/subscriptions/main/cancel?dry_run=true\n\n"+`{"period_end": true}`, 200, `"end":"2026-02-01T00:00:00Z"`)
	clock.set(t, "2026-02-01")
	do("GET "+b+"/entitlements", 200, `"has_access":true`)
	do("GET "+b+"/entitlements/calls?want=11", 200, `"has_access":false`, `"reset_at":"2026-03-01T00:00:00Z"`)
	do("POST "+b+"/invoices\nIdempotency-Key: k\n\n{}", 201, `"number":"AC-2026-000002"`, `"due":"32.4"`)
	do("POST "+b+"/invoices\nIdempotency-Key: k\n\n{}", 201, `"number":"AC-2026-000002"`)
	do("GET "+b+"/invoices", 200, `"AC-2026-000001"`)
	do("GET "+b+"/late", 200, `"items":[]`)
	do("GET "+b+"/entries", 200, `"AC-2026-000001/issued"`, `"account":"receivable"`)
	do("GET /api/v1/invoices?status=finalized", 200, `"AC-2026-000002"`)
	do("GET /api/v1/invoices/verify?seller=AC", 200, `"invoices":2}`)
	do("GET /api/v1/billing/differences", 200, `{"items":[],"subscriptions":1,"lines":1}`)
	do("GET /api/v1/billing/differences?tenant=acme&from=2026-02-01T00:00:00Z", 200, `"subscriptions":1,"lines":0}`)
	do("GET /api/v1/billing/differences?tenant=none", 404)
	do("GET /api/v1/billing/differences?cursor=x", 400)
	const two = b + "/invoices/AC-2026-000002"
	do("POST "+two+"/marks?dry_run=true\n\n"+`{"status": "paid", "ref": "tr_1"}`, 200, `"paid":"32.4"`, `"left":"0"`)
	frozen := s.ask("GET " + two + "?format=json").Body.String()
	do("POST "+two+"/marks\nIf-Match: *\n\n"+`{"status": "paid", "ref": "tr_0", "amount": "20"}`, 200, `"due":"32.4"`, `"amount":"20"`, `"paid":"20"`, `"left":"12.4"`)
	do("GET "+two, 200, `"due":"32.4"`, `"payments":[{"amount":"20"`, `"paid":"20"`, `"left":"12.4"`)
	do("GET "+b+"/invoices", 200, `"paid":"20"`, `"left":"12.4"`)
	do("GET /api/v1/invoices?number=AC-2026-000002", 200, `"paid":"20"`, `"left":"12.4"`)
	if got := s.ask("GET " + two + "?format=json").Body.String(); got != frozen {
		t.Errorf("a payment changes the document: %s, before %s", got, frozen)
	}
	do("GET "+two, 200, `"hash":`)
	if got := s.ask("GET " + two).Body.String(); strings.Contains(got, "warnings") {
		t.Error("an invoice with a seller has warnings:", got)
	}
	do("POST "+two+"/marks\nIf-Match: \"1\"\n\n"+`{"status": "paid"}`, 412)
	if etag := s.ask("GET " + two).Header().Get("ETag"); s.ask("POST "+two+"/marks?dry_run=true\nIf-Match: "+etag+"\n\n"+`{"status": "paid"}`).Code != 200 {
		t.Errorf("the ETag %s does not serve a mark", etag)
	}
	do("GET "+two+"\nAccept: text/csv", 200, "calls,")
	do("GET "+two+"?format=html", 200, "Acme &amp; Sons")
	do("GET "+two+"\nAccept: application/pdf", 200, "%PDF-1.")
	do("GET "+two+"?format=ubl", 200, "<Invoice")
	do("GET "+two+"?format=word", 422)
	do("POST "+two+"/marks\n\n"+`{"status": "lost"}`, 422, `"/status"`)
	do("POST "+two+"/marks\n\n"+`{"status": "paid", "ref": "tr_1"}`, 200, `"status":"paid"`)
	do("POST "+two+"/marks\n\n"+`{"status": "void"}`, 409)
	do("POST "+b+"/credit-notes\n\n"+`{"invoice": "AC-2026-000002", "reason": "outage"}`, 201, `"number":"AC-CN-2026-000001"`, `"total":"32.4"`)
	do("GET "+b+"/credit-notes", 200, `"AC-CN-2026-000001"`)
	do("GET "+b+"/credit-notes/AC-CN-2026-000001?format=ubl", 200, "<CreditNote")
	do("PUT /api/v1/costs/sheet\n\n"+`{"currency": "EUR", "call": "0.1", "routes": {"acme/r": {"call": "0.2"}}}`, 200)
	do("PUT /api/v1/costs/sheet\n\n"+`{"currency": "EUR", "routes": {"acme/r": {"call": "-1"}}}`, 422, `"/routes/acme~1r/call"`)
	do("PUT /api/v1/costs/sheet\n\n"+`{"currency": "EUR", "preview": {"changes": [{"parts": [{"before": 1}]}]}}`, 422, `"/preview"`)
	do("GET /api/v1/costs/sheet", 200, `"call":"0.1"`)
	do("GET /api/v1/costs?from=2026-01-01T00:00:00Z&to=2026-02-01T00:00:00Z", 200, `"plans":[{`)
	do("GET /api/v1/costs?from=2026-02-01T00:00:00Z&to=2026-01-01T00:00:00Z", 422, `"/query/to"`)
	do("GET /api/v1/revenue?month=2026-01", 200, `"mrr":"27"`, `"new":"27"`)
	do("POST /api/v1/plans/premium/replay\n\n"+`{"at": "2026-01-20T00:00:00Z", "drafts": [`+strings.Replace(prices, `"0.5"`, `"0.1"`, 1)+`]}`, 200, `"best":0`, `"saves":"4.8"`)
	use("2026-01-31T23:58:00Z", 2) // it comes late: the invoice is of other cells
	do("GET /api/v1/billing/differences", 200, `"tenant":"acme","subscription":"main","kind":"adjustment","invoice":"AC-2026-000002"`, `"price":"calls"`, `"quantity":"2","amount":"0.9","currency":"EUR","cells":2`)
	do("POST /api/v1/webhooks/erp/rotate", 200, `"secret":"whsec_`)
	do("POST /api/v1/webhooks/erp/rotate?dry_run=true", 200, `"preview"`)
	do("POST /api/v1/webhooks/erp/disable\n\n"+`{"reason": ""}`, 422, `"/reason"`)
	do("POST /api/v1/webhooks/erp/disable\n\n"+`{"reason": "moves"}`, 200, `"disabled":"moves"`)
	do("GET /api/v1/webhooks/erp", 200, `"disabled":"moves"`)
	do("POST /api/v1/webhooks/erp/deliveries/1/retry", 409)
	do("POST /api/v1/webhooks/erp/enable", 200)
	do("POST /api/v1/webhooks/erp/deliveries/1/retry", 404)
	do("POST /api/v1/webhooks?dry_run=true\n\n"+`{"id": "erp", "url": "https://erp.test/hook"}`, 409)
	do("POST /api/v1/webhooks\n\n"+`{"id": "x", "url": "https://erp.test/hook", "tenant": "none"}`, 422, `"/tenant"`)
	do("GET /api/v1/webhooks", 200, `"erp"`)
	do("GET /api/v1/webhooks/erp/deliveries", 200, `"items":[]`)
	do("DELETE /api/v1/webhooks/erp?dry_run=true", 200, `"changes":[]`)
	do("DELETE /api/v1/webhooks/erp\nIf-Match: \"1\"", 412)
	do("DELETE /api/v1/webhooks/erp?dry_run=true\nIf-Match: \"1\"", 412)
	do("DELETE /api/v1/webhooks/erp", 204)
	do("DELETE "+b+"/alerts/quota", 204)
	do("DELETE "+b+"/alerts/quota", 404)
	do("GET /api/v1/tenants/none/billing", 404)
	for _, op := range operations(newREST(s.parts).api.OpenAPI()) {
		if !strings.Contains(op.path, "/billing") && !strings.Contains(op.path, "/versions") && !strings.Contains(op.path, "/webhooks") {
			continue
		}
		path := strings.NewReplacer("{tenant}", "acme", "{subscription}", "main", "{invoice}", "AC-2026-000002", "{note}", "AC-CN-2026-000001", "{alert}", "quota", "{plan}", "premium", "{version}", "1", "{webhook}", "erp", "{event}", "1", "{feature}", "calls").Replace(op.path)
		if !seen[op.method+" "+path] && !seen[op.method+" "+path+"/"] {
			t.Errorf("%s is not tried", op.OperationID)
		}
	}
	text, err := newREST(s.parts).openAPIText()
	if err != nil || !bytes.Contains(text, []byte(`"BillingPlan"`)) {
		t.Error(err)
	}
	if w := s.ask("GET /api/v1/tenants/acme/billing\nAuthorization: Bearer none"); w.Code != http.StatusUnauthorized {
		t.Error(w.Code)
	}
}
