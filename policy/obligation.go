package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Obligations are what a policy asks the gateway to do with a request beside
// admitting or denying it. The list is closed. They are read-only.
type Obligations struct {
	// Set are header fields for the backend, in place of those of the same
	// name; names are lower case and sorted.
	Set []Field
	// Remove are header fields that the backend does not get; lower case, sorted.
	Remove []string
	// Cost is added to what the request costs, 0 to MaxCost.
	Cost int64
	// Log are fields of the access log, sorted by name.
	Log []Field
	// Limits are names of limits that the request is charged to as well: labels
	// in lower case, sorted, each once. Whether the tenant has such a limit is
	// the gateway's to see.
	Limits []string
	// StepUp names the authentication that the caller needs: the request is
	// denied, with status 401 unless the policy gives another.
	StepUp string
}

// Field is a name and its value.
type Field struct{ Name, Value string }

// Bounds of obligations.
const (
	// MaxCost bounds Obligations.Cost.
	MaxCost       = 1_000_000
	maxFields     = 16
	maxLimits     = 8
	maxFieldName  = 64
	maxFieldValue = 1024
)

func (o *Obligations) equal(p *Obligations) bool {
	if o == nil || p == nil {
		return o == p
	}
	return o.Cost == p.Cost && o.StepUp == p.StepUp &&
		slices.Equal(o.Limits, p.Limits) &&
		slices.Equal(o.Set, p.Set) && slices.Equal(o.Remove, p.Remove) && slices.Equal(o.Log, p.Log)
}

// and is the decision of a request that the baseline allowed as d says, given
// what the tenant's modules say. Where both oblige to different values the
// baseline's counts.
func (d Decision) and(own Decision) Decision {
	if d.Obligations == nil || own.Err != nil {
		return own
	}
	if own.Obligations == nil {
		own.Obligations = d.Obligations
		return own
	}
	a, b := d.Obligations, own.Obligations
	own.Obligations = &Obligations{
		Set: mergeFields(a.Set, slices.DeleteFunc(slices.Clone(b.Set), func(f Field) bool {
			return slices.Contains(a.Remove, f.Name)
		})),
		Remove: mergeNames(a.Remove, slices.DeleteFunc(slices.Clone(b.Remove), func(name string) bool {
			return slices.ContainsFunc(a.Set, func(f Field) bool { return f.Name == name })
		})),
		Cost:   min(a.Cost+b.Cost, MaxCost),
		Log:    mergeFields(a.Log, b.Log),
		Limits: mergeNames(a.Limits, b.Limits),
		StepUp: cmp.Or(a.StepUp, b.StepUp),
	}
	return own
}

// mergeFields is a, and what b has beside.
func mergeFields(a, b []Field) []Field {
	out := slices.Clone(a)
	for _, f := range b {
		if !slices.ContainsFunc(a, func(g Field) bool { return g.Name == f.Name }) {
			out = append(out, f)
		}
	}
	sortFields(out)
	return out
}

func mergeNames(a, b []string) []string {
	out := slices.Concat(a, b)
	slices.Sort(out)
	return slices.Compact(out)
}

func sortFields(fs []Field) {
	slices.SortFunc(fs, func(a, b Field) int { return cmp.Compare(a.Name, b.Name) })
}

// oblige reads v, the value of a policy's rule obligations, if any. What is
// not an obligation is an error: to pass it over could admit a request under
// a condition that nobody keeps.
func (d Decision) oblige(v ast.Value) (Decision, error) {
	if v == nil {
		return d, nil
	}
	o := &Obligations{}
	if err := o.read(v); err != nil {
		return Decision{}, fmt.Errorf("policy: %s: obligations%w", d.By, err)
	}
	if o.equal(&Obligations{}) {
		return d, nil
	}
	d.Obligations = o
	if o.StepUp != "" && (d.Allow || d.Status == deniedStatus) {
		d.Allow, d.Status = false, stepUpStatus
	}
	return d, nil
}

func (o *Obligations) read(v ast.Value) error {
	return eachMember(v, func(name string, v ast.Value) error {
		switch name {
		case "headers":
			return within(name, eachMember(v, o.headers))
		case "cost":
			n, ok := v.(ast.Number)
			if ok {
				o.Cost, ok = n.Int64()
			}
			if !ok || o.Cost < 0 || o.Cost > MaxCost {
				return fmt.Errorf(".cost is not an integer from 0 to %d", MaxCost)
			}
			return nil
		case "limit":
			return within(name, o.limits(v))
		case "log":
			return within(name, readFields(v, &o.Log, logName))
		case "step_up":
			s, ok := v.(ast.String)
			if !ok || !plain(string(s), maxFieldValue) || s == "" {
				return fmt.Errorf(".step_up is not a printable string of 1 to %d bytes", maxFieldValue)
			}
			o.StepUp = strings.Clone(string(s))
			return nil
		}
		return fmt.Errorf(".%.64s is not known", name)
	})
}

func (o *Obligations) headers(name string, v ast.Value) error {
	switch name {
	case "set":
		if err := within(name, readFields(v, &o.Set, settable)); err != nil {
			return err
		}
	case "remove":
		if err := within(name, o.removed(v)); err != nil {
			return err
		}
	default:
		return fmt.Errorf(".%.64s is not known", name)
	}
	for _, f := range o.Set {
		if slices.Contains(o.Remove, f.Name) {
			return fmt.Errorf(" both sets and removes %s", f.Name)
		}
	}
	return nil
}

// limits reads the name of a limit, or an array or a set of names.
func (o *Obligations) limits(v ast.Value) error {
	terms, ok := elements(v)
	if s, one := v.(ast.String); one {
		terms, ok = []*ast.Term{ast.NewTerm(s)}, true
	}
	switch {
	case !ok:
		return fmt.Errorf(" is not a name, array or set")
	case len(terms) > maxLimits:
		return fmt.Errorf(" has more than %d names", maxLimits)
	}
	for _, t := range terms {
		s, ok := t.Value.(ast.String)
		if !ok || !label(string(s)) {
			return fmt.Errorf(" has %.64s, which is no name of a limit", t.Value.String())
		}
		o.Limits = append(o.Limits, strings.Clone(string(s)))
	}
	slices.Sort(o.Limits)
	o.Limits = slices.Compact(o.Limits)
	return nil
}

// label reports whether s is a DNS label in lower case (RFC 1123 section 2.1),
// as ids in the document are.
func label(s string) bool {
	return s != "" && len(s) <= 63 && s[0] != '-' && s[len(s)-1] != '-' &&
		strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// elements are those of an array or a set.
func elements(v ast.Value) (terms []*ast.Term, ok bool) {
	switch v := v.(type) {
	case *ast.Array:
		v.Foreach(func(t *ast.Term) { terms = append(terms, t) })
		return terms, true
	case ast.Set:
		return v.Slice(), true
	}
	return nil, false
}

// removed reads an array or a set of names.
func (o *Obligations) removed(v ast.Value) error {
	terms, ok := elements(v)
	if !ok {
		return fmt.Errorf(" is not an array or set")
	}
	if len(terms) > maxFields {
		return fmt.Errorf(" has more than %d names", maxFields)
	}
	for _, t := range terms {
		s, ok := t.Value.(ast.String)
		if !ok || !settable(string(s)) {
			return fmt.Errorf(" has %.64s, which is no name of a header that policy may change", t.Value.String())
		}
		o.Remove = append(o.Remove, strings.Clone(string(s)))
	}
	slices.Sort(o.Remove)
	o.Remove = slices.Compact(o.Remove)
	return nil
}

func within(name string, err error) error {
	if err != nil {
		return fmt.Errorf(".%s%w", name, err)
	}
	return nil
}

// eachMember calls f for the members of an object whose keys are strings.
func eachMember(v ast.Value, f func(name string, v ast.Value) error) error {
	o, ok := v.(ast.Object)
	if !ok {
		return fmt.Errorf(" is not an object")
	}
	return o.Iter(func(k, t *ast.Term) error {
		name, ok := k.Value.(ast.String)
		if !ok {
			return fmt.Errorf(" has a key that is not a string")
		}
		return f(string(name), t.Value)
	})
}

func readFields(v ast.Value, out *[]Field, named func(string) bool) error {
	if o, ok := v.(ast.Object); ok && o.Len() > maxFields {
		return fmt.Errorf(" has more than %d members", maxFields)
	}
	err := eachMember(v, func(name string, v ast.Value) error {
		value, ok := v.(ast.String)
		switch {
		case !named(name):
			return fmt.Errorf(" has %.64q, which is no name to use there", name)
		case !ok || !plain(string(value), maxFieldValue):
			return fmt.Errorf(".%s is not a printable string of at most %d bytes", name, maxFieldValue)
		}
		*out = append(*out, Field{strings.Clone(name), strings.Clone(string(value))})
		return nil
	})
	sortFields(*out)
	return err
}

// plain reports whether s holds no control characters, which would end a line
// of a head or a log. (RFC 9110 section 5.5 has them in no field value.)
func plain(s string, most int) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return false
		}
	}
	return len(s) <= most
}

func logName(s string) bool {
	return s != "" && len(s) <= maxFieldName &&
		strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789_") == ""
}

// reserved are header fields that frame the message, or say where it comes
// from: those are the gateway's alone.
var reserved = []string{
	"connection", "content-length", "expect", "forwarded", "host", "http2-settings", "keep-alive", "max-forwards",
	"proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "traceparent", "trailer", "transfer-encoding",
	"upgrade", "via", "x-real-ip", "x-request-id",
}

// settable reports whether policy may set or remove the field: a token in
// lower case (RFC 9110 section 5.6.2), and not the gateway's own. Backends that
// follow CGI read "_" as "-", so that it could stand for a reserved one.
func settable(s string) bool {
	const token = "abcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^`|~"
	return s != "" && len(s) <= maxFieldName && strings.Trim(s, token) == "" && !slices.Contains(reserved, s) &&
		!strings.HasPrefix(s, "x-gatehouse-") && !strings.HasPrefix(s, "x-forwarded-")
}
