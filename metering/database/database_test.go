package database_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/gatehouse-gateway/gatehouse/metering/database"
	"github.com/gatehouse-gateway/gatehouse/metering/servertest"
)

var addresses = map[database.Engine]func(testing.TB) string{
	database.SQLite:   func(t testing.TB) string { return filepath.Join(t.TempDir(), "x.db") },
	database.Postgres: servertest.Postgres,
}

// release is what a release knows: n migrations.
func release(n int) fs.FS {
	files := fstest.MapFS{}
	for i := range n {
		for engine := range addresses {
			files[fmt.Sprintf("%s/%05d_t.sql", engine, i+1)] = &fstest.MapFile{Data: fmt.Appendf(nil, "-- +goose Up\nCREATE TABLE t%d (n INTEGER);\n-- +goose Down\nDROP TABLE t%d;\n", i+1, i+1)}
		}
	}
	return files
}

func config(address string, n int) database.Config {
	return database.Config{Address: address, Migrations: release(n), Versions: "t_version", Lock: 7, Readers: 2, Connections: 4, WriteCache: 1024, ReadCache: 1024}
}

func open(t *testing.T, c database.Config) *database.DB {
	t.Helper()
	d, err := database.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// Tables are brought up to date with what is in them; those of a later release
// are refused, and stay as they are.
func TestMigrations(t *testing.T) {
	for engine, address := range addresses {
		t.Run(string(engine), func(t *testing.T) {
			at := address(t)
			first := open(t, config(at, 1))
			if first.Engine != engine {
				t.Errorf("engine %s", first.Engine)
			}
			if _, err := first.Write.Exec("INSERT INTO t1 VALUES (42)"); err != nil {
				t.Fatal(err)
			}
			second := open(t, config(at, 2))
			var n int
			if err := second.Read.QueryRow("SELECT n FROM t1 UNION SELECT n FROM t2").Scan(&n); err != nil || n != 42 {
				t.Error(n, err)
			}
			if _, err := database.Open(t.Context(), config(at, 1)); !errors.Is(err, database.ErrNewer) {
				t.Errorf("an earlier release: %v", err)
			}
		})
	}
}

// Processes that open a new database at once all find its tables.
func TestOpenAtOnce(t *testing.T) {
	for engine, address := range addresses {
		t.Run(string(engine), func(t *testing.T) {
			at := address(t)
			var running sync.WaitGroup
			for range 8 {
				running.Go(func() {
					d, err := database.Open(t.Context(), config(at, 3))
					if err != nil {
						t.Error(err)
						return
					}
					if _, err := d.Write.Exec("INSERT INTO t3 VALUES (1)"); err != nil {
						t.Error(err)
					}
					if err := d.Close(); err != nil {
						t.Error(err)
					}
				})
			}
			running.Wait()
		})
	}
}

// What is committed is on the disk, unless it is said that it need not be.
func TestDurable(t *testing.T) {
	for engine, address := range addresses {
		for _, lazy := range []bool{false, true} {
			at := address(t)
			c := config(at, 1)
			c.Lazy = lazy
			d := open(t, c)
			question, want := "PRAGMA synchronous", map[bool]string{false: "2", true: "1"}
			if engine == database.Postgres {
				if _, err := d.Write.Exec("DO $$ BEGIN EXECUTE 'ALTER DATABASE ' || current_database() || ' SET synchronous_commit = off'; END $$"); err != nil {
					t.Fatal(err)
				}
				d = open(t, c)
				question, want = "SHOW synchronous_commit", map[bool]string{false: "on", true: "off"}
			}
			var got string
			if err := d.Write.QueryRow(question).Scan(&got); err != nil || got != want[lazy] {
				t.Errorf("%s, lazy %v: %q %v", engine, lazy, got, err)
			}
		}
	}
}

// The file is its owner's alone, with all that is beside it: a new one, and
// one that an earlier release left readable to all.
func TestPrivate(t *testing.T) {
	dir := t.TempDir()
	for name, before := range map[string]fs.FileMode{"new.db": 0, "old.db": 0o644, "shared.db": 0o660} {
		path := filepath.Join(dir, name)
		if before != 0 {
			for _, file := range []string{path, path + "-wal"} {
				if err := os.WriteFile(file, nil, 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Chmod(file, before); err != nil {
					t.Fatal(err)
				}
			}
		}
		open(t, config(path, 1))
		found, err := filepath.Glob(path + "*")
		if err != nil || len(found) != 3 {
			t.Fatal(found, err)
		}
		for _, file := range found {
			info, err := os.Stat(file)
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v %v", file, info.Mode(), err)
			}
		}
	}
	if _, err := database.Open(t.Context(), config("", 1)); err == nil {
		t.Error("without an address")
	}
}
