package proxy_test

import (
	"encoding"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
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

// kept marks settings that nothing enforces yet: a warning says so.
const kept = ".: TestNotEnforced"

// elsewhere lists the fields of a document whose effect a scenario cannot
// show, each with the test that does: directory and name. All others have a
// scenario of their own in testdata/fields.
var elsewhere = map[string]string{
	"plans.name":                               shownOnly,
	"tenants.name":                             shownOnly,
	"tenants.policy.modules.name":              shownOnly,
	"tenants.security.encryption_level":        kept,
	"tenants.security.encryption_algorithm":    kept,
	"tenants.security.key_rotation_days":       kept,
	"tenants.security.session_timeout":         kept,
	"tenants.security.mfa_required":            kept,
	"tenants.security.compliance_requirements": kept,
	"tenants.security.audit_level":             kept,
	"tenants.scaling.auto_scaling":             kept,
	"tenants.scaling.min_instances":            kept,
	"tenants.scaling.max_instances":            kept,
	"tenants.scaling.scaling_strategy":         kept,
	"tenants.limits.max_storage_gb":            kept,
	"plans.limits.max_storage_gb":              kept,
	"tenants.routes.limits.max_storage_gb":     kept,

	"tenants.backends.health.path":            "proxy/upstream: TestHealth",
	"tenants.backends.health.interval":        "proxy/upstream: TestHealth",
	"tenants.backends.health.unhealthy_after": "proxy/upstream: TestHealth",
	"tenants.backends.health.healthy_after":   "proxy/upstream: TestHealth",
	"tenants.backends.timeouts.connect":       "proxy/upstream: TestMaxConnections",
	"tenants.backends.timeouts.first_byte":    "proxy/upstream: TestDeadlines",
	"tenants.backends.timeouts.idle":          "proxy/upstream: TestIdle",
	"tenants.backends.retries.budget":         "proxy/upstream: TestRetryBudget",
	"tenants.identity.jwt.jwks_url":           "proxy/identity: TestKeySetsOverHTTP",

	"tenants.backends.outliers.off":          "proxy/upstream: TestOutliers",
	"tenants.backends.outliers.failures":     "proxy/upstream: TestOutliers",
	"tenants.backends.outliers.eject_for":    "proxy/upstream: TestOutliers",
	"tenants.backends.outliers.max_ejected":  "proxy/upstream: TestOutliers",
	"tenants.backends.circuit.failure_ratio": "proxy/upstream: TestCircuit",
	"tenants.backends.circuit.min_requests":  "proxy/upstream: TestCircuit",
	"tenants.backends.circuit.window":        "proxy/upstream: TestCircuit",
	"tenants.backends.circuit.open_for":      "proxy/upstream: TestCircuit",
	"tenants.backends.slow_start":            "proxy/upstream: TestSlowStart",
	"tenants.backends.resolve":               "proxy/upstream: TestResolve",
	"tenants.backends.protocol":              "proxy/upstream: TestH2Request",
	"tenants.backends.max_waiting":           "proxy/upstream: TestMaxWaiting",
	"tenants.backends.tls.ca_file":           "proxy/upstream: TestBackendTLS",
	"tenants.backends.tls.cert_file":         "proxy/upstream: TestBackendTLS",
	"tenants.backends.tls.key_file":          "proxy/upstream: TestBackendTLS",
	"tenants.backends.tls.server_name":       "proxy/upstream: TestBackendTLS",
	"tenants.backends.tls.min_version":       "proxy/upstream: TestBackendTLS",

	"tenants.identity.introspection.url":                "proxy: TestIntrospection",
	"tenants.identity.introspection.client_id":          "proxy: TestIntrospection",
	"tenants.identity.introspection.client_secret_file": "proxy: TestIntrospection",
	"tenants.identity.introspection.cache_for":          "proxy: TestIntrospection",
	"tenants.identity.introspection.issuer":             "proxy/identity: TestOpaque",
	"tenants.identity.introspection.audience":           "proxy/identity: TestOpaque",
	"tenants.identity.introspection.timeout":            "proxy/identity: TestOpaqueTimeout",
	"tenants.identity.introspection.tenant_claim":       "proxy/identity: TestOpaque",
	"tenants.identity.introspection.roles_claim":        "proxy/identity: TestOpaque",
	"tenants.routes.meter.units.name":                   "proxy: TestRouteUnits",
	"tenants.routes.meter.units.header":                 "proxy: TestRouteUnits",
	"tenants.policy.shadow.name":                        "proxy: TestShadowPolicy",
	"tenants.policy.shadow.source":                      "proxy: TestShadowPolicy",
	"tenants.policy.log.sample":                         "proxy: TestDecisionLog",
	"tenants.policy.log.mask":                           "proxy: TestDecisionLog",
	"tenants.tls.min_version":                           "proxy: TestTLSVersions",
	"tenants.identity.client_certificates.ca_file":      "proxy: TestClientCertificates",
	"tenants.identity.client_certificates.principal":    "proxy: TestClientCertificates",
	"tenants.identity.client_certificates.roles":        "proxy: TestClientCertificates",
	"tenants.identity.client_certificates.required":     "proxy: TestClientCertificates",
	"tenants.routes.upgrade.idle":                       "proxy: TestTunnelTimes",
	"tenants.routes.upgrade.max_age":                    "proxy: TestTunnelTimes",

	"plans.limits.rules.mode":            "ratelimit: TestConformance",
	"plans.limits.rules.absent":          "ratelimit: TestConformance",
	"plans.limits.rules.store":           "ratelimit/redis: TestConformance",
	"plans.limits.rules.away":            "ratelimit/redis: TestKilled",
	"plans.limits.wait":                  "ratelimit: TestConformance",
	"plans.limits.max_waiting":           "ratelimit: TestConformance",
	"plans.limits.store":                 "ratelimit/redis: TestCapacityAway",
	"plans.limits.away":                  "ratelimit/redis: TestCapacityAway",
	"plans.limits.anchor_day":            "cmd/gatehouse: TestFaults",
	"tenants.limits.rules.mode":          "ratelimit: TestConformance",
	"tenants.limits.rules.absent":        "ratelimit: TestConformance",
	"tenants.limits.rules.store":         "ratelimit/redis: TestConformance",
	"tenants.limits.rules.away":          "ratelimit/redis: TestKilled",
	"tenants.limits.wait":                "ratelimit: TestConformance",
	"tenants.limits.max_waiting":         "ratelimit: TestConformance",
	"tenants.limits.store":               "ratelimit/redis: TestCapacityAway",
	"tenants.limits.away":                "ratelimit/redis: TestCapacityAway",
	"tenants.limits.anchor_day":          "ratelimit: TestAnchor",
	"tenants.routes.limits.rules.mode":   "ratelimit: TestConformance",
	"tenants.routes.limits.rules.absent": "ratelimit: TestConformance",
	"tenants.routes.limits.rules.store":  "ratelimit/redis: TestConformance",
	"tenants.routes.limits.rules.away":   "ratelimit/redis: TestKilled",
	"tenants.routes.limits.wait":         "ratelimit: TestConformance",
	"tenants.routes.limits.max_waiting":  "ratelimit: TestConformance",
	"tenants.routes.limits.store":        "ratelimit/redis: TestCapacityAway",
	"tenants.routes.limits.away":         "ratelimit/redis: TestCapacityAway",
	"tenants.routes.limits.anchor_day":   "cmd/gatehouse: TestFaults",

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
// requests whose answers differ. A request called meanwhile is sent while all
// those before it are still unanswered. Time passes only while all wait.
func TestFields(t *testing.T) {
	files, err := filepath.Glob("testdata/fields/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no scenarios", err)
	}
	expand := credentials(t)
	for _, file := range files {
		field := strings.TrimSuffix(filepath.Base(file), ".txtar")
		t.Run(field, func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var documents []string
			var requests []request
			for _, f := range a.Files {
				switch f.Name {
				case "request", "meanwhile":
					requests = append(requests, request{expand(string(f.Data)), f.Name == "meanwhile"})
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

type request struct {
	text      string
	meanwhile bool
}

// answers sends the requests to a gateway of its own and returns what tells
// answers apart: the status, the fields of limits and challenges, the error's
// code, and what the backend saw of the request.
func answers(t *testing.T, document string, requests []request) string {
	t.Helper()
	got := make([]string, len(requests))
	bubble(t, document, func(h *proxytest.Harness) {
		var all sync.WaitGroup
		for i, r := range requests {
			if !r.meanwhile {
				all.Wait()
			}
			all.Go(func() { got[i] = h.Do(r.text) })
			synctest.Wait()
		}
		all.Wait()
	})
	var told strings.Builder
	for line := range strings.Lines(strings.Join(got, "\n")) {
		if telling.MatchString(line) {
			told.WriteString(codeOnly.ReplaceAllString(line, "$1"))
		}
	}
	return told.String()
}

// bubble runs use over a gateway with a clock of its own. Of its backends
// dead.test refuses connections and slow.test answers after ten seconds.
func bubble(t *testing.T, document string, use func(*proxytest.Harness)) {
	t.Helper()
	slow := func(c net.Conn) {
		<-time.After(10 * time.Second)
		proxytest.Answer("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nlate\n")(c)
	}
	bubbleWith(t, document, map[string]proxytest.Script{"dead.test:80": nil, "slow.test:80": slow}, use)
}

// bubbleWith is bubble with backends of its own.
func bubbleWith(t *testing.T, document string, backends map[string]proxytest.Script, use func(*proxytest.Harness)) {
	t.Helper()
	// fasthttp has one goroutine that tells the date, for good: it must not
	// be started by a bubble.
	_ = new(fasthttp.ResponseHeader).Header()
	synctest.Test(t, func(t *testing.T) {
		// Runs after the gateway has shut down: fasthttp's workers look
		// whether they are still needed only now and then.
		t.Cleanup(func() { <-time.After(time.Minute) })
		use(proxytest.New(t, document, proxytest.Options{
			Config: config, Backends: backends,
		}))
	})
}

// Equal values go to one endpoint, different ones to all.
func TestHash(t *testing.T) {
	f := func(balance string, want int) {
		t.Helper()
		reached := map[string]bool{}
		document := `tenants:
  - id: studio
    domain: studio.test
    backends: [{id: app, endpoints: [{url: "http://one.test"}, {url: "http://two.test"}], ` + balance + `}]
    routes: [{id: all, match: {path: /}, auth: none, backend: app}]
`
		bubble(t, document, func(h *proxytest.Harness) {
			for i := range 64 {
				answer := h.Do(fmt.Sprintf("GET / HTTP/1.1\nHost: studio.test\nX-Same: a\nX-Other: %d\n\n", i))
				for _, endpoint := range []string{"one.test", "two.test"} {
					if strings.Contains(answer, "\n"+endpoint+":80: GET") {
						reached[endpoint] = true
					}
				}
			}
		})
		if len(reached) != want {
			t.Errorf("%s: %v are reached, want %d", balance, reached, want)
		}
	}
	f("balance: round_robin", 2)
	f("balance: consistent_hash", 1) // one address
	f(`balance: consistent_hash, hash_by: "header:X-Same"`, 1)
	f(`balance: consistent_hash, hash_by: "header:X-Other"`, 2)
	f(`balance: consistent_hash, hash_by: "header:X-None"`, 1)
}

var (
	telling  = regexp.MustCompile(`^(HTTP/|Te:|Upgrade:|RateLimit|Retry-After|WWW-|X-Units|X-Gatehouse|X-Api-Key|Signature|Host|\{|[a-z]+\.test:|late)`)
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
