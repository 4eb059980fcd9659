package ledger

import (
	"embed"
	"io/fs"
	"strings"

	"github.com/gatehouse-gateway/gatehouse/metering/database"
)

// engine is what runs the SQL. Both take the same but for what is below and
// the bulk statements.
type engine database.Engine

const (
	lite     = engine(database.SQLite)
	postgres = engine(database.Postgres)
)

// writerLock is PostgreSQL's advisory lock of whoever writes to the ledger: two
// writers would upsert one row in one order each, and wait for each other.
const writerLock = 0x67617465_6c656467

//go:embed migrations
var migrations embed.FS

// settings are how the ledger at an address is opened.
func settings(address string) (database.Config, error) {
	files, err := fs.Sub(migrations, "migrations")
	return database.Config{
		Address: address, Migrations: files, Versions: "metering_version", Lock: writerLock,
		Readers: 4, Connections: 8, WriteCache: 64 << 10, ReadCache: 16 << 10,
		// Queries take lists in JSON, whose length the planner guesses too high:
		// it would compile for a second what runs for a millisecond.
		Parameters: map[string]string{"jit": "off"},
	}, err
}

// list is a subquery of the strings of the JSON array in parameter p.
func (e engine) list(p string) string {
	if e == postgres {
		return "(SELECT jsonb_array_elements_text(" + p + "::jsonb))"
	}
	return "(SELECT value FROM json_each(" + p + "))"
}

// pairs is a subquery of the pairs of numbers (at, bucket) in the JSON array
// of arrays in parameter p.
func (e engine) pairs(p string) string {
	if e == postgres {
		return "(SELECT (value->>0)::integer AS at, (value->>1)::integer AS bucket FROM jsonb_array_elements(" + p + "::jsonb))"
	}
	return "(SELECT value->>0 AS at, value->>1 AS bucket FROM json_each(" + p + "))"
}

// join is JOIN in the order of writing, where the planner has no statistics
// to find a better one.
func (e engine) join() string {
	if e == postgres {
		return " JOIN "
	}
	return " CROSS JOIN "
}

// lookup joins slots b, the series s that where keeps, and the rows u of a
// table, each found by slot and series. Without OFFSET 0 PostgreSQL would read
// the table whole, because it takes lists in JSON to be long.
func (e engine) lookup(slots, where, table, on string) string {
	on += " AND u.series = s.id"
	if e == postgres {
		return slots + " CROSS JOIN (SELECT * FROM metering_series s WHERE true" + where + " OFFSET 0) s" +
			" CROSS JOIN LATERAL (SELECT * FROM " + table + " u WHERE " + on + " OFFSET 0) u"
	}
	return "metering_series s CROSS JOIN " + slots + " CROSS JOIN " + table + " u ON " + on + " WHERE true" + where
}

// tuples is (?,?,…),… for the columns, n times. Parameters with names are looked
// up by each other's at every call, which takes longer than the insertion.
func tuples(columns, n int) string {
	row := "(" + strings.Repeat("?,", columns-1) + "?)"
	return strings.Repeat(row+",", n-1) + row
}
