package invoicing

import (
	"context"
	"iter"
	"log/slog"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
	"github.com/gatehouse-gateway/gatehouse/metering/ledger"
)

// Store is where everything is kept: *journal.Journal, opened with Index. Its
// methods are as there.
type Store interface {
	Commit(context.Context, journal.Change) (journal.Event, error)
	Get(context.Context, journal.Ref) (journal.Resource, error)
	List(context.Context, journal.Query) (journal.Page, error)
	All(ctx context.Context, kinds ...string) iter.Seq2[journal.Resource, error]
}

// Usage is what was used: *ledger.Ledger. Its methods are as there.
type Usage interface {
	TenantCells(ctx context.Context, tenant gatehouse.TenantID, from, to time.Time) iter.Seq2[metering.Cell, error]
	Cells(ctx context.Context, from, to time.Time) iter.Seq2[metering.Cell, error]
	Gateways(context.Context) ([]ledger.Gateway, error)
	AdjustIf(ctx context.Context, a ledger.Adjustment, check ledger.Agree) (ledger.Verdict, error)
	Meters(context.Context) ([]string, error)
	TenantMeters(context.Context, gatehouse.TenantID) ([]string, error)
	Watch(ctx context.Context, until map[gatehouse.TenantID]time.Time) error
	Late(ctx context.Context, tenant gatehouse.TenantID, after int64) (ledger.LateUsage, error)
	Noted(context.Context) (map[gatehouse.TenantID]int64, error)
}

// Parts are what Accounts are made of.
type Parts struct {
	Store Store
	Usage Usage
	// Tenant and Plan return an error with CodeNotFound for what does not
	// exist. Nil: everything does.
	Tenant func(context.Context, gatehouse.TenantID) error
	Plan   func(context.Context, gatehouse.PlanID) error
	// Opens returns an error for a tenant that begins no subscription, such as
	// one that is deleted. It is not asked about a request that was answered
	// before. Nil: as Tenant.
	Opens func(context.Context, gatehouse.TenantID) error
	// Taxes is the tax hook. Nil, or a nil answer: the taxes of the plan.
	Taxes func(gatehouse.TenantID, billing.Line) []billing.Tax
	// Now is time.Now, but for tests.
	Now func() time.Time
	// Grace is how long after the end of a period gateways are waited for that
	// have not sealed it. Default DefaultGrace.
	Grace time.Duration
	// Back is how many periods before the one that is closed are rated again
	// where the ledger has no notes of what came late: where interruptions may
	// reach back, and for what was closed before there were notes. What is noted
	// is billed however old it is. Default DefaultBack.
	Back int
	// Every is the time between two rounds of Run. Default DefaultEvery.
	Every time.Duration
	// Log is told of what Run does. Default: nothing is.
	Log *slog.Logger
}

// Defaults of Parts.
const (
	DefaultGrace = 24 * time.Hour
	DefaultBack  = 2
	DefaultEvery = time.Minute
)

// Accounts are the books of what tenants owe. They hold no state of their own:
// methods are safe for concurrent use, and several control planes may share one
// store. Errors are *gatehouse.Error, with *control.Invalid for faults.
type Accounts struct{ Parts }

// New returns accounts over a store.
func New(p Parts) *Accounts {
	if p.Tenant == nil {
		p.Tenant = func(context.Context, gatehouse.TenantID) error { return nil }
	}
	if p.Opens == nil {
		p.Opens = p.Tenant
	}
	if p.Plan == nil {
		p.Plan = func(context.Context, gatehouse.PlanID) error { return nil }
	}
	if p.Now == nil {
		p.Now = time.Now
	}
	if p.Grace == 0 {
		p.Grace = DefaultGrace
	}
	if p.Back == 0 {
		p.Back = DefaultBack
	}
	if p.Every == 0 {
		p.Every = DefaultEvery
	}
	if p.Log == nil {
		p.Log = slog.New(slog.DiscardHandler)
	}
	return &Accounts{p}
}

// Kinds of resources in the journal.
const (
	kindVersion      = "price-version"
	kindSubscription = "subscription"
	kindInvoice      = "invoice"
	// kindKey says that a period is billed: its id is the invoice's key, its
	// body the number.
	kindKey    = "invoice-key"
	kindNote   = "credit-note"
	kindSeries = "number-series"
	kindWallet = "wallet"
	// kindBalance is what credit notes have left for later invoices.
	kindBalance = "credit-balance"
	kindEntry   = "entry"
	// kindLate names the invoice that charged usage which came after another.
	kindLate = "late-usage"
	// kindReminder is of the platform: the list of all is by the time at which
	// they are due.
	kindReminder = "reminder"
	kindAlert    = "alert"
	// kindAdjustment says who made an adjustment of the ledger: its id is a hash
	// of the adjustment's.
	kindAdjustment = "usage-adjustment"
	kindSeller     = "seller"
	kindCustomer   = "customer"
	kindCostSheet  = "cost-sheet"
)

// Index is what lists are filtered by, for journal.Config.
var Index = journal.Index{
	// By tenant too: the list is by age, of which there is no index for each.
	kindInvoice: {"status": "/status", "subscription": "/subscription", "number": "/number", "tenant": "/tenant"},
	kindNote:    {"invoice": "/invoice"},
	kindVersion: {"plan": "/id"},
}
