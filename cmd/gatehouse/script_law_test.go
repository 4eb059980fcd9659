package main

import (
	"flag"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// A line of a script that runs a command.
type scripted struct {
	path string // such as "tenant create"
	args []string
	code int // the exit code that it expects
	at   string
}

func (l *scripted) has(flags ...string) bool {
	return slices.ContainsFunc(l.args, func(a string) bool {
		return slices.ContainsFunc(flags, func(f string) bool { return a == f })
	})
}

// says tells whether the output is asked for in a form.
func (l *scripted) says(form string) bool {
	i := slices.Index(l.args, "-o")
	return i >= 0 && i+1 < len(l.args) && l.args[i+1] == form
}

// leaves are the commands that do something, by their paths.
func leaves(t *testing.T) map[string]*cobra.Command {
	s := &streams{getenv: noEnvironment, stdin: strings.NewReader(""), out: io.Discard, errors: io.Discard}
	root := &cobra.Command{Use: "gatehouse"}
	root.AddCommand(commands(s, &remote{s: s})...)
	all := map[string]*cobra.Command{}
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		if len(c.Commands()) == 0 || c.Name() == "cost" { // cost does something itself
			all[strings.TrimPrefix(c.CommandPath(), "gatehouse ")] = c
		}
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	for _, c := range root.Commands() {
		visit(c)
	}
	if len(all) < 70 {
		t.Fatalf("%d commands", len(all))
	}
	return all
}

// scriptedLines are the commands that the scripts run.
func scriptedLines(t *testing.T, known map[string]*cobra.Command) []scripted {
	var out []scripted
	files, err := filepath.Glob("testdata/*/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for line := range strings.Lines(string(text)) {
			n++
			words := strings.Fields(line)
			i := slices.Index(words, "gatehouse")
			if i < 1 || words[0] != "exec" && words[0] != "exits" {
				continue
			}
			l := scripted{at: filepath.Base(name) + ":" + strconv.Itoa(n)}
			if words[0] == "exits" {
				if l.code, err = strconv.Atoi(words[1]); err != nil {
					t.Fatalf("%s: %v", l.at, err)
				}
			}
			l.args = words[i+1:]
			for n := min(2, len(l.args)); n > 0; n-- {
				if path := strings.Join(l.args[:n], " "); known[path] != nil {
					l.path, l.args = path, l.args[n:]
					break
				}
			}
			out = append(out, l)
		}
	}
	return out
}

// The law of the scripts: they run every command as a table and as JSON, have
// it fail, try what it would change, and see that nobody is asked off a
// terminal. A new command has a script, or this fails.
func TestEveryCommandHasAScript(t *testing.T) {
	// What has no table and no JSON, as it prints something of its own.
	bare := []string{
		"run", "init", "key new", "context add", "context use", "context remove", // nothing, or names
		"audit export", "invoice export", // a stream in a form of its own
	}
	all := leaves(t)
	lines := scriptedLines(t, all)
	some := func(path string, ok func(l *scripted) bool) bool {
		return slices.ContainsFunc(lines, func(l scripted) bool { return l.path == path && ok(&l) })
	}
	well := func(l *scripted) bool { return l.code == exitOK || l.code == exitFindings }
	for path, c := range all {
		want := func(what string, ok func(l *scripted) bool) {
			t.Helper()
			if !some(path, ok) {
				t.Errorf("gatehouse %s: no script %s", path, what)
			}
		}
		if path == "run" { // serve runs it, and the tests of processes
			continue
		}
		want("has it succeed", func(l *scripted) bool { return well(l) && !l.says("json") && !l.says("yaml") && !l.has("--help") })
		want("has it fail", func(l *scripted) bool { return l.code != exitOK })
		if !slices.Contains(bare, path) {
			want("prints it as JSON", func(l *scripted) bool { return well(l) && l.says("json") })
		}
		if isMoney(path) && !slices.Contains(bare, path) {
			for _, form := range []string{"yaml", "csv", "name"} {
				want("prints it as "+form, func(l *scripted) bool { return well(l) && l.says(form) })
			}
		}
		if c.Flags().Lookup("dry-run") != nil {
			want("tries it with --dry-run", func(l *scripted) bool { return well(l) && l.has("--dry-run") })
		}
		if c.Flags().Lookup("yes") != nil {
			want("does it with --yes", func(l *scripted) bool { return well(l) && l.has("--yes", "-y") })
			want("sees that nobody is asked off a terminal", func(l *scripted) bool {
				return l.code == exitUsage && !l.has("--yes", "-y", "--dry-run")
			})
		}
	}
	for _, code := range []int{exitOK, exitError, exitFindings, exitUsage, exitNotFound, exitConflict, exitUnauthorised, exitUnavailable} {
		if !slices.ContainsFunc(lines, func(l scripted) bool { return l.code == code }) {
			t.Errorf("no script expects the exit code %d", code)
		}
	}
}

// isMoney tells whether a command is about money: it has a script for each
// form of its output.
func isMoney(path string) bool {
	noun, verb, _ := strings.Cut(path, " ")
	return slices.Contains([]string{"invoice", "billing", "cost", "webhook", "reconcile"}, noun) ||
		noun == "plan" && slices.Contains([]string{"price", "versions", "subscribe", "replay"}, verb)
}

var updateHelp = flag.Bool("update-help", false, "write the help of all commands anew")

// The help of each command is as it was read last: -update-help writes it, to
// be read again.
func TestHelp(t *testing.T) {
	const name = "testdata/help.golden"
	var b strings.Builder
	for _, path := range slices.Sorted(maps.Keys(leaves(t))) {
		var out, errs strings.Builder
		args := append(strings.Fields(path), "--help")
		if code := run(t.Context(), args, noEnvironment, strings.NewReader(""), &out, &errs); code != exitOK || errs.Len() > 0 {
			t.Errorf("%s: %d %s", path, code, errs.String())
		}
		b.WriteString("=== gatehouse " + strings.Join(args, " ") + "\n" + out.String() + "\n")
	}
	want, err := os.ReadFile(name)
	if err != nil && !*updateHelp {
		t.Fatal(err)
	}
	if *updateHelp {
		if err := os.WriteFile(name, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if b.String() != string(want) {
		t.Errorf("the help has changed: read it, and write it with -update-help\n%s", strings.Join(lineDiff(string(want), b.String()), "\n"))
	}
}
