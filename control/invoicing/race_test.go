//go:build race

package invoicing_test

// raced says that the race detector is on, under which SQLite takes ten times
// as long.
const raced = true
