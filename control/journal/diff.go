package journal

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Difference is one value that two documents do not share.
type Difference struct {
	// Pointer names it: RFC 6901, from the document's root.
	Pointer string `json:"pointer"`
	// Before and After are the values, nil where there was none.
	Before json.RawMessage `json:"before,omitempty"`
	After  json.RawMessage `json:"after,omitempty"`
}

// Diff returns what differs between two documents, either of which may be nil,
// in the order of the pointers. Lists are compared element by element.
func Diff(before, after json.RawMessage) ([]Difference, error) {
	a, err := value(before)
	if err != nil {
		return nil, err
	}
	b, err := value(after)
	if err != nil {
		return nil, err
	}
	var out []Difference
	diff("", a, b, func(d Difference) { out = append(out, d) })
	return out, nil
}

// missing stands for no value, as null is one.
type missing struct{}

func value(doc json.RawMessage) (any, error) {
	if doc == nil {
		return missing{}, nil
	}
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("compare documents: %w", err)
	}
	return v, nil
}

func diff(pointer string, a, b any, f func(Difference)) {
	if reflect.DeepEqual(a, b) {
		return
	}
	switch a := a.(type) {
	case map[string]any:
		if b, ok := b.(map[string]any); ok {
			names := map[string]bool{}
			for name := range a {
				names[name] = true
			}
			for name := range b {
				names[name] = true
			}
			for _, name := range slices.Sorted(maps.Keys(names)) {
				diff(pointer+"/"+strings.NewReplacer("~", "~0", "/", "~1").Replace(name), member(a, name), member(b, name), f)
			}
			return
		}
	case []any:
		if b, ok := b.([]any); ok {
			for i := range max(len(a), len(b)) {
				diff(pointer+"/"+strconv.Itoa(i), element(a, i), element(b, i), f)
			}
			return
		}
	}
	f(Difference{pointer, encoded(a), encoded(b)})
}

func member(m map[string]any, name string) any {
	if v, ok := m[name]; ok {
		return v
	}
	return missing{}
}

func element(l []any, i int) any {
	if i < len(l) {
		return l[i]
	}
	return missing{}
}

func encoded(v any) json.RawMessage {
	if v == any(missing{}) {
		return nil
	}
	out, err := json.Marshal(v)
	if err != nil {
		panic(err) // it was decoded from JSON
	}
	return out
}
