package insight_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/insight"
	"github.com/gatehouse-gateway/gatehouse/metering/database"
	"github.com/gatehouse-gateway/gatehouse/metering/servertest"
)

// A store of the release before, which knew no sources, loses no row, and
// takes new ones.
func TestUpgrade(t *testing.T) {
	first := fstest.MapFS{}
	for _, engine := range []string{"sqlite", "postgres"} {
		name := engine + "/00001_insight.sql"
		text, err := os.ReadFile(filepath.Join("migrations", name))
		if err != nil {
			t.Fatal(err)
		}
		first[name] = &fstest.MapFile{Data: text}
	}
	for _, address := range []string{filepath.Join(t.TempDir(), "journal.db"), servertest.Postgres(t)} {
		old, err := database.Open(t.Context(), database.Config{
			Address: address, Migrations: first, Versions: "insight_version", Lock: 1, Readers: 1, Connections: 4, WriteCache: 1024, ReadCache: 1024,
		})
		if err != nil {
			t.Fatal(err)
		}
		const rows = 100
		for i := range rows {
			if _, err := old.Write.Exec(`INSERT INTO insight_series (tenant, span, at, route, method, class, requests, denied, limited, bytes_in, bytes_out, times)
				VALUES ('studio', 60, $1, $2, 'GET', 2, 1, 0, 0, 0, 0, $3)`, noon.Unix(), fmt.Sprint("r", i), []byte{1, 1}); err != nil {
				t.Fatal(err)
			}
		}
		if err := old.Close(); err != nil {
			t.Fatal(err)
		}
		s, err := insight.Open(t.Context(), address)
		if err != nil {
			t.Fatal(err)
		}
		add(t, s, minute("r0", "GET", 2, noon, 1))
		got := series(t, s, control.AnalyticsQuery{Tenant: "studio", From: noon, To: noon.Add(time.Minute), Step: time.Minute}, noon)
		if want := fmt.Sprintf("12:00:00: %d, 0 errors", rows+2); !strings.Contains(got, want) {
			t.Errorf("%swant %s", got, want)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
