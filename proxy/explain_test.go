package proxy_test

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/proxy"
	"github.com/gatehouse-gateway/gatehouse/proxy/proxytest"
	"pgregory.net/rapid"
)

// newKey returns a new key and its hash as text.
func newKey(t testing.TB) (secret, hash string) {
	t.Helper()
	key, err := gatehouse.NewAPIKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	text, err := key.Hash().MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	return key.Reveal(), string(text)
}

func explainable(hash string) string {
	return `plans:
  - id: gold
    limits: {rules: [{name: monthly, quota: 100, window: month}]}
tenants:
  - id: studio
    domain: studio.test
    plan: gold
    identity: {api_keys: {header: X-Studio-Key, keys: [{id: ci, hash: "` + hash + `", roles: [dev]}]}}
    backends: [{id: app, endpoints: [{url: "http://app.test"}, {url: "http://b.test"}]}]
    limits: {rules: [{name: burst, rate: 1/h, burst: 2}]}
    routes:
      - {id: api, match: {path: /api/}, backend: app, max_body: 1KiB}
      - {id: open, match: {path: /open, methods: [GET]}, auth: none, backend: app}
    policy:
      modules:
        - name: own.rego
          source: |
            package gatehouse.tenant
            allow if input.request.method != "DELETE"
            reason := "nothing is deleted here" if input.request.method == "DELETE"
  - id: keyless
    domain: keyless.test
    identity: {jwt: [{issuer: "https://id.test/", audience: [x], algorithms: [RS256], jwks_url: "https://id.test/keys"}]}
    backends: [{id: app, endpoints: [{url: "http://app.test"}]}]
    routes: [{id: all, match: {path: /}, backend: app}]
  - id: shop
    domain: shop.test
    status: suspended
    backends: [{id: app, endpoints: [{url: "http://app.test"}]}]
    routes: [{id: all, match: {path: /}, auth: none, backend: app}]
`
}

// explained is an explanation as text.
func explained(t testing.TB, g *proxy.Gateway, d proxy.Described) string {
	t.Helper()
	if !d.Address.IsValid() {
		d.Address = netip.MustParseAddr("192.0.2.7")
	}
	x, err := g.Explain(&d)
	if err != nil {
		return err.Error() + "\n"
	}
	var b strings.Builder
	for _, p := range x.Phases {
		fmt.Fprintf(&b, "%s %s: %s\n", p.Phase, p.Outcome, p.Detail)
	}
	fmt.Fprintf(&b, "= %q %d %s\n", x.Tenant, x.Status, x.Code)
	return b.String()
}

func TestExplain(t *testing.T) {
	secret, hash := newKey(t)
	other, _ := newKey(t)
	h := proxytest.New(t, explainable(hash))
	f := func(d proxy.Described, want string) {
		t.Helper()
		if got := explained(t, h.Gateway, d); got != want {
			t.Errorf("%+v\ngot\n%swant\n%s", d, got, want)
		}
	}
	f(proxy.Described{URL: "https://studio.test/api/x?q=1", Key: secret}, `admit pass: GET /api/x of studio.test
resolve pass: host studio.test is of tenant studio
match pass: route api takes it
identify pass: the caller is key:ci, by api_key
decide pass: allowed by data.gatehouse.tenant.allow at own.rego:2
limit pass: no limit stands in the way
forward pass: to backend app, of whose 2 endpoints 2 are healthy
= "studio" 0 
`)
	f(proxy.Described{Method: "DELETE", URL: "http://studio.test/api/x", Key: secret}, `admit pass: DELETE /api/x of studio.test
resolve pass: host studio.test is of tenant studio
match pass: route api takes it
identify pass: the caller is key:ci, by api_key
decide refuse: denied by data.gatehouse.tenant.reason at own.rego:3: nothing is deleted here
= "studio" 403 GH-DC-001
`)
	f(proxy.Described{Method: "POST", URL: "http://studio.test/open"}, `admit pass: POST /open of studio.test
resolve pass: host studio.test is of tenant studio
match refuse: no route of this path takes POST; there are routes for GET, HEAD
= "studio" 405 GH-MT-002
`)
	f(proxy.Described{URL: "http://studio.test/nothing"}, `admit pass: GET /nothing of studio.test
resolve pass: host studio.test is of tenant studio
match refuse: no route takes this request
= "studio" 404 GH-MT-001
`)
	f(proxy.Described{URL: "http://nobody.test/"}, `admit pass: GET / of nobody.test
resolve refuse: this host is not served here
= "" 404 GH-RS-001
`)
	f(proxy.Described{URL: "http://shop.test/"}, `admit pass: GET / of shop.test
resolve pass: host shop.test is of tenant shop
match refuse: this tenant is suspended
= "shop" 403 GH-RS-002
`)
	f(proxy.Described{URL: "http://studio.test/api/x"}, `admit pass: GET /api/x of studio.test
resolve pass: host studio.test is of tenant studio
match pass: route api takes it
identify refuse: this route needs a credential
= "studio" 401 GH-ID-001
`)
	f(proxy.Described{URL: "http://studio.test/api/x", Key: other}, `admit pass: GET /api/x of studio.test
resolve pass: host studio.test is of tenant studio
match pass: route api takes it
identify refuse: the API key is not valid: unknown API key
= "studio" 401 GH-ID-002
`)
	f(proxy.Described{URL: "http://keyless.test/", Key: other}, `admit pass: GET / of keyless.test
resolve pass: host keyless.test is of tenant keyless
match pass: route all takes it
identify refuse: the API key is not valid: unknown API key; API keys are not on for this tenant: its document has no identity.api_keys
= "keyless" 401 GH-ID-002
`)
	f(proxy.Described{Method: "POST", URL: "http://studio.test/api/x", Key: secret, Body: 2048}, `admit pass: POST /api/x of studio.test
resolve pass: host studio.test is of tenant studio
match refuse: the body is larger than this route takes
= "studio" 413 GH-AD-003
`)
	f(proxy.Described{URL: "http://studio.test/../x%zz"}, `admit refuse: path not allowed
= "" 400 GH-AD-001
`)
	f(proxy.Described{URL: "studio.test/x"}, `GH-CP-001 the URL is not absolute, as in https://studio.example.com/api/x
`)
	f(proxy.Described{URL: "http://studio.test/x", Headers: map[string]string{"X-A": "b\r\nHost: evil"}}, `GH-CP-001 the method, the URL or a header holds a line break
`)
	for range 2 {
		h.Do("GET /open HTTP/1.1\nHost: studio.test\n\n")
	}
	f(proxy.Described{URL: "http://studio.test/open"}, `admit pass: GET /open of studio.test
resolve pass: host studio.test is of tenant studio
match pass: route open takes it
identify pass: the caller is anonymous: the route's auth is none
decide pass: allowed by data.gatehouse.tenant.allow at own.rego:2
limit refuse: rate "burst" of tenant is used up: the request costs 1, 0 of 2 are left
= "studio" 429 GH-RL-001
`)
}

// What is explained leaves nothing behind: not in limits, keys, metering,
// decisions, tallies or places.
func TestExplainChangesNothing(t *testing.T) {
	secret, hash := newKey(t)
	h := proxytest.New(t, explainable(hash))
	h.Do("GET /open HTTP/1.1\nHost: studio.test\n\n")
	h.Access()                                                        // until it is over
	open := regexp.MustCompile(`(?m)^gatehouse_connections_open .*`)  // the client's goes in its time
	fetched := regexp.MustCompile(`(?m)^.*key set not refreshed.*\n`) // and the issuer is asked again in its own
	state := func() string {
		levels, err := h.Gateway.Levels("studio")
		if err != nil {
			t.Fatal(err)
		}
		for i := range levels {
			levels[i].Reset = 0 // time goes on
		}
		figures, err := h.Gateway.Figures("studio")
		if err != nil {
			t.Fatal(err)
		}
		figures.Limits, figures.At = nil, figures.From
		var metrics strings.Builder
		h.Gateway.WriteMetrics(&metrics)
		text, err := json.Marshal([]any{levels, figures, open.ReplaceAllString(metrics.String(), ""), h.Meter.Usage("studio", time.Unix(0, 0)), h.Gateway.KeysUsed("studio"), h.Access(), fetched.ReplaceAllString(h.Log(), "")})
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	before := state()
	rapid.Check(t, func(r *rapid.T) {
		d := proxy.Described{
			Method: rapid.SampledFrom([]string{"", "GET", "DELETE", "POST", "TRACE", "OPTIONS"}).Draw(r, "method"),
			URL: rapid.SampledFrom([]string{"http", "https"}).Draw(r, "scheme") + "://" + rapid.SampledFrom([]string{"studio.test", "shop.test", "nobody.test"}).Draw(r, "host") +
				rapid.SampledFrom([]string{"/open", "/api/x", "/", "/%zz"}).Draw(r, "path"),
			Body: rapid.Int64Range(0, 4096).Draw(r, "body"),
		}
		if rapid.Bool().Draw(r, "keyed") {
			d.Key = rapid.SampledFrom([]string{secret, "gh_bad", strings.ToUpper(secret)}).Draw(r, "key")
		}
		if _, err := h.Gateway.Explain(&d); err != nil {
			r.Fatal(err)
		}
		if after := state(); after != before {
			r.Fatalf("%+v\nbefore %s\nafter  %s", d, before, after)
		}
	})
}
