package control

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/gatehouse-gateway/gatehouse"
)

// Difference is one part that differs between two documents.
type Difference struct {
	// Pointer names it (RFC 6901).
	Pointer string `json:"pointer"`
	// Before and After are its values; absent where there was or is none.
	Before json.RawMessage `json:"before,omitempty"`
	After  json.RawMessage `json:"after,omitempty"`
}

// Diff returns where the JSON forms of two values differ, in document order of
// names. Elements of lists that are objects with an id are compared by it, in
// pointers of the later document where it is there.
func Diff(before, after any) ([]Difference, error) {
	a, err := plain(before)
	if err != nil {
		return nil, err
	}
	b, err := plain(after)
	if err != nil {
		return nil, err
	}
	var d differ
	d.compare("", a, b)
	return d.found, nil
}

func plain(v any) (any, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("compare: %w", err)
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var out any
	err = decoder.Decode(&out)
	return out, err
}

type differ struct{ found []Difference }

func (d *differ) note(at string, before, after any) {
	raw := func(v any) json.RawMessage {
		if v == nil {
			return nil
		}
		text, err := json.Marshal(v)
		if err != nil {
			panic("control: " + err.Error()) // it came from JSON
		}
		return text
	}
	d.found = append(d.found, Difference{at, raw(before), raw(after)})
}

func (d *differ) compare(at string, a, b any) {
	switch x := a.(type) {
	case map[string]any:
		if y, ok := b.(map[string]any); ok {
			names := maps.Clone(x)
			maps.Copy(names, y)
			for _, name := range slices.Sorted(maps.Keys(names)) {
				d.compare(at+gatehouse.Pointer(name), x[name], y[name])
			}
			return
		}
	case []any:
		if y, ok := b.([]any); ok {
			d.lists(at, x, y)
			return
		}
	default:
		if a == b {
			return
		}
	}
	d.note(at, a, b)
}

// lists compares element by element, by id where all have one.
func (d *differ) lists(at string, a, b []any) {
	ia, oka := ids(a)
	ib, okb := ids(b)
	if !oka || !okb {
		for i := range max(len(a), len(b)) {
			var x, y any
			if i < len(a) {
				x = a[i]
			}
			if i < len(b) {
				y = b[i]
			}
			d.compare(at+gatehouse.Pointer(i), x, y)
		}
		return
	}
	for i, id := range ia {
		if !slices.Contains(ib, id) {
			d.note(at+gatehouse.Pointer(i), a[i], nil)
		}
	}
	for i, id := range ib {
		var before any
		if j := slices.Index(ia, id); j >= 0 {
			before = a[j]
		}
		d.compare(at+gatehouse.Pointer(i), before, b[i])
	}
}

// ids returns what the elements of a list are known by.
func ids(list []any) ([]string, bool) {
	out := make([]string, 0, len(list))
	for _, e := range list {
		m, ok := e.(map[string]any)
		if !ok {
			return nil, false
		}
		id, ok := m["id"].(string)
		if !ok {
			if id, ok = m["name"].(string); !ok {
				return nil, false
			}
		}
		out = append(out, id)
	}
	return out, true
}
