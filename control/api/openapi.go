package api

import (
	"bytes"
	"encoding/json"
	"net/http"
	"path"
	"reflect"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gatehouse-gateway/gatehouse"
)

// Version is that of the API's document.
const Version = "1.0.0"

// document is the head of the OpenAPI document, with our problems in place of
// huma's errors and without its pages.
func document() huma.Config {
	c := huma.DefaultConfig("Gatehouse control API", Version)
	c.Info.Description = "Tenants, keys, policies and plans of a Gatehouse, and what became of them. See docs/reference/api.md."
	c.OpenAPIPath, c.DocsPath, c.SchemasPath = "", "", ""
	c.CreateHooks = nil
	c.Transformers = []huma.Transformer{func(_ huma.Context, _ string, v any) (any, error) {
		if e, ok := v.(*huma.ErrorModel); ok {
			return requestProblem(e), nil
		}
		return v, nil
	}}
	c.RejectUnknownQueryParameters = true
	registry := huma.NewMapRegistry(schemaPrefix, schemaName)
	for _, alias := range [][2]reflect.Type{
		{reflect.TypeFor[gatehouse.Features](), reflect.TypeFor[any]()}, // a list or a map
	} {
		registry.RegisterTypeAlias(alias[0], alias[1])
	}
	c.Components = &huma.Components{
		Schemas:         registry,
		SecuritySchemes: map[string]*huma.SecurityScheme{"operator": {Type: "http", Scheme: "bearer", Description: "An operator token."}},
	}
	c.Security = []map[string][]string{{"operator": {}}}
	c.OnAddOperation = []huma.AddOpFunc{describe}
	return c
}

// describe mends what huma says of an operation: bodies are of the types that
// it takes, a dry run answers 200, and whatever fails is a problem.
func describe(doc *huma.OpenAPI, op *huma.Operation) {
	schemas := doc.Components.Schemas
	if op.RequestBody != nil {
		delete(op.RequestBody.Content, "application/octet-stream")
		op.RequestBody.Required = op.Metadata["optional"] == nil
	}
	dry := slices.ContainsFunc(op.Parameters, func(p *huma.Param) bool { return p.Name == "dry_run" })
	if made := op.Responses["201"]; made != nil && dry {
		op.Responses["200"] = &huma.Response{Description: "What a dry run would make", Content: made.Content}
	}
	if removed := op.Responses["204"]; removed != nil {
		if removed.Content != nil && dry {
			op.Responses["200"] = &huma.Response{Description: "What a dry run would do", Content: removed.Content}
		}
		removed.Content = nil
	}
	problems := map[string]*huma.MediaType{problemType: {Schema: schemas.Schema(reflect.TypeFor[problem](), true, "Problem")}}
	if slices.Contains(op.Errors, http.StatusNotImplemented) {
		op.Responses["501"] = &huma.Response{Description: "Not available on this control plane", Content: problems}
	}
	for status := range op.Responses {
		if status[0] >= '4' && status != "501" {
			delete(op.Responses, status)
		}
	}
	op.Responses["default"] = &huma.Response{Description: "A problem (RFC 9457)", Content: problems}
}

// schemaName tells stored things from the documents in them.
func schemaName(t reflect.Type, hint string) string {
	name := huma.DefaultSchemaNamer(t, hint)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch path.Base(t.PkgPath()) {
	case "control":
		switch t.Name() {
		case "Tenant", "Key", "Plan", "Policy":
			return "Stored" + name
		case "Request":
			return "ExplainedRequest"
		}
	case "billing":
		return "Billing" + name
	case "invoicing":
		return "Account" + strings.TrimPrefix(name, "Account")
	case "webhook":
		return "Webhook" + name
	case "journal":
		return "Journal" + name
	case "metering":
		return "Metered" + strings.TrimPrefix(name, "Metered")
	case "policy":
		return "Policy" + name
	}
	return name
}

// openAPIText is the document, indented.
func (s *rest) openAPIText() ([]byte, error) {
	doc := s.api.OpenAPI()
	schemas := doc.Components.Schemas.Map()
	delete(schemas, "ErrorModel") // huma's own
	delete(schemas, "ErrorDetail")
	if err := explainSchemas(doc.Components.Schemas); err != nil {
		return nil, err
	}
	text, err := json.Marshal(doc)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, text, "", " "); err != nil {
		return nil, err
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// openAPI serves the document, which needs no token.
func (s *rest) openAPI() http.HandlerFunc {
	text, err := s.openAPIText()
	if err != nil {
		panic(err) // it holds what we put in
	}
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if _, err := w.Write(text); err != nil {
			s.Log.Debug("write answer", "error", err)
		}
	}
}
