package ledger

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"modernc.org/sqlite"

	"github.com/gatehouse-gateway/gatehouse/metering"
)

// faults fails one operation on the connections of a pool: a statement, or
// the commit, before it is done or after.
type faults struct {
	driver.Connector
	left  int  // operations until the one that fails; below 0: none does
	after bool // it is done, and fails nevertheless
	hit   string
}

var errFault = errors.New("fault")

// run does an operation.
func (f *faults) run(name string, do func() error, undo func() error) error {
	f.left--
	if f.left != 0 {
		return do()
	}
	f.hit = name
	if f.after {
		return errors.Join(do(), errFault)
	}
	return errors.Join(undo(), errFault)
}

func nothing() error { return nil }

func (f *faults) Connect(ctx context.Context) (driver.Conn, error) {
	c, err := f.Connector.Connect(ctx)
	return &faultyConn{c, f}, err
}

type faultyConn struct {
	driver.Conn
	f *faults
}

func (c *faultyConn) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	tx, err := c.Conn.(driver.ConnBeginTx).BeginTx(ctx, o)
	return faultyTx{tx, c.f}, err
}

func (c *faultyConn) ExecContext(ctx context.Context, q string, args []driver.NamedValue) (r driver.Result, err error) {
	err = c.f.run(q, func() error {
		r, err = c.Conn.(driver.ExecerContext).ExecContext(ctx, q, args)
		return err
	}, nothing)
	return r, err
}

func (c *faultyConn) QueryContext(ctx context.Context, q string, args []driver.NamedValue) (driver.Rows, error) {
	return c.Conn.(driver.QueryerContext).QueryContext(ctx, q, args)
}

func (c *faultyConn) PrepareContext(ctx context.Context, q string) (driver.Stmt, error) {
	s, err := c.Conn.(driver.ConnPrepareContext).PrepareContext(ctx, q)
	return &faultyStmt{s, q, c.f}, err
}

func (c *faultyConn) CheckNamedValue(v *driver.NamedValue) error {
	if checker, ok := c.Conn.(driver.NamedValueChecker); ok {
		return checker.CheckNamedValue(v)
	}
	return driver.ErrSkip
}

func (c *faultyConn) ResetSession(ctx context.Context) error {
	return c.Conn.(driver.SessionResetter).ResetSession(ctx)
}

type faultyStmt struct {
	driver.Stmt
	q string
	f *faults
}

func (s *faultyStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (r driver.Result, err error) {
	err = s.f.run(s.q, func() error {
		r, err = s.Stmt.(driver.StmtExecContext).ExecContext(ctx, args)
		return err
	}, nothing)
	return r, err
}

type faultyTx struct {
	driver.Tx
	f *faults
}

func (t faultyTx) Commit() error { return t.f.run("COMMIT", t.Tx.Commit, t.Rollback) }

// faulty is an empty ledger of an engine, and the faults of its writer.
func faulty(t *testing.T, e engine) (*Ledger, *faults) {
	t.Helper()
	path, inner := filepath.Join(t.TempDir(), "ledger.db"), driver.Connector(nil)
	if e == postgres {
		path = postgresURL(t)
		config, err := pgx.ParseConfig(path)
		if err != nil {
			t.Fatal(err)
		}
		inner = stdlib.GetConnector(*config)
	} else {
		c, err := sqlite.NewConnector("file:" + path + "?_txlock=immediate&_pragma=busy_timeout(10000)")
		if err != nil {
			t.Fatal(err)
		}
		inner = c
	}
	l := open(t, path)
	f := &faults{Connector: inner}
	if l.read != l.write {
		if err := l.write.Close(); err != nil {
			t.Fatal(err)
		}
	}
	l.write = sql.OpenDB(f)
	l.write.SetMaxOpenConns(1)
	return l, f
}

// TestFailpoints fails each statement and the commit of each kind of write in
// turn, before it is done and after. The ledger is then as it was, or, after
// a commit, as it is to be; and the same write again makes it so.
func TestFailpoints(t *testing.T) {
	for _, e := range []engine{lite, postgres} {
		t.Run(string(e), func(t *testing.T) {
			l, f := faulty(t, e)
			hits := 0
			try := func(name string, write func(n int) error, want func(n int) string) {
				for n, before := 1, ""; ; n++ {
					for _, after := range []bool{false, true} {
						before = state(t, l)
						f.left, f.after, f.hit = n, after, ""
						err := write(2*n + btoi(after))
						f.left = 0
						if f.hit == "" {
							return
						}
						hits++
						if !errors.Is(err, errFault) {
							t.Fatalf("%s: fault at %s was not told: %v", name, f.hit, err)
						}
						committed := f.hit == "COMMIT" && after
						if got := state(t, l); (got != before) != committed {
							t.Fatalf("%s: fault at %s, after %t: before\n%s\nafter\n%s", name, f.hit, after, before, got)
						}
						if err := write(2*n + btoi(after)); err != nil {
							t.Fatalf("%s again: %v", name, err)
						}
						same(t, state(t, l), want(2*n+btoi(after)))
					}
				}
			}
			var cells, events, adjustments int
			want := func(int) string { return fmt.Sprintf("%d %d %d", cells, events, adjustments) }
			last := map[string]int{}
			once := func(kind string, n int, counter *int) {
				if last[kind] != n {
					last[kind] = n
					*counter++
				}
			}
			try("cells", func(n int) error {
				once("cell", n, &cells)
				c := cell("2027-03-01 10:00", "acme", "orders", fmt.Sprint("m", n), 1)
				c.Series.Consumer = fmt.Sprint("c", n)
				c.Epoch.Counter = uint32(n)
				return l.Write(t.Context(), metering.Batch{Cells: []metering.Cell{c}, Seals: []metering.Seal{{Gateway: "g", Epoch: c.Epoch, Window: c.Window}}})
			}, want)
			try("event", func(n int) error {
				once("event", n, &events)
				e := event(fmt.Sprint(n))
				e.Consumer = fmt.Sprint("e", n)
				_, err := l.Record(t.Context(), []Event{e})
				return err
			}, want)
			try("adjustment", func(n int) error {
				once("adjustment", n, &adjustments)
				a := adjustment(fmt.Sprint(n))
				a.Consumer = fmt.Sprint("a", n)
				_, err := l.Adjust(t.Context(), a)
				return err
			}, want)
			sound(t, l)
			if hits < 20 {
				t.Errorf("%d faults only", hits)
			}
		})
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// state counts what is in the ledger.
func state(t *testing.T, l *Ledger) string {
	t.Helper()
	return fmt.Sprintf("%d %d %d", count(t, l, "metering_cell"), count(t, l, "metering_event"), count(t, l, "metering_adjustment"))
}
