package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/metering/ledger"
	"github.com/gatehouse-gateway/gatehouse/metering/sink/clickhouse"
	"github.com/spf13/cobra"
)

type reconcileFlags struct {
	rangeFlags
	config, data, meter, step string
	logs, tenants             []string
	invoices                  bool
}

func reconcileCommand(r *remote) *cobra.Command {
	var f reconcileFlags
	c := &cobra.Command{
		Use: "reconcile", Short: "Compare the ledger with clients' logs, the counters on disk and the sinks, or with invoices", Args: arguments(cobra.NoArgs),
		Long: `Reconcile counts a meter in each account that there is of it, and shows where they
differ by tenant, route and minute or hour:

  the ledger          of the configuration, or below the data folder
  disk                the ledger, with what the data folder has that is not in it yet
  each --log          what a client noted: a line of JSON or CSV for each request
  each readable sink  of the configuration: sqlite, postgres and clickhouse

It runs where the data folder is, and changes nothing; the gateway may run.
Events and adjustments are left out: no gateway has counted them. Exit code 2:
there are differences.

With --invoices it asks a control plane instead, from anywhere: each metered
line of the invoices that are issued is traced to the ledger's cells, and what
was billed by other cells than the ledger has is shown, with what it comes to.
Usage that came late is a difference until the next invoice has charged it.
--from and --to are of the lines' periods then (default all).`,
		Example: "  gatehouse reconcile --data gatehouse-data --log client.ndjson --from 2026-03-04T10:00:00Z --to 2026-03-04T11:00:00Z\n  gatehouse reconcile --invoices --tenant acme",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.only(cmd); err != nil {
				return err
			}
			if f.invoices {
				return f.traceInvoices(cmd.Context(), r)
			}
			return f.run(cmd.Context(), r)
		},
	}
	c.Flags().StringVar(&f.config, "config", "", "process configuration")
	c.Flags().StringVar(&f.data, "data", "", "data folder (default: that of the configuration)")
	c.Flags().StringArrayVar(&f.logs, "log", nil, "log of a client, FILE or NAME=FILE; may be repeated")
	c.Flags().StringVar(&f.meter, "meter", metering.MeterRequests, "what is compared")
	c.Flags().StringVar(&f.step, "step", "minute", "minute or hour")
	c.Flags().StringSliceVar(&f.tenants, "tenant", nil, "only these tenants")
	c.Flags().BoolVar(&f.invoices, "invoices", false, "trace issued invoices to the ledger")
	f.add(c)
	return r.command(c)
}

func (f *reconcileFlags) run(ctx context.Context, r *remote) error {
	cfg, err := readConfig(f.config)
	if err != nil {
		return err
	}
	if f.data != "" {
		cfg.Data = f.data
	}
	scope, err := f.scope(time.Now())
	if err != nil {
		return &exit{exitUsage, err}
	}
	all, err := openSinks(&cfg)
	if err != nil {
		return err
	}
	defer all.close()
	if !isPostgres(all.ledger.address) {
		if _, err := os.Stat(all.ledger.address); err != nil {
			return &exit{exitNotFound, fmt.Errorf("there is no ledger: %w", err)}
		}
	}
	book, err := all.ledger.open(ctx)
	if err != nil {
		return err
	}
	others, err := f.sources(ctx, r, all, book, cfg.Data)
	if err != nil {
		return err
	}
	report, err := book.Reconcile(ctx, scope, others...)
	if err != nil {
		return err
	}
	if form, err := r.format(); err != nil {
		return err
	} else if form == "table" {
		err = report.WriteTable(r.s.out)
		if err != nil {
			return err
		}
	} else if err := r.reportAs(&report); err != nil {
		return err
	}
	if n := len(report.Differences) + report.More; n > 0 {
		return &exit{exitFindings, fmt.Errorf("the accounts differ in %s", count(n, "place"))}
	}
	return nil
}

func (f *reconcileFlags) scope(now time.Time) (ledger.Scope, error) {
	s := ledger.Scope{Meter: f.meter, Step: ledger.Window(strings.ToUpper(f.step))}
	for _, id := range f.tenants {
		s.Tenants = append(s.Tenants, gatehouse.TenantID(id))
	}
	var err error
	if s.To, err = instantOf(f.to, now.UTC().Truncate(time.Minute)); err != nil {
		return s, fmt.Errorf("--to: %w", err)
	}
	if s.From, err = instantOf(f.from, s.To.Add(-24*time.Hour)); err != nil {
		return s, fmt.Errorf("--from: %w", err)
	}
	return s, nil
}

// instantOf reads RFC 3339, or the beginning of a date in UTC.
func instantOf(text string, absent time.Time) (time.Time, error) {
	if text == "" {
		return absent, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t.UTC(), nil
	}
	t, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return t, fmt.Errorf("%q is no time such as 2026-03-01T00:00:00Z, nor a date", text)
	}
	return t, nil
}

// sources are what is compared with the ledger. A sink that cannot be read
// back is told of.
func (f *reconcileFlags) sources(ctx context.Context, r *remote, all *sinks, book *ledger.Ledger, data string) ([]ledger.Source, error) {
	var list []ledger.Source
	audit, err := metering.Read(data)
	switch {
	case err == nil:
		list = append(list, &onDisk{audit, book})
		for _, d := range audit.Damage {
			fmt.Fprintln(r.s.errors, "damage:", d)
		}
		if n := len(audit.Interrupted); n > 0 {
			fmt.Fprintf(r.s.errors, "%s interrupted by the end of a process\n", count(n, "request"))
		}
	case errors.Is(err, fs.ErrNotExist):
		fmt.Fprintf(r.s.errors, "%s holds no counters\n", filepath.Clean(data))
	default:
		return nil, err
	}
	for _, log := range f.logs {
		name, file, ok := strings.Cut(log, "=")
		if !ok {
			name, file = "client", log
		}
		list = append(list, ledger.NewClientLog(file, name))
	}
	for _, s := range all.all[1:] {
		n, ok := s.(named)
		if !ok {
			continue
		}
		switch s := n.Sink.(type) {
		case *lateLedger:
			is, err := s.open(ctx)
			if err != nil {
				return nil, fmt.Errorf("open sink %s: %w", n.name, err)
			}
			list = append(list, source{is, n.name})
		case *clickhouse.Sink:
			list = append(list, source{s, n.name})
		default:
			fmt.Fprintf(r.s.errors, "sink %s cannot be read back\n", n.name)
		}
	}
	return list, nil
}

// source is one under a name of the configuration.
type source struct {
	ledger.Source
	name string
}

func (s source) Name() string { return s.name }

// onDisk is what the ledger comes to once it has all of a data folder: the
// logs there hold only what some sink has not got yet.
type onDisk struct {
	audit *metering.Audit
	book  *ledger.Ledger
}

func (*onDisk) Name() string { return "disk" }

// Cells returns each cell once, with the larger of both values.
func (d *onDisk) Cells(ctx context.Context, from, to time.Time) iter.Seq2[metering.Cell, error] {
	return func(yield func(metering.Cell, error) bool) {
		kept := map[metering.Cell]int64{}
		for _, c := range d.audit.Cells {
			if !c.Window.Before(from) && c.Window.Before(to) {
				kept[identity(c)] = c.Value
			}
		}
		for c, err := range d.book.Cells(ctx, from, to) {
			if err == nil {
				id := identity(c)
				c.Value = max(c.Value, kept[id])
				delete(kept, id)
			}
			if !yield(c, err) {
				return
			}
		}
		for c, value := range kept {
			c.Value = value
			if !yield(c, nil) {
				return
			}
		}
	}
}

// identity is a cell without its value, as a key.
func identity(c metering.Cell) metering.Cell {
	c.Value, c.Window = 0, time.Unix(c.Window.Unix(), 0).UTC()
	return c
}

// reportAs prints a report as data.
func (r *remote) reportAs(report *ledger.Report) error {
	type place struct {
		Tenant gatehouse.TenantID         `json:"tenant,omitempty"`
		Route  gatehouse.RouteID          `json:"route,omitempty"`
		Start  time.Time                  `json:"start,omitzero"`
		Values map[string]ledger.Quantity `json:"values"`
	}
	at := func(values []ledger.Quantity) map[string]ledger.Quantity {
		m := map[string]ledger.Quantity{}
		for i, name := range report.Sources {
			m[name] = values[i]
		}
		return m
	}
	items := []json.RawMessage{}
	for _, d := range report.Differences {
		raw, err := json.Marshal(place{d.Tenant, d.Route, d.Start, at(d.Values)})
		if err != nil {
			return err
		}
		items = append(items, raw)
	}
	whole, err := json.Marshal(map[string]any{
		"meter": report.Meter, "from": report.From, "to": report.To, "sources": report.Sources, "totals": at(report.Totals),
		"differences": items, "more": report.More, "agree": report.Agree(),
	})
	if err != nil {
		return err
	}
	view := "TENANT:/tenant ROUTE:/route START:/start"
	for _, name := range report.Sources {
		view += " " + strings.ToUpper(name) + ":/values/" + name
	}
	return r.write(whole, items, columns(view))
}
