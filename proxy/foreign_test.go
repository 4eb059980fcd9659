package proxy_test

import (
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse/proxy/proxytest"
)

// The answer to a key of another tenant says so only where the key would be
// accepted there, now and from here.
func TestForeignKeyMustBeGood(t *testing.T) {
	expand := credentials(t)
	tenant := func(id, keys string) string {
		return expand(`
  - id: ` + id + `
    domain: ` + id + `.test
    identity: {api_keys: {keys: [` + keys + `]}}
    backends: [{id: app, endpoints: [{url: "http://` + id + `.app"}]}]
    routes: [{id: all, match: {path: /}, backend: app}]`)
	}
	h := proxytest.New(t, "tenants:"+
		tenant("studio", `{id: old, hash: "$HASH1", expires: "2020-01-01T00:00:00Z"}, {id: walled, hash: "$HASH2", addresses: [198.51.100.0/24]}`)+
		tenant("label", `{id: x, hash: "$HASH4"}`)+"\n")
	f := func(host, key, want string) {
		t.Helper()
		got := h.Do(expand("GET / HTTP/1.1\nHost: " + host + "\nX-API-Key: " + key + "\n\n"))
		if line, _, _ := strings.Cut(got, "\n"); !strings.Contains(line, want) {
			t.Errorf("%s at %s: %s, want %s", key, host, line, want)
		}
	}
	f("label.test", "$KEY1", "401")  // expired at studio
	f("label.test", "$KEY2", "401")  // not from here at studio
	f("label.test", "$KEY3", "401")  // of nobody
	f("studio.test", "$KEY4", "403") // good at label
}
