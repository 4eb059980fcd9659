package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/spf13/cobra"
)

// The exit codes of every command.
const (
	exitOK           = 0
	exitError        = 1
	exitFindings     = 2 // faults in a document, or differences
	exitUsage        = 3
	exitNotFound     = 4
	exitConflict     = 5
	exitUnauthorised = 6
	exitUnavailable  = 7
	exitInterrupted  = 130
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
	terminal    *os.File // what out writes to where that is a terminal, else nil
	demo        bool     // the demo tells how to reach it
}

// run is the whole program but for the process: tests call it too.
func run(ctx context.Context, args []string, getenv func(string) string, stdin io.Reader, stdout, stderr io.Writer) int {
	out := &noted{Writer: stdout}
	s := &streams{getenv: getenv, stdin: stdin, out: out, errors: stderr}
	if f, ok := stdout.(*os.File); ok && isTerminal(f) {
		s.terminal = f
	}
	r := &remote{s: s}
	root := &cobra.Command{
		Use:           "gatehouse",
		Short:         "A multi-tenant reverse proxy and API gateway",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          unknownCommand,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(out)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(flagError)
	root.PersistentPreRun = func(c *cobra.Command, _ []string) {
		if c.Name() != "run" { // which has its own
			ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
			context.AfterFunc(ctx, stop)
			c.SetContext(ctx)
		}
	}
	root.AddCommand(commands(s, r)...)
	ctx, done := context.WithCancel(ctx)
	defer done()
	c, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	if c.Name() == "run" && errors.Is(err, context.Canceled) {
		err = &exit{exitError, err} // what was cut off, not who asked for it
	}
	if r.tokenless != "" && gatehouse.CodeOf(err) == gatehouse.CodeBadToken {
		err = &gatehouse.Error{Code: gatehouse.CodeBadToken, Message: "there is no operator token for " + r.tokenless}
	}
	code := exitCodeOf(err)
	if form := r.structured(args); form != "" && !out.written {
		r.printFailure(form, err, code)
	}
	fmt.Fprint(stderr, failure(err))
	return code
}

// commands are all of them, in the order of the help.
func commands(s *streams, r *remote) []*cobra.Command {
	all := []*cobra.Command{
		runCommand(s), checkCommand(s, r), initCommand(s), contextCommand(r), versionCommand(r), reconcileCommand(r),
	}
	key := keyCommand(r)
	key.AddCommand(keyNewCommand(s))
	for _, c := range []*cobra.Command{
		applyCommand(r), diffCommand(r), exportCommand(r), tenantCommand(r), key, policyCommand(r), planCommand(r), routeCommand(r), auditCommand(r),
		gatewayCommand(r), revisionCommand(r), tokenCommand(r), explainCommand(r), doctorCommand(r), topCommand(r), usageCommand(r), invoiceCommand(r), costCommand(r),
		billingCommand(r), webhookCommand(r),
	} {
		all = append(all, r.command(c))
	}
	return all
}

// noted notes whether anything was written.
type noted struct {
	io.Writer
	written bool
}

func (n *noted) Write(b []byte) (int, error) {
	n.written = n.written || len(b) > 0
	return n.Writer.Write(b)
}

// group is a noun: a command that has others below it.
func group(use, short, long string) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Long: long, Args: unknownCommand, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
}

var flagName = regexp.MustCompile(`--([a-z][a-z-]+)`)

func flagError(c *cobra.Command, err error) error {
	hint := ""
	if name, ok := strings.CutPrefix(err.Error(), "unknown flag: --"); ok {
		var known []string
		for _, m := range flagName.FindAllStringSubmatch(c.Flags().FlagUsages(), -1) {
			known = append(known, m[1])
		}
		hint = didYouMean(name, known)
	}
	return &exit{exitUsage, fmt.Errorf("%w%s\nsee %s --help", err, hint, c.CommandPath())}
}

func versionCommand(r *remote) *cobra.Command {
	c := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  arguments(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			if form, err := r.format(); err != nil || form != "table" {
				return errors.Join(err, r.print(fmt.Appendf(nil, `{"version": %q}`, version()), columns("VERSION:/version")))
			}
			_, err := fmt.Fprintln(r.s.out, "gatehouse", version())
			return err
		},
	}
	r.outputFlag(c)
	return c
}

func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
