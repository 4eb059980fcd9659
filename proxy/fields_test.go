package proxy_test

import (
	"encoding"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/configs"
	"github.com/gatehouse-gateway/gatehouse/proxy/proxytest"
	"github.com/rogpeppe/go-internal/txtar"
	"github.com/valyala/fasthttp"
)

// shownOnly marks fields that are for people: no answer depends on them.
const shownOnly = "shown only"

// elsewhere lists the fields of a document whose effect a scenario cannot
// show, each with the test that does: directory and name. All others have a
// scenario of their own in testdata/fields.
var elsewhere = map[string]string{
	"plans.name":                  shownOnly,
	"tenants.name":                shownOnly,
	"tenants.policy.modules.name": shownOnly,

	"tenants.backends.health.path":            "proxy/upstream: TestHealth",
	"tenants.backends.health.interval":        "proxy/upstream: TestHealth",
	"tenants.backends.health.unhealthy_after": "proxy/upstream: TestHealth",
	"tenants.backends.health.healthy_after":   "proxy/upstream: TestHealth",
	"tenants.backends.timeouts.connect":       "proxy/upstream: TestMaxConnections",
	"tenants.backends.timeouts.first_byte":    "proxy/upstream: TestDeadlines",
	"tenants.backends.timeouts.idle":          "proxy/upstream: TestIdle",
	"tenants.backends.retries.budget":         "proxy/upstream: TestRetryBudget",
	"tenants.backends.max_connections":        "proxy/upstream: TestMaxConnections",
	"tenants.identity.jwt.jwks_url":           "proxy/identity: TestKeySetsOverHTTP",

	// Requests at the same time, which scenarios do not have.
	"plans.limits.concurrency":          "ratelimit: TestConcurrencyRace",
	"tenants.limits.concurrency":        "ratelimit: TestVerdict",
	"tenants.routes.limits.concurrency": "ratelimit: TestVerdict",

	// Refused on a route: the golden limit-route.
	"tenants.routes.limits.max_concurrent_users":   "cmd/gatehouse: TestFaults",
	"tenants.routes.limits.max_api_calls_per_hour": "cmd/gatehouse: TestFaults",
}

// fieldPaths returns the path of every field that holds a value.
func fieldPaths(at string, t reflect.Type) []string {
	for t.Kind() == reflect.Slice || t.Kind() == reflect.Pointer {
		if isText(t) {
			return []string{at}
		}
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || isText(t) {
		return []string{at}
	}
	var paths []string
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" {
			continue
		}
		paths = append(paths, fieldPaths(strings.TrimPrefix(at+"."+name, "."), f.Type)...)
	}
	return paths
}

func isText(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// Every field of a document does something, and a test shows what.
func TestEveryFieldIsShown(t *testing.T) {
	fields := fieldPaths("", reflect.TypeFor[gatehouse.Document]())
	files, err := filepath.Glob("testdata/fields/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	scenarios := map[string]bool{}
	for _, f := range files {
		scenarios[strings.TrimSuffix(filepath.Base(f), ".txtar")] = true
	}
	for _, f := range fields {
		proof, listed := elsewhere[f]
		switch {
		case listed == scenarios[f]:
			t.Errorf("%s: a scenario in testdata/fields or a row in elsewhere is expected, and not both", f)
		case listed && proof != shownOnly:
			dir, name, _ := strings.Cut(proof, ": ")
			if !hasTest(t, dir, name) {
				t.Errorf("%s: no test %s in %s", f, name, dir)
			}
		}
	}
	for f := range maps.Keys(elsewhere) {
		if !slices.Contains(fields, f) {
			t.Errorf("elsewhere has %s, which is no field", f)
		}
	}
	for f := range scenarios {
		if !slices.Contains(fields, f) {
			t.Errorf("testdata/fields has %s, which is no field", f)
		}
	}
}

func hasTest(t *testing.T, dir, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	declared := regexp.MustCompile(`(?m)^func ` + regexp.QuoteMeta(name) + `\(t \*testing\.T\) \{`)
	return slices.ContainsFunc(files, func(file string) bool {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return declared.Match(b)
	})
}

// A field's scenario is two documents that differ in this field only, and
// requests whose answers differ. They run by a clock that stands still.
func TestFields(t *testing.T) {
	files, err := filepath.Glob("testdata/fields/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no scenarios", err)
	}
	// fasthttp has one goroutine that tells the date, for good: it must not
	// be started by a bubble.
	_ = new(fasthttp.ResponseHeader).Header()
	expand := credentials(t)
	for _, file := range files {
		field := strings.TrimSuffix(filepath.Base(file), ".txtar")
		t.Run(field, func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var requests, documents []string
			for _, f := range a.Files {
				switch f.Name {
				case "request":
					requests = append(requests, expand(string(f.Data)))
				case "one.yaml", "two.yaml":
					documents = append(documents, expand(string(f.Data)))
				}
			}
			if len(documents) != 2 || len(requests) == 0 {
				t.Fatal("two documents and a request are expected")
			}
			if got := difference(t, documents[0], documents[1]); !slices.Equal(got, []string{field}) {
				t.Fatalf("the documents differ in %v", got)
			}
			one, two := answers(t, documents[0], requests), answers(t, documents[1], requests)
			if one == two {
				t.Errorf("the field changes nothing:\n%s", one)
			}
			if *update {
				a.Files = slices.DeleteFunc(a.Files, func(f txtar.File) bool { return f.Name == "one" || f.Name == "two" })
				a.Files = append(a.Files, txtar.File{Name: "one", Data: []byte(one)}, txtar.File{Name: "two", Data: []byte(two)})
				if err := os.WriteFile(file, txtar.Format(a), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			want := map[string]string{}
			for _, f := range a.Files {
				want[f.Name] = string(f.Data)
			}
			if one != want["one"] || two != want["two"] {
				t.Errorf("one:\n%s\ntwo:\n%s", one, two)
			}
		})
	}
}

// answers sends the requests, one after the other, to a gateway of its own
// and returns what tells answers apart: the status, the fields of limits and
// challenges, the error's code, and what the backend saw of the request.
func answers(t *testing.T, document string, requests []string) string {
	t.Helper()
	var all strings.Builder
	synctest.Test(t, func(t *testing.T) {
		// Runs after the gateway has shut down: fasthttp's workers look
		// whether they are still needed only now and then.
		t.Cleanup(func() { <-time.After(time.Minute) })
		h := proxytest.New(t, document, proxytest.Options{Config: config, Backends: map[string]proxytest.Script{"dead.test:80": nil}})
		for _, r := range requests {
			for line := range strings.Lines(h.Do(r)) {
				if telling.MatchString(line) {
					all.WriteString(codeOnly.ReplaceAllString(line, "$1"))
				}
			}
		}
	})
	return all.String()
}

var (
	telling  = regexp.MustCompile(`^(HTTP/|RateLimit|Retry-After|WWW-|X-Units|X-Gatehouse|Host|\{|[a-z]+\.test:)`)
	codeOnly = regexp.MustCompile(`^\{.*"code":"(GH-[A-Z]+-\d+)".*\}`)
)

// difference returns the paths of the fields in which two documents differ.
func difference(t *testing.T, one, two string) []string {
	t.Helper()
	a, b := flat(t, one), flat(t, two)
	var paths []string
	for _, path := range fieldPaths("", reflect.TypeFor[gatehouse.Document]()) {
		if !reflect.DeepEqual(a[path], b[path]) {
			paths = append(paths, path)
		}
	}
	return paths
}

// flat returns the values of each field in document order.
func flat(t *testing.T, yaml string) map[string][]any {
	t.Helper()
	var doc gatehouse.Document
	if _, problems := configs.Decode("test.yaml", []byte(yaml), &doc); len(problems) > 0 {
		t.Fatal(problems)
	}
	b, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	var tree any
	if err := json.Unmarshal(b, &tree); err != nil {
		t.Fatal(err)
	}
	values := map[string][]any{}
	var walk func(at string, v any)
	walk = func(at string, v any) {
		object, ok := v.(map[string]any)
		if list, isList := v.([]any); isList {
			for _, item := range list {
				walk(at, item)
			}
		} else if !ok || at == "tenants.features" {
			values[at] = append(values[at], v)
		}
		if at != "tenants.features" {
			for k, v := range object {
				walk(strings.TrimPrefix(at+"."+k, "."), v)
			}
		}
	}
	walk("", tree)
	return values
}
