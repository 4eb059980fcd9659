package invoicing

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

// NewCostSheet is what traffic costs the operator.
type NewCostSheet struct {
	billing.CostSheet
	Currency billing.Currency `json:"currency"`
}

// CostSheet is the one that is stored.
type CostSheet struct {
	NewCostSheet
	control.Meta
}

// Costs are what traffic of a span has cost, and what is left of its revenue.
type Costs struct {
	Currency billing.Currency  `json:"currency"`
	Period   billing.Period    `json:"period"`
	Routes   []billing.CostRow `json:"routes"`
	// Tenants and Plans set the invoices whose period ended in the span against
	// the costs.
	Tenants []billing.Margin `json:"tenants"`
	Plans   []billing.Margin `json:"plans"`
}

var costSheetRef = journal.Ref{Kind: kindCostSheet, ID: "costs"}

// SetCostSheet says what traffic costs.
func (a *Accounts) SetCostSheet(ctx context.Context, doc NewCostSheet, m control.Mutation) (CostSheet, error) {
	var faults gatehouse.Faults
	if _, ok := doc.Currency.Places(); !ok {
		faults = append(faults, gatehouse.Fault{Pointer: "/currency", Reason: "is not a currency", Hint: "a code of ISO 4217 in upper case, such as EUR"})
	}
	faults = append(faults, rateFaults("", doc.CostRates)...)
	for _, route := range slices.Sorted(maps.Keys(doc.Routes)) {
		faults = append(faults, rateFaults(gatehouse.Pointer("routes", route), doc.Routes[route])...)
	}
	if err := invalid(faults); err != nil {
		return CostSheet{}, err
	}
	out, meta, err := commit[CostSheet](ctx, a, m, event{kind: "cost-sheet.set", main: kindCostSheet}, func(c *change) error {
		if _, err := c.read(ctx, costSheetRef, &CostSheet{}); err != nil {
			return err
		}
		if err := c.match(&m, costSheetRef); err != nil {
			return err
		}
		c.put(costSheetRef, CostSheet{NewCostSheet: doc})
		return nil
	})
	out.Meta = meta
	return out, err
}

func rateFaults(at string, r billing.CostRates) gatehouse.Faults {
	var fs gatehouse.Faults
	for name, d := range map[string]billing.Decimal{"compute_hour": r.ComputeHour, "egress_gb": r.EgressGB, "ingress_gb": r.IngressGB, "call": r.Call} {
		if d.Sign() < 0 || d.Cmp(billing.Int(maxAmount)) > 0 {
			fs = append(fs, gatehouse.Fault{Pointer: at + gatehouse.Pointer(name), Reason: "must be between 0 and 10^15"})
		}
	}
	slices.SortFunc(fs, func(x, y gatehouse.Fault) int { return cmp.Compare(x.Pointer, y.Pointer) })
	return fs
}

// CostSheet returns what traffic costs.
func (a *Accounts) CostSheet(ctx context.Context) (CostSheet, error) {
	v, meta, err := get[CostSheet](ctx, a, costSheetRef)
	v.Meta = meta
	return v, err
}

// costChunk bounds the cells that are held at once.
const costChunk = 100_000

// Costs computes what traffic of a span has cost by the sheet in force.
func (a *Accounts) Costs(ctx context.Context, span billing.Period) (Costs, error) {
	out := Costs{Period: span, Routes: []billing.CostRow{}}
	if span.Empty() {
		return out, fault("/to", "is not after from", "")
	}
	sheet, err := a.CostSheet(ctx)
	if err != nil {
		return out, err
	}
	out.Currency = sheet.Currency
	if out.Routes, err = a.costRows(ctx, &sheet.CostSheet, span); err != nil {
		return out, err
	}
	invoices, plans, err := a.earned(ctx, span, sheet.Currency)
	if err != nil {
		return out, err
	}
	out.Tenants, out.Plans = sheet.Margins(out.Routes, invoices, plans)
	return out, nil
}

// costRows adds up the costs of the ledger's cells, a part of them at a time.
func (a *Accounts) costRows(ctx context.Context, sheet *billing.CostSheet, span billing.Period) ([]billing.CostRow, error) {
	type place struct {
		tenant gatehouse.TenantID
		route  gatehouse.RouteID
	}
	sums := map[place]billing.CostRow{}
	var cells []metering.Cell
	flush := func() {
		for _, r := range sheet.Cost(billing.Fold(cells), span) {
			s := sums[place{r.Tenant, r.Route}]
			sums[place{r.Tenant, r.Route}] = billing.CostRow{
				Tenant: r.Tenant, Route: r.Route, Compute: s.Compute.Add(r.Compute), Egress: s.Egress.Add(r.Egress),
				Ingress: s.Ingress.Add(r.Ingress), Calls: s.Calls.Add(r.Calls), Cost: s.Cost.Add(r.Cost),
			}
		}
		cells = cells[:0]
	}
	for c, err := range a.Usage.Cells(ctx, minute(span.Start), minute(span.End)) {
		if err != nil {
			return nil, fmt.Errorf("read usage: %w", err)
		}
		if cells = append(cells, c); len(cells) == costChunk {
			flush()
		}
	}
	flush()
	rows := make([]billing.CostRow, 0, len(sums))
	for _, r := range sums {
		rows = append(rows, r)
	}
	slices.SortFunc(rows, func(x, y billing.CostRow) int {
		return cmp.Or(cmp.Compare(x.Tenant, y.Tenant), cmp.Compare(x.Route, y.Route))
	})
	return rows, nil
}

// earned returns the invoices whose period ended within a span, and the plan
// that each tenant had at its end.
func (a *Accounts) earned(ctx context.Context, span billing.Period, currency billing.Currency) ([]billing.Invoice, map[gatehouse.TenantID]gatehouse.PlanID, error) {
	var invoices []billing.Invoice
	for r, err := range a.Store.All(ctx, kindInvoice) {
		if err != nil {
			return nil, nil, coded(err)
		}
		var inv Invoice
		if err := decode(&r, &inv); err != nil {
			return nil, nil, err
		}
		if end := inv.Period.End; inv.Currency == currency && end.After(span.Start) && !end.After(span.End) {
			invoices = append(invoices, inv.Invoice)
		}
	}
	plans := map[gatehouse.TenantID]gatehouse.PlanID{}
	for r, err := range a.Store.All(ctx, kindSubscription) {
		if err != nil {
			return nil, nil, coded(err)
		}
		var s Subscription
		if err := decode(&r, &s); err != nil {
			return nil, nil, err
		}
		if s.Start.Before(span.End) && (s.End.IsZero() || s.End.After(span.Start)) {
			plans[s.Tenant] = s.At(span.End.Add(-time.Nanosecond)).Plan.ID
		}
	}
	return invoices, plans, nil
}

// Replay says what each tenant would have paid under draft plans.
type Replay struct {
	// At is the instant whose billing periods were priced.
	At      time.Time          `json:"at"`
	Drafts  []billing.PlanRef  `json:"drafts"`
	Tenants []billing.Replayed `json:"tenants"`
	// Paid and Would are the sums.
	Paid  billing.Decimal   `json:"paid"`
	Would []billing.Decimal `json:"would"`
	// Skipped are tenants without a subscription to plan then, or whose plan is
	// in another currency.
	Skipped int `json:"skipped"`
	// Failed are those whose period cannot be priced, as it was or under a draft,
	// such as one of another cadence. They are in no sum.
	Failed []Unpriced `json:"failed,omitempty"`
}

// Unpriced is a subscription whose period cannot be priced.
type Unpriced struct {
	// Tenant and Subscription are whose it is.
	Tenant       gatehouse.TenantID `json:"tenant"`
	Subscription string             `json:"subscription"`
	// Faults say why.
	Faults gatehouse.Faults `json:"faults"`
}

// unpriced is why a period cannot be priced, nil for other errors.
func unpriced(err error) gatehouse.Faults {
	if faults, ok := errors.AsType[gatehouse.Faults](err); ok {
		return faults
	}
	if e, ok := errors.AsType[*gatehouse.Error](err); ok && e.Code == gatehouse.CodeInvalid {
		return gatehouse.Faults{{Reason: e.Message}}
	}
	return nil
}

// Replay prices the periods that an instant lies in once more, under each draft,
// for every tenant; of one plan if plan is set. Nothing is changed: the answer
// is a proposal. A tenant whose period cannot be priced does not hide the others.
func (a *Accounts) Replay(ctx context.Context, plan gatehouse.PlanID, drafts []*billing.Plan, at time.Time) (Replay, error) {
	out := Replay{At: at.UTC(), Drafts: []billing.PlanRef{}, Tenants: []billing.Replayed{}, Would: make([]billing.Decimal, len(drafts))}
	if len(drafts) == 0 || len(drafts) > 10 {
		return out, fault("/drafts", "are none, or more than 10", "")
	}
	for i, d := range drafts {
		d.Version = max(d.Version, 1)
		faults := d.Validate().Errors()
		if len(faults) == 0 {
			faults = d.Billable()
		}
		if err := invalid(faults.Under(gatehouse.Pointer("drafts", i))); err != nil {
			return out, err
		}
		out.Drafts = append(out.Drafts, d.Ref())
	}
	for r, err := range a.Store.All(ctx, kindSubscription) {
		if err != nil {
			return out, coded(err)
		}
		var s Subscription
		if err := decode(&r, &s); err != nil {
			return out, err
		}
		row, ok, err := a.replay(ctx, &s.Subscription, plan, drafts, at)
		if faults := unpriced(err); faults != nil {
			out.Failed = append(out.Failed, Unpriced{s.Tenant, s.ID, faults})
			continue
		}
		if err != nil {
			return out, err
		}
		if !ok {
			out.Skipped++
			continue
		}
		out.Tenants = append(out.Tenants, row)
		out.Paid = out.Paid.Add(row.Paid)
		for i := range row.Would {
			out.Would[i] = out.Would[i].Add(row.Would[i])
		}
	}
	return out, nil
}

func (a *Accounts) replay(ctx context.Context, s *billing.Subscription, plan gatehouse.PlanID, drafts []*billing.Plan, at time.Time) (billing.Replayed, bool, error) {
	var none billing.Replayed
	book, err := a.book(ctx, s)
	if err != nil {
		return none, false, err
	}
	first := book[s.Plan]
	if first == nil {
		return none, false, gatehouse.Faults{{Pointer: "/plan", Reason: fmt.Sprintf("there is no %s %s", kindVersion, s.Plan)}}
	}
	index := s.Index(first.Cadence, at)
	span := s.Span(first.Cadence, index)
	if span.Empty() || plan != "" && s.At(at).Plan.ID != plan {
		return none, false, nil
	}
	for _, d := range drafts {
		if d.Currency != first.Currency {
			return none, false, nil
		}
	}
	cells, err := a.cells(ctx, s, book, billing.Period{Start: minute(span.Start), End: minute(span.End)})
	if err != nil {
		return none, false, err
	}
	rows, err := billing.Replay(book, drafts, []billing.Past{{Subscription: s, Cells: cells}}, index)
	if err != nil {
		return none, false, err
	}
	return rows[0], true, nil
}
