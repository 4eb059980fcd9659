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

// BadLabel is a text that is no name for people where one is expected. Its
// fault is a warning: nothing is served differently for it, and it may have
// been stored before there was a bound. What takes new ones may refuse them.
type BadLabel struct {
	Text  string
	Fault Fault
}

// BadLabels are those of a tenant's document. Pointers begin at the tenant.
func (t *Tenant) BadLabels() []BadLabel {
	var bad badLabels
	bad.look("name", t.Name, "name")
	if k := t.Identity.APIKeys; k != nil {
		for i := range k.Keys {
			for j, role := range k.Keys[i].Roles {
				bad.look("role", role, "identity", "api_keys", "keys", i, "roles", j)
			}
			for j, scope := range k.Keys[i].Scopes {
				bad.look("scope", scope, "identity", "api_keys", "keys", i, "scopes", j)
			}
		}
	}
	for i, c := range t.Security.ComplianceRequirements {
		if len(c) <= maxRequirement { // longer ones are worse than that
			bad.look("requirement", c, "security", "compliance_requirements", i)
		}
	}
	return bad
}

// BadLabels are those of a plan. Pointers begin at the plan.
func (p *Plan) BadLabels() []BadLabel {
	var bad badLabels
	bad.look("name", p.Name, "name")
	return bad
}

type badLabels []BadLabel

// look notes a text that is no name for people; at are the tokens of its
// pointer.
func (b *badLabels) look(what, text string, at ...any) {
	if reason := LabelFault(text); reason != "" {
		*b = append(*b, BadLabel{text, Fault{Pointer: Pointer(at...), Reason: what + " " + reason, Warning: true}})
	}
}

// labels warns of names that are none.
func (v *validation) labels(at string, bad []BadLabel) {
	for _, b := range bad {
		b.Fault.Pointer = at + b.Fault.Pointer
		v.faults = append(v.faults, b.Fault)
	}
}
