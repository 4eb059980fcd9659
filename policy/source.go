package policy

import (
	"errors"
	"fmt"
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
)

// The packages of the two policies.
var (
	baselineRoot = ast.MustParseRef("data.gatehouse.baseline")
	tenantRoot   = ast.MustParseRef("data.gatehouse.tenant")
)

// File names in locations: which of the two a module belongs to.
const (
	baselinePrefix = "baseline/"
	tenantPrefix   = "tenant/"
)

// sources are a tenant's modules on their way to the compiler.
type sources struct {
	caps   *ast.Capabilities
	index  map[string]int // file name -> position in the tenant's list
	parsed map[string]*ast.Module
	faults gatehouse.Faults
}

// parse reads modules and refuses what can be refused without compiling.
func parse(caps *ast.Capabilities, modules []gatehouse.Module) *sources {
	s := &sources{caps: caps, index: map[string]int{}, parsed: map[string]*ast.Module{}}
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
		s.module(i, &modules[i])
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
		if i, ok := s.index[loc.File]; ok {
			f.Pointer = gatehouse.Pointer("modules", i, "source")
			f.Line, f.Column = loc.Row, loc.Col
		}
	}
	s.faults = append(s.faults, f)
}

func (s *sources) module(i int, m *gatehouse.Module) {
	at := gatehouse.Pointer("modules", i)
	file := tenantPrefix + m.Name
	if first, dup := s.index[file]; dup {
		s.faults = append(s.faults, gatehouse.Fault{
			Pointer: at + "/name", Also: gatehouse.Pointer("modules", first, "name"),
			Reason: "two modules have the same name",
		})
		return
	}
	s.index[file] = i
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
	s.parsed[file] = mod
	if !mod.Package.Path.HasPrefix(tenantRoot) {
		s.faultAt(mod.Package.Loc(), strings.TrimPrefix(mod.Package.String(), "package ")+" is not a tenant's package",
			"begin the module with: package gatehouse.tenant")
	}
	s.check(mod)
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

func (s *sources) checkRef(loc *ast.Location, ref ast.Ref) {
	if !ref[0].Equal(ast.DefaultRootDocument) || ref.HasPrefix(tenantRoot) {
		return
	}
	s.faultAt(loc, ref.String()+" is not the tenant's to read", "modules may read input and data.gatehouse.tenant")
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
