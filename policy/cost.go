package policy

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Bounds of what is measured for a Review.
const (
	maxInputs = 64 // from tests, and generated ones
	costTime  = time.Second
	costRuns  = 3
	// maxFailed ends the measuring: it is known by then what it comes to.
	maxFailed = 8
)

// inputs are different inputs that tests ask of.
type inputs struct{ terms []*ast.Term }

func (s *inputs) add(t *ast.Term) {
	if t == nil || len(s.terms) >= maxInputs || measure(t.Value, maxValue) > maxValue {
		return
	}
	if o, ok := t.Value.(ast.Object); !ok || o.Len() == 0 || slices.ContainsFunc(s.terms, t.Equal) {
		return
	}
	s.terms = append(s.terms, t)
}

// cost measures p's modules.
func (e *Engine) cost(p *Policy, ran *testRun) Cost {
	var c Cost
	prog, err := e.programOf(p.own)
	if err != nil {
		return c
	}
	end := time.Now().Add(costTime)
	tested := e.testInputs(ran, end)
	var steps []int
	var times []time.Duration
	measured := func(t *ast.Term, now time.Time) bool {
		n, took, err := e.costOf(prog, t, now)
		if err != nil {
			c.Failed++
		}
		steps, times = append(steps, n), append(times, took)
		return time.Now().Before(end) && c.Failed < maxFailed
	}
	for _, t := range tested {
		c.FromTests++
		if !measured(t, time.Unix(0, 0)) {
			break
		}
	}
	end = time.Now().Add(costTime)
	for _, in := range generate(p.own.own, ran.sources) {
		c.Generated++
		if !measured(in.document(p.ownDoc, &words{}), p.ownDoc.now(in)) {
			break
		}
	}
	slices.Sort(steps)
	slices.Sort(times)
	c.Steps = Spread[int]{steps[len(steps)/2], steps[len(steps)-1]}
	c.Time = Spread[time.Duration]{times[len(times)/2], times[len(times)-1]}
	return c
}

// testInputs are the inputs on which tests evaluate the tenant's rules.
func (e *Engine) testInputs(ran *testRun, end time.Time) []*ast.Term {
	seen := &inputs{}
	for _, r := range ran.rules {
		if !time.Now().Before(end) || len(seen.terms) >= maxInputs {
			break
		}
		var q query
		ran.sources.query(ran.program.compiler, &q, "data."+r.Name+" == true")
		t := newTrace()
		t.inputs = seen
		// That it fails was reported when it ran as a test.
		_, _ = e.runQuery(ran.program, &q, t)
	}
	return seen.terms
}

// costOf evaluates once to warm up, and then takes the best time.
func (e *Engine) costOf(prog *program, input *ast.Term, now time.Time) (steps int, took time.Duration, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("policy: evaluation panicked: %v", r)
		}
	}()
	took = time.Hour
	for range 1 + costRuns {
		ev := evaluation{}
		ev.begin(e)
		start := time.Now()
		_, err = ev.decide(e, prog, input, now)
		took = min(took, time.Since(start))
		steps = e.maxSteps - max(0, ev.budget.steps)
		if err != nil {
			break // cut: once is enough
		}
	}
	return steps, took, err
}

// generator makes inputs of the texts that modules compare with.
type generator struct {
	rand  *rand.Rand
	texts []string
	reads *readSet
}

// generate makes inputs for the modules, the same each time.
func generate(reads *readSet, s *sources) []*Input {
	g := &generator{rand: rand.New(rand.NewPCG(1, 2)), reads: reads, texts: []string{"", "a", "gatehouse"}}
	for _, name := range slices.Sorted(maps.Keys(s.parsed)) {
		ast.WalkTerms(s.parsed[name], func(t *ast.Term) bool {
			if text, ok := t.Value.(ast.String); ok && len(g.texts) < 512 && len(text) < 256 && !slices.Contains(g.texts, string(text)) {
				g.texts = append(g.texts, string(text))
			}
			return false
		})
	}
	list := make([]*Input, maxInputs)
	for i := range list {
		list[i] = g.input()
	}
	return list
}

func (g *generator) text() string { return g.texts[g.rand.IntN(len(g.texts))] }

func (g *generator) list() []string {
	out := make([]string, g.rand.IntN(4))
	for i := range out {
		out[i] = g.text()
	}
	return out
}

func (g *generator) input() *Input {
	in := &Input{
		Tenant: "acme", Plan: g.text(), Route: g.text(), Auth: "required",
		Method:   []byte([]string{"GET", "POST", "PUT", "DELETE", g.text()}[g.rand.IntN(5)]),
		Host:     []byte("api.acme.example"),
		Protocol: []byte("HTTP/1.1"), BodySize: g.rand.Int64N(1<<20) - 1,
		Client: netip.AddrFrom4([4]byte{192, 0, 2, byte(g.rand.IntN(256))}), TLS: g.rand.IntN(2) == 0,
		Time: time.Unix(1_800_000_000+g.rand.Int64N(7*24*3600), 0),
	}
	for range 1 + g.rand.IntN(4) {
		in.Path = append(append(in.Path, '/'), g.text()...)
	}
	claims := map[string]any{}
	var headers keptFields
	for _, p := range g.reads.paths {
		if g.rand.IntN(4) == 0 {
			continue // not there
		}
		switch second, third := key(p.keys, 1), key(p.keys, 2); key(p.keys, 0) {
		case "features":
			if second != "" {
				in.Features = append(in.Features, second)
			} else {
				in.Features = append(in.Features, g.list()...)
			}
		case "request":
			if third == "" {
				third = g.text()
			}
			switch second {
			case "query":
				in.Query = append(in.Query, third+"="+g.text()+"&"...)
			case "headers":
				headers = append(headers, Field{third, g.text()})
			}
		case "principal":
			if second == "claims" && third != "" {
				g.claim(claims, p.keys[2:])
			}
		}
	}
	slices.Sort(in.Features)
	in.Features, in.Headers = slices.Compact(in.Features), headers
	in.Principal = NewPrincipal("user", g.text(), "acme", g.list(), g.list(), g.list(), claims)
	return in
}

// claim puts a value where path leads to.
func (g *generator) claim(in map[string]any, path []ast.Value) {
	name := key(path, 0)
	if len(path) > 1 && key(path, 1) != "" {
		below, ok := in[name].(map[string]any)
		if !ok {
			below = map[string]any{}
			in[name] = below
		}
		g.claim(below, path[1:])
		return
	}
	in[name] = []any{g.text(), g.list(), g.rand.IntN(100), g.rand.IntN(2) == 0}[g.rand.IntN(4)]
}
