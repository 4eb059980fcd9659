package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	_ "time/tzdata" // the same zones on every machine

	"github.com/gatehouse-gateway/gatehouse/configs"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write what check reports into the goldens")

// check runs the command and returns its exit code and both streams.
func check(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	noenv := func(string) string { return "" }
	code = run(t.Context(), append([]string{"check"}, args...), noenv, strings.NewReader(""), &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

// A golden is documents, the key files beside them, and all that check prints
// about them. The documents are its arguments unless args has others.
func TestFaults(t *testing.T) {
	files, err := filepath.Glob("testdata/faults/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no goldens", err)
	}
	for _, file := range files {
		file, err := filepath.Abs(file)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { golden(t, file) })
	}
}

func golden(t *testing.T, file string) {
	a, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if strings.TrimSpace(string(a.Comment)) == "" {
		t.Error("the golden does not say what it shows")
	}
	t.Chdir(t.TempDir())
	var args []string
	want := -1
	for i, f := range a.Files {
		switch f.Name {
		case "want":
			want = i
			continue
		case "args":
			args = strings.Fields(string(f.Data))
			continue
		}
		if err := os.MkdirAll(filepath.Dir(f.Name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f.Name, f.Data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if args == nil {
		for _, f := range a.Files {
			if filepath.Ext(f.Name) == ".yaml" || filepath.Ext(f.Name) == ".json" && filepath.Dir(f.Name) == "." {
				args = append(args, f.Name)
			}
		}
	}
	code, out, errs := check(t, args...)
	got := out + errs
	if *update {
		if want < 0 {
			want = len(a.Files)
			a.Files = append(a.Files, txtar.File{Name: "want"})
		}
		a.Files[want].Data = []byte(got)
		if err := os.WriteFile(file, txtar.Format(a), 0o600); err != nil {
			t.Fatal(err)
		}
	} else if want < 0 || got != string(a.Files[want].Data) {
		t.Errorf("%s\ngot:\n%s", file, got)
	}

	// What JSON says of the same documents decides every exit code.
	asJSON, out, errs := check(t, append([]string{"-o", "json"}, args...)...)
	var report struct {
		OK       bool             `json:"ok"`
		Problems configs.Problems `json:"problems"`
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	faulty := len(report.Problems.Errors()) > 0
	if expected := exitCode(faulty); code != expected || asJSON != expected || report.OK == faulty {
		t.Errorf("exit %d, with JSON %d (ok: %v), want %d\n%s", code, asJSON, report.OK, expected, errs)
	}
	strict, _, _ := check(t, append([]string{"--strict"}, args...)...)
	if expected := exitCode(len(report.Problems) > 0); strict != expected {
		t.Errorf("with --strict exit %d, want %d", strict, expected)
	}
	for _, p := range report.Problems {
		named := func(path string) bool {
			return slices.ContainsFunc(a.Files, func(f txtar.File) bool { return f.Name == path }) || slices.Contains(args, path)
		}
		if !named(p.File) || p.Also != nil && !named(p.Also.File) {
			t.Errorf("no such file: %+v", p)
		}
		if p.Reason == "" || strings.ContainsAny(p.Reason+p.Hint, "\n\r") {
			t.Errorf("a reason and a hint are one line each: %+v", p)
		}
	}
}

func exitCode(findings bool) int {
	if findings {
		return exitFindings
	}
	return exitOK
}

// Misuse of the command itself has a code of its own.
func TestCheckUsage(t *testing.T) {
	f := func(code int, says string, args ...string) {
		t.Helper()
		got, out, errs := check(t, args...)
		if got != code || !strings.Contains(errs, says) || out != "" {
			t.Errorf("%q: exit %d, want %d\n%s%s", args, got, code, out, errs)
		}
	}
	f(exitUsage, "FILE is missing\nusage: gatehouse check FILE…")
	f(exitUsage, `output "xml" is unknown: use table, json, yaml, csv or name`, "-o", "xml", "a.yaml")
	f(exitUsage, "unknown flag: --stric", "--stric", "a.yaml")
}
