package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/open-policy-agent/opa/v1/ast"
)

// Bounds of a tenant's modules.
const (
	MaxModules     = 64
	MaxModuleBytes = 256 << 10
	MaxPolicyBytes = 512 << 10 // of all modules of a tenant
	maxRules       = 2000
	maxNesting     = 64
	maxBody        = 256 // expressions
	// maxNodes bounds what the parser makes of all modules: compiling takes some
	// four microseconds for each node at worst.
	maxNodes = 250_000
)

// The packages of the two policies.
var (
	baselineRoot = ast.MustParseRef("data.gatehouse.baseline")
	tenantRoot   = ast.MustParseRef("data.gatehouse.tenant")
)

// tenantPrefix begins the file names of a tenant's modules in locations.
const tenantPrefix = "tenant/"

// sources are a tenant's modules on their way to the compiler.
type sources struct {
	caps   *ast.Capabilities
	roots  []ast.Ref         // what the modules may read beside input; the first is the policy's
	places map[string]string // file name -> JSON pointer of the module
	parsed map[string]*ast.Module
	nodes  int // of parsed
	faults gatehouse.Faults
}

func newSources(caps *ast.Capabilities, roots ...ast.Ref) *sources {
	return &sources{caps: caps, roots: roots, places: map[string]string{}, parsed: map[string]*ast.Module{}}
}

// parse reads modules and refuses what can be refused without compiling.
func parse(caps *ast.Capabilities, modules []gatehouse.Module) *sources {
	s := newSources(caps, tenantRoot)
	total := 0
	for i := range modules {
		total += len(modules[i].Source)
	}
	switch {
	case len(modules) > MaxModules:
		s.fault("/modules", fmt.Sprintf("%d modules are more than %d", len(modules), MaxModules), "")
		return s
	case total > MaxPolicyBytes:
		s.fault("/modules", fmt.Sprintf("%d bytes of modules are more than %d", total, MaxPolicyBytes), "")
		return s
	}
	for i := range modules {
		s.module("modules", i, &modules[i])
	}
	if len(modules) > 0 && len(s.faults) == 0 {
		s.whole()
	}
	return s
}

func (s *sources) fault(pointer, reason, hint string) {
	s.faults = append(s.faults, gatehouse.Fault{Pointer: pointer, Reason: reason, Hint: hint})
}

// faultAt reports a fault at a place in the tenant's sources.
func (s *sources) faultAt(loc *ast.Location, reason, hint string) {
	f := gatehouse.Fault{Pointer: "/modules", Reason: reason, Hint: hint}
	if loc != nil {
		if at, ok := s.places[loc.File]; ok {
			f.Pointer = at + "/source"
			f.Line, f.Column = loc.Row, loc.Col
		}
	}
	s.faults = append(s.faults, f)
}

// module reads one of list, which is modules or tests.
func (s *sources) module(list string, i int, m *gatehouse.Module) {
	at := gatehouse.Pointer(list, i)
	file := tenantPrefix + m.Name
	if first, dup := s.places[file]; dup {
		s.faults = append(s.faults, gatehouse.Fault{
			Pointer: at + "/name", Also: first + "/name",
			Reason: "two modules have the same name",
		})
		return
	}
	s.places[file] = at
	if len(m.Source) > MaxModuleBytes {
		s.fault(at+"/source", fmt.Sprintf("%d bytes are more than %d", len(m.Source), MaxModuleBytes), "")
		return
	}
	if line, column := tooDeep(m.Source); line > 0 {
		s.faults = append(s.faults, gatehouse.Fault{
			Pointer: at + "/source", Line: line, Column: column,
			Reason: fmt.Sprintf("brackets or operators nest deeper than %d", maxNesting),
		})
		return
	}
	if strings.TrimSpace(m.Source) == "" {
		s.fault(at+"/source", "module source is missing", "")
		return
	}
	mod, err := ast.ParseModuleWithOpts(file, m.Source, ast.ParserOptions{Capabilities: s.caps, RegoVersion: ast.RegoV1})
	if err != nil {
		s.failed(err)
		return
	}
	if mod == nil {
		s.fault(at+"/source", "module is empty", "")
		return
	}
	if s.nodes += nodes(mod); s.nodes > maxNodes {
		s.fault("/modules", fmt.Sprintf("the modules have more than %d terms and expressions", maxNodes), "")
		return
	}
	s.parsed[file] = mod
	if !s.mine(mod.Package.Path) {
		s.faultAt(mod.Package.Loc(), strings.TrimPrefix(mod.Package.String(), "package ")+" is not a tenant's package",
			"begin the module with: package gatehouse.tenant")
	}
	s.check(mod)
}

// nodes counts the nodes of a module's tree.
func nodes(m *ast.Module) int {
	n := 0
	ast.NewGenericVisitor(func(any) bool {
		n++
		return false
	}).Walk(m)
	return n
}

// failed reports an error of OPA's parser or compiler.
func (s *sources) failed(err error) {
	errs, ok := errors.AsType[ast.Errors](err)
	if e, one := errors.AsType[*ast.Error](err); one && !ok {
		errs, ok = ast.Errors{e}, true
	}
	if !ok {
		s.fault("/modules", err.Error(), "")
		return
	}
	for _, e := range errs {
		hint := ""
		if name, ok := strings.CutPrefix(e.Message, "undefined function "); ok && ast.BuiltinMap[name] != nil {
			hint = "this built-in function is not available to policies"
		}
		s.faultAt(e.Location, e.Message, hint)
	}
}

// whole checks what no single module shows.
func (s *sources) whole() {
	rules, allow := 0, false
	for _, mod := range s.parsed {
		rules += len(mod.Rules)
		for _, r := range mod.Rules {
			ref := r.Head.Ref()
			allow = allow || mod.Package.Path.Equal(tenantRoot) && len(r.Head.Args) == 0 &&
				len(ref) == 1 && ref[0].Value.Compare(ast.Var("allow")) == 0
		}
	}
	if rules > maxRules {
		s.fault("/modules", fmt.Sprintf("%d rules are more than %d", rules, maxRules), "")
	}
	if !allow {
		s.fault("/modules", "no rule gatehouse.tenant.allow: every request would be denied", "add: default allow := false")
	}
}

// check refuses what the compiler would take: reading other documents than
// input and the tenant's own, replacing functions and data, and numbers whose
// arithmetic has no bound.
func (s *sources) check(node any) {
	ast.NewGenericVisitor(func(x any) bool {
		switch x := x.(type) {
		case *ast.Package:
			return true
		case ast.Body:
			if len(x) > maxBody {
				s.faultAt(x.Loc(), fmt.Sprintf("a body of %d expressions is longer than %d", len(x), maxBody), "split it into rules")
			}
		case *ast.With:
			if ref, ok := x.Target.Value.(ast.Ref); !ok || !ref[0].Equal(ast.InputRootDocument) {
				if !x.Target.Equal(ast.InputRootDocument) {
					s.faultAt(x.Loc(), "with may replace input only", "")
				}
			}
		case *ast.Term:
			switch v := x.Value.(type) {
			case ast.Ref:
				s.checkRef(x.Loc(), v)
				if _, ok := v[0].Value.(ast.Var); !ok {
					s.check(v[0]) // a call or a literal
				}
				for _, t := range v[1:] {
					s.check(t)
				}
				return true
			case ast.Var:
				if v.Equal(ast.DefaultRootDocument.Value) {
					s.checkRef(x.Loc(), ast.Ref{x})
				}
			case ast.Number:
				if !saneNumber(string(v)) {
					s.faultAt(x.Loc(), "number is too large", fmt.Sprintf("at most %d characters and an exponent of %d digits", maxNumberText, maxNumberExponent))
				}
			}
		}
		return false
	}).Walk(node)
}

func (s *sources) mine(ref ast.Ref) bool { return slices.ContainsFunc(s.roots, ref.HasPrefix) }

func (s *sources) checkRef(loc *ast.Location, ref ast.Ref) {
	if !ref[0].Equal(ast.DefaultRootDocument) || s.mine(ref) {
		return
	}
	whose := "tenant"
	if s.roots[0].Equal(baselineRoot) {
		whose = "baseline"
	}
	s.faultAt(loc, ref.String()+" is not the "+whose+"'s to read", "modules may read input and "+s.roots[0].String())
}

// tooDeep returns the place where source nests deeper than maxNesting, before
// the parser recurses that deep; 0, 0 if none. Text in strings and comments
// is passed over. Runs of operators count as well: the parser recurses along
// not not …, - - …, and a + b + … .
func tooDeep(source string) (line, column int) {
	// chain bounds the operators within one pair of brackets and line.
	const maxChain = 256
	depth, chain := 0, 0
	line, column = 1, 0
	for i := 0; i < len(source); i++ {
		column++
		switch c := source[i]; c {
		case '\n':
			line, column, chain = line+1, 0, 0
		case '#':
			for i+1 < len(source) && source[i+1] != '\n' {
				i++
			}
		case '"', '`':
			for i++; i < len(source) && source[i] != c; i++ {
				column++
				if source[i] == '\\' && c == '"' {
					i, column = i+1, column+1
				}
				if i < len(source) && source[i] == '\n' {
					line, column = line+1, 0
				}
			}
		case '(', '[', '{':
			depth++
		case ')', ']', '}':
			depth = max(0, depth-1)
		case '+', '-', '*', '/', '%', '|', '&', '.', ':', '=', '<', '>', '!':
			chain++
		}
		if depth > maxNesting || chain > maxChain {
			return line, max(1, column)
		}
	}
	return 0, 0
}
