package policy

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// Bounds of Engine.Test.
const (
	// MaxTests bounds the test rules of one call.
	MaxTests = 1000
	// testsTime bounds the time of all, testFactor that of one in deadlines:
	// a test decides several inputs.
	testsTime  = 5 * time.Second
	testFactor = 20
)

// testRoot is where tests may live beside the tenant's own package.
var testRoot = ast.MustParseRef("data.gatehouse.tenant_test")

// TestReport is the outcome of a tenant's own tests.
type TestReport struct {
	// Passed and Failed count the tests.
	Passed int `json:"passed"`
	Failed int `json:"failed"`
	// Results are in the order of the test modules and their rules.
	Results []TestResult `json:"results"`
}

// TestResult is the outcome of one rule test_….
type TestResult struct {
	// Name is that of the rule with its package, gatehouse.tenant_test.test_x.
	Name string `json:"name"`
	// Module and Line are where it begins.
	Module string `json:"module"`
	Line   int    `json:"line"`
	// Passed says that the rule held.
	Passed bool `json:"passed"`
	// Failure says where it failed, or why it was cut; empty if it passed.
	Failure string `json:"failure,omitempty"`
	// Took is in nanoseconds.
	Took time.Duration `json:"took"`
}

// Test compiles modules and, beside them, tests, and runs the rules of tests
// whose names begin with test_, each within twenty times the budget of a
// decision and all within five seconds. A rule passes if it is true. Tests are
// in package gatehouse.tenant_test or gatehouse.tenant, or below; like modules
// they may replace input by with, and nothing else. Rules that begin with
// todo_ are left out.
//
// Pointers of the faults are as those of Compile, and /tests/N/… . With an
// error among the faults nothing ran.
func (e *Engine) Test(modules, tests []gatehouse.Module) (TestReport, gatehouse.Faults) {
	report, _, faults := e.test(modules, tests)
	return report, faults
}

// testRun is what a run of tests leaves for others to look at.
type testRun struct {
	sources *sources
	program *program
	rules   []TestResult
}

func (e *Engine) test(modules, tests []gatehouse.Module) (TestReport, *testRun, gatehouse.Faults) {
	s := parse(e.caps, modules)
	s.roots = append(s.roots, testRoot)
	if len(tests) > MaxModules {
		s.fault("/tests", fmt.Sprintf("%d modules are more than %d", len(tests), MaxModules), "")
		return TestReport{}, nil, s.faults
	}
	for i := range tests {
		s.module("tests", i, &tests[i])
	}
	rules := s.testRules(tests)
	if len(rules) > MaxTests {
		s.fault("/tests", fmt.Sprintf("%d tests are more than %d", len(rules), MaxTests), "")
	}
	if len(s.faults) > 0 {
		return TestReport{}, nil, s.faults
	}
	prog, _ := e.program(s, tenantRoot, ByTenant, e.compileTime)
	if prog == nil {
		return TestReport{}, nil, s.faults
	}
	var report TestReport
	end := time.Now().Add(testsTime)
	for _, r := range rules {
		r.Failure = "not run: the tests before it took too long"
		if time.Now().Before(end) {
			e.runTest(s, prog, &r)
		}
		if r.Passed {
			report.Passed++
		} else {
			report.Failed++
		}
		report.Results = append(report.Results, r)
	}
	return report, &testRun{s, prog, rules}, nil
}

// testRules lists the rules to run: each name once.
func (s *sources) testRules(tests []gatehouse.Module) []TestResult {
	var rules []TestResult
	seen := map[string]bool{}
	for i := range tests {
		mod := s.parsed[tenantPrefix+tests[i].Name]
		if mod == nil {
			continue
		}
		for _, r := range mod.Rules {
			name := string(r.Head.Name)
			full := mod.Package.Path.String() + "." + name
			if strings.HasPrefix(name, "test_") && len(r.Head.Ref()) == 1 && len(r.Head.Args) == 0 && !seen[full] {
				seen[full] = true
				rules = append(rules, TestResult{Name: strings.TrimPrefix(full, "data."), Module: tests[i].Name, Line: r.Location.Row})
			}
		}
	}
	return rules
}

// runTest fills in the outcome of r. A failed test is run once more, to say
// where it failed.
func (e *Engine) runTest(s *sources, prog *program, r *TestResult) {
	var q query
	s.query(prog.compiler, &q, "data."+r.Name+" == true")
	if len(s.faults) > 0 {
		r.Failure = s.faults[0].Reason
		return
	}
	start := time.Now()
	holds, err := e.runQuery(prog, &q, nil)
	r.Took = time.Since(start)
	switch {
	case errors.Is(err, ErrBudget):
		r.Failure = err.Error()
		return
	case err != nil:
		r.Failure = clip(err.Error())
		return
	case holds:
		r.Passed, r.Failure = true, ""
		return
	}
	t := newTrace()
	r.Failure = "not true"
	if _, err := e.runQuery(prog, &q, t); err != nil {
		return
	}
	for _, step := range t.steps {
		if step.Rule == "data."+r.Name && step.Failed != "" {
			r.Failure = fmt.Sprintf("line %d: %s", step.FailedLine, step.Failed)
			return
		}
	}
}

// runQuery asks q of the empty input.
func (e *Engine) runQuery(prog *program, q *query, t *trace) (holds bool, err error) {
	ev := evaluation{trace: t}
	ev.begin(e)
	ev.budget.steps *= testFactor
	ev.budget.deadline = time.Now().Add(testFactor * e.deadline)
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("policy: evaluation panicked: %v", r)
		}
	}()
	err = ev.ask(e, prog, q, ast.ObjectTerm(), time.Unix(0, 0))
	if topdown.IsCancel(err) || errors.Is(err, ErrBudget) {
		err = ErrBudget
	}
	return ev.holds, err
}
