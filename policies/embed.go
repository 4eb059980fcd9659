// Package policies holds the Rego that ships with Gatehouse.
package policies

import "embed"

// FS holds every module and its tests (*_test.rego).
//
//go:embed *.rego
var FS embed.FS

// Baseline returns the modules of the platform baseline, package
// gatehouse.baseline: file name to Rego source. The map is the caller's.
func Baseline() map[string]string {
	const name = "baseline.rego"
	b, err := FS.ReadFile(name)
	if err != nil {
		panic(err) // embedded at build time
	}
	return map[string]string{name: string(b)}
}
