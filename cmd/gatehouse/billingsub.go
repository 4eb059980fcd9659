package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/gatehouse-gateway/gatehouse/control/client"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
	"github.com/spf13/cobra"
)

// amendment is a command that changes a subscription.
type amendment struct {
	changeFlags
	subscription string
	// times are flags of instants, by the name of their field.
	times map[string]*string
}

// command makes the command of an amendment, whose body has what it says.
// Dangerous ones ask first.
func (a *amendment) command(r *remote, c *cobra.Command, operation client.Operation, dangerous bool, body func(args []string) (map[string]any, error)) *cobra.Command {
	if c.ValidArgsFunction == nil {
		c.ValidArgsFunction = r.complete(0, allTenants)
	}
	verb, _, _ := strings.Cut(c.Use, " ")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		doc, err := body(args)
		if err != nil {
			return &exit{exitUsage, err}
		}
		for name, text := range a.times {
			at, err := instantOf(*text, time.Time{})
			if err != nil {
				return &exit{exitUsage, fmt.Errorf("--%s: %w", name, err)}
			}
			if !at.IsZero() {
				doc[name] = at
			}
		}
		if dangerous {
			if err := confirm(cmd.Context(), r.s, &a.changeFlags, verb+" subscription "+a.subscription+" of", args[0]); err != nil {
				return err
			}
		}
		return r.amend(cmd.Context(), client.Call{Operation: operation, Path: []string{args[0], a.subscription}, Query: a.query(), Body: doc}, args[0])
	}
	c.Flags().StringVar(&a.subscription, "subscription", "main", "which subscription of the tenant")
	a.add(c, dangerous)
	return c
}

// at adds the flag of an instant.
func (a *amendment) at(c *cobra.Command, name, usage string) {
	if a.times == nil {
		a.times = map[string]*string{}
	}
	a.times[name] = c.Flags().String(name, "", usage+", RFC 3339 or a date")
}

func (r *remote) amend(ctx context.Context, call client.Call, tenant string) error {
	err := r.show(ctx, call, columns("ID:/id PLAN:/plan/id VERSION:/plan/version STATE:/state START:/start END:/end CHANGES:/changes/plan/id CLOSED_UNTIL:/closed_until"))
	return r.subscribed(ctx, err, tenant)
}

func nothing([]string) (map[string]any, error) { return map[string]any{}, nil }

func billingChange(r *remote) *cobra.Command {
	var a amendment
	var version int
	var quantities []string
	c := &cobra.Command{
		Use: "change TENANT PLAN", Short: "Move a subscription to another plan, version or quantities", Args: arguments(cobra.ExactArgs(2)),
		ValidArgsFunction: func(c *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return r.complete(0, allTenants)(c, args, typed)
			}
			return r.complete(1, allPlans)(c, args, typed)
		},
		Long:    "Change dates back too, as far as the period is not billed. Without quantities they\nstay as they are; one that is named replaces them all, and the others are 1.",
		Example: "  gatehouse billing change acme enterprise --quantity seats=12 --at 2026-03-01T00:00:00Z",
	}
	a.at(c, "at", "when (default now)")
	numberFlag(c, &version, "version", 1, "version of the plan (default the newest)")
	c.Flags().StringArrayVar(&quantities, "quantity", nil, "units of a fee, as seats=12; may be repeated")
	return a.command(r, c, client.ChangeSubscription, false, func(args []string) (map[string]any, error) {
		doc := map[string]any{"plan": args[1], "version": version}
		if len(quantities) > 0 {
			units := map[string]billing.Decimal{}
			for _, text := range quantities {
				fee, n, _ := strings.Cut(text, "=")
				q, err := billing.ParseDecimal(n)
				if err != nil || fee == "" {
					return nil, fmt.Errorf("--quantity: %q is not as seats=12", text)
				}
				units[fee] = q
			}
			doc["quantities"] = units
		}
		return doc, nil
	})
}

func billingCancel(r *remote) *cobra.Command {
	var a amendment
	var periodEnd, refund bool
	c := &cobra.Command{
		Use: "cancel TENANT", Short: "End a subscription; its last period is billed as any other", Args: arguments(cobra.ExactArgs(1)),
		Example: "  gatehouse billing cancel acme --period-end",
	}
	a.at(c, "at", "when it ends (default now)")
	c.Flags().BoolVar(&periodEnd, "period-end", false, "at the end of the period that runs then")
	c.Flags().BoolVar(&refund, "refund", false, "give back the unused part of fees paid in advance")
	return a.command(r, c, client.CancelSubscription, true, func([]string) (map[string]any, error) {
		return map[string]any{"period_end": periodEnd, "refund": refund}, nil
	})
}

func billingPause(r *remote) *cobra.Command {
	var a amendment
	c := &cobra.Command{
		Use: "pause TENANT", Short: "Stop recurring fees for a while; usage is billed", Args: arguments(cobra.ExactArgs(1)),
		Example: "  gatehouse billing pause acme --until 2026-09-01",
	}
	a.at(c, "at", "when it begins (default now)")
	a.at(c, "until", "when it ends (default: it lasts)")
	return a.command(r, c, client.PauseSubscription, false, nothing)
}

func billingResume(r *remote) *cobra.Command {
	var a amendment
	c := &cobra.Command{Use: "resume TENANT", Short: "End a pause", Args: arguments(cobra.ExactArgs(1)), Example: "  gatehouse billing resume acme"}
	a.at(c, "at", "when (default now)")
	return a.command(r, c, client.ResumeSubscription, false, nothing)
}

func billingCorrect(r *remote) *cobra.Command {
	var f changeFlags
	var subscription string
	c := &cobra.Command{
		Use: "correct TENANT", Short: "Bill what came late for a subscription that has ended", Args: arguments(cobra.ExactArgs(1)), ValidArgsFunction: r.complete(0, allTenants),
		Long:    "Correct issues an invoice of what came late or was taken back after the last one of\na subscription. The control plane does so by itself, a day after the one before.\nWhile a subscription lasts, its next invoice has it.",
		Example: "  gatehouse billing correct acme --dry-run",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := confirm(cmd.Context(), r.s, &f, "issue a correction for", args[0]); err != nil {
				return err
			}
			body := map[string]any{"subscription": subscription, "kind": billing.Correction}
			err := r.show(cmd.Context(), client.Call{Operation: client.FinalizeInvoice, Path: args, Query: f.query(), Body: body}, invoiceView())
			return r.subscribed(cmd.Context(), err, args[0])
		},
	}
	c.Flags().StringVar(&subscription, "subscription", "main", "which subscription of the tenant")
	f.add(c, true)
	return c
}
