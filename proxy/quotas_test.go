package proxy_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse/proxy/proxytest"
)

// What a quota has counted holds after a restart, and a line that was damaged
// costs itself only.
func TestQuotasSurviveRestart(t *testing.T) {
	document := `tenants:
  - id: a
    domain: a.test
    limits: {rules: [{name: q, quota: 2, window: 1000h, by: ["header:X-Who"]}]}
    backends: [{id: app, endpoints: [{url: "http://a.app"}]}]
    routes: [{id: all, match: {path: /}, auth: none, backend: app}]
`
	f := func(h *proxytest.Harness, who, want string) {
		t.Helper()
		status, _, _ := strings.Cut(identified(h.Do("GET / HTTP/1.1\nHost: a.test\nX-Who: "+who+"\n\n")), "\n")
		if status != want {
			t.Errorf("%s: %s, want %s", who, status, want)
		}
	}
	h := proxytest.New(t, document)
	f(h, "ann", "200")
	f(h, "ann", "200")
	f(h, "bob", "200")
	var saved bytes.Buffer
	if err := h.Gateway.SaveQuotas(&saved, time.Now()); err != nil {
		t.Fatal(err)
	}
	again := proxytest.New(t, "tenants: []\n")
	if err := again.Gateway.LoadQuotas(strings.NewReader("{damaged\n" + saved.String())); err == nil {
		t.Error("a damaged line was not told of")
	}
	var kept bytes.Buffer
	if err := again.Gateway.SaveQuotas(&kept, time.Now()); err != nil || len(kept.String()) != len(saved.String()) {
		t.Errorf("saved before the tenant is served: %q, %v", kept.String(), err)
	}
	if out := again.Apply(document); len(out.Refused) > 0 {
		t.Fatal(out)
	}
	f(again, "ann", "429")
	f(again, "bob", "200")
	f(again, "bob", "429")
	f(again, "cid", "200")
}
