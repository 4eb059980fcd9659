package main

import (
	"encoding/json"
	"fmt"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/client"
	"github.com/gatehouse-gateway/gatehouse/control/invoicing"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
	"github.com/spf13/cobra"
)

func versionView() view {
	return columns("VERSION:/version NAME:/name CURRENCY:/currency EVERY:/cadence/unit MINIMUM:/minimum USED:/used")
}

// planBilling are the commands of gatehouse plan that are about prices.
func planBilling(r *remote) []*cobra.Command {
	return []*cobra.Command{planPrice(r), planVersions(r), planSubscribe(r), planReplay(r)}
}

func planPrice(r *remote) *cobra.Command {
	var f changeFlags
	var file string
	c := &cobra.Command{
		Use: "price ID", Short: "Add a version of a plan with its prices", Args: arguments(cobra.ExactArgs(1)), ValidArgsFunction: r.complete(0, allPlans),
		Long:    "Price adds the next version of a plan. Subscriptions keep the version that they\nhave; those that begin later get the newest.",
		Example: "  gatehouse plan price premium -f configs/prices/premium.yaml",
		RunE: func(cmd *cobra.Command, args []string) error {
			doc, err := r.readPrices(file, args[0])
			if err != nil {
				return err
			}
			doc.plan.Version = 0
			answer, err := r.do(cmd.Context(), client.Call{Operation: client.CreatePriceVersion, Path: args, Query: f.query(), Body: doc.plan})
			if err != nil {
				return r.missing(cmd.Context(), doc.located(err), "plan", args[0], allPlans(nil))
			}
			var made struct {
				Warnings gatehouse.Faults `json:"warnings"`
			}
			if err := answer.Into(&made); err != nil {
				return err
			}
			if len(made.Warnings) > 0 {
				fmt.Fprintln(r.s.errors, doc.problems(made.Warnings).Error())
			}
			return r.answered(answer, &f, versionView())
		},
	}
	c.Flags().StringVarP(&file, "file", "f", "", "document of the prices, - for standard input")
	_ = c.MarkFlagRequired("file") // the flag is there
	f.add(c, false)
	return c
}

func planVersions(r *remote) *cobra.Command {
	return &cobra.Command{
		Use: "versions ID", Short: "List the versions of a plan", Args: arguments(cobra.ExactArgs(1)), ValidArgsFunction: r.complete(0, allPlans),
		RunE: func(cmd *cobra.Command, args []string) error {
			err := r.whole(cmd.Context(), client.Call{Operation: client.ListPriceVersions, Path: args}, versionView())
			return r.missing(cmd.Context(), err, "plan", args[0], allPlans(nil))
		},
	}
}

func planSubscribe(r *remote) *cobra.Command {
	var f changeFlags
	var id, start, anchor, zone string
	var version int
	c := &cobra.Command{
		Use: "subscribe ID TENANT", Short: "Subscribe a tenant to a plan, by its prices", Args: arguments(cobra.ExactArgs(2)), ValidArgsFunction: r.complete(0, allPlans),
		Example: "  gatehouse plan subscribe premium acme --tz Europe/Rome --anchor 2026-01-01T00:00:00+01:00",
		RunE: func(cmd *cobra.Command, args []string) error {
			body := map[string]any{"plan": args[0], "id": id, "version": version}
			for name, v := range map[string]string{"start": start, "anchor": anchor, "time_zone": zone} {
				if v != "" {
					body[name] = v
				}
			}
			call := client.Call{Operation: client.SetBilling, Path: args[1:], Query: f.query(), Body: body}
			err := r.show(cmd.Context(), call, columns("ID:/id PLAN:/plan/id VERSION:/plan/version STATE:/state START:/start CLOSED_UNTIL:/closed_until"))
			return r.tenant(cmd.Context(), err, args[1])
		},
	}
	c.Flags().StringVar(&id, "subscription", "main", "id of the subscription within the tenant")
	numberFlag(c, &version, "version", 1, "version of the plan (default the newest)")
	c.Flags().StringVar(&start, "start", "", "when it begins, RFC 3339 (default now)")
	c.Flags().StringVar(&anchor, "anchor", "", "an instant at which a period begins, RFC 3339 (default the start)")
	c.Flags().StringVar(&zone, "tz", "", "time zone of its calendar, such as Europe/Rome (default UTC)")
	f.add(c, false)
	return c
}

func planReplay(r *remote) *cobra.Command {
	var files []string
	var at string
	var all bool
	c := &cobra.Command{
		Use: "replay ID", Short: "Show what each tenant of a plan would have paid under draft prices", Args: arguments(cobra.ExactArgs(1)), ValidArgsFunction: r.complete(0, allPlans),
		Long:    "Replay prices metered usage once more, under each of the drafts. Nothing is\nchanged: what it prints is for someone to decide on.",
		Example: "  gatehouse plan replay premium -f draft.yaml --at 2026-01-15T00:00:00Z",
		RunE: func(cmd *cobra.Command, args []string) error {
			body := map[string]any{"all": all}
			var drafts []*billing.Plan
			for _, file := range files {
				doc, err := r.readPrices(file, args[0])
				if err != nil {
					return err
				}
				drafts = append(drafts, doc.plan)
			}
			body["drafts"] = drafts
			if at != "" {
				body["at"] = at
			}
			answer, err := r.do(cmd.Context(), client.Call{Operation: client.ReplayPrices, Path: args, Body: body})
			if err != nil {
				return r.missing(cmd.Context(), err, "plan", args[0], allPlans(nil))
			}
			return r.replayed(answer)
		},
	}
	c.Flags().StringArrayVarP(&files, "file", "f", nil, "draft prices; may be repeated")
	_ = c.MarkFlagRequired("file") // the flag is there
	c.Flags().StringVar(&at, "at", "", "an instant in the periods that are priced again (default: a month ago)")
	c.Flags().BoolVar(&all, "all", false, "tenants of other plans too")
	return c
}

// replayed prints the tenants of a replay; as JSON and YAML all of it.
func (r *remote) replayed(answer *client.Answer) error {
	form, err := r.format()
	if err != nil {
		return err
	}
	if form == "json" || form == "yaml" {
		return r.print(answer.Body, view{})
	}
	var parts struct {
		Tenants []json.RawMessage    `json:"tenants"`
		Failed  []invoicing.Unpriced `json:"failed"`
	}
	if err := answer.Into(&parts); err != nil {
		return err
	}
	for _, f := range parts.Failed {
		fmt.Fprintf(r.s.errors, "warning: %s/%s cannot be priced: %s\n", f.Tenant, f.Subscription, f.Faults[0].Reason)
	}
	return r.printItems(parts.Tenants, columns("TENANT:/tenant PAID:/paid WOULD:/would BEST:/best SAVES:/saves"))
}
