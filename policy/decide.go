package policy

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// Decision is the answer to one request.
type Decision struct {
	// Allow is true only if every policy said so.
	Allow bool
	// Reason of a denial, as the denying policy gives it; at most 512 bytes.
	Reason string
	// Public says that Reason may be told to the caller.
	Public bool
	// Status is the HTTP status of a denial, 400 to 499.
	Status int
	// By is whose word the decision is: ByBaseline or ByTenant.
	By string
	// Err says why the policy could not be evaluated; the request is denied.
	Err error
}

// Values of Decision.By.
const (
	ByBaseline = "baseline"
	ByTenant   = "tenant"
)

const (
	deniedStatus = 403
	maxReason    = 512
)

// Policy is a tenant's compiled policy and the decisions kept for it.
type Policy struct {
	engine  *Engine
	program *program
	cache   cache
	// strikes counts evaluations cut one after the other; asideUntil is the
	// instant, since engine.start, before which none is tried.
	strikes    atomic.Int32
	asideUntil atomic.Int64
}

func newPolicy(e *Engine, p *program) *Policy {
	policy := &Policy{engine: e, program: p}
	if p.reads.uncached == "" {
		policy.cache.limit = slotsFor(e.entries)
	}
	return policy
}

// Decide answers the request. It is safe for concurrent use, does not panic
// and takes no longer than the budget of the engine. The answer shares no
// memory with in.
func (p *Policy) Decide(in *Input) Decision {
	if in.principal().term == nil {
		return p.failed(errPrincipal)
	}
	if p.cache.limit == 0 {
		return p.evaluate(in)
	}
	var buf [512]byte
	key := appendKey(buf[:0], p.program.reads.key, in)
	hash := maphash.Bytes(p.engine.seed, key)
	if d := p.cache.get(hash, key); d != nil {
		return *d
	}
	d := p.evaluate(in)
	if d.Err == nil && len(key) <= maxKey {
		p.cache.put(hash, key, d)
	}
	return d
}

func (p *Policy) failed(err error) Decision {
	by := ByBaseline
	if p.program.tenant {
		by = ByTenant
	}
	return Decision{Status: deniedStatus, By: by, Err: err}
}

// Failures of an evaluation.
var (
	errPrincipal = errors.New("policy: principal was not made by NewPrincipal")
	errAside     = errors.New("policy: set aside for a while, because evaluations ran out of their budget")
)

// Evaluations that are cut cost more than those that end. After strikesAside
// in a row the policy is set aside for asideFactor times what the last one
// took, so that it cannot take more than that share of a core.
const (
	strikesAside = 3
	asideFactor  = 9
)

// evaluate decides without the cache.
func (p *Policy) evaluate(in *Input) (d Decision) {
	defer func() {
		if r := recover(); r != nil {
			d = p.failed(fmt.Errorf("policy: evaluation panicked: %v", r))
		}
	}()
	start := time.Now()
	if start.Sub(p.engine.start) < time.Duration(p.asideUntil.Load()) {
		return p.failed(errAside)
	}
	d, err := p.run(in, start)
	if err == nil {
		if p.strikes.Load() != 0 {
			p.strikes.Store(0)
		}
		return d
	}
	if topdown.IsCancel(err) || errors.Is(err, errBudget) {
		err = errBudget
		if p.strikes.Add(1) >= strikesAside {
			end := time.Now()
			p.asideUntil.Store(int64(end.Sub(p.engine.start) + asideFactor*end.Sub(start)))
		}
	}
	return p.failed(err)
}

// run evaluates the queries of one decision. They share their intermediate
// results, which hold for this input only.
func (p *Policy) run(in *Input, start time.Time) (Decision, error) {
	e, prog := p.engine, p.program
	ev := evaluation{
		engine: e, program: prog,
		input:  document(in, &prog.reads),
		time:   in.Time,
		budget: budget{steps: e.maxSteps, patient: patientSteps, deadline: start.Add(e.deadline)},
		seen:   topdown.NewVirtualCache(),
	}
	by := ByBaseline
	if prog.tenant {
		by = ByTenant
	}
	switch allowed, _, err := ev.ask(&prog.allow); {
	case err != nil:
		return Decision{}, err
	case allowed:
		return Decision{Allow: true, By: by}, nil
	}
	if prog.tenant {
		baselineAllowed, answer, err := ev.ask(&prog.deniedByTenant)
		if err != nil {
			return Decision{}, err
		}
		if baselineAllowed {
			return denial(ByTenant, answer), nil
		}
	}
	_, answer, err := ev.ask(&prog.deniedByBaseline)
	if err != nil {
		return Decision{}, err
	}
	return denial(ByBaseline, answer), nil
}

// evaluation is the evaluation of one input.
type evaluation struct {
	engine  *Engine
	program *program
	input   *ast.Term
	time    time.Time
	budget  budget
	seen    topdown.VirtualCache
}

// ask evaluates q and returns whether it holds, and its variables.
func (ev *evaluation) ask(q *query) (holds bool, answer topdown.QueryResult, err error) {
	err = topdown.NewQuery(q.body).
		WithQueryCompiler(q.compiler).
		WithCompiler(ev.program.compiler).
		WithStore(ev.engine.store).
		WithTransaction(ev.engine.txn).
		WithBuiltins(ev.engine.guards).
		WithMetrics(ev.engine.metrics).
		WithVirtualCache(ev.seen).
		WithInput(ev.input).
		WithTime(ev.time).
		WithCancel(&ev.budget).
		Iter(context.Background(), func(r topdown.QueryResult) error {
			holds, answer = true, r
			return nil
		})
	return holds, answer, err
}

// denial reads what a policy says of its denial; values of another type or
// out of range are passed over.
func denial(by string, answer topdown.QueryResult) Decision {
	d := Decision{Status: deniedStatus, By: by}
	if s, ok := only(answer, reasonVar).(ast.String); ok {
		d.Reason = clip(string(s))
	}
	if b, ok := only(answer, publicVar).(ast.Boolean); ok {
		d.Public = bool(b)
	}
	if n, ok := only(answer, statusVar).(ast.Number); ok {
		if status, ok := n.Int(); ok && 400 <= status && status <= 499 {
			d.Status = status
		}
	}
	return d
}

// only returns the single element of the array at v, else nil.
func only(answer topdown.QueryResult, v ast.Var) ast.Value {
	if t := answer[v]; t != nil {
		if a, ok := t.Value.(*ast.Array); ok && a.Len() == 1 {
			return a.Elem(0).Value
		}
	}
	return nil
}

// clip copies s, cut at a rune to what a log line holds.
func clip(s string) string {
	n := len(s)
	if n > maxReason {
		for n = maxReason; n > 0 && !utf8.RuneStart(s[n]); n-- {
		}
	}
	return strings.Clone(s[:n])
}
