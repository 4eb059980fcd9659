package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/metering/servertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// onBoth runs f on an empty ledger in SQLite and one in PostgreSQL.
func onBoth(t *testing.T, f func(t *testing.T, l *Ledger)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { f(t, open(t, filepath.Join(t.TempDir(), "ledger.db"))) })
	t.Run("postgres", func(t *testing.T) { f(t, open(t, postgresURL(t))) })
}

// postgresURL is of an empty database that does not wait for the disk.
func postgresURL(t *testing.T) string {
	t.Helper()
	return servertest.Postgres(t) + "&synchronous_commit=off"
}

func open(t testing.TB, dsn string) *Ledger {
	t.Helper()
	l, err := Open(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	l.now = func() time.Time { return noon }
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

var noon = time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)

func at(text string) time.Time {
	t, err := time.Parse("2006-01-02 15:04", text)
	if err != nil {
		panic(err)
	}
	return t
}

// cell is of gateway g, epoch 1, and consumer c.
func cell(minute string, tenant gatehouse.TenantID, route gatehouse.RouteID, meter string, value int64) metering.Cell {
	return metering.Cell{
		Gateway: "g", Epoch: metering.Epoch{Counter: 1, Nonce: 1<<63 + 5}, Window: at(minute),
		Series: metering.SeriesKey{Tenant: tenant, Route: route, Consumer: "c", Plan: "free"},
		Meter:  meter, Value: value,
	}
}

func seal(minute string) metering.Seal {
	return metering.Seal{Gateway: "g", Epoch: metering.Epoch{Counter: 1, Nonce: 1<<63 + 5}, Window: at(minute)}
}

func write(t testing.TB, l *Ledger, cells []metering.Cell, seals ...metering.Seal) {
	t.Helper()
	if err := l.Write(t.Context(), metering.Batch{Cells: cells, Seals: seals}); err != nil {
		t.Fatal(err)
	}
}

// sound fails the test if kept sums are not those of what they sum.
func sound(t testing.TB, l *Ledger) {
	t.Helper()
	if err := l.Check(context.Background(), time.Unix(firstMinute*60, 0), time.Unix(lastMinute*60, 0)); err != nil {
		t.Error(err)
	}
}

// show is an answer as text.
func show(u Usage) string {
	s := fmt.Sprintf("%s of %s, sealed %s, complete %t\n", u.Total.String(), u.Unit, clock(u.SealedUntil), u.Complete)
	for _, i := range u.Items {
		s += fmt.Sprintf("%s %s %s", clock(i.Start), clock(i.End), i.Value.String())
		for _, d := range []Dimension{Tenant, Route, Consumer, Plan} {
			if v, ok := i.Group[d]; ok {
				s += " " + string(d) + "=" + v
			}
		}
		s += "\n"
	}
	if u.Next != "" {
		s += "more\n"
	}
	return s
}

func clock(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format("01-02T15:04")
}

func usageOf(t testing.TB, l *Ledger, q Query) Usage {
	t.Helper()
	u, err := l.Usage(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func same(t testing.TB, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// count is the rows of a table.
func count(t testing.TB, l *Ledger, table string) (n int) {
	t.Helper()
	err := l.view(t.Context(), func(tx *sql.Tx) error {
		return tx.QueryRow("SELECT count(*) FROM " + table).Scan(&n)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}
