package api

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/configs"
	"github.com/rogpeppe/go-internal/txtar"
)

// hashes stand for those of keys in the documents.
var hashes = regexp.MustCompile(`\$HASH[0-9]`)

// What is read of a tenant or plan may be sent back as it is: it changes
// nothing by apply, PUT and PATCH, and makes the same by POST. The documents are
// those that show each field of theirs.
func TestExportGoesBack(t *testing.T) {
	scenarios, err := filepath.Glob("../../proxy/testdata/fields/*.txtar")
	if err != nil || len(scenarios) == 0 {
		t.Fatal(scenarios, err)
	}
	documents := map[string][]byte{"more": []byte(`
tenants:
  - id: more
    name: More than is enforced
    domain: more.test
    plan: enterprise
    status: suspended
    features: {ai_features: true, backup: false}
    security: {encryption_level: enterprise, encryption_algorithm: AES-256-GCM, key_rotation_days: 90, session_timeout: 30m, mfa_required: true, compliance_requirements: [GDPR], audit_level: detailed}
    scaling: {auto_scaling: true, min_instances: 2, max_instances: 100, scaling_strategy: predictive}
    limits: {max_storage_gb: 10}
`)}
	for _, name := range scenarios {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range txtar.Parse(text).Files {
			if strings.HasSuffix(part.Name, "one.yaml") {
				documents[strings.TrimSuffix(filepath.Base(name), ".txtar")] = hashes.ReplaceAllFunc(part.Data, func(b []byte) []byte {
					return fmt.Appendf(nil, "sha256:%x", sha256.Sum256(b))
				})
			}
		}
	}
	s := start(t, "")
	for name, text := range documents {
		var doc gatehouse.Document
		if faults := configs.DecodeBody(text, &doc); len(faults.Errors()) > 0 {
			t.Fatal(name, faults)
		}
		var first, second struct {
			Plans   []json.RawMessage `json:"plans"`
			Tenants []any             `json:"tenants"`
		}
		for i := range doc.Plans {
			first.Plans = append(first.Plans, encoded(t, doc.Plans[i]))
		}
		for i := range doc.Tenants {
			given := map[string]string{}
			for _, a := range doc.Tenants[i].Attachments() {
				content, err := os.ReadFile(filepath.Join("../../proxy", a.Name))
				if err != nil {
					t.Fatal(name, err)
				}
				given[a.Name] = string(content)
			}
			first.Tenants = append(first.Tenants, tenantBody{Tenant: doc.Tenants[i], Files: given})
		}
		if w := s.ask("POST /api/v1/apply\n\n" + string(encoded(t, first))); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"refused":0`) {
			t.Fatal(name, w.Code, w.Body)
		}
		read := func(path string) string {
			t.Helper()
			w := s.ask("GET " + path)
			if w.Code != http.StatusOK {
				t.Fatal(name, path, w.Code, w.Body)
			}
			for _, back := range []string{"PUT " + path + "\nIf-Match: *", "PATCH " + path} {
				if strings.HasPrefix(back, "PATCH /api/v1/plans") {
					continue // there is none
				}
				if again := s.ask(back + "\n\n" + w.Body.String()); again.Code != http.StatusOK || again.Header().Get("ETag") != w.Header().Get("ETag") {
					t.Errorf("%s: %s: %d %s, ETag %s after %s\n%s", name, back, again.Code, again.Body, again.Header().Get("ETag"), w.Header().Get("ETag"), w.Body)
				}
			}
			return w.Body.String()
		}
		for i := range doc.Plans {
			second.Plans = append(second.Plans, json.RawMessage(read("/api/v1/plans/"+string(doc.Plans[i].ID))))
		}
		for i := range doc.Tenants {
			second.Tenants = append(second.Tenants, json.RawMessage(read("/api/v1/tenants/"+string(doc.Tenants[i].ID))))
		}
		w := s.ask("POST /api/v1/apply\n\n" + string(encoded(t, second)))
		if got := w.Body.String(); w.Code != http.StatusOK || strings.Count(got, `"action":"unchanged"`) != len(doc.Plans)+len(doc.Tenants) {
			t.Errorf("%s: apply: %d %s", name, w.Code, got)
		}
		for i := range doc.Tenants {
			path := "/api/v1/tenants/" + string(doc.Tenants[i].ID)
			exported := s.ask("GET " + path).Body.String()
			s.made("DELETE " + path)
			s.made("POST " + path + "/purge")
			if strings.Contains(exported, `"files":`) { // secrets are never shown
				continue
			}
			if w := s.ask("POST /api/v1/tenants\n\n" + exported); w.Code != http.StatusCreated {
				t.Errorf("%s: POST: %d %s", name, w.Code, w.Body)
				continue
			}
			if again := s.ask("GET " + path).Body.String(); setBy(t, again) != setBy(t, exported) {
				t.Errorf("%s: made again:\n%s\nwas\n%s", name, again, exported)
			}
			s.made("DELETE " + path)
			s.made("POST " + path + "/purge")
		}
	}
	t.Logf("%d documents", len(documents))

	// What is of answers is checked for its form, and files for theirs.
	for body, want := range map[string]string{
		`{"id": "x", "revision": "new"}`:               `"/revision"`,
		`{"id": "x", "revisions": 1}`:                  `"/revisions"`,
		`{"id": "x", "files": {"a": 1}}`:               `"/files/a"`,
		`{"id": "x", "files": {"a": "", "a": ""}}`:     `"/files/a"`,
		`{"id": "x", "files": [{"name": "a", "b":1}]}`: `"/files/0/b"`,
	} {
		if w := s.ask("POST /api/v1/tenants\n\n" + body); w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d %s", body, w.Code, w.Body)
		}
	}
}

// setBy is a tenant's text without what nobody sets.
func setBy(t *testing.T, text string) string {
	t.Helper()
	var members map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &members); err != nil {
		t.Fatal(err)
	}
	for _, name := range ofAnswers {
		delete(members, name)
	}
	return string(encoded(t, members))
}

func encoded(t *testing.T, v any) json.RawMessage {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
