package main

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/template"
)

//go:embed peers
var templates embed.FS

// settings are what the templates of peers are filled with.
type settings struct {
	scenario
	Dir, Listen, Port       string
	Cores                   int
	Tenants                 []tenant
	Auth                    string
	Limits, Rate            int
	TLS, Sidecar            bool
	Cert, CertKey, Pair     string
	PublicKey, Modules, OPA string
}

// find reports whether a peer can be had on this machine, and builds it if it
// is a Go module.
func (b *bench) find(ctx context.Context, name string) error {
	switch name {
	case "fasthttp", "fasthttp-quiet", "relay":
		return nil
	case "nginx", "haproxy", "caddy":
		_, err := exec.LookPath(program(name))
		return err
	case "nginx-opa":
		if _, err := os.Stat(modules + "/ngx_http_lua_module.so"); err != nil {
			return err
		}
		return b.install(ctx, "github.com/open-policy-agent/opa", "v1.22.2", "")
	case "traefik":
		return b.install(ctx, "github.com/traefik/traefik/v3", "v3.5.3", "cmd/traefik") // the last whose module is whole
	}
	return fmt.Errorf("no peer of that name")
}

const modules = "/usr/lib/nginx/modules"

// program is where Debian puts what only root's path leads to.
func program(name string) string {
	if p := "/usr/sbin/" + name; exists(p) {
		return p
	}
	return name
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// install builds a program of a module where the module lies: with the
// replacements of its own go.mod, which go install does not take.
func (b *bench) install(ctx context.Context, module, version, folder string) error {
	bin, err := filepath.Abs(".cache/tools")
	if err != nil {
		return err
	}
	name := path.Base(path.Join(strings.TrimSuffix(module, "/v3"), folder))
	if exists(filepath.Join(bin, name)) {
		return nil
	}
	out, err := exec.CommandContext(ctx, "go", "mod", "download", "-json", module+"@"+version).Output()
	if err != nil {
		return fmt.Errorf("go mod download %s@%s: %w: %s", module, version, err, out)
	}
	var got struct{ Dir string }
	if err := json.Unmarshal(out, &got); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(bin, name), "./"+folder)
	cmd.Dir, cmd.Env = got.Dir, append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		return fmt.Errorf("build %s: %s", name, lines[len(lines)-1])
	}
	return nil
}

func tool(name string) string { return filepath.Join(".cache", "tools", name) }

// launch writes a contender's configuration and starts it.
func (b *bench) launch(ctx context.Context, c *contender, ts []tenant) error {
	s := c.work
	if s.limits > 0 {
		low, err := b.low()
		if err != nil {
			return err
		}
		ts = append(slices.Clip(ts), low)
	}
	dir := filepath.Join(b.dir, c.name+"-"+s.name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	cores := max(1, s.cores)
	pin := "0"
	if cores == 2 {
		pin = "0,1"
	}
	_, port, _ := strings.Cut(c.addr, ":")
	set := settings{
		scenario: s, Dir: dir, Listen: c.addr, Port: port, Cores: cores, Tenants: ts, Auth: s.auth, Limits: s.limits, Rate: generous, TLS: s.tls,
		Cert: filepath.Join(b.dir, "certificates", "t0.crt"), CertKey: filepath.Join(b.dir, "certificates", "t0.key"), Pair: filepath.Join(b.dir, "t0.pem"),
		PublicKey: filepath.Join(b.dir, "public.pem"), Modules: modules, Sidecar: c.name == "nginx-opa",
	}
	if c.build != "" {
		return b.launchGatehouse(ctx, c, ts, dir, pin, cores)
	}
	var err error
	switch c.name {
	case "nginx-opa":
		set.OPA = "127.0.0.1:18190"
		if err := b.sidecar(ctx, c, dir, set.OPA, pin); err != nil {
			return err
		}
		fallthrough
	case "nginx":
		if err := fill("nginx.conf.tmpl", filepath.Join(dir, "nginx.conf"), set); err != nil {
			return err
		}
		c.run, err = start(ctx, pin, nil, program("nginx"), "-c", filepath.Join(dir, "nginx.conf"))
	case "haproxy":
		var hosts, keys strings.Builder
		for _, t := range ts {
			fmt.Fprintf(&hosts, "%s %s\n", t.Host, t.ID)
			fmt.Fprintf(&keys, "%s %s\n", t.Key, t.ID)
		}
		for name, text := range map[string]string{"haproxy.map": hosts.String(), "haproxy.keys": keys.String()} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				return err
			}
		}
		if err := fill("haproxy.cfg.tmpl", filepath.Join(dir, "haproxy.cfg"), set); err != nil {
			return err
		}
		c.run, err = start(ctx, pin, nil, program("haproxy"), "-db", "-f", filepath.Join(dir, "haproxy.cfg"))
	case "caddy":
		if err := fill("Caddyfile.tmpl", filepath.Join(dir, "Caddyfile"), set); err != nil {
			return err
		}
		c.run, err = start(ctx, pin, []string{"GOMAXPROCS=" + strconv.Itoa(cores), "HOME=" + dir}, "caddy", "run", "--config", filepath.Join(dir, "Caddyfile"))
	case "traefik":
		for _, name := range []string{"traefik.yml", "traefik-routes.yml"} {
			if err := fill(name+".tmpl", filepath.Join(dir, name), set); err != nil {
				return err
			}
		}
		c.run, err = start(ctx, pin, []string{"GOMAXPROCS=" + strconv.Itoa(cores)}, tool("traefik"), "--configFile="+filepath.Join(dir, "traefik.yml"))
	case "fasthttp", "fasthttp-quiet":
		var hosts strings.Builder
		for _, t := range ts {
			fmt.Fprintf(&hosts, "%s %s\n", t.Host, t.Backend)
		}
		if err := os.WriteFile(filepath.Join(dir, "hosts"), []byte(hosts.String()), 0o600); err != nil {
			return err
		}
		c.run, err = start(ctx, pin, []string{"GOMAXPROCS=" + strconv.Itoa(cores)}, filepath.Join(b.dir, "floor"), c.name, c.addr, filepath.Join(dir, "hosts"))
	case "relay":
		c.run, err = start(ctx, pin, []string{"GOMAXPROCS=" + strconv.Itoa(cores)}, filepath.Join(b.dir, "floor"), "relay", c.addr, ts[0].Backend)
	}
	if err != nil {
		return err
	}
	return await(ctx, c.addr, c.run)
}

func fill(name, file string, set settings) error {
	t, err := template.ParseFS(templates, "peers/"+name)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, set); err != nil {
		return err
	}
	return os.WriteFile(file, b.Bytes(), 0o600)
}

const (
	generous = 1_000_000 // a second: never reached by the load
	lowRate  = 2
)

// sidecar starts OPA with the same policy as Gatehouse has.
func (b *bench) sidecar(ctx context.Context, c *contender, dir, addr, pin string) (err error) {
	policy := strings.Replace(sidecarPolicy, "JWKS", strconv.Quote(b.issuer.jwks()), 1)
	file := filepath.Join(dir, "policy.rego")
	if err := os.WriteFile(file, []byte(policy), 0o600); err != nil {
		return err
	}
	c.more, err = start(ctx, pin, []string{"GOMAXPROCS=1"}, tool("opa"), "run", "--server", "--log-level", "error", "--disable-telemetry", "--addr", addr, file)
	if err != nil {
		return err
	}
	return await(ctx, addr, c.more)
}

const sidecarPolicy = `package gatehouse.nginx

default status := 401

claims := c if {
	startswith(input.token, "Bearer ")
	[ok, _, c] := io.jwt.decode_verify(substring(input.token, 7, -1), {"cert": JWKS, "alg": "RS256", "iss": "https://id.bench.test/", "aud": "bench"})
	ok
}

status := 200 if {
	claims
	allow
} else := 403 if claims

allow if {
	input.method in {"GET", "HEAD"}
	"reader" in claims.roles
}
`

const tenantPolicy = `package gatehouse.tenant

import rego.v1

default allow := false

allow if {
	input.request.method in {"GET", "HEAD"}
	"reader" in input.principal.roles
}
`

// launchGatehouse writes the tenants as JSON, which is YAML, in files of a
// thousand, and starts the gateway with them.
func (b *bench) launchGatehouse(ctx context.Context, c *contender, ts []tenant, dir, pin string, cores int) error {
	folder := filepath.Join(dir, "tenants")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	for from := 0; from < len(ts); from += 1000 {
		var docs []map[string]any
		for _, t := range ts[from:min(from+1000, len(ts))] {
			docs = append(docs, b.document(c.work, t))
		}
		text, err := json.Marshal(map[string]any{"tenants": docs})
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(folder, fmt.Sprintf("t%d.yaml", from)), text, 0o600); err != nil {
			return err
		}
	}
	config := map[string]any{
		"log":   map[string]any{"access": "off", "level": "warn"},
		"proxy": map[string]any{"limits": map[string]any{"connections": 20000}},
	}
	if c.work.log {
		if err := os.MkdirAll(filepath.Join(dir, "logs"), 0o700); err != nil {
			return err
		}
		config["log"] = map[string]any{"access": filepath.Join(dir, "logs", "access.log"), "level": "warn"}
	}
	plain := c.addr
	if c.work.tls {
		plain = "127.0.0.1:0"
		config["proxy"] = map[string]any{"tls": map[string]any{"listen": c.addr, "certificates": filepath.Join(b.dir, "certificates")}}
	}
	text, err := json.Marshal(config)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "gatehouse.yaml"), text, 0o600); err != nil {
		return err
	}
	args := []string{
		"run", "--config", filepath.Join(dir, "gatehouse.yaml"), "--tenants", folder, "--data", filepath.Join(dir, "data"),
		"--listen", plain, "--control", "127.0.0.1:0",
	}
	if b.profile != "" {
		args = append(args, "--cpu-profile", filepath.Join(b.dir, c.work.name+".prof"))
	}
	c.run, err = start(ctx, pin, []string{"GOMAXPROCS=" + strconv.Itoa(cores)}, c.build, args...)
	if err != nil {
		return err
	}
	return await(ctx, c.addr, c.run)
}

// document is a tenant as the scenario has it.
func (b *bench) document(s scenario, t tenant) map[string]any {
	route := map[string]any{"id": "all", "match": map[string]any{"path": "/"}, "auth": "none", "backend": "app"}
	doc := map[string]any{
		"id": t.ID, "domain": t.Host, "routes": []any{route},
		"backends": []any{map[string]any{"id": "app", "endpoints": []any{map[string]any{"url": "http://" + t.Backend}}}},
	}
	switch s.auth {
	case "key":
		route["auth"] = "required"
		if t.Key != "" {
			doc["identity"] = map[string]any{"api_keys": map[string]any{"keys": []any{map[string]any{"id": "k", "hash": hashOf(t.Key), "roles": []string{"reader"}}}}}
		}
	case "jwt":
		route["auth"] = "required"
		doc["identity"] = map[string]any{"jwt": []any{map[string]any{
			"issuer": issuerName, "audience": []string{audience}, "algorithms": []string{"RS256"}, "jwks_file": filepath.Join(b.dir, "jwks.json"),
		}}}
	}
	var rules []any
	for i := range s.limits {
		rate := generous + i
		if t.Low {
			rate = lowRate
		}
		rules = append(rules, map[string]any{"name": "rate-" + strconv.Itoa(i), "rate": strconv.Itoa(rate) + "/s"})
	}
	if len(rules) > 1 { // of four, one counts by caller, one is a quota
		rules[1].(map[string]any)["by"] = []string{"principal"}
		rules[2] = map[string]any{"name": "monthly", "quota": 1_000_000_000_000, "window": "month"}
	}
	if len(rules) > 0 {
		doc["limits"] = map[string]any{"rules": rules}
	}
	if s.policy {
		doc["policy"] = map[string]any{"modules": []any{map[string]any{"name": "bench.rego", "source": tenantPolicy}}}
	}
	return doc
}
