package policy

import (
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// results keeps what rules gave in the course of one evaluation: a
// topdown.VirtualCache. OPA's own makes a tree of maps; most evaluations keep
// a handful of results, for which a list is cheaper and can be used again.
// Each with pushes a frame.
type results struct {
	frames []frame
	// terms are the references of all frames' lists.
	terms []*ast.Term
}

type frame struct {
	list  []result
	terms int // of results.terms, when the frame was pushed
	// more holds what is over maxListed, and references with an array, object
	// or set in them, which take long to compare one by one.
	more topdown.VirtualCache
}

type result struct {
	ref   ast.Ref
	value *ast.Term // nil: undefined
}

const maxListed = 16

// reset empties r for the next evaluation.
func (r *results) reset() {
	for i := range r.frames {
		r.frames[i].clear()
	}
	clear(r.terms)
	r.frames, r.terms = r.frames[:0], r.terms[:0]
	r.Push()
}

func (f *frame) clear() {
	clear(f.list)
	f.list, f.more = f.list[:0], nil
}

// Push begins a frame.
func (r *results) Push() {
	if n := len(r.frames); n < cap(r.frames) {
		r.frames = r.frames[:n+1] // with the list of an earlier one
	} else {
		r.frames = append(r.frames, frame{})
	}
	r.top().terms = len(r.terms)
}

// Pop ends the last frame and forgets its results.
func (r *results) Pop() {
	f := r.top()
	clear(r.terms[f.terms:])
	r.terms = r.terms[:f.terms]
	f.clear()
	r.frames = r.frames[:len(r.frames)-1]
}

func (r *results) top() *frame { return &r.frames[len(r.frames)-1] }

func (f *frame) find(ref ast.Ref) *result {
	for i := range f.list {
		if sameRef(f.list[i].ref, ref) {
			return &f.list[i]
		}
	}
	return nil
}

// sameRef compares from the end: beginnings are alike.
func sameRef(a, b ast.Ref) bool {
	if len(a) != len(b) {
		return false
	}
	for i := len(a) - 1; i >= 0; i-- {
		if a[i] != b[i] && !a[i].Equal(b[i]) {
			return false
		}
	}
	return true
}

func listed(ref ast.Ref) bool {
	for _, t := range ref {
		switch t.Value.(type) {
		case ast.String, ast.Var, ast.Number, ast.Boolean, ast.Null:
		default:
			return false
		}
	}
	return true
}

// Get returns the result of ref; true if it is known to be undefined.
func (r *results) Get(ref ast.Ref) (*ast.Term, bool) {
	f := r.top()
	if listed(ref) {
		if known := f.find(ref); known != nil {
			return known.value, known.value == nil
		}
	}
	if f.more != nil {
		return f.more.Get(ref)
	}
	return nil, false
}

// Put keeps the result of ref; nil stands for undefined.
func (r *results) Put(ref ast.Ref, value *ast.Term) {
	f := r.top()
	if listed(ref) {
		if known := f.find(ref); known != nil {
			known.value = value
			return
		}
		if len(f.list) < maxListed {
			at := len(r.terms)
			r.terms = append(r.terms, ref...) // the caller reuses ref
			f.list = append(f.list, result{r.terms[at:len(r.terms):len(r.terms)], value})
			return
		}
	}
	if f.more == nil {
		f.more = topdown.NewVirtualCache()
	}
	f.more.Put(ref, value)
}

// Keys returns the references that have a value in the last frame.
func (r *results) Keys() []ast.Ref {
	var keys []ast.Ref
	f := r.top()
	for i := range f.list {
		if f.list[i].value != nil {
			keys = append(keys, f.list[i].ref.Copy())
		}
	}
	if f.more != nil {
		keys = append(keys, f.more.Keys()...)
	}
	return keys
}

// noData is a topdown.BaseCache: there is no data but what rules define.
type noData struct{}

// Get finds nothing.
func (noData) Get(ast.Ref) ast.Value { return nil }

// Put keeps nothing.
func (noData) Put(ast.Ref, ast.Value) {}
