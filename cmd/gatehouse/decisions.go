package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/client"
	"github.com/spf13/cobra"
)

func policyDecisions(r *remote) *cobra.Command {
	var limit int
	c := &cobra.Command{
		Use: "decisions TENANT", Short: "List the newest decisions that are kept", Args: arguments(cobra.ExactArgs(1)), ValidArgsFunction: r.complete(0, allTenants),
		Long:    "Decisions are those of the data plane that is asked. As JSON and YAML they have the\nform of OPA's decision logs, without what was removed to protect it.",
		Example: "  gatehouse policy decisions acme --limit 20\n  gatehouse policy decisions acme -o json > decisions.json",
		RunE: func(cmd *cobra.Command, args []string) error {
			if limit < 1 {
				return &exit{exitUsage, errors.New("--limit is at least 1")}
			}
			c, err := r.client()
			if err != nil {
				return err
			}
			body, err := c.Open(cmd.Context(), client.Call{Operation: client.ListDecisions, Path: args, Query: url.Values{"limit": {strconv.Itoa(limit)}}})
			if err != nil {
				return r.tenant(cmd.Context(), err, args[0])
			}
			defer body.Close()
			items, err := linesOf(body)
			if err != nil {
				return err
			}
			return r.printItems(items, columns("ID:/decision_id AT:/timestamp METHOD:/input/request/method PATH:/input/request/path ALLOW:/result/allow BY:/result/by REASON:/result/reason REPLAYABLE:/custom/replayable"))
		},
	}
	c.Flags().IntVar(&limit, "limit", 100, "most that are listed, the newest")
	return c
}

// linesOf reads values that stand one after the other.
func linesOf(r io.Reader) ([]json.RawMessage, error) {
	items := []json.RawMessage{}
	for d := json.NewDecoder(r); ; {
		var v json.RawMessage
		switch err := d.Decode(&v); {
		case errors.Is(err, io.EOF):
			return items, nil
		case err != nil:
			return nil, &gatehouse.Error{Code: gatehouse.CodeUnavailable, Message: "the control plane's answer broke off", Err: err}
		}
		items = append(items, v)
	}
}

func policyReplay(r *remote) *cobra.Command {
	return &cobra.Command{
		Use: "replay TENANT NUMBER", Short: "Decide the kept requests by a pushed policy; exit code 2 when something would change", Args: arguments(cobra.ExactArgs(2)), ValidArgsFunction: r.complete(0, allTenants),
		Long:    "Replay changes nothing. It lists the requests that would be decided otherwise;\nwith -o json, with all of what each policy says.",
		Example: "  gatehouse policy push acme policy/\n  gatehouse policy replay acme 4",
		RunE: func(cmd *cobra.Command, args []string) error {
			answer, err := r.do(cmd.Context(), client.Call{Operation: client.ReplayPolicy, Path: args})
			if err != nil {
				return err
			}
			var out struct {
				Entries       int               `json:"entries"`
				NotReplayable int               `json:"not_replayable"`
				Changed       int               `json:"changed"`
				Changes       []json.RawMessage `json:"changes"`
			}
			if err := answer.Into(&out); err != nil {
				return err
			}
			if err := r.write(answer.Body, out.Changes, columns("ID:/entry/decision_id AT:/entry/timestamp METHOD:/entry/input/request/method PATH:/entry/input/request/path WAS:/old/allow WOULD_BE:/new/allow REASON:/new/reason")); err != nil {
				return err
			}
			fmt.Fprintf(r.s.errors, "%d of %s would be decided otherwise; %d cannot be told, as what they read was not kept\n",
				out.Changed, count(out.Entries, "request"), out.NotReplayable)
			if out.Changed > 0 {
				return &exit{exitFindings, fmt.Errorf("%s would change", count(out.Changed, "decision"))}
			}
			return nil
		},
	}
}
