package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/gatehouse-gateway/gatehouse/control/client"
	"github.com/spf13/cobra"
)

// usageCommand is what comes into the ledger by hand.
func usageCommand(r *remote) *cobra.Command {
	c := group("usage", "Record and correct usage", "Usage of requests is counted by the data plane. What was measured elsewhere is\nrecorded, and what is wrong is corrected; nothing in the ledger is deleted.")
	c.AddCommand(usageRecord(r), usageAdjust(r), usageAdjustments(r))
	return c
}

func usageRecord(r *remote) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use: "record", Short: "Record usage that was measured elsewhere", Args: arguments(cobra.NoArgs),
		Long: `Record sends one CloudEvent, or a list of at most 1000: type is the meter, subject
the tenant, and data holds value. Source and id name an event for ever, so that
the same file can be sent again. Exit code 5: another event has that source and
id; 2: some events were refused, and why stands on standard error.`,
		Example: "  gatehouse usage record -f events.json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := readInput(r.s, file)
			if err != nil {
				return &exit{exitUsage, fmt.Errorf("read events: %w", err)}
			}
			if !json.Valid(text) {
				return &exit{exitUsage, errors.New("the events are not JSON")}
			}
			answer, err := r.do(cmd.Context(), client.Call{Operation: client.RecordEvents, Body: json.RawMessage(text)})
			if err != nil {
				return err
			}
			var list struct {
				Items []json.RawMessage `json:"items"`
			}
			if err := answer.Into(&list); err != nil {
				return err
			}
			if err := r.printItems(list.Items, columns("SOURCE:/source ID:/id VERDICT:/verdict REASON:/reason")); err != nil {
				return err
			}
			bad := 0
			for _, item := range list.Items {
				if v := fmt.Sprint(at(item, "/verdict")); v != "recorded" && v != "duplicate" {
					bad++
				}
			}
			if bad > 0 {
				return &exit{exitFindings, fmt.Errorf("%s refused", count(bad, "event"))}
			}
			return nil
		},
	}
	c.Flags().StringVarP(&file, "file", "f", "-", "file of events, - for standard input")
	return c
}

func usageAdjust(r *remote) *cobra.Command {
	var a struct {
		ID       string `json:"id,omitempty"`
		Tenant   string `json:"tenant"`
		Meter    string `json:"meter"`
		Route    string `json:"route,omitempty"`
		Consumer string `json:"consumer,omitempty"`
		Plan     string `json:"plan,omitempty"`
		Time     string `json:"time"`
		Value    string `json:"value"`
		Reason   string `json:"reason"`
		Approver string `json:"approver,omitempty"`
	}
	c := &cobra.Command{
		Use: "adjust TENANT", Short: "Correct a tenant's usage by a signed amount", Args: arguments(cobra.ExactArgs(1)), ValidArgsFunction: r.complete(0, allTenants),
		Long: `Adjust adds to a tenant's usage, or takes from it. What it corrects stays in the
ledger as it was, and the adjustment beside it with its reason. With --id the
command can be repeated.`,
		Example: "  gatehouse usage adjust acme --meter requests --value=-1200 --time 2026-03-04T10:00:00Z --reason \"outage of 4 March\"",
		RunE: func(cmd *cobra.Command, args []string) error {
			a.Tenant = args[0]
			if a.Value == "" || a.Reason == "" {
				return &exit{exitUsage, errors.New("give a --value and a --reason")}
			}
			if a.Time == "" {
				a.Time = time.Now().UTC().Format(time.RFC3339)
			}
			answer, err := r.do(cmd.Context(), client.Call{Operation: client.AdjustUsage, Path: args, Body: &a})
			if err != nil {
				return r.tenant(cmd.Context(), err, args[0])
			}
			return r.print(answer.Body, adjustmentView())
		},
	}
	f := c.Flags()
	f.StringVar(&a.Meter, "meter", "requests", "what is corrected")
	f.StringVar(&a.Value, "value", "", "signed decimal number in the meter's unit, as --value=-5")
	f.StringVar(&a.Time, "time", "", "instant whose usage is corrected (RFC 3339; default now)")
	f.StringVar(&a.Reason, "reason", "", "why")
	f.StringVar(&a.Approver, "approver", "", "who agreed (default: the token's owner)")
	f.StringVar(&a.ID, "id", "", "names the adjustment for ever (default: a random one)")
	f.StringVar(&a.Route, "route", "", "usage of this route")
	f.StringVar(&a.Consumer, "consumer", "", "usage of this consumer")
	f.StringVar(&a.Plan, "plan", "", "usage under this plan")
	return c
}

func adjustmentView() view {
	return columns("ID:/id TENANT:/tenant METER:/meter TIME:/time VALUE:/value REASON:/reason APPROVER:/approver")
}

func usageAdjustments(r *remote) *cobra.Command {
	var span rangeFlags
	c := &cobra.Command{
		Use: "adjustments TENANT", Short: "List corrections of a tenant's usage", Args: arguments(cobra.ExactArgs(1)), ValidArgsFunction: r.complete(0, allTenants),
		RunE: func(cmd *cobra.Command, args []string) error {
			answer, err := r.do(cmd.Context(), client.Call{Operation: client.ListAdjustments, Path: args, Query: span.query()})
			if err != nil {
				return r.tenant(cmd.Context(), err, args[0])
			}
			var list struct {
				Items []json.RawMessage `json:"items"`
			}
			if err := answer.Into(&list); err != nil {
				return err
			}
			return r.printItems(list.Items, adjustmentView())
		},
	}
	span.add(c)
	return c
}
