package policy

import (
	"strings"
	"unicode/utf8"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// Decision is the answer to one request. Decisions can be compared by ==, but
// for their Obligations, which are alike if Equal says so.
type Decision struct {
	// Allow is true only if every policy said so.
	Allow bool
	// Reason of a denial, as the denying policy gives it; at most 512 bytes.
	Reason string
	// Public says that Reason may be told to the caller.
	Public bool
	// Status is the HTTP status of a denial, 400 to 499.
	Status int
	// By is whose word the decision is: ByBaseline or ByTenant.
	By string
	// Obligations are what the policies ask for beside; nil: nothing.
	Obligations *Obligations
	// Err says why the policy could not be evaluated; the request is denied.
	Err error
}

// Values of Decision.By.
const (
	ByBaseline = "baseline"
	ByTenant   = "tenant"
)

const (
	deniedStatus = 403
	stepUpStatus = 401
	maxReason    = 512
)

// Equal reports whether the two answer a request alike, failures apart: of
// those it compares only that there is one.
func (d Decision) Equal(other Decision) bool {
	alike := (d.Err == nil) == (other.Err == nil) && d.Obligations.equal(other.Obligations)
	d.Err, other.Err, d.Obligations, other.Obligations = nil, nil, nil, nil
	return alike && d == other
}

// denial reads what a policy says of its denial; values of another type or
// out of range are passed over.
func denial(by string, answer topdown.QueryResult) Decision {
	d := Decision{Status: deniedStatus, By: by}
	if s, ok := only(answer, reasonVar).(ast.String); ok {
		d.Reason = clip(string(s))
	}
	if b, ok := only(answer, publicVar).(ast.Boolean); ok {
		d.Public = bool(b)
	}
	if n, ok := only(answer, statusVar).(ast.Number); ok {
		if status, ok := n.Int(); ok && 400 <= status && status <= 499 {
			d.Status = status
		}
	}
	return d
}

// only returns the single element of the array at v, else nil.
func only(answer topdown.QueryResult, v ast.Var) ast.Value {
	if t := answer[v]; t != nil {
		if a, ok := t.Value.(*ast.Array); ok && a.Len() == 1 {
			return a.Elem(0).Value
		}
	}
	return nil
}

// clip copies s, cut at a rune to what a log line holds.
func clip(s string) string {
	n := len(s)
	if n > maxReason {
		for n = maxReason; n > 0 && !utf8.RuneStart(s[n]); n-- {
		}
	}
	return strings.Clone(s[:n])
}
