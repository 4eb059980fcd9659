package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// mergePatch applies a merge patch to a JSON object (RFC 7396). Numbers keep
// their spelling.
func mergePatch(target, patch []byte) ([]byte, error) {
	var to, by any
	for _, in := range []struct {
		b    []byte
		into *any
	}{{target, &to}, {patch, &by}} {
		d := json.NewDecoder(bytes.NewReader(in.b))
		d.UseNumber()
		if err := d.Decode(in.into); err != nil {
			return nil, fmt.Errorf("malformed JSON: %w", err)
		}
		if d.More() {
			return nil, errors.New("malformed JSON: more than one value")
		}
	}
	if _, ok := by.(map[string]any); !ok {
		return nil, errors.New("the patch is not a JSON object")
	}
	return json.Marshal(merge(to, by))
}

func merge(target, patch any) any {
	changes, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	object, ok := target.(map[string]any)
	if !ok {
		object = map[string]any{}
	}
	for name, v := range changes {
		if v == nil {
			delete(object, name)
			continue
		}
		object[name] = merge(object[name], v)
	}
	return object
}
