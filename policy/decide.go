package policy

import (
	"errors"
	"fmt"
	"hash/maphash"
	"sync/atomic"
	"time"

	"github.com/open-policy-agent/opa/v1/topdown"
)

// Policy is a tenant's compiled policy and the decisions kept for it. It is
// safe for concurrent use.
type Policy struct {
	engine *Engine
	own    *content // the tenant's modules; nil: the baseline decides alone
	reads  *readSet // what a decision depends on
	// platformDoc and ownDoc say what of the input the two programs are shown.
	platformDoc, ownDoc *readSet
	cache               cache // decisions, by reads
	// platform keeps the baseline's decisions for this tenant, so that a new
	// request costs the evaluation of the tenant's modules alone. Unused
	// without modules.
	platform cache
	words    atomic.Pointer[words] // nil before the first evaluation
	aside    aside
	// quiet: the engine's Cut is not told, as for shadows.
	quiet bool
}

// platformEntries bounds Policy.platform. The baseline reads little of a
// request.
const platformEntries = 16

func (e *Engine) newPolicy(c *content) *Policy {
	p := &Policy{engine: e, own: c, reads: e.reads, platformDoc: e.reads}
	if c != nil {
		p.reads, p.ownDoc = c.reads, c.own
		if e.reads.uncached == "" {
			p.platform.limit = slotsFor(min(e.entries, platformEntries))
		}
	}
	if p.reads.uncached == "" {
		p.cache.limit = slotsFor(e.entries)
	}
	return p
}

// Decide answers the request. It does not panic and takes no longer than the
// budget of the engine, apart from the compilation of modules that were not
// needed for long. The answer shares no memory with in; its Obligations are
// shared and read-only.
func (p *Policy) Decide(in *Input) Decision {
	if in.principal().term == nil {
		return failed(ByBaseline, errPrincipal)
	}
	if p.cache.limit == 0 {
		return p.evaluate(in)
	}
	var buf [512]byte
	key := appendKey(buf[:0], p.reads, in)
	hash := p.hash(key)
	if d := p.cache.get(hash, key); d != nil {
		return *d
	}
	d := p.evaluate(in)
	if d.Err == nil && len(key) <= maxKey {
		p.cache.put(hash, key, d)
	}
	return d
}

func (p *Policy) hash(key []byte) uint64 { return maphash.Bytes(p.engine.seed, key) }

// Failures of an evaluation, in Decision.Err.
var (
	// ErrBudget: it was cut, having used up its steps, bytes or time.
	ErrBudget = errors.New("policy: evaluation ran out of its budget of steps, memory or time")
	// ErrAside: it was not tried, because others of this policy were cut.
	ErrAside = errors.New("policy: set aside for a while, because evaluations ran out of their budget")

	errPrincipal = errors.New("policy: principal was not made by NewPrincipal")
)

func failed(by string, err error) Decision {
	return Decision{Status: deniedStatus, By: by, Err: err}
}

// evaluate decides without the cache of decisions.
func (p *Policy) evaluate(in *Input) Decision {
	d := p.decidePlatform(in)
	if p.own == nil || !d.Allow {
		return d
	}
	return d.and(p.decideOwn(in))
}

// decidePlatform is what the baseline says.
func (p *Policy) decidePlatform(in *Input) Decision {
	e := p.engine
	if p.platform.limit == 0 {
		return p.run(e.baseline, p.platformDoc, in)
	}
	var buf [256]byte
	key := appendKey(buf[:0], e.reads, in)
	hash := p.hash(key)
	if d := p.platform.get(hash, key); d != nil {
		return *d
	}
	d := p.run(e.baseline, p.platformDoc, in)
	if d.Err == nil && len(key) <= maxKey {
		p.platform.put(hash, key, d)
	}
	return d
}

// decideOwn is what the tenant's modules say.
func (p *Policy) decideOwn(in *Input) Decision {
	if p.aside.holds(p.engine) {
		return failed(ByTenant, ErrAside)
	}
	prog, err := p.engine.programOf(p.own)
	if err != nil {
		return failed(ByTenant, err)
	}
	start := time.Now()
	d := p.run(prog, p.ownDoc, in)
	if errors.Is(d.Err, ErrBudget) {
		cut := p.aside.cut(p.engine, time.Since(start))
		if cut.Tenant = in.Tenant; p.engine.cut != nil && !p.quiet {
			p.engine.cut(cut)
		}
	}
	return d
}

// texts are the terms of texts that this policy's requests have in common.
func (p *Policy) texts() *words {
	if p.words.Load() == nil {
		p.words.CompareAndSwap(nil, &words{})
	}
	return p.words.Load()
}

// run evaluates one program. A panic is a denial.
func (p *Policy) run(prog *program, reads *readSet, in *Input) (d Decision) {
	e := p.engine
	ev := e.evaluations.take()
	if ev == nil {
		ev = &evaluation{}
	}
	defer func() {
		if r := recover(); r != nil {
			d = failed(prog.by, fmt.Errorf("policy: evaluation panicked: %v", r))
			return // ev may be in any state
		}
		ev.results.reset()
		e.evaluations.put(ev)
	}()
	ev.begin(e)
	d, err := ev.decide(e, prog, in.document(reads, p.texts()), reads.now(in))
	if err == nil {
		return d
	}
	if topdown.IsCancel(err) || errors.Is(err, ErrBudget) {
		err = ErrBudget
	}
	return failed(prog.by, err)
}

// Prefetch reads what Decide will read first, before it is needed: who calls
// it together with others of its kind has memory fetched side by side.
func (p *Policy) Prefetch() uint64 {
	sum := uint64(p.platform.limit)
	if t := p.cache.table.Load(); t != nil {
		for i := 0; i < len(t.slots) && i <= 8; i += 8 {
			if t.slots[i].Load() != nil {
				sum++
			}
		}
	}
	return sum
}
