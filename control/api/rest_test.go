package api

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/invoicing"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
	"github.com/gatehouse-gateway/gatehouse/control/webhook"
	"github.com/gatehouse-gateway/gatehouse/metering/ledger"
	"github.com/gatehouse-gateway/gatehouse/policies"
	"github.com/gatehouse-gateway/gatehouse/policy"
)

// logBook is a log that can be read while it is written.
type logBook struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (l *logBook) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logBook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// service is a control plane and its API.
type service struct {
	t       testing.TB
	plane   *control.Plane
	journal *journal.Journal
	ledger  *ledger.Ledger
	people  *control.Operators
	parts   REST
	handler http.Handler
	log     logBook
	owner   string
}

// start opens a control plane on a journal, a new one for "".
func start(t testing.TB, address string) *service {
	t.Helper()
	return startWith(t, address, func(*REST) {})
}

func startWith(t testing.TB, address string, change func(*REST)) *service {
	t.Helper()
	s := &service{t: t}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	if address == "" {
		address = filepath.Join(t.TempDir(), "gatehouse.db")
	}
	var err error
	index := maps.Clone(control.Index)
	maps.Copy(index, invoicing.Index)
	s.journal, err = journal.Open(t.Context(), journal.Config{Address: address, Index: index})
	check(err)
	t.Cleanup(func() {
		if err := s.journal.Close(); err != nil {
			t.Error(err)
		}
	})
	log := slog.New(slog.NewTextHandler(&s.log, nil))
	engine, err := policy.NewEngine(policy.Config{Baseline: []gatehouse.Module{shipped(t, "baseline.rego")}, Deadline: time.Second})
	check(err)
	roles, err := engine.Authorizer([]gatehouse.Module{shipped(t, "roles.rego")})
	check(err)
	s.plane, err = control.New(t.Context(), control.Parts{
		Journal: s.journal, Engine: engine, SecretKey: bytes.Repeat([]byte{7}, 32), Random: rand.Reader, Now: time.Now, Log: log,
		Check: func(d *gatehouse.Document) (faults gatehouse.Faults) {
			for i := range d.Tenants {
				for _, set := range [][]gatehouse.Module{d.Tenants[i].Policy.Modules, d.Tenants[i].Policy.Shadow} {
					_, more := engine.Compile(set)
					faults = append(faults, more.Under(gatehouse.Pointer("tenants", i)+"/policy")...)
				}
			}
			return faults
		},
	})
	check(err)
	first, fresh, err := s.plane.Bootstrap(t.Context())
	check(err)
	if fresh {
		s.owner = first.Secret
	}
	s.people, err = control.NewOperators(t.Context(), s.plane, func(ctx context.Context, a control.Access) (bool, string, error) { return roles.Decide(ctx, a) })
	check(err)
	s.parts = REST{Plane: s.plane, Operators: s.people, Gateways: control.NewGateways(time.Now, "", nil), Log: log}
	s.bill(time.Now)
	change(&s.parts)
	s.handler = NewHandler(s.parts)
	return s
}

// bill gives the service accounts and webhooks by a clock.
func (s *service) bill(now func() time.Time) {
	s.t.Helper()
	var err error
	if s.ledger == nil {
		if s.ledger, err = ledger.Open(s.t.Context(), filepath.Join(s.t.TempDir(), "ledger.db")); err != nil {
			s.t.Fatal(err)
		}
		own := s.ledger
		s.t.Cleanup(func() { own.Close() })
	}
	s.parts.Accounts = invoicing.New(invoicing.Parts{
		Store: s.journal, Usage: s.ledger, Now: now,
		Tenant: func(ctx context.Context, id gatehouse.TenantID) error { _, err := s.plane.Tenant(ctx, id); return err },
		Opens:  func(ctx context.Context, id gatehouse.TenantID) error { return s.plane.Undeleted(ctx, id) },
		Plan:   func(ctx context.Context, id gatehouse.PlanID) error { _, err := s.plane.Plan(ctx, id); return err },
	})
	s.parts.Webhooks, err = webhook.New(webhook.Config{Journal: s.journal, Read: invoicing.Message, Kinds: invoicing.MessageKinds, Key: bytes.Repeat([]byte{1}, 32), Random: rand.Reader, Now: now})
	if err != nil {
		s.t.Fatal(err)
	}
}

// billAt has the accounts live on a day, with their ledger
// open to the API.
func (s *service) billAt(day string) *till {
	s.t.Helper()
	clock := &till{}
	clock.set(s.t, day)
	s.bill(clock.Now)
	s.parts.Ledger = func(context.Context) (*ledger.Ledger, error) { return s.ledger, nil }
	s.handler = NewHandler(s.parts)
	return clock
}

// token makes a token.
func (s *service) token(role control.Role, tenants ...gatehouse.TenantID) string {
	s.t.Helper()
	t, err := s.plane.CreateToken(s.t.Context(), control.NewToken{Role: role, Tenants: tenants}, control.Mutation{Actor: "token:test"})
	if err != nil {
		s.t.Fatal(err)
	}
	return t.Secret
}

// tokenOf makes a token of a data plane.
func (s *service) tokenOf(gateway string) string {
	s.t.Helper()
	t, err := s.plane.CreateToken(s.t.Context(), control.NewToken{Role: control.Gateway, Gateway: gateway}, control.Mutation{Actor: "token:test"})
	if err != nil {
		s.t.Fatal(err)
	}
	return t.Secret
}

// ask makes a request: "METHOD path", then "name: value" of headers, and the
// body after an empty line.
func (s *service) ask(text string) *httptest.ResponseRecorder {
	head, body, _ := strings.Cut(text, "\n\n")
	lines := strings.Split(head, "\n")
	method, target, _ := strings.Cut(lines[0], " ")
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+s.owner)
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	return w
}

// volatile are the parts of answers that differ from run to run.
var volatile = regexp.MustCompile(`"(at|until|created|updated|purge|since|seen|last_used)":"[^"]*"|"(hash|prev|secret|version|sha256)":"[^"]*"|"(took|ns|most|median|bytes)":\d+|(gh|ghop)_[0-9A-Za-z]{49}|[tk]-[0-9a-z]{16}`)

// told is the status, the headers that matter and the body of an answer.
func (s *service) told(request string) string {
	s.t.Helper()
	w := s.ask(request)
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s", w.Code, w.Header().Get("Content-Type"))
	for _, name := range []string{"Accept", "Accept-Patch", "Accept-Post", "Accept-Encoding", "Allow", "ETag", "Link", "Www-Authenticate", "Retry-After"} {
		if v := w.Header().Get(name); v != "" {
			fmt.Fprintf(&b, "\n%s: %s", name, v)
		}
	}
	body, err := io.ReadAll(w.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	b.WriteString("\n" + volatile.ReplaceAllStringFunc(strings.TrimSpace(string(body)), func(found string) string {
		if name, _, ok := strings.Cut(found, `":`); ok {
			return name + `":"…"`
		}
		return "…"
	}))
	return strings.ReplaceAll(strings.TrimSpace(b.String()), "https://github.com/gatehouse-gateway/gatehouse/blob/main/docs/reference/problems.md", "")
}

// Each transcript is requests, each after a line of =, and their answers, after
// a line of -. Lines before a request that begin with # are comments.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "matrix.txt") {
			continue
		}
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s := start(t, "")
			var b strings.Builder
			for _, exchange := range strings.Split(string(text), "====\n")[1:] {
				request, _, _ := strings.Cut(exchange, "----\n")
				asked := regexp.MustCompile(`(?m)^#.*\n`).ReplaceAllString(request, "")
				answer := s.told(strings.TrimSuffix(asked, "\n"))
				if strings.HasSuffix(file, "apply.txt") { // tenants are committed in any order
					answer = regexp.MustCompile(`"revision":\d+`).ReplaceAllString(answer, `"revision":…`)
				}
				b.WriteString("====\n" + request + "----\n" + answer + "\n")
			}
			golden(t, file, []byte(b.String()))
		})
	}
}

// shipped is a module that ships.
func shipped(t testing.TB, name string) gatehouse.Module {
	t.Helper()
	source, err := policies.FS.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return gatehouse.Module{Name: name, Source: string(source)}
}
