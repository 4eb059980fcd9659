package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/client"
	"github.com/spf13/cobra"
)

func exportCommand(r *remote) *cobra.Command {
	return &cobra.Command{
		Use: "export [TENANT…]", Short: "Print what is stored as a document, which apply takes back",
		Long: `Export prints the stored plans and tenants, or the tenants that are named, as one
document: for apply, for a repository, or to be run from with --tenants. What is
known of them beside their documents, such as revisions, is left out.

The contents of the files that they name, such as secrets, are not told: which
these are is said on standard error. Neither are API keys made by key create.`,
		Example: "  gatehouse export > tenants.yaml\n  gatehouse export acme > acme.yaml && gatehouse apply -f acme.yaml",
		ValidArgsFunction: func(c *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
			return r.complete(0, allTenants)(c, nil, typed)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			form, err := r.format()
			if err != nil {
				return err
			}
			if form != "table" && form != "yaml" && form != "json" {
				return &exit{exitUsage, fmt.Errorf("a document is not written as %s: use yaml or json", form)}
			}
			doc, err := r.export(cmd.Context(), args)
			if err != nil {
				return err
			}
			raw, err := json.Marshal(doc)
			if err != nil {
				return err
			}
			if form == "table" {
				r.out = "yaml"
			}
			if err := r.print(raw, view{}); err != nil {
				return err
			}
			for i := range doc.Tenants {
				r.tellFiles(&doc.Tenants[i])
			}
			return nil
		},
	}
}

// exported is a document as export writes it.
type exported struct {
	Plans   []gatehouse.Plan   `json:"plans,omitempty"`
	Tenants []gatehouse.Tenant `json:"tenants"`
}

// export reads the stored plans and tenants, or the tenants of these names
// alone.
func (r *remote) export(ctx context.Context, names []string) (*exported, error) {
	c, err := r.client()
	if err != nil {
		return nil, err
	}
	doc := &exported{Tenants: []gatehouse.Tenant{}}
	for _, name := range names {
		answer, err := c.Do(ctx, client.Call{Operation: client.GetTenant, Path: []string{name}})
		if err != nil {
			return nil, r.tenant(ctx, err, name)
		}
		var t gatehouse.Tenant
		if err := answer.Into(&t); err != nil {
			return nil, err
		}
		doc.Tenants = append(doc.Tenants, t)
	}
	if len(names) > 0 {
		return doc, nil
	}
	plans, err := itemsOf[gatehouse.Plan](ctx, c, allPlans(nil))
	if err != nil {
		return nil, err
	}
	tenants, err := itemsOf[gatehouse.Tenant](ctx, c, allTenants(nil))
	doc.Plans, doc.Tenants = plans, append(doc.Tenants, tenants...)
	return doc, err
}

// itemsOf reads all of a list, of each item what its document has.
func itemsOf[T any](ctx context.Context, c *client.Client, call client.Call) (out []T, err error) {
	call.Query = url.Values{"limit": {"1000"}}
	for item, err := range c.Items(ctx, call) {
		if err != nil {
			return nil, err
		}
		var one T
		if err := json.Unmarshal(item, &one); err != nil {
			return nil, errors.Join(errors.New("the control plane's answer is of another version"), err)
		}
		out = append(out, one)
	}
	return out, nil
}

// tellFiles says which files a tenant's document needs beside it.
func (r *remote) tellFiles(t *gatehouse.Tenant) {
	var names []string
	for _, a := range t.Attachments() {
		names = append(names, a.Name)
	}
	if len(names) > 0 {
		fmt.Fprintf(r.s.errors, "tenant %s: put back beside the document what is not exported: %s\n", t.ID, strings.Join(names, ", "))
	}
}
