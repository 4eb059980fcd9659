package main

import (
	"encoding"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/configs"
	"github.com/gatehouse-gateway/gatehouse/metering"
)

// The keys of the process configuration, as the reference and the example have
// them: neither leaves one out, names one that is not there, or shows another
// default.
func TestConfigReference(t *testing.T) {
	keys := map[string]bool{}
	keysOfType(reflect.TypeFor[config](), "", keys)
	if len(keys) < 50 {
		t.Fatalf("%d keys", len(keys))
	}

	page, err := os.ReadFile("../../docs/reference/process-config.md")
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z0-9_.]+)` \\|.*\\|.*\\|.*\\|$").FindAllStringSubmatch(string(page), -1) {
		named[row[1]] = true
	}
	same(t, "docs/reference/process-config.md", keys, named)
	sink := reflect.TypeFor[sinkConfig]()
	for i := range sink.NumField() {
		if key := sink.Field(i).Tag.Get("json"); !strings.Contains(string(page), "`"+key+"`") {
			t.Errorf("docs/reference/process-config.md does not name the key %s of sinks", key)
		}
	}

	const example = "../../configs/gatehouse.yaml"
	text, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	var raw json.RawMessage
	if _, problems := configs.Decode(example, text, &raw); len(problems) > 0 {
		t.Fatal(problems)
	}
	var doc map[string]any
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	shown := map[string]bool{}
	keysOfValue(doc, "", shown)
	same(t, "configs/gatehouse.yaml", keys, shown)
	read, err := readConfig(example)
	if err != nil {
		t.Fatal(err)
	}
	defaults := defaultConfig()
	defaults.Proxy.UpstreamAllow = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")} // none means all
	defaults.Metering.Retain = gatehouse.Duration(metering.DefaultRetain)                                            // as 0 is taken
	if is, want := fmt.Sprintf("%+v", read), fmt.Sprintf("%+v", defaults); is != want {
		t.Errorf("configs/gatehouse.yaml does not show the defaults, but\n%s\nThey are\n%s", is, want)
	}
}

func same(t *testing.T, where string, want, got map[string]bool) {
	t.Helper()
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if !got[key] {
			t.Errorf("%s does not have %s", where, key)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(got)) {
		if !want[key] {
			t.Errorf("%s has %s, which is no key", where, key)
		}
	}
}

// keysOfType notes the keys that a type is read from, with dots between them.
func keysOfType(of reflect.Type, at string, keys map[string]bool) {
	if of.Kind() != reflect.Struct || reflect.PointerTo(of).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		keys[at] = true
		return
	}
	for i := range of.NumField() {
		f := of.Field(i)
		keysOfType(f.Type, strings.TrimPrefix(at+"."+f.Tag.Get("json"), "."), keys)
	}
}

func keysOfValue(v any, at string, keys map[string]bool) {
	m, ok := v.(map[string]any)
	if !ok {
		keys[at] = true
		return
	}
	for key, v := range m {
		keysOfValue(v, strings.TrimPrefix(at+"."+key, "."), keys)
	}
}
