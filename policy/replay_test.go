package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestReplayIsSound: an entry that says it is replayable is decided as the
// request was, from memory and from JSON; random modules, inputs and masks.
func TestReplayIsSound(t *testing.T) {
	e := testEngine(t, patient)
	r := rand.New(rand.NewPCG(11, 11))
	masks := []string{
		"/plan", "/request/path", "/request/headers/x-a", "/principal/id", "/principal/claims/a/b", "/principal/claims/a", "/principal/roles/0",
		"/client/ip", "/client/cert/subject", "/features/beta", "/request/query/q", "/time", "/principal", "/request/method",
	}
	replayed, not, compiled := 0, 0, 0
	check := func(source string, inputs int) {
		p, _ := e.Compile(tenantModules(source))
		if p == nil {
			return
		}
		compiled++
		mask := some(r, masks...)
		if r.IntN(2) == 0 {
			mask = nil
		}
		for range inputs {
			in := randomInput(r)
			want := p.Decide(in)
			entry := logged(t, p, in, mask...)
			if !entry.Replayable {
				not++
				continue
			}
			replayed++
			back := &Entry{}
			b, err := json.Marshal(entry)
			if err == nil {
				err = json.Unmarshal(b, back)
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, kept := range []*Entry{entry, back} {
				d, ok := kept.decide(e.newPolicy(p.own)) // which has seen nothing
				if !ok {
					t.Fatalf("%s\n%s says it is replayable", source, b)
				}
				if !d.Equal(want) || !kept.comparable(d).Equal(kept.Decision) {
					t.Fatalf("%s\n%+v\n%s\n got %+v\nwant %+v\nkept %+v", source, in, b, d, want, kept.Decision)
				}
			}
		}
	}
	for compiled < 20 {
		check((&modules{r: r}).source(), 10)
	}
	for _, rules := range slices.Concat(adversarial, coarse) {
		check("package gatehouse.tenant\n"+rules+"\n", 10)
	}
	t.Logf("%d entries were replayed, %d were not replayable", replayed, not)
	if replayed < 300 || not < 200 {
		t.Error("that puts little to the test")
	}
}

// TestReplay: what a draft would change, and what cannot be said.
func TestReplay(t *testing.T) {
	e := testEngine(t, patient)
	old := compiledFrom(t, e, `allow if input.request.method == "GET"`)
	l := NewLogs(LogConfig{}).Log("acme")
	r := recorder(t, l, old, everything, "/principal/id")
	for i, request := range []string{"GET /a", "PUT /a", "GET /b", "PUT /b", "GET /a?x=1"} {
		in := richInput()
		method, rest, _ := strings.Cut(request, " ")
		path, query, _ := strings.Cut(rest, "?")
		in.Method, in.Path, in.Query = []byte(method), []byte(path), []byte(query)
		d := old.Decide(in)
		r.Record(fmt.Append(nil, i), in, &d, 0)
	}
	f := func(rules, want string) {
		t.Helper()
		got := Replay(compiledFrom(t, e, rules), l.Entries(Filter{}))
		var b strings.Builder
		fmt.Fprintf(&b, "%d decided, %d not, %d changed: %d allowed, %d denied, %d failed;", got.Decided, got.NotReplayable, got.Changed, got.Allowed, got.Denied, got.Failed)
		for _, c := range got.Changes {
			fmt.Fprintf(&b, " %s %s %s %v->%v %s", c.Entry.ID, c.Entry.Input().Method, c.Entry.Input().Path, c.Old.Allow, c.New.Allow, c.New.Reason)
		}
		if b.String() != want {
			t.Errorf("%s\n got %s\nwant %s", rules, b.String(), want)
		}
	}
	f(`allow if input.request.method == "GET"`, "5 decided, 0 not, 0 changed: 0 allowed, 0 denied, 0 failed;")
	f("allow if input.request.path == \"/a\"\nreason := \"new\"",
		"5 decided, 0 not, 3 changed: 1 allowed, 1 denied, 0 failed; 1 PUT /a false->true  2 GET /b true->false new 3 PUT /b false->false new")
	f(`allow if input.request.query.x`, "4 decided, 1 not, 2 changed: 0 allowed, 2 denied, 0 failed; 0 GET /a true->false  2 GET /b true->false ")
	f(`allow if input.principal.id == "bob"`, "0 decided, 5 not, 0 changed: 0 allowed, 0 denied, 0 failed;")
	f("allow := true\nallow := false if input.request.path == \"/b\"",
		"5 decided, 0 not, 3 changed: 1 allowed, 1 denied, 2 failed; 1 PUT /a false->true  2 GET /b true->false  3 PUT /b false->false ")

	// A credential for the backend is not in the log, and makes no difference.
	sets := compiledFrom(t, e, `allow := true
obligations := {"headers": {"set": {"x-team-pass": "secret", "authorization": "secret", "x-a": "b"}}}`)
	other := NewLogs(LogConfig{}).Log("acme")
	in := richInput()
	d := sets.Decide(in)
	recorder(t, other, sets, everything).Record(nil, in, &d, 0)
	if got := Replay(sets, other.Entries(Filter{})); got.Decided != 1 || got.Changed != 0 {
		t.Errorf("%+v", got)
	}

	// By way of JSON it is the same.
	var b bytes.Buffer
	if err := Export(&b, l.Entries(Filter{})); err != nil {
		t.Fatal(err)
	}
	var back []*Entry
	for entry, err := range Import(bytes.NewReader(b.Bytes())) {
		if err != nil {
			t.Fatal(err)
		}
		back = append(back, entry)
	}
	var again bytes.Buffer
	if err := Export(&again, slices.Values(back)); err != nil || again.String() != b.String() {
		t.Errorf("%v\n%s\n%s", err, again.String(), b.String())
	}
	for _, wrong := range []string{"", "{}", `[{"input": {"plan": 1}}]`, `[{"input": {"client": {"ip": "x"}}}]`, `[{"input": {"request": {"body_size": "x"}}}]`} {
		failed := false
		for _, err := range Import(strings.NewReader(wrong)) {
			failed = failed || err != nil
		}
		if !failed && wrong != "{}" {
			t.Errorf("%s was read", wrong)
		}
	}
	var empty bytes.Buffer
	if err := Export(&empty, slices.Values([]*Entry(nil))); err != nil || empty.String() != "[]\n" {
		t.Errorf("%v %q", err, empty.String())
	}
}

// BenchmarkReplay10000 replays 10,000 requests of 500 callers against a draft
// that has seen none of them.
func BenchmarkReplay10000(b *testing.B) {
	e := testEngine(b, patient)
	old := compiledFrom(b, e, `allow if input.request.method == "GET"`)
	l := NewLogs(LogConfig{TenantBytes: 64 << 20}).Log("acme")
	r := recorder(b, l, old, everything)
	who := make([]*Principal, 500)
	for i := range who {
		who[i] = NewPrincipal("user", fmt.Sprint(i), "acme", []string{"viewer"}, nil, []string{"eng"}, map[string]any{"sub": fmt.Sprint(i), "iss": "https://id.acme.example", "exp": 1_800_000_000})
	}
	for i := range 10_000 {
		in := richInput()
		in.Principal, in.Path, in.Time = who[i%500], fmt.Appendf(nil, "/projects/%d/tracks", i), time.Unix(int64(i), 0)
		d := old.Decide(in)
		r.Record(fmt.Append(nil, i), in, &d, 0)
	}
	draft := compiledFrom(b, e, `allow if { input.request.segments[1] != "7"; input.principal.id != "9"; "eng" in input.principal.groups }`)
	b.ReportAllocs()
	for b.Loop() {
		fresh := e.newPolicy(draft.own)
		if got := Replay(fresh, l.Entries(Filter{Last: 10_000})); got.Decided != 10_000 || got.Changed != 21 {
			b.Fatalf("%+v", got)
		}
	}
}
