package policy

import (
	"fmt"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// program is the compiled form of the baseline, or of a tenant's modules.
// Read-only once made.
type program struct {
	compiler *ast.Compiler
	by       string // whose word its decisions are
	allow    query  // holds if it allows
	denial   query  // what it says of a denial
	obliges  bool   // it has a rule obligations; both queries ask for it
}

type query struct {
	body     ast.Body
	compiler ast.QueryCompiler
	free     pool[topdown.Query]
}

// Variables of the queries.
const (
	reasonVar     = ast.Var("reasons")
	publicVar     = ast.Var("publics")
	statusVar     = ast.Var("statuses")
	obligationVar = ast.Var("obligations")
)

// program compiles s, in which root is defined. It returns nil if there are
// faults, which are in s then. Limit bounds the time, unless 0.
func (e *Engine) program(s *sources, root ast.Ref, by string, limit time.Duration) (*program, usage) {
	bs := s.buckets()
	if len(s.faults) > 0 {
		return nil, usage{}
	}
	c := e.compiler(limit)
	if c.Compile(s.parsed); c.Failed() {
		s.failed(c.Errors)
		return nil, usage{}
	}
	p := &program{compiler: c, by: by}
	obligations := root.Append(ast.StringTerm("obligations"))
	p.obliges = len(c.GetRules(obligations)) > 0
	allow := root.String() + ".allow == true"
	denial := fmt.Sprintf("reasons = [x | x = %[1]v.reason]; publics = [x | x = %[1]v.public]; statuses = [x | x = %[1]v.status]", root)
	if p.obliges {
		asked := fmt.Sprintf("; obligations = [x | x = %v]", obligations)
		allow, denial = allow+asked, denial+asked
	}
	s.query(c, &p.allow, allow)
	s.query(c, &p.denial, denial)
	if len(s.faults) > 0 {
		return nil, usage{}
	}
	u := analyze(c, bs, p.allow.body, p.denial.body)
	if guard(s, c, e.guards); len(s.faults) > 0 {
		return nil, usage{}
	}
	return p, u
}

// lateStages are those after which the time is looked at: all before them
// walk the modules a fixed number of times.
var lateStages = [...]ast.StageID{
	ast.StageRewriteLocalVars, ast.StageRewriteExprTerms, ast.StageSetGraph, ast.StageRewriteWithValues,
	ast.StageCheckSafetyRuleBodies, ast.StageRewriteDynamicTerms, ast.StageCheckRecursion, ast.StageCheckTypes,
}

func (e *Engine) compiler(limit time.Duration) *ast.Compiler {
	c := ast.NewCompiler().WithCapabilities(e.caps).WithStrict(true).WithDefaultRegoVersion(ast.RegoV1).
		WithStageAfterID(ast.StageRewriteRegoMetadataCalls, ast.CompilerStageDefinition{
			Name: "CheckReach", MetricName: "compile_stage_check_reach", Stage: checkReach,
		}).
		WithStageAfterID(ast.StageCheckRecursion, ast.CompilerStageDefinition{
			Name: "CheckTypeSizes", MetricName: "compile_stage_check_type_sizes", Stage: checkTypeSizes,
		})
	if limit == 0 {
		return c
	}
	end := time.Now().Add(limit)
	late := func(*ast.Compiler) *ast.Error {
		if time.Now().Before(end) {
			return nil
		}
		return ast.NewError(ast.CompileErr, nil, "compiling takes longer than %v", limit)
	}
	for _, stage := range lateStages {
		c.WithStageAfterID(stage, ast.CompilerStageDefinition{
			Name: "CheckTimeAfter" + string(stage), MetricName: "compile_stage_check_time", Stage: late,
		})
	}
	return c
}

func (s *sources) query(c *ast.Compiler, q *query, text string) {
	qc := c.QueryCompiler()
	body, err := qc.Compile(ast.MustParseBody(text))
	if err != nil {
		s.failed(err)
	}
	q.body, q.compiler = body, qc
}

// size estimates the memory of p in bytes.
func (p *program) size() int {
	n := 0
	for _, m := range p.compiler.Modules {
		n += nodes(m)
	}
	return programBytes + nodeBytes*n
}

// What a compiled program takes, as measured on the examples of package
// policies: for itself, and for each node of its rules.
const (
	programBytes = 80 << 10
	nodeBytes    = 80
)

// maxProgram bounds the estimate: a few tenants must not take the memory that
// all share.
const maxProgram = 32 << 20

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
