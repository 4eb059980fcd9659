package billing

import (
	"cmp"
	"slices"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering"
)

// CostRates are what the operator pays, in money.
type CostRates struct {
	// ComputeHour is for an hour of backends' time, EgressGB for 10^9 bytes of
	// answers, IngressGB of requests, Call for one request that a backend
	// answered.
	ComputeHour Decimal `json:"compute_hour,omitzero"`
	EgressGB    Decimal `json:"egress_gb,omitzero"`
	IngressGB   Decimal `json:"ingress_gb,omitzero"`
	Call        Decimal `json:"call,omitzero"`
}

// CostSheet is what traffic costs the operator.
type CostSheet struct {
	CostRates
	// Routes replace all rates for single routes, by "tenant/route".
	Routes map[string]CostRates `json:"routes,omitempty"`
	// Tenant is a fixed cost per tenant and period.
	Tenant Decimal `json:"tenant,omitzero"`
}

func (s *CostSheet) rates(tenant gatehouse.TenantID, route gatehouse.RouteID) CostRates {
	if r, ok := s.Routes[string(tenant)+"/"+string(route)]; ok {
		return r
	}
	return s.CostRates
}

// CostRow is what one route of one tenant cost, exact.
type CostRow struct {
	Tenant gatehouse.TenantID `json:"tenant"`
	Route  gatehouse.RouteID  `json:"route"`
	// Compute, Egress, Ingress and Calls are the parts of Cost.
	Compute Decimal `json:"compute"`
	Egress  Decimal `json:"egress"`
	Ingress Decimal `json:"ingress"`
	Calls   Decimal `json:"calls"`
	Cost    Decimal `json:"cost"`
}

// Cost returns what the cells within a period cost, by tenant and route, in
// that order.
func (s *CostSheet) Cost(cells []metering.Cell, period Period) []CostRow {
	at := map[[2]string]int{}
	var rows []CostRow
	for _, c := range Fold(cells) {
		if !period.Has(c.Window) {
			continue
		}
		key := [2]string{string(c.Series.Tenant), string(c.Series.Route)}
		i, ok := at[key]
		if !ok {
			i = len(rows)
			at[key] = i
			rows = append(rows, CostRow{Tenant: c.Series.Tenant, Route: c.Series.Route})
		}
		row, rates, n := &rows[i], s.rates(c.Series.Tenant, c.Series.Route), Int(c.Value)
		switch c.Meter {
		case metering.MeterCompute:
			row.Compute = row.Compute.Add(n.Mul(rates.ComputeHour).Div(Int(3_600_000_000)))
		case metering.MeterBytesOut:
			row.Egress = row.Egress.Add(n.Mul(rates.EgressGB).Div(Int(1_000_000_000)))
		case metering.MeterBytesIn:
			row.Ingress = row.Ingress.Add(n.Mul(rates.IngressGB).Div(Int(1_000_000_000)))
		case metering.MeterBillable:
			row.Calls = row.Calls.Add(n.Mul(rates.Call))
		}
	}
	for i := range rows {
		r := &rows[i]
		r.Cost = Sum(r.Compute, r.Egress, r.Ingress, r.Calls)
	}
	slices.SortFunc(rows, func(a, b CostRow) int {
		return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Route, b.Route))
	})
	return rows
}

// Margin is what is left of revenue after cost, for a tenant or a plan.
type Margin struct {
	// Of is the id of a tenant or plan. Margin is Revenue less Cost.
	Of      string  `json:"of"`
	Revenue Decimal `json:"revenue"`
	Cost    Decimal `json:"cost"`
	Margin  Decimal `json:"margin"`
	// Ratio is Margin over Revenue; absent without revenue.
	Ratio *Decimal `json:"ratio,omitempty"`
}

// Margins sets the revenue of invoices, before tax, against the cost of the
// same period, by tenant and by plan. The cost of a tenant goes to its plan as
// plans say. Both lists are in order of name; void and draft invoices do not
// count.
func (s *CostSheet) Margins(rows []CostRow, invoices []Invoice, plans map[gatehouse.TenantID]gatehouse.PlanID) (tenants, byPlan []Margin) {
	revenue, cost := map[string]Decimal{}, map[string]Decimal{}
	for tenant := range plans {
		cost[string(tenant)] = s.Tenant
	}
	for _, r := range rows {
		cost[string(r.Tenant)] = cost[string(r.Tenant)].Add(r.Cost)
	}
	for _, inv := range invoices {
		if inv.Status != Void && inv.Status != Drafted {
			revenue[string(inv.Tenant)] = revenue[string(inv.Tenant)].Add(inv.Subtotal)
			cost[string(inv.Tenant)] = cost[string(inv.Tenant)].Add(Decimal{})
		}
	}
	planRevenue, planCost := map[string]Decimal{}, map[string]Decimal{}
	for _, tenant := range sorted(cost) {
		plan := string(plans[gatehouse.TenantID(tenant)])
		planRevenue[plan], planCost[plan] = planRevenue[plan].Add(revenue[tenant]), planCost[plan].Add(cost[tenant])
	}
	return margins(revenue, cost), margins(planRevenue, planCost)
}

func margins(revenue, cost map[string]Decimal) []Margin {
	var out []Margin
	for _, of := range sorted(cost) {
		m := Margin{Of: of, Revenue: revenue[of], Cost: cost[of], Margin: revenue[of].Sub(cost[of])}
		m.Ratio = ratio(m.Margin, m.Revenue)
		out = append(out, m)
	}
	return out
}
