package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/configs"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/client"
	"github.com/gatehouse-gateway/gatehouse/policy"
	"github.com/spf13/cobra"
)

func policyView() view {
	return columns("NUMBER:/number TENANT:/tenant ACTIVE:/active SHADOW:/shadow BY:/by BYTES:/review/bytes CACHEABLE:/review/cacheable TESTS:/review/tests/passed CREATED:/created")
}

func policyCommand(r *remote) *cobra.Command {
	c := group("policy", "Push, test and enforce tenants' policies", `A pushed policy is a set of Rego modules, kept under a number. Pushing compiles
and tests it; activating makes it the tenant's policy.`)
	c.AddCommand(
		policyPush(r), policyList(r), policyGet(r), policyTest(r), policyBench(r), policyShadow(r), policyDiff(r),
		policyAct(r, "activate", "Enforce a pushed policy", client.ActivatePolicy), policyRollback(r), policyDecisions(r), policyReplay(r),
	)
	return c
}

// pushed is the list of a tenant's pushed policies.
func pushed(args []string) client.Call {
	return client.Call{Operation: client.ListPolicies, Path: args[:1]}
}

// regoFiles reads modules: files, or the *.rego of folders. Those whose name
// ends in _test.rego are tests. paths are where each came from, in the order of
// modules and then tests.
func regoFiles(paths []string) (set control.NewPolicy, modules, tests []string, err error) {
	for _, path := range paths {
		names := []string{path}
		if info, e := os.Stat(path); e == nil && info.IsDir() {
			if names, err = filepath.Glob(filepath.Join(path, "*.rego")); err != nil {
				return set, nil, nil, err
			}
		}
		for _, name := range names {
			source, err := os.ReadFile(name)
			if err != nil {
				return set, nil, nil, &exit{exitUsage, fmt.Errorf("read module: %w", err)}
			}
			m := gatehouse.Module{Name: filepath.Base(name), Source: string(source)}
			if strings.HasSuffix(name, "_test.rego") {
				set.Tests, tests = append(set.Tests, m), append(tests, name)
			} else {
				set.Modules, modules = append(set.Modules, m), append(modules, name)
			}
		}
	}
	if len(set.Modules) == 0 {
		return set, nil, nil, &exit{exitUsage, fmt.Errorf("no modules in %s: files *.rego are read", strings.Join(paths, ", "))}
	}
	return set, modules, tests, nil
}

// locate gives faults of modules their places in the files.
func locate(faults gatehouse.Faults, modules, tests []string) configs.Problems {
	var out configs.Problems
	for _, f := range faults {
		p := configs.Problem{Reason: f.Reason, Hint: f.Hint, Warning: f.Warning}
		var i int
		for kind, files := range map[string][]string{"modules": modules, "tests": tests} {
			if _, err := fmt.Sscanf(f.Pointer, "/"+kind+"/%d", &i); err == nil && i < len(files) {
				p.Place = configs.Place{File: files[i], Line: f.Line, Column: f.Column}
				if text, err := os.ReadFile(files[i]); err == nil && f.Line > 0 {
					if lines := strings.Split(string(text), "\n"); f.Line <= len(lines) {
						p.Excerpt = lines[f.Line-1]
					}
				}
			}
		}
		if p.File == "" {
			p.Reason = strings.TrimPrefix(f.Pointer+": "+f.Reason, ": ")
		}
		out = append(out, p)
	}
	out.Sort()
	return out
}

// located turns an answer about modules into problems with places.
func located(err error, modules, tests []string) error {
	if faults, ok := errors.AsType[gatehouse.Faults](err); ok && len(faults) > 0 {
		return locate(faults, modules, tests)
	}
	return err
}

func policyPush(r *remote) *cobra.Command {
	var f changeFlags
	var activate bool
	c := &cobra.Command{
		Use: "push TENANT PATH…", Short: "Push a set of modules: compiled, tested, kept under a number",
		Long: `Push reads Rego files, or the *.rego of folders; those named *_test.rego are
tests, which must pass. Nothing is enforced yet, unless with --activate.`,
		Example: "  gatehouse policy push acme policy/ --activate",
		Args:    arguments(cobra.MinimumNArgs(2)), ValidArgsFunction: func(c *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveDefault
			}
			return r.complete(0, allTenants)(c, args, typed)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			set, modules, tests, err := regoFiles(args[1:])
			if err != nil {
				return err
			}
			set.Activate = activate
			answer, err := r.do(cmd.Context(), client.Call{Operation: client.PushPolicies, Path: args[:1], Query: f.query(), Body: set})
			if err != nil {
				return located(r.tenant(cmd.Context(), err, args[0]), modules, tests)
			}
			var warned struct {
				Warnings gatehouse.Faults `json:"warnings"`
			}
			if err := answer.Into(&warned); err != nil {
				return err
			}
			if f.dryRun {
				fmt.Fprintln(r.s.errors, "dry run: nothing was changed")
			}
			if len(warned.Warnings) > 0 {
				fmt.Fprintln(r.s.errors, locate(warned.Warnings, modules, tests).Error())
			}
			return r.print(answer.Body, policyView())
		},
	}
	c.Flags().BoolVar(&activate, "activate", false, "enforce it at once")
	f.add(c, false)
	return c
}

func policyList(r *remote) *cobra.Command {
	return &cobra.Command{
		Use: "list [TENANT]", Short: "List pushed policies, newest first", Args: arguments(cobra.MaximumNArgs(1)), ValidArgsFunction: r.complete(0, allTenants),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return r.list(cmd.Context(), client.Call{Operation: client.ListAllPolicies}, 0, policyView())
			}
			return r.tenant(cmd.Context(), r.list(cmd.Context(), pushed(args), 0, policyView()), args[0])
		},
	}
}

func policyGet(r *remote) *cobra.Command {
	return &cobra.Command{
		Use: "get TENANT NUMBER", Short: "Show a pushed policy; its sources with -o yaml", Args: arguments(cobra.ExactArgs(2)), ValidArgsFunction: r.complete(0, allTenants),
		RunE: func(cmd *cobra.Command, args []string) error {
			return r.show(cmd.Context(), client.Call{Operation: client.GetPolicy, Path: args}, policyView())
		},
	}
}

// review compiles and tests files here, or a pushed policy there.
func (r *remote) review(ctx context.Context, args, files []string) (json.RawMessage, error) {
	if len(files) > 0 {
		if len(args) > 0 {
			return nil, &exit{exitUsage, errors.New("give files with -f, or a tenant and a number, not both")}
		}
		set, modules, tests, err := regoFiles(files)
		if err != nil {
			return nil, err
		}
		engine, err := newEngine(nil)
		if err != nil {
			return nil, err
		}
		review, faults := engine.Review(set.Modules, set.Tests)
		if len(faults.Errors()) > 0 {
			return nil, locate(faults, modules, tests)
		}
		return json.Marshal(review)
	}
	if len(args) != 2 {
		return nil, &exit{exitUsage, errors.New("give files with -f, or a tenant and a number")}
	}
	answer, err := r.do(ctx, client.Call{Operation: client.TestPolicy, Path: args})
	if err != nil {
		return nil, err
	}
	return answer.Body, nil
}

func policyTest(r *remote) *cobra.Command {
	var files []string
	c := &cobra.Command{
		Use: "test [TENANT NUMBER]", Short: "Compile modules and run their tests; exit code 2 when one fails",
		Example: "  gatehouse policy test -f policy/\n  gatehouse policy test acme 3",
		Args:    arguments(cobra.MaximumNArgs(2)), ValidArgsFunction: r.complete(0, allTenants),
		RunE: func(cmd *cobra.Command, args []string) error {
			raw, err := r.review(cmd.Context(), args, files)
			if err != nil {
				return err
			}
			var review policy.Review
			if err := json.Unmarshal(raw, &review); err != nil {
				return err
			}
			if form, _ := r.format(); form == "json" || form == "yaml" {
				err = r.print(raw, view{})
			} else {
				items := []json.RawMessage{}
				for _, t := range review.Tests.Results {
					item, err := json.Marshal(t)
					if err != nil {
						return err
					}
					items = append(items, item)
				}
				err = r.printItems(items, columns("NAME:/name PASSED:/passed MODULE:/module LINE:/line FAILURE:/failure"))
			}
			failed := 0
			for _, t := range review.Tests.Results {
				if !t.Passed {
					failed++
				}
			}
			if err == nil && failed > 0 {
				err = &exit{exitFindings, fmt.Errorf("%s of %d failed", count(failed, "test"), len(review.Tests.Results))}
			}
			return err
		},
	}
	c.Flags().StringSliceVarP(&files, "file", "f", nil, "modules and tests on this machine: files or folders")
	return c
}

func policyBench(r *remote) *cobra.Command {
	var files []string
	c := &cobra.Command{
		Use: "bench [TENANT NUMBER]", Short: "Tell what a decision of a policy costs",
		Long: `Bench evaluates the policy on the requests of its tests and on made-up ones, and
tells the steps and the time of one that is not in the cache.`,
		Example: "  gatehouse policy bench -f policy/\n  gatehouse policy bench acme 3",
		Args:    arguments(cobra.MaximumNArgs(2)), ValidArgsFunction: r.complete(0, allTenants),
		RunE: func(cmd *cobra.Command, args []string) error {
			raw, err := r.review(cmd.Context(), args, files)
			if err != nil {
				return err
			}
			return r.print(raw, columns("CACHEABLE:/cacheable STEPS:/cost/steps/median STEPS_MOST:/cost/steps/most TIME_NS:/cost/time/median TIME_MOST_NS:/cost/time/most REQUESTS:/cost/generated FROM_TESTS:/cost/from_tests BYTES:/bytes"))
		},
	}
	c.Flags().StringSliceVarP(&files, "file", "f", nil, "modules and tests on this machine: files or folders")
	return c
}

// policyAct is a command that does something with one pushed policy.
func policyAct(r *remote, verb, short string, operation client.Operation) *cobra.Command {
	var f changeFlags
	c := &cobra.Command{
		Use: verb + " TENANT NUMBER", Short: short, Args: arguments(cobra.ExactArgs(2)), ValidArgsFunction: r.complete(0, allTenants),
		RunE: func(cmd *cobra.Command, args []string) error {
			return r.show(cmd.Context(), client.Call{Operation: operation, Path: args, Query: f.query()}, policyView())
		},
	}
	f.add(c, false)
	return c
}

func policyShadow(r *remote) *cobra.Command {
	var f changeFlags
	var stop bool
	c := &cobra.Command{
		Use: "shadow TENANT [NUMBER]", Short: "Evaluate a policy beside the one in force, without effect",
		Long:    "With a number shadow begins; without one it reports what would be decided\notherwise; with --stop it ends.",
		Example: "  gatehouse policy shadow acme 4\n  gatehouse policy shadow acme\n  gatehouse policy shadow acme --stop",
		Args:    arguments(cobra.RangeArgs(1, 2)), ValidArgsFunction: r.complete(0, allTenants),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case stop && len(args) == 2:
				return &exit{exitUsage, errors.New("--stop takes no number")}
			case stop:
				return r.show(cmd.Context(), client.Call{Operation: client.StopShadow, Path: args, Query: f.query()}, tenantView())
			case len(args) == 2:
				return r.show(cmd.Context(), client.Call{Operation: client.ShadowPolicy, Path: args, Query: f.query()}, policyView())
			}
			return r.show(cmd.Context(), client.Call{Operation: client.GetShadow, Path: args}, columns("SINCE:/since SAME:/same DIFFERENT:/different FAILED:/failed DROPPED:/dropped"))
		},
	}
	c.Flags().BoolVar(&stop, "stop", false, "end the shadow")
	f.add(c, false)
	return c
}

func policyRollback(r *remote) *cobra.Command {
	var f changeFlags
	c := &cobra.Command{
		Use: "rollback TENANT", Short: "Enforce the modules that were in force before", Args: arguments(cobra.ExactArgs(1)), ValidArgsFunction: r.complete(0, allTenants),
		RunE: func(cmd *cobra.Command, args []string) error {
			err := r.show(cmd.Context(), client.Call{Operation: client.RollBackPolicy, Path: args, Query: f.query()}, tenantView())
			return r.tenant(cmd.Context(), err, args[0])
		},
	}
	f.add(c, false)
	return c
}

func policyDiff(r *remote) *cobra.Command {
	c := &cobra.Command{
		Use: "diff TENANT NUMBER [LATER]", Short: "Compare two pushed policies, or one with what is in force; exit code 2 when they differ",
		Args: arguments(cobra.RangeArgs(2, 3)), ValidArgsFunction: r.complete(0, allTenants),
		RunE: func(cmd *cobra.Command, args []string) error {
			from, err := r.modules(cmd.Context(), args[0], args[1])
			if err != nil {
				return err
			}
			later := ""
			if len(args) == 3 {
				later = args[2]
			}
			to, err := r.modules(cmd.Context(), args[0], later)
			if err != nil {
				return err
			}
			return r.printSources(from, to)
		},
	}
	return c
}

// modules are the sources of a pushed policy by name, of what is in force
// where no number is given.
func (r *remote) modules(ctx context.Context, tenant, number string) (map[string]string, error) {
	call := client.Call{Operation: client.GetPolicy, Path: []string{tenant, number}}
	if number == "" {
		call = client.Call{Operation: client.GetTenant, Path: []string{tenant}}
	}
	answer, err := r.do(ctx, call)
	if err != nil {
		return nil, err
	}
	var in struct {
		Modules []gatehouse.Module `json:"modules"`
		Policy  gatehouse.Policy   `json:"policy"`
	}
	if err := answer.Into(&in); err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, m := range append(in.Modules, in.Policy.Modules...) {
		out[m.Name] = m.Source
	}
	return out, nil
}

func (r *remote) printSources(from, to map[string]string) error {
	names := slices.Sorted(maps.Keys(from))
	for name := range to {
		if _, ok := from[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	form, err := r.format()
	if err != nil {
		return err
	}
	items := []json.RawMessage{}
	for _, name := range names {
		if from[name] == to[name] {
			continue
		}
		lines := lineDiff(from[name], to[name])
		item, err := json.Marshal(map[string]any{"module": name, "diff": lines})
		if err != nil {
			return err
		}
		items = append(items, item)
		if form == "table" {
			fmt.Fprintf(r.s.out, "--- %s\n+++ %s\n%s\n", name, name, r.s.paint(lines))
		}
	}
	if form != "table" {
		if err := r.printItems(items, columns("MODULE:/module DIFF:/diff")); err != nil {
			return err
		}
	}
	if len(items) > 0 {
		return &exit{exitFindings, fmt.Errorf("%s differ", count(len(items), "module"))}
	}
	return nil
}
