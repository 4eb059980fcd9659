package main

import (
	"testing"

	"github.com/gatehouse-gateway/gatehouse/control/client"
)

// What a process commits after it took over a store in SQLite outlives its
// kill: the process before, as it closes the store, does not take the log from
// under it.
func TestTakeoverStoreKilled(t *testing.T) {
	data := t.TempDir()
	args := storeArgs(t, data, "--takeover")
	old := start(t, args...)
	create := func(p *program, id string) {
		t.Helper()
		must(t, p.owner(data), client.Call{Operation: client.CreateTenant, Body: map[string]any{"id": id}}, nil)
	}
	create(old, "before")
	args = append(args, "--listen", old.data, "--control", old.control)
	next := start(t, args...)
	old.exits(exitOK)
	create(next, "after")
	if err := next.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	next.wait()

	last := start(t, args...)
	for _, id := range []string{"before", "after"} {
		must(t, last.owner(data), client.Call{Operation: client.GetTenant, Path: []string{id}}, nil)
	}
}
