package journal_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/gatehouse-gateway/gatehouse/control/journal"
	"github.com/gatehouse-gateway/gatehouse/control/journal/journaltest"
	"github.com/gatehouse-gateway/gatehouse/metering/servertest"
)

// TestDiskFull: on a full disk a change is refused as a whole, what there is
// stays readable, and with room again the journal goes on.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	small := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=3m") == nil
	if small {
		t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) }) //nolint:errcheck // the folder is removed next
	}
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	limit := syscall.Rlimit{}
	if !small { // who may not mount has a quota instead
		if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 2 << 20, Max: limit.Max}); err != nil {
			t.Fatal(err)
		}
	}
	room := func() {
		if small {
			os.Remove(ballast)
		} else if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
			t.Fatal(err)
		}
	}
	j := journaltest.Open(t, journal.Config{Address: filepath.Join(dir, "journal.db"), Index: index})
	body := []byte(`{"plan":"p","x":"` + strings.Repeat("x", 20000) + `"}`)
	put := func(i int) (journal.Event, error) {
		c := journal.Change{Actor: "a", Kind: "k"}
		for _, id := range []string{"x", "y"} {
			c.Puts = append(c.Puts, journal.Put{Ref: journal.Ref{Kind: "tenant", Tenant: fmt.Sprint(i), ID: id}, Body: body})
		}
		return j.Commit(t.Context(), c)
	}
	done := 0
	for ; done < 1000; done++ {
		if _, err := put(done); err != nil {
			if small && !errors.Is(err, journal.ErrFull) {
				t.Errorf("the error is not that the disk is full: %v", err)
			}
			break
		}
	}
	if done == 0 || done == 1000 {
		t.Fatalf("%d events fitted", done)
	}
	for i := range 3 { // and it stays so
		if _, err := put(1000 + i); err == nil {
			t.Error("there was room after all: the test shows nothing")
		}
	}
	if head := journaltest.Sound(t, j); head.Seq != uint64(done) {
		t.Errorf("%d events, %d were acknowledged", head.Seq, done)
	}
	room()
	if e, err := put(done); err != nil || e.Seq != uint64(done)+1 {
		t.Errorf("with room again: %d %v", e.Seq, err)
	}
	journaltest.Sound(t, j)
}

// TestConnectionsLost: the server may drop every connection; a change is then
// written or refused, and the next one finds a new connection.
func TestConnectionsLost(t *testing.T) {
	v := open(t, servertest.Postgres(t))
	v.fill(3)
	watched := make(chan uint64)
	go func() {
		defer close(watched)
		for e, err := range v.j.Watch(t.Context(), 3) {
			if err != nil {
				return
			}
			watched <- e.Seq
		}
	}()
	for range 3 {
		v.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
		v.fill(1)
	}
	if head := journaltest.Sound(t, v.j); head.Seq != 6 {
		t.Errorf("%d events, want 6", head.Seq)
	}
	if first, ok := <-watched; ok && first != 4 { // a watch may end with the error of its read
		t.Errorf("watched %d, want 4", first)
	}
	v.j.Close()
	for range watched {
	}
}

// TestNewer: tables of a later release are left alone.
func TestNewer(t *testing.T) {
	for name, address := range stores {
		t.Run(name, func(t *testing.T) {
			at := address(t)
			v := open(t, at)
			v.exec("INSERT INTO gatehouse_migrations (version_id, is_applied) VALUES (99, ?)", true)
			if _, err := journal.Open(t.Context(), journal.Config{Address: at}); err == nil || !strings.Contains(err.Error(), "version 99") {
				t.Errorf("open: %v", err)
			}
		})
	}
}

// TestAtOnce: processes that start together make the tables once.
func TestAtOnce(t *testing.T) {
	for name, address := range stores {
		t.Run(name, func(t *testing.T) {
			at := address(t)
			concurrently(6, 6, func(int) {
				j, err := journal.Open(t.Context(), journal.Config{Address: at, Index: index})
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := j.Commit(t.Context(), journal.Change{Actor: "a", Kind: "k"}); err != nil {
					t.Error(err)
				}
				if err := j.Close(); err != nil {
					t.Error(err)
				}
			})
			if head := journaltest.Sound(t, journaltest.Open(t, journal.Config{Address: at, Index: index})); head.Seq != 6 {
				t.Errorf("%d events, want 6", head.Seq)
			}
		})
	}
}
