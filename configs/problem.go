package configs

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Place is a position in a file; lines and columns count from 1, zero where
// the file as a whole is meant.
type Place struct {
	File   string `json:"file"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
}

// String returns file:line:col.
func (p Place) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Problem is a fault with its place.
type Problem struct {
	Place
	// Excerpt is the line at Place.
	Excerpt string `json:"excerpt,omitempty"`
	Reason  string `json:"reason"`
	Hint    string `json:"hint,omitempty"`
	// Also is a second place that the problem concerns.
	Also *Place `json:"also,omitempty"`
	// Warning marks a problem that does not keep the text from being used.
	Warning bool `json:"warning,omitempty"`
}

// String returns the problem as an operator reads it, over several lines.
func (p Problem) String() string {
	var b strings.Builder
	kind := ""
	if p.Warning {
		kind = "warning: "
	}
	fmt.Fprintf(&b, "%s: %s%s\n", p.Place, kind, p.Reason)
	if p.Excerpt != "" {
		text, column := excerpt(p.Excerpt, p.Column)
		number := fmt.Sprint(p.Line)
		fmt.Fprintf(&b, "  %s | %s\n", number, text)
		fmt.Fprintf(&b, "  %s | %s^\n", strings.Repeat(" ", len(number)), strings.Repeat(" ", column))
	}
	if p.Also != nil {
		fmt.Fprintf(&b, "  also: %s\n", *p.Also)
	}
	if p.Hint != "" {
		fmt.Fprintf(&b, "  hint: %s\n", p.Hint)
	}
	return b.String()
}

const excerptWidth = 100

// excerpt makes line printable, at most excerptWidth wide, and returns how
// many characters stand before column.
func excerpt(line string, column int) (string, int) {
	before := []rune(line)
	at := min(max(column-1, 0), len(before))
	for i, r := range before {
		if r == '\t' || r < ' ' || r == 0x7f {
			before[i] = ' '
		}
	}
	if at > excerptWidth*3/4 {
		cut := at - excerptWidth/2
		before, at = append([]rune("…"), before[cut:]...), at-cut+1
	}
	if len(before) > excerptWidth {
		before = append(before[:excerptWidth:excerptWidth], '…')
	}
	return string(before), at
}

// Problems is an error that says all of them.
type Problems []Problem

func (ps Problems) Error() string {
	var b strings.Builder
	for _, p := range ps {
		b.WriteString(p.String())
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// At reports whether a problem has this very place.
func (ps Problems) At(p Place) bool {
	return slices.ContainsFunc(ps, func(q Problem) bool { return q.Place == p })
}

func (ps Problems) places() map[Place]bool {
	all := make(map[Place]bool, len(ps))
	for i := range ps {
		all[ps[i].Place] = true
	}
	return all
}

// Sort orders the problems by file, line and column.
func (ps Problems) Sort() {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// Errors returns the problems that are not warnings.
func (ps Problems) Errors() Problems {
	var es Problems
	for _, p := range ps {
		if !p.Warning {
			es = append(es, p)
		}
	}
	return es
}
