package main

import (
	"context"
	"fmt"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/client"
	"github.com/spf13/cobra"
)

func keyView() view {
	return columns("ID:/id NAME:/name ROLES:/roles SCOPES:/scopes EXPIRES:/expires REVISION:/revision UPDATED:/updated")
}

func secretView() view { return columns("ID:/id SECRET:/secret EXPIRES:/expires") }

func keyCommand(r *remote) *cobra.Command {
	c := group("key", "Work with API keys", "")
	c.AddCommand(keyCreate(r), keyList(r), keyGet(r), keyRotate(r), keyRevoke(r))
	return c
}

// keysOf is the list of a tenant's keys.
func keysOf(args []string) client.Call {
	return client.Call{Operation: client.ListKeys, Path: args[:1]}
}

// completeKey offers tenants, and then the keys of the one.
func (r *remote) completeKey(c *cobra.Command, args []string, text string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return r.complete(0, allTenants)(c, args, text)
	}
	return r.complete(1, keysOf)(c, args, text)
}

// expiry is a time from now, absent for 0.
func expiry(in time.Duration) (gatehouse.Time, error) {
	if in < 0 {
		return gatehouse.Time{}, &exit{exitUsage, fmt.Errorf("expires %s is in the past", in)}
	}
	if in == 0 {
		return gatehouse.Time{}, nil
	}
	return gatehouse.Time{Time: time.Now().Add(in).UTC().Truncate(time.Second)}, nil
}

func keyCreate(r *remote) *cobra.Command {
	var f changeFlags
	var k control.NewKey
	var id string
	var expires time.Duration
	c := &cobra.Command{
		Use: "create TENANT", Short: "Make an API key; the secret is shown this once",
		Example: "  gatehouse key create acme --name ci --role editor --expires 2160h\n  gatehouse key create acme -o json | jq -r .secret",
		Args:    arguments(cobra.ExactArgs(1)), ValidArgsFunction: r.complete(0, allTenants),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if k.Expires, err = expiry(expires); err != nil {
				return err
			}
			k.ID = gatehouse.KeyID(id)
			if err := r.show(cmd.Context(), client.Call{Operation: client.CreateKey, Path: args, Query: f.query(), Body: k}, secretView()); err != nil {
				return r.tenant(cmd.Context(), err, args[0])
			}
			r.hintKeysOff(cmd.Context(), args[0])
			return nil
		},
	}
	c.Flags().StringVar(&id, "id", "", "id within the tenant (default: made of the secret's hash)")
	c.Flags().StringVar(&k.Name, "name", "", "name for people")
	c.Flags().StringSliceVar(&k.Roles, "role", nil, "role of the principal; may be repeated")
	c.Flags().StringSliceVar(&k.Scopes, "scope", nil, "scope of the principal; may be repeated")
	c.Flags().DurationVar(&expires, "expires", 0, "time until the key expires, such as 720h; 0: never")
	f.add(c, false)
	return c
}

// hintKeysOff says so where a tenant's document does not turn API keys on. The
// key is made whatever comes of it: that the tenant cannot be read is no
// failure.
func (r *remote) hintKeysOff(ctx context.Context, tenant string) {
	answer, err := r.do(ctx, client.Call{Operation: client.GetTenant, Path: []string{tenant}})
	if err != nil {
		return
	}
	var t struct {
		Identity gatehouse.Identity `json:"identity"`
	}
	if answer.Into(&t) == nil && t.Identity.APIKeys == nil {
		fmt.Fprintf(r.s.errors, "tenant %s takes no API keys yet, and would answer 401: turn them on with `identity: {api_keys: {}}` in its document\n", tenant)
	}
}

func keyList(r *remote) *cobra.Command {
	return &cobra.Command{
		Use: "list TENANT", Short: "List a tenant's API keys", Args: arguments(cobra.ExactArgs(1)), ValidArgsFunction: r.complete(0, allTenants),
		RunE: func(cmd *cobra.Command, args []string) error {
			return r.tenant(cmd.Context(), r.list(cmd.Context(), keysOf(args), 0, keyView()), args[0])
		},
	}
}

func keyGet(r *remote) *cobra.Command {
	return &cobra.Command{
		Use: "get TENANT KEY", Short: "Show an API key; never its secret", Args: arguments(cobra.ExactArgs(2)), ValidArgsFunction: r.completeKey,
		RunE: func(cmd *cobra.Command, args []string) error {
			err := r.show(cmd.Context(), client.Call{Operation: client.GetKey, Path: args}, keyView())
			return r.missing(cmd.Context(), err, "key", args[1], keysOf(args))
		},
	}
}

func keyRotate(r *remote) *cobra.Command {
	var f changeFlags
	var overlap time.Duration
	c := &cobra.Command{
		Use: "rotate TENANT KEY", Short: "Give an API key a new secret; the old one is accepted for a while",
		Args: arguments(cobra.ExactArgs(2)), ValidArgsFunction: r.completeKey,
		RunE: func(cmd *cobra.Command, args []string) error {
			body := map[string]any{}
			if cmd.Flags().Changed("overlap") {
				body["overlap"] = overlap.String()
			}
			err := r.show(cmd.Context(), client.Call{Operation: client.RotateKey, Path: args, Query: f.query(), Body: body}, secretView())
			return r.missing(cmd.Context(), err, "key", args[1], keysOf(args))
		},
	}
	c.Flags().DurationVar(&overlap, "overlap", control.DefaultOverlap, "how long the old secret is accepted")
	f.add(c, false)
	return c
}

func keyRevoke(r *remote) *cobra.Command {
	var f changeFlags
	c := &cobra.Command{
		Use: "revoke TENANT KEY", Short: "Refuse an API key from now on", Args: arguments(cobra.ExactArgs(2)), ValidArgsFunction: r.completeKey,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := confirm(cmd.Context(), r.s, &f, "revoke key", args[1]); err != nil {
				return err
			}
			err := r.remove(cmd.Context(), client.Call{Operation: client.RevokeKey, Path: args, Query: f.query()}, &f, "key "+args[1]+" of tenant "+args[0]+" is revoked")
			return r.missing(cmd.Context(), err, "key", args[1], keysOf(args))
		},
	}
	f.add(c, true)
	return c
}
