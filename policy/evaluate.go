package policy

import (
	"context"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// evaluation is the evaluation of one program on one input. The results of
// rules are shared by its queries and hold for this input only.
type evaluation struct {
	budget  budget
	results results
	// holds and answer are of the last query.
	holds  bool
	answer topdown.QueryResult
	trace  *trace // nil: what the rules do is not recorded
}

func (ev *evaluation) begin(e *Engine) {
	ev.budget = budget{steps: e.maxSteps, patient: patientSteps, deadline: time.Now().Add(e.deadline)}
	if len(ev.results.frames) == 0 {
		ev.results.reset()
	}
}

// decide asks whether prog allows and, if not, what it says of that.
func (ev *evaluation) decide(e *Engine, prog *program, input *ast.Term, now time.Time) (Decision, error) {
	if err := ev.ask(e, prog, &prog.allow, input, now); err != nil {
		return Decision{}, err
	}
	d := Decision{Allow: ev.holds, By: prog.by}
	if !ev.holds {
		if err := ev.ask(e, prog, &prog.denial, input, now); err != nil {
			return Decision{}, err
		}
		d = denial(prog.by, ev.answer)
	}
	if !prog.obliges {
		return d, nil
	}
	return d.oblige(only(ev.answer, obligationVar))
}

// ask evaluates q.
func (ev *evaluation) ask(e *Engine, prog *program, q *query, input *ast.Term, now time.Time) error {
	var t *topdown.Query
	if ev.trace == nil {
		t = q.free.take()
	}
	if t == nil {
		t = topdown.NewQuery(q.body).
			WithQueryCompiler(q.compiler).
			WithCompiler(prog.compiler).
			WithStore(e.store).
			WithTransaction(e.txn).
			WithBuiltins(e.guards).
			WithMetrics(e.metrics).
			WithBaseCache(noData{}).
			WithRequestMetadata(map[string]any{})
	}
	if ev.trace != nil {
		clear(ev.trace.of) // each query counts its own from 0
		t.WithQueryTracer(ev.trace).WithIndexing(false)
	}
	ev.holds, ev.answer = false, nil
	err := t.WithVirtualCache(&ev.results).WithInput(input).WithTime(now).WithCancel(&ev.budget).
		Iter(context.Background(), func(r topdown.QueryResult) error {
			ev.holds, ev.answer = true, r
			return nil
		})
	if ev.trace == nil {
		t.WithVirtualCache(nil).WithInput(nil).WithCancel(nil)
		q.free.put(t)
	}
	return err
}
