package policy

import "github.com/open-policy-agent/opa/v1/ast"

// Bounds of the work that OPA's type checker is given. It compares types part
// by part, as if none were shared, and arrays and objects twice over, so that
// its work doubles with each rule that uses another's value twice, and with
// each level of nesting.
const (
	maxTypeSize = 1 << 20 // of one value
	maxTypeWork = 1 << 25 // over all expressions
)

// typeSizes estimates, from above, the work to compare the types that the
// checker will infer. It runs right before it, when the compiler has refused
// recursion and put the operands of calls into variables.
type typeSizes struct {
	compiler *ast.Compiler
	rules    map[*ast.Rule]int
	vars     map[ast.Var]int // of the rule at hand; the compiler made names unique
	work     int
	over     *ast.Location
}

// checkTypeSizes is a compiler stage.
func checkTypeSizes(c *ast.Compiler) *ast.Error {
	s := &typeSizes{compiler: c, rules: map[*ast.Rule]int{}}
	for _, mod := range c.Modules {
		for _, r := range mod.Rules {
			s.rule(r)
			if s.work > maxTypeWork {
				s.over = r.Location
			}
			if s.over != nil {
				return ast.NewError(ast.CompileErr, s.over, "value is too large or too often used in others to be checked")
			}
		}
	}
	return nil
}

// cap keeps sums from overflowing.
func (s *typeSizes) cap(n int) int { return min(n, maxTypeSize+1) }

// rule returns the size of what r, or one of its else branches, defines.
func (s *typeSizes) rule(r *ast.Rule) int {
	if n, ok := s.rules[r]; ok || s.over != nil {
		return n
	}
	outer := s.vars
	s.vars = map[ast.Var]int{}
	s.body(r.Body)
	n := 0
	for _, t := range append(r.Head.Reference[:len(r.Head.Reference):len(r.Head.Reference)], r.Head.Key, r.Head.Value) {
		if t != nil && !ast.IsScalar(t.Value) {
			n = s.cap(n + s.term(t))
		}
	}
	n = max(1, n)
	s.vars = outer
	if r.Else != nil {
		n = s.cap(2 * (n + s.rule(r.Else)))
	}
	if n > maxTypeSize && s.over == nil {
		s.over = r.Location
	}
	s.rules[r] = n
	return n
}

func (s *typeSizes) body(b ast.Body) {
	for _, x := range b {
		s.expr(x)
	}
}

func (s *typeSizes) expr(x *ast.Expr) {
	for _, w := range x.With {
		s.use(x, w.Value)
	}
	switch terms := x.Terms.(type) {
	case *ast.Term:
		s.use(x, terms)
	case *ast.Every:
		n := s.use(x, terms.Domain)
		s.bind(terms.Key, n)
		s.bind(terms.Value, n)
		s.body(terms.Body)
	case []*ast.Term:
		if x.IsEquality() {
			a, b := s.use(x, terms[1]), s.use(x, terms[2])
			s.bind(terms[1], b)
			s.bind(terms[2], a)
			return
		}
		result := 8 // as built-in functions declare them
		if ref, ok := terms[0].Value.(ast.Ref); ok && ref[0].Equal(ast.DefaultRootDocument) {
			result = s.ref(ref)
		}
		for _, t := range terms[1:] {
			s.use(x, t)
		}
		s.bind(terms[len(terms)-1], result)
	}
}

// use counts the work for a term of x.
func (s *typeSizes) use(x *ast.Expr, t *ast.Term) int {
	n := s.term(t)
	s.work += n
	if n > maxTypeSize && s.over == nil {
		s.over = x.Location
	}
	return n
}

// bind gives the variables of a pattern the size of what it is unified with.
func (s *typeSizes) bind(t *ast.Term, n int) {
	if t == nil {
		return
	}
	ast.WalkVars(t, func(v ast.Var) bool {
		s.vars[v] = max(s.vars[v], n)
		return false
	})
}

func (s *typeSizes) term(t *ast.Term) int {
	switch v := t.Value.(type) {
	case ast.Var:
		return max(1, s.vars[v])
	case ast.Ref:
		return s.ref(v)
	case *ast.Array:
		n := 0
		v.Foreach(func(t *ast.Term) { n = s.cap(n + s.term(t)) })
		return s.cap(1 + 2*n)
	case ast.Set:
		n := 0
		v.Foreach(func(t *ast.Term) { n = s.cap(n + s.term(t)) })
		return s.cap(1 + n)
	case ast.Object:
		n := 0
		v.Foreach(func(k, t *ast.Term) { n = s.cap(n + s.term(k) + s.term(t)) })
		return s.cap(1 + 2*n)
	case *ast.ArrayComprehension:
		s.body(v.Body)
		return s.cap(1 + 2*s.term(v.Term))
	case *ast.SetComprehension:
		s.body(v.Body)
		return s.cap(1 + s.term(v.Term))
	case *ast.ObjectComprehension:
		s.body(v.Body)
		return s.cap(1 + 2*(s.term(v.Key)+s.term(v.Value)))
	}
	return 1
}

// ref counts every rule that the reference could stand for or reach into: a
// union of their types, in an object for each name below the reference.
func (s *typeSizes) ref(r ast.Ref) int {
	if !r[0].Equal(ast.DefaultRootDocument) {
		if v, ok := r[0].Value.(ast.Var); ok {
			return max(1, s.vars[v])
		}
		return 1
	}
	total, composite := 0, 0
	for _, rule := range s.compiler.GetRulesDynamicWithOpts(r, ast.RulesOptions{IncludeHiddenModules: true}) {
		if n := s.rule(rule); n > 1 {
			composite++
			total = s.cap(total + n<<min(20, max(0, len(rule.Ref().GroundPrefix())-len(r))))
		}
	}
	return s.cap(1 + composite*total)
}
