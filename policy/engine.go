package policy

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"runtime"
	"sync"
	"time"
	"weak"

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
	// are trusted; at least one is needed.
	Baseline []gatehouse.Module
	// Deadline bounds the time of one evaluation. Default 5ms.
	Deadline time.Duration
	// MaxSteps bounds the work of one evaluation, in expressions evaluated;
	// built-in functions pay one step for each 64 bytes or elements that they
	// read or make. Default 100000.
	MaxSteps int
	// CacheEntries is the number of decisions kept for each Policy. Default
	// 1024; negative keeps none.
	CacheEntries int
}

// Defaults of Config.
const (
	DefaultDeadline     = 5 * time.Millisecond
	DefaultMaxSteps     = 100_000
	DefaultCacheEntries = 1024
)

// Engine compiles policies. It is safe for concurrent use.
type Engine struct {
	deadline time.Duration
	maxSteps int
	entries  int
	baseline map[string]*ast.Module // parsed; never changed, the compiler copies
	caps     *ast.Capabilities
	guards   map[string]*topdown.Builtin
	metrics  metrics.Metrics
	store    storage.Store
	txn      storage.Transaction // one read transaction, shared by every evaluation
	seed     maphash.Seed
	start    time.Time // origin of the monotonic instants in Policy.asideUntil

	mu sync.Mutex
	// programs, guarded by mu, holds the compiled form of each distinct set of
	// modules for as long as some Policy uses it.
	programs map[[sha256.Size]byte]weak.Pointer[program]
}

// NewEngine compiles the baseline; an error says what is wrong with it.
func NewEngine(c Config) (*Engine, error) {
	e := &Engine{
		deadline: cmp.Or(c.Deadline, DefaultDeadline),
		maxSteps: cmp.Or(c.MaxSteps, DefaultMaxSteps),
		entries:  max(0, cmp.Or(c.CacheEntries, DefaultCacheEntries)),
		baseline: map[string]*ast.Module{},
		caps:     capabilities(),
		guards:   guards(),
		metrics:  metrics.NoOp(),
		store:    inmem.NewFromObjectWithOpts(map[string]any{}, inmem.OptReturnASTValuesOnRead(true)),
		seed:     maphash.MakeSeed(),
		start:    time.Now(),
		programs: map[[sha256.Size]byte]weak.Pointer[program]{},
	}
	if len(c.Baseline) == 0 {
		return nil, fmt.Errorf("policy: a baseline is needed")
	}
	for _, m := range c.Baseline {
		file := baselinePrefix + m.Name
		if e.baseline[file] != nil {
			return nil, fmt.Errorf("policy: baseline module %q is given twice", m.Name)
		}
		mod, err := ast.ParseModuleWithOpts(file, m.Source, ast.ParserOptions{Capabilities: e.caps, RegoVersion: ast.RegoV1})
		if err != nil {
			return nil, fmt.Errorf("policy: parse baseline: %w", err)
		}
		if !mod.Package.Path.HasPrefix(baselineRoot) {
			return nil, fmt.Errorf("policy: baseline module %q is in %v, not in package gatehouse.baseline", m.Name, mod.Package)
		}
		e.baseline[file] = mod
	}
	var err error
	if e.txn, err = e.store.NewTransaction(context.Background()); err != nil {
		return nil, fmt.Errorf("policy: open store: %w", err)
	}
	if _, faults := e.compile(nil); len(faults.Errors()) > 0 {
		return nil, fmt.Errorf("policy: compile baseline: %w", faults)
	}
	return e, nil
}

// Compile compiles a tenant's modules beside the baseline; with none the
// baseline decides alone. Equal module sets share one compiled form, but
// each Policy keeps its own decisions.
//
// Pointers of the faults are /modules/N/source (with Line and Column within
// that source), /modules/N/name, or /modules. The Policy is nil if one of
// them is an error; a warning says why decisions cannot be kept.
func (e *Engine) Compile(modules []gatehouse.Module) (*Policy, gatehouse.Faults) {
	sum := contentSum(modules)
	e.mu.Lock()
	prog := e.programs[sum].Value()
	e.mu.Unlock()
	if prog == nil {
		var faults gatehouse.Faults
		if prog, faults = e.compile(modules); prog == nil {
			return nil, faults
		}
		prog = e.share(sum, prog)
	}
	return newPolicy(e, prog), prog.warnings
}

// share returns the program kept under sum, which is prog unless another
// Compile of the same modules was quicker.
func (e *Engine) share(sum [sha256.Size]byte, prog *program) *program {
	e.mu.Lock()
	defer e.mu.Unlock()
	if first := e.programs[sum].Value(); first != nil {
		return first
	}
	e.programs[sum] = weak.Make(prog)
	runtime.AddCleanup(prog, e.forget, sum)
	return prog
}

// forget drops a program that is no longer in use, unless the same modules
// have been compiled anew since.
func (e *Engine) forget(sum [sha256.Size]byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.programs[sum].Value() == nil {
		delete(e.programs, sum)
	}
}

// contentSum identifies modules by name, text and order.
func contentSum(modules []gatehouse.Module) [sha256.Size]byte {
	h := sha256.New()
	var size [8]byte
	put := func(s string) {
		binary.BigEndian.PutUint64(size[:], uint64(len(s)))
		h.Write(size[:])
		h.Write([]byte(s))
	}
	for _, m := range modules {
		put(m.Name)
		put(m.Source)
	}
	return [sha256.Size]byte(h.Sum(nil))
}
