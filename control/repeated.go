package control

import (
	"bytes"
	"encoding/json"

	"github.com/gatehouse-gateway/gatehouse"
)

// Object reads the members of a JSON object whose form is not known, as that
// of a merge patch, and returns the faults that Decode would: where it is not
// JSON, and each key that is given twice, at any depth. expected is what is
// said of a value that is no object.
func Object(text []byte, expected string) (map[string]json.RawMessage, gatehouse.Faults) {
	var members map[string]json.RawMessage
	if faults := malformed(text); faults != nil {
		return nil, faults
	}
	if err := json.Unmarshal(text, &members); err != nil || members == nil {
		return nil, gatehouse.Faults{{Reason: expected}}
	}
	if faults := repeated(text); faults != nil {
		return nil, faults
	}
	return members, nil
}

// level is an object or list that is being read, with the place of the member
// that is: its name, or in a list its index.
type level struct {
	seen  map[string]bool // nil in a list
	name  string
	index int
	value bool // of an object: the name has been read, its value is next
}

// repeated are the keys of valid JSON that are given twice. It does not recurse:
// the text may be nested deeply.
func repeated(text []byte) gatehouse.Faults {
	d := decoder{in: json.NewDecoder(bytes.NewReader(text))}
	var open []level
	for {
		t := d.token()
		if len(open) > 0 {
			if in := &open[len(open)-1]; in.seen != nil && !in.value && t != json.Delim('}') {
				in.name, _ = t.(string)
				if in.value = true; in.seen[in.name] {
					d.fault(pointerOf(open), "the key is given twice", "")
				}
				in.seen[in.name] = true
				continue
			}
		}
		switch t {
		case json.Delim('{'):
			open = append(open, level{seen: map[string]bool{}})
			continue
		case json.Delim('['):
			open = append(open, level{})
			continue
		case json.Delim('}'), json.Delim(']'):
			open = open[:len(open)-1]
		}
		if len(open) == 0 {
			return d.faults
		}
		in := &open[len(open)-1]
		in.value = false
		in.index++
	}
}

func pointerOf(open []level) string {
	at := ""
	for i := range open {
		if open[i].seen == nil {
			at += gatehouse.Pointer(open[i].index)
			continue
		}
		at += gatehouse.Pointer(open[i].name)
	}
	return at
}
