package gatehouse

import (
	"strconv"
	"strings"
)

// Fault is one thing wrong with a document.
type Fault struct {
	// Pointer names the faulty value: RFC 6901, from the document's root.
	Pointer string `json:"pointer"`
	// Line and Column lie within the text value at Pointer (a Rego module),
	// counted from 1; zero when the value as a whole is meant.
	Line   int `json:"line,omitempty"`
	Column int `json:"column,omitempty"`
	// Reason says what is wrong. It does not echo secrets.
	Reason string `json:"reason"`
	// Hint says how to mend it, where that is known.
	Hint string `json:"hint,omitempty"`
	// Also points to a second place that the fault concerns.
	Also string `json:"also,omitempty"`
	// Warning marks a fault that does not keep the document from being used.
	Warning bool `json:"warning,omitempty"`
}

// Faults is every fault found, in document order of discovery. As an error
// it has one line a fault.
type Faults []Fault

func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.Pointer + ": " + f.Reason
		if f.Hint != "" {
			lines[i] += " (" + f.Hint + ")"
		}
	}
	return strings.Join(lines, "\n")
}

// Errors returns the faults that are not warnings.
func (fs Faults) Errors() Faults {
	var es Faults
	for _, f := range fs {
		if !f.Warning {
			es = append(es, f)
		}
	}
	return es
}

// Under returns the faults with prefix put before each pointer.
func (fs Faults) Under(prefix string) Faults {
	out := make(Faults, len(fs))
	for i, f := range fs {
		f.Pointer = prefix + f.Pointer
		if f.Also != "" {
			f.Also = prefix + f.Also
		}
		out[i] = f
	}
	return out
}

// Pointer joins reference tokens, strings or ints, to a JSON pointer.
func Pointer(tokens ...any) string {
	var b strings.Builder
	for _, t := range tokens {
		b.WriteByte('/')
		switch t := t.(type) {
		case int:
			b.WriteString(strconv.Itoa(t))
		case string:
			b.WriteString(pointerEscape.Replace(t))
		default:
			panic("gatehouse: a pointer token is a string or an int")
		}
	}
	return b.String()
}

var pointerEscape = strings.NewReplacer("~", "~0", "/", "~1")
