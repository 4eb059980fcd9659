package main

import (
	"os"
	"os/exec"
	"regexp"
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
	{regexp.MustCompile(`"source": ".*"`), `"source": "/tmp/gatehouse-demo-1/demo-tenants"`},
	{regexp.MustCompile(`REQUEST-ID`), "01940000-0000-7000-8000-000000000001"},
}

func steady(s string) string {
	s = proxytest.Stable(strings.ReplaceAll(s, "\r\n", "\n"))
	for _, u := range unsteady {
		s = u.find.ReplaceAllString(s, u.replace)
	}
	return strings.TrimRight(s, "\n") + "\n"
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
	key := p.await(p.stdout, `(?m)^  KEY=(\S+)$`)[1]
	token := p.await(p.stdout, `(?m)^  TOKEN=(\S+)$`)[1]
	p.await(p.stdout, "Stop it with Ctrl-C")

	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```\n\n```text\n(.*?)```").FindAllStringSubmatchIndex(string(source), -1)
	if len(blocks) < 12 {
		t.Fatalf("%d commands with answers on %s", len(blocks), page)
	}
	var next strings.Builder
	last := 0
	for _, b := range blocks {
		command, want := string(source[b[2]:b[3]]), string(source[b[4]:b[5]])
		script := strings.NewReplacer(":8080", p.data[strings.LastIndex(p.data, ":"):], "127.0.0.1:9090", p.control).Replace(command)
		cmd := exec.Command("bash", "-c", script)
		cmd.Env = append(os.Environ(), "KEY="+key, "TOKEN="+token, "no_proxy=*")
		out, err := cmd.Output()
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
	p.await(p.stdout, "Stop it with Ctrl-C")
	var script []string
	for line := range strings.Lines(p.stdout.String()) {
		if text, ok := strings.CutPrefix(line, "  "); ok && !strings.HasPrefix(text, "$EDITOR") {
			script = append(script, strings.TrimSuffix(text, "\n"))
		}
	}
	cmd := exec.Command("bash", "-ec", strings.Join(script, "\n"))
	cmd.Env = append(os.Environ(), "no_proxy=*")
	out, err := cmd.Output()
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
	if !strings.Contains(string(out), `"tenant": "studio"`) {
		t.Error("no usage")
	}
}
