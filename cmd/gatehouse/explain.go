package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"

	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/client"
	"github.com/gatehouse-gateway/gatehouse/proxy"
	"github.com/spf13/cobra"
)

func explainCommand(r *remote) *cobra.Command {
	request := control.Request{Headers: map[string]string{}}
	var headers []string
	var tenants, config string
	c := &cobra.Command{
		Use: "explain [METHOD] URL", Short: "Tell what would become of a request, and why",
		Long: `Explain takes a request through the phases that a real one would go through,
without sending it to a backend and without charging it, and tells the outcome
of each.

With --tenants the request meets those of documents on this machine, and no
control plane is asked. Limits are then unused, and no key set is fetched.`,
		Example: "  gatehouse explain GET https://studio.example.com/api/x --key \"$KEY\"\n  gatehouse explain https://studio.example.com/ --header 'Authorization: Bearer …'\n  gatehouse explain https://studio.example.com/ --tenants tenants/",
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
			if config != "" && tenants == "" {
				return &exit{exitUsage, errors.New("--config goes with --tenants: a control plane has its own")}
			}
			var raw json.RawMessage
			var err error
			if tenants != "" {
				raw, err = explainHere(config, tenants, request)
			} else {
				var answer *client.Answer
				if answer, err = r.do(cmd.Context(), client.Call{Operation: client.Explain, Body: request}); err == nil {
					raw = answer.Body
				}
			}
			if err != nil {
				return err
			}
			return r.printExplanation(raw)
		},
	}
	c.Flags().StringArrayVarP(&headers, "header", "H", nil, "NAME: VALUE; may be repeated")
	c.Flags().StringVar(&request.Key, "key", "", "API key, put where the tenant expects one")
	c.Flags().StringVar(&request.Address, "address", "", "the client's address (default 127.0.0.1)")
	c.Flags().StringVar(&tenants, "tenants", "", "file or folder of tenant documents, in place of a control plane")
	c.Flags().StringVar(&config, "config", "", "with --tenants: process configuration of the data plane")
	return c
}

// explainHere explains a request by documents, in this process.
func explainHere(config, tenants string, request control.Request) (json.RawMessage, error) {
	cfg, err := readConfig(config)
	if err != nil {
		return nil, err
	}
	engine, err := newEngine(nil)
	if err != nil {
		return nil, err
	}
	if _, problems := checkDocuments(engine, tenants); len(problems.Errors()) > 0 {
		return nil, problems
	}
	silent := slog.New(slog.DiscardHandler)
	gateway, err := proxy.New(cfg.Proxy, proxy.Parts{Engine: engine, Log: silent, Headers: cfg.Limits.Headers})
	if err != nil {
		return nil, err
	}
	control.NewFiles(tenants, control.NewBook(gateway.Apply), silent).Load()
	x, err := explained(gateway, request)
	if err != nil {
		return nil, err
	}
	return json.Marshal(x)
}

// printExplanation prints the phases as a table, and what it comes to on
// standard error; as JSON and YAML all of it.
func (r *remote) printExplanation(raw json.RawMessage) error {
	form, err := r.format()
	if err != nil {
		return err
	}
	if form == "json" || form == "yaml" {
		return r.print(raw, view{})
	}
	var x struct {
		Tenant string            `json:"tenant"`
		Status int               `json:"status"`
		Code   string            `json:"code"`
		Phases []json.RawMessage `json:"phases"`
	}
	if err := (&client.Answer{Body: raw}).Into(&x); err != nil {
		return err
	}
	if err := r.printItems(x.Phases, columns("PHASE:/phase OUTCOME:/outcome DETAIL:/detail")); err != nil {
		return err
	}
	if x.Status == 0 {
		fmt.Fprintf(r.s.errors, "tenant %s: the backend would answer\n", x.Tenant)
	} else {
		fmt.Fprintf(r.s.errors, "tenant %s: %d %s\n", first(x.Tenant, "-"), x.Status, x.Code)
	}
	return nil
}
