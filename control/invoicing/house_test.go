package invoicing_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/configs"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/invoicing"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
	"github.com/gatehouse-gateway/gatehouse/metering/ledger"
	"github.com/gatehouse-gateway/gatehouse/metering/servertest"
)

// stores are the addresses of empty journals, by name.
var stores = map[string]func(testing.TB) string{
	"SQLite":     func(t testing.TB) string { return filepath.Join(t.TempDir(), "journal.db") },
	"PostgreSQL": servertest.Postgres,
}

// each runs a test on both stores.
func each(t *testing.T, f func(*testing.T, *house)) {
	t.Parallel()
	for name, address := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, open(t, address(t)))
		})
	}
}

// mostly is each, with PostgreSQL in the long form only: what it tests does not
// depend on the store.
func mostly(t *testing.T, f func(*testing.T, *house)) {
	if *long {
		each(t, f)
		return
	}
	t.Parallel()
	f(t, open(t, stores["SQLite"](t)))
}

// house is a control plane's books, and a ledger that the test fills.
type house struct {
	*invoicing.Accounts
	t       testing.TB
	address string
	journal *journal.Journal
	ledger  *ledger.Ledger

	mu  sync.Mutex
	now time.Time // guarded by mu
}

func open(t testing.TB, address string) *house {
	t.Helper()
	place := filepath.Join(t.TempDir(), "ledger.db")
	if strings.HasPrefix(address, "postgres") { // the ledger on the same engine
		place = servertest.Postgres(t)
	}
	l, err := ledger.Open(t.Context(), place)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	h := &house{t: t, address: address, ledger: l, now: at("2026-01-01")}
	h.journal = h.openJournal()
	h.Accounts = h.accounts(h.journal)
	return h
}

func (h *house) openJournal() *journal.Journal {
	h.t.Helper()
	j, err := journal.Open(h.t.Context(), journal.Config{Address: h.address, Index: invoicing.Index, Clock: h.clock})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { j.Close() })
	return j
}

// accounts are another control plane's over the same store.
func (h *house) accounts(s invoicing.Store) *invoicing.Accounts {
	return invoicing.New(invoicing.Parts{Store: s, Usage: h.ledger, Now: h.clock})
}

func (h *house) clock() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

func (h *house) set(day string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = at(day)
}

// use writes usage of a tenant in a minute, by gateway gw.
func (h *house) use(tenant, minute, meter string, n int64) {
	h.t.Helper()
	h.write(metering.Batch{Cells: []metering.Cell{{
		Gateway: "gw", Epoch: metering.Epoch{Counter: 1, Nonce: 7}, Window: at(minute), Meter: meter, Value: n,
		Series: metering.SeriesKey{Tenant: gatehouse.TenantID(tenant), Route: "r", Plan: "p"},
	}}})
}

// seal says that gateway gw has reported all before an instant.
func (h *house) seal(until string) {
	h.t.Helper()
	h.write(metering.Batch{Seals: []metering.Seal{{Gateway: "gw", Epoch: metering.Epoch{Counter: 1, Nonce: 7}, Window: at(until).Add(-time.Minute)}}})
}

func (h *house) write(b metering.Batch) {
	h.t.Helper()
	if err := h.ledger.Write(h.t.Context(), b); err != nil {
		h.t.Fatal(err)
	}
}

// store puts a resource into the journal as it is.
func (h *house) store(ref journal.Ref, v any) {
	h.t.Helper()
	body, err := json.Marshal(v)
	if err != nil {
		h.t.Fatal(err)
	}
	if _, err := h.journal.Commit(h.t.Context(), journal.Change{Actor: "test", Kind: "test", Puts: []journal.Put{{Ref: ref, Body: body}}}); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) round() invoicing.Done {
	h.t.Helper()
	d, err := h.Round(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	return d
}

// price adds a version of a plan.
func (h *house) price(text string) billing.Plan {
	h.t.Helper()
	p := plan(h.t, text)
	v, err := h.AddVersion(h.t.Context(), p.ID, p, as)
	if err != nil {
		h.t.Fatal(err)
	}
	return v.Plan
}

func (h *house) subscribe(tenant, plan string) invoicing.Subscription {
	h.t.Helper()
	s, err := h.Subscribe(h.t.Context(), gatehouse.TenantID(tenant), invoicing.NewSubscription{Plan: gatehouse.PlanID(plan)}, as)
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

// invoices are all of a tenant's, oldest first, a line each.
func (h *house) invoices(tenant string) string {
	h.t.Helper()
	page, err := h.Invoices(h.t.Context(), invoicing.InvoiceFilter{Tenant: gatehouse.TenantID(tenant)})
	if err != nil {
		h.t.Fatal(err)
	}
	byNumber := map[string]string{}
	var numbers []string
	for _, inv := range page.Items {
		numbers = append(numbers, inv.Number)
		byNumber[inv.Number] = line(inv)
	}
	return joined(numbers, byNumber)
}

func line(inv invoicing.Invoice) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s %s..%s total %s due %s", inv.Number, inv.Kind, inv.Status, inv.Period.Start.Format("0102"), inv.Period.End.Format("0102"), inv.Total, inv.Due)
	for _, l := range inv.Lines {
		fmt.Fprintf(&b, "\n  %s %s x %s = %s", l.Kind, l.Price, l.Quantity, l.Amount)
		if l.Corrects != "" {
			b.WriteString(" corrects " + l.Corrects)
		}
	}
	return b.String()
}

func joined(keys []string, lines map[string]string) string {
	slices.Sort(keys)
	var b strings.Builder
	for _, k := range keys {
		b.WriteString(lines[k] + "\n")
	}
	return b.String()
}

var as = control.Mutation{Actor: "test"}

// at reads 2026-01-31, with a time of day perhaps.
func at(text string) time.Time {
	for _, layout := range []string{time.DateOnly, "2006-01-02 15:04", time.RFC3339} {
		if t, err := time.Parse(layout, text); err == nil {
			return t
		}
	}
	panic("no time: " + text)
}

func dec(text string) billing.Decimal {
	d, err := billing.ParseDecimal(text)
	if err != nil {
		panic(err)
	}
	return d
}

func plan(t testing.TB, text string) billing.Plan {
	t.Helper()
	var p billing.Plan
	if faults := configs.DecodeBody([]byte(text), &p); len(faults.Errors()) > 0 {
		t.Fatal(faults)
	}
	return p
}

const premium = `
id: premium
currency: EUR
cadence: {unit: month}
prices:
  - {id: base, model: flat, amount: "30", advance: true}
  - {id: calls, meter: requests, model: per_unit, amount: "0.01"}
`

const enterprise = `
id: enterprise
currency: EUR
cadence: {unit: month}
minimum: "5"
taxes: [{code: VAT, percent: "22"}]
prices:
  - {id: base, model: flat, amount: "90", advance: true}
  - {id: calls, meter: requests, model: graduated, tiers: [{up_to: "1000", unit_price: "0.02"}, {unit_price: "0.005"}]}
`

const free = `
id: free
currency: EUR
cadence: {unit: month}
prices:
  - {id: calls, meter: requests, model: per_unit, amount: "0"}
`

// TestExamples holds that the prices that ship can be used, and that no
// warning comes with them but for the volume price of enterprise.
func TestExamples(t *testing.T) {
	t.Parallel()
	for _, tt := range [][2]string{{"free", ""}, {"premium", ""}, {"enterprise", "/prices/2"}} {
		text, err := os.ReadFile(filepath.Join("..", "..", "configs", "prices", tt[0]+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		p := plan(t, string(text))
		p.ID, p.Version = gatehouse.PlanID(tt[0]), 1
		faults := p.Validate()
		if len(faults.Errors()) > 0 {
			t.Errorf("%s: %v", tt[0], faults)
		}
		for _, f := range faults {
			if tt[1] == "" || !strings.HasPrefix(f.Pointer, tt[1]) {
				t.Errorf("%s: %v", tt[0], f)
			}
		}
	}
}

// faults fail a step, before or after it is made.
type faults func() (before, after error)

// failing fails whatever is written: commits, and what the ledger is told to
// watch. With reads, reads are steps too.
type failing struct {
	*journal.Journal
	fail  faults
	reads bool
}

func (f failing) Commit(ctx context.Context, c journal.Change) (journal.Event, error) {
	before, after := f.fail()
	if before != nil {
		return journal.Event{}, before
	}
	e, err := f.Journal.Commit(ctx, c)
	if err == nil && after != nil {
		return journal.Event{}, after
	}
	return e, err
}

func (f failing) Get(ctx context.Context, ref journal.Ref) (journal.Resource, error) {
	if err := f.read(); err != nil {
		return journal.Resource{}, err
	}
	return f.Journal.Get(ctx, ref)
}

func (f failing) List(ctx context.Context, q journal.Query) (journal.Page, error) {
	if err := f.read(); err != nil {
		return journal.Page{}, err
	}
	return f.Journal.List(ctx, q)
}

func (f failing) read() error {
	if !f.reads {
		return nil
	}
	before, _ := f.fail()
	return before
}

// failingUsage is the ledger's part of failing.
type failingUsage struct {
	*ledger.Ledger
	fail faults
}

func (f failingUsage) Watch(ctx context.Context, until map[gatehouse.TenantID]time.Time) error {
	before, after := f.fail()
	if before != nil {
		return before
	}
	return errors.Join(f.Ledger.Watch(ctx, until), after)
}

// faulty are a control plane's accounts whose steps fail as f says.
func (h *house) faulty(reads bool, f faults) *invoicing.Accounts {
	return invoicing.New(invoicing.Parts{Store: failing{h.journal, f, reads}, Usage: failingUsage{h.ledger, f}, Now: h.clock})
}
