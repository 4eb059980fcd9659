package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/configs"
	"github.com/gatehouse-gateway/gatehouse/policies"
	"github.com/gatehouse-gateway/gatehouse/policy"
	"github.com/gatehouse-gateway/gatehouse/proxy"
	"github.com/spf13/cobra"
)

func checkCommand(s *streams, r *remote) *cobra.Command {
	var strict bool
	var process string
	c := &cobra.Command{
		Use:   "check FILE…",
		Short: "Check tenant documents and report every fault with its place",
		Long: `Check reads tenant documents, files or folders of them, as one configuration
and compiles everything in them: routes, policies, key sets. Nothing is started.

With --config it checks a process configuration, with the files that it names on
this machine, and the documents that it names where none are given.

Exit code 2 says that there are faults; they are on standard error.`,
		Example: "  gatehouse check tenants.yaml\n  gatehouse check tenants/ --strict\n  gatehouse check --config gatehouse.yaml",
		Args: arguments(func(c *cobra.Command, paths []string) error {
			if process != "" {
				return nil
			}
			return cobra.MinimumNArgs(1)(c, paths)
		}),
		RunE: func(_ *cobra.Command, paths []string) error {
			output, err := r.format()
			if err != nil {
				return err
			}
			engine, err := newEngine(nil)
			if err != nil {
				return err
			}
			set, problems := &configs.Set{}, configs.Problems{}
			if process != "" {
				var cfg config
				if cfg, problems, err = (&runFlags{config: process}).read(); err != nil {
					if problems, _ = errors.AsType[configs.Problems](err); problems == nil {
						return err
					}
				} else if len(paths) == 0 && cfg.Tenants != "" {
					paths = []string{cfg.Tenants}
				}
			}
			files := count(1, "file")
			if len(paths) > 0 {
				var more configs.Problems
				set, more = checkDocuments(engine, paths...)
				problems = append(problems, hintProcess(more)...)
				n := len(set.Files)
				if process != "" {
					n++
				}
				files = count(n, "file")
			}
			failed := len(problems.Errors()) > 0 || strict && len(problems) > 0
			if output != "table" {
				if err := r.printCheck(set, problems, !failed); err != nil {
					return err
				}
			} else if len(problems) > 0 {
				fmt.Fprintln(s.errors, problems.Error())
			}
			if failed {
				return &exit{exitFindings, fmt.Errorf("%s in %s", count(len(problems), "problem"), files)}
			}
			if output == "table" {
				_, err = fmt.Fprintf(s.out, "ok: %s, %s in %s\n", count(len(set.Document.Plans), "plan"),
					count(len(set.Document.Tenants), "tenant"), files)
			}
			return err
		},
	}
	c.Flags().StringVar(&process, "config", "", "process configuration to check")
	c.Flags().BoolVar(&strict, "strict", false, "treat warnings as faults")
	r.outputFlag(c)
	return c
}

// hintProcess says what to do where a document is a process configuration.
func hintProcess(problems configs.Problems) configs.Problems {
	for i, p := range problems {
		if processKey.MatchString(p.Reason) && p.Column == 1 {
			problems[i].Hint = "a process configuration is checked by gatehouse check --config " + p.File
			break
		}
	}
	return problems
}

var processKey = regexp.MustCompile(`^unknown key "(data|roles|proxy|control|store|limits|metering|memory|log)"$`)

// printCheck prints what was found: as CSV and names the problems alone.
func (r *remote) printCheck(set *configs.Set, problems configs.Problems, ok bool) error {
	if problems == nil {
		problems = configs.Problems{}
	}
	whole, err := json.Marshal(struct {
		OK       bool             `json:"ok"`
		Plans    int              `json:"plans"`
		Tenants  int              `json:"tenants"`
		Problems configs.Problems `json:"problems"`
	}{ok, len(set.Document.Plans), len(set.Document.Tenants), problems})
	if err != nil {
		return err
	}
	items := make([]json.RawMessage, len(problems))
	for i := range problems {
		if items[i], err = json.Marshal(problems[i]); err != nil {
			return err
		}
	}
	return r.write(whole, items, columns("FILE:/file LINE:/line COLUMN:/column WARNING:/warning REASON:/reason HINT:/hint"))
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
