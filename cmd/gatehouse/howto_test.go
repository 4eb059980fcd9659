package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestHowto runs the commands of the pages that say how, each page from top to
// bottom in a folder of its own, beside a store that has just begun.
func TestHowto(t *testing.T) {
	// f runs a page after first, in a shell. Lines with one of leave are left
	// out: they need what is not there.
	f := func(page, first string, leave ...string) {
		t.Helper()
		t.Run(page, func(t *testing.T) {
			t.Parallel()
			source, err := os.ReadFile("../../docs/howto/" + page)
			if err != nil {
				t.Fatal(err)
			}
			script := first + "\n"
			for _, b := range blockOfPage.FindAllStringSubmatch(string(source), -1) {
				if b[1] != "sh" {
					script += fileOfPage(b[2])
					continue
				}
				for line := range strings.Lines(strings.ReplaceAll(b[2], "\\\n", " ")) {
					if !slices.ContainsFunc(leave, func(part string) bool { return strings.Contains(line, part) }) {
						script += line
					}
				}
			}
			if n := strings.Count(script, "\n"); n < 5 {
				t.Fatalf("%d lines", n)
			}
			newShell(t).run(t, script)
		})
	}
	const documents = `mkdir -p tenants && printf '%s\n' 'tenants:' '  - {id: shop, domain: shop.localhost}' > tenants/shop.yaml
`
	const tenant = `gatehouse tenant create acme --domain acme.localhost --plan premium
`
	f("operate.md", documents,
		"gatehouse run", "context add production", "token revoke bootstrap", "gatehouse top", "explain GET", "revision diff 42", "--to 41")
	f("control-plane.md", "", "opa build", "policies/")
	f("metering.md", tenant+`echo '{"specversion": "1.0", "id": "1", "source": "batch/1", "type": "jobs", "subject": "acme", "time": "2026-03-04T10:00:00Z", "data": {"value": 2}}' > events.json
echo 'time,tenant,route,meter' > client.csv`)
	f("policy.md", "")
	f("billing.md", tenant+`echo '{currency: EUR, compute_hour: "0.05", egress_gb: "0.02", call: "0.0000002"}' > costs.yaml
cp configs/prices/premium.yaml draft.yaml`, "invoice finalize", "GH-2026-0") // no period has ended
}

var (
	blockOfPage = regexp.MustCompile("(?s) *```(sh|yaml|rego)\n(.*?) *```")
	nameOfBlock = regexp.MustCompile(`^# *(\S+\.(?:yaml|rego))\b.*\n`)
)

// fileOfPage writes a block that begins with the name of a file to that file.
// Others show a part.
func fileOfPage(block string) string {
	name := nameOfBlock.FindStringSubmatch(strings.TrimLeft(block, " "))
	if name == nil {
		return ""
	}
	return "mkdir -p $(dirname " + name[1] + "); cat > " + name[1] + " <<'EOF'\n" + block + "EOF\n"
}

// shell runs commands with the settings of a control plane.
type shell struct {
	folder string
	env    []string
	ports  *strings.Replacer
}

func newShell(t *testing.T) *shell {
	t.Helper()
	folder := t.TempDir()
	data := filepath.Join(folder, "gatehouse-data")
	p := start(t, storeArgs(t, data)...)
	self, err := filepath.Abs(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	configs, err := filepath.Abs("../../configs")
	if err != nil {
		t.Fatal(err)
	}
	policies, err := filepath.Abs("../../policies")
	if err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"bin/gatehouse": self, "configs": configs, "policies": policies} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(folder, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(to, filepath.Join(folder, name)); err != nil {
			t.Fatal(err)
		}
	}
	token := bootstrapToken(t, data)
	return &shell{
		folder: folder,
		env: append(os.Environ(), "no_proxy=*", "GATEHOUSE_TEST_MAIN=1", "PATH="+filepath.Join(folder, "bin")+":"+os.Getenv("PATH"), "HOME="+folder, "XDG_CONFIG_HOME=", "VISUAL=", "EDITOR=sed -i s/acme.localhost/www.acme.localhost/",
			"GATEHOUSE_SERVER=http://"+p.control, "GATEHOUSE_TOKEN="+token, "TOKEN="+token, "GATEHOUSE=http://"+p.control),
		ports: strings.NewReplacer("127.0.0.1:9090", p.control, ":8080", p.data[strings.LastIndex(p.data, ":"):]),
	}
}

// run expects that commands succeed, each of them; curl where the answer is
// no error. Nobody is asked anything.
func (s *shell) run(t *testing.T, script string) {
	t.Helper()
	limit, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(limit, "bash", "-exc", "curl() { command curl --fail-with-body \"$@\"; }\n"+s.ports.Replace(script))
	cmd.Env, cmd.Dir = s.env, s.folder
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
