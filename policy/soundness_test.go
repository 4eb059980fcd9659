package policy

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/policies"
)

// The long form: go test ./policy -run TestSound -sound 20000.
var soundModules = flag.Int("sound", 250, "random modules that the decision cache is held against")

func testEngine(tb testing.TB, c Config) *Engine {
	tb.Helper()
	for name, source := range policies.Baseline() {
		c.Baseline = append(c.Baseline, gatehouse.Module{Name: name, Source: source})
	}
	e, err := NewEngine(c)
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

// patient is a budget that random modules do not exhaust.
var patient = Config{Deadline: time.Minute, MaxSteps: 10_000_000}

func tenantModules(sources ...string) []gatehouse.Module {
	var ms []gatehouse.Module
	for i, s := range sources {
		ms = append(ms, gatehouse.Module{Name: fmt.Sprintf("m%d.rego", i), Source: s})
	}
	return ms
}

// unsound returns how p's kept or narrowed decisions differ from decisions on
// the whole document, over random inputs; "" if they do not.
func unsound(p *Policy, r *rand.Rand, inputs int) (difference string, hits int) {
	whole := *p.program
	whole.reads = readSet{fields: fieldsAll}
	reference := &Policy{engine: p.engine, program: &whole}
	type kept struct {
		in *Input
		d  Decision
	}
	byKey := map[string]kept{}
	var drawn []*Input
	for range inputs {
		in := randomInput(r)
		if len(drawn) > 0 && r.IntN(2) == 0 {
			in = mutate(r, drawn[r.IntN(len(drawn))])
		}
		drawn = append(drawn, in)
		want := reference.evaluate(in)
		same := func(d Decision) bool {
			failed := (d.Err != nil) == (want.Err != nil)
			d.Err, want.Err = nil, nil
			return failed && d == want
		}
		if d := p.Decide(in); !same(d) {
			return fmt.Sprintf("input %+v\n got %+v\nwant %+v", in, d, want), hits
		}
		if p.program.reads.uncached != "" || want.Err != nil {
			continue
		}
		k := string(appendKey(nil, p.program.reads.key, in))
		if first, ok := byKey[k]; ok {
			hits++
			if !same(first.d) {
				return fmt.Sprintf("inputs %+v\n and %+v\nhave one key but %+v\n and %+v", first.in, in, first.d, want), hits
			}
			continue
		}
		byKey[k] = kept{in, want}
	}
	return "", hits
}

func TestSoundOnRandomModules(t *testing.T) {
	e := testEngine(t, patient)
	seed := uint64(20261127)
	if *soundModules != 250 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d", seed)
	var last gatehouse.Faults
	r := rand.New(rand.NewPCG(seed, 1))
	compiled, uncached, decisions, hits := 0, 0, 0, 0
	for i := 0; compiled < *soundModules; i++ {
		if i > 30*(*soundModules) {
			t.Fatalf("only %d of %d random modules compile: %v", compiled, i, last)
		}
		source := (&modules{r: r}).source()
		p, faults := e.Compile(tenantModules(source))
		if p == nil {
			last = faults
			continue
		}
		compiled++
		if p.program.reads.uncached != "" {
			uncached++
		}
		const inputs = 100
		difference, n := unsound(p, r, inputs)
		if difference != "" {
			t.Fatalf("%s\nkey %+v\n%s", source, p.program.reads, difference)
		}
		decisions += inputs
		hits += n
	}
	t.Logf("%d modules, %d of them not kept; %d decisions, %d with a key seen before", compiled, uncached, decisions, hits)
	if hits < decisions/50 {
		t.Errorf("%d hits in %d decisions put nothing to the test", hits, decisions)
	}
}
