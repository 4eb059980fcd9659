package policy

import "github.com/open-policy-agent/opa/v1/ast"

// maxReach bounds the rules times the pairs of a rule and one that it refers
// to. The compiler keeps each pair, and looks for recursion by following them
// from every rule: with ten million that takes about a second.
const maxReach = 10_000_000

// checkReach is a compiler stage, for before the compiler makes its graph.
func checkReach(c *ast.Compiler) *ast.Error {
	rules := 0
	for _, m := range c.Modules {
		ast.WalkRules(m, func(*ast.Rule) bool {
			rules++
			return false
		})
	}
	left := maxReach / max(1, rules)
	var over *ast.Location
	for _, m := range c.Modules {
		ast.WalkRefs(m, func(r ast.Ref) bool {
			if over == nil && r[0].Equal(ast.DefaultRootDocument) && len(r) > 1 {
				if left -= len(c.GetRulesDynamicWithOpts(r, ast.RulesOptions{IncludeHiddenModules: true})); left < 0 {
					over = r[0].Location
				}
			}
			return over != nil
		})
	}
	if left < 0 {
		return ast.NewError(ast.CompileErr, over, "too many rules refer to too many others")
	}
	return nil
}
