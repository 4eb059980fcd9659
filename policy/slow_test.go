package policy

import (
	"flag"
	"fmt"
	"strings"
	"testing"
	"time"
)

// The long form wants an idle machine: go test ./policy -run TestSlowToCompile -v -slow.
var slow = flag.Bool("slow", false, "hold the time of the slowest modules to compile against its bound")

// TestSlowToCompile: the modules that take the compiler longest are refused,
// or compile within Config.CompileTime (the long form). The sizes are close to
// the bounds.
func TestSlowToCompile(t *testing.T) {
	rules := func(n int, f func(i int) string) string {
		var b strings.Builder
		b.WriteString("package gatehouse.tenant\nallow if r0\n")
		for i := range n {
			b.WriteString(f(i) + "\n")
		}
		return b.String()
	}
	const large, many, memory = "terms and expressions", "too many rules refer to too many others", "compiled modules take about"
	f := func(name, refused, source string) {
		t.Helper()
		if refused == "" && !*slow {
			return
		}
		ms := tenantModules(source)
		if len(source) > MaxModuleBytes {
			k := strings.LastIndex(source[:MaxModuleBytes], "\n") + 1
			ms = tenantModules(source[:k], "package gatehouse.tenant\n"+source[k:])
		}
		c := patient
		c.CompileTime = time.Minute
		e := testEngine(t, c)
		start := time.Now()
		p, faults := e.Compile(ms)
		took := time.Since(start)
		t.Logf("%s: %d KiB in %v", name, len(source)>>10, took.Round(time.Millisecond))
		switch {
		case refused == "" && p == nil, refused != "" && (p != nil || !strings.Contains(faults[0].Reason, refused)):
			t.Errorf("%s: %v", name, faults)
		case *slow && took > DefaultCompileTime:
			t.Errorf("%s: %v", name, took)
		}
	}
	strs := func(i int) string { return fmt.Sprintf("r%d := $%q", i, strings.Repeat("{input.a}", 40)) }
	f("template strings", "", rules(250, strs))
	f("more template strings", memory, rules(320, strs))
	f("many template strings", large, rules(900, strs))
	sums := func(i int) string { return fmt.Sprintf("r%d := input.a%s", i, strings.Repeat("+input.a", 55)) }
	f("sums", "", rules(270, sums))
	f("more sums", large, rules(400, sums))
	list := func(i int) string { return fmt.Sprintf("r%d := [%s1]", i, strings.Repeat("input.a,", 40)) }
	f("lists", "", rules(600, list))
	chain := func(i int) string { return fmt.Sprintf("r%d if r%d", i, i+1) }
	f("a long chain", "", rules(1900, chain)+"r1900 := input.x\n")
	dense := func(most int) func(i int) string {
		return func(i int) string {
			var b strings.Builder
			fmt.Fprintf(&b, "r%d if {", i)
			for k := range most {
				fmt.Fprintf(&b, "r%d;", min(700, i+k+1))
			}
			return b.String() + "true}"
		}
	}
	f("many references", "", rules(700, dense(19))+"r700 := input.x\n")
	f("more references", many, rules(700, dense(22))+"r700 := input.x\n")
	f("dynamic references", many, rules(990, func(i int) string { return fmt.Sprintf("p.x%d := input.a\nr%d := p[input.k]", i, i) }))
}
