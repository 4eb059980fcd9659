package client_test

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode"
)

var update = flag.Bool("update", false, "write operations.go from the API's document")

// The constants are those of the API's document. Made anew by
//
//	go test ./control/client -run TestOperations -update
func TestOperations(t *testing.T) {
	text, err := os.ReadFile("../api/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	want, err := operations(text)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("operations.go", want, 0o644); err != nil { //nolint:gosec // source is for everyone
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile("operations.go")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Error("operations.go is not what the API's document makes: run this test with -update")
	}
}

// operations writes the source of one constant for each operation.
func operations(document []byte) ([]byte, error) {
	var doc struct {
		Paths map[string]map[string]struct {
			OperationID string `json:"operationId"`
			Summary     string `json:"summary"`
		} `json:"paths"`
	}
	if err := json.Unmarshal(document, &doc); err != nil {
		return nil, err
	}
	type operation struct{ id, summary, is string }
	var all []operation
	for path, methods := range doc.Paths {
		for method, o := range methods {
			if o.OperationID == "" {
				return nil, fmt.Errorf("%s %s has no operationId", method, path)
			}
			all = append(all, operation{o.OperationID, o.Summary, strings.ToUpper(method) + " " + path})
		}
	}
	slices.SortFunc(all, func(a, b operation) int { return cmp.Compare(a.id, b.id) })
	var b strings.Builder
	b.WriteString("// Code generated from control/api/openapi.json by TestOperations; DO NOT EDIT.\n\npackage client\n\n// The operations of the API.\nconst (\n")
	for _, o := range all {
		fmt.Fprintf(&b, "\t// %s: %s.\n\t%s Operation = %q\n", exported(o.id), strings.ReplaceAll(o.summary, "\n", " "), exported(o.id), o.is)
	}
	b.WriteString(")\n")
	return []byte(b.String()), nil
}

func exported(id string) string {
	r := []rune(id)
	r[0] = unicode.ToUpper(r[0])
	return string(r)
}
