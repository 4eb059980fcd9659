package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/client"
	"github.com/spf13/cobra"
)

func explainCommand(r *remote) *cobra.Command {
	request := control.Request{Headers: map[string]string{}}
	var headers []string
	c := &cobra.Command{
		Use: "explain [METHOD] URL", Short: "Tell what would become of a request, and why",
		Long: `Explain takes a request through the phases that a real one would go through,
without sending it to a backend and without charging it, and tells the outcome
of each.`,
		Example: "  gatehouse explain GET https://studio.example.com/api/x --key \"$KEY\"\n  gatehouse explain https://studio.example.com/ --header 'Authorization: Bearer …'",
		Args:    arguments(cobra.RangeArgs(1, 2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if request.Method = "GET"; len(args) == 2 {
				request.Method = strings.ToUpper(args[0])
			}
			request.URL = args[len(args)-1]
			if u, err := url.Parse(request.URL); err != nil || u.Host == "" {
				return &exit{exitUsage, fmt.Errorf("%q is not a URL with a host, such as https://studio.example.com/api/x", request.URL)}
			}
			for _, h := range headers {
				name, value, ok := strings.Cut(h, ":")
				if !ok {
					return &exit{exitUsage, fmt.Errorf("--header %q: NAME: VALUE is expected", h)}
				}
				request.Headers[strings.TrimSpace(name)] = strings.TrimSpace(value)
			}
			answer, err := r.do(cmd.Context(), client.Call{Operation: client.Explain, Body: request})
			if err != nil {
				return err
			}
			form, err := r.format()
			if err != nil || form == "json" || form == "yaml" {
				return r.print(answer.Body, view{})
			}
			var x struct {
				Tenant string            `json:"tenant"`
				Status int               `json:"status"`
				Code   string            `json:"code"`
				Phases []json.RawMessage `json:"phases"`
			}
			if err := answer.Into(&x); err != nil {
				return err
			}
			if err := r.printItems(x.Phases, columns("PHASE:/phase OUTCOME:/outcome DETAIL:/detail DATA:/data")); err != nil {
				return err
			}
			if x.Status == 0 {
				fmt.Fprintf(r.s.errors, "tenant %s: the backend would answer\n", x.Tenant)
			} else {
				fmt.Fprintf(r.s.errors, "tenant %s: %d %s\n", first(x.Tenant, "-"), x.Status, x.Code)
			}
			return nil
		},
	}
	c.Flags().StringArrayVarP(&headers, "header", "H", nil, "NAME: VALUE; may be repeated")
	c.Flags().StringVar(&request.Key, "key", "", "API key, put where the tenant expects one")
	c.Flags().StringVar(&request.Address, "address", "", "the client's address (default 127.0.0.1)")
	return c
}
