package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/client"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
	"github.com/spf13/cobra"
)

func invoiceView() view {
	return columns("NUMBER:/number TENANT:/tenant KIND:/kind STATUS:/status CURRENCY:/currency FROM:/period/start TO:/period/end SUBTOTAL:/subtotal TAX:/tax TOTAL:/total DUE:/due PAID:/paid LEFT:/left PAY_BY:/pay_by")
}

func lineView() view {
	return columns("TEXT:/text KIND:/kind QUANTITY:/quantity UNIT_PRICE:/unit_price NET:/net TAX:/tax CORRECTS:/corrects CELLS:/trace/cells")
}

func invoiceCommand(r *remote) *cobra.Command {
	c := group("invoice", "Work with invoices", "An invoice is a draft, made anew from the ledger each time it is looked at, until\nit is finalized: then it has a number and does not change any more.")
	c.AddCommand(invoicePreview(r), invoiceList(r), invoiceRead(r), invoiceExport(r), invoiceFinalize(r), invoiceMark(r, billing.Paid), invoiceMark(r, billing.Void))
	return c
}

// askFlags name an invoice that is to be.
type askFlags struct {
	subscription string
	opening      bool
	period       int
}

func (f *askFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.subscription, "subscription", "main", "which subscription of the tenant")
	c.Flags().BoolVar(&f.opening, "opening", false, "the invoice that opens the subscription")
	f.period = -1
	numberFlag(c, &f.period, "period", 0, "index of the period (default: the next that is not billed)")
}

func (f *askFlags) kind() billing.Kind {
	if f.opening {
		return billing.Opening
	}
	return billing.Closing
}

func invoicePreview(r *remote) *cobra.Command {
	var ask askFlags
	var lines bool
	c := &cobra.Command{
		Use: "preview TENANT", Short: "Show the invoice of the running period as it would be by now", Args: arguments(cobra.ExactArgs(1)), ValidArgsFunction: r.complete(0, allTenants),
		Example: "  gatehouse invoice preview acme --lines",
		RunE: func(cmd *cobra.Command, args []string) error {
			q := url.Values{"subscription": {ask.subscription}, "kind": {string(ask.kind())}, "period": {strconv.Itoa(ask.period)}}
			err := r.showInvoice(cmd.Context(), client.Call{Operation: client.PreviewInvoice, Path: args, Query: q}, lines)
			return r.subscribed(cmd.Context(), err, args[0])
		},
	}
	ask.add(c)
	c.Flags().BoolVar(&lines, "lines", false, "show its lines")
	return c
}

// subscribed says of an error that there is nothing what is missing: the
// tenant, or its subscription.
func (r *remote) subscribed(ctx context.Context, err error, tenant string) error {
	err = r.tenant(ctx, err, tenant)
	if e, ok := errors.AsType[*gatehouse.Error](err); ok && e.Code == gatehouse.CodeNotFound && strings.Contains(e.Message, "subscription") {
		err = &gatehouse.Error{Code: e.Code, Message: e.Message + "\n  hint: gatehouse plan subscribe PLAN " + tenant}
	}
	return err
}

// showInvoice prints an invoice, or its lines.
func (r *remote) showInvoice(ctx context.Context, call client.Call, lines bool) error {
	answer, err := r.do(ctx, call)
	if err != nil {
		return err
	}
	if err := r.warn(answer); err != nil {
		return err
	}
	if !lines {
		return r.print(answer.Body, invoiceView())
	}
	var inv struct {
		Lines []json.RawMessage `json:"lines"`
	}
	if err := answer.Into(&inv); err != nil {
		return err
	}
	return r.printItems(inv.Lines, lineView())
}

func invoiceList(r *remote) *cobra.Command {
	var status string
	var drafts bool
	var limit int
	c := &cobra.Command{
		Use: "list [TENANT]", Short: "List invoices, newest first", Args: arguments(cobra.MaximumNArgs(1)), ValidArgsFunction: r.complete(0, allTenants),
		RunE: func(cmd *cobra.Command, args []string) error {
			if drafts {
				if len(args) == 0 {
					return &exit{exitUsage, errors.New("name the tenant whose drafts you want")}
				}
				return r.tenant(cmd.Context(), r.whole(cmd.Context(), client.Call{Operation: client.ListDrafts, Path: args}, invoiceView()), args[0])
			}
			call := client.Call{Operation: client.ListInvoices, Query: url.Values{}}
			if len(args) == 1 {
				call.Operation, call.Path = client.ListTenantInvoices, args
			}
			if status != "" {
				call.Query.Set("status", status)
			}
			err := r.list(cmd.Context(), call, limit, invoiceView())
			if len(args) == 1 {
				err = r.tenant(cmd.Context(), err, args[0])
			}
			return err
		},
	}
	c.Flags().StringVar(&status, "status", "", "finalized, paid, void or uncollectible")
	c.Flags().BoolVar(&drafts, "drafts", false, "those that are not issued yet")
	numberFlag(c, &limit, "limit", 0, "at most so many (default 0: all)")
	return c
}

// whole prints a list that is answered in one piece.
func (r *remote) whole(ctx context.Context, call client.Call, v view) error {
	answer, err := r.do(ctx, call)
	if err != nil {
		return err
	}
	var page struct {
		Items []json.RawMessage `json:"items"`
	}
	if err := answer.Into(&page); err != nil {
		return err
	}
	return r.printItems(page.Items, v)
}

// issued is what is known of an invoice by its number.
type issued struct {
	Tenant   string   `json:"tenant"`
	Warnings []string `json:"warnings"`
}

// find finds an invoice.
func (r *remote) find(ctx context.Context, number string) (issued, error) {
	answer, err := r.do(ctx, client.Call{Operation: client.ListInvoices, Query: url.Values{"number": {number}}})
	if err != nil {
		return issued{}, err
	}
	var page struct {
		Items []issued `json:"items"`
	}
	if err := answer.Into(&page); err != nil {
		return issued{}, err
	}
	if len(page.Items) == 0 {
		return issued{}, &gatehouse.Error{Code: gatehouse.CodeNotFound, Message: fmt.Sprintf("there is no invoice %q", number)}
	}
	return page.Items[0], nil
}

func invoiceRead(r *remote) *cobra.Command {
	var lines bool
	c := &cobra.Command{
		Use: "get NUMBER", Short: "Show an invoice", Args: arguments(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			inv, err := r.find(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return r.showInvoice(cmd.Context(), client.Call{Operation: client.GetInvoice, Path: []string{inv.Tenant, args[0]}}, lines)
		},
	}
	c.Flags().BoolVar(&lines, "lines", false, "show its lines")
	return c
}

func invoiceExport(r *remote) *cobra.Command {
	var format, file string
	c := &cobra.Command{
		Use: "export NUMBER", Short: "Write an invoice as JSON, CSV, HTML, PDF or UBL 2.1", Args: arguments(cobra.ExactArgs(1)),
		Example: "  gatehouse invoice export GH-2026-000123 --format pdf --to invoice.pdf",
		RunE: func(cmd *cobra.Command, args []string) error {
			inv, err := r.find(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			c, err := r.client()
			if err != nil {
				return err
			}
			text, err := c.Open(cmd.Context(), client.Call{Operation: client.GetInvoice, Path: []string{inv.Tenant, args[0]}, Query: url.Values{"format": {format}}})
			if err != nil {
				return err
			}
			defer text.Close()
			inv.warn(r)
			return r.save(text, file)
		},
	}
	c.Flags().StringVar(&format, "format", "json", "json, csv, html, pdf or ubl")
	c.Flags().StringVar(&file, "to", "-", "file to write, - for standard output")
	return c
}

// save writes what is read to a new file, or to standard output.
func (r *remote) save(from io.Reader, file string) error {
	if file == "-" {
		_, err := io.Copy(r.s.out, from)
		return err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write the invoice: %w", err)
	}
	_, err = io.Copy(f, from)
	return errors.Join(err, f.Close())
}

func invoiceFinalize(r *remote) *cobra.Command {
	var ask askFlags
	var f changeFlags
	var early bool
	c := &cobra.Command{
		Use: "finalize TENANT", Short: "Issue the invoice of a period that has ended", Args: arguments(cobra.ExactArgs(1)), ValidArgsFunction: r.complete(0, allTenants),
		Long: `Finalize gives an invoice its number; from then on it does not change. The
control plane does so by itself when a period has ended and every gateway has
reported all of it, or after a time of grace.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := confirm(cmd.Context(), r.s, &f, "finalize the invoice of", args[0]); err != nil {
				return err
			}
			body := map[string]any{"subscription": ask.subscription, "kind": ask.kind(), "early": early}
			if ask.period >= 0 {
				body["period"] = ask.period
			}
			err := r.show(cmd.Context(), client.Call{Operation: client.FinalizeInvoice, Path: args, Query: f.query(), Body: body}, invoiceView())
			return r.subscribed(cmd.Context(), err, args[0])
		},
	}
	ask.add(c)
	c.Flags().BoolVar(&early, "early", false, "do not wait for gateways that have not reported")
	f.add(c, true)
	return c
}

// warn tells beside the output what an invoice that is issued lacks.
func (r *remote) warn(answer *client.Answer) error {
	var inv issued
	if err := answer.Into(&inv); err != nil {
		return err
	}
	inv.warn(r)
	return nil
}

func (inv *issued) warn(r *remote) {
	for _, text := range inv.Warnings {
		fmt.Fprintln(r.s.errors, "warning:", text)
	}
}

// invoiceMark is gatehouse invoice pay and void.
func invoiceMark(r *remote, status billing.Status) *cobra.Command {
	var f changeFlags
	var ref, amount string
	var reissue bool
	verb, short := "pay", "Mark an invoice as paid"
	if status == billing.Void {
		verb, short = "void", "Take an invoice back; it keeps its number"
	}
	c := &cobra.Command{
		Use: verb + " NUMBER", Short: short, Args: arguments(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := confirm(cmd.Context(), r.s, &f, verb+" invoice", args[0]); err != nil {
				return err
			}
			inv, err := r.find(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			body := map[string]any{"status": status, "ref": ref, "reissue": reissue}
			if amount != "" {
				body["amount"] = amount
			}
			return r.show(cmd.Context(), client.Call{Operation: client.MarkInvoice, Path: []string{inv.Tenant, args[0]}, Query: f.query(), Body: body}, invoiceView())
		},
	}
	c.Flags().StringVar(&ref, "ref", "", "the payment, or why it is void")
	if status == billing.Void {
		c.Flags().BoolVar(&reissue, "reissue", false, "bill its period anew")
	} else {
		c.Flags().StringVar(&amount, "amount", "", "what was paid, where it is not all")
	}
	f.add(c, true)
	return c
}
