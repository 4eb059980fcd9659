package api

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestNoSecret plants secrets and looks for them in every answer but the one
// that makes them, in the exported journal and in the log.
func TestNoSecret(t *testing.T) {
	s := start(t, "")
	planted := map[string]string{}
	secretOf := func(name, request string) {
		t.Helper()
		w := s.ask(request)
		var made struct{ Secret string }
		if err := json.Unmarshal(w.Body.Bytes(), &made); err != nil || made.Secret == "" {
			t.Fatal(request, w.Code, w.Body)
		}
		planted[name] = made.Secret
	}
	const shared = "planted-shared-secret-0123456789abcdef"
	planted["the file"] = shared
	const document = `{"id": "a", "domain": "a.test", "identity": {"api_keys": {}, "jwt": [{"issuer": "i", "audience": ["a"], "algorithms": ["HS256"], "secret_file": "hs"}]}, "files": {"hs": "` + shared + `"}}`
	var answers strings.Builder
	ask := func(request string) {
		t.Helper()
		w := s.ask(request)
		if w.Code == http.StatusInternalServerError {
			t.Error(request, w.Body)
		}
		asked, _, _ := strings.Cut(strings.TrimRight(strings.SplitN(request, "\n", 2)[0], "?"), "?")
		answers.WriteString(asked + "\n" + w.Body.String() + "\n")
		for name, value := range w.Header() {
			answers.WriteString(name + strings.Join(value, " ") + "\n")
		}
	}
	ask("POST /api/v1/tenants?dry_run=true\n\n" + document)
	ask("POST /api/v1/tenants\nIdempotency-Key: t\n\n" + document)
	if !strings.Contains(answers.String(), `"files":[{"name":"hs","secret":true}]`) {
		t.Fatal(answers.String())
	}
	ask("POST /api/v1/tenants\nIdempotency-Key: t\n\n" + document)
	ask("POST /api/v1/tenants\n\n" + document) // a conflict
	ask("PATCH /api/v1/tenants/a\n\n" + `{"files": {"hs": "` + shared + `2"}}`)
	ask("PATCH /api/v1/tenants/a?dry_run=true\n\n" + `{"files": {"hs": "` + shared + `2"}}`)
	ask("PATCH /api/v1/tenants/a\n\n" + `{"files": {"none": "` + shared + `"}}`)
	ask("PATCH /api/v1/tenants/a\n\n" + `{"files": {"hs": ["` + shared + `"]}}`)
	ask("PATCH /api/v1/tenants/a\n\n" + `{"identity": {"jwt": "` + shared + `"}}`)
	ask("POST /api/v1/tenants\n\n" + `{"id": "` + shared + `", "status": "` + shared + `"`)
	ask("POST /api/v1/apply\n\n" + `{"tenants": [` + document + `, {"id": "b", "status": "` + shared + `"}]}`)
	ask("POST /api/v1/apply\nContent-Type: application/yaml\n\ntenants:\n- id: c\n  status: [" + shared + "\n")
	ask("GET /api/v1/tenants?sort=" + shared)
	ask("GET /api/v1/tenants?limit=" + shared)
	secretOf("the key", "POST /api/v1/tenants/a/keys\nIdempotency-Key: k\n\n"+`{"id": "k"}`)
	ask("POST /api/v1/tenants/a/keys\nIdempotency-Key: k\n\n" + `{"id": "k"}`)
	secretOf("the rotated key", "POST /api/v1/tenants/a/keys/k/rotate\nIdempotency-Key: r")
	ask("POST /api/v1/tenants/a/keys/k/rotate\nIdempotency-Key: r")
	const hook = `{"id": "erp", "url": "https://erp.test/hook"}`
	ask("POST /api/v1/webhooks?dry_run=true\n\n" + hook)
	secretOf("the webhook's", "POST /api/v1/webhooks\nIdempotency-Key: w\n\n"+hook)
	ask("POST /api/v1/webhooks\nIdempotency-Key: w\n\n" + hook)
	ask("POST /api/v1/webhooks/erp/rotate?dry_run=true")
	secretOf("the webhook's rotated", "POST /api/v1/webhooks/erp/rotate\nIdempotency-Key: v")
	ask("POST /api/v1/webhooks/erp/rotate\nIdempotency-Key: v")
	for _, request := range []string{"disable\n\n" + `{"reason": "for now"}`, "enable"} {
		ask("POST /api/v1/webhooks/erp/" + request)
	}
	s.made("POST /api/v1/plans/free/versions\n\n" + `{"currency": "EUR", "cadence": {"unit": "month"}, "prices": [{"id": "base", "model": "flat", "amount": "30", "advance": true}]}`)
	s.made("POST /api/v1/tenants/a/billing\n\n" + `{"plan": "free"}`)
	s.made("POST /api/v1/tenants/a/billing/invoices\n\n" + `{"kind": "opening"}`)
	s.made("POST /api/v1/tenants/a/billing/credit-notes\n\n" + `{"invoice": "GH-` + year() + `-000001"}`)
	secretOf("the token", "POST /api/v1/tokens\nIdempotency-Key: o\n\n"+`{"id": "o", "role": "viewer"}`)
	ask("POST /api/v1/tokens\nIdempotency-Key: o\n\n" + `{"id": "o", "role": "viewer"}`)
	ask("GET /api/v1/tenants\nAuthorization: Bearer " + planted["the token"][:50] + "xx")
	ask("POST /api/v1/tenants/a/rollback\n\n" + `{"revision": 3}`)
	planted["the bootstrap token"] = s.owner
	for _, op := range operations(newREST(s.parts).api.OpenAPI()) {
		if op.method != http.MethodGet || op.OperationID == "followUpdates" || op.OperationID == "exportAudit" {
			continue
		}
		for revision := range 40 {
			path := strings.NewReplacer("{tenant}", "a", "{webhook}", "erp", "{subscription}", "main", "{version}", "1", "{invoice}", "GH-"+year()+"-000001", "{note}", "GH-CN-"+year()+"-000001", "{key}", "k", "{policy}", "1", "{plan}", "free", "{token}", "o", "{gateway}", "g", "{revision}", strconv.Itoa(revision+1)).Replace(op.path)
			ask("GET " + path)
			if !strings.Contains(op.path, "{revision}") {
				break
			}
		}
	}
	export := s.ask("GET /api/v1/audit/export").Body.String()
	for name, secret := range planted {
		for where, text := range map[string]string{"an answer": answers.String(), "the journal": export, "the log": s.log.String()} {
			if i := strings.Index(text, secret); i >= 0 {
				t.Errorf("%s is in %s: %s", name, where, text[max(0, i-300):min(len(text), i+100)])
			}
		}
	}
	// What is sealed, and hashes of tokens, stay in the journal.
	var sealed []string
	for _, part := range strings.Split(export, `"sealed":"`)[1:] {
		sealed = append(sealed, part[:strings.IndexByte(part, '"')])
	}
	for _, line := range strings.Split(export, "\n") {
		if _, hash, ok := strings.Cut(line, `"role":"viewer","hash":"`); ok {
			sealed = append(sealed, hash[:64])
		}
	}
	if len(sealed) < 3 {
		t.Fatalf("%d sealed values in the journal", len(sealed))
	}
	for _, value := range sealed {
		if strings.Contains(answers.String(), value) {
			t.Errorf("%s is in an answer", value)
		}
	}
}

func year() string { return time.Now().UTC().Format("2006") }
