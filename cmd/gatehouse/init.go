package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gatehouse-gateway/gatehouse/configs"
	"github.com/spf13/cobra"
)

// firstTenant is the document that init writes.
const firstTenant = `# A tenant: see docs/reference/tenants.md. Put it in force with
#   gatehouse apply -f tenants/
tenants:
  - id: example
    name: Example
    domain: example.localhost
    backends:
      - {id: app, endpoints: [{url: "http://127.0.0.1:8081"}]}
    routes:
      - {id: public, match: {path: /}, auth: none, backend: app}
`

func initCommand(s *streams) *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use: "init [FOLDER]", Short: "Write a process configuration and a first tenant",
		Long:    "Init writes gatehouse.yaml, with every setting at its default, and\ntenants/example.yaml. What is there already is kept.",
		Example: "  gatehouse init\n  gatehouse run --config gatehouse.yaml\n  gatehouse apply -f tenants/",
		Args:    arguments(cobra.MaximumNArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			folder := "."
			if len(args) == 1 {
				folder = args[0]
			}
			process, err := configs.Examples.ReadFile("gatehouse.yaml")
			if err != nil {
				return err
			}
			for _, f := range []struct{ name, text string }{
				{"gatehouse.yaml", string(process)}, {filepath.Join("tenants", "example.yaml"), firstTenant},
			} {
				name := filepath.Join(folder, f.name)
				if _, err := os.Stat(name); err == nil && !force {
					return &exit{exitConflict, fmt.Errorf("%s is there already: --force writes over it", name)}
				} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
					return err
				}
				if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil { //nolint:gosec // nothing secret
					return err
				}
				if err := os.WriteFile(name, []byte(f.text), 0o644); err != nil { //nolint:gosec // nothing secret
					return err
				}
				fmt.Fprintln(s.out, name)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&force, "force", false, "write over what is there")
	return c
}
