package journal_test

import (
	"path/filepath"
	"testing"

	"github.com/gatehouse-gateway/gatehouse/control/journal/journaltest"
	"github.com/gatehouse-gateway/gatehouse/metering/servertest"
)

// stores are the addresses of empty stores, by name.
var stores = map[string]journaltest.Address{
	"SQLite":     func(t testing.TB) string { return filepath.Join(t.TempDir(), "journal.db") },
	"PostgreSQL": servertest.Postgres,
}

func TestJournal(t *testing.T) {
	t.Parallel()
	for name, address := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			journaltest.Suite(t, address)
		})
	}
}
