package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/client"
	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/spf13/cobra"
)

func topCommand(r *remote) *cobra.Command {
	var w watch
	var of []string
	var metricsURL string
	c := &cobra.Command{
		Use: "top", Short: "Watch traffic, tenants and data planes",
		Long: `Top shows the traffic of the process behind --server, the tenants with the most
of it, and the data planes. On a terminal it is drawn anew at each interval,
until q or Ctrl-C; elsewhere it prints a line for each.`,
		Example: "  gatehouse top\n  gatehouse top --tenant acme,label --interval 5s\n  gatehouse top --count 1 -o json",
		Args:    arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			form, err := r.format()
			if err != nil {
				return err
			}
			t := &top{r: r, tenants: of, metrics: metricsURL}
			if r.s.terminal != nil && form == "table" && r.s.getenv("TERM") != "dumb" {
				return onScreen(ctx, r.s, func(ctx context.Context, sc *screen) error {
					if err := sc.draw([]string{"reading from " + r.serverName()}); err != nil {
						return err
					}
					return t.watch(ctx, &w, func(f *frame) error {
						lines, err := t.page(f)
						return errors.Join(err, sc.draw(lines))
					})
				})
			}
			return t.watch(ctx, &w, func(f *frame) error { return t.line(form, f) })
		},
	}
	c.Flags().StringSliceVar(&of, "tenant", nil, "tenants to show (default: those that changed last, up to 50)")
	c.Flags().StringVar(&metricsURL, "metrics", "", "URL of a data plane's metrics (default: those of --server)")
	w.add(c)
	return c
}

// top reads what it shows from the control API.
type top struct {
	r       *remote
	tenants []string
	metrics string
}

// reading is everything at one moment.
type reading struct {
	at       time.Time
	counters map[string]float64 // series of the metrics
	usage    map[string]*metering.Usage
	gateways []control.GatewayStatus
}

// frame is what lies between two readings.
type frame struct {
	At       time.Time               `json:"at"`
	Requests float64                 `json:"requests_per_s"`
	InFlight float64                 `json:"in_flight"`
	Tenants  float64                 `json:"tenants"`
	Outcomes map[string]float64      `json:"outcomes_per_s"`
	Top      []rate                  `json:"top"`
	Gateways []control.GatewayStatus `json:"gateways"`
}

// mostShown bounds the tenants that are asked about one by one.
const mostShown = 50

// watch shows what lies between two readings, after every interval.
func (t *top) watch(ctx context.Context, w *watch, show func(*frame) error) error {
	was, err := t.read(ctx)
	if err != nil {
		return err
	}
	return w.each(ctx, func() error {
		is, err := t.read(ctx)
		if err != nil {
			return err
		}
		f := frameOf(was, is)
		was = is
		return show(f)
	})
}

func (t *top) read(ctx context.Context) (*reading, error) {
	now := &reading{at: time.Now(), usage: map[string]*metering.Usage{}}
	var err error
	if now.counters, err = t.scrape(ctx); err != nil {
		return nil, err
	}
	names := t.tenants
	if len(names) == 0 {
		names = t.r.names(ctx, client.Call{Operation: client.ListTenants, Query: url.Values{"sort": {"-updated"}}}, "id")
		names = names[:min(len(names), mostShown)]
	}
	for _, name := range names {
		u, err := t.r.usage(ctx, name)
		if err != nil && gatehouse.CodeOf(err) == gatehouse.CodeNotBuilt {
			break // the data planes count, and tell it elsewhere
		}
		if err != nil {
			return nil, t.r.tenant(ctx, err, name)
		}
		now.usage[name] = u
	}
	answer, err := t.r.do(ctx, client.Call{Operation: client.ListGateways})
	if err != nil {
		return nil, err
	}
	var page struct{ Items []control.GatewayStatus }
	err = answer.Into(&page)
	now.gateways = page.Items
	return now, err
}

// scrape reads the metrics in Prometheus' text format.
func (t *top) scrape(ctx context.Context) (map[string]float64, error) {
	a, err := t.r.access()
	if err != nil {
		return nil, err
	}
	transport, err := newTransport(a.CAFile)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, first(t.metrics, strings.TrimRight(a.Server, "/")+"/metrics"), nil)
	if err != nil {
		return nil, &exit{exitUsage, err}
	}
	answer, err := transport.Do(request)
	if err != nil {
		return nil, &gatehouse.Error{Code: gatehouse.CodeUnavailable, Message: "the metrics cannot be read", Err: err}
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 16<<20))
	if err != nil || answer.StatusCode != http.StatusOK {
		return nil, &gatehouse.Error{Code: gatehouse.CodeUnavailable, Message: "the metrics cannot be read: " + answer.Status, Err: err}
	}
	out := map[string]float64{}
	for line := range strings.Lines(string(text)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if v, err := strconv.ParseFloat(value, 64); ok && err == nil && name[0] != '#' {
			out[name] = v
		}
	}
	return out, nil
}

func frameOf(was, is *reading) *frame {
	f := &frame{
		At: is.at, InFlight: is.counters["gatehouse_requests_in_flight"], Tenants: is.counters["gatehouse_tenants"],
		Outcomes: map[string]float64{}, Top: []rate{}, Gateways: is.gateways,
	}
	s := max(is.at.Sub(was.at).Seconds(), 0.001)
	for name, v := range is.counters {
		labels, ok := strings.CutPrefix(name, "gatehouse_requests_total{")
		if !ok {
			continue
		}
		if d := (v - was.counters[name]) / s; d > 0 {
			f.Outcomes[strings.TrimSuffix(labels, "}")] = round(d)
			f.Requests = round(f.Requests + d)
		}
	}
	for name, u := range is.usage {
		if before := was.usage[name]; before != nil {
			f.Top = append(f.Top, rateOf(name, before, u))
		}
	}
	slices.SortFunc(f.Top, func(a, b rate) int {
		return cmp.Or(cmp.Compare(b.Requests, a.Requests), cmp.Compare(a.Tenant, b.Tenant))
	})
	return f
}

// line prints a frame where nothing can be drawn.
func (t *top) line(form string, f *frame) error {
	out := t.r.s.out
	if form == "json" {
		return json.NewEncoder(out).Encode(f)
	}
	_, err := fmt.Fprintf(out, "%s  %.1f requests/s  %.0f in flight  %.0f tenants  %s\n",
		f.At.Format(time.TimeOnly), f.Requests, f.InFlight, f.Tenants, connected(f.Gateways))
	return err
}

// page is a frame as lines of a screen.
func (t *top) page(f *frame) ([]string, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s   %.1f requests/s   %.0f in flight   %.0f tenants   %s   q: quit\n\n", f.At.Format(time.TimeOnly), f.Requests, f.InFlight, f.Tenants, connected(f.Gateways))
	for _, name := range slices.Sorted(maps.Keys(f.Outcomes)) {
		fmt.Fprintf(&b, "  %-60s %10.1f/s\n", printable(name), f.Outcomes[name])
	}
	b.WriteString("\n")
	if err := t.table(&b, f.Top[:min(len(f.Top), 20)], rateView()); err != nil {
		return nil, err
	}
	b.WriteString("\n")
	items := []any{}
	for i := range f.Gateways {
		items = append(items, f.Gateways[i])
	}
	if err := t.table(&b, items, gatewayView()); err != nil {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n"), nil
}

func (t *top) table(w io.Writer, rows any, v view) error {
	raw, err := json.Marshal(rows)
	if err != nil {
		return err
	}
	var items []json.RawMessage
	if err := json.Unmarshal(raw, &items); err != nil {
		return err
	}
	return writeTable(w, items, v)
}

func connected(all []control.GatewayStatus) string {
	n := 0
	for i := range all {
		if all[i].Connected {
			n++
		}
	}
	return fmt.Sprintf("%d of %s connected", n, count(len(all), "data plane"))
}
