package main

import (
	"encoding/json"
	"fmt"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/configs"
	"github.com/gatehouse-gateway/gatehouse/policies"
	"github.com/gatehouse-gateway/gatehouse/policy"
	"github.com/gatehouse-gateway/gatehouse/proxy"
	"github.com/spf13/cobra"
)

func checkCommand(s *streams) *cobra.Command {
	var strict bool
	var output string
	c := &cobra.Command{
		Use:   "check FILE…",
		Short: "Check tenant documents and report every fault with its place",
		Long: `Check reads tenant documents, files or folders of them, as one configuration
and compiles everything in them: routes, policies, key sets. Nothing is started.

Exit code 2 says that there are faults; they are on standard error.`,
		Example: "  gatehouse check tenants.yaml\n  gatehouse check tenants/ --strict",
		Args:    arguments(cobra.MinimumNArgs(1)),
		RunE: func(_ *cobra.Command, paths []string) error {
			if output != "text" && output != "json" {
				return &exit{exitUsage, fmt.Errorf("output %q is unknown: use text or json", output)}
			}
			engine, err := newEngine(nil)
			if err != nil {
				return err
			}
			set, problems := checkDocuments(engine, paths...)
			failed := len(problems.Errors()) > 0 || strict && len(problems) > 0
			if output == "json" {
				if err := printCheck(s, set, problems, !failed); err != nil {
					return err
				}
			} else if len(problems) > 0 {
				fmt.Fprintln(s.errors, problems.Error())
			}
			if failed {
				return &exit{exitFindings, fmt.Errorf("%s in %s", count(len(problems), "problem"), count(len(set.Files), "file"))}
			}
			if output == "text" {
				_, err = fmt.Fprintf(s.out, "ok: %s, %s in %s\n", count(len(set.Document.Plans), "plan"),
					count(len(set.Document.Tenants), "tenant"), count(len(set.Files), "file"))
			}
			return err
		},
	}
	c.Flags().BoolVar(&strict, "strict", false, "treat warnings as faults")
	c.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return c
}

func printCheck(s *streams, set *configs.Set, problems configs.Problems, ok bool) error {
	if problems == nil {
		problems = configs.Problems{}
	}
	e := json.NewEncoder(s.out)
	e.SetIndent("", "  ")
	return e.Encode(struct {
		OK       bool             `json:"ok"`
		Plans    int              `json:"plans"`
		Tenants  int              `json:"tenants"`
		Problems configs.Problems `json:"problems"`
	}{ok, len(set.Document.Plans), len(set.Document.Tenants), problems})
}

// checkDocuments reads and compiles documents without starting anything.
func checkDocuments(engine *policy.Engine, paths ...string) (*configs.Set, configs.Problems) {
	set := configs.Load(paths...)
	problems := set.Problems
	// What did not even validate would only be reported twice by compiling.
	if len(problems.Errors()) == 0 {
		problems = append(problems, set.Locate(proxy.Check(engine, &set.Document))...)
		problems.Sort()
		return set, problems
	}
	doc := set.Document
	for _, p := range set.Locate(proxy.Check(engine, &doc)) {
		if !problems.At(p.Place) {
			problems = append(problems, p)
		}
	}
	problems.Sort()
	return set, problems
}

// newEngine returns an engine with the shipped baseline. cut, unless nil, is
// told of evaluations that ran out of their budget.
func newEngine(cut func(policy.Cut)) (*policy.Engine, error) {
	var baseline []gatehouse.Module
	for name, source := range policies.Baseline() {
		baseline = append(baseline, gatehouse.Module{Name: name, Source: source})
	}
	return policy.NewEngine(policy.Config{Baseline: baseline, Cut: cut})
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
