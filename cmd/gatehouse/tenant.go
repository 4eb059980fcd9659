package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/configs"
	"github.com/gatehouse-gateway/gatehouse/control/client"
	"github.com/spf13/cobra"
)

func tenantView() view {
	return columns("ID:/id NAME:/name PLAN:/plan STATUS:/status DOMAIN:/domain ROUTES:/routes# REVISION:/revision UPDATED:/updated")
}

func tenantCommand(r *remote) *cobra.Command {
	c := group("tenant", "Work with tenants", "")
	c.AddCommand(
		tenantCreate(r), tenantGet(r), tenantList(r), tenantEdit(r),
		tenantStatus(r, "suspend", "Answer every request of a tenant with 403", gatehouse.Suspended),
		tenantStatus(r, "resume", "Serve a suspended tenant again", gatehouse.Active),
		tenantDelete(r), tenantRestore(r), tenantPurge(r), tenantRollback(r), tenantUsage(r), tenantMonitor(r), tenantAnalytics(r), tenantHealth(r),
	)
	return c
}

// allTenants is the list that names of tenants are looked up in.
func allTenants([]string) client.Call { return client.Call{Operation: client.ListTenants} }

// tenant adds the nearest name to an error about a tenant.
func (r *remote) tenant(ctx context.Context, err error, id string) error {
	return r.missing(ctx, err, "tenant", id, allTenants(nil))
}

func tenantCreate(r *remote) *cobra.Command {
	var f changeFlags
	var doc struct {
		ID     string   `json:"id,omitempty"`
		Name   string   `json:"name,omitempty"`
		Domain string   `json:"domain,omitempty"`
		Plan   string   `json:"plan,omitempty"`
		Hosts  []string `json:"aliases,omitempty"`
	}
	var file string
	c := &cobra.Command{
		Use: "create [ID]", Short: "Create a tenant",
		Long: `Create makes a tenant from flags, or from a document with one tenant. Without
an id it is made of the name. Backends and routes may come later.`,
		Example: "  gatehouse tenant create acme --domain acme.example.com --plan premium\n  gatehouse tenant create -f acme.yaml",
		Args:    arguments(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			var body any = &doc
			if len(args) == 1 {
				doc.ID = args[0]
			}
			if file != "" {
				if doc.ID+doc.Name+doc.Domain+doc.Plan != "" {
					return &exit{exitUsage, errors.New("give a document or flags, not both")}
				}
				one, err := r.oneTenant(file)
				if err != nil {
					return err
				}
				body = one
			} else if doc.ID+doc.Name == "" {
				return &exit{exitUsage, errors.New("give an id, a --name or a document with -f")}
			}
			return r.show(cmd.Context(), client.Call{Operation: client.CreateTenant, Query: f.query(), Body: body}, tenantView())
		},
	}
	c.Flags().StringVarP(&file, "file", "f", "", "document with one tenant, - for standard input")
	c.Flags().StringVar(&doc.Name, "name", "", "name for people")
	c.Flags().StringVar(&doc.Domain, "domain", "", "host name")
	c.Flags().StringSliceVar(&doc.Hosts, "alias", nil, "further host name; may be repeated")
	c.Flags().StringVar(&doc.Plan, "plan", "", "id of the plan")
	f.add(c, false)
	return c
}

// tenantBody is a tenant as the API takes it: with the contents of the files
// that it names.
type tenantBody struct {
	gatehouse.Tenant
	Files map[string]string `json:"files,omitempty"`
}

func bodyOf(t *gatehouse.Tenant) *tenantBody {
	b := &tenantBody{Tenant: *t}
	for _, a := range t.Attachments() {
		if content := a.Content(); content != nil {
			if b.Files == nil {
				b.Files = map[string]string{}
			}
			b.Files[a.Name] = string(content)
		}
	}
	return b
}

// oneTenant reads a document with one tenant.
func (r *remote) oneTenant(name string) (*tenantBody, error) {
	file, err := r.readDocument(name)
	if err != nil {
		return nil, err
	}
	if len(file.Document.Tenants) != 1 || len(file.Document.Plans) > 0 {
		return nil, &exit{exitUsage, fmt.Errorf("%s holds %s and %s, not one tenant: see gatehouse apply", name,
			count(len(file.Document.Tenants), "tenant"), count(len(file.Document.Plans), "plan"))}
	}
	return bodyOf(&file.Document.Tenants[0]), nil
}

func (r *remote) readDocument(name string) (*configs.File, error) {
	var file *configs.File
	if name == "-" {
		text, err := readInput(r.s, name)
		if err != nil {
			return nil, err
		}
		file = configs.Parse("standard input", text)
	} else {
		file = configs.ReadFile(name)
	}
	if faults := file.Problems.Errors(); len(faults) > 0 {
		return nil, hintList(faults)
	}
	return file, nil
}

func tenantGet(r *remote) *cobra.Command {
	var revision uint64
	c := &cobra.Command{
		Use: "get ID", Short: "Show a tenant", Args: arguments(cobra.ExactArgs(1)), ValidArgsFunction: r.complete(0, allTenants),
		Example: "  gatehouse tenant get acme -o yaml\n  gatehouse tenant get acme --revision 42",
		RunE: func(cmd *cobra.Command, args []string) error {
			q := url.Values{}
			if revision > 0 {
				q.Set("revision", fmt.Sprint(revision))
			}
			err := r.show(cmd.Context(), client.Call{Operation: client.GetTenant, Path: args, Query: q}, tenantView())
			return r.tenant(cmd.Context(), err, args[0])
		},
	}
	c.Flags().Uint64Var(&revision, "revision", 0, "as it was after this revision")
	return c
}

func tenantList(r *remote) *cobra.Command {
	q := map[string]*string{}
	var deleted bool
	var limit int
	c := &cobra.Command{
		Use: "list", Short: "List tenants", Args: arguments(cobra.NoArgs),
		Example: "  gatehouse tenant list --plan premium -o csv",
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := url.Values{}
			for name, v := range q {
				if *v != "" {
					query.Set(name, *v)
				}
			}
			if deleted {
				query.Set("deleted", "true")
			}
			return r.list(cmd.Context(), client.Call{Operation: client.ListTenants, Query: query}, limit, tenantView())
		},
	}
	for name, usage := range map[string]string{
		"plan": "those of this plan", "status": "those that are active or suspended", "host": "the one that has this host",
		"prefix": "those whose id begins so", "sort": "id (default) or -updated",
	} {
		q[name] = c.Flags().String(name, "", usage)
	}
	c.Flags().BoolVar(&deleted, "deleted", false, "those that wait to be purged")
	numberFlag(c, &limit, "limit", 0, "most that are listed (default 0: all)")
	return c
}

func tenantStatus(r *remote, verb, short string, status gatehouse.Status) *cobra.Command {
	var f changeFlags
	dangerous := status == gatehouse.Suspended
	c := &cobra.Command{
		Use: verb + " ID", Short: short, Args: arguments(cobra.ExactArgs(1)), ValidArgsFunction: r.complete(0, allTenants),
		RunE: func(cmd *cobra.Command, args []string) error {
			if dangerous {
				if err := confirm(cmd.Context(), r.s, &f, "suspend tenant", args[0]); err != nil {
					return err
				}
			}
			err := r.show(cmd.Context(), client.Call{
				Operation: client.PatchTenant, Path: args, Query: f.query(), Body: map[string]any{"status": status},
			}, tenantView())
			return r.tenant(cmd.Context(), err, args[0])
		},
	}
	f.add(c, dangerous)
	return c
}

// tenantVerb is a command that makes one call about a tenant.
func tenantVerb(r *remote, use, short, long, what string, call func() client.Call) *cobra.Command {
	var f changeFlags
	c := &cobra.Command{
		Use: use + " ID", Short: short, Long: long, Args: arguments(cobra.ExactArgs(1)), ValidArgsFunction: r.complete(0, allTenants),
		RunE: func(cmd *cobra.Command, args []string) error {
			if what != "" {
				if err := confirm(cmd.Context(), r.s, &f, what, args[0]); err != nil {
					return err
				}
			}
			call := call()
			query := f.query()
			for name, values := range call.Query {
				query[name] = values
			}
			call.Path, call.Query = args, query
			return r.tenant(cmd.Context(), r.show(cmd.Context(), call, tenantView()), args[0])
		},
	}
	f.add(c, what != "")
	return c
}

func tenantDelete(r *remote) *cobra.Command {
	return tenantVerb(r, "delete", "Take a tenant out of service, to be purged later",
		`Delete takes a tenant out of service at once. It can be restored until its time
of grace is over; then it is purged.`, "delete tenant",
		func() client.Call { return client.Call{Operation: client.DeleteTenant} })
}

func tenantRestore(r *remote) *cobra.Command {
	return tenantVerb(r, "restore", "Take a deletion back", "", "", func() client.Call { return client.Call{Operation: client.RestoreTenant} })
}

func tenantPurge(r *remote) *cobra.Command {
	return tenantVerb(r, "purge", "Remove a deleted tenant for good", "Purge removes a deleted tenant before its time of grace is over. There is no way back.", "purge tenant",
		func() client.Call { return client.Call{Operation: client.PurgeTenant} })
}

func tenantRollback(r *remote) *cobra.Command {
	var revision uint64
	c := tenantVerb(r, "rollback", "Give a tenant back the document of an earlier revision", "", "roll back tenant", func() client.Call {
		return client.Call{Operation: client.RollBackTenant, Body: map[string]any{"revision": revision}}
	})
	c.Example = "  gatehouse revision list --tenant acme\n  gatehouse tenant rollback acme --to 42 --yes"
	c.Flags().Uint64Var(&revision, "to", 0, "the revision after which the document was right")
	_ = c.MarkFlagRequired("to") // the flag is there
	return c
}

// plainTenant is the document of a stored tenant: what is known beside it is
// left out.
func plainTenant(raw json.RawMessage) (json.RawMessage, error) {
	var t gatehouse.Tenant
	if err := json.Unmarshal(raw, &t); err != nil {
		return nil, err
	}
	return json.Marshal(t)
}

func tenantEdit(r *remote) *cobra.Command {
	var f changeFlags
	c := &cobra.Command{
		Use: "edit ID", Short: "Change a tenant's document in an editor", Args: arguments(cobra.ExactArgs(1)), ValidArgsFunction: r.complete(0, allTenants),
		Long: `Edit opens the document in the editor that EDITOR or VISUAL names, and puts it
in force when the editor ends. If somebody else has changed the tenant
meanwhile, nothing is changed. What was edited is kept when it is refused.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			answer, err := r.do(ctx, client.Call{Operation: client.GetTenant, Path: args})
			if err != nil {
				return r.tenant(ctx, err, args[0])
			}
			before, err := plainTenant(answer.Body)
			if err != nil {
				return err
			}
			name, after, err := r.edit(ctx, args[0], before)
			if err != nil {
				return err
			}
			if string(after) == string(before) {
				fmt.Fprintln(r.s.errors, "nothing was changed")
				return os.Remove(name)
			}
			err = r.show(ctx, client.Call{Operation: client.ReplaceTenant, Path: args, Query: f.query(), Body: after, Match: answer.ETag}, tenantView())
			if err != nil {
				fmt.Fprintf(r.s.errors, "what was edited is kept in %s\n", name)
				return err
			}
			return os.Remove(name)
		},
	}
	f.add(c, false)
	return c
}

// edit lets the user change a tenant's document, and returns the file and what
// it holds then.
func (r *remote) edit(ctx context.Context, id string, doc json.RawMessage) (string, json.RawMessage, error) {
	named := first(r.s.getenv("VISUAL"), r.s.getenv("EDITOR"))
	if named == "" && !isTerminal(r.s.stdin) {
		return "", nil, &exit{exitUsage, errors.New("nobody is there to edit: set EDITOR, or change a document: gatehouse export, and then gatehouse apply")}
	}
	f, err := os.CreateTemp("", "gatehouse-"+filepath.Base(id)+"-*.yaml") // mode 0600
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	if err := writeYAML(f, doc); err != nil {
		return "", nil, err
	}
	editor := strings.Fields(first(named, "vi"))
	run := exec.CommandContext(ctx, editor[0], append(editor[1:], f.Name())...)
	run.Stdin, run.Stdout, run.Stderr = r.s.stdin, r.s.errors, r.s.errors
	if err := run.Run(); err != nil {
		return "", nil, fmt.Errorf("editor %s: %w", editor[0], err)
	}
	text, err := os.ReadFile(f.Name())
	if err != nil {
		return "", nil, err
	}
	var t gatehouse.Tenant
	if _, problems := configs.Decode(f.Name(), text, &t); len(problems.Errors()) > 0 {
		return "", nil, problems
	}
	after, err := json.Marshal(t)
	return f.Name(), after, err
}
