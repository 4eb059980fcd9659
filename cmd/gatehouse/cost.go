package main

import (
	"encoding/json"
	"fmt"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/client"
	"github.com/spf13/cobra"
)

func costCommand(r *remote) *cobra.Command {
	var span rangeFlags
	var by string
	c := &cobra.Command{
		Use: "cost", Short: "Show what traffic has cost, and what is left of its revenue", Args: unknownCommand,
		Long: `Cost sets compute time, traffic and calls of backends, at the rates of the cost
sheet, against the invoices whose period ended in the range.`,
		Example: "  gatehouse cost set -f costs.yaml\n  gatehouse cost --from 2026-01-01T00:00:00Z --to 2026-02-01T00:00:00Z --by plan",
		RunE: func(cmd *cobra.Command, _ []string) error {
			q, err := span.instants()
			if err != nil {
				return err
			}
			answer, err := r.do(cmd.Context(), client.Call{Operation: client.GetCosts, Query: q})
			if gatehouse.CodeOf(err) == gatehouse.CodeNotFound {
				return &gatehouse.Error{Code: gatehouse.CodeNotFound, Message: "there is no cost sheet yet\n  hint: gatehouse cost set -f FILE"}
			}
			if err != nil {
				return err
			}
			var costs struct {
				Routes  []json.RawMessage `json:"routes"`
				Tenants []json.RawMessage `json:"tenants"`
				Plans   []json.RawMessage `json:"plans"`
			}
			if err := answer.Into(&costs); err != nil {
				return err
			}
			margin := "%s:/of REVENUE:/revenue COST:/cost MARGIN:/margin RATIO:/ratio"
			switch by {
			case "tenant":
				return r.printItems(costs.Tenants, columns(fmt.Sprintf(margin, "TENANT")))
			case "plan":
				return r.printItems(costs.Plans, columns(fmt.Sprintf(margin, "PLAN")))
			case "route":
				return r.printItems(costs.Routes, columns("TENANT:/tenant ROUTE:/route COMPUTE:/compute EGRESS:/egress INGRESS:/ingress CALLS:/calls COST:/cost"))
			}
			return &exit{exitUsage, fmt.Errorf("--by %q is unknown: use tenant, plan or route%s", by, didYouMean(by, []string{"tenant", "plan", "route"}))}
		},
	}
	span.add(c)
	c.Flags().StringVar(&by, "by", "tenant", "tenant, plan or route")
	c.AddCommand(costSet(r), costRevenue(r))
	return c
}

func costSet(r *remote) *cobra.Command {
	var f changeFlags
	var file string
	c := &cobra.Command{
		Use: "set", Short: "Say what traffic costs", Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			sheet, err := r.readSheet(file)
			if err != nil {
				return err
			}
			err = r.show(cmd.Context(), client.Call{Operation: client.SetCostSheet, Query: f.query(), Body: sheet.raw}, columns("CURRENCY:/currency COMPUTE_HOUR:/compute_hour EGRESS_GB:/egress_gb INGRESS_GB:/ingress_gb CALL:/call"))
			return sheet.located(err)
		},
	}
	c.Flags().StringVarP(&file, "file", "f", "", "cost sheet, - for standard input")
	_ = c.MarkFlagRequired("file") // the flag is there
	f.add(c, false)
	return c
}

func costRevenue(r *remote) *cobra.Command {
	var month, currency, margin string
	c := &cobra.Command{
		Use: "revenue", Short: "Show recurring revenue of a month, and how it came about", Args: arguments(cobra.NoArgs),
		Long: `Revenue shows the fees per period of a month as months, with quantities and
percentage discounts: usage, single fees, tax, trials and pauses do not count.

  START + NEW + REACTIVATED + EXPANSION - CONTRACTION - CHURNED = END

  NEW          of tenants that paid nothing at the start, and never before
  REACTIVATED  of tenants that paid nothing at the start, but before it
  EXPANSION    what tenants of the start pay more; CONTRACTION what they pay less
  CHURNED      what tenants of the start paid that pay nothing at the end
  MRR, ARR     END, and 12 times that
  ARPU         MRR over the tenants that pay at the end
  NRR          (START + EXPANSION - CONTRACTION - CHURNED) / START
  GRR          the same without EXPANSION
  CHURN        tenants lost over tenants at the start
  LTV          ARPU times the margin over CHURN
  INVOICED     what was issued in the month before tax, usage too, less what is
               void or credited

A figure whose divisor is zero is absent. As JSON each tenant is told too.`,
		Example: "  gatehouse cost revenue --month 2026-01 --margin 0.8",
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := map[string][]string{"currency": {currency}, "margin": {margin}}
			if month != "" {
				q["month"] = []string{month}
			}
			return r.show(cmd.Context(), client.Call{Operation: client.GetRevenue, Query: q}, columns(
				"CURRENCY:/currency START:/bridge/start NEW:/bridge/new REACTIVATED:/bridge/reactivated EXPANSION:/bridge/expansion CONTRACTION:/bridge/contraction "+
					"CHURNED:/bridge/churned END:/bridge/end MRR:/metrics/mrr ARR:/metrics/arr ARPU:/metrics/arpu NRR:/metrics/nrr GRR:/metrics/grr CHURN:/metrics/churn LTV:/metrics/ltv INVOICED:/invoiced"))
		},
	}
	c.Flags().StringVar(&month, "month", "", "as 2026-01 (default: the month that runs)")
	c.Flags().StringVar(&currency, "currency", "EUR", "of the plans that count")
	c.Flags().StringVar(&margin, "margin", "1", "gross margin as a fraction, for LTV")
	return c
}
