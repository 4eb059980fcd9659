package gatehouse_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse"
)

// An update arrives as it left, with the contents of files that the tenants'
// JSON does not show, and every field that a reader fills in is an attachment.
func TestUpdateJSON(t *testing.T) {
	tenant := gatehouse.Tenant{ID: "a", Identity: gatehouse.Identity{
		JWT:                []gatehouse.Issuer{{Issuer: "i", JWKSFile: "i.json", JWKS: "{}"}, {Issuer: "h", SecretFile: "h.secret", Secret: []byte("s\x00cret")}},
		ClientCertificates: &gatehouse.ClientCertificates{CAFile: "ca.pem", CA: "pem"},
		Introspection:      &gatehouse.Introspection{ClientSecretFile: "c", ClientSecret: []byte("c")},
		Forward:            gatehouse.Forward{KeyFile: "f", Key: []byte("f")},
	}, Backends: []gatehouse.Backend{{ID: "b", TLS: gatehouse.BackendTLS{CAFile: "b.pem", CA: "x", CertFile: "b.crt", Cert: "y", KeyFile: "b.key", Key: []byte("z")}}}}
	u := gatehouse.Update{
		Revision: 7, Full: true, Plans: []gatehouse.Plan{{ID: "free"}}, Tenants: []gatehouse.Tenant{tenant},
		Keys:         []gatehouse.KeyChange{{Tenant: "a", Key: gatehouse.Key{ID: "k", Roles: []string{"r"}}}, {Tenant: "a", Key: gatehouse.Key{ID: "gone"}, Removed: true}},
		RemovedPlans: []gatehouse.PlanID{"old"}, RemovedTenants: []gatehouse.TenantID{"gone"},
	}
	b, err := json.Marshal(u)
	if err != nil {
		t.Fatal(err)
	}
	var got gatehouse.Update
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, u) {
		t.Errorf("%s\n%+v", b, got)
	}
	hidden := 0
	unseen(reflect.TypeFor[gatehouse.Tenant](), &hidden)
	if n := len(tenant.Attachments()); n != hidden {
		t.Errorf("%d attachments, but %d fields that readers fill in", n, hidden)
	}
	if shown := fmt.Sprintf("%+v", tenant); strings.Contains(shown, "s\x00cret") {
		t.Error("a secret prints")
	}
}

// unseen counts the fields that have no form in JSON.
func unseen(t reflect.Type, n *int) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || t.PkgPath() != reflect.TypeFor[gatehouse.Tenant]().PkgPath() {
		return
	}
	for f := range t.Fields() {
		if f.Tag.Get("json") == "-" {
			*n++
		} else if f.IsExported() {
			unseen(f.Type, n)
		}
	}
}
