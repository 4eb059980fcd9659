package policy

import (
	"fmt"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// guarding rewrites compiled rules so that no value outgrows maxValue, or what
// maxGrown allows. Values share their parts, so a dozen lines can make one that
// has 10^12 elements when it is compared, and OPA compares without looking at
// the budget, by recursion. What values grow by is
//
//   - built-in functions: calls get their guarded names, which only the
//     evaluator knows (OPA prefers its own function for a name that it has);
//   - comprehensions, and rules that build sets and objects: each element is
//     checked as it is added;
//   - literals with two variables or more, wherever they stand;
//   - references to all the rules below a name: the variable that takes the
//     value is checked;
//   - with, which copies input: input is checked first.
//
// The compiler has put the operands of calls into variables; nothing after
// compilation looks at what is rewritten here.
type guarding struct {
	sources  *sources
	compiler *ast.Compiler
	known    func(name string) bool
	fresh    int
}

func guard[B any](s *sources, c *ast.Compiler, guards map[string]B) {
	g := &guarding{sources: s, compiler: c, known: func(name string) bool { _, ok := guards[name]; return ok }}
	for _, mod := range c.Modules {
		for _, r := range mod.Rules {
			for ; r != nil; r = r.Else {
				r.Body = g.body(r.Body, g.head(r)...)
			}
		}
	}
}

func call(name string, t *ast.Term) *ast.Expr {
	return &ast.Expr{Terms: []*ast.Term{{Value: ast.Ref{ast.VarTerm(name)}}, t}, Location: t.Location}
}

// head returns the checks of what r defines, for the end of its body.
func (g *guarding) head(r *ast.Rule) []*ast.Expr {
	var parts []*ast.Term
	grows := false
	keys := slices.Clone(r.Head.Reference[min(1, len(r.Head.Reference)):])
	if r.Head.RuleKind() == ast.MultiValue {
		keys = append(keys, r.Head.Key)
	}
	for _, t := range keys {
		if !t.IsGround() {
			parts, grows = append(parts, t), true
		}
	}
	if v := r.Head.Value; v != nil && (grows || variables(v) > 1) {
		parts = append(parts, v)
	}
	switch {
	case grows:
		return []*ast.Expr{call(growName, ast.ArrayTerm(parts...))}
	case len(parts) > 0:
		return []*ast.Expr{call(checkName, parts[0])}
	}
	return nil
}

func (g *guarding) body(b ast.Body, tail ...*ast.Expr) ast.Body {
	out := make([]*ast.Expr, 0, len(b)+len(tail))
	for _, x := range b {
		before, after := g.expr(x)
		out = append(append(append(out, before...), x), after...)
	}
	return ast.NewBody(append(out, tail...)...)
}

// expr rewrites x and returns the checks to make before and after it.
func (g *guarding) expr(x *ast.Expr) (before, after []*ast.Expr) {
	ast.NewGenericVisitor(func(n any) bool {
		switch n := n.(type) {
		case *ast.ArrayComprehension:
			n.Body = g.body(n.Body, call(growName, n.Term))
		case *ast.SetComprehension:
			n.Body = g.body(n.Body, call(growName, n.Term))
		case *ast.ObjectComprehension:
			n.Body = g.body(n.Body, call(growName, ast.ArrayTerm(n.Key, n.Value)))
		case *ast.Every:
			n.Body = g.body(n.Body)
		case ast.Call:
			g.sources.faultAt(x.Loc(), "call within an expression", "")
			return true
		default:
			return false
		}
		return true
	}).Walk(x)

	if len(x.With) > 0 {
		g.fresh++
		input := ast.VarTerm(fmt.Sprint(guardPrefix, g.fresh))
		before = append(before, ast.Equality.Expr(input, ast.NewTerm(ast.Ref{ast.InputRootDocument})), call(checkName, input))
		for _, w := range x.With {
			if variables(w.Value) > 1 {
				before = append(before, call(checkName, w.Value))
			}
		}
	}
	terms, ok := x.Terms.([]*ast.Term)
	switch {
	case !ok:
	case x.IsEquality():
		after = g.equality(x, terms[1], terms[2])
	default:
		op, arity := g.call(terms)
		for _, t := range terms[1:min(len(terms), 1+arity)] {
			if variables(t) > 1 {
				before = append(before, call(checkName, t))
			}
		}
		terms[0] = op
	}
	return before, after
}

// call returns the guarded operator of a call, and how many operands are not
// its output. A call to anything but a plain built-in, a guarded one or a
// function in data is a fault.
func (g *guarding) call(terms []*ast.Term) (op *ast.Term, arity int) {
	op = terms[0]
	ref, ok := op.Value.(ast.Ref)
	if !ok {
		g.sources.faultAt(op.Loc(), "call of a computed function", "")
		return op, 0
	}
	if ref[0].Equal(ast.DefaultRootDocument) {
		for _, r := range g.compiler.GetRulesExact(ref) {
			arity = len(r.Head.Args)
		}
		return op, arity
	}
	name := ref.String()
	if b := ast.BuiltinMap[name]; b != nil {
		arity = b.Decl.Arity()
	}
	scalar := func(t *ast.Term) bool { return ast.IsScalar(t.Value) }
	switch {
	case slices.Contains(plainBuiltins, name):
	case slices.Contains(comparisons, name) && slices.ContainsFunc(terms[1:], scalar):
	case g.known(guardPrefix + name):
		op = &ast.Term{Value: ast.Ref{ast.VarTerm(guardPrefix + name)}, Location: op.Location}
	default:
		g.sources.faultAt(op.Loc(), "call of "+name, "")
	}
	return op, arity
}

// maxCompared bounds the variables in a literal that is compared to another.
const maxCompared = 8

// equality returns the check of the variable that x gives a value. Comparing
// is bounded by the smaller side: only where both may be large it is a fault.
func (g *guarding) equality(x *ast.Expr, a, b *ast.Term) []*ast.Expr {
	_, aVar := a.Value.(ast.Var)
	_, bVar := b.Value.(ast.Var)
	switch {
	case aVar && !bVar && g.grows(b):
		return []*ast.Expr{call(checkName, a)}
	case bVar && !aVar && g.grows(a):
		return []*ast.Expr{call(checkName, b)}
	case !aVar && !bVar && g.large(a) && g.large(b):
		g.sources.faultAt(x.Loc(), "comparison of two values of no known size", "give one side a name: x := ...")
	}
	return nil
}

// grows reports whether t may be larger than what is checked already.
func (g *guarding) grows(t *ast.Term) bool {
	if ref, ok := t.Value.(ast.Ref); ok {
		return g.collects(ref)
	}
	return variables(t) > 1
}

// large reports whether t may be so large that it is not to be compared to
// another such.
func (g *guarding) large(t *ast.Term) bool {
	if ref, ok := t.Value.(ast.Ref); ok {
		return g.collects(ref)
	}
	return variables(t) > maxCompared
}

// collects reports whether a reference stands for an object of several rules'
// values.
func (g *guarding) collects(ref ast.Ref) bool {
	if !ref[0].Equal(ast.DefaultRootDocument) {
		return false
	}
	prefix := ref.ConstantPrefix()
	for n := range len(prefix) {
		if exact := g.compiler.GetRulesExact(prefix[:n+1]); len(exact) > 0 {
			return len(g.compiler.GetRulesWithPrefix(prefix[:n+1])) != len(exact)
		}
	}
	return true
}

// variables counts the places in an array, object or set where a variable
// stands.
func variables(t *ast.Term) int {
	switch t.Value.(type) {
	case *ast.Array, ast.Object, ast.Set:
	default:
		return 0
	}
	n := 0
	ast.NewGenericVisitor(func(x any) bool {
		switch x.(type) {
		case ast.Var, ast.Ref:
			n++
			return true
		case *ast.ArrayComprehension, *ast.ObjectComprehension, *ast.SetComprehension:
			n += 2
			return true
		}
		return false
	}).Walk(t)
	return n
}
