package api

import (
	"cmp"
	"encoding/json"
	"go/ast"
	"go/doc/comment"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

// source is what the doc comments of a package say.
type source struct {
	// fields are comments by type and field, types by type; consts are the
	// literals of constants by name, and values those of each type's.
	fields, types, consts map[string]string
	values                map[string][]string
}

// read parses the package in a folder of the repository.
func read(t *testing.T, dir string) *source {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("../..", dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no source in %s: %v", dir, err)
	}
	s := &source{map[string]string{}, map[string]string{}, map[string]string{}, map[string][]string{}}
	set := token.NewFileSet()
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(set, name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if d, ok := n.(*ast.GenDecl); ok {
				s.declaration(set, d)
			}
			return true
		})
	}
	return s
}

func (s *source) declaration(set *token.FileSet, d *ast.GenDecl) {
	for _, spec := range d.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			s.types[spec.Name.Name] = plain(cmp.Or(spec.Doc.Text(), d.Doc.Text()))
			if is, ok := spec.Type.(*ast.StructType); ok {
				s.structure(set, spec.Name.Name, is)
			}
		case *ast.ValueSpec:
			for i, value := range spec.Values {
				literal, ok := value.(*ast.BasicLit)
				if !ok || d.Tok != token.CONST {
					continue
				}
				text := literal.Value
				if unquoted, err := strconv.Unquote(text); err == nil {
					text = unquoted
				}
				s.consts[spec.Names[i].Name] = text
				if of, ok := spec.Type.(*ast.Ident); ok && literal.Kind == token.STRING {
					s.values[of.Name] = append(s.values[of.Name], text)
				}
			}
		}
	}
}

// structure notes the comments of a struct's fields. One on a field is on those
// after it too, up to an empty line, as far as it names them, as is that on the
// struct.
func (s *source) structure(set *token.FileSet, name string, is *ast.StructType) {
	group, last := "", 0
	whole := s.types[name]
	for _, f := range is.Fields.List {
		first := set.Position(f.Pos()).Line
		if f.Doc != nil {
			group = plain(f.Doc.Text())
		} else if first != last+1 {
			group = ""
		}
		last = set.Position(f.End()).Line
		for _, id := range f.Names {
			key := name + "." + id.Name
			switch {
			case f.Doc != nil, names(group, id.Name):
				s.fields[key] = group
			case f.Comment != nil:
				s.fields[key] = plain(f.Comment.Text())
			case names(whole, id.Name):
				s.fields[key] = whole
			}
		}
	}
}

func names(text, name string) bool {
	return regexp.MustCompile(`\b` + name + `\b`).MatchString(text)
}

// plain is a comment on one line.
func plain(text string) string {
	var p comment.Parser
	pr := comment.Printer{TextWidth: -1}
	return strings.Join(strings.Fields(string(pr.Text(p.Parse(text)))), " ")
}

var goName = regexp.MustCompile(`\b(?:[A-Z]\w*\.)?[A-Z]\w*\b`)

// inJSON is a comment on a field in words of JSON: fields by the names they
// have there, constants by their values.
func (s *source) inJSON(text string, of map[string]*field) string {
	known := map[string]string{}
	for name, f := range of {
		known[f.Name] = name
	}
	return goName.ReplaceAllStringFunc(text, func(word string) string {
		name := word[strings.LastIndexByte(word, '.')+1:]
		return cmp.Or(known[name], s.consts[name], word)
	})
}

// TestDescriptions holds that every property of every body, and every parameter, is described, and
// that the descriptions are the doc comments of the source. They are written
// by
//
//	go test ./control/api -run TestDescriptions -args -update
func TestDescriptions(t *testing.T) {
	sources := map[string]*source{}
	in := func(of reflect.Type) *source {
		dir := strings.TrimPrefix(of.PkgPath(), module)
		if sources[dir] == nil {
			sources[dir] = read(t, dir)
		}
		return sources[dir]
	}
	doc := newREST(start(t, "").parts).api.OpenAPI()
	schemas := doc.Components.Schemas
	texts := map[string]string{}
	for name := range schemas.Map() {
		all := properties(schemas.TypeFromRef(schemaPrefix + name))
		for _, f := range all {
			if f.Tag.Get("doc") != "" || !strings.HasPrefix(f.in.PkgPath(), module) {
				continue
			}
			s, typeName := in(f.in), strings.SplitN(f.in.Name(), "[", 2)[0]
			text := s.inJSON(s.fields[typeName+"."+f.Name], properties(f.in))
			if of := named(f.Type); of != nil {
				where := in(of)
				if text == "" && typeName == f.in.Name() && tells(f.Type, of) {
					text = where.inJSON(where.types[of.Name()], properties(of))
				}
				if values := where.values[of.Name()]; text != "" && len(values) > 1 && len(values) < 20 && !namesAll(text, values) {
					text += " One of: " + strings.Join(values, ", ") + "."
				}
			}
			if text != "" {
				texts[f.key()] = text
			}
		}
	}
	text, err := json.MarshalIndent(texts, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "descriptions.json", append(text, '\n'))
	descriptionsText = text
	if err := explainSchemas(schemas); err != nil {
		t.Fatal(err)
	}
	for _, op := range operations(doc) {
		for _, name := range regexp.MustCompile(`\{(\w+)\}`).FindAllStringSubmatch(op.path, -1) {
			if !op.takes("path", name[1]) {
				t.Errorf("%s does not look at %s of its path", op.OperationID, name[1])
			}
		}
		for _, p := range op.Parameters {
			if p.Description == "" {
				t.Errorf("%s has a parameter %s without doc", op.OperationID, p.Name)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(schemas.Map())) {
		undescribed(t, name, schemas.Map()[name], properties(schemas.TypeFromRef(schemaPrefix+name)))
	}
}

// tells reports whether what is said of a type tells enough of a field: not of
// one that is just a number, or a list of names.
func tells(field, of reflect.Type) bool {
	return of.Kind() == reflect.Struct && of != reflect.TypeFor[billing.Decimal]() || of.Kind() == reflect.String && field.Kind() == reflect.String
}

func namesAll(text string, all []string) bool {
	return !slices.ContainsFunc(all, func(name string) bool { return !names(text, regexp.QuoteMeta(name)) })
}

// named is the type of ours that a field is of, or has a list of.
func named(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer || t.Name() == "" && t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Name() == "" || strings.Contains(t.Name(), "[") || !strings.HasPrefix(t.PkgPath(), module) {
		return nil
	}
	return t
}

func undescribed(t *testing.T, name string, s *huma.Schema, of map[string]*field) {
	t.Helper()
	for property, p := range s.Properties {
		if p.Description == "" {
			where := ""
			if f := of[property]; f != nil {
				where = ": " + f.key() + " has no doc comment that names it"
			}
			t.Errorf("%s of schema %s has no description%s", property, name, where)
		}
	}
}
