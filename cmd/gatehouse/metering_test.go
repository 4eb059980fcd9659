package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What is said of metering is taken, or refused with its place.
func TestMeteringConfig(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	write(t, secret, "hush\n")
	f := func(text, want string) {
		t.Helper()
		cfg, err := readConfig(settings(t, text))
		got := ""
		if err != nil {
			got = err.Error()
		} else if s, err := openSinks(&cfg); err != nil {
			got = err.Error()
		} else {
			for _, one := range s.all {
				got += one.Name() + " "
			}
			if got = strings.TrimSpace(got + filepath.Base(s.ledger.address)); s.close() != nil {
				t.Error("close")
			}
		}
		if want == "" || !strings.Contains(got, want) {
			t.Errorf("%s\n%s\nwant %s", text, got, want)
		}
	}
	sinks := func(list string) string { return "metering: {sinks: [" + list + "]}\n" }
	f("data: ./gatehouse-data\n", "sqlite metering.db")
	f("metering: {flush: 100ms, live_dir: /tmp, log: 64MiB, retain: 1h, on_full: refuse, network: true}\n", "sqlite metering.db")
	f(sinks("{kind: sqlite, url: sqlite:usage.db}"), "sqlite usage.db")
	f(sinks("{kind: sqlite}, {kind: sqlite, name: copy, url: sqlite:copy.db}"), "sqlite copy metering.db")
	f("store: {url: \"postgres://gh@db/gatehouse\"}\n", "postgres gatehouse")
	f("store: {url: \"postgres://gh@db/gatehouse\"}\ntenants: t.yaml\n", "sqlite metering.db")
	f(sinks(fmt.Sprintf("{kind: postgres, url: \"postgres://gh@db/usage\", password_file: %q}", secret)), "postgres usage")
	f(sinks(fmt.Sprintf(`{kind: clickhouse, url: "http://ch:8123/?database=u", user: gh, password_file: %[1]q, table: cells},
		{kind: kafka, brokers: ["k:9092"], topic: usage, tls: true, mechanism: PLAIN, user: gh, password_file: %[1]q},
		{kind: cloudevents, url: "https://om/api/v1/events", token_file: %[1]q}`, secret)), "sqlite clickhouse kafka cloudevents metering.db")

	f("metering: {flush: 1ms}\n", ":1:19: flush is outside 10ms to 1m")
	f("metering: {log: 1MiB}\n", "log is below 16MiB")
	f("metering: {on_full: drop}\n", `on_full "drop" is unknown`)
	f("metering: {live_dir: /nowhere/at/all}\n", "/nowhere/at/all is no folder")
	f("metering: {retain: -1h}\n", "retain")
	f("metering: {sink: []}\n", `did you mean`)
	f(sinks("{kind: clickhuse}"), `kind "clickhuse" is unknown`)
	f(sinks("{kind: clickhouse}"), "url is missing")
	f(sinks(`{kind: clickhouse, url: "ch:8123"}`), "this is not a URL")
	f(sinks("{kind: kafka, url: x}"), "brokers is missing")
	f(sinks(`{kind: kafka, brokers: [a], url: x}`), "a sink of kind kafka has no url")
	f(sinks(`{kind: postgres, url: "mysql://db"}`), "this is not a URL of PostgreSQL")
	f(sinks(fmt.Sprintf(`{kind: postgres, url: "postgres://db/x", password_file: %q}`, secret)), "the user of password_file is missing")
	f(sinks("{kind: sqlite}, {kind: sqlite}"), `two sinks are called "sqlite"`)
	f(sinks("{kind: sqlite, name: a/b}"), `name "a/b"`)
	f(sinks(`{kind: clickhouse, url: "http://ch", password_file: /nowhere}`), "/nowhere: cannot be read")
	f(sinks(fmt.Sprintf(`{kind: cloudevents, url: "http://om.example.com", token_file: %q}`, secret)), "the token would be sent in clear")
	f("roles: [control]\n"+sinks(`{kind: kafka, brokers: [a]}`), "a control plane alone counts nothing")
	f("roles: [control]\n"+sinks("{kind: sqlite}"), "sqlite metering.db")

	if cfg, err := readConfig("../../configs/gatehouse.yaml"); err != nil || len(cfg.Metering.Sinks) > 0 {
		t.Error(err)
	}
	if err := os.Remove(secret); err != nil {
		t.Fatal(err)
	}
	c := sinkConfig{Kind: kindPostgres, URL: "postgres://gh:hush@db/x"}
	if err := withoutPassword(fmt.Errorf("dial %s", c.URL), c.URL); strings.Contains(err.Error(), "hush") {
		t.Error(err)
	}
}
