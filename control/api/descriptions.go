package api

import (
	_ "embed"
	"encoding/json"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// descriptionsText are the doc comments of the fields that bodies are made of,
// by package, type and field. It is written by TestDescriptions.
//
//go:embed descriptions.json
var descriptionsText []byte

// explainSchemas gives every property of the document's schemas the description that
// the source has of it.
func explainSchemas(schemas huma.Registry) error {
	var texts map[string]string
	if err := json.Unmarshal(descriptionsText, &texts); err != nil {
		return err
	}
	for name, schema := range schemas.Map() {
		for property, field := range properties(schemas.TypeFromRef(schemaPrefix + name)) {
			if p := schema.Properties[property]; p != nil && p.Description == "" {
				p.Description = texts[field.key()]
			}
		}
	}
	return nil
}

// schemaPrefix begins references to schemas.
const schemaPrefix = "#/components/schemas/"

// field is one of a struct.
type field struct {
	in reflect.Type
	reflect.StructField
}

// key names a field as metering/billing.Price.Amount.
func (f *field) key() string {
	name, _, _ := strings.Cut(f.in.Name(), "[")
	return strings.TrimPrefix(strings.TrimPrefix(f.in.PkgPath(), module)+"."+name+"."+f.Name, "/")
}

const module = "github.com/gatehouse-gateway/gatehouse"

// properties are the fields of a struct, those of embedded ones too, by their
// names in JSON.
func properties(t reflect.Type) map[string]*field {
	out := map[string]*field{}
	if t == nil || t.Kind() != reflect.Struct {
		return out
	}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			inner := f.Type
			if inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			for name, deep := range properties(inner) {
				if out[name] == nil {
					out[name] = deep
				}
			}
		case name != "" && name != "-":
			out[name] = &field{t, f}
		}
	}
	return out
}
