package policy

import (
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// Step is a rule that an evaluation tried.
type Step struct {
	// Rule is its full name, data.gatehouse.tenant.allow.
	Rule string `json:"rule"`
	// Module, Line and Column are where it begins.
	Module string `json:"module"`
	Line   int    `json:"line"`
	Column int    `json:"column"`
	// Holds says that its body held.
	Holds bool `json:"holds"`
	// Failed is the expression at which it last failed, and FailedLine its
	// place; empty if it holds.
	Failed     string `json:"failed,omitempty"`
	FailedLine int    `json:"failed_line,omitempty"`
}

// maxTraced bounds the steps that are recorded.
const maxTraced = 256

// trace records the rules that an evaluation tries: a topdown.QueryTracer.
type trace struct {
	steps []Step
	// of maps a query to the step of the rule that it belongs to.
	of map[uint64]int
	// inputs, unless nil, collects what the tenant's rules are asked of.
	inputs *inputs
}

func newTrace() *trace { return &trace{of: map[uint64]int{}} }

// Enabled is always true.
func (*trace) Enabled() bool { return true }

// Config asks for no variables.
func (*trace) Config() topdown.TraceConfig { return topdown.TraceConfig{} }

// TraceEvent records the step that e belongs to.
func (t *trace) TraceEvent(e topdown.Event) {
	switch n := e.Node.(type) {
	case *ast.Rule:
		t.rule(e, n)
	case *ast.Expr:
		i, ok := t.of[e.QueryID]
		if ok && e.Op == topdown.FailOp && n.Location != nil && !generated(n) {
			t.steps[i].Failed, t.steps[i].FailedLine = clip(string(n.Location.Text)), n.Location.Row
		}
	case ast.Body:
		// A comprehension, or the body of every: of the rule that it is in.
		if i, ok := t.of[e.ParentID]; ok && e.Op == topdown.EnterOp {
			t.of[e.QueryID] = i
		}
	}
}

func (t *trace) rule(e topdown.Event, r *ast.Rule) {
	switch e.Op {
	case topdown.EnterOp:
		if t.inputs != nil && r.Module != nil && r.Module.Package.Path.HasPrefix(tenantRoot) {
			t.inputs.add(e.Input())
		}
		if len(t.steps) >= maxTraced || r.Module == nil {
			return
		}
		s := Step{Rule: r.Ref().GroundPrefix().String()}
		if l := r.Location; l != nil {
			s.Module, s.Line, s.Column = strings.TrimPrefix(l.File, tenantPrefix), l.Row, l.Col
		}
		t.of[e.QueryID] = len(t.steps)
		t.steps = append(t.steps, s)
	case topdown.ExitOp:
		if i, ok := t.of[e.QueryID]; ok {
			t.steps[i].Holds, t.steps[i].Failed, t.steps[i].FailedLine = true, "", 0
		}
	}
}

// generated reports whether guard put x into the rule.
func generated(x *ast.Expr) bool {
	terms, ok := x.Terms.([]*ast.Term)
	if !ok || len(terms) == 0 {
		return false
	}
	name := terms[0].String()
	return name == checkName || name == growName
}
