package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What is wrong with a process configuration is said with its place, all of it
// at once, and nothing has been made by then.
func TestConfigFaults(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key")
	write(t, key, "hush\n")
	f := func(text, want string, flags ...string) {
		t.Helper()
		folder := t.TempDir()
		t.Chdir(folder)
		write(t, "g.yaml", text)
		var out, errs bytes.Buffer
		code := run(t.Context(), append([]string{"run", "--config", "g.yaml"}, flags...), noEnvironment, strings.NewReader(""), &out, &errs)
		wanted := exitFindings
		if strings.HasPrefix(want, "--") {
			wanted = exitUsage
		}
		if code != wanted || !strings.Contains(errs.String(), want) || out.Len() > 0 {
			t.Errorf("%s %s: %d\n%s\nwant %s", text, flags, code, errs.String(), want)
		}
		left, err := os.ReadDir(folder)
		if err != nil || len(left) != 1 {
			t.Errorf("%s %s: left %v, %v", text, flags, left, err)
		}
	}
	f("proxy: {listen: nonsense}\n", `g.yaml:1:17: "nonsense" is not host:port`)
	f("proxy: {listen: \"127.0.0.1:99999\"}\n", `g.yaml:1:17: "99999" is no port`)
	f("proxy: {listen: \"\"}\n", "g.yaml:1:17: listen is empty")
	f("proxy: {listen: \"127.0.0.1:8080\"}\ncontrol: {listen: \"127.0.0.1:8080\"}\n", "g.yaml:2:19: the data plane listens on 127.0.0.1:8080 already\n  2 | control: {listen: \"127.0.0.1:8080\"}\n    |                   ^\n  also: g.yaml:1:17")
	f("proxy: {listen: \":8080\"}\ncontrol: {listen: \"[::1]:8080\"}\n", "g.yaml:2:19: the data plane listens on :8080 already")
	f("control: {listen: \"localhost:8080\"}\n", "g.yaml:1:19: the data plane listens on 127.0.0.1:8080 already")
	f("proxy: {tls: {listen: \"127.0.0.1:9090\", certificates: .}}\n", "g.yaml:1:1: the data plane over TLS listens on 127.0.0.1:9090 already")
	f("control: {listen: \":9090\"}\n", "g.yaml:1:19: :9090 is not loopback, and tokens would pass in clear")
	f("\n", `--listen: "nonsense" is not host:port`, "--listen", "nonsense")
	f("\n", `--listen: "8080" is not host:port`, "--listen", "8080")
	f("\n", "--control: the data plane listens on 127.0.0.1:8080 already", "--control", "127.0.0.1:8080")
	f("\n", "--control: 0.0.0.0:9090 is not loopback", "--control", "0.0.0.0:9090")
	f("\n", "--data: g.yaml is a file", "--data", "g.yaml")
	f("\n", `--roles: role "poxy" is unknown`, "--roles", "poxy")
	f("data: g.yaml\n", "g.yaml:1:7: g.yaml is a file")
	f("roles: [proxy, proxy]\n", `g.yaml:1:16: role "proxy" stands twice`)
	f("roles: [proxy]\n", "g.yaml:1:1: control.url is missing")
	f("roles: [proxy]\ncontrol: {url: \"http://127.0.0.1:1\", token_file: nope}\n", "g.yaml:2:50: nope: cannot be read: no such file or directory")
	f("roles: [proxy]\ncontrol: {url: \"http://127.0.0.1:1\", token_file: g.yaml, ca_file: g.yaml}\n", "g.yaml:2:67: g.yaml holds no certificate")
	f("roles: [proxy]\ncontrol: {url: \"http://127.0.0.1:1\", token_file: g.yaml, snapshot_key_file: g.yaml}\n", "g.yaml:2:77: key g.yaml: 32 bytes in base64 are expected")
	f("control: {tls: {cert: a.crt, key: a.key}}\n", "g.yaml:1:23: a.crt: cannot be read")
	f(fmt.Sprintf("control: {tls: {cert: %q, key: a.key}}\n", key), "a.key: cannot be read")
	f("store: {secret_key_file: missing.key}\n", "g.yaml:1:26: missing.key: cannot be read")
	f("store: {url: \"mysql://x\"}\n", "g.yaml:1:14: the store is unknown")
	f("proxy: {tls: {listen: \"127.0.0.1:0\", certificates: nothing}}\n", "g.yaml:1:52: nothing: cannot be read")
	f("proxy: {tls: {listen: \"127.0.0.1:0\", certificates: g.yaml}}\n", "g.yaml:1:52: g.yaml is no folder")
	f("proxy: {upstream_allow: [10.0.0.1]}\n", "g.yaml:1:26: a network such as 10.0.0.0/8 or 2001:db8::/32 is expected")
	f("log: {level: loud}\n", "g.yaml:1:14: debug, info, warn or error is expected")
	f("log: {access: stderr}\n", `g.yaml:1:15: access "stderr" is unknown`)
	f("log: {access: nothing/x.log}\n", "g.yaml:1:15: nothing: cannot be read")
	f("log: {access: .}\n", "g.yaml:1:15: . is a folder")
	f("limits: {mode: exact}\n", "g.yaml:1:16: mode exact is about a shared store, and there is none")
	f("tenants:\n  - id: a\n", "hint: tenant documents are given with --tenants")
	f("tenants: nothing/\n", "nothing/: cannot be read: no such file or directory")
}

// What a setting does not do, or does beside what it seems to, is a warning of
// check: with --strict a fault.
func TestConfigSurprises(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "token", "x\n")
	write(t, "t.yaml", "tenants: [{id: a}]\n")
	f := func(text, want string, flags ...string) {
		t.Helper()
		write(t, "g.yaml", text)
		var out, errs bytes.Buffer
		code := run(t.Context(), append([]string{"check", "--config", "g.yaml"}, flags...), noEnvironment, strings.NewReader(""), &out, &errs)
		if code != exitOK || want == "" && errs.Len() > 0 || !strings.Contains(errs.String(), want) {
			t.Errorf("%s: %d\n%s%s\nwant %s", text, code, out.String(), errs.String(), want)
		}
		code = run(t.Context(), append([]string{"check", "--strict", "--config", "g.yaml"}, flags...), noEnvironment, strings.NewReader(""), &out, &errs)
		if (code == exitFindings) != (want != "") {
			t.Errorf("%s: %d with --strict", text, code)
		}
	}
	const follower = "roles: [proxy]\ncontrol: {url: \"http://127.0.0.1:1\", token_file: token}\n"
	f("data: x\n", "")
	f(follower, "")
	f("roles: [control]\n", "")
	f(follower+"metering: {sinks: [{kind: sqlite}]}\n", "g.yaml:3:27: warning: this ledger has the usage of this data plane alone")
	f(follower+"metering: {sinks: [{kind: postgres, url: \"postgres://u@h/d\"}]}\n", "")
	f(follower+"store: {url: \"sqlite:other.db\"}\n", "g.yaml:3:14: warning: no store is opened in this process: its tenants come from control.url")
	f("tenants: t.yaml\nstore: {url: \"sqlite:other.db\"}\n", "warning: no store is opened in this process: its tenants come from documents", "t.yaml")
	f("control: {token_file: token}\n", "g.yaml:1:23: warning: this process follows no other control plane: token_file has no effect")
	f("roles: [control]\nproxy: {listen: \"127.0.0.1:1\"}\n", "g.yaml:2:8: warning: this process serves no tenant")
	f("roles: [control]\nlimits: {redis: \"redis://h\"}\n", "g.yaml:2:17: warning: this process counts no limits")
	f("proxy: {trusted_header: forwarded}\n", "g.yaml:1:25: warning: the field is read of trusted proxies only")
	f("proxy: {trusted_proxies: [10.0.0.0/8, 0.0.0.0/0]}\n", "g.yaml:1:39: warning: every client is believed")
}
