package api

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gatehouse-gateway/gatehouse/control"
)

// operation is one of the OpenAPI document.
type operation struct {
	method, path string
	*huma.Operation
}

// operations are all of the document, by id.
func operations(doc *huma.OpenAPI) []operation {
	var out []operation
	for path, item := range doc.Paths {
		for method, op := range map[string]*huma.Operation{
			http.MethodGet: item.Get, http.MethodPost: item.Post, http.MethodPut: item.Put, http.MethodPatch: item.Patch, http.MethodDelete: item.Delete,
		} {
			if op != nil {
				out = append(out, operation{method, path, op})
			}
		}
	}
	slices.SortFunc(out, func(a, b operation) int { return strings.Compare(a.OperationID, b.OperationID) })
	return out
}

func (o *operation) takes(in, name string) bool {
	return slices.ContainsFunc(o.Parameters, func(p *huma.Param) bool { return p.In == in && p.Name == name })
}

// TestMatrix holds who may do what: each role, for the platform and for one
// tenant, by each operation of the OpenAPI document, on that tenant and on
// another; a data plane as itself and as another. It asks the API itself;
// dry_run keeps everything as it is.
func TestMatrix(t *testing.T) {
	s := start(t, "")
	for _, id := range []string{"own", "other"} {
		if w := s.ask("POST /api/v1/tenants\n\n" + `{"id": "` + id + `"}`); w.Code != http.StatusCreated {
			t.Fatal(w.Body)
		}
	}
	tokens := map[control.Role][2]string{}
	for _, role := range control.Roles {
		if role == control.Gateway {
			tokens[role] = [2]string{s.tokenOf("own")}
			continue
		}
		all, one := s.token(role), s.token(role, "own")
		tokens[role] = [2]string{all, one}
	}
	before, err := s.plane.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	may := func(op *operation, tenant, token string) bool {
		t.Helper()
		path := strings.NewReplacer("{tenant}", tenant, "{gateway}", tenant).Replace(op.path)
		path = strings.NewReplacer("{plan}", "free", "{token}", "bootstrap", "{seller}", "GH").Replace(path)
		path = regexp.MustCompile(`\{\w+\}`).ReplaceAllString(path, "1")
		if op.takes("query", "dry_run") {
			path += "?dry_run=true"
		}
		method := op.method
		if op.OperationID == "followUpdates" {
			method = http.MethodHead // it would go on for ever
		}
		r := httptest.NewRequest(method, path, http.NoBody)
		r.Header.Set("X-Gatehouse-Gateway", tenant)
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		s.handler.ServeHTTP(w, r)
		if w.Code == http.StatusUnauthorized || w.Code == http.StatusMethodNotAllowed || w.Code == http.StatusInternalServerError {
			t.Errorf("%s: %d %s", op.OperationID, w.Code, w.Body)
		}
		return w.Code != http.StatusForbidden
	}
	var b strings.Builder
	b.WriteString("# a: a token for the whole platform may, s: one for the tenant \"own\" may; the data plane is \"own\" too\n")
	fmt.Fprintf(&b, "%-20s %-9s", "operation", "on")
	for _, role := range control.Roles {
		fmt.Fprintf(&b, " %-13s", role)
	}
	for _, op := range operations(newREST(s.parts).api.OpenAPI()) {
		about := []string{"platform"}
		if strings.Contains(op.path, "{tenant}") || strings.Contains(op.path, "{gateway}") || op.takes("header", "X-Gatehouse-Gateway") {
			about = []string{"own", "other"}
		}
		for _, tenant := range about {
			fmt.Fprintf(&b, "\n%-20s %-9s", op.OperationID, tenant)
			for _, role := range control.Roles {
				cell := []byte("--")
				for i, mark := range []byte("as") {
					if (role != control.Gateway || i == 0) && may(&op, tenant, tokens[role][i]) {
						cell[i] = mark
					}
				}
				fmt.Fprintf(&b, " %-13s", cell)
			}
		}
	}
	golden(t, "testdata/matrix.txt", []byte(strings.ReplaceAll(b.String()+"\n", " \n", "\n")))

	// Nothing but refusals came into the journal, and not one for each.
	events, err := s.plane.Events(t.Context(), control.EventFilter{After: before.Seq}, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if e.Kind != "access.refused" {
			t.Errorf("event %d is %s", e.Revision, e.Kind)
		}
	}
	if len(events) == 0 || len(events) > 20*2*len(control.Roles)+20 {
		t.Errorf("%d refusals were journaled", len(events))
	}
}

// Parts of a document are decided about too, and an operation that no rule
// names is denied to everybody.
func TestParts(t *testing.T) {
	s := start(t, "")
	for _, id := range []string{"own", "other"} {
		s.ask("POST /api/v1/tenants\n\n" + `{"id": "` + id + `"}`)
	}
	status := func(role control.Role, tenants string, request string) int {
		t.Helper()
		token := s.token(role)
		if tenants != "" {
			token = s.token(role, "own")
		}
		method, rest, _ := strings.Cut(request, "\n\n")
		return s.ask(method + "\nAuthorization: Bearer " + token + "\nIf-Match: *\n\n" + rest).Code
	}
	for _, tt := range []struct {
		role    control.Role
		tenants string
		request string
		want    int
	}{
		{control.Operator, "own", "PATCH /api/v1/tenants/own\n\n" + `{"name": "Own"}`, 200},
		{control.Operator, "own", "PATCH /api/v1/tenants/own\n\n" + `{"plan": "enterprise"}`, 403},
		{control.Operator, "own", "PATCH /api/v1/tenants/own?dry_run=true\n\n" + `{"status": "suspended"}`, 403},
		{control.Operator, "own", "PUT /api/v1/tenants/own\n\n" + `{"plan": "enterprise"}`, 403},
		{control.Operator, "", "PATCH /api/v1/tenants/own\n\n" + `{"plan": "premium"}`, 200},
		{control.Operator, "own", "POST /api/v1/tenants/own/rollback\n\n" + `{"revision": 3}`, 403},
		{control.Billing, "", "PATCH /api/v1/tenants/own\n\n" + `{"plan": "free"}`, 200},
		{control.Billing, "", "PATCH /api/v1/tenants/own\n\n" + `{"plan": "premium", "name": "x"}`, 403},
		{control.PolicyEditor, "own", "POST /api/v1/tenants/own/policies\n\n" + `{"modules": [{"name": "m.rego", "source": "package gatehouse.tenant\nallow := true"}]}`, 201},
		{control.PolicyEditor, "own", "POST /api/v1/tenants/own/policies?activate=true\n\n" + `{"modules": [{"name": "m.rego", "source": "package gatehouse.tenant\nallow := true"}]}`, 201},
	} {
		if got := status(tt.role, tt.tenants, tt.request); got != tt.want {
			t.Errorf("%s of %q, %s: %d, want %d", tt.role, tt.tenants, tt.request, got, tt.want)
		}
	}
	err := s.people.Authorize(t.Context(), control.Access{Operation: "somethingNew", Caller: control.Caller{ID: "x", Role: control.Owner}})
	if err == nil {
		t.Error("an unknown operation was allowed")
	}
	// A scoped caller's list holds its own.
	token := s.token(control.Viewer, "own")
	if body := s.ask("GET /api/v1/tenants\nAuthorization: Bearer " + token).Body.String(); strings.Contains(body, "other") || !strings.Contains(body, `"id":"own"`) {
		t.Error(body)
	}
}
