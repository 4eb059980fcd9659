package journal_test

import (
	"database/sql"
	"os"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse/control/journal"
	"github.com/gatehouse-gateway/gatehouse/control/journal/journaltest"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
)

// TestUpgrade opens a journal whose tables were made with goose's own list of
// versions, as once they were: what is in it stays, and no table is made again.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	for name, address := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := address(t)
			dialect, folder, driver, source := goose.DialectSQLite3, "sqlite", "sqlite", "file:"+at
			if strings.HasPrefix(at, "postgres:") {
				dialect, folder, driver, source = goose.DialectPostgres, "postgres", "pgx", at
			}
			db, err := sql.Open(driver, source)
			if err != nil {
				t.Fatal(err)
			}
			versions, err := database.NewStore(dialect, "gatehouse_migrations")
			if err != nil {
				t.Fatal(err)
			}
			p, err := goose.NewProvider(goose.DialectCustom, db, os.DirFS("migrations/"+folder), goose.WithStore(versions))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := p.UpTo(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			if _, err := db.Exec("INSERT INTO resources (kind, tenant, id, revision, created, updated, body) VALUES ('plan', '', 'kept', 0, 0, 0, $1)", []byte("{}")); err != nil {
				t.Fatal(err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			j := journaltest.Open(t, journal.Config{Address: at, Index: index})
			if _, err := j.Get(t.Context(), journal.Ref{Kind: "plan", ID: "kept"}); err != nil {
				t.Error(err)
			}
		})
	}
}
