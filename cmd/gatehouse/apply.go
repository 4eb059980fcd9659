package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/configs"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/client"
	"github.com/spf13/cobra"
)

func applyCommand(r *remote) *cobra.Command {
	var f changeFlags
	var files []string
	var prune pruning
	c := &cobra.Command{
		Use: "apply -f PATH…", Short: "Bring the plans and tenants of documents about",
		Long: `Apply reads documents, files or folders of them, with the files that they name,
and makes the stored plans and tenants like them. Each is taken or refused by
itself; exit code 2 says that some were refused.

With --prune what is stored and in none of the documents is deleted, unless
anything else is refused. When the documents have none of the stored tenants, or
none of the stored plans, it takes --prune-limit, how many things may go.`,
		Example: "  gatehouse apply -f tenants/\n  gatehouse apply -f acme.yaml --dry-run\n  gatehouse apply -f tenants/ --prune --prune-limit 3 --yes",
		Args:    arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := prune.check(cmd.Flags().Changed("prune-limit")); err != nil {
				return err
			}
			if prune.on {
				if err := confirm(cmd.Context(), r.s, &f, "apply, and delete everything else at", r.serverName()); err != nil {
					return err
				}
			}
			done, set, err := r.apply(cmd.Context(), files, &f, prune)
			if err != nil {
				return err
			}
			if f.dryRun {
				fmt.Fprintln(r.s.errors, "dry run: nothing was changed")
			}
			return r.printEffects(done, set, false)
		},
	}
	c.Flags().StringSliceVarP(&files, "file", "f", nil, "document or folder of them, - for standard input; may be repeated")
	_ = c.MarkFlagRequired("file") // the flag is there
	c.Flags().BoolVar(&prune.on, "prune", false, "delete what is stored and in none of the documents")
	prune.add(c)
	f.add(c, true)
	return c
}

func diffCommand(r *remote) *cobra.Command {
	var files []string
	var prune pruning
	c := &cobra.Command{
		Use: "diff -f PATH…", Short: "Show what apply would change; exit code 2 when something would",
		Example: "  gatehouse diff -f tenants/", Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			done, set, err := r.apply(cmd.Context(), files, &changeFlags{dryRun: true}, prune)
			if err != nil {
				return err
			}
			return r.printEffects(done, set, true)
		},
	}
	c.Flags().StringSliceVarP(&files, "file", "f", nil, "document or folder of them, - for standard input; may be repeated")
	_ = c.MarkFlagRequired("file") // the flag is there
	c.Flags().BoolVar(&prune.on, "prune", false, "show what is stored and in none of the documents too")
	return c
}

func (r *remote) serverName() string {
	a, err := r.access()
	if err != nil {
		return ""
	}
	return first(a.Name, a.Server)
}

// wanted is the body of an apply.
type wanted struct {
	Plans   []gatehouse.Plan `json:"plans,omitempty"`
	Tenants []*tenantBody    `json:"tenants,omitempty"`
	Prune   bool             `json:"prune,omitempty"`
	// PruneLimit is absent for 0.
	PruneLimit int `json:"prune_limit,omitempty"`
}

// pruning is whether what no document has is deleted, and how much of it may
// be; 0: as the control plane sees fit.
type pruning struct {
	on    bool
	limit int
}

func (p *pruning) add(c *cobra.Command) {
	c.Flags().IntVar(&p.limit, "prune-limit", 0, "with --prune: delete at most so many; needed to delete all tenants or all plans")
}

// check finds what is wrong with the flags; given says that there is a limit.
func (p *pruning) check(given bool) error {
	switch {
	case !given:
		return nil
	case p.limit < 1:
		return &exit{exitUsage, fmt.Errorf("--prune-limit %d: it is at least 1", p.limit)}
	case !p.on:
		return &exit{exitUsage, errors.New("--prune-limit is of use with --prune only")}
	}
	return nil
}

// chunk bounds the tenants, and roughly the bytes, of one call of an apply.
const (
	chunkTenants = 2000
	chunkBytes   = 16 << 20
)

// apply reads documents and applies them, in several calls where there is much:
// but with prune, which needs the whole.
func (r *remote) apply(ctx context.Context, files []string, f *changeFlags, prune pruning) ([]json.RawMessage, *configs.Set, error) {
	set, err := r.readDocuments(ctx, files)
	if err != nil {
		return nil, nil, err
	}
	if prune.on && prune.limit == 0 && len(set.Document.Tenants)+len(r.plansOf(set)) == 0 {
		return nil, nil, &exit{exitUsage, fmt.Errorf("no plan and no tenant was read from %s: --prune would delete everything; if that is meant, say with --prune-limit how many things may go", strings.Join(files, ", "))}
	}
	done := []json.RawMessage{}
	next := wanted{Plans: r.plansOf(set), Prune: prune.on, PruneLimit: prune.limit}
	size := 0
	flush := func() error {
		if len(next.Plans)+len(next.Tenants) == 0 && !next.Prune {
			return nil
		}
		answer, err := r.do(ctx, client.Call{Operation: client.Apply, Query: f.query(), Body: next})
		if err != nil {
			return withPlaces(err, set, len(done))
		}
		var page struct {
			Items []json.RawMessage `json:"items"`
		}
		err = answer.Into(&page)
		done, next, size = append(done, page.Items...), wanted{}, 0
		return err
	}
	for i := range set.Document.Tenants {
		body := bodyOf(&set.Document.Tenants[i])
		raw, err := json.Marshal(body)
		if err != nil {
			return nil, nil, err
		}
		if !prune.on && (len(next.Tenants) >= chunkTenants || size+len(raw) > chunkBytes) {
			if err := flush(); err != nil {
				return nil, nil, err
			}
		}
		next.Tenants, size = append(next.Tenants, body), size+len(raw)
	}
	err = flush()
	return done, set, err
}

// stored is the name under which the control plane's own plans take part in
// the check of documents.
const stored = "(control plane)"

// readDocuments reads documents, and checks them together with the plans that
// the control plane has.
func (r *remote) readDocuments(ctx context.Context, paths []string) (*configs.Set, error) {
	var files []*configs.File
	for _, path := range paths {
		if path == "-" {
			text, err := readInput(r.s, path)
			if err != nil {
				return nil, err
			}
			files = append(files, configs.Parse("standard input", text))
			continue
		}
		names, err := configs.Names(path)
		if err != nil && len(names) == 0 {
			return nil, &exit{exitUsage, fmt.Errorf("read documents: %w", err)}
		}
		for _, name := range names {
			files = append(files, configs.ReadFile(name))
		}
	}
	c, err := r.client()
	if err != nil {
		return nil, err
	}
	own := map[gatehouse.PlanID]bool{}
	for _, f := range files {
		for _, p := range f.Document.Plans {
			own[p.ID] = true
		}
	}
	var there struct {
		Plans []gatehouse.Plan `json:"plans"`
	}
	for item, err := range c.Items(ctx, allPlans(nil)) {
		if err != nil {
			return nil, err
		}
		var p gatehouse.Plan
		if err := json.Unmarshal(item, &p); err != nil {
			return nil, err
		}
		if !own[p.ID] {
			there.Plans = append(there.Plans, p)
		}
	}
	text, err := json.Marshal(there)
	if err != nil {
		return nil, err
	}
	set := configs.Join(append(files, configs.Parse(stored, text))...)
	if faults := set.Problems.Errors(); len(faults) > 0 {
		return nil, hintList(faults)
	}
	for _, p := range set.Problems {
		if p.File != stored {
			fmt.Fprint(r.s.errors, p.String())
		}
	}
	return set, nil
}

// hintList says what to do where a document is one tenant as the API tells it.
func hintList(faults configs.Problems) configs.Problems {
	for i, p := range faults {
		if p.Reason == `unknown key "id"` && p.Column == 1 {
			faults[i].Hint = "a document has its tenants in a list: gatehouse export writes one"
			break
		}
	}
	return faults
}

// plansOf are the plans of the documents alone.
func (r *remote) plansOf(set *configs.Set) []gatehouse.Plan {
	var out []gatehouse.Plan
	for _, f := range set.Files {
		if f.Path != stored {
			out = append(out, f.Document.Plans...)
		}
	}
	return out
}

// withPlaces gives the faults of a body that was refused as a whole the places
// of what they are about.
func withPlaces(err error, set *configs.Set, before int) error {
	if faults, ok := errors.AsType[gatehouse.Faults](err); ok && before == 0 {
		return set.Locate(faults)
	}
	return err
}

// printEffects prints what an apply did, and makes refusals, or with
// differences any change, the exit code.
func (r *remote) printEffects(items []json.RawMessage, set *configs.Set, differences bool) error {
	var refused, changed int
	var problems configs.Problems
	var lines []string
	index := map[string]int{}
	for i := range set.Document.Tenants {
		index[string(set.Document.Tenants[i].ID)] = i
	}
	for _, item := range items {
		var e control.Effect
		if err := json.Unmarshal(item, &e); err != nil {
			return err
		}
		switch e.Action {
		case control.ActionRefuse:
			refused++
			if i, ok := index[e.ID]; ok && e.Kind == "tenant" {
				problems = append(problems, set.Locate(e.Faults.Under(gatehouse.Pointer("tenants", i)))...)
			}
		case control.ActionUnchanged:
			continue
		default:
			changed++
		}
		lines = append(lines, effectLines(&e)...)
	}
	form, err := r.format()
	if err != nil {
		return err
	}
	if differences && form == "table" {
		if len(lines) > 0 {
			_, err = fmt.Fprintln(r.s.out, r.s.paint(lines))
		}
	} else {
		err = r.printItems(items, columns("KIND:/kind ID:/id ACTION:/action REVISION:/revision CHANGES:/changes# REASON:/reason"))
	}
	if err != nil {
		return err
	}
	if len(problems) > 0 {
		fmt.Fprintln(r.s.errors, problems.Error())
	}
	switch {
	case refused > 0:
		return &exit{exitFindings, fmt.Errorf("%d of %d refused; what they were before is still in force", refused, len(items))}
	case differences && changed > 0:
		return &exit{exitFindings, fmt.Errorf("%s", count(changed, "difference"))}
	}
	return nil
}

// effectLines tell one effect as a difference.
func effectLines(e *control.Effect) []string {
	mark := map[control.Action]string{control.ActionCreate: "+", control.ActionDelete: "-"}[e.Action]
	out := []string{fmt.Sprintf("%s %s %s: %s", first(mark, "~"), e.Kind, e.ID, strings.TrimSuffix(string(e.Action)+": "+e.Reason, ": "))}
	for _, c := range e.Changes {
		if c.Before != nil {
			out = append(out, fmt.Sprintf("-   %s: %s", c.Pointer, c.Before))
		}
		if c.After != nil {
			out = append(out, fmt.Sprintf("+   %s: %s", c.Pointer, c.After))
		}
	}
	for _, f := range e.Faults {
		out = append(out, "!   "+f.Pointer+": "+f.Reason)
	}
	return out
}
