package api

import (
	"context"
	"net/http"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/invoicing"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

type (
	// PricePath names a plan.
	PricePath struct {
		Plan gatehouse.PlanID `path:"plan" maxLength:"63" doc:"Id of the plan."`
	}
	// VersionPath names a version of a plan.
	VersionPath struct {
		PricePath
		Version int `path:"version" minimum:"1" maximum:"999999" doc:"Number of the version."`
	}
)

func (s *rest) prices() {
	const many = "/api/v1/plans/{plan}/versions"
	priced(s, "listPriceVersions", http.MethodGet, many, "List the versions of a plan with their prices, oldest first", s.listPriceVersions)
	priced(s, "createPriceVersion", http.MethodPost, many, "Add a version of a plan with its prices", s.createPriceVersion, body[billing.Plan](), created)
	priced(s, "getPriceVersion", http.MethodGet, many+"/{version}", "Read a version of a plan", s.getPriceVersion)
	priced(s, "replacePriceVersion", http.MethodPut, many+"/{version}", "Replace a version that nothing has used; If-Match is required", s.replacePriceVersion, body[billing.Plan]())
	priced(s, "replayPrices", http.MethodPost, "/api/v1/plans/{plan}/replay", "What each tenant of a plan would have paid under drafts; nothing is changed", s.replayPrices, body[replayBody]())
}

func (s *rest) listPriceVersions(ctx context.Context, in *PricePath) (*one[items[invoicing.Version]], error) {
	if _, err := s.Plane.Plan(ctx, in.Plan); err != nil {
		return nil, err
	}
	return itemised(s.Accounts.Versions(ctx, in.Plan))
}

func (s *rest) createPriceVersion(ctx context.Context, in *struct {
	PricePath
	Change
	RawBody []byte
},
) (*made[invoicing.Version], error) {
	var body billing.Plan
	m, err := in.read(ctx, in.RawBody, &body)
	if err != nil {
		return nil, err
	}
	v, err := s.Accounts.AddVersion(ctx, in.Plan, body, m)
	return madeOf(v, &v.Meta, err)
}

func (s *rest) getPriceVersion(ctx context.Context, in *VersionPath) (*one[invoicing.Version], error) {
	v, err := s.Accounts.Version(ctx, billing.PlanRef{ID: in.Plan, Version: in.Version})
	return tagged(v, v.Revision, err)
}

func (s *rest) replacePriceVersion(ctx context.Context, in *struct {
	VersionPath
	Change
	RawBody []byte
},
) (*one[invoicing.Version], error) {
	if err := in.required(); err != nil {
		return nil, err
	}
	var body billing.Plan
	m, err := in.read(ctx, in.RawBody, &body)
	if err != nil {
		return nil, err
	}
	v, err := s.Accounts.ReplaceVersion(ctx, billing.PlanRef{ID: in.Plan, Version: in.Version}, body, m)
	return tagged(v, v.Revision, err)
}

type replayBody struct {
	// Drafts are plans with prices; their ids are free.
	Drafts []billing.Plan `json:"drafts"`
	// At lies in the periods that are priced again. Default: a month ago.
	At time.Time `json:"at,omitzero"`
	// All tenants, of whatever plan.
	All bool `json:"all,omitempty"`
}

func (s *rest) replayPrices(ctx context.Context, in *struct {
	PricePath
	Change
	RawBody []byte
},
) (*one[invoicing.Replay], error) {
	var body replayBody
	if _, err := in.read(ctx, in.RawBody, &body); err != nil {
		return nil, err
	}
	if _, err := s.Plane.Plan(ctx, in.Plan); err != nil {
		return nil, err
	}
	plan, drafts := in.Plan, make([]*billing.Plan, len(body.Drafts))
	for i := range body.Drafts {
		if drafts[i] = &body.Drafts[i]; drafts[i].ID == "" {
			drafts[i].ID = in.Plan
		}
		drafts[i].Version = max(drafts[i].Version, i+1)
	}
	if body.All {
		plan = ""
	}
	if body.At.IsZero() {
		body.At = s.Accounts.Now().AddDate(0, -1, 0)
	}
	v, err := s.Accounts.Replay(ctx, plan, drafts, body.At)
	return tagged(v, 0, err)
}

func (s *rest) operator() {
	priced(s, "getRevenue", http.MethodGet, "/api/v1/revenue", "Recurring revenue of a month: bridge, MRR, ARR, ARPU, NRR, GRR, churn, LTV", s.getRevenue)
	priced(s, "getCosts", http.MethodGet, "/api/v1/costs", "What traffic has cost by route, and margins by tenant and plan", s.getCosts)
	priced(s, "getCostSheet", http.MethodGet, "/api/v1/costs/sheet", "What traffic costs the operator", s.getCostSheet)
	priced(s, "setCostSheet", http.MethodPut, "/api/v1/costs/sheet", "Say what traffic costs the operator", s.setCostSheet, body[invoicing.NewCostSheet]())
	priced(s, "listSellers", http.MethodGet, "/api/v1/sellers", "List the legal entities that issue invoices", s.listSellers)
	priced(s, "setSeller", http.MethodPut, "/api/v1/sellers/{seller}", "Create or replace a seller; its id begins the numbers of its invoices", s.setSeller, body[invoicing.NewSeller]())
}

func (s *rest) getRevenue(ctx context.Context, in *struct {
	Month    string `query:"month" pattern:"^\\d{4}-\\d{2}$" doc:"As 2026-01, in UTC. Default: the month that runs."`
	Currency string `query:"currency" minLength:"3" maxLength:"3" default:"EUR" doc:"A code of ISO 4217."`
	Margin   string `query:"margin" maxLength:"20" default:"1" doc:"Gross margin as a fraction, for LTV."`
},
) (*one[invoicing.Revenue], error) {
	var faults gatehouse.Faults
	at := s.Accounts.Now()
	if in.Month != "" {
		var err error
		if at, err = time.Parse("2006-01", in.Month); err != nil {
			faults = append(faults, gatehouse.Fault{Pointer: "/query/month", Reason: "is not a month such as 2026-01"})
		}
	}
	margin, err := billing.ParseDecimal(in.Margin)
	if err != nil || margin.Cmp(billing.Int(1)) > 0 {
		faults = append(faults, gatehouse.Fault{Pointer: "/query/margin", Reason: "is not a fraction of at most 1, such as 0.8"})
	}
	if _, ok := billing.Currency(in.Currency).Places(); !ok {
		faults = append(faults, gatehouse.Fault{Pointer: "/query/currency", Reason: "is not a currency"})
	}
	if err := refusedFaults(faults); err != nil {
		return nil, err
	}
	v, err := s.Accounts.Revenue(ctx, at, billing.Currency(in.Currency), margin)
	return tagged(v, 0, err)
}

func (s *rest) getCosts(ctx context.Context, in *struct {
	From time.Time `query:"from" doc:"Default: a month before to."`
	To   time.Time `query:"to" doc:"Default: now."`
},
) (*one[invoicing.Costs], error) {
	if in.To.IsZero() {
		in.To = s.Accounts.Now().UTC()
	}
	if in.From.IsZero() {
		in.From = in.To.AddDate(0, -1, 0)
	}
	if !in.From.Before(in.To) {
		return nil, faulty("/query/to", "is not after from")
	}
	v, err := s.Accounts.Costs(ctx, billing.Period{Start: in.From.UTC(), End: in.To.UTC()})
	return tagged(v, 0, err)
}

func (s *rest) getCostSheet(ctx context.Context, _ *struct{}) (*one[invoicing.CostSheet], error) {
	v, err := s.Accounts.CostSheet(ctx)
	return tagged(v, v.Revision, err)
}

func (s *rest) setCostSheet(ctx context.Context, in *struct {
	Change
	RawBody []byte
},
) (*one[invoicing.CostSheet], error) {
	var body invoicing.NewCostSheet
	m, err := in.read(ctx, in.RawBody, &body)
	if err != nil {
		return nil, err
	}
	v, err := s.Accounts.SetCostSheet(ctx, body, m)
	return tagged(v, v.Revision, err)
}

func (s *rest) listSellers(ctx context.Context, _ *struct{}) (*one[items[invoicing.Seller]], error) {
	return itemised(s.Accounts.Sellers(ctx))
}

func (s *rest) setSeller(ctx context.Context, in *struct {
	Seller string `path:"seller" maxLength:"8" doc:"Id of the seller: one to eight letters A to Z and digits."`
	Change
	RawBody []byte
},
) (*one[invoicing.Seller], error) {
	var body invoicing.NewSeller
	m, err := in.read(ctx, in.RawBody, &body)
	if err != nil {
		return nil, err
	}
	body.ID = in.Seller
	v, err := s.Accounts.SetSeller(ctx, body, m)
	return tagged(v, v.Revision, err)
}
