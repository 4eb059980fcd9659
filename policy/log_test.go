package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

const everything = gatehouse.Percent(10_000)

func recorder(tb testing.TB, l *Log, p *Policy, sample gatehouse.Percent, mask ...string) *Recorder {
	tb.Helper()
	r, err := l.Recorder(RecorderConfig{
		Policy: p, Revision: "r1", Log: gatehouse.DecisionLog{Sample: sample, Mask: mask}, Credentials: []string{"X-Team-Pass"},
	})
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func compiledFrom(tb testing.TB, e *Engine, rules string) *Policy {
	tb.Helper()
	p, faults := e.Compile(adversarialModule(rules))
	if p == nil {
		tb.Fatalf("%v\n%s", faults, rules)
	}
	return p
}

// logged decides in by p, records it, and returns the entry.
func logged(tb testing.TB, p *Policy, in *Input, mask ...string) *Entry {
	tb.Helper()
	l := NewLogs(LogConfig{}).Log("acme")
	d := p.Decide(in)
	recorder(tb, l, p, everything, mask...).Record([]byte("id-1"), in, &d, 1500)
	entries := slices.Collect(l.Entries(Filter{}))
	if len(entries) != 1 {
		tb.Fatalf("%d entries", len(entries))
	}
	return entries[0]
}

func richInput() *Input {
	return &Input{
		Tenant: "acme", Plan: "gold", Route: "r", Auth: "required", Features: []string{"a", "b"},
		Method: []byte("GET"), Host: []byte("h.example"), Path: []byte("/x%2Fy/z"), Protocol: []byte("HTTP/1.1"), BodySize: -1,
		Query: []byte("q=secret1&q=secret2&bare&" + strings.Repeat("t", 33) + "=x"),
		Headers: header{
			"X-A", "1", "x-a", "2", "Authorization", "secret3", "Cookie", "secret4", "Proxy-Authorization", "secret5", "X-Api-Key", "secret6",
			"DPoP", "secret7", "x-team-pass", "secret8", "Referer", "https://a.example/?t=secret9", "X-Csrf-Token", "secret10", "X-Raw", "\xff",
		},
		Principal: NewPrincipal("user", "bob", "acme", []string{"r"}, nil, nil, map[string]any{"email": "secret11", "n": 1, "list": []any{"secret12"}}),
		Client:    netip.MustParseAddr("192.0.2.1"), TLS: true, Time: time.Unix(1, 5), Cert: newCertificate(map[string]any{"subject": "CN=c", "serial": "secret13"}),
	}
}

// TestEntry compares an entry's JSON as text, and that it is OPA's shape.
func TestEntry(t *testing.T) {
	e := testEngine(t, patient)
	p := compiledFrom(t, e, `allow if input.request.headers.authorization == "none"
reason := sprintf("%s may not", [input.request.headers.authorization])
obligations := {"log": {"who": input.principal.id}, "headers": {"set": {"x-a": "b"}}, "cost": 2}`)
	entry := logged(t, p, richInput(), "/principal/claims/email", "/principal/claims/list/0", "/client/cert/serial", "/plan", "/features/b")
	got, err := json.MarshalIndent(entry, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	const want = `{
 "labels": {
  "revision": "r1",
  "tenant": "acme"
 },
 "decision_id": "id-1",
 "path": "gatehouse/tenant",
 "input": {
  "auth": "required",
  "client": {
   "cert": {
    "subject": "CN=c"
   },
   "ip": "192.0.2.1",
   "tls": true
  },
  "features": {
   "a": true
  },
  "principal": {
   "claims": {
    "n": 1
   },
   "groups": [],
   "id": "bob",
   "kind": "user",
   "roles": [
    "r"
   ],
   "scopes": [],
   "tenant": "acme"
  },
  "request": {
   "body_size": -1,
   "headers": {
    "x-a": "1, 2"
   },
   "host": "h.example",
   "method": "GET",
   "path": "/x%2Fy/z",
   "protocol": "HTTP/1.1",
   "query": {
    "q": [
     "**",
     "**"
    ]
   },
   "segments": [
    "x/y",
    "z"
   ]
  },
  "route": "r",
  "tenant": "acme",
  "time": 1000000005
 },
 "result": {
  "allow": false,
  "by": "tenant",
  "status": 403,
  "obligations": {
   "headers": {
    "set": {
     "x-a": ""
    }
   },
   "cost": 2,
   "log": {
    "who": ""
   }
  }
 },
 "erased": [
  "/input/plan",
  "/input/features/b",
  "/input/request/headers/authorization",
  "/input/request/headers/cookie",
  "/input/request/headers/proxy-authorization",
  "/input/request/headers/x-api-key",
  "/input/request/headers/dpop",
  "/input/request/headers/x-team-pass",
  "/input/request/headers/referer",
  "/input/request/headers/x-csrf-token",
  "/input/request/headers/x-raw",
  "/input/principal/claims/email",
  "/input/principal/claims/list",
  "/input/client/cert/serial",
  "/result/reason",
  "/result/obligations"
 ],
 "masked": [
  "/input/request/query/q",
  "/input/request/query"
 ],
 "requested_by": "192.0.2.1",
 "timestamp": "1970-01-01T00:00:01.000000005Z",
 "metrics": {
  "timer_gatehouse_decide_ns": 1500
 },
 "custom": {
  "replayable": false,
  "tainted": true
 }
}`
	if string(got) != want {
		t.Errorf("got %s", got)
	}
	if strings.Contains(string(got), "secret") {
		t.Error("a secret was kept")
	}
	// The fields of OPA's logs.EventV1.
	var opa struct {
		Labels      map[string]string `json:"labels"`
		DecisionID  string            `json:"decision_id"`
		Path        string            `json:"path"`
		Input       *any              `json:"input"`
		Result      *any              `json:"result"`
		Erased      []string          `json:"erased"`
		Masked      []string          `json:"masked"`
		RequestedBy string            `json:"requested_by"`
		Timestamp   time.Time         `json:"timestamp"`
		Metrics     map[string]any    `json:"metrics"`
		Custom      map[string]any    `json:"custom"`
	}
	dec := json.NewDecoder(bytes.NewReader(got))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&opa); err != nil {
		t.Error(err)
	}

	// What reads nothing of that is kept in full, but for credentials.
	entry = logged(t, compiledFrom(t, e, `allow := false
reason := "closed"
obligations := {"headers": {"set": {"x-a": "b", "authorization": "secret"}}}`), richInput())
	if d := entry.Decision; !entry.Replayable || d.Reason != "closed" || !slices.Equal(d.Obligations.Set, []Field{{"authorization", ""}, {"x-a", "b"}}) {
		t.Errorf("%+v %+v", entry.Decision, entry.Decision.Obligations)
	}
}

// TestMasks: which pointers there are, and what each takes away.
func TestMasks(t *testing.T) {
	p := compiledFrom(t, testEngine(t, patient), `allow := true`)
	f := func(mask, want string) {
		t.Helper()
		entry := logged(t, p, richInput(), mask)
		var got []string
		for _, gone := range entry.Erased {
			if m := (&Mask{headers: []string{"x-team-pass", "x-raw"}}); !m.secret(strings.TrimPrefix(gone, "/input/request/headers/")) {
				got = append(got, strings.TrimPrefix(gone, "/input"))
			}
		}
		b, err := json.Marshal(entry)
		var back Entry
		if err == nil {
			err = json.Unmarshal(b, &back)
		}
		if err != nil || back.present != entry.present {
			t.Errorf("%s: read back %b of %b: %v", mask, back.present, entry.present, err)
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%s took %s, want %s", mask, s, want)
		}
	}
	f("/plan", "/plan")
	f("/time", "/time")
	f("/request/path", "/request/path /request/segments")
	f("/request/segments/1", "/request/path /request/segments")
	f("/request/headers/X-A", "/request/headers/x-a")
	f("/request/headers/x-other", "")
	f("/request/headers", "/request/headers")
	f("/request/query/q", "/request/query/q")
	f("/request/query", "/request/query")
	f("/client", "/client/ip /client/tls /client/cert")
	f("/client/cert/san/dns", "")
	f("/features/a", "/features/a")
	f("/principal", "/principal")
	f("/principal/id", "/principal/id")
	f("/principal/roles/0", "/principal/roles")
	f("/principal/claims/n/x", "")
	for _, wrong := range []string{"", "/", "plan", "/plan/x", "/plans", "/request/header", "/principal/name", "/input/plan", "/features/a/b", "/client/ip/x"} {
		if _, err := NewMask([]string{wrong}); err == nil {
			t.Errorf("%q is no fault", wrong)
		}
		if fs := MaskFault([]string{"/plan", wrong}); len(fs) != 1 || fs[0].Pointer != "/1" {
			t.Errorf("%q: %v", wrong, fs)
		}
	}
}

// TestLogBounds: a log keeps the newest within its bytes, and all logs stay
// within theirs.
func TestLogBounds(t *testing.T) {
	p := compiledFrom(t, testEngine(t, patient), `allow := true`)
	logs := NewLogs(LogConfig{TenantBytes: 40 << 10, TotalBytes: 100 << 10})
	fill := func(tenant gatehouse.TenantID, n int) *Log {
		l := logs.Log(tenant)
		r := recorder(t, l, p, everything)
		in := randomInput(rand.New(rand.NewPCG(1, 1)))
		in.Auth = "none"
		d := p.Decide(in)
		for i := range n {
			r.Record(fmt.Append(nil, i), in, &d, 0)
		}
		return l
	}
	// check wants the entries to be the last ones without a gap.
	check := func(l *Log, last int) {
		t.Helper()
		var ids, want []string
		for e := range l.Entries(Filter{}) {
			ids = append(ids, e.ID)
		}
		for i := last - len(ids); i < last; i++ {
			want = append(want, fmt.Sprint(i))
		}
		if len(ids) == 0 || !slices.Equal(ids, want) || l.bytes > 40<<10 {
			t.Errorf("entries %v in %d bytes, want up to %d", ids, l.bytes, last)
		}
	}
	check(fill("a", 3), 3)
	check(fill("a", 2000), 2000)
	for i := range 9 {
		check(fill(gatehouse.TenantID(fmt.Sprint("t", i)), 2000), 2000)
		if used := logs.used.Load(); used > 100<<10 {
			t.Errorf("%d logs have %d bytes", i+2, used)
		}
	}
	check(logs.Log("a"), 2000)
	for i := range 9 {
		logs.Drop(gatehouse.TenantID(fmt.Sprint("t", i)))
	}
	old := logs.Log("a")
	logs.Drop("a")
	d := Decision{}
	recorder(t, old, p, everything).Record(nil, richInput(), &d, 0)
	if used := logs.used.Load(); used != 0 {
		t.Errorf("%d bytes are left", used)
	}
}

// TestLogSample: denials are all kept up to a rate, the allowed by their
// share, and nothing without one.
func TestLogSample(t *testing.T) {
	p := compiledFrom(t, testEngine(t, patient), `allow := true`)
	l := NewLogs(LogConfig{}).Log("acme")
	if r := recorder(t, l, p, 0); r != nil {
		t.Error("kept without a sample")
	}
	count := func(f Filter) (n int) {
		for range l.Entries(f) {
			n++
		}
		return n
	}
	var none *Recorder
	in := richInput()
	no, yes := Decision{Status: 403, By: ByTenant}, Decision{Allow: true, By: ByTenant}
	none.Record(nil, in, &no, 0)
	r := recorder(t, l, p, 1000) // 10%
	for i := range 350 {
		in.Time = time.Unix(int64(i/150), 0) // 150, 150 and 50 in a second
		r.Record(nil, in, &no, 0)
	}
	if n := count(Filter{Denied: true}); n != 250 || l.Dropped() != 100 {
		t.Errorf("%d denials are kept, %d dropped", n, l.Dropped())
	}
	for range 10_000 {
		r.Record(nil, in, &yes, 0)
	}
	if n := count(Filter{}) - 250; n < 700 || n > 1300 {
		t.Errorf("%d of 10000 are kept", n)
	}
	if n := count(Filter{Denied: true, Last: 30}); n != 30 {
		t.Errorf("%d of the last 30", n)
	}
	if n := count(Filter{Denied: true, Since: time.Unix(1, 0), Until: time.Unix(2, 0)}); n != 100 {
		t.Errorf("%d within a second", n)
	}
	for range l.Entries(Filter{}) {
		break
	}
}

// TestHugeInput: what is too large is kept without its large parts, at a
// bounded cost.
func TestHugeInput(t *testing.T) {
	p := compiledFrom(t, testEngine(t, patient), `allow := false`)
	in := richInput()
	var hs header
	for i := range 10_000 {
		hs = append(hs, fmt.Sprintf("x-token-%d", i), "v")
	}
	in.Headers = hs
	in.Query = []byte(strings.Repeat("a=b&", 10_000))
	e := logged(t, p, in)
	if e.present&(fieldHeaders|fieldQuery) != 0 || e.present&fieldPath == 0 || !e.Replayable {
		t.Errorf("%b %v", e.present, e.Erased)
	}
	in = richInput()
	in.Path = []byte("/" + strings.Repeat("a", 20_000))
	in.Principal = &Principal{}
	if e := logged(t, p, in); e.present != fieldsAll&^largeFields || string(e.Input().Host) != "h.example" {
		t.Errorf("%b %v", e.present, e.Erased)
	}
}

// TestLogSecrets: credentials are not kept, however they come.
func TestLogSecrets(t *testing.T) {
	secret, err := gatehouse.NewAPIKey(strings.NewReader(strings.Repeat("k", 32)))
	if err != nil {
		t.Fatal(err)
	}
	key := secret.Reveal()
	p := compiledFrom(t, testEngine(t, patient), `allow := false`)
	f := func(change func(in *Input), want ...string) {
		t.Helper()
		in := richInput()
		in.Query, in.Headers = []byte("a=1"), nil
		change(in)
		text, err := json.Marshal(logged(t, p, in))
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range []string{key, strings.ToLower(key), "s3cret"} {
			if strings.Contains(string(text), bad) {
				t.Errorf("kept %s: %s", bad, text)
			}
		}
		for _, w := range want {
			if !strings.Contains(string(text), w) {
				t.Errorf("no %s in %s", w, text)
			}
		}
	}
	query := func(q string) func(*Input) { return func(in *Input) { in.Query = []byte(q) } }
	f(query(key), `"masked":["/input/request/query"]`, `"query":{}`)
	f(query("a=1&s3cret-token&b=2"), `"query":{"a":["**"],"b":["**"]}`)
	f(query(key+"=1"), `"query":{}`)
	f(query("%67"+key[1:]+"=1"), `"query":{}`)
	f(query("s3cret-of-more-than-32-bytes-in-all=1"), `"query":{}`)
	f(query("=s3cret"), `"query":{"":["**"]}`)
	f(func(in *Input) { in.Path = []byte("/reset/" + key + "x") }, `"erased":["/input/request/path","/input/request/segments"]`)
	field := func(name, value string) func(*Input) {
		return func(in *Input) { in.Headers = header{name, value, "x-plain", "kept"} }
	}
	f(field("X-Note", "see "+key+"."), `"/input/request/headers/x-note"`, `"x-plain":"kept"`)
	f(field("X-"+key, "v"), `"masked":["/input/request/query/a","/input/request/headers"]`, `"x-plain":"kept"`)
	for _, name := range []string{
		"Ocp-Apim-Subscription-Key", "X-Functions-Key", "X-Access-Key", "X-Key", "Key", "X_Key", "X-Api-Key", "X-Api-Keys", "X-TOTP", "Otp", "X-Pin",
		"X-Code", "X-Passcode", "X-Client-Secret", "X-Amz-Security-Token", "X-Sid", "X-Csrf", "X-Signature-256", "X-Hmac.Sha256", "X-Vault-Passphrase",
	} {
		f(field(name, "s3cret"), `"/input/request/headers/`+strings.ToLower(name)+`"`, `"x-plain":"kept"`)
	}
	for _, name := range []string{"x-shipping", "x-decoded", "x-keyboard", "x-codec", "accept-encoding", "x-passenger"} {
		f(field(name, "kept"), `"`+name+`":"kept"`)
	}
}

// TestMaskRemembersNames: what a mask makes of a name does not depend on those it
// met before.
func TestMaskRemembersNames(t *testing.T) {
	m, err := NewMask(nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for i := range 500 {
			plain, secret := fmt.Sprint("X-A", i), fmt.Sprint("X-Token-", i)
			if n := m.classify([]byte(plain)); n.secret || n.name != strings.ToLower(plain) {
				t.Fatalf("%+v", n)
			}
			if n := m.classify([]byte(secret)); !n.secret || n.pointer != "/input/request/headers/"+strings.ToLower(secret) {
				t.Fatalf("%+v", n)
			}
		}
	}
	name := []byte("X-Something")
	m.classify(name)
	if n := testing.AllocsPerRun(100, func() { m.classify(name) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	long := []byte(strings.Repeat("x", maxMaskName+1))
	m.classify(long)
	for i := range m.names {
		if n := m.names[i].Load(); n != nil && len(n.raw) > maxMaskName {
			t.Error("a long name is remembered")
		}
	}
}

// TestLogShares: tenants that keep nothing have no share.
func TestLogShares(t *testing.T) {
	record := make([]byte, 500)
	logs := NewLogs(LogConfig{TenantBytes: 1 << 20, TotalBytes: 1 << 20})
	for i := range 10_000 {
		logs.Log(gatehouse.TenantID(fmt.Sprint(i)))
	}
	fill := func(tenant gatehouse.TenantID) *Log {
		l := logs.Log(tenant)
		for range 3000 {
			l.add(record)
		}
		return l
	}
	if l := fill("0"); l.bytes < 400<<10 || l.bytes > 512<<10 {
		t.Errorf("alone a tenant has %d bytes of denials", l.bytes)
	}
	for i := range 3 {
		fill(gatehouse.TenantID(fmt.Sprint(i)))
	}
	if l := fill("3"); l.bytes < 100<<10 || l.bytes > 128<<10 || logs.holding.Load() != 4 {
		t.Errorf("a fourth has %d bytes of denials; %d hold any", l.bytes, logs.holding.Load())
	}
	for i := range 4 {
		logs.Drop(gatehouse.TenantID(fmt.Sprint(i)))
	}
	if logs.holding.Load() != 0 || logs.used.Load() != 0 {
		t.Errorf("%d hold %d bytes after all", logs.holding.Load(), logs.used.Load())
	}
}

// TestLogHalves: a flood of one outcome leaves what is kept of the other.
func TestLogHalves(t *testing.T) {
	p := compiledFrom(t, testEngine(t, patient), `allow := true`)
	l := NewLogs(LogConfig{TenantBytes: 40 << 10}).Log("acme")
	r := recorder(t, l, p, everything)
	in := richInput()
	no, yes := Decision{Status: 403, By: ByTenant}, Decision{Allow: true, By: ByTenant}
	at := 0
	record := func(d Decision, n int) {
		for range n {
			in.Time = time.Unix(int64(at), 0)
			r.Record(fmt.Append(nil, at), in, &d, 0)
			at++
		}
	}
	record(no, 5)
	record(yes, 5)
	record(no, 1)
	ids := func(f Filter) (ids []string) {
		for e := range l.Entries(f) {
			ids = append(ids, e.ID)
		}
		return ids
	}
	if got := fmt.Sprint(ids(Filter{})); got != "[0 1 2 3 4 5 6 7 8 9 10]" {
		t.Error(got)
	}
	if got := fmt.Sprint(ids(Filter{Last: 3})); got != "[8 9 10]" {
		t.Error(got)
	}
	record(yes, 2000)
	if got := fmt.Sprint(ids(Filter{Denied: true})); got != "[0 1 2 3 4 10]" {
		t.Errorf("of the denials %s are left", got)
	}
	before := len(ids(Filter{}))
	record(no, 2000)
	if allowed := before - 6; len(ids(Filter{}))-len(ids(Filter{Denied: true})) != allowed || allowed < 10 || l.bytes > 40<<10 {
		t.Errorf("of %d allowed ones %d are left, in %d bytes", allowed, len(ids(Filter{}))-len(ids(Filter{Denied: true})), l.bytes)
	}
}

// TestLogConcurrent is for the race detector.
func TestLogConcurrent(t *testing.T) {
	p := compiledFrom(t, testEngine(t, patient), `allow := true`)
	logs := NewLogs(LogConfig{TenantBytes: 20 << 10, TotalBytes: 30 << 10})
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			l := logs.Log(gatehouse.TenantID(fmt.Sprint(g % 3)))
			r := recorder(t, l, p, everything)
			in := richInput()
			d := p.Decide(in)
			for i := range 300 {
				r.Record(fmt.Append(nil, i), in, &d, 0)
				if i%50 == 0 {
					for e := range l.Entries(Filter{Last: 10}) {
						if string(e.Input().Host) != "h.example" {
							t.Errorf("%+v", e)
						}
					}
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkRecord(b *testing.B) {
	e := testEngine(b, patient)
	p := compiledFrom(b, e, `allow if input.principal.id == "bob"`)
	l := NewLogs(LogConfig{}).Log("acme")
	in := richInput()
	in.Headers = inBytes(in.Headers)
	d, id := p.Decide(in), []byte("id")
	f := func(name string, r *Recorder) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r.Record(id, in, &d, 0)
			}
		})
	}
	f("none", nil)
	f("kept", recorder(b, l, p, everything))
	f("1%", recorder(b, l, p, 100))
}
