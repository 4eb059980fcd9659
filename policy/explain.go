package policy

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/open-policy-agent/opa/v1/topdown"
)

// ReadSet returns the parts of input that decisions can depend on, in Rego's
// notation and sorted: what is below one of them is not named as well.
func (p *Policy) ReadSet() []string {
	paths := make([]string, len(p.reads.paths))
	for i, path := range p.reads.paths {
		paths[i] = path.String()
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

// Cacheable reports whether decisions are kept and, if not, why: "reads
// input.time, which every request has its own of".
func (p *Policy) Cacheable() (ok bool, why string) {
	return p.reads.uncached == "", p.reads.uncached
}

// Explanation says how a decision came about.
type Explanation struct {
	Decision Decision
	// Decided is the step of the rule that decided: the rule allow that held;
	// of a denial the rule reason that held, or else the rule allow that came
	// last. Nil if none of them was tried, as in an empty package.
	Decided *Step
	// Steps are the rules tried, the baseline's first, in the order in which
	// they were begun; at most 256 of each policy.
	Steps []Step
}

// Explain decides in anew and says how, within twice the budget of a decision
// for each policy. A policy that is set aside is explained all the same.
func (e *Engine) Explain(p *Policy, in *Input) Explanation {
	if in.principal().term == nil {
		return Explanation{Decision: failed(ByBaseline, errPrincipal)}
	}
	x := e.explain(e.baseline, p.platformDoc, in)
	if p.own == nil || !x.Decision.Allow {
		return x
	}
	prog, err := e.programOf(p.own)
	if err != nil {
		x.Decision = failed(ByTenant, err)
		return x
	}
	own := e.explain(prog, p.ownDoc, in)
	own.Decision = x.Decision.and(own.Decision)
	own.Steps = append(x.Steps, own.Steps...)
	return own
}

func (e *Engine) explain(prog *program, reads *readSet, in *Input) (x Explanation) {
	defer func() {
		if r := recover(); r != nil {
			x = Explanation{Decision: failed(prog.by, fmt.Errorf("policy: evaluation panicked: %v", r))}
		}
	}()
	t := newTrace()
	ev := evaluation{trace: t}
	ev.begin(e)
	// The rule index, which saves steps, is not used.
	ev.budget.steps *= 2
	ev.budget.deadline = time.Now().Add(2 * e.deadline)
	d, err := ev.decide(e, prog, in.document(reads, &words{}), reads.now(in))
	if err != nil {
		if topdown.IsCancel(err) || errors.Is(err, ErrBudget) {
			err = ErrBudget
		}
		d = failed(prog.by, err)
	}
	x = Explanation{Decision: d, Steps: t.steps}
	root := baselineRoot
	if prog.by == ByTenant {
		root = tenantRoot
	}
	for i, s := range x.Steps {
		held := s.Holds && (s.Rule == root.String()+".reason" && !d.Allow || s.Rule == root.String()+".allow" && d.Allow)
		last := s.Rule == root.String()+".allow" && !d.Allow && (x.Decided == nil || !x.Decided.Holds || x.Decided.Rule == s.Rule)
		if held || last {
			x.Decided = &x.Steps[i]
		}
	}
	return x
}

// Difference is an input that two policies decide differently.
type Difference struct {
	// Index is the position of Input among those compared, from 0.
	Index    int
	Input    *Input
	Old, New Decision
}

// Diff decides inputs by both policies and yields those on which they differ,
// for the replay of a log or beside live traffic. Both may have been set
// aside or keep decisions: it costs what Decide does.
func Diff(old, now *Policy, inputs iter.Seq[*Input]) iter.Seq[Difference] {
	return func(yield func(Difference) bool) {
		i := 0
		for in := range inputs {
			a, b := old.Decide(in), now.Decide(in)
			if !a.Equal(b) && !yield(Difference{i, in, a, b}) {
				return
			}
			i++
		}
	}
}
