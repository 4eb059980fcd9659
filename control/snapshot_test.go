package control_test

import (
	"runtime"
	"testing"

	"github.com/gatehouse-gateway/gatehouse"
)

// A snapshot is shared for a while, but not with a data plane that has a later
// state: it would go back, and answer 404 for a tenant that it has served.
func TestSnapshotIsNotOlder(t *testing.T) {
	p, j := plane(t)
	shared, err := p.Snapshot(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.CreatePlan(t.Context(), gatehouse.Plan{ID: "gold"}, by); err != nil {
		t.Fatal(err)
	}
	head, err := j.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f := func(least, want uint64) {
		t.Helper()
		if got, err := p.Snapshot(t.Context(), least); err != nil || got.Revision != want {
			t.Errorf("for one at %d: %+v %v, want %d", least, got, err, want)
		}
	}
	f(0, shared.Revision)
	f(shared.Revision, shared.Revision)
	f(head.Seq, head.Seq)
	f(head.Seq+100, head.Seq) // of another journal
	runtime.KeepAlive(shared)
}
