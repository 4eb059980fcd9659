package metering

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// Threads that meet in a series get stripes of it, and no count is lost.
func TestStripes(t *testing.T) {
	b := newBench(t)
	m := b.open(b.options())
	s := m.Tenant("acme").Series("", "r", nil)
	s.Count(200, 1, 2, 0, 0)
	s.contended.Store(promoteAt - 1)
	s.first.mu.Lock()
	done := make(chan bool)
	go func() {
		s.Count(200, 1, 2, 0, 0)
		close(done)
	}()
	for deadline := time.After(10 * time.Second); s.more.Load() == nil; {
		select {
		case <-deadline:
			t.Fatal("the series has no stripes")
		default:
		}
	}
	s.first.mu.Unlock()
	<-done
	for range 100 {
		s.Count(200, 1, 2, 0, 0)
	}
	if n := len(s.records); n < 3 {
		t.Errorf("%d records", n)
	}
	want := "102 102 204"
	got := func(m *Meter) string {
		c := m.Usage("acme", noon).Total
		return fmt.Sprint(c.Requests, c.BytesIn, c.BytesOut)
	}
	if got(m) != want {
		t.Errorf("got %s, want %s", got(m), want)
	}
	b.pass(m, 70*time.Second)
	b.pass(m, 3*time.Second)
	s.Count(200, 0, 0, 0, 0)
	b.pass(m, time.Second)
	die(m)
	m = b.open(b.options())
	if want = "103 102 204"; got(m) != want {
		t.Errorf("after a kill: got %s, want %s", got(m), want)
	}
	end(t, m)
}

// A live file grows by segments, and what does not fit into it is counted in
// memory, told, and in the log after the next flush.
func TestLiveGrows(t *testing.T) {
	const series = 600
	f := func(bound int, full bool) {
		t.Helper()
		b := newBench(t)
		m := b.open(b.options())
		m.live.bound = bound
		var flights []*Flight
		use := func() {
			for i := range series {
				f := m.Tenant("acme").Series("gold", "r", fmt.Append(nil, "user-", i)).Begin(noon)
				f.Answer(&Answer{Status: 200})
				flights = append(flights, f)
			}
		}
		use()
		for _, f := range flights {
			f.End()
		}
		b.pass(m, time.Minute)
		flights = nil
		use()
		told := slices.ContainsFunc(b.told, func(e Event) bool { return e.What == "counts do not survive a kill" })
		if told != full {
			t.Errorf("bound %d: told %v", bound, b.told)
		}
		if full {
			b.pass(m, time.Second)
		}
		die(m)
		m = b.open(b.options())
		if got := m.Usage("acme", noon).Total.Requests; got != 2*series {
			t.Errorf("bound %d: %d requests of %d", bound, got, 2*series)
		}
		if n := len(m.Recoveries()[0].Interrupted); !full && n != series {
			t.Errorf("bound %d: %d were interrupted of %d", bound, n, series)
		}
		end(t, m)
	}
	f(liveSegments, false)
	f(2, true)
}

// A kill between a seal and the release of its records: they are in the log
// and in the live file, and count once.
func TestKillAfterSeal(t *testing.T) {
	b := newBench(t)
	m := b.open(b.options())
	count(m, 3)
	before, err := readLive(m.flush.meta)
	if err != nil || len(before) == 0 {
		t.Fatal(len(before), err)
	}
	b.pass(m, 70*time.Second)
	die(m)
	if m.flush.sealed != minute(noon) {
		t.Fatal("the minute is not sealed")
	}
	for i, b := range before {
		if err := os.WriteFile(livePath(m.flush.meta.Live, i), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m = b.open(b.options())
	if got := m.Usage("acme", noon).Total.Requests; got != 3 || !m.Recoveries()[0].Live {
		t.Errorf("%d requests, want 3: %+v", got, m.Recoveries())
	}
	end(t, m)
}

// A live file that is not what it was made as is not believed.
func TestLiveDamage(t *testing.T) {
	f := func(name string, spoil func(path string) error) {
		t.Helper()
		b := newBench(t)
		m := b.open(b.options())
		count(m, 3)
		m.tick()
		count(m, 4)
		die(m)
		if err := spoil(livePath(m.flush.meta.Live, 0)); err != nil {
			t.Fatal(err)
		}
		m = b.open(b.options())
		if got := m.Usage("acme", noon).Total.Requests; got != 3 || m.Recoveries()[0].Live {
			t.Errorf("%s: %d requests, want the 3 of the log", name, got)
		}
		end(t, m)
	}
	change := func(at int64) func(string) error {
		return func(path string) error {
			file, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			defer file.Close()
			was := make([]byte, 1)
			if _, err := file.ReadAt(was, at); err != nil {
				return err
			}
			_, err = file.WriteAt([]byte{^was[0]}, at)
			return err
		}
	}
	f("magic", change(0))
	f("header", change(40))
	f("shorter", func(path string) error { return os.Truncate(path, 8<<10) })
	f("empty", func(path string) error { return os.Truncate(path, 0) })
	f("gone", os.Remove)
	f("all of it gone", func(path string) error { return os.RemoveAll(filepath.Dir(path)) })
}
