package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/configs"
	"github.com/spf13/cobra"
	"pgregory.net/rapid"
)

// Every command has help, which goes to standard output and takes no control
// plane, and the reference names it and each of its flags.
func TestReference(t *testing.T) {
	reference, err := os.ReadFile("../../docs/reference/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	s := &streams{getenv: noEnvironment, stdin: strings.NewReader(""), out: io.Discard, errors: io.Discard}
	root := &cobra.Command{Use: "gatehouse"}
	root.AddCommand(commands(s, &remote{s: s})...)
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		path := strings.Fields(c.CommandPath())[1:]
		var out, errs bytes.Buffer
		if code := run(t.Context(), append(path, "--help"), noEnvironment, strings.NewReader(""), &out, &errs); code != exitOK || !strings.Contains(out.String(), "Usage:\n") || errs.Len() > 0 {
			t.Errorf("%s --help: %d\n%s%s", path, code, out.String(), errs.String())
		}
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: %q", path, c.Short)
		}
		for _, word := range path {
			if !regexp.MustCompile(`\b` + word + `\b`).Match(reference) {
				t.Errorf("the reference does not name %s", path)
			}
		}
		for _, m := range flagName.FindAllStringSubmatch(c.LocalFlags().FlagUsages(), -1) {
			if m[1] != "help" && !bytes.Contains(reference, []byte("--"+m[1])) {
				t.Errorf("the reference does not name --%s of %s", m[1], path)
			}
		}
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	for _, c := range root.Commands() {
		visit(c)
	}
}

// anything is read as JSON.
type anything struct{ any }

func (a *anything) UnmarshalJSON(b []byte) error { return json.Unmarshal(b, &a.any) }
func (a anything) MarshalJSON() ([]byte, error)  { return json.Marshal(a.any) }

// Whatever a JSON value is, its YAML is read back as the same.
func TestYAML(t *testing.T) {
	leaf := rapid.OneOf(
		rapid.Map(rapid.SampledFrom([]string{
			"", "a", "true", "No", "null", "~", "1", "0x1f", "1e3", "2026-01-01", "a: b", "- a", "#x", "a #b", " a", "a ", "\t", "'", `"`, `\`, "{", "[", "&a", "*a", "!a", "%a", "@a", "`a",
			"one\ntwo", "one\ntwo\n", "one\n\ntwo\n\n", " one\ntwo", "one \ntwo", "\none", "package x\n\nallow if {\n\tinput.y\n}\n", "ü—✓", "\u0001", "\u2028", "a\r\nb", "<&>", "...", "---", "a:", ":", "?", "? a", ".5", "=", "<<",
		}), func(s string) any { return s }),
		rapid.Map(rapid.String(), func(s string) any { return s }),
		rapid.Map(rapid.Int64(), func(n int64) any { return n }),
		rapid.Map(rapid.Bool(), func(b bool) any { return b }),
		rapid.Just[any](map[string]any{}), rapid.Just[any]([]any{}),
	)
	var value func(depth int) *rapid.Generator[any]
	value = func(depth int) *rapid.Generator[any] {
		if depth == 0 {
			return leaf
		}
		return rapid.OneOf(
			leaf,
			rapid.Map(rapid.SliceOfN(value(depth-1), 0, 3), func(v []any) any { return append([]any{}, v...) }),
			rapid.Map(rapid.MapOfN(rapid.StringMatching(`[a-z][a-z0-9 :#-]{0,5}`), value(depth-1), 0, 3), func(v map[string]any) any { return v }),
		)
	}
	rapid.Check(t, func(t *rapid.T) {
		raw, err := json.Marshal(map[string]any{"v": value(3).Draw(t, "value")})
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := writeYAML(&b, raw); err != nil {
			t.Fatal(err)
		}
		var back struct {
			V anything `json:"v"`
		}
		if _, problems := configs.Decode("x", b.Bytes(), &back); len(problems) > 0 {
			t.Fatalf("%s\n%s\n%s", raw, b.String(), problems.Error())
		}
		again, err := json.Marshal(back)
		if err != nil {
			t.Fatal(err)
		}
		var x, y any
		if json.Unmarshal(raw, &x) != nil || json.Unmarshal(again, &y) != nil || fmt.Sprint(x) != fmt.Sprint(y) {
			t.Fatalf("%s\n%s\n%s", raw, b.String(), again)
		}
	})
}

// How YAML looks: keys in their order, lists below their key, sources as blocks.
func TestYAMLForm(t *testing.T) {
	const raw = `{"id":"a","empty":{},"none":[],"roles":["x",{"y":1,"z":[true,null]}],"source":"package x\n\nallow if true\n","n":1e3}`
	const want = `id: a
empty: {}
none: []
roles:
  - x
  - "y": 1
    z:
      - true
      - null
source: |
  package x

  allow if true
"n": 1e3
`
	var b bytes.Buffer
	if err := writeYAML(&b, json.RawMessage(raw)); err != nil || b.String() != want {
		t.Errorf("%v\n%s", err, b.String())
	}
}

// The exit code of each error.
func TestExitCodes(t *testing.T) {
	f := func(code gatehouse.Code, want int) {
		t.Helper()
		if got := exitCodeOf(fmt.Errorf("x: %w", &gatehouse.Error{Code: code})); got != want {
			t.Errorf("%s: %d, want %d", code, got, want)
		}
	}
	f(gatehouse.CodeInvalid, exitFindings)
	f(gatehouse.CodeNotFound, exitNotFound)
	f(gatehouse.CodeConflict, exitConflict)
	f(gatehouse.CodeStale, exitConflict)
	f(gatehouse.CodeIdempotency, exitConflict)
	f(gatehouse.CodeNoPrecondition, exitConflict)
	f(gatehouse.CodeBadToken, exitUnauthorised)
	f(gatehouse.CodeForbidden, exitUnauthorised)
	f(gatehouse.CodeTooManyFailures, exitUnauthorised)
	f(gatehouse.CodeUnavailable, exitUnavailable)
	f(gatehouse.CodeNotBuilt, exitError)
	f(gatehouse.CodeInternal, exitError)
	if got := exitCodeOf(fmt.Errorf("x: %w", t.Context().Err())); got != exitError {
		t.Error(got)
	}
}

// Cells hold no code of a terminal, and a missing value is a dash.
func TestTable(t *testing.T) {
	var b bytes.Buffer
	items := []json.RawMessage{[]byte(`{"id":"a\u001b[31m","tags":["x","y"],"sub":[{"n":1},{"n":2}],"big":12345678901234567}`), []byte(`{"id":"b"}`)}
	v := columns("ID:/id TAGS:/tags N:/sub/n COUNT:/sub# BIG:/big")
	if err := writeTable(&b, items, v); err != nil {
		t.Fatal(err)
	}
	want := "ID      TAGS  N    COUNT  BIG\na [31m  x,y   1,2  2      12345678901234567\nb       -     -    0      -\n"
	if b.String() != want {
		t.Errorf("%s\nwant\n%s", b.String(), want)
	}
}

// Lines that differ, with those beside them.
func TestLineDiff(t *testing.T) {
	f := func(from, to, want string) {
		t.Helper()
		if got := strings.Join(lineDiff(from, to), "|"); got != want {
			t.Errorf("%q %q: %s", from, to, got)
		}
	}
	f("a\nb\n", "a\nb\n", "")
	f("a\nb\nc\n", "a\nx\nc\n", "  a|- b|+ x|  c")
	f("", "a\n", "+ a")
	f("a\n", "", "- a")
	f("1\n2\n3\n4\n5\n6\n7\n8\n", "1\n2\n3\n4\n5\n6\n7\n9\n", "  5|  6|  7|- 8|+ 9")
}
