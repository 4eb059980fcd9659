package main

import (
	"context"

	"github.com/gatehouse-gateway/gatehouse/control/client"
	"github.com/spf13/cobra"
)

func billingCommand(r *remote) *cobra.Command {
	c := group("billing", "Say who sells and who pays, give credit, and change subscriptions", "Prices are at gatehouse plan, invoices at gatehouse invoice, costs and revenue at\ngatehouse cost.")
	c.AddCommand(billingGet(r), billingSellers(r), billingSeller(r), billingCustomer(r), billingCredit(r),
		billingChange(r), billingCancel(r), billingPause(r), billingResume(r), billingCorrect(r))
	return c
}

func billingGet(r *remote) *cobra.Command {
	return &cobra.Command{
		Use: "get TENANT", Short: "Show what a tenant subscribes to, who pays, and its credit", Args: arguments(cobra.ExactArgs(1)), ValidArgsFunction: r.complete(0, allTenants),
		RunE: func(cmd *cobra.Command, args []string) error {
			err := r.show(cmd.Context(), client.Call{Operation: client.GetBilling, Path: args}, columns(
				"TENANT:/tenant PAYS:/customer/party/name SELLER:/customer/seller SUBSCRIPTIONS:/subscriptions/id PLANS:/subscriptions/plan/id STATES:/subscriptions/state CLOSED_UNTIL:/subscriptions/closed_until CREDIT:/wallets/usable/amount CURRENCY:/wallets/currency"))
			return r.tenant(cmd.Context(), err, args[0])
		},
	}
}

func billingSellers(r *remote) *cobra.Command {
	return &cobra.Command{
		Use: "sellers", Short: "List the legal entities that issue invoices", Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return r.whole(cmd.Context(), client.Call{Operation: client.ListSellers}, sellerView())
		},
	}
}

func sellerView() view {
	return columns("ID:/id NAME:/party/name COUNTRY:/party/country VAT:/party/vat IBAN:/iban DUE_DAYS:/due_days")
}

func billingSeller(r *remote) *cobra.Command {
	return r.billingPut("seller ID", "Create or replace a seller; its id begins the numbers of its invoices", "  gatehouse billing seller GH -f seller.yaml",
		"A seller is a document such as\n\n  party: {name: Example Srl, street: Via Roma 1, city: Milano, post_code: \"20121\", country: IT, vat: IT01234567890}\n  terms: Payable within 14 days.\n  due_days: 14\n\nGH is the seller of tenants that name none.",
		client.SetSeller, sellerView(), nil)
}

func billingCustomer(r *remote) *cobra.Command {
	return r.billingPut("customer TENANT", "Say who pays for a tenant", "  gatehouse billing customer acme -f customer.yaml",
		"A customer is a document such as\n\n  party: {name: Acme GmbH, city: Berlin, post_code: \"10115\", country: DE, vat: DE123456789}\n\nInvoices keep both parties as they were when they were issued.",
		client.SetCustomer, columns("NAME:/party/name COUNTRY:/party/country VAT:/party/vat SELLER:/seller"), r.tenant)
}

// billingPut is a command that puts one document.
func (r *remote) billingPut(use, short, example, long string, operation client.Operation, v view, missing func(context.Context, error, string) error) *cobra.Command {
	var f changeFlags
	var file string
	c := &cobra.Command{
		Use: use, Short: short, Long: long, Example: example, Args: arguments(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			doc, err := r.readSheet(file)
			if err != nil {
				return err
			}
			err = doc.located(r.show(cmd.Context(), client.Call{Operation: operation, Path: args, Query: f.query(), Body: doc.raw}, v))
			if missing != nil {
				err = missing(cmd.Context(), err, args[0])
			}
			return err
		},
	}
	if missing != nil {
		c.ValidArgsFunction = r.complete(0, allTenants)
	}
	c.Flags().StringVarP(&file, "file", "f", "", "the document, - for standard input")
	_ = c.MarkFlagRequired("file") // the flag is there
	f.add(c, false)
	return c
}

func billingCredit(r *remote) *cobra.Command {
	var f changeFlags
	var id, amount, currency, cost, expires string
	var priority int
	c := &cobra.Command{
		Use: "credit TENANT", Short: "Put prepaid credit into a tenant's wallet", Args: arguments(cobra.ExactArgs(1)), ValidArgsFunction: r.complete(0, allTenants),
		Long:    "Credit pays what is due after tax: lower priority first, then what expires first,\nthen the oldest. With a cost it was bought, without it is given.",
		Example: "  gatehouse billing credit acme --id welcome --amount 50 --currency EUR --expires 2026-12-31T23:00:00Z",
		RunE: func(cmd *cobra.Command, args []string) error {
			body := map[string]any{"id": id, "amount": amount, "currency": currency}
			if priority != 0 {
				body["priority"] = priority
			}
			for name, text := range map[string]string{"cost": cost, "expires": expires} {
				if text != "" {
					body[name] = text
				}
			}
			err := r.show(cmd.Context(), client.Call{Operation: client.GrantCredit, Path: args, Query: f.query(), Body: body}, columns("CURRENCY:/currency CREDIT:/usable/id AMOUNT:/usable/amount"))
			return r.tenant(cmd.Context(), err, args[0])
		},
	}
	flags := c.Flags()
	flags.StringVar(&id, "id", "", "id of the credit, within the wallet")
	flags.StringVar(&amount, "amount", "", "how much")
	flags.StringVar(&currency, "currency", "", "of the wallet: a code of ISO 4217")
	flags.StringVar(&cost, "cost", "", "what was paid for it (default: nothing)")
	flags.StringVar(&expires, "expires", "", "when it can no longer be used, RFC 3339 (default: never)")
	flags.IntVar(&priority, "priority", 0, "lower is used first")
	for _, name := range []string{"id", "amount", "currency"} {
		_ = c.MarkFlagRequired(name) // the flag is there
	}
	f.add(c, false)
	return c
}
