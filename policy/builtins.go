package policy

import (
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/types"
)

// plainBuiltins cost no more than a pass over operands that are themselves
// bounded, and make nothing larger than them: a step of the budget covers a
// call. A built-in that is neither here nor in guardedBuiltins does not exist
// for policies, so a new release of OPA adds none. Left out are the network,
// randomness, the process (opa.runtime), the compiler (rego.*), remote schemas
// (json.match_schema, json.verify_schema), keys, signatures and certificates
// (io.jwt.verify_*, crypto.x509.*), and what grows or runs out of all
// proportion to its input: bits.lsh, json.patch, yaml.*, graph.*, graphql.*,
// net.cidr_expand, regex.globs_match, strings.render_template.
var plainBuiltins = []string{
	"eq", "assign", "equal", "count", "print",
	"is_array", "is_boolean", "is_null", "is_number", "is_object", "is_set", "is_string", "type_name",
	"startswith", "endswith", "contains", "strings.count", "indexof", "substring", "lower", "upper",
	"trim_prefix", "trim_suffix", "trim_space", "strings.reverse",
	"array.reverse", "array.slice", "object.get", "object.keys",
	"time.now_ns", "uuid.parse",
}

// guardedBuiltins pay from the budget, by a cost function, before they run
// and for what they return. One that is nil stands for a pass over the
// operands.
var guardedBuiltins = map[string]func(ops []*ast.Term) int{
	"neq": nil, "lt": nil, "lte": nil, "gt": nil, "gte": nil,
	"internal.member_2": nil, "internal.member_3": nil, "walk": nil,
	"plus": nil, "minus": nil, "mul": nil, "div": nil, "rem": nil, "abs": nil, "ceil": nil, "floor": nil, "round": nil,
	"bits.and": nil, "bits.or": nil, "bits.xor": nil, "bits.negate": nil, "bits.rsh": nil,
	"sum": nil, "product": nil, "max": nil, "min": nil, "to_number": nil, "format_int": nil,
	"numbers.range": nil, "numbers.range_step": nil, "units.parse": nil, "units.parse_bytes": nil,
	"and": nil, "or": nil, "intersection": nil, "union": nil, "sort": times(16),
	"array.concat": nil, "array.flatten": nil,
	"object.filter": nil, "object.remove": nil, "object.union": nil, "object.union_n": nil, "object.subset": product,
	"json.filter": product, "json.remove": product,
	"json.marshal": nil, "json.marshal_with_options": product, "json.unmarshal": nil, "json.is_valid": nil,
	"concat": concatCost, "sprintf": sprintfCost, "internal.template_string": times(8),
	"replace": replaceCost, "strings.replace_n": product, "split": nil, "strings.split_n": nil,
	"trim": product, "trim_left": product, "trim_right": product, "indexof_n": product,
	"strings.any_prefix_match": product, "strings.any_suffix_match": product,
	"regex.match": product, "regex.is_valid": product, "regex.find_n": product, "regex.split": product,
	"regex.find_all_string_submatch_n": product, "regex.template_match": product, "regex.replace": product,
	"glob.match": globCost, "glob.quote_meta": nil,
	"base64.encode": nil, "base64.decode": nil, "base64.is_valid": nil,
	"base64url.encode": nil, "base64url.encode_no_pad": nil, "base64url.decode": nil,
	"hex.encode": nil, "hex.decode": nil,
	"urlquery.encode": nil, "urlquery.decode": nil, "urlquery.encode_object": nil, "urlquery.decode_object": nil,
	"uri.parse": nil, "uri.is_valid": nil, "semver.compare": nil, "semver.is_valid": nil, "io.jwt.decode": nil,
	"crypto.md5": nil, "crypto.sha1": nil, "crypto.sha256": nil,
	"crypto.hmac.md5": nil, "crypto.hmac.sha1": nil, "crypto.hmac.sha256": nil, "crypto.hmac.sha512": nil, "crypto.hmac.equal": nil,
	"net.cidr_contains": nil, "net.cidr_contains_matches": product, "net.cidr_intersects": nil, "net.cidr_is_valid": nil,
	"net.cidr_merge":        product,
	"time.parse_ns":         nil,
	"time.add_date":         zoneCost,
	"time.clock":            zoneCost,
	"time.date":             zoneCost,
	"time.diff":             zoneCost,
	"time.format":           zoneCost,
	"time.weekday":          zoneCost,
	"time.parse_rfc3339_ns": nil, "time.parse_duration_ns": nil,
}

// comparisons are guarded built-ins that cost no more than a pass over one
// operand if another is a literal string, number, boolean or null.
var comparisons = []string{"neq", "lt", "lte", "gt", "gte", "internal.member_2"}

// guardPrefix begins the name under which a compiled module calls a guarded
// built-in. No source can write such a name.
const guardPrefix = "guarded:"

// capabilities is what modules may use: the built-ins above and Rego v1.
func capabilities() *ast.Capabilities {
	c := ast.CapabilitiesForThisVersion(ast.CapabilitiesRegoVersion(ast.RegoV1))
	c.Builtins = slices.DeleteFunc(c.Builtins, func(b *ast.Builtin) bool {
		_, guarded := guardedBuiltins[b.Name]
		return !guarded && !slices.Contains(plainBuiltins, b.Name)
	})
	c.Features = slices.DeleteFunc(c.Features, func(f string) bool {
		return f == ast.FeatureRegoV2 || f == ast.FeatureRegoV2Import
	})
	c.AllowNet = []string{}
	return c
}

// guards are the guarded built-ins under the names that compiled modules use.
func guards() map[string]*topdown.Builtin {
	gs := make(map[string]*topdown.Builtin, len(guardedBuiltins))
	for name, cost := range guardedBuiltins {
		if cost == nil {
			cost = times(1)
		}
		decl := *ast.BuiltinMap[name]
		decl.CanSkipBctx = false // the guard finds its budget there
		gs[guardPrefix+name] = &topdown.Builtin{Decl: &decl, Func: guarded(topdown.GetBuiltin(name), cost)}
	}
	anything := types.NewFunction(types.Args(types.A), types.B)
	gs[checkName] = &topdown.Builtin{Decl: &ast.Builtin{Name: checkName, Decl: anything}, Func: check(false)}
	gs[growName] = &topdown.Builtin{Decl: &ast.Builtin{Name: growName, Decl: anything}, Func: check(true)}
	return gs
}

// unitSize is how many bytes or elements one step of the budget pays for.
const unitSize = 64

// Bounds of values, in bytes and elements, counted as if nothing were shared.
const (
	// maxValue bounds a value that a variable may have, other than a
	// comprehension and the sets and objects that rules build.
	maxValue = 64 << 10
	// maxGrown bounds what comprehensions and such rules build in the course of
	// an evaluation. To compare two values takes some 600 bytes of stack for
	// each element of the smaller, and the stack may not reach 1 GB: that ends
	// the process.
	maxGrown = 128 << 10
)

// Names of the checks that guard puts into rules.
const (
	checkName = guardPrefix + "check"
	growName  = guardPrefix + "grow"
)

// check ends the evaluation if its operand is over maxValue, or, for a value
// that grows, if all those together are over maxGrown.
func check(grows bool) topdown.BuiltinFunc {
	return func(bctx topdown.BuiltinContext, ops []*ast.Term, iter func(*ast.Term) error) error {
		b, ok := bctx.Cancel.(*budget)
		n := measure(ops[0].Value, maxValue)
		if !ok || n > maxValue || grows && !b.grow(n) || !b.spend(1+n/unitSize) {
			if ok {
				b.cut = true
			}
			return topdown.Halt{Err: ErrBudget}
		}
		return iter(ast.InternedTerm(true))
	}
}

func guarded(f topdown.BuiltinFunc, cost func([]*ast.Term) int) topdown.BuiltinFunc {
	return func(bctx topdown.BuiltinContext, ops []*ast.Term, iter func(*ast.Term) error) error {
		b, ok := bctx.Cancel.(*budget)
		if !ok || !b.spend(1+cost(ops)/unitSize) {
			return topdown.Halt{Err: ErrBudget}
		}
		return f(bctx, ops, func(out *ast.Term) error {
			if n := measure(out.Value, maxValue); n > maxValue || !b.spend(1+n/unitSize) {
				b.cut = true
				return topdown.Halt{Err: ErrBudget}
			}
			return iter(out)
		})
	}
}

// tooMuch is a cost that no budget pays.
const tooMuch = 1 << 40

// size measures an operand; one over maxValue costs too much.
func size(t *ast.Term) int {
	if n := measure(t.Value, maxValue); n <= maxValue {
		return n
	}
	return tooMuch
}

// measure counts the bytes and elements of v, and stops soon after limit: a
// value whose parts are shared many times over has no other bound. Numbers
// beyond saneNumber count as over the limit.
func measure(v ast.Value, limit int) int {
	switch v := v.(type) {
	case ast.String:
		return 1 + len(v)
	case ast.Number:
		if !saneNumber(string(v)) {
			return limit + 1
		}
		return 1 + len(v)
	case *ast.Array:
		n := 1
		for i := 0; i < v.Len() && n <= limit; i++ {
			n += measure(v.Elem(i).Value, limit-n)
		}
		return n
	case ast.Set:
		return measureSet(v, limit)
	case ast.Object:
		return measureObject(v, limit)
	}
	return 1
}

func measureSet(s ast.Set, limit int) int {
	n := 1
	s.Until(func(t *ast.Term) bool {
		n += measure(t.Value, limit-n)
		return n > limit
	})
	return n
}

func measureObject(o ast.Object, limit int) int {
	n := 1
	o.Until(func(k, t *ast.Term) bool {
		n += measure(k.Value, limit-n)
		n += measure(t.Value, max(0, limit-n))
		return n > limit
	})
	return n
}

// times charges k passes over the operands.
func times(k int) func([]*ast.Term) int {
	return func(ops []*ast.Term) int {
		n := 0
		for _, t := range ops {
			n += size(t)
		}
		return k * min(n, tooMuch)
	}
}

// product charges the product of the operands' sizes: pattern by text, or
// each element of one against each of the other.
func product(ops []*ast.Term) int {
	n := 1
	for _, t := range ops {
		n = min(n*min(size(t), tooMuch>>20), tooMuch)
	}
	return n
}

// concatCost: the delimiter comes once for each element.
func concatCost(ops []*ast.Term) int {
	n := 0
	switch v := ops[1].Value.(type) {
	case *ast.Array:
		n = v.Len()
	case ast.Set:
		n = v.Len()
	}
	return min(size(ops[1])+n*size(ops[0]), tooMuch)
}

// replaceCost: the new text comes once for each place of the old.
func replaceCost(ops []*ast.Term) int {
	text, old := size(ops[0]), max(1, size(ops[1])-1)
	return min(text+text/old*min(size(ops[2]), maxValue), tooMuch)
}

// sprintfCost: each verb may print the largest operand (in quotes, with
// escapes), or pad to a width.
func sprintfCost(ops []*ast.Term) int {
	const maxWidth = 999 // three digits
	format, ok := ops[0].Value.(ast.String)
	if !ok {
		return 1
	}
	digits, wide := 0, false
	for i := range len(format) {
		if '0' <= format[i] && format[i] <= '9' {
			digits++
		} else {
			digits = 0
		}
		wide = wide || digits > 3 || format[i] == '*'
	}
	if wide {
		return tooMuch
	}
	verbs := strings.Count(string(format), "%")
	return min(len(format)+verbs*(maxWidth+8*size(ops[1])), tooMuch)
}

// globCost bounds the pattern: matching tries each way to share the text out
// among the wildcards.
func globCost(ops []*ast.Term) int {
	const maxPattern, maxStars, maxText = 256, 4, 1 << 10
	pattern, ok := ops[0].Value.(ast.String)
	if !ok {
		return 1
	}
	stars := strings.Count(string(pattern), "*") + strings.Count(string(pattern), "{")
	text := size(ops[2])
	if len(pattern) > maxPattern || stars > 2*maxStars || text > maxText {
		return tooMuch
	}
	return len(pattern) * (size(ops[1]) + text*(1+stars))
}

// zoneCost covers reading a time zone.
func zoneCost(ops []*ast.Term) int {
	const zone = 8 << 10
	return min(zone+times(1)(ops), tooMuch)
}
