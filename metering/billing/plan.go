package billing

import (
	"strconv"

	"github.com/gatehouse-gateway/gatehouse"
)

// PlanRef names a version of a plan.
type PlanRef struct {
	ID gatehouse.PlanID `json:"id"`
	// Version counts from 1.
	Version int `json:"version"`
}

// String returns the id and the version: premium/3.
func (r PlanRef) String() string { return string(r.ID) + "/" + strconv.Itoa(r.Version) }

// Plan is one version of a commercial plan. It does not change once a
// subscription has used it: other prices make another version.
type Plan struct {
	ID gatehouse.PlanID `json:"id"`
	// Version counts from 1.
	Version int `json:"version"`
	// Name is for people. Default: the id.
	Name string `json:"name,omitempty"`
	// Currency of all prices.
	Currency Currency `json:"currency"`
	// Cadence is how long a billing period is.
	Cadence Cadence `json:"cadence"`
	// TrialDays is how many days, of the tenant's calendar, recurring fees are
	// not charged for; usage is, unless TrialUsage is free.
	TrialDays  int        `json:"trial_days,omitempty"`
	TrialUsage TrialUsage `json:"trial_usage,omitempty"`
	// Proration measures parts of periods. Default seconds.
	Proration Proration `json:"proration,omitempty"`
	// Rounding of lines: half_up (default) or half_even.
	Rounding Rounding `json:"rounding,omitempty"`
	// Prices are charged in this order.
	Prices []Price `json:"prices"`
	// Minimum is the least that lines come to in a period, after discounts and
	// before tax; what is missing becomes a line.
	Minimum Decimal `json:"minimum,omitzero"`
	// Taxes are on every line for which the tax hook says nothing else.
	Taxes []Tax `json:"taxes,omitempty"`
	// TaxIncluded says that prices contain the tax.
	TaxIncluded bool `json:"tax_included,omitempty"`
	// Entitlements are what a subscriber may use.
	Entitlements []Entitlement `json:"entitlements,omitempty"`
	// Interrupted says whether requests cut by the end of a gateway are waived
	// (default) or billed.
	Interrupted Interrupted `json:"interrupted,omitempty"`
}

// TrialUsage says whether usage in a trial is charged.
type TrialUsage string

// The ways to charge usage in a trial.
const (
	// TrialBilled charges usage in a trial. The default.
	TrialBilled TrialUsage = "billed"
	// TrialFree does not.
	TrialFree TrialUsage = "free"
)

// Interrupted is a policy for requests that were counted but not answered
// whole.
type Interrupted string

// The policies for interrupted requests.
const (
	// Waive takes them off the billable requests.
	Waive Interrupted = "waive"
	// Bill charges them.
	Bill Interrupted = "bill"
)

// Ref names this version.
func (p *Plan) Ref() PlanRef { return PlanRef{p.ID, p.Version} }

// Price returns the price of that id, or nil.
func (p *Plan) Price(id string) *Price {
	for i := range p.Prices {
		if p.Prices[i].ID == id {
			return &p.Prices[i]
		}
	}
	return nil
}

// Book is the versions of plans that a calculation may need.
type Book map[PlanRef]*Plan
