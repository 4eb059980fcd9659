package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"time"

	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/client"
	"github.com/spf13/cobra"
)

func eventView() view {
	return columns("REVISION:/revision AT:/at ACTOR:/actor KIND:/kind TENANT:/tenant SUBJECT:/subject WHY:/why")
}

// eventFlags filter events.
type eventFlags struct {
	tenant, actor, subject, kind string
	from, to                     string
	limit                        int
}

func (f *eventFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.tenant, "tenant", "", "those about this tenant")
	c.Flags().StringVar(&f.actor, "actor", "", "those of this actor")
	c.Flags().StringVar(&f.subject, "subject", "", "those about this thing")
	c.Flags().StringVar(&f.kind, "kind", "", "kinds, separated by commas, such as tenant.*")
	c.Flags().StringVar(&f.from, "from", "", "since this time (RFC 3339), or for this long, such as 24h")
	c.Flags().StringVar(&f.to, "to", "", "before this time (RFC 3339)")
	f.limit = 100
	numberFlag(c, &f.limit, "limit", 0, "most that are listed, the newest; 0: all (default 100)")
}

func (f *eventFlags) call() (client.Call, error) {
	q := url.Values{}
	for name, v := range map[string]string{"actor": f.actor, "subject": f.subject, "kind": f.kind} {
		if v != "" {
			q.Set(name, v)
		}
	}
	for name, v := range map[string]string{"from": f.from, "to": f.to} {
		if v == "" {
			continue
		}
		if d, err := time.ParseDuration(v); err == nil {
			v = time.Now().Add(-d).UTC().Format(time.RFC3339)
		}
		if _, err := time.Parse(time.RFC3339, v); err != nil {
			return client.Call{}, &exit{exitUsage, fmt.Errorf("--%s: a time such as 2027-01-31T00:00:00Z, or a span such as 24h, is expected", name)}
		}
		q.Set(name, v)
	}
	if f.tenant != "" {
		return client.Call{Operation: client.ListAudit, Path: []string{f.tenant}, Query: q}, nil
	}
	return client.Call{Operation: client.ListRevisions, Query: q}, nil
}

func eventList(r *remote, use, short string) *cobra.Command {
	var f eventFlags
	c := &cobra.Command{
		Use: use, Short: short, Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			call, err := f.call()
			if err != nil {
				return err
			}
			return r.list(cmd.Context(), call, f.limit, eventView())
		},
	}
	f.add(c)
	return c
}

func auditCommand(r *remote) *cobra.Command {
	c := group("audit", "Read and check the audit trail", "The audit trail is the journal of the control plane: each change, and each refusal, is an event in a chain of hashes.")
	c.AddCommand(eventList(r, "list", "List what was done, newest first"), auditVerify(r), auditExport(r))
	return c
}

func auditVerify(r *remote) *cobra.Command {
	return &cobra.Command{
		Use: "verify", Short: "Check the whole chain; exit code 2 when it is broken", Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			answer, err := r.do(cmd.Context(), client.Call{Operation: client.VerifyAudit})
			if err != nil {
				return err
			}
			if err := r.print(answer.Body, columns("EVENTS:/events HEAD:/head/seq HASH:/head/hash FAULTS:/faults#")); err != nil {
				return err
			}
			var report struct {
				Faults []json.RawMessage `json:"faults"`
			}
			if err := answer.Into(&report); err != nil {
				return err
			}
			for _, f := range report.Faults {
				fmt.Fprintln(r.s.errors, string(f))
			}
			if n := len(report.Faults); n > 0 {
				return &exit{exitFindings, fmt.Errorf("the chain is broken: %s", count(n, "fault"))}
			}
			return nil
		},
	}
}

func auditExport(r *remote) *cobra.Command {
	var after uint64
	c := &cobra.Command{
		Use: "export", Short: "Write the journal to standard output, an event a line, oldest first", Args: arguments(cobra.NoArgs),
		Example: "  gatehouse audit export > journal.ndjson",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := r.client()
			if err != nil {
				return err
			}
			body, err := c.Open(cmd.Context(), client.Call{Operation: client.ExportAudit, Query: url.Values{"after": {fmt.Sprint(after)}}})
			if err != nil {
				return err
			}
			defer body.Close()
			_, err = io.Copy(r.s.out, body)
			if cmd.Context().Err() != nil {
				return cmd.Context().Err()
			}
			return err
		},
	}
	c.Flags().Uint64Var(&after, "after", 0, "events after this revision")
	return c
}

func revisionCommand(r *remote) *cobra.Command {
	c := group("revision", "Look at changes, and take them back", "")
	c.AddCommand(
		eventList(r, "list", "List changes, newest first"),
		&cobra.Command{
			Use: "get REVISION", Short: "Show a change", Args: arguments(cobra.ExactArgs(1)),
			RunE: func(cmd *cobra.Command, args []string) error {
				return r.show(cmd.Context(), client.Call{Operation: client.GetRevision, Path: args}, eventView())
			},
		},
		revisionDiff(r), revisionRollback(r),
	)
	return c
}

func revisionDiff(r *remote) *cobra.Command {
	var tenant string
	c := &cobra.Command{
		Use: "diff REVISION [LATER]", Short: "Show what a change changed, or what lies between two",
		Long:    "With one revision diff shows what it changed; with two, what differs between the\nstate after the one and that after the other.",
		Example: "  gatehouse revision diff 42\n  gatehouse revision diff 17 42 --tenant acme",
		Args:    arguments(cobra.RangeArgs(1, 2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			call := client.Call{Operation: client.GetRevision, Path: args[:1]}
			if len(args) == 2 {
				call.Operation, call.Query = client.CompareRevisions, url.Values{"to": args[1:]}
				if tenant != "" {
					call.Query.Set("tenant", tenant)
				}
			} else if tenant != "" {
				return &exit{exitUsage, errors.New("--tenant goes with two revisions")}
			}
			answer, err := r.do(cmd.Context(), call)
			if err != nil {
				return err
			}
			var is struct {
				Changes []control.ResourceChange `json:"changes"`
			}
			if err := answer.Into(&is); err != nil {
				return err
			}
			items := []json.RawMessage{}
			for _, change := range is.Changes {
				for _, part := range change.Parts {
					raw, err := json.Marshal(changeRow{change.Kind, change.ID, part})
					if err != nil {
						return err
					}
					items = append(items, raw)
				}
			}
			return r.printItems(items, columns("KIND:/kind ID:/id POINTER:/pointer BEFORE:/before AFTER:/after"))
		},
	}
	c.Flags().StringVar(&tenant, "tenant", "", "what belongs to this tenant")
	return c
}

// changeRow is one part that differs.
type changeRow struct {
	Kind string `json:"kind"`
	ID   string `json:"id"`
	control.Difference
}

func revisionRollback(r *remote) *cobra.Command {
	var tenant string
	c := tenantRollback(r)
	run := c.RunE
	c.Use, c.Short, c.Example = "rollback REVISION", "Give a tenant back the document that it had after a revision", "  gatehouse revision rollback 42 --tenant acme --yes"
	c.ValidArgsFunction = nil
	c.Flags().StringVar(&tenant, "tenant", "", "the tenant")
	_ = c.MarkFlagRequired("tenant") // the flag is there
	_ = c.Flags().MarkHidden("to")   // it is the argument
	c.Flags().Lookup("to").Annotations = nil
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if err := cmd.Flags().Set("to", args[0]); err != nil {
			return &exit{exitUsage, err}
		}
		return run(cmd, []string{tenant})
	}
	return c
}

func gatewayCommand(r *remote) *cobra.Command {
	c := group("gateway", "Look at the data planes", "")
	c.AddCommand(&cobra.Command{
		Use: "list", Short: "List the data planes, and where each stands", Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			answer, err := r.do(cmd.Context(), client.Call{Operation: client.ListGateways})
			if err != nil {
				return err
			}
			var page struct {
				Items []json.RawMessage `json:"items"`
			}
			if err := answer.Into(&page); err != nil {
				return err
			}
			return r.write(answer.Body, page.Items, gatewayView())
		},
	})
	return c
}

func gatewayView() view {
	return columns("ID:/id CONNECTED:/connected SENT:/sent ACKNOWLEDGED:/acknowledged LAG_MS:/lag_ms REFUSED:/refused# VERSION:/version ADDRESS:/address SEEN:/seen")
}
