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

	"github.com/gatehouse-gateway/gatehouse/ratelimit/ratelimittest"
)

// howto is how a page of commands is run.
type howto struct {
	page  string
	first string   // what is run before the page's commands
	last  string   // what is run after them
	leave []string // lines with one of these are left out: they need what is not there
	stays []string // lines with one of these run on beside those that follow, and end with the page
}

// TestHowto runs the commands of the pages that say how, each page from top to
// bottom in a folder of its own, beside a store that has just begun. Files are
// written as the page shows them.
func TestHowto(t *testing.T) {
	f := func(h howto) {
		t.Helper()
		t.Run(h.page, func(t *testing.T) {
			t.Parallel()
			source, err := os.ReadFile("../../docs/howto/" + h.page)
			if err != nil {
				t.Fatal(err)
			}
			newShell(t).run(t, h.script(t, string(source)))
		})
	}
	const documents = `mkdir -p tenants && printf '%s\n' 'tenants:' '  - {id: shop, domain: shop.localhost}' > tenants/shop.yaml
`
	const tenant = `gatehouse tenant create acme --domain acme.localhost --plan premium
`
	f(howto{page: "operate.md", first: documents, leave: []string{
		"gatehouse run", "context add production", "token revoke bootstrap", "gatehouse top", "explain GET", "revision diff 42", "--to 41",
	}})
	f(howto{page: "control-plane.md", leave: []string{"opa build", "policies/"}})
	f(howto{page: "metering.md", first: tenant + `echo '{"specversion": "1.0", "id": "1", "source": "batch/1", "type": "jobs", "subject": "acme", "time": "2026-03-04T10:00:00Z", "data": {"value": 2}}' > events.json
echo 'time,tenant,route,meter' > client.csv`})
	f(howto{page: "billing.md", first: tenant + `echo '{currency: EUR, compute_hour: "0.05", egress_gb: "0.02", call: "0.0000002"}' > costs.yaml
cp configs/prices/premium.yaml draft.yaml`, leave: []string{"invoice finalize", "GH-2026-0"}}) // no period has ended
	f(howto{page: "policy.md"})
	// The page shows a placeholder where the hash of the key is to stand.
	f(howto{page: "api-keys.md", stays: []string{"gatehouse run"}, first: `gatehouse() {
  if [ "$1" = apply ] && [ -e batch.key ]; then sed -i "s/sha256:0*1\"/sha256:$(printf %s "$(cat batch.key)" | sha256sum | cut -c-64)\"/" tenants/studio.yaml; fi
  command gatehouse "$@"
}`})
	f(howto{page: "redis.md", leave: []string{"apt-get"}, stays: []string{"redis-server", "gatehouse run"}, last: `
curl -s http://127.0.0.1:9090/metrics | grep 'gatehouse_ratelimit_store_shards 1$'
redis-cli -p 6379 --user gatehouse --pass PASSWORD TIME | grep .`})
	f(howto{page: "restart.md", leave: []string{"systemctl"}, stays: []string{"gatehouse run"}, first: `mkdir -p etc/gatehouse; echo 'data: gatehouse-data' > etc/gatehouse/gatehouse.yaml`, last: `
until grep 'msg="counters taken over"' ran.log; do sleep 0.05; done; curl http://127.0.0.1:9090/readyz`})
}

var (
	blockOfPage = regexp.MustCompile("(?s) *```(sh|yaml|rego)\n(.*?) *```")
	nameOfBlock = regexp.MustCompile(`^# *(\S+\.(?:yaml|rego))\b.*\n`)
)

// Where a gateway that a page itself starts listens, unless it takes over the
// one that serves there.
const (
	ownData    = "127.0.0.1:9180"
	ownControl = "127.0.0.1:9190"
)

// script is a page as a shell runs it. A gateway that it starts is waited for,
// and is the one that is meant from there on.
func (h *howto) script(t *testing.T, source string) string {
	t.Helper()
	holds := func(line string, parts []string) bool {
		return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(line, part) })
	}
	script, n := h.first+"\n", 0
	here := strings.NewReplacer()
	for _, b := range blockOfPage.FindAllStringSubmatch(source, -1) {
		if b[1] != "sh" {
			script += fileOfPage(b[2])
			continue
		}
		for line := range strings.Lines(strings.ReplaceAll(b[2], "\\\n", " ")) {
			if holds(line, h.leave) {
				continue
			}
			n++
			line = here.Replace(line)
			if !holds(line, h.stays) {
				script += line
				continue
			}
			if line = strings.TrimSpace(line) + " "; strings.HasPrefix(line, "gatehouse run") {
				if !strings.Contains(line, "--takeover") {
					here = strings.NewReplacer("127.0.0.1:9090", ownControl, "127.0.0.1:8080", ownData, ":8080", ":9180")
					line += "--data own-data "
				}
				// "command": what is ended is the process, not a function around it.
				line = "command " + line + here.Replace("--listen 127.0.0.1:8080 --control 127.0.0.1:9090 >> ran.log 2>&1 &\ncurl -o readyz http://127.0.0.1:9090/readyz\n")
			} else {
				line += "&\n"
			}
			script += line
		}
	}
	if n == 0 {
		t.Fatal("there is no command")
	}
	return script + here.Replace(h.last) + "\n"
}

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
	for name, at := range map[string]string{"bin/gatehouse": os.Args[0], "configs": "../../configs", "policies": "../../policies"} {
		to, err := filepath.Abs(at)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(folder, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(to, filepath.Join(folder, name)); err != nil {
			t.Fatal(err)
		}
	}
	token := bootstrapToken(t, data)
	port := func(addr string) string { return addr[strings.LastIndex(addr, ":"):] }
	return &shell{
		folder: folder,
		env: append(os.Environ(), "no_proxy=*", "GATEHOUSE_TEST_MAIN=1", "PATH="+filepath.Join(folder, "bin")+":"+os.Getenv("PATH"), "HOME="+folder, "XDG_CONFIG_HOME=", "VISUAL=", "EDITOR=sed -i s/acme.localhost/www.acme.localhost/",
			"GATEHOUSE_SERVER=http://"+p.control, "GATEHOUSE_TOKEN="+token, "TOKEN="+token, "GATEHOUSE=http://"+p.control),
		ports: strings.NewReplacer(
			"127.0.0.1:9090", p.control, ":8080", port(p.data), "127.0.0.1:9001", newBackend(t, "app", nil), "/etc/gatehouse/", "etc/gatehouse/",
			"6379", port(ratelimittest.FreeAddr(t))[1:], ownData, ratelimittest.FreeAddr(t), ownControl, ratelimittest.FreeAddr(t),
		),
	}
}

// run expects that commands succeed, each of them; curl soon, and where the
// answer is no error. Nobody is asked anything. What still runs when the
// script ends is ended.
func (s *shell) run(t *testing.T, script string) {
	t.Helper()
	limit, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const before = `curl() { for n in {1..200}; do command curl --silent --show-error --fail-with-body "$@" && return; sleep 0.05; done; return 1; }
trap 'for job in $(jobs -p); do kill "$job"; done; wait' EXIT
`
	cmd := exec.CommandContext(limit, "bash", "-exc", before+s.ports.Replace(script))
	cmd.Env, cmd.Dir = s.env, s.folder
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
