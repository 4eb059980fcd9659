package api

import (
	"flag"
	"log/slog"
	"os"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden holds text against a file that is committed.
func golden(t *testing.T, name string, text []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != string(text) {
		t.Errorf("%s is not what the code gives; see what changed by: go test ./control/api -run %s -args -update", name, t.Name())
	}
}

// The committed document is the generated one.
func TestOpenAPI(t *testing.T) {
	text, err := newREST(REST{Log: slog.New(slog.DiscardHandler)}).openAPIText()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "openapi.json", text)
}
