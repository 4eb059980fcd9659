package journal

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Index names what lists can be filtered by: for each kind, field names and
// where in the body their values stand. A path is a JSON pointer whose
// segment * means every element of a list or every member of an object.
// Strings, numbers and booleans are indexed, each in its JSON spelling without
// quotes; one field may have any number of values. Values of more than 1 KiB
// are left out.
//
//	Index{"tenant": {"plan": "/plan", "domain": "/domains/*"}}
//
// When a journal is opened with another Index than before, its fields are
// built anew, and processes that have it open keep them as the last one to
// open it wants.
type Index map[string]map[string]string

// Field is a name with a value.
type Field struct{ Name, Value string }

// fields returns the fields of a body, sorted, each once.
func (x Index) fields(kind string, body []byte) []Field {
	paths := x[kind]
	if len(paths) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil // a body is checked when it is put
	}
	var out []Field
	for name, path := range paths {
		collect(v, strings.Split(path, "/")[1:], func(value string) {
			if text(value, maxValue) == nil {
				out = append(out, Field{name, value})
			}
		})
	}
	slices.SortFunc(out, func(a, b Field) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return strings.Compare(a.Value, b.Value)
	})
	return slices.Compact(out)
}

func collect(v any, path []string, f func(string)) {
	if len(path) == 0 {
		switch v := v.(type) {
		case string:
			f(v)
		case json.Number, bool:
			f(fmt.Sprint(v))
		}
		return
	}
	switch v := v.(type) {
	case map[string]any:
		if path[0] == "*" {
			for _, e := range v {
				collect(e, path[1:], f)
			}
		} else if e, ok := v[strings.NewReplacer("~1", "/", "~0", "~").Replace(path[0])]; ok {
			collect(e, path[1:], f)
		}
	case []any:
		if path[0] == "*" {
			for _, e := range v {
				collect(e, path[1:], f)
			}
		}
	}
}

func (x Index) check() error {
	for kind, paths := range x {
		for name, path := range paths {
			if !strings.HasPrefix(path, "/") || name == "" || text(name, maxKind) != nil {
				return fmt.Errorf("index %s.%s: path %q does not begin with /: %w", kind, name, path, ErrInvalid)
			}
		}
	}
	return nil
}

// definition is x in the form that the store keeps it.
func (x Index) definition() string {
	if x == nil {
		x = Index{}
	}
	text, err := json.Marshal(x) // in order of the names
	if err != nil {
		panic(err) // maps of text encode
	}
	return string(text)
}

// read makes x what a definition says; an empty one says nothing.
func (x *Index) read(definition string) error {
	if definition == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(definition), x); err != nil {
		return fmt.Errorf("definition of the index: %w", err)
	}
	return nil
}

// storedIndex returns what the store's fields are built by.
func storedIndex(ctx context.Context, q querier) (Index, error) {
	definition := ""
	rows, err := q.query(ctx, selectIndex)
	if err := scan(rows, err, func(rows *sql.Rows) error { return rows.Scan(&definition) }); err != nil {
		return nil, err
	}
	x := Index{}
	return x, x.read(definition)
}
