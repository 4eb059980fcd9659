package gatehouse

import (
	"fmt"
	"unicode"
	"unicode/utf8"
)

// maxLabel bounds what is a name for people, in characters.
const maxLabel = 200

// LabelFault says what keeps a text from being a name for people; empty:
// nothing does. It holds at most 200 characters of any script, on one line.
func LabelFault(text string) string {
	if utf8.RuneCountInString(text) > maxLabel {
		return fmt.Sprintf("is longer than %d characters", maxLabel)
	}
	for _, r := range text {
		if r == utf8.RuneError || unicode.In(r, unicode.Cc, unicode.Zl, unicode.Zp) {
			return "holds a control character or a line end"
		}
	}
	return ""
}

// label finds the fault of a name for people.
func (v *validation) label(at, what, text string) {
	if reason := LabelFault(text); reason != "" {
		v.fault(at, what+" "+reason, "")
	}
}
