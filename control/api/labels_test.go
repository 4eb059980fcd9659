package api

import (
	"net/http"
	"strings"
	"testing"
)

// Names for people are of one line, and not longer than one reads; the fault
// has their place.
func TestLabels(t *testing.T) {
	s := start(t, "")
	s.made("POST /api/v1/tenants\n\n" + `{"id": "a", "identity": {"api_keys": {}}}`)
	s.made("POST /api/v1/tenants/a/keys\n\n" + `{"id": "k"}`)
	for _, tt := range []struct{ request, pointer string }{
		{`POST /api/v1/tenants|{"id": "b", "name": NAME}`, "/name"},
		{`PATCH /api/v1/tenants/a|{"name": NAME}`, "/name"},
		{`POST /api/v1/tenants|{"id": "b", "identity": {"api_keys": {"keys": [{"id": "x", "hash": "sha256:` + strings.Repeat("0", 64) + `", "roles": ["r", NAME]}]}}}`, "/identity/api_keys/keys/0/roles/1"},
		{`POST /api/v1/tenants|{"id": "b", "security": {"compliance_requirements": [NAME]}}`, "/security/compliance_requirements/0"},
		{`POST /api/v1/apply?dry_run=true|{"tenants": [{"id": "b", "name": NAME}]}`, "/name"},
		{`POST /api/v1/plans|{"id": "p", "name": NAME}`, "/name"},
		{"PUT /api/v1/plans/free\nIf-Match: *|" + `{"name": NAME}`, "/name"},
		{`POST /api/v1/tenants/a/keys|{"name": NAME}`, "/name"},
		{`POST /api/v1/tenants/a/keys|{"scopes": [NAME]}`, "/scopes/0"},
		{`PATCH /api/v1/tenants/a/keys/k|{"name": NAME}`, "/name"},
		{`POST /api/v1/tokens|{"name": NAME, "role": "viewer"}`, "/name"},
		{`POST /api/v1/tokens|{"id": NAME, "role": "viewer"}`, "/id"},
		{`POST /api/v1/tenants/a/policies|{"modules": [{"name": NAME, "source": "package gatehouse.tenant\nallow := true"}]}`, "/modules/0/name"},
		{`POST /api/v1/webhooks|{"id": NAME, "url": "https://hook.example.com/"}`, "/id"},
	} {
		head, body, _ := strings.Cut(tt.request, "|")
		for _, name := range []string{`"a\u0000b"`, `"a\nb"`, `"\u001b[31m"`, `"a\u2028b"`, `"` + strings.Repeat("n", 5000) + `"`} {
			w := s.ask(head + "\n\n" + strings.ReplaceAll(body, "NAME", name))
			refused := w.Code == http.StatusUnprocessableEntity || w.Code == http.StatusOK && strings.Contains(w.Body.String(), `"refused":1`)
			if !refused || !strings.Contains(w.Body.String(), `"pointer":"`+tt.pointer+`"`) {
				t.Errorf("%s %.40s: %d %.300s, want a fault at %s", head, name, w.Code, w.Body, tt.pointer)
			}
		}
	}
	for _, name := range []string{"", "Ümläut & Söhne — 株式会社", strings.Repeat("é", 200)} {
		s.made("PATCH /api/v1/tenants/a\n\n" + `{"name": "` + name + `"}`)
		s.made("PATCH /api/v1/tenants/a/keys/k\n\n" + `{"name": "` + name + `"}`)
	}
}
