package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/client"
	"github.com/spf13/cobra"
)

func routeView() view {
	return columns("ID:/id HOSTS:/match/hosts PATH:/match/path METHODS:/match/methods AUTH:/auth BACKEND:/backend")
}

func routeCommand(r *remote) *cobra.Command {
	c := group("route", "Look at a tenant's routes", "Routes are part of a tenant's document: change them with tenant edit or apply.")
	c.AddCommand(
		&cobra.Command{
			Use: "list TENANT", Short: "List a tenant's routes", Args: arguments(cobra.ExactArgs(1)), ValidArgsFunction: r.complete(0, allTenants),
			RunE: func(cmd *cobra.Command, args []string) error {
				routes, err := r.routes(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				return r.printItems(routes, routeView())
			},
		},
		&cobra.Command{
			Use: "get TENANT ROUTE", Short: "Show a route", Args: arguments(cobra.ExactArgs(2)), ValidArgsFunction: r.completeRoute,
			RunE: func(cmd *cobra.Command, args []string) error {
				routes, err := r.routes(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				var names []string
				for _, route := range routes {
					id := text(at(route, "/id"))
					if id == args[1] {
						return r.print(route, routeView())
					}
					names = append(names, id)
				}
				return &gatehouse.Error{Code: gatehouse.CodeNotFound, Message: fmt.Sprintf("tenant %s has no route %q%s", args[0], args[1], didYouMean(args[1], names))}
			},
		},
	)
	return c
}

// routes are those of a tenant, as its document has them.
func (r *remote) routes(ctx context.Context, tenant string) ([]json.RawMessage, error) {
	answer, err := r.do(ctx, client.Call{Operation: client.GetTenant, Path: []string{tenant}})
	if err != nil {
		return nil, r.tenant(ctx, err, tenant)
	}
	doc := struct {
		Routes []json.RawMessage `json:"routes"`
	}{[]json.RawMessage{}}
	err = answer.Into(&doc)
	return doc.Routes, err
}

func (r *remote) completeRoute(c *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return r.complete(0, allTenants)(c, args, typed)
	}
	var names []string
	routes, err := r.routes(c.Context(), args[0])
	for _, route := range routes {
		names = append(names, text(at(route, "/id")))
	}
	if err != nil || len(args) > 1 {
		names = nil
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
