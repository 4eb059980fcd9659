package api

import "testing"

// What is asked of a thing that does not exist is 404, and not an empty list;
// a tenant that exists and has nothing yet has empty lists, and so has one that is
// purged and whose books are kept.
func TestBillingOfNothing(t *testing.T) {
	s := start(t, "")
	s.billAt("2026-01-01")
	s.made("POST /api/v1/tenants\n\n" + `{"id": "own"}`)
	s.made("POST /api/v1/webhooks\n\n" + `{"id": "erp", "url": "https://erp.test/"}`)
	s.made("POST /api/v1/webhooks\n\n" + `{"id": "mine", "url": "https://erp.test/", "tenant": "own"}`)
	const draft = `{"drafts": [{"currency": "EUR", "cadence": {"unit": "month"}, "prices": []}]`
	for request, want := range map[string]int{
		"GET /api/v1/webhooks/none/deliveries":                          404,
		"GET /api/v1/webhooks/erp/deliveries":                           200,
		"GET /api/v1/webhooks/mine/deliveries":                          404,
		"GET /api/v1/webhooks/mine/deliveries?tenant=own":               200,
		"GET /api/v1/webhooks/erp/deliveries?tenant=own":                404,
		"GET /api/v1/webhooks?tenant=none":                              404,
		"GET /api/v1/webhooks?tenant=own":                               200,
		"POST /api/v1/plans/none/replay\n\n" + draft + "}":              404,
		"POST /api/v1/plans/none/replay\n\n" + draft + `, "all": true}`: 404,
		"POST /api/v1/plans/free/replay\n\n" + draft + "}":              200,
		"GET /api/v1/plans/none/versions":                               404,
		"GET /api/v1/plans/none/versions/1":                             404,
		"GET /api/v1/invoices/verify?seller=NONE":                       404,
		"GET /api/v1/invoices/verify":                                   200,
		"GET /api/v1/billing/differences?tenant=none":                   404,
	} {
		if w := s.ask(request); w.Code != want {
			t.Errorf("%s answers %d, want %d: %s", request, w.Code, want, w.Body)
		}
	}
	for _, tenant := range []string{"kept", "gone"} {
		s.made("POST /api/v1/tenants\n\n" + `{"id": "` + tenant + `"}`)
		if tenant == "kept" {
			s.made("POST /api/v1/tenants/kept/billing/credits\n\n" + `{"id": "gift", "amount": "5", "currency": "EUR"}`)
		}
		s.made("DELETE /api/v1/tenants/" + tenant)
		s.made("POST /api/v1/tenants/" + tenant + "/purge")
	}
	for _, list := range []string{"", "/drafts", "/invoices", "/invoices?status=paid", "/credit-notes", "/late", "/entries", "/alerts"} {
		for tenant, want := range map[string]int{"none": 404, "own": 200, "kept": 200, "gone": 404} {
			if w := s.ask("GET /api/v1/tenants/" + tenant + "/billing" + list); w.Code != want {
				t.Errorf("%s of %s answers %d, want %d: %s", list, tenant, w.Code, want, w.Body)
			}
		}
	}
}
