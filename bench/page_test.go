package main

import (
	"strings"
	"testing"
)

// A table replaces that of its scenario, and others stay where they belong.
func TestMerge(t *testing.T) {
	table := func(name, row string) string { return "### " + name + "\n\nwhat\n\n| a |\n|---|\n| " + row + " |" }
	page := "top\n<!-- bench -->\n<!-- /bench -->\nend\n"
	for _, step := range []struct{ add, want []string }{
		{[]string{table("jwt", "1")}, []string{table("jwt", "1")}},
		{[]string{table("plain", "2"), table("tls", "3")}, []string{table("plain", "2"), table("jwt", "1"), table("tls", "3")}},
		{[]string{table("jwt", "4")}, []string{table("plain", "2"), table("jwt", "4"), table("tls", "3")}},
	} {
		got, err := merge(page, step.add)
		if err != nil {
			t.Fatal(err)
		}
		want := "top\n<!-- bench -->\n\n" + strings.Join(step.want, "\n\n") + "\n\n<!-- /bench -->\nend\n"
		if got != want {
			t.Fatalf("got\n%s\nwant\n%s", got, want)
		}
		page = got
	}
	for _, wrong := range []string{"no marks", "<!-- bench -->\n### gone\n\nx\n<!-- /bench -->"} {
		if _, err := merge(wrong, nil); err == nil {
			t.Errorf("%q is taken", wrong)
		}
	}
}
