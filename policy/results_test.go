package policy

import (
	"fmt"
	"slices"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
	"pgregory.net/rapid"
)

// TestResults: the list gives what OPA's own cache gives, whatever is kept and
// however frames are pushed and popped, and nothing of the evaluation before.
func TestResults(t *testing.T) {
	refs := make([]ast.Ref, 0, 64)
	for i := range 24 {
		base := ast.MustParseRef(fmt.Sprintf("data.gatehouse.tenant.r%d", i))
		refs = append(refs, base, base.Append(ast.IntNumberTerm(i)), base.Append(ast.ArrayTerm(ast.IntNumberTerm(i))))
	}
	var r results
	rapid.Check(t, func(t *rapid.T) {
		r.reset()
		want, depth := topdown.NewVirtualCache(), 0
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			ref := slices.Clone(rapid.SampledFrom(refs).Draw(t, "ref"))
			switch op := rapid.IntRange(0, 11).Draw(t, "op"); {
			case op == 0:
				r.Push()
				want.Push()
				depth++
			case op == 1 && depth > 0:
				r.Pop()
				want.Pop()
				depth--
			default:
				value, undefined := r.Get(ref)
				wantValue, wantUndefined := want.Get(ref)
				if value != wantValue || undefined != wantUndefined {
					t.Fatalf("%v: %v %v, want %v %v", ref, value, undefined, wantValue, wantUndefined)
				}
				if value == nil && !undefined {
					var v *ast.Term
					if op < 9 {
						v = ast.IntNumberTerm(op)
					}
					r.Put(ref, v)
					want.Put(ref, v)
					clear(ref) // the caller's again
				}
			}
			if a, b := names(r.Keys()), names(want.Keys()); !slices.Equal(a, b) {
				t.Fatalf("%v, want %v", a, b)
			}
		}
	})
}

func names(refs []ast.Ref) []string {
	var out []string
	for _, r := range refs {
		out = append(out, r.String())
	}
	slices.Sort(out)
	return out
}
