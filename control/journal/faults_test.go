package journal_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/gatehouse-gateway/gatehouse/control/journal"
	"github.com/gatehouse-gateway/gatehouse/control/journal/journaltest"
	"github.com/gatehouse-gateway/gatehouse/metering/servertest"
)

// TestDiskFull: on a full disk a change is refused as a whole, what there is
// stays readable, and with room again the journal goes on.
func TestDiskFull(t *testing.T) { // not parallel: the quota is the process's
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
		signal.Ignore(syscall.SIGXFSZ)
		t.Cleanup(func() { signal.Reset(syscall.SIGXFSZ) })
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
	t.Parallel()
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

// TestNotified: a control plane hears at once of what another one commits.
func TestNotified(t *testing.T) {
	t.Parallel()
	at := servertest.Postgres(t)
	from, to := journaltest.Open(t, journal.Config{Address: at}), journaltest.Open(t, journal.Config{Address: at})
	journaltest.Prompt(t, from, to)
}

// TestNewer: tables of a later release are left alone.
func TestNewer(t *testing.T) {
	t.Parallel()
	for name, address := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
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
	t.Parallel()
	for name, address := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
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

// TestUnknown loses the connection between the commit and its answer. The
// caller is told that the outcome is not known, and an idempotency key makes
// it safe to ask again.
func TestUnknown(t *testing.T) {
	t.Parallel()
	address := servertest.Postgres(t)
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	socket := "/.s.PGSQL.5432"
	var armed atomic.Bool
	cut := proxy(t, u.Query().Get("host")+socket, func(b []byte) bool {
		return bytes.Contains(b, []byte("COMMIT\x00")) && armed.CompareAndSwap(true, false)
	})
	u.RawQuery = url.Values{"host": {filepath.Dir(cut)}}.Encode()
	j := journaltest.Open(t, journal.Config{Address: u.String()})
	for i := range 3 {
		c := journal.Change{Actor: "a", Kind: "k", Idempotency: journal.Idempotency{Key: fmt.Sprint(i), Request: "r"}}
		armed.Store(true)
		if _, err := j.Commit(t.Context(), c); !errors.Is(err, journal.ErrUnknown) {
			t.Errorf("commit %d: %v", i, err)
		}
		if e, err := j.Commit(t.Context(), c); e.Seq != uint64(i)+1 || err != nil && !errors.Is(err, journal.ErrReplayed) {
			t.Errorf("asked again: %d %v", e.Seq, err)
		}
	}
	if head := journaltest.Sound(t, j); head.Seq != 3 {
		t.Errorf("%d events, want 3", head.Seq)
	}
}

// proxy listens on a socket, whose path it returns, and passes all on to
// another until what a client sends makes it cut that connection: it is passed
// on, its answer is not passed back.
func proxy(t *testing.T, to string, cut func([]byte) bool) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), ".s.PGSQL.5432")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	serve := func(client net.Conn) {
		defer client.Close()
		server, err := net.Dial("unix", to)
		if err != nil {
			return
		}
		defer server.Close()
		conns.Go(func() {
			io.Copy(client, server) //nolint:errcheck // it ends with either side
			client.Close()
		})
		b := make([]byte, 64<<10)
		for {
			n, err := client.Read(b)
			if err != nil {
				return
			}
			over := cut(b[:n])
			if over {
				client.Close()
			}
			if _, err := server.Write(b[:n]); err != nil || over {
				// What it was sent it does before it sees the end.
				return
			}
		}
	}
	conns.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() { serve(client) })
		}
	})
	t.Cleanup(func() { // after the journal's closing, which ends its connections
		l.Close()
		conns.Wait()
	})
	return path
}
