package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse/proxy/proxytest"
)

// unsteady is what differs from run to run in the tutorial's answers.
var unsteady = []struct {
	find    *regexp.Regexp
	replace string
}{
	{regexp.MustCompile(`\r`), ""},
	{regexp.MustCompile(`studio-[12] got`), "studio-1 got"},
	{regexp.MustCompile(`label-[12] got`), "label-1 got"},
	{regexp.MustCompile(`;r=0;t=\d+`), ";r=0;t=1"},
	{regexp.MustCompile(`;r=[1-9]\d*;t=\d+`), ";r=4;t=1"},
	{regexp.MustCompile(`"(requests|2xx|4xx)": \d+`), `"$1": 3`},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+Z`), "2027-01-01T12:00:00.123456789Z"},
	{regexp.MustCompile(`/\S+/demo-tenants/`), `/tmp/gatehouse-demo-1/demo-tenants/`},
	{regexp.MustCompile(`(?m)^((?:plan|tenant) +\w+ +(?:change|unchanged) +)\d+ +`), "${1}12        "},
	{regexp.MustCompile(`(?m)^\d+(,2027-)`), "12$1"},
	{regexp.MustCompile(`(?m)^TEXT +KIND +QUANTITY.*\nRequests +usage +\d+ +0.01 .*$`), "TEXT      KIND   QUANTITY  UNIT_PRICE  NET   TAX  CORRECTS  CELLS\nRequests  usage  12        0.01        0.12  -    -         1"},
	{regexp.MustCompile(`REQUEST-ID`), "01940000-0000-7000-8000-000000000001"},
}

func steady(s string) string {
	s = proxytest.Stable(strings.ReplaceAll(s, "\r\n", "\n"))
	for _, u := range unsteady {
		s = u.find.ReplaceAllString(s, u.replace)
	}
	return strings.TrimRight(s, "\n") + "\n"
}

// secondTerminal runs commands with the settings that the demo has printed, in
// a folder in which the program is bin/gatehouse.
func (p *program) secondTerminal() func(script string) ([]byte, error) {
	p.t.Helper()
	p.await(p.stdout, "Stop it with Ctrl-C")
	env := append(os.Environ(), "no_proxy=*", "GATEHOUSE_TEST_MAIN=1")
	for _, m := range regexp.MustCompile(`(?m)^  (?:export )?([A-Z_]+=\S+)(?: ([A-Z_]+=\S+))?$`).FindAllStringSubmatch(p.stdout.String(), -1) {
		env = append(env, m[1], m[2])
	}
	folder := p.t.TempDir()
	self, err := filepath.Abs(os.Args[0])
	if err != nil {
		p.t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(folder, "bin"), 0o700); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(folder, "bin", "gatehouse")); err != nil {
		p.t.Fatal(err)
	}
	return func(script string) ([]byte, error) {
		cmd := exec.Command("bash", "-c", script)
		cmd.Env, cmd.Dir = env, folder
		return cmd.Output()
	}
}

// TestTutorial runs the commands of the first tutorial, and compares what
// they print with what the page shows.
func TestTutorial(t *testing.T) {
	const page = "../../docs/tutorial/first-steps.md"
	source, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, "--demo")
	run := p.secondTerminal()

	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```\n\n```text\n(.*?)```").FindAllStringSubmatchIndex(string(source), -1)
	if len(blocks) < 12 {
		t.Fatalf("%d commands with answers on %s", len(blocks), page)
	}
	var next strings.Builder
	last := 0
	for _, b := range blocks {
		command, want := string(source[b[2]:b[3]]), string(source[b[4]:b[5]])
		script := strings.NewReplacer(":8080", p.data[strings.LastIndex(p.data, ":"):], "127.0.0.1:9090", p.control).Replace(command)
		out, err := run(script)
		if err != nil {
			t.Fatalf("%s: %v", command, err)
		}
		got := strings.ReplaceAll(steady(string(out)), p.data[strings.LastIndex(p.data, ":"):], ":8080")
		if got != want && !*update {
			t.Errorf("%s\ngot:\n%s\nwant:\n%s", command, got, want)
		}
		next.Write(source[last:b[4]])
		next.WriteString(got)
		last = b[5]
	}
	next.Write(source[last:])
	if *update {
		if err := os.WriteFile(page, []byte(next.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDemoLines runs what the demo prints, as it is printed.
func TestDemoLines(t *testing.T) {
	p := start(t, "--demo")
	run := p.secondTerminal()
	var script []string
	for line := range strings.Lines(p.stdout.String()) {
		if text, ok := strings.CutPrefix(line, "  "); ok && !strings.HasPrefix(text, "$EDITOR") {
			script = append(script, strings.TrimSuffix(text, "\n"))
		}
	}
	out, err := run("set -e\n" + strings.Join(script, "\n"))
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	got := regexp.MustCompile(`(?m)^(?:HTTP/1\.1 )?(\d{3})\b`).FindAllStringSubmatch(string(out), -1)
	var statuses []string
	for _, m := range got {
		statuses = append(statuses, m[1])
	}
	text := strings.Join(statuses, " ")
	if !strings.HasPrefix(text, "200 200 200 403 200 403 200 ") || !strings.HasSuffix(text, " 429 429 429 404 502") {
		t.Errorf("statuses: %s", text)
	}
	for _, want := range []string{
		`(?m)^TENANT +REQUESTS .*\nstudio +[1-9]`, `(?m)^TEXT +KIND .*\nRequests +usage +\d`, `(?m)^decide +refuse +denied by .* only editors change tracks`,
		`(?m)^KIND +ID +ACTION .*\nplan +free +unchanged`,
	} {
		if !regexp.MustCompile(want).Match(out) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

// The demo's invoice grows as requests are answered, by what they cost.
func TestDemoInvoice(t *testing.T) {
	p := start(t, "--demo")
	run := p.secondTerminal()
	preview := func() (quantity float64) {
		t.Helper()
		out, err := run("bin/gatehouse invoice preview label --lines -o csv")
		if err != nil {
			t.Fatal(err)
		}
		m := regexp.MustCompile(`(?m)^Requests,usage,(\d+),0.01,([0-9.]+),`).FindSubmatch(out)
		if m == nil {
			t.Fatalf("no line of requests in\n%s", out)
		}
		quantity, err = strconv.ParseFloat(string(m[1]), 64)
		if net, e := strconv.ParseFloat(string(m[2]), 64); err != nil || e != nil || int(net*100+0.5) != int(quantity) {
			t.Errorf("%s requests come to %s", m[1], m[2])
		}
		return quantity
	}
	if n := preview(); n != 0 {
		t.Errorf("%v requests on the invoice before the first", n)
	}
	for n := 1.0; n <= 3; n++ {
		if got := fetchHost(t, p.data, "label.localhost"); !strings.HasPrefix(got, "200 ") {
			t.Fatal(got)
		}
		waitFor(t, func() bool { return preview() == n })
	}
}
