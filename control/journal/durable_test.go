package journal

import (
	"database/sql"
	"path/filepath"
	"testing"

	"github.com/gatehouse-gateway/gatehouse/metering/servertest"
)

// TestDurable holds the settings that make an acknowledged event outlast a
// loss of power, which no test can cause.
func TestDurable(t *testing.T) {
	open := func(address string) store {
		t.Helper()
		s, err := openStore(t.Context(), address)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open(filepath.Join(t.TempDir(), "journal.db"))
	defer s.close()
	setting := func(q querier, statement string) string {
		t.Helper()
		var v string
		rows, err := q.query(t.Context(), statement)
		if err := scan(rows, err, func(rows *sql.Rows) error { return rows.Scan(&v) }); err != nil {
			t.Fatal(err)
		}
		return v
	}
	writer := statements{plain: s.(*sqliteStore).conn}
	if got := setting(writer, "PRAGMA journal_mode") + " " + setting(writer, "PRAGMA synchronous"); got != "wal 2" {
		t.Errorf("SQLite writes with %s, want wal 2", got)
	}

	address := servertest.Postgres(t)
	p := open(address)
	if err := p.reading().exec(t.Context(), "DO $$ BEGIN EXECUTE 'ALTER DATABASE ' || current_database() || ' SET synchronous_commit = off'; END $$"); err != nil {
		t.Fatal(err)
	}
	p.close()
	p = open(address)
	defer p.close()
	w, err := p.begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer w.end()
	if got := setting(w, "SHOW synchronous_commit"); got != "on" {
		t.Errorf("PostgreSQL commits with synchronous_commit %s, want on", got)
	}
}
