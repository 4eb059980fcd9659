package policy

import (
	"cmp"
	"slices"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/open-policy-agent/opa/v1/ast"
)

// readSet is what of the input a decision can depend on. Its law: two inputs
// that agree on every part in key, present or absent and by value, are decided
// the same; and a document of only the fields in fields is decided as the
// whole one is.
type readSet struct {
	fields fields
	// headers in the document; nil stands for all.
	headers []string
	key     []part
	// bucket, in seconds, is what the time in the document is floored to; 0:
	// nothing.
	bucket int
	// uncached says why decisions cannot be kept; empty if they can.
	uncached string
	// place is where the module reads what uncached speaks of.
	place *ast.Location
	// paths are what is read, none within another, and pointers the same as
	// JSON Pointers, as far as they name members of objects.
	paths    []inputPath
	pointers []string
	// request and principal are the parts of key but those of the principal,
	// and those; made by ready.
	request, principal []part
	// slot is which of Principal.keyed is used: 1 for the baseline.
	slot int
}

// ready makes request and principal of key.
func (r *readSet) ready() {
	r.request, r.principal = nil, nil
	for _, p := range r.key {
		if p.kind == partPrincipal || p.kind == partOfPrincipal {
			r.principal = append(r.principal, p)
		} else {
			r.request = append(r.request, p)
		}
	}
}

// analysis walks the compiled rules that the queries can reach and collects
// the references to input. It widens where it does not know: a reference
// counts as its constant beginning, so a variable that holds part of the input
// counts as that whole part. It does not follow values: through functions,
// comprehensions and with, every reference is seen where it is written, as if
// it always reached the real input.
type analysis struct {
	compiler *ast.Compiler
	buckets  buckets
	seen     map[*ast.Rule]bool
	work     []*ast.Rule
	rule     *ast.Rule // that is walked; nil: a query
	usage
}

// usage is what a set of rules reads of the input.
type usage struct {
	paths []inputPath
	// buckets are those that the time is read in, in seconds; 0: exactly.
	buckets []int
	// uncached and place as in readSet.
	uncached string
	place    *ast.Location
}

// inputPath is the constant beginning of a reference to input.
type inputPath struct {
	keys []ast.Value // strings, numbers, booleans and null
	at   *ast.Location
}

// String is the path as Rego has it.
func (p inputPath) String() string {
	ref := ast.Ref{ast.InputRootDocument}
	for _, k := range p.keys {
		ref = append(ref, ast.NewTerm(k))
	}
	return ref.String()
}

// pointer is the JSON Pointer of p, as far as its keys are strings.
func (p inputPath) pointer() string {
	at := "/input"
	for i := 0; i < len(p.keys) && key(p.keys, i) != ""; i++ {
		at += gatehouse.Pointer(key(p.keys, i))
	}
	return at
}

// and is what u and v read together.
func (u usage) and(v usage) usage {
	if u.uncached == "" {
		u.uncached, u.place = v.uncached, v.place
	}
	u.paths = slices.Concat(u.paths, v.paths)
	u.buckets = slices.Concat(u.buckets, v.buckets)
	return u
}

func analyze(c *ast.Compiler, bs buckets, queries ...ast.Body) usage {
	a := &analysis{compiler: c, buckets: bs, seen: map[*ast.Rule]bool{}}
	for _, q := range queries {
		a.walk(q)
	}
	for r := a.next(); r != nil; r = a.next() {
		walkRule(r, a.walk)
	}
	return a.usage
}

// next returns a reachable rule that was not looked at yet, or nil.
func (a *analysis) next() *ast.Rule {
	if len(a.work) == 0 {
		return nil
	}
	r := a.work[len(a.work)-1]
	a.work = a.work[:len(a.work)-1]
	a.rule = r
	if r.Else != nil {
		a.reach([]*ast.Rule{r.Else})
	}
	return r
}

func (u *usage) unkept(why string, at *ast.Location) {
	if u.uncached == "" {
		u.uncached, u.place = why, at
	}
}

func (a *analysis) walk(x any) {
	ast.NewGenericVisitor(func(n any) bool {
		switch n := n.(type) {
		case ast.Ref:
			a.ref(n)
			for _, t := range n[1:] {
				a.walk(t)
			}
			return true
		case ast.Var:
			if n.Equal(ast.InputRootDocument.Value) {
				a.paths = append(a.paths, inputPath{})
			}
		case ast.Body, *ast.Expr, *ast.With, *ast.Term, *ast.Every, *ast.SomeDecl, ast.Args, ast.Call,
			ast.Object, *ast.Array, ast.Set,
			*ast.ArrayComprehension, *ast.ObjectComprehension, *ast.SetComprehension,
			ast.Boolean, ast.Number, ast.String, ast.Null:
		default: // a kind of node that a newer OPA brought
			a.paths = append(a.paths, inputPath{})
			a.unkept("a language construct that the analysis does not know", nil)
		}
		return false
	}).Walk(x)
}

func (a *analysis) ref(r ast.Ref) {
	head, ok := r[0].Value.(ast.Var)
	switch {
	case !ok:
		a.walk(r[0])
	case head.Equal(ast.InputRootDocument.Value):
		p := inputPath{at: r[0].Location}
		for _, t := range r[1:] {
			if !constant(t.Value) {
				break
			}
			p.keys = append(p.keys, t.Value)
		}
		a.paths = append(a.paths, p)
		if key(p.keys, 0) == "time" {
			a.time("reads input.time", p.at)
		}
	case head.Equal(ast.DefaultRootDocument.Value):
		// Rules at, above and below the reference.
		a.reach(a.compiler.GetRules(r.ConstantPrefix()))
		a.reach(a.compiler.GetRulesDynamicWithOpts(r, ast.RulesOptions{IncludeHiddenModules: true}))
	default:
		if b := ast.BuiltinMap[r.String()]; b != nil && b.Nondeterministic {
			if b.Name != ast.NowNanos.Name {
				a.unkept("calls "+b.Name, r[0].Location)
				return
			}
			a.time("calls "+b.Name, r[0].Location)
		}
	}
}

// time records that the rule at hand reads the time.
func (a *analysis) time(how string, at *ast.Location) {
	seconds := a.buckets.of(a.rule)
	if seconds == 0 {
		a.unkept(how+", which every request has its own of", at)
	}
	a.usage.buckets = append(a.usage.buckets, seconds)
}

func constant(v ast.Value) bool {
	switch v.(type) {
	case ast.String, ast.Number, ast.Boolean, ast.Null:
		return true
	}
	return false
}

func (a *analysis) reach(rules []*ast.Rule) {
	for _, r := range rules {
		if !a.seen[r] {
			a.seen[r] = true
			a.work = append(a.work, r)
		}
	}
}

// reading makes a readSet of paths.
type reading struct {
	usage
	reads readSet
}

// readSet sorts the paths, drops those within another, and makes key parts.
func (u usage) readSet() *readSet {
	slices.SortStableFunc(u.paths, func(p, q inputPath) int {
		return slices.CompareFunc(p.keys, q.keys, ast.Value.Compare)
	})
	a := reading{usage: u}
	a.reads.headers = []string{}
	var last []ast.Value
	for i, p := range u.paths {
		if i > 0 && len(p.keys) >= len(last) && slices.EqualFunc(last, p.keys[:len(last)], func(x, y ast.Value) bool { return x.Compare(y) == 0 }) {
			continue
		}
		last = p.keys
		a.reads.paths = append(a.reads.paths, p)
		a.reads.pointers = append(a.reads.pointers, p.pointer())
		a.path(p)
	}
	for _, seconds := range u.buckets {
		a.reads.key = append(a.reads.key, part{kind: partTime, index: seconds})
	}
	if len(u.buckets) > 0 {
		a.reads.bucket = slices.Min(u.buckets)
	}
	a.reads.uncached, a.reads.place = a.uncached, a.place
	// Paths that were widened to the same part give it twice.
	slices.SortStableFunc(a.reads.key, comparePart)
	a.reads.key = slices.CompactFunc(a.reads.key, func(x, y part) bool { return comparePart(x, y) == 0 })
	a.reads.ready()
	return &a.reads
}

func comparePart(x, y part) int {
	return cmp.Or(cmp.Compare(x.kind, y.kind), cmp.Compare(x.index, y.index), cmp.Compare(x.name, y.name), slices.Compare(x.path, y.path))
}

// add puts a part into the key and a field into the document.
func (a *reading) add(f fields, p part) {
	a.reads.fields |= f
	a.reads.key = append(a.reads.key, p)
}

// path adds what the document can hold at p. A path that no document has is
// undefined in every one, and one below a string or number as well.
func (a *reading) path(p inputPath) {
	if len(p.keys) == 0 {
		a.reads.fields, a.reads.headers = fieldsAll, nil
		a.unkept("reads input as a whole", p.at)
		return
	}
	switch top := key(p.keys, 0); top {
	case "tenant":
		a.add(fieldTenant, part{kind: partTenant})
	case "plan":
		a.add(fieldPlan, part{kind: partPlan})
	case "route":
		a.add(fieldRoute, part{kind: partRoute})
	case "auth":
		a.add(fieldAuth, part{kind: partAuth})
	case "features":
		if name := key(p.keys, 1); name != "" {
			a.add(fieldFeatures, part{kind: partFeature, name: name})
		} else {
			a.add(fieldFeatures, part{kind: partFeatures})
		}
	case "request":
		a.request(p)
	case "principal":
		a.principal(p)
	case "client":
		name := key(p.keys, 1)
		if name == "ip" || len(p.keys) == 1 {
			a.add(fieldIP, part{kind: partIP})
		}
		if name == "tls" || len(p.keys) == 1 {
			a.add(fieldTLS, part{kind: partTLS})
		}
		if name == "cert" || len(p.keys) == 1 {
			a.add(fieldCert, part{kind: partCert, path: certificatePath(p.keys)})
		}
	case "time":
		a.reads.fields |= fieldTime // the key has its bucket
	}
}

// certificatePath is what of input.client.cert a path names.
func certificatePath(keys []ast.Value) []string {
	var path []string
	for i := 2; i < len(keys) && key(keys, i) != ""; i++ {
		path = append(path, key(keys, i))
	}
	return path
}

// key returns keys[i] if it is a string, else "".
func key(keys []ast.Value, i int) string {
	if i < len(keys) {
		if s, ok := keys[i].(ast.String); ok {
			return string(s)
		}
	}
	return ""
}

// perRequest are the header fields of which nearly every request has its own
// value.
var perRequest = []string{"date", "idempotency-key", "traceparent", "tracestate", "x-amzn-trace-id", "x-correlation-id", "x-request-id"}

func (a *reading) request(p inputPath) {
	if len(p.keys) == 1 {
		a.reads.fields |= fieldsRequest
		a.reads.headers = nil
		a.unkept("reads input.request as a whole", p.at)
		return
	}
	switch key(p.keys, 1) {
	case "method":
		a.add(fieldMethod, part{kind: partMethod})
	case "host":
		a.add(fieldHost, part{kind: partHost})
	case "path":
		a.add(fieldPath, part{kind: partPath})
	case "protocol":
		a.add(fieldProtocol, part{kind: partProtocol})
	case "body_size":
		a.add(fieldBodySize, part{kind: partBodySize})
	case "segments":
		a.add(fieldSegments, segmentPart(p.keys))
	case "query":
		if name := key(p.keys, 2); name != "" {
			a.add(fieldQuery, part{kind: partParameter, name: name})
		} else {
			a.add(fieldQuery, part{kind: partQuery})
		}
	case "headers":
		name := key(p.keys, 2)
		switch {
		case name == "":
			a.reads.fields |= fieldHeaders
			a.reads.headers = nil
			a.unkept("reads input.request.headers as a whole", p.at)
			return
		case slices.Contains(perRequest, name):
			a.unkept("reads the header "+name+", which every request has its own of", p.at)
		}
		if a.reads.headers != nil {
			a.reads.headers = append(a.reads.headers, name)
		}
		a.add(fieldHeaders, part{kind: partHeader, name: name})
	}
}

func segmentPart(keys []ast.Value) part {
	if len(keys) > 2 {
		if n, ok := keys[2].(ast.Number); ok {
			if i, ok := n.Int(); ok && i >= 0 {
				return part{kind: partSegment, index: i}
			}
		}
	}
	return part{kind: partPath}
}

func (a *reading) principal(p inputPath) {
	var path []string
	for i := 1; i < len(p.keys) && key(p.keys, i) != ""; i++ {
		path = append(path, key(p.keys, i))
	}
	if len(path) == 0 {
		a.add(fieldPrincipal, part{kind: partPrincipal})
		return
	}
	i := slices.Index(principalFields[:], path[0])
	if i < 0 {
		return
	}
	if len(path) > 1 && path[0] != "claims" {
		path = path[:1] // below a string or an array there is nothing by name
	}
	if len(path) > 1 && path[1] == "jti" {
		a.unkept("reads input.principal.claims.jti, which every token has its own of", p.at)
	}
	a.add(fieldPrincipal, part{kind: partOfPrincipal, index: i, path: path[1:]})
}
