// Package policies holds the Rego that ships with Gatehouse.
package policies

import "embed"

// FS holds every module and its tests (*_test.rego).
//
//go:embed *.rego
var FS embed.FS

// Baseline returns the modules of the platform baseline, package
// gatehouse.baseline: file name to Rego source. The map is the caller's.
func Baseline() map[string]string { return module("baseline.rego") }

// Roles returns the module that says what operators may do at the control API,
// package gatehouse.operators. The map is the caller's.
func Roles() map[string]string { return module("roles.rego") }

func module(name string) map[string]string {
	b, err := FS.ReadFile(name)
	if err != nil {
		panic(err) // embedded at build time
	}
	return map[string]string{name: string(b)}
}
