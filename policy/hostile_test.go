package policy_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/policy"
)

// hostile are modules that compile and would run, or grow, for seconds.
func hostile() map[string]string {
	double := func(expr string, n int) string {
		var b strings.Builder
		b.WriteString("a0 := input.request.path\n")
		for i := range n {
			v := fmt.Sprintf("a%d", i)
			fmt.Fprintf(&b, "a%d := %s\n", i+1, strings.ReplaceAll(expr, "X", v))
		}
		fmt.Fprintf(&b, "allow if is_null(a%d)\n", n)
		return b.String()
	}
	chain := func(n int, body string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "f%d(x) := y if { %s }\n", i, fmt.Sprintf(body, i+1))
		}
		fmt.Fprintf(&b, "f%d(x) := x + 1\nallow if f0(1) == 0\n", n)
		return b.String()
	}
	const long = `concat("", ["aaaaaaaaaa" | some i in numbers.range(1, 3000)])`
	return map[string]string{
		"cross product":        `allow if { xs := numbers.range(1, 1000); count([1 | some a in xs; some b in xs; some c in xs; a + b + c < 0]) == 1 }`,
		"long range":           `allow if count(numbers.range(1, 30000000)) == 1`,
		"many strings":         `allow if { xs := numbers.range(1, 3000); count({sprintf("%d-%d", [a, b]) | some a in xs; some b in xs}) == 1 }`,
		"concat doubles":       double(`concat("", [X, X, X, X])`, 20),
		"sprintf doubles":      double(`sprintf("%s%s%[1]s%[1]s", [X, X])`, 20),
		"template doubles":     double(`$"{X}{X}{X}{X}"`, 20),
		"replace doubles":      double(`replace(X, "a", concat("", [X, "a", X]))`, 12),
		"array doubles":        double(`array.concat([X, X], [X, X, X])`, 20) + "b := json.marshal(a20)\nallow if b == \"\"\n",
		"join of joins":        double(`concat(X, ["a", X, X, X])`, 20),
		"sprintf width":        `allow if count(sprintf("%300000000d", [1])) == 1`,
		"sprintf star":         `allow if count(sprintf("%*d", [300000000, 1])) == 1`,
		"square":               "allow if { x := product([99999999999999999999, 99999999999999999999, 99999999999999999999, 99999999999999999999]); x == 1 }",
		"regex on long text":   `allow if { xs := concat("", [x | some i in numbers.range(1, 9000); x := "aaaaaaaaaa"]); count(regex.find_n("(a*)*(a*)*(a|b)*c?", xs, -1)) == 0 }`,
		"glob of stars":        `allow if glob.match("*a*a*a*a*a*a*a*a*a*b", [], concat("", [x | some i in numbers.range(1, 900); x := "a"]))`,
		"walk in loops":        `allow if { xs := numbers.range(1, 2000); some i in xs; some j in xs; walk(input, [p, v]); v == [p, i, j] }`,
		"every in every":       `allow if { xs := numbers.range(1, 5000); every a in xs { every b in xs { a * b != -1 } } }`,
		"sets of sets":         `allow if { s := {x | some x in numbers.range(1, 20000)}; every i in numbers.range(1, 5000) { count(s | {i}) > 0 } }`,
		"cidrs by cidrs":       `allow if { c := [sprintf("10.%d.%d.0/24", [i, j]) | some i in numbers.range(0, 30); some j in numbers.range(0, 30)]; count(net.cidr_contains_matches(c, c)) == 1 }`,
		"trim by large set":    `allow if { s := concat("", ["é" | some i in numbers.range(1, 30000)]); trim(s, s) == "x" }`,
		"shared parts walked":  "hide(x) := [x][_]\n" + double(`[hide(X), hide(X), hide(X), hide(X)]`, 12) + `allow if { walk(a12, [_, v]); v == 7 }`,
		"shared parts shown":   "hide(x) := [x][_]\n" + double(`[hide(X), hide(X), hide(X), hide(X)]`, 12) + `allow if sprintf("%v", [a12]) == ""`,
		"shared parts told":    "hide(x) := [x][_]\n" + double(`[hide(X), hide(X), hide(X), hide(X)]`, 12) + `allow if a12 > a11`,
		"calls of calls":       chain(12, "y := sum([f%[1]d(x * i) | some i in numbers.range(1, 12)])"),
		"calls with new args":  `f(x) := x * 2` + "\nallow if { xs := numbers.range(1, 1500); some i in xs; some j in xs; f((i * 10000) + j) == -1 }",
		"with in loops":        "p if input.plan == \"never\"\nallow if { xs := numbers.range(1, 3000); some i in xs; some j in xs; p with input.route as [i, j] }",
		"objects merge":        `allow if { o := {sprintf("k%d", [i]): i | some i in numbers.range(1, 4000)}; every i in numbers.range(1, 4000) { count(object.union(o, {"x": i})) > 0 } }`,
		"sorts in loops":       `allow if { xs := numbers.range(1, 6000); every i in xs { count(sort(xs)) > i - 1 } }`,
		"json there and back":  `allow if { xs := numbers.range(1, 6000); every i in xs { count(json.unmarshal(json.marshal(xs))) > i - 1 } }`,
		"json bomb":            `allow if { s := concat("", ["[" | some i in numbers.range(1, 9000)]); e := concat("", ["]" | some i in numbers.range(1, 9000)]); every i in numbers.range(1, 2000) { i > 0; is_array(json.unmarshal(concat("", [s, e]))) } }`,
		"base64 doubles":       double(`concat("", [base64.encode(X), base64.encode(X)])`, 20),
		"escapes double":       double(`urlquery.encode(concat("%", [X, X]))`, 25),
		"hashes in loops":      `allow if { s := ` + long + `; every i in numbers.range(1, 9000) { i > 0; crypto.sha256(s) != "" } }`,
		"regex replace grows":  `allow if { s := ` + long + `; regex.replace(s, "a", s) == "" }`,
		"patterns as text":     `allow if { s := ` + long + `; every i in numbers.range(1, 9000) { i > 0; not regex.match(concat("", [s, "b"]), s) } }`,
		"globs in loops":       `allow if { every i in numbers.range(1, 100000) { i > 0; not glob.match("*a*b", [], "aaaaaaaaaaaaaaaa") } }`,
		"splits in loops":      `allow if { s := ` + long + `; every i in numbers.range(1, 9000) { i > 0; count(split(s, "a")) > 0 } }`,
		"dates in loops":       `allow if { every i in numbers.range(1, 30000) { time.clock([i, "America/New_York"]) != [] } }`,
		"tokens in loops":      `allow if { s := ` + long + `; every i in numbers.range(1, 30000) { i > 0; not io.jwt.decode(s) } }`,
		"reason in loops":      `allow := false` + "\nreason := \"x\" if { xs := numbers.range(1, 1000); every a in xs { every b in xs { every c in xs { a + b + c != -1 } } } }",
		"obligations in loops": "allow := true\nobligations := {\"cost\": n} if { xs := numbers.range(1, 1000); n := count([1 | some a in xs; some b in xs; some c in xs; a + b + c < 0]) }",
	}
}

// TestHostileIsCut: the budget of steps cuts each, on any machine, before the
// far deadline of this test.
func TestHostileIsCut(t *testing.T) {
	for name, rules := range hostile() {
		t.Run(name, func(t *testing.T) {
			e := engine(t, policy.Config{Deadline: time.Minute})
			p := compile(t, e, "package gatehouse.tenant\n"+rules)
			in := salary()
			in.Path = []byte(strings.Repeat("a", 16))
			start := time.Now()
			d := p.Decide(in)
			if d.Allow || d.Err == nil || d.Status != 403 || d.By != policy.ByTenant {
				t.Errorf("%+v", d)
			}
			// Steps, not this bound, are the measure; it tells seconds of one
			// core from the hundredths that the budget takes.
			if spent := time.Since(start); spent > 10*time.Second {
				t.Errorf("took %v", spent)
			}
		})
	}
}

// TestSharedPartsAreCut builds values that share their parts so often that to
// compare two of them, or their types, would take hours, or all of the stack:
// the latter would end this process. Where the types show it the compiler
// refuses; hidden from it by a function, the evaluation is cut.
func TestSharedPartsAreCut(t *testing.T) {
	sharedParts(t, "")
	sharedParts(t, "hide(x) := [x][_]\n")
}

func sharedParts(t *testing.T, hide string) {
	const levels = 30
	chain := func(format, compare string) string {
		var b strings.Builder
		for _, name := range []string{"a", "b"} {
			fmt.Fprintf(&b, "%s0 := [input.plan, 1]\n", name)
			for i := range levels {
				last, next := fmt.Sprint(name, i), fmt.Sprint(name, i+1)
				if hide != "" {
					last = "hide(" + last + ")"
				}
				b.WriteString(strings.NewReplacer("LAST", last, "NEXT", next, "NAME", name).Replace(format) + "\n")
			}
		}
		return hide + b.String() + strings.NewReplacer("X", fmt.Sprint("a", levels), "Y", fmt.Sprint("b", levels)).Replace(compare) + "\n"
	}
	const equal = "allow if X == Y"
	for name, rules := range map[string]string{
		"head literal":     chain(`NEXT := [LAST, LAST]`, equal),
		"body literal":     chain(`NEXT := x if { y := LAST; x := [y, 1, y] }`, equal),
		"object":           chain(`NEXT := {"a": LAST, "b": {"c": LAST}}`, equal),
		"comprehension":    chain(`NEXT := [x | some i in [1, 2, 3]; x := LAST]`, equal),
		"object of them":   chain(`NEXT := {i: x | some i in [1, 2, 3]; x := LAST}`, equal),
		"set of pairs":     chain(`NEXT := {x | some i in [1, 2, 3]; x := [i, LAST]}`, equal),
		"partial set":      chain("NEXT contains x if { some i in [1, 2, 3]; x := [i, LAST] }", equal),
		"partial object":   chain("NEXT[i] := LAST if some i in [1, 2, 3]", equal),
		"nested partial":   chain("NEXT[i][j] := LAST if { some i in [1, 2]; some j in [1, 2] }", equal),
		"rules by name":    chain("NEXT.x := LAST\nNEXT.y := LAST", equal),
		"rules in braces":  chain("NEXT.x := LAST\nNEXT.y := LAST", "allow if { x := X; y := Y; x == y }"),
		"mixed rules":      chain("NEXT.x := LAST\nNEXT.y := LAST\nNEXT[i] := LAST if some i in [1, 2]", "allow if { x := X; y := Y; x == y }"),
		"function":         chain(`NEXTf(x) := [x, x]`+"\n"+`NEXT := NEXTf(LAST)`, equal),
		"function of pair": chain(`NEXTf(x) := x`+"\n"+`NEXT := NEXTf([LAST, LAST])`, equal),
		"else":             chain(`NEXT := false if input.nothing else := [LAST, LAST]`, equal),
		"plain built-in":   chain(`NEXT := array.reverse([LAST, LAST])`, equal),
		"slice":            chain(`NEXT := array.slice([LAST, LAST, LAST], 0, 2)`, equal),
		"concat":           chain(`NEXT := array.concat(LAST, LAST)`, equal),
		"in a set":         chain(`NEXT := [LAST, LAST]`, "allow if count({X, Y}) == 1"),
		"as a key":         chain(`NEXT := [LAST, LAST]`, "allow if { o := {X: 1}; o[Y] }"),
		"as an argument":   chain(`NEXT := [LAST, LAST]`, "f(x) := count(x)\nallow if f(X) == f(Y)"),
		"not equal":        chain(`NEXT := [LAST, LAST]`, "allow if not X == Y"),
		"every":            chain(`NEXT := [x | every y in [1] { y == 1 }; x := [LAST, LAST]]`, equal),
		"pattern":          chain(`NEXT := [x, y, z] if [x, y, z] = [LAST, LAST, LAST]`, equal),
		"with": func() string {
			var b strings.Builder
			fmt.Fprintf(&b, "r%d := input\n", levels)
			for i := range levels {
				fmt.Fprintf(&b, "r%d := x if { y := input; x := r%d with input.k%d as y }\n", i, i+1, i)
			}
			return b.String() + "allow if r0 == 1\n"
		}(),
		"with literal": func() string {
			var b strings.Builder
			fmt.Fprintf(&b, "r%d := input\n", levels)
			for i := range levels {
				fmt.Fprintf(&b, "r%d := x if { x := r%d with input as [input, input] }\n", i, i+1)
			}
			return b.String() + "allow if r0 == 1\n"
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			e := engine(t, policy.Config{Deadline: time.Minute})
			source := "package gatehouse.tenant\n" + rules
			p, faults := e.Compile([]gatehouse.Module{{Name: "a.rego", Source: source}})
			if p == nil {
				if r := faults[0].Reason; !strings.Contains(r, "no known size") && (hide != "" || !strings.Contains(r, "too often used")) {
					t.Fatalf("%v\n%s", faults, source)
				}
				return
			}
			start := time.Now()
			if d := p.Decide(salary()); d.Allow || d.Err == nil {
				t.Errorf("%+v\n%s", d, source)
			}
			if spent := time.Since(start); spent > 10*time.Second {
				t.Errorf("took %v", spent)
			}
		})
	}
}

// TestHugeNumbers: no number is so large that its arithmetic takes long; one
// that comes from text is undefined or ends the evaluation.
func TestHugeNumbers(t *testing.T) {
	p := func(rule string) *policy.Policy { return compile(t, roomy(t), "package gatehouse.tenant\n"+rule) }
	for _, number := range []string{"1e999999999", "1e-999999999", "1e9999", strings.Repeat("9", 10_000)} {
		for _, rule := range []string{
			`allow if to_number(input.request.host) + 1 != 0`,
			`allow if json.unmarshal(input.request.host) * 2 != 0`,
			`allow if units.parse(input.request.host) + 1 != 0`,
			`allow if format_int(to_number(input.request.host), 2) != ""`,
			`allow if sprintf("%d", [input.principal.claims.n]) == "2"`,
			`allow if input.principal.claims.n + 1 != 0`,
		} {
			in := salary()
			in.Host = []byte(number)
			in.Principal = policy.NewPrincipal("jwt", "bob", "acme", nil, nil, nil, map[string]any{"n": json.Number(number)})
			start := time.Now()
			if d := p(rule).Decide(in); d.Allow || time.Since(start) > 5*time.Second {
				t.Errorf("%s with %.20s: %+v after %v", rule, number, d, time.Since(start))
			}
		}
	}
}

// TestDeadline cuts by time where steps would last.
func TestDeadline(t *testing.T) {
	e := engine(t, policy.Config{Deadline: time.Millisecond, MaxSteps: 1 << 40})
	p := compile(t, e, `package gatehouse.tenant
allow if { xs := numbers.range(1, 1000); count([1 | some a in xs; some b in xs; some c in xs; a + b + c < 0]) == 1 }`)
	if d := p.Decide(salary()); d.Allow || d.Err == nil {
		t.Errorf("%+v", d)
	}
}

// TestSetAside: a policy that keeps running out of its budget is not tried
// again at once, and others are not affected.
func TestSetAside(t *testing.T) {
	e := engine(t, policy.Config{Deadline: time.Minute})
	const loop = `package gatehouse.tenant
allow if { xs := numbers.range(1, 1000); count([1 | some a in xs; some b in xs; a + b < 0]) == 1 }`
	p, other := compile(t, e, loop), compile(t, e, example)
	var errs []string
	for range 4 {
		errs = append(errs, p.Decide(salary()).Err.Error())
	}
	if errs[2] == errs[3] || !strings.Contains(errs[3], "aside") {
		t.Errorf("%q", errs)
	}
	if d := other.Decide(salary()); d.Err != nil {
		t.Errorf("%+v", d)
	}
}

func TestHostileIsRefused(t *testing.T) {
	e := roomy(t)
	deep := func(open, end string, n int) string {
		return "package gatehouse.tenant\nallow if { x := " + strings.Repeat(open, n) + "1" + strings.Repeat(end, n) + "; x }"
	}
	var wide strings.Builder
	wide.WriteString("package gatehouse.tenant\nallow if {\n")
	for i := range 10_000 {
		fmt.Fprintf(&wide, "\tinput.plan == \"%d\"\n", i)
	}
	wide.WriteString("}\n")
	for name, source := range map[string]string{
		"http.send":        `allow if http.send({"method": "get", "url": "http://169.254.169.254"}).status_code == 200`,
		"opa.runtime":      `allow if opa.runtime().env.HOME`,
		"lookup":           `allow if net.lookup_ip_addr("example.com")`,
		"expand":           `allow if count(net.cidr_expand("10.0.0.0/8")) > 0`,
		"random":           `allow if rand.intn("x", 2) == 1`,
		"uuid":             `allow if uuid.rfc4122("x") == "y"`,
		"parse module":     `allow if rego.parse_module("x", "package x")`,
		"remote schema":    `allow if json.match_schema({}, {"$ref": "http://169.254.169.254/x"})[0]`,
		"shift":            `allow if bits.lsh(1, 2000000000) > 0`,
		"patch":            `allow if json.patch({}, []) == {}`,
		"yaml":             `allow if yaml.unmarshal("x") == "x"`,
		"graph":            `allow if graph.reachable({}, {1}) == set()`,
		"graphql":          `allow if graphql.is_valid("x", "y")`,
		"template":         `allow if strings.render_template("{{.x}}", {"x": 1}) == "1"`,
		"globs":            `allow if regex.globs_match("a.*", "b.*")`,
		"sign":             `allow if io.jwt.encode_sign({}, {}, {}) == ""`,
		"certificates":     `allow if crypto.x509.parse_certificates("x")`,
		"mock with http":   `allow if { count([]) == 0 with count as http.send }`,
		"mock with plain":  "f(x) := x\nallow if { f([]) == 0 with data.gatehouse.tenant.f as concat }",
		"other data":       `allow if data.tenants.globex.secret == 1`,
		"baseline":         `allow if data.gatehouse.baseline.allow`,
		"all data":         `allow if data[input.plan].x`,
		"data by variable": `allow if { x := data; x.y }`,
		"some data":        `allow if { some k; data.gatehouse[k].allow }`,
		"imported data":    "import data.tenants\nallow if tenants.globex",
		"replaced data":    `allow if { input.plan with data.gatehouse.baseline as {} }`,
		"recursion":        "f(x) := f(x)\nallow if f(1)",
		"own document":     `allow if data.gatehouse.tenant`,
		"huge number":      `allow if 1e999999999 + 1 == 2`,
		"long number":      `allow if ` + strings.Repeat("9", 100000) + ` == 1`,
		"whole package":    "PACKAGE gatehouse.baseline\nallow := true",
		"prefix package":   "PACKAGE gatehouse.tenants\nallow := true",
		"rego v2":          "import rego.v2\nallow if input.plan == \"a\" or input.plan == \"b\"",
		"arrays":           "SOURCE" + deep("[", "]", 50_000),
		"objects":          "SOURCE" + deep(`{"a":`, "}", 40_000),
		"calls":            "SOURCE" + deep("count(", ")", 20_000),
		"minus":            "SOURCE" + deep("-", "", 50_000),
		"plus":             "SOURCE" + deep("1+", "", 50_000),
		"or":               "SOURCE" + deep("{1}|", "", 50_000),
		"dots":             "SOURCE" + deep("input"+strings.Repeat(".a", 50_000)+"==", "", 1),
		"nots":             "allow if " + strings.Repeat("not ", 50_000) + "input.plan",
		"elses":            "allow if input.a" + strings.Repeat(" else := false if input.a", 10_000),
		"withs":            "allow if input.a" + strings.Repeat(" with input.a as 1", 10_000),
		"wide body":        "SOURCE" + wide.String(),
		"deep literals":    "allow if " + strings.Repeat("[", 40) + "1" + strings.Repeat("]", 40) + " == " + strings.Repeat("[", 40) + "input.x" + strings.Repeat("]", 40),
		"deep loops":       "allow if count(" + strings.Repeat("[x | x := ", 50) + "1" + strings.Repeat("]", 50) + ") == 1",
		"unclosed string":  `allow if "`,
		"unclosed raw":     "allow if `",
		"not UTF-8":        "allow if \"\xff\xfe\" == 1",
		"NUL":              "allow if \x00",
		"no allow":         "deny if input.plan",
		"allow(x)":         "allow(x) if x",
		"empty":            "SOURCE",
		"comment":          "SOURCE# nothing",
	} {
		t.Run(name, func(t *testing.T) {
			text, whole := strings.CutPrefix(source, "SOURCE")
			if !whole {
				if text, whole = strings.CutPrefix(source, "PACKAGE"); whole {
					text = "package" + text
				} else {
					text = "package gatehouse.tenant\n" + source
				}
			}
			start := time.Now()
			p, faults := e.Compile([]gatehouse.Module{{Name: "a.rego", Source: text}})
			if p != nil || len(faults.Errors()) == 0 {
				t.Fatalf("taken: %v", faults)
			}
			if !strings.HasPrefix(faults[0].Pointer, "/modules") {
				t.Errorf("%+v", faults[0])
			}
			if spent := time.Since(start); spent > 10*time.Second {
				t.Errorf("took %v", spent)
			}
		})
	}
}
