package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/client"
	"github.com/spf13/cobra"
)

// remote is what the commands that talk to a control plane share. For each
// setting the flag comes before the variable, then the context, then the
// default.
type remote struct {
	s                               *streams
	server, tokenFile, context, out string
	tokenless                       string // the control plane that was called without a token; "": none
}

const defaultServer = "http://127.0.0.1:9090"

// command adds the flags of a remote command to it and to those below it.
func (r *remote) command(c *cobra.Command) *cobra.Command {
	f := c.PersistentFlags()
	f.StringVar(&r.server, "server", "", "URL of the control plane (GATEHOUSE_SERVER; default "+defaultServer+")")
	f.StringVar(&r.tokenFile, "token-file", "", "file that holds the operator token, - for standard input (or GATEHOUSE_TOKEN)")
	f.StringVar(&r.context, "context", "", "context to use (GATEHOUSE_CONTEXT; default: the current one)")
	r.outputFlag(c)
	return c
}

func (r *remote) outputFlag(c *cobra.Command) {
	c.PersistentFlags().StringVarP(&r.out, "output", "o", "", "table, json, yaml, csv or name (GATEHOUSE_OUTPUT; default table)")
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp)) // the flag is there
}

// access is where the control plane is and what opens it.
type access struct {
	Name   string `json:"name"`
	Server string `json:"server"`
	Token  string `json:"token,omitempty"`
	CAFile string `json:"ca_file,omitempty"`
}

// access settles the settings.
func (r *remote) access() (access, error) {
	getenv := r.s.getenv
	file, err := readContexts(getenv)
	if err != nil {
		return access{}, err
	}
	name := first(r.context, getenv("GATEHOUSE_CONTEXT"))
	a, ok := file.find(first(name, file.Current))
	if name != "" && !ok {
		return a, &exit{exitUsage, fmt.Errorf("there is no context %q%s\nsee gatehouse context list", name, didYouMean(name, file.names()))}
	}
	given := first(r.server, getenv("GATEHOUSE_SERVER"))
	if given != "" && given != a.Server {
		a = access{Server: given} // the token of a context is for its own server
	}
	if r.tokenFile != "" {
		if a.Token, err = r.readToken(r.tokenFile); err != nil {
			return a, err
		}
	} else if token := getenv("GATEHOUSE_TOKEN"); token != "" {
		a.Token = token
	}
	if ca := getenv("GATEHOUSE_CA_FILE"); ca != "" {
		a.CAFile = ca
	}
	if a.Server == "" {
		a.Server = defaultServer
	}
	if a.Token == "" && isOwnServer(a.Server) {
		// The machine's own control plane, by the token of its first start.
		if token, err := os.ReadFile(filepath.Join(defaultConfig().Data, bootstrapFile)); err == nil {
			a.Token = strings.TrimSpace(string(token))
		}
	}
	return a, nil
}

func isOwnServer(server string) bool {
	u, err := url.Parse(server)
	return err == nil && client.IsLocal(u.Host)
}

func (r *remote) readToken(name string) (string, error) {
	text, err := readInput(r.s, name)
	if err != nil {
		return "", &exit{exitUsage, fmt.Errorf("read token: %w", err)}
	}
	return strings.TrimSpace(string(text)), nil
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// client returns a client of the control plane that is meant.
func (r *remote) client() (*client.Client, error) {
	a, err := r.access()
	if err != nil {
		return nil, err
	}
	transport, err := newTransport(a.CAFile)
	if err != nil {
		return nil, &exit{exitUsage, fmt.Errorf("certificates of the control plane: %w", err)}
	}
	c, err := client.New(client.Config{Server: a.Server, Token: a.Token, HTTP: transport, Agent: agent()})
	if err != nil {
		return nil, &exit{exitUsage, errors.New(messageOf(err))}
	}
	if a.Token == "" {
		r.tokenless = a.Server
	}
	return c, nil
}

// do makes one call.
func (r *remote) do(ctx context.Context, call client.Call) (*client.Answer, error) {
	c, err := r.client()
	if err != nil {
		return nil, err
	}
	return c.Do(ctx, call)
}

// show makes a call and prints the resource that it answers with.
func (r *remote) show(ctx context.Context, call client.Call, v view) error {
	answer, err := r.do(ctx, call)
	if err != nil {
		return err
	}
	if call.Query.Get("dry_run") != "" {
		fmt.Fprintln(r.s.errors, "dry run: nothing was changed")
	}
	if call.Operation == client.FinalizeInvoice {
		if err := r.warn(answer); err != nil {
			return err
		}
	}
	return r.print(answer.Body, v)
}

// answered prints the resource that a change answered with.
func (r *remote) answered(answer *client.Answer, f *changeFlags, v view) error {
	if f.dryRun {
		fmt.Fprintln(r.s.errors, "dry run: nothing was changed")
	}
	return r.print(answer.Body, v)
}

// list makes a call of a list, at most limit items of which are printed; 0 for
// all.
func (r *remote) list(ctx context.Context, call client.Call, limit int, v view) error {
	c, err := r.client()
	if err != nil {
		return err
	}
	if call.Query == nil {
		call.Query = url.Values{}
	}
	page := 1000
	if limit > 0 {
		page = min(page, limit)
	}
	call.Query.Set("limit", fmt.Sprint(page))
	items := []json.RawMessage{}
	for item, err := range c.Items(ctx, call) {
		if err != nil {
			return err
		}
		if items = append(items, item); len(items) == limit {
			break
		}
	}
	return r.printItems(items, v)
}

// change holds the flags of what changes something.
type changeFlags struct {
	dryRun, yes bool
	reason      string
}

func (f *changeFlags) add(c *cobra.Command, dangerous bool) {
	c.Flags().BoolVar(&f.dryRun, "dry-run", false, "only say what would change")
	c.Flags().StringVar(&f.reason, "reason", "", "why, for the audit trail")
	if dangerous {
		c.Flags().BoolVarP(&f.yes, "yes", "y", false, "do not ask")
	}
}

func (f *changeFlags) query() url.Values {
	q := url.Values{}
	if f.dryRun {
		q.Set("dry_run", "true")
	}
	if f.reason != "" {
		q.Set("reason", f.reason)
	}
	return q
}

// remove makes a call that has no answer but that it is done, which is said on
// standard error; as JSON or YAML what a dry run tells is printed.
func (r *remote) remove(ctx context.Context, call client.Call, f *changeFlags, what string) error {
	answer, err := r.do(ctx, call)
	if err != nil {
		return err
	}
	form, err := r.format()
	if err != nil {
		return err
	}
	if f.dryRun {
		what = "dry run: nothing was changed"
	}
	if body := answer.Body; form == "json" || form == "yaml" {
		if len(body) == 0 {
			body = json.RawMessage(`{}`)
		}
		return r.print(body, view{})
	}
	fmt.Fprintln(r.s.errors, what)
	return nil
}

// names returns the ids of a list for completion and for suggestions: what
// comes within a second.
func (r *remote) names(ctx context.Context, call client.Call, at string) []string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	c, err := r.client()
	if err != nil {
		return nil
	}
	if call.Query == nil {
		call.Query = url.Values{}
	}
	if !call.Query.Has("limit") {
		call.Query.Set("limit", "1000")
	}
	answer, err := c.Do(ctx, call)
	if err != nil {
		return nil
	}
	var page struct {
		Items []map[string]any `json:"items"`
	}
	if answer.Into(&page) != nil {
		return nil
	}
	var names []string
	for _, item := range page.Items {
		if id, ok := item[at].(string); ok {
			names = append(names, id)
		}
	}
	return names
}

// missing adds the nearest name there is to an error that says that a thing
// does not exist. Where the thing is there it is another that is missing: the
// error stays.
func (r *remote) missing(ctx context.Context, err error, what, name string, list client.Call) error {
	if gatehouse.CodeOf(err) != gatehouse.CodeNotFound {
		return err
	}
	names := r.names(ctx, list, "id")
	if slices.Contains(names, name) {
		return err
	}
	return &gatehouse.Error{
		Code:    gatehouse.CodeNotFound,
		Message: fmt.Sprintf("there is no %s %q%s", what, name, didYouMean(name, names)),
	}
}

// complete offers the names of a list as the argument at a position.
func (r *remote) complete(position int, list func(args []string) client.Call) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) != position {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return r.names(c.Context(), list(args), "id"), cobra.ShellCompDirectiveNoFileComp
	}
}
