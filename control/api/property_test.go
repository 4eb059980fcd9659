package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gatehouse-gateway/gatehouse/control"
	"pgregory.net/rapid"
)

// TestRequests asks what the OpenAPI document allows, and what it almost
// allows: no answer is a 5xx but a 501 that the document names, whatever fails
// is a problem, and a request that is refused changes nothing.
func TestRequests(t *testing.T) {
	s := start(t, "")
	s.made("POST /api/v1/tenants\n\n" + `{"id": "own", "domain": "own.test", "identity": {"api_keys": {}}}`)
	s.made("POST /api/v1/tenants\n\n" + `{"id": "other"}`)
	s.made("POST /api/v1/tenants/own/keys\n\n" + `{"id": "k"}`)
	s.made("POST /api/v1/tenants/own/policies\n\n" + `{"modules": [{"name": "m.rego", "source": "package gatehouse.tenant\nallow := true"}]}`)
	tokens := []string{s.owner, s.owner, s.owner, s.owner, s.owner, s.owner, s.token(control.Operator, "own"), s.token(control.Billing), s.token(control.Gateway)}
	doc := newREST(s.parts).api.OpenAPI()
	ops := operations(doc)
	told := map[int]int{} // answers by status
	defer func() { t.Log(told) }()
	rapid.Check(t, func(t *rapid.T) {
		op := rapid.SampledFrom(ops).Draw(t, "operation")
		if op.OperationID == "followUpdates" || op.OperationID == "revokeToken" {
			return // it has no end; it may be the token that asks
		}
		g := generator{t, doc.Components.Schemas, rapid.IntRange(0, 3).Draw(t, "faults")}
		target := op.path
		query := url.Values{}
		header := http.Header{"Authorization": {"Bearer " + rapid.SampledFrom(tokens).Draw(t, "token")}}
		for _, p := range op.Parameters {
			if p.In != "path" && rapid.Bool().Draw(t, "leave out "+p.Name) {
				continue
			}
			value := fmt.Sprint(g.value(p.Schema, 0))
			switch p.In {
			case "path":
				known := []string{"own", "other", "free", "k", "1", "2", "m.rego", "bootstrap", value}
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
		if op.RequestBody != nil && !g.faulty("body") {
			text, err := json.Marshal(g.value(op.RequestBody.Content[jsonType].Schema, 0))
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
	})
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
