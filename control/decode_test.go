package control_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"pgregory.net/rapid"
)

func TestDecode(t *testing.T) {
	type inner struct {
		Name string `json:"name"`
	}
	type whole struct {
		inner
		N      int                 `json:"n"`
		U      uint64              `json:"u"`
		On     *bool               `json:"on"`
		List   []inner             `json:"list"`
		Map    map[string]string   `json:"map"`
		For    gatehouse.Duration  `json:"for"`
		Flags  gatehouse.Features  `json:"flags"`
		Any    json.RawMessage     `json:"any"`
		Prefix *[]gatehouse.Prefix `json:"prefix"`
		hidden string
		Not    string `json:"-"`
	}
	f := func(text, want string) {
		t.Helper()
		var v whole
		var b strings.Builder
		for _, fault := range control.Decode([]byte(text), &v) {
			fmt.Fprintf(&b, "%s %s %s\n", fault.Pointer, fault.Reason, fault.Hint)
		}
		if b.Len() == 0 {
			on := "nil"
			if v.On != nil {
				on = fmt.Sprint(*v.On)
			}
			fmt.Fprintf(&b, "%s %d %d %s %v %v %v %v %s", v.Name, v.N, v.U, on, v.List, v.Map, v.For, v.Flags, v.Any)
		}
		if got := strings.TrimSpace(b.String()); got != want {
			t.Errorf("%s\n%s\nwant\n%s", text, got, want)
		}
		_ = v.hidden
	}
	f(`{"name": "x", "n": -1, "u": 7, "on": true, "list": [{"name": "y"}, {}], "map": {"a": "b"}, "for": "5s", "flags": ["f"], "any": {"z": [1]}}`,
		`x -1 7 true [{y} {}] map[a:b] 5s map[f:true] {"z": [1]}`)
	f(`{"list": [null], "prefix": ["192.0.2.0/24", null]}`, "/list/0 a value is expected, not null \n/prefix/1 a value is expected, not null")
	f(`{"name": null, "n": null, "on": null, "list": null, "map": null, "for": null, "flags": null, "prefix": null}`, `0 0 nil [] map[] 0s map[]`)
	f(`{"Name": "x"}`, `/Name unknown key did you mean "name"?`)
	f(`{"not": 1, "hidden": "x", "-": 1}`, "/not unknown key \n/hidden unknown key \n/- unknown key did you mean \"n\"?")
	f(`{"n": 1, "n": 2, "map": {"a": "b", "a": "c"}}`, "/n the key is given twice \n/map/a the key is given twice")
	f(`{"n": 1.5, "u": -1, "name": {"a": [1, {}]}, "on": 0, "list": {"a": [{}]}, "map": [[]], "for": [], "any": 1}`,
		"/n a whole number is expected \n/u a whole number from 0 is expected \n/name a string is expected \n/on true or false is expected \n/list a list is expected \n/map an object is expected \n/for a single value is expected")
	f(`{"for": "quite long", "prefix": ["secret-prefix"]}`, "/for a positive duration such as 250ms, 5s or 1h30m is expected \n/prefix/0 … is neither an IP address nor a prefix such as 192.0.2.0/24")
	f(`{"list": [{"name": 1}, 2, {"nome": 1}]}`, "/list/0/name a string is expected \n/list/1 an object is expected \n/list/2/nome unknown key did you mean \"name\"?")
	f(`[]`, `an object is expected`)
	f(`{"n": 1} {}`, `not JSON at byte 10`)
	f(``, `not JSON at byte 0`)
}

// Decode takes what encoding/json writes, and no text makes it fail otherwise
// than with faults.
func TestDecodeAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(
			rapid.String(),
			rapid.StringMatching(`\{("(id|name|routes|limits|features|tls)":(1|"x"|null|\[[{}1,]{0,4}\]|\{\}),?){0,4}\}`),
		).Draw(t, "text")
		var doc gatehouse.Tenant
		if faults := control.Decode([]byte(text), &doc); len(faults) > 0 {
			return
		}
		again, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		var same gatehouse.Tenant
		if faults := control.Decode(again, &same); len(faults) > 0 {
			t.Fatalf("%s: %v", again, faults)
		}
	})
}

// A tenant whose secrets cannot be opened is left out; the others are told.
func TestLostSecret(t *testing.T) {
	p, j := plane(t)
	for _, text := range []string{
		`{"id": "a", "identity": {"jwt": [{"issuer": "i", "audience": ["a"], "algorithms": ["HS256"], "secret_file": "hs"}]}}`, `{"id": "b"}`,
	} {
		files := map[string][]byte{}
		if strings.Contains(text, "hs") {
			files["hs"] = []byte("0123456789abcdef0123456789abcdef")
		}
		if _, err := p.CreateTenant(t.Context(), tenant(t, text), files, by); err != nil {
			t.Fatal(err)
		}
	}
	other, err := control.New(t.Context(), control.Parts{Journal: j, SecretKey: []byte("another key of thirty-two bytes.")})
	if err != nil {
		t.Fatal(err)
	}
	next, stop := pull(other.Follow(t.Context(), control.Position{}))
	defer stop()
	if u := must(next()); len(u.Tenants) != 1 || u.Tenants[0].ID != "b" {
		t.Errorf("%+v", u.Tenants)
	}
}

// Object tells every key that is given twice, wherever it is, and where a text
// is no JSON.
func TestObject(t *testing.T) {
	for text, want := range map[string]string{
		`{"a": {"b": 1}, "c": [{"b": 1}, {"b": 2}, [], {}], "b": "a"}`: "",
		`{}`: "",
		`{"status": "active", "status": "suspended"}`:                            "/status the key is given twice",
		`{"a": {"b": [1, {"x": {}, "c": 1, "d": [], "c": {"c": 1}}]}}`:           "/a/b/1/c the key is given twice",
		`{"a/b": 1, "a\u002fb": 2, "l": [[0, [], {"x": null, "x": 1, "x": 2}]]}`: "/a~1b the key is given twice\n/l/0/2/x the key is given twice\n/l/0/2/x the key is given twice",
		`{bad`:             "not JSON at byte 2",
		`{"a": 1} {}`:      "not JSON at byte 10",
		`["a"]`:            "an object, please",
		`null`:             "an object, please",
		`[{"a":1, "a":2}]`: "an object, please",
	} {
		_, faults := control.Object([]byte(text), "an object, please")
		var got []string
		for _, f := range faults {
			got = append(got, strings.TrimSpace(f.Pointer+" "+f.Reason))
		}
		if strings.Join(got, "\n") != want {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
	}
	const depth = 9000
	deep := strings.Repeat(`{"a":`, depth) + `{"b":1,"b":2}` + strings.Repeat(`}`, depth)
	if _, faults := control.Object([]byte(deep), ""); len(faults) != 1 || faults[0].Pointer != strings.Repeat("/a", depth)+"/b" {
		t.Errorf("%d faults", len(faults))
	}
}
