package proxy_test

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse/proxy"
	"github.com/gatehouse-gateway/gatehouse/proxy/proxytest"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write the answers into the scenarios")

// credentials expands $NAME in scenarios from testdata/credentials.txt.
func credentials(t testing.TB) func(string) string {
	t.Helper()
	b, err := os.ReadFile("testdata/credentials.txt")
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]string{}
	for line := range strings.Lines(string(b)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && name != "#" {
			values[name] = value
		}
	}
	name := regexp.MustCompile(`\$[A-Z][A-Z0-9_]*`)
	return func(s string) string {
		return name.ReplaceAllStringFunc(s, func(n string) string {
			v, ok := values[n[1:]]
			if !ok {
				t.Fatalf("no credential %s", n)
			}
			return v
		})
	}
}

// config is the gateway's configuration in every scenario.
func config(c *proxy.Config) {
	c.PlatformDomains = []proxy.PlatformDomain{
		{Host: "api.platform.test", Resolve: []string{proxy.ResolveKey, proxy.ResolveToken}},
		{Host: "keys.platform.test", Resolve: []string{proxy.ResolveKey}},
	}
	c.Limits.Body = 64
}

// A scenario is a txtar file: tenants.yaml, which may come again and is then
// applied, and requests with the answers that they get, in turn.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/scenarios/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no scenarios", err)
	}
	expand := credentials(t)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var h *proxytest.Harness
			var answer string
			for i := range a.Files {
				f := &a.Files[i]
				switch f.Name {
				case "tenants.yaml":
					if h == nil {
						h = proxytest.New(t, expand(string(f.Data)), proxytest.Options{Config: config, Backends: map[string]proxytest.Script{"dead.test:80": nil}})
					} else if out := h.Apply(expand(string(f.Data))); len(out.Refused) > 0 {
						t.Fatalf("refused: %+v", out.Refused)
					}
				case "request":
					answer = h.Do(expand(string(f.Data)))
					if !strings.HasSuffix(answer, "\n") {
						answer += "\n"
					}
				case "answer":
					if *update {
						f.Data = []byte(answer)
					} else if answer != string(f.Data) {
						t.Errorf("request %s\ngot:\n%s\nwant:\n%s", a.Files[i-1].Data, answer, f.Data)
					}
				default:
					t.Fatalf("what is %s?", f.Name)
				}
			}
			if *update {
				if err := os.WriteFile(file, txtar.Format(a), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
