package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

const (
	pageBegin = "<!-- bench -->"
	pageEnd   = "<!-- /bench -->"
)

// update replaces the tables of the same scenarios on a page, and adds those
// that it has not, in the order of scenarios.
func update(file string, tables []string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	page, err := merge(string(text), tables)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return os.WriteFile(file, []byte(page), 0o644)
}

func merge(page string, tables []string) (string, error) {
	before, rest, begun := strings.Cut(page, pageBegin)
	held, after, ended := strings.Cut(rest, pageEnd)
	if !begun || !ended {
		return "", fmt.Errorf("there is no place for tables: %s and %s are missing", pageBegin, pageEnd)
	}
	byName := map[string]string{}
	for _, t := range append(strings.SplitAfter(held, "\n\n### "), tables...) {
		t = strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(t), "###"))
		t = strings.TrimPrefix(t, "### ")
		if name, _, ok := strings.Cut(t, "\n"); ok {
			byName[name] = "### " + t
		}
	}
	var out strings.Builder
	out.WriteString(before + pageBegin + "\n")
	for _, s := range scenarios() {
		if t, ok := byName[s.name]; ok {
			out.WriteString("\n" + t + "\n")
			delete(byName, s.name)
		}
	}
	if len(byName) > 0 {
		var names []string
		for name := range byName {
			names = append(names, name)
		}
		slices.Sort(names)
		return "", fmt.Errorf("tables of no scenario: %s", strings.Join(names, ", "))
	}
	out.WriteString("\n" + pageEnd + after)
	return out.String(), nil
}
