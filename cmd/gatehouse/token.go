package main

import (
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/client"
	"github.com/spf13/cobra"
)

func tokenView() view {
	return columns("ID:/id NAME:/name ROLE:/role TENANTS:/tenants GATEWAY:/gateway EXPIRES:/expires LAST_USED:/last_used CREATED:/created")
}

func allTokens([]string) client.Call { return client.Call{Operation: client.ListTokens} }

func tokenCommand(r *remote) *cobra.Command {
	c := group("token", "Work with operator tokens", "An operator token opens the control API to a person, a program or a data plane.")
	c.AddCommand(
		tokenCreate(r),
		&cobra.Command{
			Use: "list", Short: "List operator tokens; never their secrets", Args: arguments(cobra.NoArgs),
			RunE: func(cmd *cobra.Command, _ []string) error {
				return r.list(cmd.Context(), allTokens(nil), 0, tokenView())
			},
		},
		tokenRevoke(r),
	)
	return c
}

func tokenCreate(r *remote) *cobra.Command {
	var f changeFlags
	var t control.NewToken
	var role string
	var of []string
	var expires time.Duration
	c := &cobra.Command{
		Use: "create", Short: "Make an operator token; the secret is shown this once",
		Example: "  gatehouse token create --role viewer --name dashboards\n  gatehouse token create --role gateway --gateway edge-1 -o json | jq -r .secret\n  gatehouse token create --role owner --tenant acme",
		Args:    arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if t.Expires, err = expiry(expires); err != nil {
				return err
			}
			t.Role = control.Role(role)
			for _, id := range of {
				t.Tenants = append(t.Tenants, gatehouse.TenantID(id))
			}
			return r.show(cmd.Context(), client.Call{Operation: client.CreateToken, Query: f.query(), Body: t}, secretView())
		},
	}
	var roles []string
	for _, known := range control.Roles {
		roles = append(roles, string(known))
	}
	c.Flags().StringVar(&t.ID, "id", "", "id (default: made of the secret's hash)")
	c.Flags().StringVar(&t.Name, "name", "", "name for people")
	c.Flags().StringVar(&role, "role", "", "owner, operator, policy-editor, billing, auditor, viewer or gateway")
	c.Flags().StringSliceVar(&of, "tenant", nil, "tenant that it is for; may be repeated (default: all, and the platform)")
	c.Flags().StringVar(&t.Gateway, "gateway", "", "the one data plane that it is for, of the role gateway (default: that which uses it first)")
	c.Flags().DurationVar(&expires, "expires", 0, "time until the token expires, such as 720h; 0: never")
	_ = c.MarkFlagRequired("role") // the flag is there
	_ = c.RegisterFlagCompletionFunc("role", cobra.FixedCompletions(roles, cobra.ShellCompDirectiveNoFileComp))
	f.add(c, false)
	return c
}

func tokenRevoke(r *remote) *cobra.Command {
	var f changeFlags
	c := &cobra.Command{
		Use: "revoke ID", Short: "Refuse an operator token from now on", Args: arguments(cobra.ExactArgs(1)), ValidArgsFunction: r.complete(0, allTokens),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := confirm(cmd.Context(), r.s, &f, "revoke token", args[0]); err != nil {
				return err
			}
			err := r.remove(cmd.Context(), client.Call{Operation: client.RevokeToken, Path: args, Query: f.query()}, &f, "token "+args[0]+" is revoked")
			return r.missing(cmd.Context(), err, "token", args[0], allTokens(nil))
		},
	}
	f.add(c, true)
	return c
}
