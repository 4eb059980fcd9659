package proxy_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/policy"
	"github.com/gatehouse-gateway/gatehouse/proxy/proxytest"
)

const watched = `tenants:
  - id: studio
    domain: studio.test
    backends: [{id: app, endpoints: [{url: "http://app.test"}]}]
    routes: [{id: all, match: {path: /}, auth: none, backend: app}]
    policy:
      log: {sample: 100%, mask: [/request/path]}
      modules:
        - name: live.rego
          source: |
            package gatehouse.tenant
            allow if input.request.method in {"GET", "POST"}
`

// What is kept of decisions can be replayed by other modules, and holds
// nothing that was to be masked, nor credentials.
func TestDecisionLog(t *testing.T) {
	h := proxytest.New(t, strings.Replace(watched, ", mask: [/request/path]", ", mask: [/request/headers/x-person]", 1))
	for i := range 10 {
		method := []string{"GET", "POST", "DELETE"}[i%3]
		h.Do(fmt.Sprintf("%s /%d?secret=s3cret HTTP/1.1\nHost: studio.test\nX-Person: ada-lovelace\nAuthorization: Basic hidden\nCookie: a=hidden\nContent-Length: 0\n\n", method, i))
	}
	entries, err := h.Gateway.Decisions("studio", policy.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	all := slices.Collect(entries)
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 10 {
		t.Errorf("%d entries", len(all))
	}
	for _, secret := range []string{"s3cret", "ada-lovelace", "hidden"} {
		if strings.Contains(string(text), secret) {
			t.Errorf("the log holds %q: %s", secret, text)
		}
	}
	draft := []gatehouse.Module{{Name: "live.rego", Source: "package gatehouse.tenant\nallow if input.request.method == \"GET\""}}
	got, err := h.Gateway.Replay("studio", draft, policy.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	if got.Entries != 10 || got.Decided != 10 || got.Changed != 3 || got.Denied != 3 || len(got.Changes) != 3 {
		t.Errorf("%+v", got)
	}
	if _, err := h.Gateway.Replay("studio", []gatehouse.Module{{Name: "x.rego", Source: "package other"}}, policy.Filter{}); gatehouse.CodeOf(err) != gatehouse.CodeInvalid {
		t.Error(err)
	}
	if _, err := h.Gateway.Decisions("nobody", policy.Filter{}); gatehouse.CodeOf(err) != gatehouse.CodeNotFound {
		t.Error(err)
	}
}

// A shadow policy is asked beside the live one and decides nothing; what it has
// counted stays when something else of the document changes.
func TestShadowPolicy(t *testing.T) {
	shadowed := watched + `      shadow:
        - name: next.rego
          source: |
            package gatehouse.tenant
            allow if input.request.method == "GET"
`
	h := proxytest.New(t, shadowed)
	h.Run(t)
	f := func(method, want string) {
		t.Helper()
		if got := identified(h.Do(method + " / HTTP/1.1\nHost: studio.test\nContent-Length: 0\n\n")); got != want {
			t.Errorf("%s: %s", method, got)
		}
	}
	f("GET", "200")
	f("POST", "200")
	f("DELETE", "403\nGH-DC-001")
	report := shadowReport(t, h, 3)
	if report.Same != 2 || report.Different != 1 || report.Failed != 0 || len(report.Changes) != 1 {
		t.Errorf("%+v", report)
	}
	if out := h.Apply(strings.Replace(shadowed, "domain: studio.test", "domain: studio.test\n    name: Studio", 1)); len(out.Refused) > 0 {
		t.Fatal(out)
	}
	f("PUT", "403\nGH-DC-001")
	if report := shadowReport(t, h, 4); report.Same != 3 {
		t.Errorf("after a change beside it: %+v", report)
	}
	if out := h.Apply(watched); len(out.Refused) > 0 {
		t.Fatal(out)
	}
	if _, has, err := h.Gateway.Shadow("studio"); has || err != nil {
		t.Error("a shadow that was taken away is still there", err)
	}
}

// shadowReport waits until the shadow has seen so many requests.
func shadowReport(t *testing.T, h *proxytest.Harness, n uint64) (r policy.ShadowReport) {
	t.Helper()
	tick, late := time.NewTicker(time.Millisecond), time.After(10*time.Second)
	defer tick.Stop()
	for {
		var has bool
		var err error
		if r, has, err = h.Gateway.Shadow("studio"); err != nil || !has {
			t.Fatal("no shadow", err)
		}
		if r.Same+r.Different+r.Failed+r.Dropped >= n {
			return r
		}
		select {
		case <-late:
			t.Fatalf("%+v", r)
		case <-tick.C:
		}
	}
}
