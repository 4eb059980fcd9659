package proxy_test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/proxy"
	"github.com/gatehouse-gateway/gatehouse/proxy/proxytest"
	"github.com/gatehouse-gateway/gatehouse/ratelimit"
	"github.com/rogpeppe/go-internal/txtar"
	"github.com/valyala/fasthttp"
)

// gone is a store of limits that cannot be asked: of four gateways this is
// one.
type gone struct{}

func (gone) Submit(c *ratelimit.Call)     { c.Answer(ratelimit.ErrAway) }
func (gone) Shard(gatehouse.TenantID) int { return 0 }
func (gone) Away(int) bool                { return true }
func (gone) Gateways() int64              { return 4 }
func (gone) Patience() time.Duration      { return time.Second }

// limitsDocument has a route for each way that a limit answers.
const limitsDocument = `
tenants:
  - id: studio
    domain: studio.test
    backends:
      - {id: app, endpoints: [{url: "http://app.test"}]}
      - {id: slow, endpoints: [{url: "http://slow.test"}]}
    routes:
      - {id: hard, match: {path: /hard}, auth: none, backend: app, cost: 4, limits: {store: local, rules: [{name: six, quota: 6, window: 1h}]}}
      - {id: rate, match: {path: /rate}, auth: none, backend: app, limits: {store: local, rules: [{name: slow, rate: 2/min, burst: 1}]}}
      - {id: soft, match: {path: /soft}, auth: none, backend: app, cost: 4, limits: {store: local, rules: [{name: six, quota: 6, window: 1h, mode: soft}]}}
      - {id: overage, match: {path: /overage}, auth: none, backend: app, cost: 4, limits: {store: local, rules: [{name: six, quota: 6, window: 1h, mode: overage}]}}
      - {id: place, match: {path: /place}, auth: none, backend: slow, limits: {store: local, concurrency: 1}}
      - {id: dear, match: {path: /dear}, auth: none, backend: app, cost: 7, limits: {store: local, rules: [{name: six, quota: 6, window: 1h}]}}
      - {id: deny, match: {path: /deny}, auth: none, backend: app, limits: {store: local, rules: [{name: org, quota: 6, window: 1h, by: ["claim:org"], absent: deny}]}}
      - {id: skip, match: {path: /skip}, auth: none, backend: app, limits: {store: local, rules: [{name: org, quota: 1, window: 1h, by: ["claim:org"], absent: skip}]}}
      - {id: share, match: {path: /share}, auth: none, backend: app, limits: {store: local, rules: [{name: org, quota: 1, window: 1h, by: ["claim:org"]}]}}
      - {id: part, match: {path: /part}, auth: none, backend: app, limits: {rules: [{name: eight, quota: 8, window: 1h}]}}
      - {id: open, match: {path: /open}, auth: none, backend: app, limits: {away: open, rules: [{name: one, quota: 1, window: 1h}]}}
      - {id: shut, match: {path: /shut}, auth: none, backend: app, limits: {away: closed, rules: [{name: eight, quota: 8, window: 1h}]}}
`

// What callers are told of their limits, in each style: the whole answers but
// for what the backend says.
func TestLimitAnswers(t *testing.T) {
	_ = new(fasthttp.ResponseHeader).Header() // see bubbleWith
	const golden = "testdata/limits.txtar"
	a, err := txtar.ParseFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for _, f := range a.Files {
		want[f.Name] = string(f.Data)
	}
	a.Files = nil
	for _, style := range []proxy.HeaderStyle{proxy.HeadersIETF, proxy.HeadersDraft03, proxy.HeadersX, proxy.HeadersOff} {
		got := limitAnswers(t, style)
		a.Files = append(a.Files, txtar.File{Name: string(style), Data: []byte(got)})
		if got != want[string(style)] && !*update {
			t.Errorf("%s:\n%s", style, got)
		}
	}
	if *update {
		if err := os.WriteFile(golden, txtar.Format(a), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func limitAnswers(t *testing.T, style proxy.HeaderStyle) string {
	var all strings.Builder
	synctest.Test(t, func(t *testing.T) {
		t.Cleanup(func() { <-time.After(time.Minute) }) // see bubbleWith
		h := proxytest.New(t, limitsDocument, proxytest.Options{
			Config: config, Headers: style, Parts: func(p *proxy.Parts) { p.Limits = ratelimit.NewShared(gone{}, "") },
			Backends: map[string]proxytest.Script{"slow.test:80": func(c net.Conn) {
				<-time.After(10 * time.Second)
				proxytest.Answer("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nlate\n")(c)
			}},
		})
		do := func(path string) {
			answer := h.Do("GET " + path + " HTTP/1.1\nHost: studio.test\n\n")
			if strings.HasPrefix(answer, "HTTP/1.1 200") {
				answer, _, _ = strings.Cut(answer, "\n\n")
				answer += "\n"
			}
			fmt.Fprintf(&all, "GET %s\n%s\n", path, answer)
		}
		for _, path := range []string{
			"/hard", "/hard", "/rate", "/rate", "/soft", "/soft", "/soft", "/overage", "/overage", "/overage", "/dear",
			"/deny", "/skip", "/skip", "/share", "/share", "/part", "/part", "/part", "/open", "/open", "/shut",
		} {
			do(path)
		}
		var first sync.WaitGroup
		first.Go(func() { h.Do("GET /place HTTP/1.1\nHost: studio.test\n\n") })
		synctest.Wait()
		do("/place")
		first.Wait()
		var records []string // written after the answers, in any order
		for line := range strings.Lines(h.Access()) {
			var r struct {
				Path   string
				Beyond string `json:"limit_beyond"`
				Over   int64  `json:"over_units"`
				Away   bool   `json:"limits_away"`
			}
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				t.Fatal(err)
			}
			if r.Beyond != "" || r.Over != 0 || r.Away {
				records = append(records, fmt.Sprintf("record of %s: beyond %q, %d over, away %v\n", r.Path, r.Beyond, r.Over, r.Away))
			}
		}
		slices.Sort(records)
		all.WriteString(strings.Join(records, ""))
		var m strings.Builder
		h.Gateway.WriteMetrics(&m)
		for line := range strings.Lines(m.String()) {
			if strings.HasPrefix(line, "gatehouse_ratelimit_") {
				all.WriteString(line)
			}
		}
	})
	return all.String()
}

// The levels of a tenant's limits, and why a request is refused, without
// charging anything.
func TestLimitLevels(t *testing.T) {
	const doc = `
plans: [{id: free, limits: {rules: [{name: monthly, quota: 100, window: 1000h}]}}]
tenants:
  - id: studio
    domain: studio.test
    plan: free
    limits: {concurrency: 3, max_concurrent_users: 9}
    backends: [{id: app, endpoints: [{url: "http://app.test"}]}]
    routes:
      - id: all
        match: {path: /}
        auth: none
        backend: app
        cost: 2
        limits:
          rules:
            - {name: each, rate: 1/h, burst: 5, by: [address]}
            - {name: org, quota: 1, window: 1000h, by: ["claim:org"], absent: skip}
            - {name: heavy, quota: 1, window: 1000h, on_demand: true}
            - {name: fair, quota: 3, window: 1000h, mode: soft}
`
	h := proxytest.New(t, doc)
	for range 2 {
		h.Do("GET / HTTP/1.1\nHost: studio.test\n\n")
	}
	h.Access() // the places are given back

	levels, err := h.Gateway.Levels("studio")
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	show := func(ls []proxy.LimitLevel) {
		for _, l := range ls {
			used, remaining := "-", "-"
			if l.Used != nil {
				used, remaining = fmt.Sprint(*l.Used), fmt.Sprint(*l.Remaining)
			}
			fmt.Fprintf(&got, "%s %s %s %s: %s used, %s left, %d values%s%s\n", l.Scope, l.Kind, l.Name, l.Store, used, remaining, l.Values, opt(string(l.Mode)), opt(l.Outcome))
		}
	}
	show(levels)
	explain := func(q proxy.LimitQuery) {
		q.Tenant, q.Route = "studio", "all"
		o, err := h.Gateway.Limits(&q)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&got, "\n%s %s: %s\n", o.Code, o.Refusing, o.Detail)
		for i := range o.Levels { // what has no value is the same in all
			o.Levels[i].Values = 0
		}
		show(o.Levels)
	}
	address := map[gatehouse.Selector]string{{Kind: "address"}: "0.0.0.0"}
	explain(proxy.LimitQuery{Values: address})
	explain(proxy.LimitQuery{Values: map[gatehouse.Selector]string{{Kind: "address"}: "0.0.0.1", {Kind: "claim", Name: "org"}: "acme"}, Named: []string{"heavy"}})
	explain(proxy.LimitQuery{Values: address, Cost: 98})
	explain(proxy.LimitQuery{Values: address, Named: []string{"none"}})
	for _, name := range []string{"gh:{studio}:plan/monthly", "gh:{studio}:plan/none"} {
		fmt.Fprintf(&got, "\ntop up %s: %v\n", name, h.Gateway.TopUp("studio", name, 50))
	}
	levels, err = h.Gateway.Levels("studio")
	if err != nil {
		t.Fatal(err)
	}
	show(levels[:1])
	_, err = h.Gateway.Levels("nobody")
	fmt.Fprintln(&got, err)
	_, err = h.Gateway.Limits(&proxy.LimitQuery{Tenant: "studio", Route: "none"})
	fmt.Fprintln(&got, err)
	if got.String() != wantLevels {
		t.Errorf("%s", got.String())
	}
}

// opt is an item of a list, if there is one.
func opt(s string) string {
	if s == "" {
		return ""
	}
	return ", " + s
}

const wantLevels = `plan quota monthly local: 4 used, 96 left, 0 values, hard
tenant concurrency concurrency local: 0 used, 3 left, 0 values
tenant users max_concurrent_users local: 1 used, 8 left, 0 values
route rate each local: - used, - left, 1 values
route quota fair local: 4 used, 0 left, 0 values, soft
route quota heavy local: 0 used, 1 left, 0 values, hard
route quota org local: - used, - left, 0 values, hard

GH-RL-001 each: rate "each" of route all is used up: the request costs 2, 1 of 5 are left
plan quota monthly local: 4 used, 96 left, 0 values, hard, pass
tenant concurrency concurrency local: 0 used, 3 left, 0 values, pass
tenant users max_concurrent_users local: 1 used, 8 left, 0 values, pass
route rate each local: 4 used, 1 left, 0 values, refuse
route quota org local: 0 used, 1 left, 0 values, hard, aside
route quota heavy local: 0 used, 1 left, 0 values, hard, aside
route quota fair local: 4 used, 0 left, 0 values, soft, beyond

GH-RL-001 org: quota "org" of route all never admits a request of 2 units: it holds 1
plan quota monthly local: 4 used, 96 left, 0 values, hard, pass
tenant concurrency concurrency local: 0 used, 3 left, 0 values, pass
tenant users max_concurrent_users local: 1 used, 8 left, 0 values, pass
route rate each local: 0 used, 5 left, 0 values, pass
route quota org local: 0 used, 1 left, 0 values, hard, refuse
route quota heavy local: 0 used, 1 left, 0 values, hard, refuse
route quota fair local: 4 used, 0 left, 0 values, soft, beyond

GH-RL-001 each: rate "each" of route all never admits a request of 100 units: it holds 5
plan quota monthly local: 4 used, 96 left, 0 values, hard, refuse
tenant concurrency concurrency local: 0 used, 3 left, 0 values, pass
tenant users max_concurrent_users local: 1 used, 8 left, 0 values, pass
route rate each local: 4 used, 1 left, 0 values, refuse
route quota org local: 0 used, 1 left, 0 values, hard, aside
route quota heavy local: 0 used, 1 left, 0 values, hard, aside
route quota fair local: 4 used, 0 left, 0 values, soft, beyond

GH-DC-002 : policy names the limit "none", and no rule with on_demand is called so
plan quota monthly local: 4 used, 96 left, 0 values, hard, pass
tenant concurrency concurrency local: 0 used, 3 left, 0 values, pass
tenant users max_concurrent_users local: 1 used, 8 left, 0 values, pass
route rate each local: 4 used, 1 left, 0 values, refuse
route quota org local: 0 used, 1 left, 0 values, hard, aside
route quota heavy local: 0 used, 1 left, 0 values, hard, aside
route quota fair local: 4 used, 0 left, 0 values, soft, beyond

top up gh:{studio}:plan/monthly: <nil>

top up gh:{studio}:plan/none: GH-CP-002 no quota in use is called so
plan quota monthly local: 0 used, 146 left, 0 values, hard
GH-CP-002 tenant "nobody" is not served here
GH-CP-002 tenant "studio" has no route "none"
`
