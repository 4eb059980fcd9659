package policy

import (
	"cmp"
	"context"
	"fmt"
	"hash/maphash"
	"runtime"
	"slices"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// Config is what an Engine is made of. A reload does not change it.
type Config struct {
	// Baseline holds the platform's modules, package gatehouse.baseline. They
	// are trusted; at least one is needed. They read input and their own
	// package.
	Baseline []gatehouse.Module
	// Deadline bounds the time of one evaluation, of which a decision takes up
	// to two: the baseline's and the tenant's. Default 5ms.
	Deadline time.Duration
	// MaxSteps bounds the work of one evaluation, in expressions evaluated;
	// built-in functions pay one step for each 64 bytes or elements that they
	// read or make. Default 100000.
	MaxSteps int
	// CacheEntries is the number of decisions kept for each Policy. Default
	// 1024; negative keeps none.
	CacheEntries int
	// CompiledBytes bounds the memory of compiled modules, about; those not
	// used for longest are compiled anew when they are next needed. Default
	// 256 MiB.
	CompiledBytes int
	// CompileTime bounds the time that Compile takes for modules that it has
	// not seen, looked at between the compiler's stages. Default 2s.
	CompileTime time.Duration
	// Cut, unless nil, is told of each evaluation of a tenant's modules that ran
	// out of its budget.
	// It is called by the goroutine that decides and must not block.
	Cut func(Cut)
}

// Cut is an evaluation that ran out of its budget.
type Cut struct {
	// Tenant is that of the input.
	Tenant string
	// Took is the time of the evaluation.
	Took time.Duration
	// Aside is how long the policy is not tried again; 0: it is.
	Aside time.Duration
}

// Defaults of Config.
const (
	DefaultDeadline      = 5 * time.Millisecond
	DefaultMaxSteps      = 100_000
	DefaultCacheEntries  = 1024
	DefaultCompiledBytes = 256 << 20
	DefaultCompileTime   = 2 * time.Second
)

// Engine compiles policies. It is safe for concurrent use.
type Engine struct {
	deadline    time.Duration
	maxSteps    int
	entries     int
	compileTime time.Duration
	cut         func(Cut)
	caps        *ast.Capabilities
	guards      map[string]*topdown.Builtin
	metrics     metrics.Metrics
	store       storage.Store
	txn         storage.Transaction // one read transaction, shared by every evaluation
	seed        maphash.Seed
	start       time.Time // origin of the monotonic instants in aside.until
	baseline    *program
	platform    usage    // what the baseline reads
	reads       *readSet // the same
	compiled    compiled
	evaluations pool[evaluation]
}

// NewEngine compiles the baseline; an error says what is wrong with it.
func NewEngine(c Config) (*Engine, error) {
	e := &Engine{
		deadline:    cmp.Or(c.Deadline, DefaultDeadline),
		maxSteps:    cmp.Or(c.MaxSteps, DefaultMaxSteps),
		entries:     max(0, cmp.Or(c.CacheEntries, DefaultCacheEntries)),
		compileTime: cmp.Or(c.CompileTime, DefaultCompileTime),
		cut:         c.Cut,
		caps:        capabilities(),
		guards:      guards(),
		metrics:     metrics.NoOp(),
		store:       inmem.NewFromObjectWithOpts(map[string]any{}, inmem.OptReturnASTValuesOnRead(true)),
		seed:        maphash.MakeSeed(),
		start:       time.Now(),
	}
	e.compiled.open(cmp.Or(c.CompiledBytes, DefaultCompiledBytes), runtime.GOMAXPROCS(0))
	var err error
	if e.txn, err = e.store.NewTransaction(context.Background()); err != nil {
		return nil, fmt.Errorf("policy: open store: %w", err)
	}
	if err := e.compileBaseline(c.Baseline); err != nil {
		return nil, fmt.Errorf("policy: compile baseline: %w", err)
	}
	return e, nil
}

func (e *Engine) compileBaseline(modules []gatehouse.Module) error {
	if len(modules) == 0 {
		return fmt.Errorf("a baseline is needed")
	}
	s := newSources(e.caps, baselineRoot)
	for i, m := range modules {
		if _, twice := s.places[m.Name]; twice {
			return fmt.Errorf("module %q is given twice", m.Name)
		}
		s.places[m.Name] = gatehouse.Pointer("baseline", i)
		mod, err := ast.ParseModuleWithOpts(m.Name, m.Source, ast.ParserOptions{Capabilities: e.caps, RegoVersion: ast.RegoV1})
		if err != nil {
			return err
		}
		if !mod.Package.Path.HasPrefix(baselineRoot) {
			return fmt.Errorf("module %q is in %v, not in package gatehouse.baseline", m.Name, mod.Package)
		}
		s.parsed[m.Name] = mod
		s.check(mod)
	}
	var err error
	if len(s.faults) == 0 {
		e.baseline, e.platform = e.program(s, baselineRoot, ByBaseline, e.compileTime)
	}
	if len(s.faults) > 0 {
		err = s.faults
	}
	e.reads = e.platform.readSet()
	e.reads.slot = 1
	return err
}

// Compile compiles a tenant's modules; with none the baseline decides alone.
// Equal module sets share one compiled form, but each Policy keeps its own
// decisions. The Policy keeps modules: the caller no longer changes them.
//
// Pointers of the faults are /modules/N/source (with Line and Column within
// that source), /modules/N/name, or /modules. The Policy is nil if one of
// them is an error; a warning says why decisions cannot be kept.
func (e *Engine) Compile(modules []gatehouse.Module) (*Policy, gatehouse.Faults) {
	if len(modules) == 0 {
		return e.newPolicy(nil), nil
	}
	sum := contentSum(modules)
	c := e.compiled.find(sum)
	if c == nil {
		var faults gatehouse.Faults
		if c, faults = e.content(sum, modules); c == nil {
			return nil, faults
		}
		c = e.compiled.share(c)
	}
	return e.newPolicy(c), c.warnings
}

// content compiles modules for the first time.
func (e *Engine) content(sum contentKey, modules []gatehouse.Module) (*content, gatehouse.Faults) {
	s := parse(e.caps, modules)
	if len(s.faults) > 0 {
		return nil, s.faults
	}
	p, u := e.program(s, tenantRoot, ByTenant, e.compileTime)
	if len(s.faults) > 0 {
		return nil, s.faults
	}
	if n := p.size(); n > maxProgram {
		s.fault("/modules", fmt.Sprintf("the compiled modules take about %d MiB, more than %d", n>>20, maxProgram>>20), "")
		return nil, s.faults
	}
	c := &content{sum: sum, modules: modules, own: u.readSet(), reads: e.platform.and(u).readSet(), size: p.size()}
	c.program.Store(p)
	if c.reads.uncached != "" {
		hint := ""
		if slices.Contains(u.buckets, 0) {
			hint = "say how coarse the time may be: cache_seconds := 60"
		}
		s.faultAt(c.reads.place, "decisions cannot be kept, each request is evaluated: "+c.reads.uncached, hint)
		s.faults[0].Warning = true
		c.warnings = s.faults
	}
	return c, nil
}
