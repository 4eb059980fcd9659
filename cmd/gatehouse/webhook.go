package main

import (
	"fmt"
	"net/url"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/client"
	"github.com/gatehouse-gateway/gatehouse/control/webhook"
	"github.com/spf13/cobra"
)

func webhookView() view {
	return columns("ID:/id TENANT:/tenant URL:/url KINDS:/kinds DISABLED:/disabled REVISION:/revision")
}

func webhookCommand(r *remote) *cobra.Command {
	c := group("webhook", "Tell other systems of invoices and thresholds", `An endpoint is a URL that messages are sent to, signed by Standard Webhooks. One
without a tenant is the platform's, and is told of all tenants.`)
	c.AddCommand(
		webhookCreate(r), webhookList(r), webhookDeliveries(r),
		webhookSet(r, "rotate", "Give an endpoint a new secret; messages are signed with both for a day", client.RotateWebhook, columns("ID:/id SECRET:/secret URL:/url")),
		webhookSet(r, "enable", "Send to an endpoint again", client.EnableWebhook, webhookView()),
		webhookDelete(r),
	)
	return c
}

// ownerFlag says whose endpoint is meant.
func ownerFlag(c *cobra.Command, tenant *string) {
	c.Flags().StringVar(tenant, "tenant", "", "whose it is (default: the platform's)")
}

func ownedBy(q url.Values, tenant string) url.Values {
	if tenant != "" {
		q.Set("tenant", tenant)
	}
	return q
}

// webhooksOf is the list that names of endpoints are looked up in. It is
// answered in one piece, and takes no limit.
func webhooksOf(tenant string) client.Call {
	return client.Call{Operation: client.ListWebhooks, Query: ownedBy(url.Values{"limit": nil}, tenant)}
}

func (r *remote) webhook(c *cobra.Command, err error, tenant, id string) error {
	return r.missing(c.Context(), err, "webhook", id, webhooksOf(tenant))
}

func (r *remote) completeWebhook(c *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	tenant, _ := c.Flags().GetString("tenant") // the flag is there
	return r.complete(0, func([]string) client.Call { return webhooksOf(tenant) })(c, args, typed)
}

func webhookCreate(r *remote) *cobra.Command {
	var f changeFlags
	var e webhook.NewEndpoint
	var tenant string
	c := &cobra.Command{
		Use: "create ID URL", Short: "Make an endpoint; its secret is shown this once", Args: arguments(cobra.ExactArgs(2)), ValidArgsFunction: cobra.NoFileCompletions,
		Example: "  gatehouse webhook create erp https://erp.example.com/gatehouse --kind 'invoice.*'",
		RunE: func(cmd *cobra.Command, args []string) error {
			e.ID, e.URL, e.Tenant = args[0], args[1], gatehouse.TenantID(tenant)
			return r.show(cmd.Context(), client.Call{Operation: client.CreateWebhook, Query: f.query(), Body: e}, columns("ID:/id SECRET:/secret URL:/url"))
		},
	}
	ownerFlag(c, &tenant)
	c.Flags().StringSliceVar(&e.Kinds, "kind", nil, "what it is told of, such as invoice.paid or invoice.*; may be repeated (default all)")
	f.add(c, false)
	return c
}

func webhookList(r *remote) *cobra.Command {
	var tenant string
	c := &cobra.Command{
		Use: "list", Short: "List endpoints; never their secrets", Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return r.whole(cmd.Context(), client.Call{Operation: client.ListWebhooks, Query: ownedBy(url.Values{}, tenant)}, webhookView())
		},
	}
	ownerFlag(c, &tenant)
	return c
}

func webhookDeliveries(r *remote) *cobra.Command {
	var tenant string
	c := &cobra.Command{
		Use: "deliveries ID", Short: "List what an endpoint has not taken yet, or never will", Args: arguments(cobra.ExactArgs(1)), ValidArgsFunction: r.completeWebhook,
		RunE: func(cmd *cobra.Command, args []string) error {
			err := r.whole(cmd.Context(), client.Call{Operation: client.ListDeliveries, Path: args, Query: ownedBy(url.Values{}, tenant)},
				columns("ID:/id KIND:/kind EVENT:/event ATTEMPTS:/attempts NEXT:/next FAILED:/failed STATUS:/status REASON:/reason"))
			return r.webhook(cmd, err, tenant, args[0])
		},
	}
	ownerFlag(c, &tenant)
	return c
}

// webhookSet is a command that changes one endpoint.
func webhookSet(r *remote, verb, short string, operation client.Operation, v view) *cobra.Command {
	var f changeFlags
	var tenant string
	c := &cobra.Command{
		Use: verb + " ID", Short: short, Args: arguments(cobra.ExactArgs(1)), ValidArgsFunction: r.completeWebhook,
		RunE: func(cmd *cobra.Command, args []string) error {
			err := r.show(cmd.Context(), client.Call{Operation: operation, Path: args, Query: ownedBy(f.query(), tenant)}, v)
			return r.webhook(cmd, err, tenant, args[0])
		},
	}
	ownerFlag(c, &tenant)
	f.add(c, false)
	return c
}

func webhookDelete(r *remote) *cobra.Command {
	var f changeFlags
	var tenant string
	c := &cobra.Command{
		Use: "delete ID", Short: "Remove an endpoint, and what it has not taken", Args: arguments(cobra.ExactArgs(1)), ValidArgsFunction: r.completeWebhook,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := confirm(cmd.Context(), r.s, &f, "delete webhook", args[0]); err != nil {
				return err
			}
			err := r.remove(cmd.Context(), client.Call{Operation: client.DeleteWebhook, Path: args, Query: ownedBy(f.query(), tenant)}, &f, fmt.Sprintf("webhook %s is deleted", args[0]))
			return r.webhook(cmd, err, tenant, args[0])
		},
	}
	ownerFlag(c, &tenant)
	f.add(c, true)
	return c
}
