package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/client"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
)

var (
	changes = flag.Int("changes", 50, "changes whose way to another process is timed")
	loaded  = flag.Int("loaded", 1, "tenants that are loaded meanwhile")
)

// storeArgs run a process on a store.
func storeArgs(t *testing.T, data string, more ...string) []string {
	return append([]string{"--config", settings(t, silent), "--data", data}, more...)
}

// owner is a client of the control plane of a process, with the owner's token.
func (p *program) owner(data string) *client.Client {
	p.t.Helper()
	c, err := client.New(client.Config{Server: "http://" + p.control, Token: bootstrapToken(p.t, data)})
	if err != nil {
		p.t.Fatal(err)
	}
	return c
}

// bootstrapToken is the owner's token of a data folder.
func bootstrapToken(t *testing.T, data string) string {
	t.Helper()
	token, err := os.ReadFile(filepath.Join(data, bootstrapFile))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(token))
}

// must makes a call that succeeds.
func must(t *testing.T, c *client.Client, call client.Call, into any) {
	t.Helper()
	answer, err := c.Do(t.Context(), call)
	if err == nil && into != nil {
		err = answer.Into(into)
	}
	if err != nil {
		t.Fatalf("%s %v: %v", call.Operation, call.Path, err)
	}
}

// body is the document of a tenant with one backend.
func body(id, backend string) map[string]any {
	return map[string]any{
		"id": id, "domain": id + ".test",
		"backends": []any{map[string]any{"id": "app", "endpoints": []any{map[string]any{"url": "http://" + backend}}}},
		"routes":   []any{map[string]any{"id": "all", "match": map[string]any{"path": "/"}, "auth": "none", "backend": "app"}},
	}
}

// A first start makes a store, a key and the owner's token, each for the owner
// alone; the next one finds them, and the tenants.
func TestStore(t *testing.T) {
	data, backend := t.TempDir(), newBackend(t, "app", nil)
	p := start(t, storeArgs(t, data)...)
	p.await(p.stderr, `The owner's token is shown this once`)
	for _, name := range []string{bootstrapFile, "secrets.key", "gatehouse.db"} {
		info, err := os.Stat(filepath.Join(data, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, info, err)
		}
	}
	c := p.owner(data)
	var made struct {
		ID          string
		NotEnforced []string `json:"not_enforced"`
	}
	must(t, c, client.Call{Operation: client.CreateTenant, Body: json.RawMessage(`
{"name": "Enterprise Corp", "domain": "enterprise.example.com", "plan": "enterprise",
 "features": {"ai_features": true, "advanced_analytics": true, "custom_ml_models": true, "dedicated_support": true},
 "security": {"encryption_level": "enterprise", "compliance_requirements": ["GDPR", "HIPAA", "SOX"], "audit_level": "detailed"},
 "scaling": {"auto_scaling": true, "max_instances": 100, "scaling_strategy": "predictive"}}`)}, &made)
	if made.ID != "enterprise-corp" || len(made.NotEnforced) == 0 {
		t.Errorf("%+v", made)
	}
	waitFor(t, func() bool { return strings.HasPrefix(fetchHost(t, p.data, "enterprise.example.com"), "503 ") })
	doc := body("x", backend)
	must(t, c, client.Call{Operation: client.PatchTenant, Path: []string{made.ID}, Body: map[string]any{"backends": doc["backends"], "routes": doc["routes"]}}, nil)
	waitFor(t, func() bool { return fetchHost(t, p.data, "enterprise.example.com") == "200 app" })
	p.signal(syscall.SIGTERM)
	p.exits(exitOK)
	for _, name := range []string{"gatehouse.db", "metering.db"} {
		info, err := os.Stat(filepath.Join(data, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, info, err)
		}
	}

	p = start(t, storeArgs(t, data)...)
	if got := fetchHost(t, p.data, "enterprise.example.com"); got != "200 app" || strings.Contains(p.stderr.String(), "first start") {
		t.Errorf("%s\n%s", got, p.stderr)
	}
	must(t, p.owner(data), client.Call{Operation: client.GetCaller}, nil)
	p.signal(syscall.SIGTERM)
	p.exits(exitOK)

	// A store without its key is not opened, and a key is not made up for it.
	if err := os.Remove(filepath.Join(data, "secrets.key")); err != nil {
		t.Fatal(err)
	}
	refuses(t, exitError, "key of secrets: read key: open", storeArgs(t, data)...)
}

// A start that dies before anybody has seen the owner's token makes another.
func TestBootstrapAgain(t *testing.T) {
	data := t.TempDir()
	p := start(t, storeArgs(t, data)...)
	lost := p.owner(data)
	p.signal(syscall.SIGTERM)
	p.exits(exitOK)
	if err := os.Rename(filepath.Join(data, bootstrapFile), filepath.Join(data, bootstrapFile+".pending")); err != nil {
		t.Fatal(err)
	}
	p = start(t, storeArgs(t, data, "--control", strings.TrimPrefix(lost.Server(), "http://"))...)
	must(t, p.owner(data), client.Call{Operation: client.GetCaller}, nil)
	if _, err := lost.Do(t.Context(), client.Call{Operation: client.GetCaller}); gatehouse.CodeOf(err) != gatehouse.CodeBadToken {
		t.Errorf("the lost token: %v", err)
	}
}

// pair is a control plane and a data plane of it, each a process.
type pair struct {
	control, edge         *program
	controlData, edgeData string
	owner                 *client.Client
	config                string // of the edge
	controlArgs           []string
}

func startPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{controlData: t.TempDir(), edgeData: t.TempDir()}
	p.controlArgs = storeArgs(t, p.controlData, "--roles", "control")
	p.control = start(t, p.controlArgs...)
	p.controlArgs = append(p.controlArgs, "--control", p.control.control) // where it comes back
	p.owner = p.control.owner(p.controlData)
	p.config = edgeConfig(t, p.owner, "edge-1")
	p.edge = start(t, "--config", p.config, "--data", p.edgeData)
	return p
}

// edgeConfig is the configuration of a data plane of the control plane that c
// speaks to.
func edgeConfig(t *testing.T, c *client.Client, gateway string) string {
	t.Helper()
	var token control.Token
	must(t, c, client.Call{Operation: client.CreateToken, Body: map[string]any{"role": "gateway"}}, &token)
	file := filepath.Join(t.TempDir(), "token")
	write(t, file, token.Secret+"\n")
	return settings(t, fmt.Sprintf("roles: [proxy]\ncontrol: {url: %q, token_file: %q, gateway: %s}\n%s", c.Server(), file, gateway, silent))
}

var position = regexp.MustCompile(`revision (\d+), hash ([0-9a-f]+)`)

// at is the revision and hash that the data plane says it has.
func (p *pair) at(t *testing.T) (ready bool, text, where string) {
	t.Helper()
	return p.edge.stands()
}

// stands is the revision and hash that a data plane says it has.
func (p *program) stands() (ready bool, text, where string) {
	t := p.t
	t.Helper()
	r, err := http.Get("http://" + p.control + "/readyz?verbose")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	m := position.FindStringSubmatch(string(b))
	if m == nil {
		return r.StatusCode == http.StatusOK, string(b), ""
	}
	return r.StatusCode == http.StatusOK, string(b), m[1] + " " + m[2]
}

// head is the revision and hash of the journal, after its chain was verified.
func (p *pair) head(t *testing.T) string {
	t.Helper()
	return verified(t, p.owner)
}

// verified is where a journal ends, revision and hash, and its chain is whole.
func verified(t *testing.T, c *client.Client) string {
	t.Helper()
	var report journal.Report
	must(t, c, client.Call{Operation: client.VerifyAudit}, &report)
	if report.Fault != nil || report.Head.Seq == 0 || report.Events != report.Head.Seq {
		t.Fatalf("the chain is broken: %+v, %+v", report, report.Fault)
	}
	return fmt.Sprint(report.Head.Seq, " ", report.Head.Hash)
}

// prober asks for a host on one connection until it is answered with 200.
type prober struct {
	c net.Conn
	r *bufio.Reader
}

func newProber(t *testing.T, address string) *prober {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return &prober{c, bufio.NewReader(c)}
}

// live waits until a host is served.
func live(t *testing.T, address, host string) {
	t.Helper()
	p := newProber(t, address)
	p.until200(t, host)
	_ = p.c.Close() // an idle connection would be waited for
}

func (p *prober) until200(t *testing.T, host string) {
	t.Helper()
	for limit := time.Now().Add(time.Minute); ; {
		if _, err := fmt.Fprintf(p.c, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", host); err != nil {
			t.Fatal(err)
		}
		answer, err := http.ReadResponse(p.r, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(io.Discard, answer.Body)
		switch {
		case err != nil:
			t.Fatal(err)
		case answer.StatusCode == http.StatusOK:
			return
		case time.Now().After(limit):
			t.Fatalf("%s: %s for a minute", host, answer.Status)
		}
	}
}

// load fills the store with n tenants.
func (p *pair) load(t *testing.T, backend string, n int) {
	t.Helper()
	for from := 0; from < n; from += 2000 {
		var all []any
		for i := from; i < min(from+2000, n); i++ {
			all = append(all, body(fmt.Sprintf("loaded-%d", i), backend))
		}
		must(t, p.owner, client.Call{Operation: client.Apply, Body: map[string]any{"tenants": all}}, nil)
	}
}

// The time from the API's answer to a change to the first 200 on a data plane
// in another process, under load on another tenant, which loses nothing.
//
//	go test ./cmd/gatehouse -run TestChangeLatency -v -args -changes 1000 -loaded 100000
func TestChangeLatency(t *testing.T) {
	p, backend := startPair(t), newBackend(t, "app", nil)
	began := time.Now()
	p.load(t, backend, *loaded)
	t.Logf("%d tenants loaded in %v", *loaded, time.Since(began).Round(time.Millisecond))
	must(t, p.owner, client.Call{Operation: client.CreateTenant, Body: body("busy", backend)}, nil)
	probe := newProber(t, p.edge.data)
	probe.until200(t, "busy.test")
	stop := make(chan struct{})
	l := startLoad(p.edge.data, "busy.test", "app", 2, stop)
	var took []time.Duration
	for i := range *changes {
		id := fmt.Sprintf("changed-%d", i)
		doc := body(id, backend)
		must(t, p.owner, client.Call{Operation: client.CreateTenant, Body: map[string]any{"id": id, "domain": id + ".test"}}, nil)
		must(t, p.owner, client.Call{Operation: client.PatchTenant, Path: []string{id}, Body: map[string]any{"backends": doc["backends"], "routes": doc["routes"]}}, nil)
		answered := time.Now()
		probe.until200(t, id+".test")
		took = append(took, time.Since(answered))
	}
	close(stop)
	l.check(t, 1)
	slices.Sort(took)
	p50, p99 := took[len(took)/2], took[len(took)*99/100]
	t.Logf("%d changes with %d tenants: p50 %v, p99 %v, most %v", len(took), *loaded, p50, p99, took[len(took)-1])
	if p99 > time.Second {
		t.Errorf("p99 is %v", p99)
	}
	head := p.head(t)
	waitFor(t, func() bool { _, _, at := p.at(t); return at == head })
	if *loaded < 1000 {
		return
	}
	t.Logf("resident: control plane %d MiB, data plane %d MiB", p.control.resident()>>20, p.edge.resident()>>20)
	p.edge.signal(syscall.SIGTERM)
	p.edge.exits(exitOK)
	p.control.signal(syscall.SIGTERM)
	p.control.exits(exitOK)
	began = time.Now()
	p.edge = start(t, "--config", p.config, "--data", p.edgeData)
	t.Logf("start from disk, control plane away: %v, resident %d MiB", time.Since(began).Round(time.Millisecond), p.edge.resident()>>20)
	t.Log(p.edge.await(p.edge.stderr, "state restored from the disk.*")[0])
	if got := fetchHost(t, p.edge.data, "busy.test"); got != "200 app" {
		t.Error(got)
	}
	began = time.Now()
	p.control = start(t, p.controlArgs...)
	t.Logf("start of the control plane from its store: %v", time.Since(began).Round(time.Millisecond))
	if p.head(t) != head {
		t.Error("the journal is another one")
	}
}

// A data plane starts from its disk where the control plane is away, says when
// it cannot, and goes on when it is back. A takeover loses nothing.
func TestEdgeAlone(t *testing.T) {
	p, backend := startPair(t), newBackend(t, "app", nil)
	must(t, p.owner, client.Call{Operation: client.CreateTenant, Body: body("a", backend)}, nil)
	live(t, p.edge.data, "a.test")
	kept := func() bool {
		r, err := http.Get("http://" + p.edge.control + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		is := regexp.MustCompile(`(?m)^gatehouse_control_(?:kept_)?revision (\d+)$`).FindAllStringSubmatch(string(b), -1)
		return len(is) == 2 && is[0][1] == is[1][1] && is[0][1] != "0"
	}
	waitFor(t, kept)
	stop := make(chan struct{})
	l := startLoad(p.edge.data, "a.test", "app", 2, stop)
	next := start(t, "--takeover", "--config", p.config, "--data", p.edgeData, "--listen", p.edge.data, "--control", p.edge.control)
	p.edge.exits(exitOK)
	p.edge = next
	close(stop)
	l.check(t, 1)
	waitFor(t, kept) // the folder is its own now

	p.control.signal(syscall.SIGTERM)
	p.control.exits(exitOK)
	p.edge.signal(syscall.SIGTERM)
	p.edge.exits(exitOK)
	p.edge = start(t, "--config", p.config, "--data", p.edgeData)
	if got := fetchHost(t, p.edge.data, "a.test"); got != "200 app" {
		t.Errorf("alone: %s", got)
	}
	waitFor(t, func() bool {
		ready, text, _ := p.at(t)
		return ready && strings.Contains(text, "serving without the control plane for")
	})
	p.edge.signal(syscall.SIGTERM)
	p.edge.exits(exitOK)

	// Of two states, of both processes, the newest is damaged: the one before
	// is served, and what is wrong is said.
	snapshots := filepath.Join(p.edgeData, "snapshots", "state-*")
	files, err := filepath.Glob(snapshots)
	if err != nil || len(files) != 2 {
		t.Fatal(files, err)
	}
	write(t, slices.Max(files), "GHS1c"+strings.Repeat("x", 40))
	p.edge = start(t, "--config", p.config, "--data", p.edgeData)
	p.edge.await(p.edge.stderr, `msg="snapshot damaged" error="?\S*`+filepath.Base(slices.Max(files)))
	if got := fetchHost(t, p.edge.data, "a.test"); got != "200 app" {
		t.Errorf("by the snapshot before: %s", got)
	}
	waitFor(t, func() bool {
		ready, text, _ := p.at(t)
		return ready && strings.Contains(text, "serving without the control plane for")
	})
	p.edge.signal(syscall.SIGTERM)
	p.edge.exits(exitOK)

	files, err = filepath.Glob(snapshots)
	if err != nil || len(files) < 2 {
		t.Fatal(files, err)
	}
	for _, name := range files {
		write(t, name, "GHS1c"+strings.Repeat("x", 40))
	}
	p.edge = start(t, "--config", p.config, "--data", p.edgeData)
	waitFor(t, func() bool {
		ready, text, _ := p.at(t)
		return !ready && strings.Contains(text, "no snapshot can be used") && strings.Contains(text, "does not answer")
	})
	p.control = start(t, p.controlArgs...)
	waitFor(t, func() bool { ready, _, at := p.at(t); return ready && at == p.head(t) })
	if got := fetchHost(t, p.edge.data, "a.test"); got != "200 app" {
		t.Errorf("back again: %s", got)
	}
}

// A takeover between two processes on one store loses no request, and a change
// after it is live.
func TestStoreTakeover(t *testing.T) {
	data, backend := t.TempDir(), newBackend(t, "app", nil)
	args := storeArgs(t, data, "--takeover")
	old := start(t, args...)
	c := old.owner(data)
	must(t, c, client.Call{Operation: client.CreateTenant, Body: body("a", backend)}, nil)
	live(t, old.data, "a.test")
	stop := make(chan struct{})
	l := startLoad(old.data, "a.test", "app", 4, stop)
	next := start(t, append(args, "--listen", old.data, "--control", old.control)...)
	old.exits(exitOK)
	must(t, c, client.Call{Operation: client.CreateTenant, Body: body("b", backend)}, nil)
	live(t, next.data, "b.test")
	close(stop)
	l.check(t, 1)
}

// Over TLS the control API is served to others, and a data plane follows it by
// the certificate it is told to trust.
func TestControlTLS(t *testing.T) {
	ca, cert, key := selfSigned(t)
	data := t.TempDir()
	p := start(t, "--data", data, "--roles", "control", "--config", settings(t, fmt.Sprintf("control: {tls: {cert: %q, key: %q}}\n%s", cert, key, silent)))
	address := "https://" + p.control
	token, err := os.ReadFile(filepath.Join(data, bootstrapFile))
	if err != nil {
		t.Fatal(err)
	}
	transport, err := newTransport(ca)
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(client.Config{Server: address, Token: strings.TrimSpace(string(token)), HTTP: transport})
	if err != nil {
		t.Fatal(err)
	}
	var made control.Token
	must(t, c, client.Call{Operation: client.CreateToken, Body: map[string]any{"role": "gateway"}}, &made)
	file := filepath.Join(t.TempDir(), "token")
	write(t, file, made.Secret)
	edge := start(t, "--data", t.TempDir(), "--config", settings(t, fmt.Sprintf(
		"roles: [proxy]\ncontrol: {url: %q, token_file: %q, ca_file: %q, gateway: edge-1}\n%s", address, file, ca, silent)))
	must(t, c, client.Call{Operation: client.CreateTenant, Query: url.Values{"reason": {"test"}}, Body: body("a", newBackend(t, "app", nil))}, nil)
	live(t, edge.data, "a.test")
}

// selfSigned makes a certificate of 127.0.0.1 that is its own authority.
func selfSigned(t *testing.T) (ca, cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "control.crt"), filepath.Join(dir, "control.key")
	write(t, cert, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(t, key, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})))
	return cert, cert, key
}
