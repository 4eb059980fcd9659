package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/configs"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/invoicing"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
	"github.com/golang-jwt/jwt/v5"
)

// demo is what `gatehouse run --demo` adds to a gateway: two tenants, their
// backends, and credentials that live as long as the process.
type demo struct {
	folder   string
	backends []*http.Server
	key      gatehouse.APIKey
	token    string
	wanted   control.Wanted
	prices   billing.Plan
}

// runDemo serves the demo's tenants. With temporary set everything it writes
// goes into a folder that is removed at the end.
func runDemo(ctx context.Context, s *streams, cfg *config, temporary bool) (err error) {
	if temporary {
		if cfg.Data, err = os.MkdirTemp("", "gatehouse-demo-"); err != nil {
			return fmt.Errorf("make a folder for the demo: %w", err)
		}
		defer func() {
			if e := os.RemoveAll(cfg.Data); err == nil && e != nil {
				err = fmt.Errorf("remove the demo's folder: %w", e)
			}
		}()
	}
	d := &demo{folder: filepath.Join(cfg.Data, "demo-tenants")}
	defer d.close()
	if err := d.prepare(); err != nil {
		return fmt.Errorf("prepare the demo: %w", err)
	}
	cfg.Tenants, cfg.Roles = "", []string{"proxy", "control"} // in the store: there is an invoice
	if faults := cfg.validate(); len(faults) > 0 {
		return &exit{exitUsage, faults}
	}
	if cfg.Log.Access == "stdout" { // what to try is printed there
		cfg.Log.Access = filepath.Join(cfg.Data, "access.jsonl")
	}
	return serve(ctx, s, cfg, func(ctx context.Context, p *process) error {
		if err := d.furnish(ctx, p.store); err != nil {
			return fmt.Errorf("furnish the demo: %w", err)
		}
		if err := d.print(s.out, p, cfg); err != nil {
			return err
		}
		return d.visit(ctx, p.data.Addr())
	})
}

// prepare starts the backends, makes the credentials, and writes the tenants'
// documents with both.
func (d *demo) prepare() error {
	source, err := configs.Examples.ReadFile("demo.yaml")
	if err != nil {
		return err
	}
	text := string(source)
	for port, name := range map[string]string{"9001": "studio-1", "9002": "studio-2", "9003": "label-1", "9004": "label-2"} {
		addr, err := d.backend(name)
		if err != nil {
			return err
		}
		text = strings.ReplaceAll(text, "127.0.0.1:"+port, addr)
	}
	if d.key, err = gatehouse.NewAPIKey(rand.Reader); err != nil {
		return err
	}
	hash, err := d.key.Hash().MarshalText()
	if err != nil {
		return err
	}
	text = strings.ReplaceAll(text, "sha256:"+strings.Repeat("0", 63)+"1", string(hash))
	jwks, err := d.sign()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(d.folder, "keys"), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(d.folder, "keys", "studio.jwks.json"), jwks, 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(d.folder, "demo.yaml"), []byte(text), 0o600); err != nil {
		return err
	}
	return d.read()
}

// read reads the documents that were written, and the prices.
func (d *demo) read() error {
	set := configs.Load(d.folder)
	if faults := set.Problems.Errors(); len(faults) > 0 {
		return faults
	}
	d.wanted = control.Wanted{Plans: set.Document.Plans, Tenants: set.Document.Tenants, Files: map[gatehouse.TenantID]map[string][]byte{}}
	for i := range d.wanted.Tenants {
		t := &d.wanted.Tenants[i]
		d.wanted.Files[t.ID] = map[string][]byte{}
		for _, a := range t.Attachments() {
			d.wanted.Files[t.ID][a.Name] = a.Content()
		}
	}
	const name = "prices/demo.yaml"
	source, err := configs.Examples.ReadFile(name)
	if err != nil {
		return err
	}
	if _, problems := configs.Decode(name, source, &d.prices); len(problems) > 0 {
		return problems
	}
	return nil
}

// furnish puts plans, tenants, prices and subscriptions into a store: what is
// there from a demo before, in the same data folder, stays.
func (d *demo) furnish(ctx context.Context, s *store) error {
	as := control.Mutation{Actor: "system", Why: "the demo"}
	effects, err := s.plane.Apply(ctx, d.wanted, as)
	if err != nil {
		return err
	}
	for _, e := range effects {
		if e.Action == control.ActionRefuse {
			return fmt.Errorf("%s %s is refused: %s %w", e.Kind, e.ID, e.Reason, e.Faults)
		}
	}
	begin := time.Now().Truncate(time.Minute) // usage is kept by the minute: this one counts whole
	for _, t := range d.wanted.Tenants {
		versions, err := s.till.accounts.Versions(ctx, t.Plan)
		if err != nil {
			return err
		}
		if len(versions) == 0 {
			if _, err := s.till.accounts.AddVersion(ctx, t.Plan, d.prices, as); err != nil {
				return fmt.Errorf("prices of %s: %w", t.Plan, err)
			}
		}
		_, err = s.till.accounts.Subscribe(ctx, t.ID, invoicing.NewSubscription{Plan: t.Plan, Start: begin}, as)
		if err != nil && gatehouse.CodeOf(err) != gatehouse.CodeConflict {
			return fmt.Errorf("subscribe %s: %w", t.ID, err)
		}
	}
	return nil
}

// sign makes the issuer's key and an editor's token, and returns the key set.
func (d *demo) sign() ([]byte, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	const kid = "demo"
	now := time.Now()
	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{
		"iss": "https://id.studio.localhost/", "aud": "studio-api", "sub": "ada", "tenant": "studio",
		"roles": []string{"editor"}, "iat": now.Unix(), "exp": now.Add(24 * time.Hour).Unix(),
	})
	t.Header["kid"] = kid
	if d.token, err = t.SignedString(private); err != nil {
		return nil, err
	}
	return json.Marshal(map[string]any{"keys": []any{map[string]string{
		"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": kid, "x": base64.RawURLEncoding.EncodeToString(public),
	}}})
}

// backend starts a service that answers with what it was asked.
func (d *demo) backend(name string) (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	s := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintf(w, "%s got %s %s for tenant %s", name, r.Method, r.URL.RequestURI(), r.Header.Get("X-Gatehouse-Tenant"))
		if who := r.Header.Get("X-Gatehouse-Principal"); who != "" {
			fmt.Fprintf(w, " from %s", who)
		}
		fmt.Fprintln(w)
	})}
	d.backends = append(d.backends, s)
	go s.Serve(ln) //nolint:errcheck // ends with close
	return ln.Addr().String(), nil
}

func (d *demo) close() {
	for _, s := range d.backends {
		_ = s.Close() // the demo is over
	}
}

// visit is light traffic, so that usage and metrics have something to show.
func (d *demo) visit(ctx context.Context, gateway net.Addr) error {
	client := &http.Client{Timeout: 5 * time.Second}
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+gateway.String()+"/api/tracks", nil)
		if err != nil {
			return err
		}
		r.Host = "studio.localhost"
		r.Header.Set("X-API-Key", d.key.Reveal())
		if answer, err := client.Do(r); err == nil {
			_, _ = io.Copy(io.Discard, answer.Body) // only the count matters
			_ = answer.Body.Close()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

var demoText = template.Must(template.New("demo").Parse(`Gatehouse is serving two tenants. Try, in another terminal:

  KEY={{.Key}}
  TOKEN={{.Token}}
  DOCUMENT={{.Document}}
  export GATEHOUSE_SERVER=http://{{.Control}} GATEHOUSE_TOKEN={{.Owner}}

  # a public route of the tenant studio
  curl -i http://studio.localhost:{{.Port}}/public/hello
  # another tenant, by its host
  curl -i http://label.localhost:{{.Port}}/
  # an API key: a listener may read
  curl -i -H "X-API-Key: $KEY" http://studio.localhost:{{.Port}}/api/tracks
  # … and not write: the tenant's own policy
  curl -i -H "X-API-Key: $KEY" -X POST http://studio.localhost:{{.Port}}/api/tracks
  # a JWT: an editor may
  curl -i -H "Authorization: Bearer $TOKEN" -X POST http://studio.localhost:{{.Port}}/api/tracks
  # the key of one tenant at another
  curl -i -H "X-API-Key: $KEY" http://label.localhost:{{.Port}}/
  # a limit: the free plan takes a request a second, five at once
  for i in 1 2 3 4 5 6 7 8 9; do curl -s -o /dev/null -w '%{http_code}\n' http://label.localhost:{{.Port}}/; done
  # a host that nobody has, and a backend that is down
  curl -i http://nobody.localhost:{{.Port}}/
  curl -i http://studio.localhost:{{.Port}}/broken/

  # what was used
  {{.Program}} tenant usage studio
  # an invoice that grows, a cent for each request that a backend answered: ask again
  {{.Program}} invoice preview studio --lines
  # why a request would be refused
  {{.Program}} explain POST http://studio.localhost/api/tracks --key "$KEY"
  # the tenants' document: save a change and apply it, and it is live
  $EDITOR $DOCUMENT
  {{.Program}} apply -f $DOCUMENT

Stop it with Ctrl-C.
`))

func (d *demo) print(w io.Writer, p *process, cfg *config) error {
	_, port, err := net.SplitHostPort(p.data.Addr().String())
	if err != nil {
		return err
	}
	owner, err := os.ReadFile(filepath.Join(cfg.Data, bootstrapFile))
	if err != nil {
		return fmt.Errorf("read the owner's token: %w", err)
	}
	return demoText.Execute(w, map[string]string{
		"Owner": strings.TrimSpace(string(owner)), "Program": programName(),
		"Key": d.key.Reveal(), "Token": d.token, "Port": port, "Control": p.control.Addr().String(),
		"Document": filepath.Join(cfg.Data, "demo-tenants", "demo.yaml"),
	})
}

// programName is how this program is called from the folder in which it was.
func programName() string {
	name, err := os.Executable()
	if err != nil {
		return "gatehouse"
	}
	if here, err := os.Getwd(); err == nil {
		if near, err := filepath.Rel(here, name); err == nil && filepath.IsLocal(near) && strings.ContainsRune(near, filepath.Separator) {
			return near
		}
	}
	return name
}
