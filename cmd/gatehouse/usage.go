package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/gatehouse-gateway/gatehouse/control/client"
	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/spf13/cobra"
)

const countColumns = "REQUESTS:%[1]s/requests 2XX:%[1]s/status/2xx 4XX:%[1]s/status/4xx 5XX:%[1]s/status/5xx DENIED:%[1]s/denied BYTES_IN:%[1]s/bytes_in BYTES_OUT:%[1]s/bytes_out"

func tenantUsage(r *remote) *cobra.Command {
	var by string
	var ledger ledgerFlags
	c := &cobra.Command{
		Use: "usage ID", Short: "Show what a tenant has used", Args: arguments(cobra.ExactArgs(1)), ValidArgsFunction: r.complete(0, allTenants),
		Long: `Usage shows the counters of the data plane that is asked. With --meter it shows
what the ledger has of it, of every data plane and of events, in a range.`,
		Example: "  gatehouse tenant usage acme --by route -o csv\n  gatehouse tenant usage acme --meter requests --from 2026-03-01 --to 2026-04-01 --window DAY --tz Europe/Rome",
		RunE: func(cmd *cobra.Command, args []string) error {
			if ledger.meter != "" {
				return r.ledgerUsage(cmd.Context(), args[0], &ledger)
			}
			if ledger.given() {
				return &exit{exitUsage, errors.New("name a meter, such as --meter requests")}
			}
			answer, err := r.do(cmd.Context(), client.Call{Operation: client.GetUsage, Path: args})
			if err != nil {
				return r.tenant(cmd.Context(), err, args[0])
			}
			var parts struct {
				Routes     []json.RawMessage `json:"routes"`
				Principals []json.RawMessage `json:"principals"`
			}
			if err := answer.Into(&parts); err != nil {
				return err
			}
			switch by {
			case "":
				return r.print(answer.Body, columns(fmt.Sprintf("TENANT:/tenant "+countColumns, "/total")))
			case "route":
				return r.printItems(parts.Routes, columns(fmt.Sprintf("ROUTE:/route "+countColumns, "")))
			case "principal":
				return r.printItems(parts.Principals, columns(fmt.Sprintf("PRINCIPAL:/principal "+countColumns, "")))
			}
			return &exit{exitUsage, fmt.Errorf("--by %q is unknown: use route or principal%s", by, didYouMean(by, []string{"route", "principal"}))}
		},
	}
	c.Flags().StringVar(&by, "by", "", "tell apart by route or principal")
	ledger.add(c)
	return c
}

// rangeFlags are a range of time.
type rangeFlags struct{ from, to string }

func (f *rangeFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.from, "from", "", "first minute: RFC 3339, or a date")
	c.Flags().StringVar(&f.to, "to", "", "first minute no longer wanted: RFC 3339, or a date (default now)")
}

func (f *rangeFlags) query() url.Values {
	q := url.Values{}
	for name, v := range map[string]string{"from": f.from, "to": f.to} {
		if v != "" {
			q.Set(name, v)
		}
	}
	return q
}

// ledgerFlags ask the ledger.
type ledgerFlags struct {
	rangeFlags
	meter, window, tz string
	groupBy           []string
}

func (f *ledgerFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.meter, "meter", "", "ask the ledger for this meter, such as requests")
	f.rangeFlags.add(c)
	c.Flags().StringVar(&f.window, "window", "", "cut the range into MINUTE, HOUR, DAY or MONTH")
	c.Flags().StringVar(&f.tz, "tz", "", "time zone in which days begin, such as Europe/Rome (default UTC)")
	c.Flags().StringSliceVar(&f.groupBy, "group-by", nil, "tell apart by route, consumer or plan")
}

func (f *ledgerFlags) given() bool {
	return f.from+f.to+f.window+f.tz != "" || len(f.groupBy) > 0
}

// ledgerUsage prints what the ledger answers, all pages of it. What concerns
// the whole goes to standard error where it is not in the form.
func (r *remote) ledgerUsage(ctx context.Context, tenant string, f *ledgerFlags) error {
	q := f.query()
	q.Set("meter", f.meter)
	if f.window != "" {
		q.Set("window", strings.ToUpper(f.window))
	}
	if f.tz != "" {
		q.Set("tz", f.tz)
	}
	for _, d := range f.groupBy {
		q.Add("group_by", d)
	}
	var whole map[string]json.RawMessage
	var items []json.RawMessage
	for {
		answer, err := r.do(ctx, client.Call{Operation: client.GetUsage, Path: []string{tenant}, Query: q})
		if err != nil {
			return r.tenant(ctx, err, tenant)
		}
		var page []json.RawMessage
		whole = nil
		if err := answer.Into(&whole); err != nil {
			return err
		}
		if err := json.Unmarshal(whole["items"], &page); err != nil {
			return fmt.Errorf("the control plane's answer is not understood: %w", err)
		}
		items = append(items, page...)
		if answer.Link == nil {
			break
		}
		q = answer.Link
	}
	delete(whole, "next")
	all, err := json.Marshal(items)
	if err != nil {
		return err
	}
	if items != nil {
		whole["items"] = all
	}
	raw, err := json.Marshal(whole)
	if err != nil {
		return err
	}
	if f.window == "" && len(f.groupBy) == 0 {
		return r.print(raw, columns("METER:/meter UNIT:/unit FROM:/from TO:/to TOTAL:/total SEALED_UNTIL:/sealed_until COMPLETE:/complete"))
	}
	view := "START:/start END:/end VALUE:/value"
	for _, d := range f.groupBy {
		view += " " + strings.ToUpper(d) + ":/group/" + d
	}
	if err := r.write(raw, items, columns(view)); err != nil {
		return err
	}
	if form, err := r.format(); err == nil && form == "table" {
		fmt.Fprintf(r.s.errors, "total %s %s, %s\n", text(at(raw, "/total")), text(at(raw, "/unit")), howWhole(raw))
	}
	return nil
}

// howWhole says whether more may come to what the ledger has.
func howWhole(raw json.RawMessage) string {
	sealed := text(at(raw, "/sealed_until"))
	switch {
	case sealed == "":
		return "nothing sealed yet: more may come"
	case at(raw, "/complete") == true:
		return "complete: sealed until " + sealed
	}
	return "sealed until " + sealed + ": more may come after that"
}

// rate is what was used between two readings.
type rate struct {
	At       time.Time `json:"at"`
	Tenant   string    `json:"tenant"`
	Requests float64   `json:"requests_per_s"`
	Errors   float64   `json:"errors_per_s"`
	Denied   float64   `json:"denied_per_s"`
	BytesIn  float64   `json:"bytes_in_per_s"`
	BytesOut float64   `json:"bytes_out_per_s"`
	Mean     float64   `json:"mean_ms"`
}

func rateView() view {
	return columns("TENANT:/tenant AT:/at REQUESTS/S:/requests_per_s ERRORS/S:/errors_per_s DENIED/S:/denied_per_s IN/S:/bytes_in_per_s OUT/S:/bytes_out_per_s MEAN_MS:/mean_ms")
}

func round(v float64) float64 { return float64(int64(v*100+0.5)) / 100 }

// rateOf is what lies between two readings of a tenant's usage.
func rateOf(tenant string, was, is *metering.Usage) rate {
	s := is.AsOf.Sub(was.AsOf).Seconds()
	if s <= 0 {
		s = 1
	}
	per := func(a, b int64) float64 { return round(float64(b-a) / s) }
	a, b := &was.Total, &is.Total
	out := rate{
		At: is.AsOf, Tenant: tenant, Requests: per(a.Requests, b.Requests), Errors: per(a.Status.ServerError, b.Status.ServerError),
		Denied: per(a.Denied, b.Denied), BytesIn: per(a.BytesIn, b.BytesIn), BytesOut: per(a.BytesOut, b.BytesOut),
	}
	if n := b.Requests - a.Requests; n > 0 {
		out.Mean = round(float64(b.Compute-a.Compute) / float64(n) / 1000)
	}
	return out
}

func (r *remote) usage(ctx context.Context, tenant string) (*metering.Usage, error) {
	answer, err := r.do(ctx, client.Call{Operation: client.GetUsage, Path: []string{tenant}})
	if err != nil {
		return nil, err
	}
	var u metering.Usage
	return &u, answer.Into(&u)
}

// watch are the flags of what repeats itself.
type watch struct {
	interval time.Duration
	count    int
}

func (w *watch) add(c *cobra.Command) {
	c.Flags().DurationVar(&w.interval, "interval", time.Second, "time between two readings")
	numberFlag(c, &w.count, "count", 0, "readings after which to end (default 0: none)")
}

// each calls f after every interval.
func (w *watch) each(ctx context.Context, f func() error) error {
	if w.interval < 10*time.Millisecond {
		return &exit{exitUsage, fmt.Errorf("interval %s is below 10ms", w.interval)}
	}
	tick := time.NewTicker(w.interval)
	defer tick.Stop()
	for n := 0; w.count == 0 || n < w.count; n++ {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

func tenantMonitor(r *remote) *cobra.Command {
	var w watch
	c := &cobra.Command{
		Use: "monitor ID", Short: "Show a tenant's traffic as it is, a line each interval", Args: arguments(cobra.ExactArgs(1)), ValidArgsFunction: r.complete(0, allTenants),
		Long:    "Monitor prints a line for each interval until it is interrupted. As JSON each\nline is a value.",
		Example: "  gatehouse tenant monitor acme --interval 5s",
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			form, err := r.format()
			if err != nil {
				return err
			}
			was, err := r.usage(ctx, args[0])
			if err != nil {
				return r.tenant(ctx, err, args[0])
			}
			return w.each(ctx, func() error {
				is, err := r.usage(ctx, args[0])
				if err != nil {
					return err
				}
				x := rateOf(args[0], was, is)
				was = is
				if form == "json" {
					return json.NewEncoder(r.s.out).Encode(x)
				}
				_, err = fmt.Fprintf(r.s.out, "%s  %8.1f requests/s  %6.1f errors/s  %6.1f denied/s  %10.0f B/s in  %10.0f B/s out  %7.2f ms\n",
					x.At.Format(time.TimeOnly), x.Requests, x.Errors, x.Denied, x.BytesIn, x.BytesOut, x.Mean)
				return err
			})
		},
	}
	w.add(c)
	return c
}
