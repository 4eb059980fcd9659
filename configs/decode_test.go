package configs_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/configs"
)

// sample has every field type and every kind of value.
type sample struct {
	Name    string             `json:"name,omitempty"`
	On      bool               `json:"on,omitempty"`
	Count   int                `json:"count,omitempty"`
	Wait    gatehouse.Duration `json:"wait,omitzero"`
	List    []string           `json:"list,omitempty"`
	Sub     *sample            `json:"sub,omitempty"`
	Subs    []sample           `json:"subs,omitempty"`
	Flags   gatehouse.Features `json:"flags,omitempty"`
	Unnamed string             `json:"-"`
}

func TestDecode(t *testing.T) {
	f := func(source, want string) {
		t.Helper()
		var v sample
		if _, problems := configs.Decode("a.yaml", []byte(source), &v); len(problems) > 0 {
			t.Errorf("%s\n%v", source, problems)
			return
		}
		b, err := json.Marshal(v)
		if err != nil || string(b) != want {
			t.Errorf("%s\n got %s\nwant %s (%v)", source, b, want, err)
		}
	}
	f("", `{}`)
	f("# nothing\n", `{}`)
	f("---\nname: a\n...\n", `{"name":"a"}`)
	f("name: a # comment\n", `{"name":"a"}`)
	f("name: 'a: b'\n", `{"name":"a: b"}`)
	f("name: \"a\\tb\\u00e9\"\n", `{"name":"a\tbé"}`)
	f("name: |\n  a\n  b\n", `{"name":"a\nb\n"}`)
	f("name: |-\n  a\n\n  b\n", `{"name":"a\n\nb"}`)
	f("name: >\n  a\n  b\n", `{"name":"a b\n"}`)
	f("name: \"7\"\n", `{"name":"7"}`)
	f("name: no\n", `{"name":"no"}`) // YAML 1.2: a word
	f("name: ~\ncount:\n", `{}`)
	f("on: true\ncount: -3\nwait: 90s\n", `{"on":true,"count":-3,"wait":"1m30s"}`)
	f("list: [a, 'b']\n", `{"list":["a","b"]}`)
	f("list:\n- a\n- b\n", `{"list":["a","b"]}`)
	f("list:\n  - a\n  -\n  - b\n", `{"list":["a","","b"]}`)
	f("sub: {}\nsubs: [{}, {name: x}]\n", `{"sub":{},"subs":[{},{"name":"x"}]}`)
	f("sub: {sub: {sub: {name: deep}}}\n", `{"sub":{"sub":{"sub":{"name":"deep"}}}}`)
	f("subs: [&a {name: x, list: [y]}, *a]\n", `{"subs":[{"name":"x","list":["y"]},{"name":"x","list":["y"]}]}`)
	f("flags: [a]\nsub: {flags: {b: true, c: false}}\n", `{"sub":{"flags":{"b":true,"c":false}},"flags":{"a":true}}`)
	f(`{"name": "a", "subs": [{"count": 1}, {"count": 2}]}`, `{"name":"a","subs":[{"count":1},{"count":2}]}`)
	f("{\n\t\"name\": \"a\",\n\t\"list\": [\n\t\t\"b\"\n\t]\n}\n", `{"name":"a","list":["b"]}`)
}

// What a document leaves out keeps the value it had: defaults are put in
// before decoding.
func TestDecodeKeeps(t *testing.T) {
	v := sample{Name: "before", Count: 7, Sub: &sample{Name: "below", Count: 8}, Unnamed: "kept"}
	if _, problems := configs.Decode("a.yaml", []byte("count: 0\nsub: {count: 9}\n"), &v); len(problems) > 0 {
		t.Fatal(problems)
	}
	want := sample{Name: "before", Sub: &sample{Name: "below", Count: 9}, Unnamed: "kept"}
	if !reflect.DeepEqual(v, want) {
		t.Errorf("got %+v, want %+v", v, want)
	}
}

// The Text finds the place of a value by its pointer, and the nearest place
// around one that is not written.
func TestLocate(t *testing.T) {
	const source = "plans:\n  - id: free\n    limits:\n      rules: [{name: a}]\ntenants:\n- {id: b}\n"
	var doc gatehouse.Document
	text, problems := configs.Decode("a.yaml", []byte(source), &doc)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	f := func(pointer, want string) {
		t.Helper()
		if got := text.Locate(gatehouse.Faults{{Pointer: pointer}})[0].Place.String(); got != want {
			t.Errorf("%s is at %s, want %s", pointer, got, want)
		}
	}
	f("", "a.yaml:1:1")
	f("/plans", "a.yaml:2:3")
	f("/plans/0", "a.yaml:2:5")
	f("/plans/0/id", "a.yaml:2:9")
	f("/plans/0/name", "a.yaml:2:5")
	f("/plans/0/limits/rules/0/name", "a.yaml:4:22")
	f("/plans/0/limits/rules/0/rate", "a.yaml:4:15")
	f("/plans/1/id", "a.yaml:2:3")
	f("/tenants/0/id", "a.yaml:6:8")
	f("/elsewhere", "a.yaml:1:1")

	also := text.Locate(gatehouse.Faults{{Pointer: "/plans/0/id", Also: "/tenants/0/id", Reason: "r", Hint: "h", Warning: true}})[0]
	const want = "a.yaml:2:9: warning: r\n  2 |   - id: free\n    |         ^\n  also: a.yaml:6:8\n  hint: h\n"
	if also.String() != want {
		t.Errorf("got\n%s\nwant\n%s", also, want)
	}
}

// Whatever the bytes, Decode comes back; every problem has a place within the
// text; and what has no problem is the same when read from its own JSON.
func FuzzDecode(f *testing.F) {
	for _, name := range []string{"demo.yaml", "tenants.yaml"} {
		b, err := configs.Examples.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	for _, s := range []string{
		"", "a", "- a", "tenants:", "tenants: [{id: a, features: [x]}]", "tenants: [{id: a, features: {x: true, y: false}}]",
		"plans: [&a {id: a, limits: {concurrency: 5}}, *a]", "a: *b", "<<: {}", "? a\n: b", "\"\\u00e9\": 1", "plans:\n\t- id: a",
		"{\"plans\": [{\"id\": \"a\\/b\"}]}", "plans: [{id: !!str a}]", "plans: [{id: |\n  a\n  b\n}]", "---\n---\n", "%YAML 1.2\n---\nplans: []",
		"plans: [{limits: {rules: [{name: a, rate: 5/s, by: [\"header:x\"]}]}}]", "tenants: [{identity: {api_keys: {}}}]",
		"plans:\r\n  - id: a\r\n", "plans: [{id: 0x10}, {id: 1e3}, {id: .inf}, {id: .nan}]", "tenants: [{policy: {modules: [{source: >\n  a\n\n  b\n}]}}]",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, source []byte) {
		var doc gatehouse.Document
		_, problems := configs.Decode("a.yaml", source, &doc)
		// A lone CR ends a line of YAML as well.
		lines := strings.Count(strings.ReplaceAll(string(source), "\r\n", "\n"), "\n") + strings.Count(string(source), "\r") + 1
		for _, p := range problems {
			if p.Reason == "" || p.Line < 0 || p.Line > lines || p.Column < 0 {
				t.Fatalf("%+v of %d lines", p, lines)
			}
			_ = p.String()
		}
		_ = doc.Validate() // takes whatever Decode leaves
		if len(problems) > 0 || !utf8.Valid(source) {
			return
		}
		b, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		var again gatehouse.Document
		if _, problems := configs.Decode("a.json", b, &again); len(problems) > 0 {
			t.Fatalf("%s\n%v", b, problems)
		}
		c, err := json.Marshal(again)
		if err != nil || string(b) != string(c) {
			t.Fatalf("%s\nreads as\n%s (%v)", b, c, err)
		}
	})
}
