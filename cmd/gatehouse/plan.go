package main

import (
	"fmt"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/client"
	"github.com/spf13/cobra"
)

func planView() view {
	return columns("ID:/id NAME:/name REQUESTS:/limits/requests CONCURRENCY:/limits/concurrency REVISION:/revision UPDATED:/updated")
}

func allPlans([]string) client.Call { return client.Call{Operation: client.ListPlans} }

func planCommand(r *remote) *cobra.Command {
	c := group("plan", "Work with plans", "")
	c.AddCommand(
		&cobra.Command{
			Use: "list", Short: "List plans", Args: arguments(cobra.NoArgs),
			RunE: func(cmd *cobra.Command, _ []string) error { return r.list(cmd.Context(), allPlans(nil), 0, planView()) },
		},
		&cobra.Command{
			Use: "get ID", Short: "Show a plan", Args: arguments(cobra.ExactArgs(1)), ValidArgsFunction: r.complete(0, allPlans),
			RunE: func(cmd *cobra.Command, args []string) error {
				err := r.show(cmd.Context(), client.Call{Operation: client.GetPlan, Path: args}, planView())
				return r.missing(cmd.Context(), err, "plan", args[0], allPlans(nil))
			},
		},
		planPut(r, "create", "Create a plan from a document"), planPut(r, "replace", "Replace a plan; its tenants are held to it at once"), planDelete(r),
	)
	c.AddCommand(planBilling(r)...)
	return c
}

// planPut creates or replaces the one plan of a document.
func planPut(r *remote, verb, short string) *cobra.Command {
	var f changeFlags
	var file, match string
	c := &cobra.Command{
		Use: verb, Short: short, Args: arguments(cobra.NoArgs),
		Example: "  gatehouse plan " + verb + " -f plan.yaml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			plan, err := r.onePlan(file)
			if err != nil {
				return err
			}
			call := client.Call{Operation: client.CreatePlan, Query: f.query(), Body: plan}
			if verb == "replace" {
				call.Operation, call.Path, call.Match = client.ReplacePlan, []string{string(plan.ID)}, match
			}
			return r.missing(cmd.Context(), r.show(cmd.Context(), call, planView()), "plan", string(plan.ID), allPlans(nil))
		},
	}
	c.Flags().StringVarP(&file, "file", "f", "", "document with one plan, - for standard input")
	_ = c.MarkFlagRequired("file") // the flag is there
	if verb == "replace" {
		c.Flags().StringVar(&match, "if-match", "*", "ETag of the plan that is to be replaced; *: whatever there is")
	}
	f.add(c, false)
	return c
}

func (r *remote) onePlan(name string) (*gatehouse.Plan, error) {
	file, err := r.readDocument(name)
	if err != nil {
		return nil, err
	}
	if len(file.Document.Plans) != 1 || len(file.Document.Tenants) > 0 {
		return nil, &exit{exitUsage, fmt.Errorf("%s holds %s and %s, not one plan: see gatehouse apply", name,
			count(len(file.Document.Plans), "plan"), count(len(file.Document.Tenants), "tenant"))}
	}
	return &file.Document.Plans[0], nil
}

func planDelete(r *remote) *cobra.Command {
	var f changeFlags
	c := &cobra.Command{
		Use: "delete ID", Short: "Delete a plan that no tenant has", Args: arguments(cobra.ExactArgs(1)), ValidArgsFunction: r.complete(0, allPlans),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := confirm(cmd.Context(), r.s, &f, "delete plan", args[0]); err != nil {
				return err
			}
			err := r.remove(cmd.Context(), client.Call{Operation: client.DeletePlan, Path: args, Query: f.query()}, &f, "plan "+args[0]+" is deleted")
			return r.missing(cmd.Context(), err, "plan", args[0], allPlans(nil))
		},
	}
	f.add(c, true)
	return c
}
