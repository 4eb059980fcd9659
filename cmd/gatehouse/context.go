package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gatehouse-gateway/gatehouse/configs"
	"github.com/gatehouse-gateway/gatehouse/control/client"
	"github.com/spf13/cobra"
)

// contexts is the file of the control planes that are known by name.
type contexts struct {
	Current  string   `json:"current,omitempty"`
	Contexts []access `json:"contexts"`
	path     string
}

func (c *contexts) find(name string) (access, bool) {
	for _, a := range c.Contexts {
		if a.Name == name && name != "" {
			return a, true
		}
	}
	return access{}, false
}

func (c *contexts) names() []string {
	var all []string
	for _, a := range c.Contexts {
		all = append(all, a.Name)
	}
	return all
}

// contextsPath is contexts.yaml in the user's configuration (XDG).
func contextsPath(getenv func(string) string) (string, error) {
	if dir := getenv("XDG_CONFIG_HOME"); dir != "" {
		return filepath.Join(dir, "gatehouse", "contexts.yaml"), nil
	}
	if home := first(getenv("HOME"), getenv("USERPROFILE")); home != "" {
		return filepath.Join(home, ".config", "gatehouse", "contexts.yaml"), nil
	}
	return "", errors.New("no place for contexts: HOME and XDG_CONFIG_HOME are not set")
}

func readContexts(getenv func(string) string) (*contexts, error) {
	c := &contexts{Contexts: []access{}}
	path, err := contextsPath(getenv)
	if err != nil {
		return c, nil //nolint:nilerr // then there are none
	}
	c.path = path
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, fmt.Errorf("read contexts: %w", err)
	}
	if _, problems := configs.Decode(path, text, c); len(problems) > 0 {
		return c, problems
	}
	return c, nil
}

func (c *contexts) write() error {
	if c.path == "" {
		return errors.New("no place for contexts: HOME and XDG_CONFIG_HOME are not set")
	}
	if err := os.MkdirAll(filepath.Dir(c.path), 0o700); err != nil {
		return err
	}
	raw, err := json.Marshal(c)
	if err != nil {
		return err
	}
	var b strings.Builder
	if err := writeYAML(&b, raw); err != nil {
		return err
	}
	return writePrivate(c.path, b.String())
}

func contextCommand(r *remote) *cobra.Command {
	c := group("context", "Name control planes, and choose among them", `A context is a control plane's URL with the token for it. Contexts are kept in
~/.config/gatehouse/contexts.yaml, which only its owner can read.`)
	c.AddCommand(contextAdd(r), contextUse(r), contextList(r), contextRemove(r))
	return c
}

func contextAdd(r *remote) *cobra.Command {
	var a access
	var tokenFile string
	c := &cobra.Command{
		Use: "add NAME", Short: "Add a context, or replace it, and use it",
		Example: "  gatehouse context add production --server https://control.example.com:9090 --token-file token",
		Args:    arguments(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			a.Name = args[0]
			if !plainWord.MatchString(a.Name) {
				return &exit{exitUsage, fmt.Errorf("%q is not a plain word: use letters, digits and _ . : / -", a.Name)}
			}
			token := r.s.getenv("GATEHOUSE_TOKEN")
			if tokenFile != "" {
				var err error
				if token, err = r.readToken(tokenFile); err != nil {
					return err
				}
			}
			a.Token = token
			if a.CAFile != "" {
				var err error
				if a.CAFile, err = filepath.Abs(a.CAFile); err != nil {
					return err
				}
			}
			if _, err := client.New(client.Config{Server: a.Server, Token: a.Token}); err != nil {
				return &exit{exitUsage, errors.New(messageOf(err))}
			}
			file, err := readContexts(r.s.getenv)
			if err != nil {
				return err
			}
			file.Contexts = slices.DeleteFunc(file.Contexts, func(o access) bool { return o.Name == a.Name })
			file.Contexts = append(file.Contexts, a)
			file.Current = a.Name
			if err := file.write(); err != nil {
				return fmt.Errorf("write contexts: %w", err)
			}
			fmt.Fprintf(r.s.errors, "context %q is in use\n", a.Name)
			return nil
		},
	}
	c.Flags().StringVar(&a.Server, "server", defaultServer, "URL of the control plane")
	c.Flags().StringVar(&tokenFile, "token-file", "", "file that holds the operator token, - for standard input (or GATEHOUSE_TOKEN)")
	c.Flags().StringVar(&a.CAFile, "ca-file", "", "certificates that the control plane's may be signed by (default: the system's)")
	return c
}

func (r *remote) contextNames(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	file, err := readContexts(r.s.getenv)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return file.names(), cobra.ShellCompDirectiveNoFileComp
}

// withContext changes the file for a context that is there.
func (r *remote) withContext(name string, change func(*contexts)) error {
	file, err := readContexts(r.s.getenv)
	if err != nil {
		return err
	}
	if _, ok := file.find(name); !ok {
		return &exit{exitNotFound, fmt.Errorf("there is no context %q%s", name, didYouMean(name, file.names()))}
	}
	change(file)
	if err := file.write(); err != nil {
		return fmt.Errorf("write contexts: %w", err)
	}
	return nil
}

func contextUse(r *remote) *cobra.Command {
	return &cobra.Command{
		Use: "use NAME", Short: "Use a context from now on", Args: arguments(cobra.ExactArgs(1)), ValidArgsFunction: r.contextNames,
		RunE: func(_ *cobra.Command, args []string) error {
			return r.withContext(args[0], func(f *contexts) { f.Current = args[0] })
		},
	}
}

func contextRemove(r *remote) *cobra.Command {
	return &cobra.Command{
		Use: "remove NAME", Short: "Forget a context and its token", Args: arguments(cobra.ExactArgs(1)), ValidArgsFunction: r.contextNames,
		RunE: func(_ *cobra.Command, args []string) error {
			return r.withContext(args[0], func(f *contexts) {
				f.Contexts = slices.DeleteFunc(f.Contexts, func(a access) bool { return a.Name == args[0] })
				if f.Current == args[0] {
					f.Current = ""
				}
			})
		},
	}
}

func contextList(r *remote) *cobra.Command {
	c := &cobra.Command{
		Use: "list", Short: "List the contexts; tokens are not shown", Args: arguments(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			file, err := readContexts(r.s.getenv)
			if err != nil {
				return err
			}
			items := []json.RawMessage{}
			for _, a := range file.Contexts {
				raw, err := json.Marshal(map[string]any{"name": a.Name, "server": a.Server, "token": a.Token != "", "current": a.Name == file.Current})
				if err != nil {
					return err
				}
				items = append(items, raw)
			}
			return r.printItems(items, columns("NAME:/name SERVER:/server TOKEN:/token CURRENT:/current"))
		},
	}
	r.outputFlag(c)
	return c
}
