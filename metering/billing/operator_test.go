package billing_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

func TestMetrics(t *testing.T) {
	before := map[gatehouse.TenantID]billing.Decimal{"a": dec("100"), "b": dec("50"), "c": dec("50"), "d": dec("0")}
	after := map[gatehouse.TenantID]billing.Decimal{"a": dec("130"), "b": dec("40"), "d": dec("10"), "e": dec("20")}
	b := billing.Bridged(before, after, map[gatehouse.TenantID]bool{"d": true})
	got, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"start":"200","new":"20","reactivated":"10","expansion":"30","contraction":"10","churned":"50","end":"200","start_tenants":3,"end_tenants":4,"lost_tenants":1}`
	if string(got) != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	got, err = json.Marshal(b.Metrics(dec("0.8")))
	if err != nil {
		t.Fatal(err)
	}
	want = `{"mrr":"200","arr":"2400","arpu":"50","nrr":"0.85","grr":"0.7","churn":"1/3","revenue_churn":"0.25","ltv":"120"}`
	if string(got) != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	if m := (billing.Bridge{}).Metrics(dec("1")); m.NRR != nil || m.LTV != nil || m.ARPU != nil {
		t.Errorf("ratios of nothing: %+v", m)
	}
}

func TestRecurringRevenueOfASubscription(t *testing.T) {
	p := plan(t, strings.Replace(premium, `{"unit":"month"}`, `{"unit":"year"}`, 1))
	s := billing.Subscription{Plan: p.Ref(), Start: at("2026-01-01T00:00:00Z"), Quantities: map[string]billing.Decimal{"seats": dec("4")}, Discounts: []billing.Discount{{ID: "x", Percent: dec("50"), Prices: []string{"seats"}}, {ID: "once", Percent: dec("90"), Times: 1}}}
	if got := s.MRR(book(p), s.At(s.Start)); got.Cmp(dec("3.33")) != 0 { // (30 + 20/2) / 12
		t.Errorf("got %s", got)
	}
	s.Pauses = []billing.Period{{Start: s.Start}}
	if got := s.MRR(book(p), s.At(s.Start)); got.Sign() != 0 {
		t.Errorf("paused: got %s", got)
	}
}

func TestCostAndMargin(t *testing.T) {
	sheet := billing.CostSheet{
		CostRates: billing.CostRates{ComputeHour: dec("0.36"), EgressGB: dec("0.1"), IngressGB: dec("0.01"), Call: dec("0.001")},
		Routes:    map[string]billing.CostRates{"acme/llm": {Call: dec("0.5")}}, Tenant: dec("2"),
	}
	on := func(route, meter string, n int64) metering.Cell {
		c := cell("2026-01-05T00:00:00Z", meter, n)
		c.Series.Route = gatehouse.RouteID(route)
		return c
	}
	cells := []metering.Cell{
		on("api", metering.MeterCompute, 36_000_000), on("api", metering.MeterBytesOut, 5_000_000_000), on("api", metering.MeterBytesIn, 1_000_000_000), on("api", metering.MeterBillable, 1000),
		on("llm", metering.MeterBillable, 3), on("llm", metering.MeterRequests, 99), cell("2026-02-01T00:00:00Z", metering.MeterBillable, 1000),
	}
	january := billing.Period{Start: at("2026-01-01T00:00:00Z"), End: at("2026-02-01T00:00:00Z")}
	rows := sheet.Cost(append(cells, cells...), january)
	got := ""
	for _, r := range rows {
		got += fmt.Sprintf("%s/%s %s+%s+%s+%s=%s\n", r.Tenant, r.Route, r.Compute, r.Egress, r.Ingress, r.Calls, r.Cost)
	}
	if want := "acme/api 0.0036+0.5+0.01+1=1.5136\nacme/llm 0+0+0+1.5=1.5\n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	draft := simple("99")
	tenants, plans := sheet.Margins(rows, []billing.Invoice{finalize(t, simple("10"), 1, ""), draft}, map[gatehouse.TenantID]gatehouse.PlanID{"acme": "premium", "idle": "free"})
	text, err := json.Marshal([]any{tenants, plans})
	if err != nil {
		t.Fatal(err)
	}
	want := `[[{"of":"acme","revenue":"10","cost":"5.0136","margin":"4.9864","ratio":"0.49864"},{"of":"idle","revenue":"0","cost":"2","margin":"-2"}],` +
		`[{"of":"free","revenue":"0","cost":"2","margin":"-2"},{"of":"premium","revenue":"10","cost":"5.0136","margin":"4.9864","ratio":"0.49864"}]]`
	if string(text) != want {
		t.Errorf("got %s\nwant %s", text, want)
	}
}

func TestReplay(t *testing.T) {
	p := plan(t, premium)
	cheap, dear := plan(t, free), plan(t, strings.Replace(free, "0.01", "1", 1))
	dear.ID = "dear"
	past := []billing.Past{
		{Subscription: &billing.Subscription{ID: "s1", Tenant: "acme", Plan: p.Ref(), Start: at("2026-01-01T00:00:00Z")}, Cells: []metering.Cell{cell("2026-01-05T00:00:00Z", "requests", 2000)}},
		{Subscription: &billing.Subscription{ID: "s2", Tenant: "none", Plan: p.Ref(), Start: at("2026-01-01T00:00:00Z")}},
	}
	rows, err := billing.Replay(book(p), []*billing.Plan{dear, cheap}, past, 0)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(rows)
	if err != nil {
		t.Fatal(err)
	}
	want := `[{"tenant":"acme","paid":"50","would":["1000","10"],"best":1,"saves":"40"},{"tenant":"none","paid":"35","would":["0","0"],"best":0,"saves":"35"}]`
	if string(text) != want {
		t.Errorf("got %s\nwant %s", text, want)
	}
	dollars := *cheap
	dollars.Currency = "USD"
	if _, err := billing.Replay(book(p), []*billing.Plan{&dollars}, past, 0); gatehouse.CodeOf(err) != gatehouse.CodeInvalid {
		t.Errorf("another currency: %v", err)
	}
}
