package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"

	"github.com/gatehouse-gateway/gatehouse/configs"
	"github.com/spf13/cobra"
)

// The exit codes of every command.
const (
	exitOK       = 0
	exitError    = 1
	exitFindings = 2 // faults in a document, or differences
	exitUsage    = 3
)

// exit is an error that has its own exit code.
type exit struct {
	code int
	err  error
}

func (e *exit) Error() string { return e.err.Error() }
func (e *exit) Unwrap() error { return e.err }

// streams are what a command talks through. stdout carries data only.
type streams struct {
	getenv      func(string) string
	stdin       io.Reader
	out, errors io.Writer
}

// run is the whole program but for the process: tests call it too.
func run(ctx context.Context, args []string, getenv func(string) string, stdin io.Reader, stdout, stderr io.Writer) int {
	io := &streams{getenv, stdin, stdout, stderr}
	root := &cobra.Command{
		Use:               "gatehouse",
		Short:             "A multi-tenant reverse proxy and API gateway",
		SilenceUsage:      true,
		SilenceErrors:     true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return &exit{exitUsage, fmt.Errorf("%w\nsee %s --help", err, c.CommandPath())}
	})
	root.AddCommand(runCommand(io), checkCommand(io), keyCommand(io), versionCommand(io))
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if problems, ok := errors.AsType[configs.Problems](err); ok {
		fmt.Fprint(stderr, problems.Error(), "\n")
		return exitFindings
	}
	fmt.Fprintf(stderr, "gatehouse: %v\n", err)
	if e, ok := errors.AsType[*exit](err); ok {
		return e.code
	}
	if isUsage(err) {
		return exitUsage
	}
	return exitError
}

// isUsage recognises cobra's own complaint about a command that does not
// exist, which has no type.
func isUsage(err error) bool {
	const unknown = "unknown command "
	return len(err.Error()) > len(unknown) && err.Error()[:len(unknown)] == unknown
}

// arguments checks the number of arguments with the exit code of usage.
func arguments(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return &exit{exitUsage, fmt.Errorf("%w\nsee %s --help", err, c.CommandPath())}
		}
		return nil
	}
}

func versionCommand(s *streams) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  arguments(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(s.out, "gatehouse", version())
			return err
		},
	}
}

func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
