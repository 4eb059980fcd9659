package policy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// Authorizer decides by modules of its own about any document: who may do what
// at the control API. It is safe for concurrent use.
type Authorizer struct {
	engine  *Engine
	program *program
}

// operatorsRoot is the package of operators' modules.
var operatorsRoot = ast.MustParseRef("data.gatehouse.operators")

// authorizeTime bounds one decision of an Authorizer, as it bounds no request
// of a tenant it may be generous. Its steps are those of the Engine.
const authorizeTime = 250 * time.Millisecond

// Authorizer compiles modules in package gatehouse.operators, which are
// trusted and define allow and reason. They read input and their own package.
func (e *Engine) Authorizer(modules []gatehouse.Module) (*Authorizer, error) {
	s := newSources(e.caps, operatorsRoot)
	for i, m := range modules {
		if _, twice := s.places[m.Name]; twice {
			return nil, fmt.Errorf("policy: module %q is given twice", m.Name)
		}
		s.places[m.Name] = gatehouse.Pointer("operators", i)
		mod, err := ast.ParseModuleWithOpts(m.Name, m.Source, ast.ParserOptions{Capabilities: e.caps, RegoVersion: ast.RegoV1})
		if err != nil {
			return nil, fmt.Errorf("policy: %w", err)
		}
		if !mod.Package.Path.HasPrefix(operatorsRoot) {
			return nil, fmt.Errorf("policy: module %q is in %v, not in package gatehouse.operators", m.Name, mod.Package)
		}
		s.parsed[m.Name] = mod
		s.check(mod)
	}
	var p *program
	if len(s.faults) == 0 {
		p, _ = e.program(s, operatorsRoot, "operators", e.compileTime)
	}
	if p == nil {
		return nil, fmt.Errorf("policy: compile the operators' modules: %w", s.faults)
	}
	return &Authorizer{e, p}, nil
}

// Decide decides about input, which is taken as its JSON. It is bounded in
// steps and time; what cannot be decided is not allowed, and an error.
func (a *Authorizer) Decide(ctx context.Context, input any) (allow bool, reason string, err error) {
	text, err := json.Marshal(input)
	if err != nil {
		return false, "", fmt.Errorf("policy: input: %w", err)
	}
	value, err := ast.ValueFromReader(bytes.NewReader(text))
	if err != nil {
		return false, "", fmt.Errorf("policy: input: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return false, "", err
	}
	defer func() {
		if r := recover(); r != nil {
			allow, err = false, fmt.Errorf("policy: evaluation panicked: %v", r)
		}
	}()
	var ev evaluation
	ev.begin(a.engine)
	ev.budget.deadline = time.Now().Add(authorizeTime)
	d, err := ev.decide(a.engine, a.program, ast.NewTerm(value), time.Now())
	if topdown.IsCancel(err) || errors.Is(err, ErrBudget) {
		err = ErrBudget
	}
	if err != nil {
		return false, "", err
	}
	return d.Allow, d.Reason, nil
}
