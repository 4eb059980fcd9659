// Package configs reads configuration text, tenant documents and the process
// configuration, into the types that define them, and reports every fault of
// a text at once with its file, line, column and excerpt.
//
// YAML and JSON are read by the same code, JSON being a part of YAML. The
// folder also holds the configurations that ship as examples; a test starts
// each of them.
package configs

import "embed"

// Examples holds the shipped configurations by file name.
//
//go:embed *.yaml keys prices
var Examples embed.FS
