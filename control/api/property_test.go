package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"pgregory.net/rapid"
)

// TestRequests asks what the OpenAPI document allows, and what it almost
// allows: no answer is a 5xx but a 501 that the document names, whatever fails
// is a problem, and a request that is refused changes nothing.
func TestRequests(t *testing.T) {
	s := start(t, "")
	s.billAt("2026-04-15") // of the examples
	s.made("POST /api/v1/tenants\n\n" + `{"id": "own", "domain": "own.test", "identity": {"api_keys": {}}}`)
	s.made("POST /api/v1/tenants\n\n" + `{"id": "other"}`)
	s.made("POST /api/v1/tenants/own/keys\n\n" + `{"id": "k"}`)
	s.made("POST /api/v1/tenants/own/policies\n\n" + `{"modules": [{"name": "m.rego", "source": "package gatehouse.tenant\nallow := true"}]}`)
	known := examples(t)
	for _, id := range []string{"createPriceVersion", "setBilling", "recordEvents", "adjustBilling", "finalizeInvoice", "grantCredit", "setAlert", "setCostSheet", "createWebhook"} {
		s.made(known[id][0])
	}
	tokens := []string{s.owner, s.owner, s.owner, s.owner, s.owner, s.owner, s.token(control.Operator, "own"), s.token(control.Billing), s.tokenOf("edge-1")}
	doc := newREST(s.parts).api.OpenAPI()
	ops := operations(doc)
	told := map[int]int{} // answers by status
	defer func() { t.Log(told) }()
	request := func(t *rapid.T) {
		op := rapid.SampledFrom(ops).Draw(t, "operation")
		if op.OperationID == "followUpdates" || op.OperationID == "revokeToken" {
			return // it has no end; it may be the token that asks
		}
		g := generator{t, doc.Components.Schemas, rapid.IntRange(0, 3).Draw(t, "faults")}
		target := op.path
		query := url.Values{}
		header := http.Header{"Authorization": {"Bearer " + rapid.SampledFrom(tokens).Draw(t, "token")}}
		var example string
		out := 3 // of 6 parameters are there
		if all := known[op.OperationID]; len(all) > 0 && rapid.IntRange(0, 2).Draw(t, "by example") > 0 {
			example = rapid.SampledFrom(all).Draw(t, "example")
			first, _, _ := strings.Cut(example, "\n")
			_, first, _ = strings.Cut(first, " ")
			target, _, _ = strings.Cut(first, "?")
			out = 1
		}
		for _, p := range op.Parameters {
			if p.In != "path" && rapid.IntRange(0, 5).Draw(t, "leave out "+p.Name) >= out {
				continue
			}
			value := fmt.Sprint(g.value(p.Schema, 0))
			switch p.In {
			case "path":
				known := []string{"own", "other", "free", "k", "1", "2", "m.rego", "bootstrap", "premium", "main", "GH-2026-000001", "GH", "quota", "jobs", "erp", value}
				target = strings.ReplaceAll(target, "{"+p.Name+"}", url.PathEscape(rapid.SampledFrom(known).Draw(t, p.Name)))
			case "query":
				query.Set(p.Name, value)
			case "header":
				if p.Name == "If-Match" {
					value = rapid.SampledFrom([]string{"*", "*", `"3"`, value}).Draw(t, "match")
				}
				header.Set(p.Name, strings.Map(func(r rune) rune {
					if r < ' ' || r > '~' {
						return '?'
					}
					return r
				}, value))
			}
		}
		if g.faulty("query") {
			query.Add(g.text("name"), g.text("value"))
		}
		body := ""
		_, sample, _ := strings.Cut(example, "\n\n")
		var tree any
		if op.RequestBody != nil && !g.faulty("body") {
			if json.Unmarshal([]byte(sample), &tree) == nil { // YAML is not
				tree = g.changed(tree, rapid.IntRange(0, 2).Draw(t, "changes"))
			} else {
				tree = g.value(op.RequestBody.Content[jsonType].Schema, 0)
			}
			text, err := json.Marshal(tree)
			if err != nil {
				t.Fatal(err)
			}
			body = string(text)
			if g.faulty("cut") {
				body = body[:rapid.IntRange(0, len(body)).Draw(t, "length")]
			}
		}
		before, err := s.plane.Head(s.t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if q := query.Encode(); q != "" {
			target += "?" + q
		}
		adjusted := s.adjustments()
		r := httptest.NewRequest(op.method, target, strings.NewReader(body))
		r.Header = header
		w := httptest.NewRecorder()
		s.handler.ServeHTTP(w, r)
		told[w.Code]++
		what := fmt.Sprintf("%s %s %v\n%s\n%d %s\n%s", op.method, target, header, body, w.Code, w.Body, s.log.String())
		switch _, named := op.Responses["501"]; {
		case w.Code == http.StatusNotImplemented && named:
		case w.Code >= 500:
			t.Fatalf("a failure of the server: %s", what)
		case w.Code == http.StatusUnauthorized || w.Code == http.StatusTooManyRequests:
			t.Fatalf("a token of ours was refused: %s", what)
		}
		if w.Code < 400 {
			return
		}
		var p problem
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Status != w.Code || p.Code == "" || w.Header().Get("Content-Type") != problemType {
			t.Fatalf("no problem: %s", what)
		}
		events, err := s.plane.Events(s.t.Context(), control.EventFilter{After: before.Seq}, 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			if e.Kind != "access.refused" {
				t.Fatalf("%s came of a refused request: %s", e.Kind, what)
			}
		}
		if s.adjustments() != adjusted {
			t.Fatalf("a refused request was recorded: %s", what)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		for range 10 {
			request(t)
		}
	})
}

// adjustments counts what the ledger has of corrections: they are no events.
func (s *service) adjustments() int {
	s.t.Helper()
	n := 0
	for _, id := range []gatehouse.TenantID{"own", "other"} {
		all, err := s.ledger.Adjustments(s.t.Context(), id, time.Unix(0, 0), time.Now().AddDate(400, 0, 0))
		if err != nil {
			s.t.Fatal(err)
		}
		n += len(all)
	}
	return n
}

// examples are the requests of the reference by operation, made to the tenant
// "own".
func examples(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("../../docs/reference/api.md")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]string{}
	for _, section := range strings.Split(string(text), "\n### ")[1:] {
		id, rest, _ := strings.Cut(section, "\n")
		for _, example := range regexp.MustCompile("(?s)```http\n(.*?)\n```").FindAllStringSubmatch(rest, -1) {
			out[id] = append(out[id], strings.ReplaceAll(example[1], "studio", "own"))
		}
	}
	return out
}

// changed replaces, removes or repeats some of a body's values.
func (g *generator) changed(tree any, times int) any {
	var places []func(v any, remove bool)
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for _, name := range slices.Sorted(maps.Keys(v)) {
				places = append(places, func(to any, remove bool) {
					if v[name] = to; remove {
						delete(v, name)
					}
				})
				walk(v[name])
			}
		case []any:
			for i := range v {
				places = append(places, func(to any, _ bool) { v[i] = to })
				walk(v[i])
			}
		}
	}
	for range times {
		places = nil
		if walk(tree); len(places) == 0 {
			return tree
		}
		at := rapid.SampledFrom(places).Draw(g.t, "place")
		at(rapid.OneOf(rapid.Map(rapid.SampledFrom(amounts), func(s string) any { return s }), rapid.Just[any](g.text("text")),
			rapid.SampledFrom([]any{nil, true, -1, 1e300, 9007199254740993, []any{}, map[string]any{}, []any{nil}, "2026-03-01T00:00:00Z", "2026-04-01T00:00:00Z"})).Draw(g.t, "to"),
			rapid.IntRange(0, 3).Draw(g.t, "remove") == 0)
	}
	return tree
}

// amounts are numbers as texts, most of them at a bound or beyond.
var amounts = []string{
	"0", "1", "-1", "0.5", "-0.5", "0.000000000001", "0.0000000000001", "1000000000000000", "1000000000000001", "-1000000000000000", "1e3", "1/3", "NaN", " 1", "1.", ".5", "",
	"99999999999999999999999999999999999999", "main", "premium", "EUR", "JPY", "XXX", "month", "day", "flat", "graduated", "volume", "package", "percentage", "blocks", "dynamic", "capacity",
	"opening", "closing", "paid", "void", "jobs", "requests", "balance", "refund", "GH-2026-000001", "GH-2026-000002", "invoice.*", "https://erp.example.com/",
	"0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-02-30T00:00:00Z", "Europe/Rome", "Mars/Olympus",
}

// generator makes values of a schema, a few of them faulty.
type generator struct {
	t       *rapid.T
	schemas huma.Registry
	faults  int
}

// faulty reports whether to be wrong here.
func (g *generator) faulty(what string) bool {
	if g.faults == 0 || rapid.IntRange(0, 9).Draw(g.t, "faulty "+what) > 0 {
		return false
	}
	g.faults--
	return true
}

func (g *generator) text(what string) string {
	return rapid.OneOf(rapid.SampledFrom([]string{
		"own", "a", "x.test", "own.test", "GET", "/", "5/s", "1h", "0s", "free", "m.rego", "package gatehouse.tenant\nallow := true", "http://127.0.0.1:1", "*", `"3"`,
		"\x00", "active", "2027-01-31T00:00:00Z", "-1", "99999999999999999999", "192.0.2.0/24", "sha256:" + strings.Repeat("0", 64),
	}), rapid.String(), rapid.StringMatching(`[a-z]{1,10}`)).Filter(utf8.ValidString).Draw(g.t, what)
}

func (g *generator) value(s *huma.Schema, depth int) any {
	for s.Ref != "" {
		s = g.schemas.SchemaFromRef(s.Ref)
	}
	if g.faulty("type") {
		return rapid.SampledFrom([]any{nil, true, -1, 1.5, 1e300, "", []any{}, map[string]any{"x": 1}, []any{nil, nil}}).Draw(g.t, "other")
	}
	if len(s.Enum) > 0 {
		return rapid.SampledFrom(s.Enum).Draw(g.t, "enum")
	}
	switch s.Type {
	case huma.TypeBoolean:
		return rapid.Bool().Draw(g.t, "bool")
	case huma.TypeInteger:
		return rapid.OneOf(rapid.Int64Range(0, 10), rapid.Int64()).Draw(g.t, "int")
	case huma.TypeNumber:
		return rapid.Float64Range(-1e9, 1e9).Draw(g.t, "number")
	case huma.TypeArray:
		out := []any{}
		for range rapid.IntRange(0, 2).Draw(g.t, "length") {
			out = append(out, g.value(s.Items, depth+1))
		}
		return out
	case huma.TypeObject:
		out := map[string]any{}
		if depth > 6 {
			return out
		}
		for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
			p := s.Properties[name]
			if required := strings.Contains(strings.Join(s.Required, " "), name); required || rapid.IntRange(0, 2).Draw(g.t, name) == 0 {
				out[name] = g.value(p, depth+1)
			}
		}
		if g.faulty("key") {
			out[g.text("key")] = 1
		}
		if additional, ok := s.AdditionalProperties.(*huma.Schema); ok {
			out[g.text("key")] = g.value(additional, depth+1)
		}
		return out
	case huma.TypeString:
		return g.text("text")
	}
	return rapid.SampledFrom([]any{map[string]any{"name": "x"}, map[string]any{"x": true}, []any{"x"}, "x", 1}).Draw(g.t, "any")
}
