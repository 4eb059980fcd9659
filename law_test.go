package gatehouse_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

const module = "github.com/gatehouse-gateway/gatehouse"

// mayImport is the import law: a package (or subtree, with /...) and what of
// this module it may import. The longest matching row counts.
var mayImport = map[string][]string{
	".":                    {},
	"policies":             {},
	"configs":              {"."},
	"policy":               {"."},
	"ratelimit":            {"."},
	"ratelimit/...":        {".", "ratelimit", "ratelimit/..."},
	"metering":             {"."},
	"metering/...":         {".", "metering", "metering/..."},
	"metering/database":    {},
	"metering/billing":     {".", "metering"},
	"metering/billing/...": {".", "metering", "metering/billing"},
	"proxy":                {".", "policy", "ratelimit", "metering", "proxy/..."},
	"proxy/ingress":        {"."},
	"proxy/ingress/corpus": {},
	"proxy/http2":          {".", "proxy/ingress"},
	"proxy/http1":          {".", "proxy/ingress"},
	"proxy/edge":           {"."},
	"proxy/tunnel":         {},
	"proxy/route":          {".", "proxy/ingress"},
	"proxy/identity":       {".", "policy"},
	"proxy/upstream":       {"."},
	"proxy/proxytest":      {".", "configs", "policies", "policy", "metering", "proxy", "proxy/..."},
	"control":              {".", "configs", "policy", "metering", "metering/billing", "control/journal"},
	"control/...":          {".", "configs", "policy", "metering", "metering/billing/...", "metering/database", "metering/ledger", "control", "control/..."},
	"control/client":       {"."},
	"cmd/gatehouse":        {".", "configs", "policies", "policy", "ratelimit/...", "metering/...", "proxy/...", "control/...", "metering", "ratelimit", "proxy", "control"},
	"bench/...":            {"."},
}

// onlyIn confines a dependency to packages.
var onlyIn = map[string][]string{
	"github.com/valyala/fasthttp":        {"proxy/...", "bench/floor"},
	"github.com/open-policy-agent/opa":   {"policy"},
	"github.com/golang-jwt/jwt":          {"proxy/identity", "cmd/gatehouse"}, // the demo signs a token
	"github.com/MicahParks":              {"proxy/identity"},
	"github.com/goccy/go-yaml":           {"configs"},
	"github.com/spf13/cobra":             {"cmd/gatehouse"},
	"github.com/fsnotify/fsnotify":       {"control", "proxy/edge"},
	"github.com/redis/go-redis":          {"ratelimit/redis"},
	"golang.org/x/time/rate":             {"ratelimit", "proxy/identity", "control/..."},
	"github.com/VictoriaMetrics/metrics": {"proxy", "cmd/gatehouse"},
	"modernc.org/sqlite":                 {"metering/database"},
	"github.com/jackc/pgx":               {"metering/database", "control/journal"}, // its batches and LISTEN
	"github.com/pressly/goose":           {"metering/database"},
	"github.com/twmb/franz-go":           {"metering/sink/kafka"},
	"github.com/axiomhq/hyperloglog":     {"ratelimit"},
	"github.com/danielgtaylor/huma":      {"control/api"},
	"os/signal":                          {"cmd/gatehouse", "bench"},
	"flag":                               {"cmd/gatehouse", "bench"},
}

type listed struct {
	ImportPath string
	Imports    []string
	Standard   bool
}

func packages(t *testing.T) []listed {
	t.Helper()
	out, err := exec.Command("go", "list", "-pgo=off", "-json=ImportPath,Imports", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var ps []listed
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return ps
		} else if err != nil {
			t.Fatal(err)
		}
		ps = append(ps, p)
	}
}

func TestImportLaw(t *testing.T) {
	for _, p := range packages(t) {
		from := relative(p.ImportPath)
		allowed, ok := row(from)
		if !ok {
			t.Errorf("package %s has no row in the import law", from)
			continue
		}
		for _, imp := range p.Imports {
			if to := relative(imp); to != "" && !matchAny(allowed, to) {
				t.Errorf("%s may not import %s", from, to)
			}
			if from == "." && strings.Contains(imp, ".") {
				t.Errorf("the root package may not import %s: the standard library only", imp)
			}
			for dep, homes := range onlyIn {
				if (imp == dep || strings.HasPrefix(imp, dep+"/")) && !matchAny(homes, from) {
					t.Errorf("%s imports %s, which belongs to %v alone", from, imp, homes)
				}
			}
		}
	}
}

// relative returns the path within the module, or "" for foreign packages.
func relative(p string) string {
	if p == module {
		return "."
	}
	r, ok := strings.CutPrefix(p, module+"/")
	if !ok {
		return ""
	}
	return path.Clean(r)
}

func match(pattern, p string) bool {
	base, sub := strings.CutSuffix(pattern, "/...")
	return p == base || sub && strings.HasPrefix(p, base+"/")
}

func matchAny(patterns []string, p string) bool {
	for _, pat := range patterns {
		if match(pat, p) {
			return true
		}
	}
	return false
}

func row(p string) ([]string, bool) {
	best := ""
	for pat := range mayImport {
		if match(pat, p) && len(pat) > len(best) {
			best = pat
		}
	}
	return mayImport[best], best != ""
}

// TestTopLevel holds the layout that the product's owner fixed.
func TestTopLevel(t *testing.T) {
	want := map[string]bool{}
	for _, name := range strings.Fields(`cmd proxy policy ratelimit metering control policies configs bench docs
		go.mod go.sum Makefile README.md ARCHITECTURE.md CHANGELOG.md CONTRIBUTING.md SECURITY.md LICENSE
		.ci .github .golangci.yml .git .gitignore`) {
		want[name] = true
	}
	ignored := map[string]bool{"bin": true, "gatehouse-data": true, ".cache": true}
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !want[e.Name()] && !ignored[e.Name()] && (e.IsDir() || filepath.Ext(e.Name()) != ".go") {
			t.Errorf("%s does not belong at the top level", e.Name())
		}
	}
}

// goFiles calls f for each Go file that git would commit.
func goFiles(t *testing.T, f func(name string, file *ast.File, lines int)) {
	t.Helper()
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && name != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "bin") {
			return filepath.SkipDir
		}
		if d.IsDir() || filepath.Ext(name) != ".go" {
			return nil
		}
		source, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, source, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		f(name, file, strings.Count(string(source), "\n"))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestFiles(t *testing.T) {
	const limit = 600
	documented, seen := map[string]bool{}, map[string]bool{}
	goFiles(t, func(name string, file *ast.File, lines int) {
		if strings.HasSuffix(name, "_test.go") {
			return
		}
		dir := path.Dir(filepath.ToSlash(name))
		seen[dir] = true
		documented[dir] = documented[dir] || file.Doc != nil
		if lines > limit {
			t.Errorf("%s has %d lines; %d is the limit: split it by idea", name, lines, limit)
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s has an init function", name)
			}
		}
		for _, imp := range file.Imports {
			if imp.Path.Value == `"unsafe"` {
				t.Errorf("%s imports unsafe", name)
			}
		}
	})
	for dir := range seen {
		if !documented[dir] {
			t.Errorf("package %s has no package comment", dir)
		}
	}
}

func TestArchitectureNamesEveryPackage(t *testing.T) {
	text, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range packages(t) {
		if name := relative(p.ImportPath); name != "." && !strings.Contains(string(text), "`"+name+"`") {
			t.Errorf("ARCHITECTURE.md does not name `%s`", name)
		}
	}
	if n := strings.Count(string(text), "\n"); n > 300 {
		t.Errorf("ARCHITECTURE.md has %d lines; 300 is the limit", n)
	}
}

// TestDependencies holds every direct dependency to a line of reason.
func TestDependencies(t *testing.T) {
	mod, err := os.Open("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	defer mod.Close()
	reasons, err := os.ReadFile("docs/adr/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	for s := bufio.NewScanner(mod); s.Scan(); {
		line := strings.TrimPrefix(strings.TrimSpace(s.Text()), "require ")
		name, version, ok := strings.Cut(line, " ")
		if !ok || !strings.HasPrefix(version, "v") || strings.Contains(line, "// indirect") {
			continue
		}
		if !strings.Contains(string(reasons), "`"+name+"`") {
			t.Errorf("docs/adr/dependencies.md gives no reason for `%s`", name)
		}
	}
}

// TestReadme keeps the first page short, and its links alive.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), "\n"); n > 150 {
		t.Errorf("README.md has %d lines; 150 is the limit", n)
	}
	for _, part := range strings.Split(string(text), "](")[1:] {
		target, _, _ := strings.Cut(part, ")")
		target, _, _ = strings.Cut(target, "#")
		if target == "" || strings.Contains(target, "://") {
			continue
		}
		if _, err := os.Stat(target); err != nil {
			t.Errorf("README.md links to %s, which does not exist", target)
		}
	}
}
