package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/client"
	"github.com/spf13/cobra"
)

func tenantAnalytics(r *remote) *cobra.Command {
	var span rangeFlags
	var step time.Duration
	var by string
	c := &cobra.Command{
		Use: "analytics ID", Short: "Show a tenant's traffic over time", Args: arguments(cobra.ExactArgs(1)), ValidArgsFunction: r.complete(0, allTenants),
		Long: `Analytics shows a line for each step of the range in which there were requests:
how many, how they ended, and how long they took. The last minute is there once
it has ended.`,
		Example: "  gatehouse tenant analytics acme\n  gatehouse tenant analytics acme --from 2026-03-14 --to 2026-03-15 --step 1h --group-by route -o csv",
		RunE: func(cmd *cobra.Command, args []string) error {
			q, err := span.instants()
			if err != nil {
				return err
			}
			if step != 0 {
				if step < time.Minute || step%time.Second != 0 {
					return &exit{exitUsage, fmt.Errorf("--step %s: whole seconds, from 1m on, are expected", step)}
				}
				q.Set("step", strconv.Itoa(int(step.Seconds())))
			}
			if by != "" {
				q.Set("group_by", by)
			}
			answer, err := r.do(cmd.Context(), client.Call{Operation: client.GetAnalytics, Path: args, Query: q})
			if err != nil {
				return r.tenant(cmd.Context(), err, args[0])
			}
			var series control.Analytics
			if err := answer.Into(&series); err != nil {
				return err
			}
			points := []json.RawMessage{}
			for _, s := range series.Series {
				for _, p := range s.Points {
					raw, err := json.Marshal(struct {
						Group string `json:"group,omitempty"`
						control.Point
					}{s.Group, p})
					if err != nil {
						return err
					}
					points = append(points, raw)
				}
			}
			group := ""
			if by != "" {
				group = "GROUP:/group "
			}
			return r.write(answer.Body, points, columns("AT:/at "+group+
				"REQUESTS:/requests ERRORS:/errors DENIED:/denied LIMITED:/limited BYTES_IN:/bytes_in BYTES_OUT:/bytes_out P50_MS:/p50_ms P90_MS:/p90_ms P99_MS:/p99_ms"))
		},
	}
	span.add(c)
	c.Flags().DurationVar(&step, "step", 0, "length of a step, from 1m on (default 1m)")
	c.Flags().StringVar(&by, "group-by", "", "tell apart by route, status or method")
	_ = c.RegisterFlagCompletionFunc("group-by", cobra.FixedCompletions([]string{"route", "status", "method"}, cobra.ShellCompDirectiveNoFileComp)) // the flag is there
	return c
}

// instants are the range in RFC 3339: a date is its first instant in UTC.
func (f *rangeFlags) instants() (url.Values, error) {
	q := f.query()
	for name, v := range q {
		if day, err := time.Parse(time.DateOnly, v[0]); err == nil {
			v[0] = day.Format(time.RFC3339)
		}
		if _, err := time.Parse(time.RFC3339, v[0]); err != nil {
			return nil, &exit{exitUsage, fmt.Errorf("--%s %q: a time such as 2027-01-31T00:00:00Z, or a date, is expected", name, v[0])}
		}
	}
	return q, nil
}

func tenantHealth(r *remote) *cobra.Command {
	return &cobra.Command{
		Use: "health ID", Short: "Show how a tenant's backends, domains and key sets are; exit code 2 when one is not well", Args: arguments(cobra.ExactArgs(1)), ValidArgsFunction: r.complete(0, allTenants),
		RunE: func(cmd *cobra.Command, args []string) error {
			answer, err := r.do(cmd.Context(), client.Call{Operation: client.GetTenantHealth, Path: args})
			if err != nil {
				return r.tenant(cmd.Context(), err, args[0])
			}
			var h control.TenantHealth
			if err := answer.Into(&h); err != nil {
				return err
			}
			rows, err := healthRows(&h)
			if err != nil {
				return err
			}
			if err := r.write(answer.Body, rows, columns("KIND:/kind NAME:/name STATUS:/status DETAIL:/detail")); err != nil {
				return err
			}
			if h.Status != "healthy" {
				return &exit{exitFindings, fmt.Errorf("tenant %s is %s", args[0], h.Status)}
			}
			return nil
		},
	}
}

// healthRows are the lines of a tenant's health.
func healthRows(h *control.TenantHealth) ([]json.RawMessage, error) {
	rows := []json.RawMessage{}
	add := func(kind, name, status, detail string) error {
		raw, err := json.Marshal(map[string]string{"kind": kind, "name": name, "status": status, "detail": detail})
		rows = append(rows, raw)
		return err
	}
	for _, b := range h.Backends {
		if err := add("backend", string(b.Backend), b.Status, ""); err != nil {
			return nil, err
		}
		for _, e := range b.Endpoints {
			if err := add("endpoint", string(b.Backend)+" "+e.URL, e.Status, e.Reason); err != nil {
				return nil, err
			}
		}
	}
	for _, d := range h.Domains {
		detail := ""
		if !d.Certificate.IsZero() {
			detail = "certificate until " + d.Certificate.Format(time.RFC3339)
		}
		if err := add("domain", d.Host, d.Status, detail); err != nil {
			return nil, err
		}
	}
	for _, k := range h.KeySets {
		detail := k.URL
		if k.Failures > 0 {
			detail += ", " + count(k.Failures, "failure") + " in a row"
		}
		if err := add("key set", k.Issuer, k.Status, detail); err != nil {
			return nil, err
		}
	}
	return rows, nil
}
