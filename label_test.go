package gatehouse_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse"
)

// Names for people that are none are told of, each at its place, and keep
// nothing from being used.
func TestBadLabels(t *testing.T) {
	text := `{"plans": [{"id": "p", "name": "a\nb"}], "tenants": [{"id": "a", "name": "LONG", "plan": "p",
		"identity": {"api_keys": {"keys": [{"id": "k", "hash": "sha256:HASH", "roles": ["r", "\u001b[31m"], "scopes": ["a\u2028b", "good"]}]}},
		"security": {"compliance_requirements": ["a\u0000"]}}]}`
	text = strings.NewReplacer("LONG", strings.Repeat("n", 201), "HASH", strings.Repeat("a", 64)).Replace(text)
	var d gatehouse.Document
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range d.Validate() {
		if !f.Warning {
			t.Errorf("%s: %s", f.Pointer, f.Reason)
		}
		if !strings.Contains(f.Reason, "enforces") {
			got = append(got, f.Pointer+" "+f.Reason)
		}
	}
	const line = " holds a control character or a line end"
	want := []string{
		"/plans/0/name name" + line, "/tenants/0/name name is longer than 200 characters",
		"/tenants/0/identity/api_keys/keys/0/roles/1 role" + line, "/tenants/0/identity/api_keys/keys/0/scopes/0 scope" + line,
		"/tenants/0/security/compliance_requirements/0 requirement" + line,
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
