package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/gatehouse-gateway/gatehouse/control/client"
	"github.com/spf13/cobra"
)

// only refuses flags that mean nothing with --invoices, or without.
func (f *reconcileFlags) only(c *cobra.Command) error {
	mine, how := []string{"config", "data", "log", "meter", "step"}, "means nothing with --invoices"
	if !f.invoices {
		mine, how = []string{"server", "token-file", "context"}, "is for --invoices, which asks a control plane"
	}
	for _, name := range mine {
		if c.Flags().Changed(name) {
			return &exit{exitUsage, fmt.Errorf("--%s %s", name, how)}
		}
	}
	return nil
}

// traced is what the control plane found of some invoices.
type traced struct {
	Items         []json.RawMessage `json:"items"`
	Subscriptions int               `json:"subscriptions"`
	Lines         int               `json:"lines"`
	Agree         bool              `json:"agree"`
}

// traceInvoices is gatehouse reconcile --invoices.
func (f *reconcileFlags) traceInvoices(ctx context.Context, r *remote) error {
	q := url.Values{}
	for name, text := range map[string]string{"from": f.from, "to": f.to} {
		at, err := instantOf(text, time.Time{})
		if err != nil {
			return &exit{exitUsage, fmt.Errorf("--%s: %w", name, err)}
		}
		if !at.IsZero() {
			q.Set(name, at.Format(time.RFC3339))
		}
	}
	tenants := f.tenants
	if len(tenants) == 0 {
		tenants = []string{""}
	}
	all := traced{Items: []json.RawMessage{}}
	for _, id := range tenants {
		q.Del("tenant")
		if id != "" {
			q.Set("tenant", id)
		}
		if err := all.ask(ctx, r, q); err != nil {
			if id != "" {
				err = r.missing(ctx, err, "tenant", id, allTenants(nil))
			}
			return err
		}
	}
	all.Agree = len(all.Items) == 0
	whole, err := json.Marshal(all)
	if err != nil {
		return err
	}
	if err := r.write(whole, all.Items, columns("TENANT:/tenant SUBSCRIPTION:/subscription INVOICE:/invoice KIND:/kind PRICE:/price FROM:/period/start TO:/period/end QUANTITY:/quantity AMOUNT:/amount CURRENCY:/currency CELLS:/cells FAULT:/faults/reason")); err != nil {
		return err
	}
	fmt.Fprintf(r.s.errors, "%s of %s traced\n", count(all.Lines, "metered line"), count(all.Subscriptions, "subscription"))
	if text := all.findings(); text != "" {
		return &exit{exitFindings, errors.New(text)}
	}
	return nil
}

// findings says what was found, nothing where all agree.
func (t *traced) findings() string {
	failed := 0
	for _, item := range t.Items {
		if at(item, "/faults") != nil {
			failed++
		}
	}
	var found []string
	if n := len(t.Items) - failed; n > 0 {
		found = append(found, "the invoices and the ledger differ in "+count(n, "place"))
	}
	if failed > 0 {
		found = append(found, count(failed, "subscription")+" could not be traced whole")
	}
	return strings.Join(found, ", and ")
}

// ask adds all pages of an answer.
func (t *traced) ask(ctx context.Context, r *remote, q url.Values) error {
	for q.Del("cursor"); ; {
		answer, err := r.do(ctx, client.Call{Operation: client.ListDifferences, Query: q})
		if err != nil {
			return err
		}
		var page traced
		if err := answer.Into(&page); err != nil {
			return err
		}
		t.Items, t.Subscriptions, t.Lines = append(t.Items, page.Items...), t.Subscriptions+page.Subscriptions, t.Lines+page.Lines
		if answer.Link == nil {
			return nil
		}
		q.Set("cursor", answer.Link.Get("cursor"))
	}
}
