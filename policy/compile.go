package policy

import (
	"maps"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/open-policy-agent/opa/v1/ast"
)

// program is the compiled form of the baseline and one set of modules.
// Read-only once made.
type program struct {
	compiler *ast.Compiler
	tenant   bool  // has modules of its own
	allow    query // both policies allow
	// denied gives reason, public and status: by the tenant (only if the
	// baseline allows), and by the baseline.
	deniedByTenant, deniedByBaseline query
	reads                            readSet
	warnings                         gatehouse.Faults
}

type query struct {
	body     ast.Body
	compiler ast.QueryCompiler
}

// Variables of the denial queries.
const (
	reasonVar = ast.Var("reasons")
	publicVar = ast.Var("publics")
	statusVar = ast.Var("statuses")
)

const (
	baselineAllows = "data.gatehouse.baseline.allow == true"
	tenantAllows   = "data.gatehouse.tenant.allow == true"
)

// denialOf queries what the package at root says of its denial.
func denialOf(root string) string {
	return "reasons = [x | x = " + root + ".reason]; publics = [x | x = " + root + ".public]; statuses = [x | x = " + root + ".status]"
}

// compile returns nil and the faults of modules, or a program.
func (e *Engine) compile(modules []gatehouse.Module) (*program, gatehouse.Faults) {
	s := parse(e.caps, modules)
	if len(s.faults) > 0 {
		return nil, s.faults
	}
	all := maps.Clone(e.baseline)
	maps.Copy(all, s.parsed)
	c := ast.NewCompiler().WithCapabilities(e.caps).WithStrict(true).WithDefaultRegoVersion(ast.RegoV1).
		WithStageAfterID(ast.StageCheckRecursion, ast.CompilerStageDefinition{
			Name: "CheckTypeSizes", MetricName: "compile_stage_check_type_sizes", Stage: checkTypeSizes,
		})
	if c.Compile(all); c.Failed() {
		s.failed(c.Errors)
		return nil, s.faults
	}
	p := &program{compiler: c, tenant: len(modules) > 0}
	allow := baselineAllows
	if p.tenant {
		allow += "; " + tenantAllows
	}
	p.allow = s.query(c, allow)
	p.deniedByTenant = s.query(c, baselineAllows+"; "+denialOf(tenantRoot.String()))
	p.deniedByBaseline = s.query(c, denialOf(baselineRoot.String()))
	if len(s.faults) > 0 {
		return nil, s.faults
	}
	p.reads = analyze(c, p.allow.body, p.deniedByTenant.body, p.deniedByBaseline.body)
	if guard(s, c, e.guards); len(s.faults) > 0 {
		return nil, s.faults
	}
	if p.reads.uncached != "" {
		s.faultAt(p.reads.place, "decisions cannot be kept, each request is evaluated: "+p.reads.uncached, "")
		s.faults[0].Warning = true
		p.warnings = s.faults
	}
	return p, nil
}

func (s *sources) query(c *ast.Compiler, text string) query {
	qc := c.QueryCompiler()
	body, err := qc.Compile(ast.MustParseBody(text))
	if err != nil {
		s.failed(err)
	}
	return query{body, qc}
}

// walkRule calls walk for each part of r, but not for else branches.
func walkRule(r *ast.Rule, walk func(any)) {
	for _, t := range r.Head.Args {
		walk(t)
	}
	for _, t := range r.Head.Reference {
		walk(t)
	}
	if r.Head.Key != nil {
		walk(r.Head.Key)
	}
	if r.Head.Value != nil {
		walk(r.Head.Value)
	}
	walk(r.Body)
}
