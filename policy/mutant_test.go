package policy

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
)

// A mutant is an analysis that does not see one kind of reference: it is given
// rules from which the references of that kind were cut.
type mutant struct {
	name string
	// cut changes a copy of a body that the analysis is about to walk.
	cut func(*ast.Body)
	// head says that the heads of rules are not walked, elses that else
	// branches are not.
	head, elses bool
	// reads changes what was found.
	reads func(*usage)
}

// exprs replaces each expression by what f makes of it, in all bodies below b.
func exprs(f func(*ast.Expr)) func(*ast.Body) {
	return func(b *ast.Body) {
		ast.WalkExprs(*b, func(x *ast.Expr) bool {
			f(x)
			return false
		})
	}
}

// isNothing is what takes the place of what a mutant does not see.
func isNothing() *ast.Term { return ast.NullTerm() }

// terms replaces the terms that f names by nothing.
func terms(f func(*ast.Term) bool) func(*ast.Body) {
	return func(b *ast.Body) {
		ast.WalkTerms(*b, func(t *ast.Term) bool {
			if f(t) {
				t.Value = ast.Null{}
				return true
			}
			return false
		})
	}
}

func isInput(t *ast.Term) bool {
	r, ok := t.Value.(ast.Ref)
	return ok && r[0].Equal(ast.InputRootDocument)
}

// feeding cuts what the variables in the terms that f picks are given of the
// input: the compiler puts operands, values of with and keys into variables.
func feeding(f func(x *ast.Expr) []*ast.Term) func(*ast.Body) {
	return func(b *ast.Body) {
		vars := ast.NewVarSet()
		ast.WalkExprs(*b, func(x *ast.Expr) bool {
			for _, t := range f(x) {
				add(vars, t)
			}
			return false
		})
		unfeed(*b, vars)
	}
}

func add(vars ast.VarSet, t *ast.Term) {
	ast.WalkVars(t, func(v ast.Var) bool {
		vars.Add(v)
		return false
	})
}

func unfeed(b ast.Body, vars ast.VarSet) {
	ast.WalkExprs(b, func(x *ast.Expr) bool {
		if !x.IsEquality() {
			return false
		}
		ts := x.Terms.([]*ast.Term)
		for i := 1; i < 3; i++ {
			if v, ok := ts[3-i].Value.(ast.Var); ok && vars.Contains(v) && isInput(ts[i]) {
				ts[i] = isNothing()
			}
		}
		return false
	})
}

// operands are those of calls for which f holds.
func operands(f func(ast.Ref) bool) func(*ast.Expr) []*ast.Term {
	return func(x *ast.Expr) []*ast.Term {
		ts, ok := x.Terms.([]*ast.Term)
		if !ok || x.IsEquality() || !f(ts[0].Value.(ast.Ref)) {
			return nil
		}
		return ts[1:]
	}
}

// keys are the variables within references.
func keys(x *ast.Expr) []*ast.Term {
	var found []*ast.Term
	ast.WalkRefs(x, func(r ast.Ref) bool {
		for _, t := range r[1:] {
			if _, ok := t.Value.(ast.Var); ok {
				found = append(found, t)
			}
		}
		return false
	})
	return found
}

func isUser(name ast.Ref) bool { return name[0].Equal(ast.DefaultRootDocument) }

var mutants = []mutant{
	{name: "local aliases", cut: exprs(func(x *ast.Expr) {
		if !x.IsEquality() {
			return
		}
		ts := x.Terms.([]*ast.Term)
		for i := 1; i < 3; i++ {
			if _, local := ts[3-i].Value.(ast.Var); local && isInput(ts[i]) {
				ts[i] = isNothing()
			}
		}
	})},
	{name: "comparisons", cut: exprs(func(x *ast.Expr) {
		if x.IsEquality() {
			ts := x.Terms.([]*ast.Term)
			ts[1], ts[2] = isNothing(), isNothing()
		}
	})},
	{name: "arguments of functions", cut: feeding(operands(isUser))},
	{name: "operands of built-in functions", cut: feeding(operands(func(name ast.Ref) bool { return !isUser(name) }))},
	{name: "functions", cut: exprs(func(x *ast.Expr) {
		if ts, ok := x.Terms.([]*ast.Term); ok && !x.IsEquality() && isUser(ts[0].Value.(ast.Ref)) {
			x.Terms = isNothing()
		}
	})},
	{name: "walk", cut: feeding(operands(func(name ast.Ref) bool { return name.String() == "walk" }))},
	{name: "in", cut: feeding(operands(func(name ast.Ref) bool { return name.String() == "internal.member_2" }))},
	{name: "values of with", cut: feeding(func(x *ast.Expr) []*ast.Term {
		var values []*ast.Term
		for _, w := range x.With {
			values = append(values, w.Value)
		}
		return values
	})},
	{name: "what stands under with", cut: exprs(func(x *ast.Expr) {
		if len(x.With) > 0 {
			x.Terms = isNothing()
		}
	})},
	{name: "comprehensions", cut: terms(func(t *ast.Term) bool { return ast.IsComprehension(t.Value) })},
	{name: "every", cut: exprs(func(x *ast.Expr) {
		if e, ok := x.Terms.(*ast.Every); ok {
			e.Domain, e.Body = isNothing(), ast.NewBody(ast.NewExpr(ast.BooleanTerm(true)))
		}
	})},
	{name: "body of every", cut: exprs(func(x *ast.Expr) {
		if e, ok := x.Terms.(*ast.Every); ok {
			e.Body = ast.NewBody(ast.NewExpr(ast.BooleanTerm(true)))
		}
	})},
	{name: "negation", cut: exprs(func(x *ast.Expr) {
		if x.Negated {
			x.Terms = isNothing()
		}
	})},
	{name: "references with a variable", cut: terms(func(t *ast.Term) bool { return isInput(t) && !t.Value.(ast.Ref).IsGround() })},
	{name: "keys within references", cut: feeding(keys)},
	{name: "bare references", cut: exprs(func(x *ast.Expr) {
		if t, ok := x.Terms.(*ast.Term); ok && isInput(t) {
			x.Terms = isNothing()
		}
	})},
	{name: "rules referred to", cut: exprs(func(x *ast.Expr) {
		if t, ok := x.Terms.(*ast.Term); ok {
			if r, ok := t.Value.(ast.Ref); ok && isUser(r) {
				x.Terms = isNothing()
			}
		}
	})},
	{name: "references as they are, though only their beginning is constant", reads: func(u *usage) {
		for i := range u.paths {
			if len(u.paths[i].keys) > 2 {
				u.paths[i].keys = append(slices.Clone(u.paths[i].keys), ast.String("no such key"))
			}
		}
	}},
	{name: "time", reads: func(u *usage) { u.buckets = nil }},
	{name: "buckets, though they are larger", reads: func(u *usage) {
		for i := range u.buckets {
			u.buckets[i] *= 2
		}
	}},
	{name: "values of rules", head: true},
	{name: "else", elses: true},
}

// see is analyze, as m does it.
func (m *mutant) see(c *ast.Compiler, bs buckets, queries ...ast.Body) usage {
	a := &analysis{compiler: c, buckets: bs, seen: map[*ast.Rule]bool{}}
	for _, q := range queries {
		a.walk(q)
	}
	for len(a.work) > 0 {
		r := a.work[len(a.work)-1]
		if m.elses {
			cp := *r
			cp.Else, a.work[len(a.work)-1] = nil, &cp
		}
		a.next()
		r = r.Copy()
		if m.cut != nil {
			m.cut(&r.Body)
		}
		if m.head {
			vars := ast.NewVarSet()
			for _, t := range append(slices.Clone(r.Head.Reference[1:]), r.Head.Key, r.Head.Value) {
				if t != nil {
					add(vars, t)
				}
			}
			unfeed(r.Body, vars)
			a.walk(r.Body)
			continue
		}
		walkRule(r, a.walk)
	}
	if m.reads != nil {
		m.reads(&a.usage)
	}
	return a.usage
}

// TestMutantsAreCaught: an analysis that misses one kind of reference decides
// some module of those above wrongly, and the tests above see it. It is the
// measure of the tests: a kind that no module uses would pass unseen.
func TestMutantsAreCaught(t *testing.T) {
	c := patient
	c.Baseline = tenantModules("package gatehouse.baseline\nallow := true\n")
	e, err := NewEngine(c)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(9, 9))
	type subject struct {
		compiler *ast.Compiler
		buckets  buckets
		policy   *Policy
	}
	var subjects []subject
	for _, rules := range slices.Concat(coarse, adversarial) {
		s := parse(e.caps, adversarialModule(rules))
		comp := e.compiler(0)
		if comp.Compile(s.parsed); comp.Failed() {
			t.Fatal(comp.Errors)
		}
		subjects = append(subjects, subject{comp, s.buckets(), compiledFrom(t, e, rules)})
	}
	sound := mutant{name: "none"}
	for _, m := range append(mutants, sound) {
		caught, inputs := 0, 120
		if m.name == sound.name {
			inputs = 20 // TestSoundOnAdversarialModules takes more
		}
		for _, s := range subjects {
			prog := s.policy.own.program.Load()
			reads := m.see(s.compiler, s.buckets, prog.allow.body, prog.denial.body).readSet()
			if reads.uncached != "" {
				continue
			}
			q := e.newPolicy(s.policy.own)
			q.reads, q.ownDoc = reads, reads
			q.cache.limit = slotsFor(e.entries)
			if difference, _ := unsound(q, r, inputs); difference != "" {
				caught++
				break
			}
		}
		if (caught > 0) == (m.name == sound.name) {
			t.Errorf("%s: caught by %d modules", m.name, caught)
		}
	}
}
