package metering

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/gatehouse-gateway/gatehouse"
)

// Counts of two processes add up, key by key, whatever the names are: as if
// one had counted all of it.
func TestAdoptAddsUp(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		if err := os.RemoveAll(filepath.Join(dir, "usage.json")); err != nil {
			rt.Fatal(err)
		}
		who := rapid.OneOf(rapid.SampledFrom([][]byte{[]byte("ann"), []byte("bob"), []byte("\n"), nil}), rapid.SliceOfN(rapid.Byte(), 0, 200))
		small := rapid.Int64Range(0, 1<<40)
		one := open(t, "") // counts everything
		use := func(ms ...*Meter) {
			for range rapid.IntRange(0, 20).Draw(rt, "n") {
				tenant := rapid.SampledFrom([]gatehouse.TenantID{"acme", "umbrella"}).Draw(rt, "tenant")
				route := rapid.SampledFrom([]gatehouse.RouteID{"a", "b", ""}).Draw(rt, "route")
				principal, status := who.Draw(rt, "principal"), rapid.IntRange(0, 700).Draw(rt, "status")
				in, out, units := small.Draw(rt, "in"), small.Draw(rt, "out"), small.Draw(rt, "units")
				d := time.Duration(small.Draw(rt, "us")) * time.Microsecond
				for _, m := range ms {
					m.Tenant(tenant).Series(route, principal).Count(status, in, out, units, d)
				}
			}
		}
		old, heir := open(t, dir), OpenLater(0)
		use(old, one)
		use(heir, one)
		old.flush()
		if err := heir.Adopt(dir); err != nil {
			rt.Fatal(err)
		}
		use(heir, one)
		heir.flush()
		want := asJSON(t, []Usage{one.Usage("acme", noon), one.Usage("umbrella", noon)})
		for _, m := range []*Meter{heir, open(t, dir)} {
			if got := asJSON(t, []Usage{m.Usage("acme", noon), m.Usage("umbrella", noon)}); clean(got) != clean(want) {
				rt.Fatalf("got  %s\nwant %s", got, want)
			}
		}
	})
}

// What is counted while Adopt adds is neither lost nor doubled, also in a
// tenant whose series do not all fit.
func TestAdoptWhileCounting(t *testing.T) {
	const clients, each, kept = 4, 20_000, MaxSeries
	dir := t.TempDir()
	old := open(t, dir)
	for i := range kept { // some of them are counted again below
		old.Tenant("acme").Series("r", fmt.Append(nil, i%7, "-", i/7)).Count(200, 1, 2, unitsEach, 0)
	}
	old.flush()
	m := OpenLater(time.Millisecond)
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- m.Run(ctx) }()
	var counting sync.WaitGroup
	begun := make(chan struct{}, clients)
	for c := range clients {
		counting.Go(func() {
			acme := m.Tenant("acme")
			for i := range each {
				if i == each/10 {
					begun <- struct{}{}
				}
				acme.Series("r", fmt.Append(nil, c, "-", i%1000)).Count(200, 1, 2, unitsEach, 0)
			}
		})
	}
	for range clients {
		<-begun
	}
	if err := m.Adopt(dir); err != nil {
		t.Fatal(err)
	}
	counting.Wait()
	cancel()
	if err := <-ran; err != nil {
		t.Fatal(err)
	}
	const n = clients*each + kept
	want := fmt.Sprint(n, n, 2*n, n*unitsEach, n)
	for _, m := range []*Meter{m, open(t, dir)} {
		c := m.Usage("acme", noon).Total
		if got := fmt.Sprint(c.Requests, c.BytesIn, c.BytesOut, c.Units, c.Status.Success); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// Nothing is written before Adopt, and everything at the first flush after it.
func TestRunAdopts(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		old := open(t, dir)
		count(old, 3)
		old.flush()
		<-time.After(time.Second) // of the bubble's clock
		m := OpenLater(time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- m.Run(ctx) }()
		count(m, 4)
		<-time.After(10 * time.Second)
		if got := total(t, dir); got != 3 {
			t.Errorf("%d are written before Adopt, want 3", got)
		}
		if err := m.Adopt(dir); err != nil {
			t.Error(err)
		}
		<-time.After(2 * time.Second)
		if got := total(t, dir); got != 7 {
			t.Errorf("%d are written after Adopt, want 7", got)
		}
		if u := m.Usage("acme", noon); !u.Since.Equal(old.Usage("acme", noon).Since) {
			t.Errorf("since %v, not when the first process began", u.Since)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// An Adopt that fails adds nothing, is told, and may be repeated; one that
// succeeded may not.
func TestAdoptFaults(t *testing.T) {
	dir := t.TempDir()
	old := open(t, dir)
	count(old, 2)
	old.flush()
	path := filepath.Join(dir, "usage.json")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write := func(b []byte) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(whole[:len(whole)-2])
	m := OpenLater(0)
	count(m, 1)
	if err := m.Adopt(dir); err == nil || !strings.Contains(err.Error(), path) || m.Health() == nil {
		t.Errorf("half a file: %v, health %v", err, m.Health())
	}
	m.flush()
	if b, _ := os.ReadFile(path); len(b) != len(whole)-2 {
		t.Error("the file was changed")
	}
	write(whole)
	if err := m.Adopt(dir); err != nil || m.Health() != nil {
		t.Errorf("the whole file: %v, health %v", err, m.Health())
	}
	if err := m.Adopt(dir); err == nil {
		t.Error("a second Adopt is taken")
	}
	m.flush()
	if got := total(t, dir); got != 3 {
		t.Errorf("%d counted in the end, want 3", got)
	}
}
