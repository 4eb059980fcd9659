package gatehouse_test

import (
	"encoding"
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

// Whatever a document may say is there when it has been packed and unpacked.
func TestPack(t *testing.T) {
	var full gatehouse.Tenant
	n := 0
	fill(t, reflect.ValueOf(&full).Elem(), &n)
	text, err := full.Pack()
	if err != nil {
		t.Fatal(err)
	}
	got, err := gatehouse.UnpackTenant(text)
	if err != nil || !reflect.DeepEqual(*got, full) {
		t.Errorf("%v\n%s\n%#v\n%#v", err, text, full, got)
	}
	again, err := got.Pack()
	if err != nil || string(again) != string(text) {
		t.Errorf("%v\n%s\n%s", err, text, again)
	}
	if n < 150 {
		t.Errorf("%d fields", n)
	}
	if _, err := gatehouse.UnpackTenant(text[1:]); err == nil {
		t.Error("half a text is read")
	}
}

// fill gives every field a value, each another one as far as its type allows.
func fill(t *testing.T, v reflect.Value, n *int) {
	*n++
	texts := map[reflect.Type]string{
		reflect.TypeFor[gatehouse.Duration](): fmt.Sprint(*n, "ms"), reflect.TypeFor[gatehouse.ByteSize](): fmt.Sprint(*n, "KiB"),
		reflect.TypeFor[gatehouse.Percent](): fmt.Sprintf("%d.25%%", *n%99), reflect.TypeFor[gatehouse.Rate](): fmt.Sprint(*n, "/min"),
		reflect.TypeFor[gatehouse.Window](): fmt.Sprint(*n, "h0m0s"), reflect.TypeFor[gatehouse.Selector](): fmt.Sprint("header:X-", *n),
		reflect.TypeFor[gatehouse.Time](): fmt.Sprintf("2026-01-02T03:04:%02dZ", *n%60), reflect.TypeFor[gatehouse.KeyHash](): fmt.Sprintf("sha256:%064x", *n),
		reflect.TypeFor[gatehouse.Timeout](): fmt.Sprint(*n), reflect.TypeFor[gatehouse.Prefix](): fmt.Sprintf("10.0.0.%d", *n%250),
	}
	if text, ok := texts[v.Type()]; ok {
		if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(strings.ReplaceAll(text, " ", ""))); err != nil {
			t.Fatal(text, err)
		}
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(fmt.Sprintf("<ä\n\"%d", *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Float64:
		v.SetFloat(float64(*n) + 0.1)
	case reflect.Uint8:
		v.SetUint(uint64(*n % 256))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem(), n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			fill(t, v.Index(i), n)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(t, key, n)
		fill(t, value, n)
		v.SetMapIndex(key, value)
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i), n)
		}
	default:
		t.Fatalf("a %s in a document", v.Type())
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
