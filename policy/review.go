package policy

import (
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/open-policy-agent/opa/v1/ast"
)

// Review is what a push of modules answers.
type Review struct {
	// Reads are the parts of input that the modules can depend on, sorted. The
	// baseline's come on top.
	Reads []Read `json:"reads"`
	// Cacheable says that decisions are kept. Otherwise Uncached says why not.
	Cacheable bool  `json:"cacheable"`
	Uncached  *Read `json:"uncached,omitempty"`
	// CacheSeconds is the bucket that the time is read in; 0: exactly or not.
	CacheSeconds int `json:"cache_seconds,omitempty"`
	// Tests are the results of the tenant's own.
	Tests TestReport `json:"tests"`
	// Cost is what one evaluation of the modules takes.
	Cost Cost `json:"cost"`
	// Bytes of memory that the compiled modules take, about.
	Bytes int `json:"bytes"`
	// Near are the limits of which three quarters or more are used.
	Near []Usage `json:"near,omitempty"`
}

// Read is a part of input that is read, and where first.
type Read struct {
	// Path in Rego's notation: input.request.method. Of Review.Uncached it is
	// the reason: reads input.time, which every request has its own of.
	Path string `json:"path"`
	// Module, Line and Column are the place; of the baseline, or of no place at
	// all, they are empty.
	Module string `json:"module,omitempty"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
}

// Usage is how much of a limit is used.
type Usage struct {
	// Limit says what of, and in which unit.
	Limit string `json:"limit"`
	// Used is what the policy comes to, Most what it may.
	Used int `json:"used"`
	Most int `json:"most"`
}

// nearShare is the part of a limit, in hundredths, from which it is near.
const nearShare = 75

// Review compiles modules, runs tests, and measures: all that is to be known
// before a policy is stored. It takes up to ten seconds, most of them where
// tests do not end. An error among the faults says that the modules or tests
// are not accepted; the Review is empty then. A test that failed is no fault.
//
// Pointers of the faults are as those of Compile and Test.
func (e *Engine) Review(modules, tests []gatehouse.Module) (Review, gatehouse.Faults) {
	p, warnings := e.Compile(modules)
	if p == nil {
		return Review{}, warnings
	}
	r := Review{Cacheable: p.reads.uncached == "", Tests: TestReport{}}
	if !r.Cacheable {
		uncached := place(p.reads.uncached, p.reads.place)
		r.Uncached = &uncached
	}
	if p.own == nil {
		if len(tests) > 0 {
			warnings = append(warnings, gatehouse.Fault{Pointer: "/tests", Reason: "there are no modules to test", Warning: true})
		}
		return r, warnings
	}
	var ran *testRun
	var faults gatehouse.Faults
	if r.Tests, ran, faults = e.test(modules, tests); ran == nil {
		return Review{}, faults
	}
	for _, path := range p.own.own.paths {
		r.Reads = append(r.Reads, place(path.String(), path.at))
	}
	slices.SortFunc(r.Reads, func(a, b Read) int { return strings.Compare(a.Path, b.Path) })
	r.CacheSeconds, r.Bytes = p.own.own.bucket, p.own.size
	r.Cost = e.cost(p, ran)
	r.Near = e.near(&r, modules, ran)
	return r, warnings
}

// place is a thing and where a tenant's module has it.
func place(what string, at *ast.Location) Read {
	r := Read{Path: what}
	if at != nil {
		if name, ok := strings.CutPrefix(at.File, tenantPrefix); ok {
			r.Module, r.Line, r.Column = name, at.Row, at.Col
		}
	}
	return r
}

// near lists the limits that may be hit soon.
func (e *Engine) near(r *Review, modules []gatehouse.Module, ran *testRun) []Usage {
	total, largest, rules, terms, body := 0, 0, 0, 0, 0
	for _, m := range modules {
		total += len(m.Source)
		largest = max(largest, len(m.Source))
		mod := ran.sources.parsed[tenantPrefix+m.Name]
		rules += len(mod.Rules)
		terms += nodes(mod)
		for _, rule := range mod.Rules {
			body = max(body, len(rule.Body))
		}
	}
	var near []Usage
	for _, u := range []Usage{
		{"modules", len(modules), MaxModules},
		{"bytes of one module", largest, MaxModuleBytes},
		{"bytes of all modules", total, MaxPolicyBytes},
		{"rules", rules, maxRules},
		{"expressions of one body", body, maxBody},
		{"terms and expressions", terms, maxNodes},
		{"compiled bytes", r.Bytes, maxProgram},
		{"tests", len(ran.rules), MaxTests},
		{"steps of one evaluation", r.Cost.Steps.Most, e.maxSteps},
		{"microseconds of one evaluation", int(r.Cost.Time.Most.Microseconds()), int(e.deadline.Microseconds())},
	} {
		if 100*u.Used >= nearShare*u.Most {
			near = append(near, u)
		}
	}
	return near
}

// Cost is what evaluating a tenant's modules took, on inputs that its tests
// give and on generated ones: estimates, not bounds.
//
// The generated inputs are made of the read-set and of the texts in the
// modules: each part that is read has now one of these texts, now another
// value. The same modules get the same inputs.
type Cost struct {
	// FromTests and Generated are the inputs measured; Failed of them were cut
	// or failed otherwise.
	FromTests int `json:"from_tests"`
	Generated int `json:"generated"`
	Failed    int `json:"failed"`
	// Steps of the budget, and Time without the baseline's: the best of three
	// runs for each input, on the machine that answers.
	Steps Spread[int]           `json:"steps"`
	Time  Spread[time.Duration] `json:"time"`
}

// Spread is of values measured on several inputs.
type Spread[T any] struct {
	// Median is what half of the tests stay below, Most what the worst took.
	Median T `json:"median"`
	Most   T `json:"most"`
}
