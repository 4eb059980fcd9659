package journal

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse/metering/servertest"
)

// What changed last of a tenant is read from an index in its order, however
// much there is of the tenant, or of others: the first page and those after.
func TestNewestOfTenant(t *testing.T) {
	for name, address := range map[string]func() string{
		"SQLite":     func() string { return filepath.Join(t.TempDir(), "journal.db") },
		"PostgreSQL": func() string { return servertest.Postgres(t) },
	} {
		t.Run(name, func(t *testing.T) {
			j, err := Open(t.Context(), Config{Address: address()})
			if err != nil {
				t.Fatal(err)
			}
			defer j.Close()
			const each, limit = 1500, 2
			for _, tenant := range []string{"a", "b"} {
				c := Change{Actor: "test", Kind: "test"}
				for i := range each {
					c.Puts = append(c.Puts, Put{Ref: Ref{Kind: "policy", Tenant: tenant, ID: fmt.Sprintf("%08d", i)}, Body: []byte("{}")})
				}
				if _, err := j.Commit(t.Context(), c); err != nil {
					t.Fatal(err)
				}
			}
			tenant, after := "a", ""
			for want := each - 1; want > each-10; want -= limit {
				q := Query{Kind: "policy", Tenant: &tenant, Order: ByNewest, Limit: limit, After: after}
				s, err := j.search(t.Context(), q)
				if err != nil {
					t.Fatal(err)
				}
				plan := explain(t, j, s)
				if !strings.Contains(plan, "resources_tenant") || strings.Contains(plan, "B-TREE") || strings.Contains(plan, "Sort") {
					t.Errorf("page to %q:\n%s", after, plan)
				}
				for _, m := range actual.FindAllStringSubmatch(plan, -1) {
					if n, err := strconv.ParseFloat(m[1], 64); err != nil || n > limit+1 {
						t.Errorf("%s rows were read for a page of %d:\n%s", m[1], limit, plan)
					}
				}
				page, err := j.List(t.Context(), q)
				if err != nil || len(page.Items) != limit || page.Items[0].ID != fmt.Sprintf("%08d", want) || page.Items[1].ID != fmt.Sprintf("%08d", want-1) {
					t.Fatalf("after %q: %+v, %v", after, page, err)
				}
				after = page.Next
			}
		})
	}
}

// actual is how many rows a step of PostgreSQL's plan gave or left out.
var actual = regexp.MustCompile(`(?:actual time=[0-9.]+ rows=|Rows Removed by Filter: )([0-9.]+)`)

// explain is how a statement is run, as the database tells it.
func explain(t *testing.T, j *Journal, s *statement) string {
	t.Helper()
	prefix := "EXPLAIN QUERY PLAN "
	if _, ok := j.store.(*postgresStore); ok {
		prefix = "EXPLAIN (ANALYZE, TIMING) "
	}
	rows, err := j.q.query(t.Context(), prefix+s.text.String(), s.args...)
	var lines []string
	err = scan(rows, err, func(rows *sql.Rows) error {
		columns, err := rows.Columns()
		if err != nil {
			return err
		}
		values := make([]any, len(columns))
		for i := range values {
			values[i] = new(any)
		}
		if err := rows.Scan(values...); err != nil {
			return err
		}
		lines = append(lines, fmt.Sprint(*values[len(values)-1].(*any)))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}
