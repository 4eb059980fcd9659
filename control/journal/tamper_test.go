package journal_test

import (
	"database/sql"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse/control/journal"
	"github.com/gatehouse-gateway/gatehouse/control/journal/journaltest"
)

// vault is a journal with a second way in.
type vault struct {
	*testing.T
	j        *journal.Journal
	db       *sql.DB
	postgres bool
}

func open(t *testing.T, address string) *vault {
	t.Helper()
	v := &vault{T: t, j: journaltest.Open(t, journal.Config{Address: address, Index: index, Clock: journaltest.NewClock().Now})}
	var err error
	if v.postgres = strings.HasPrefix(address, "postgres:"); v.postgres {
		v.db, err = sql.Open("pgx", address+"&synchronous_commit=off") // what it does need not last
	} else {
		v.db, err = sql.Open("sqlite", "file:"+address+"?_pragma=busy_timeout(10000)&_pragma=synchronous(OFF)")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.db.Close() })
	return v
}

func (v *vault) exec(statement string, args ...any) {
	v.Helper()
	if !v.try(statement, args...) {
		v.Fatalf("%s was refused", statement)
	}
}

// try tells whether the database did it.
func (v *vault) try(statement string, args ...any) bool {
	v.Helper()
	if v.postgres {
		for i := range args {
			statement = strings.Replace(statement, "?", fmt.Sprint("$", i+1), 1)
		}
	}
	_, err := v.db.Exec(statement, args...)
	return err == nil
}

func (v *vault) found(state bool, against ...journal.Checkpoint) string {
	v.Helper()
	f := v.j.Verify
	if state {
		f = v.j.VerifyState
	}
	r, err := f(v.Context(), against...)
	if err != nil {
		v.Fatal(err)
	}
	if r.Fault == nil {
		return "nothing"
	}
	return fmt.Sprint(r.Fault.Kind, " ", r.Fault.Seq)
}

func (v *vault) fill(n int) {
	v.Helper()
	for i := range n {
		c := journal.Change{Actor: "a", Kind: "k", Tenant: "t", Subject: "s", Why: fmt.Sprint(i)}
		if i%3 != 2 {
			r := journal.Ref{Kind: "tenant", Tenant: "t", ID: fmt.Sprint(i % 2)}
			c.Puts = append(c.Puts, journal.Put{Ref: r, Body: []byte(`{"plan":"p"}`)})
		}
		if _, err := v.j.Commit(v.Context(), c); err != nil {
			v.Fatal(err)
		}
	}
}

// flipped returns value with one bit changed.
func flipped(value any, bit int) any {
	flip := func(b []byte) []byte {
		b = append([]byte{}, b...)
		b[bit/8] ^= 1 << (bit % 8)
		return b
	}
	switch x := value.(type) {
	case int64:
		return int64(binary.BigEndian.Uint64(flip(binary.BigEndian.AppendUint64(nil, uint64(x)))))
	case string:
		return string(flip([]byte(x)))
	case []byte:
		return flip(x)
	}
	panic(fmt.Sprintf("%T", value))
}

func bits(value any) int {
	switch x := value.(type) {
	case string:
		return 8 * len(x)
	case []byte:
		return 8 * len(x)
	}
	return 64
}

var eventColumns = []string{"seq", "at", "actor", "kind", "tenant", "subject", "body", "prev_hash", "hash"}

// TestFlips changes every bit of every column of every event in the store, one
// at a time.
func TestFlips(t *testing.T) {
	t.Parallel()
	for name, address := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := open(t, address(t))
			n := int64(3)
			if *every {
				n = 50
			}
			v.fill(int(n))
			flips, refused := 0, 0
			for seq := int64(1); seq <= n; seq++ {
				for _, column := range eventColumns {
					var value any
					v.read(&value, "SELECT "+column+" FROM events WHERE seq = ?", seq)
					for bit := range bits(value) {
						other := flipped(value, bit)
						now := seq
						if column == "seq" {
							now = other.(int64)
						}
						if !v.try("UPDATE events SET "+column+" = ? WHERE seq = ?", other, seq) {
							refused++ // two events of a number, text that is not UTF-8
							continue
						}
						flips++
						got := v.found(false)
						want := fmt.Sprint("changed ", seq)
						if column == "seq" {
							want = fmt.Sprint("missing ", seq)
							if now < 1 && seq == n {
								want = fmt.Sprint("truncated ", seq)
							}
						}
						if got != want {
							t.Errorf("bit %d of %s of event %d: %s, want %s", bit, column, seq, got, want)
						}
						v.exec("UPDATE events SET "+column+" = ? WHERE seq = ?", value, now)
					}
				}
			}
			if got := v.found(true); got != "nothing" {
				t.Errorf("in the end: %s", got)
			}
			t.Logf("%d flips found, %d refused by the database", flips, refused)
		})
	}
}

func (v *vault) read(to any, statement string, args ...any) {
	v.Helper()
	if v.postgres {
		statement = strings.Replace(statement, "?", "$1", 1)
	}
	if err := v.db.QueryRow(statement, args...).Scan(to); err != nil {
		v.Fatal(err)
	}
}

// TestMoved deletes, swaps and cuts off events, every way there is.
func TestMoved(t *testing.T) {
	t.Parallel()
	for name, address := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := open(t, address(t))
			const n = 5
			v.fill(n)
			head := journaltest.Sound(t, v.j)
			v.exec("CREATE TABLE saved AS SELECT * FROM events")
			v.exec("CREATE TABLE saved_head AS SELECT * FROM head")
			check := func(what, got, want string) {
				t.Helper()
				if got != want {
					t.Errorf("%s: %s, want %s", what, got, want)
				}
				v.exec("DELETE FROM events")
				v.exec("INSERT INTO events SELECT * FROM saved")
				v.exec("DELETE FROM head")
				v.exec("INSERT INTO head SELECT * FROM saved_head")
			}
			for a := 1; a <= n; a++ {
				v.exec("DELETE FROM events WHERE seq = ?", a)
				want := fmt.Sprint("missing ", a)
				if a == n {
					want = fmt.Sprint("truncated ", a)
				}
				check(fmt.Sprint("delete ", a), v.found(false), want)

				v.exec("DELETE FROM events WHERE seq >= ?", a)
				check(fmt.Sprint("cut at ", a), v.found(false), fmt.Sprint("truncated ", a))

				// With the head's record mended only a checkpoint tells.
				v.exec("DELETE FROM events WHERE seq >= ?", a)
				if a > 1 {
					v.exec("UPDATE head SET seq = ?, hash = (SELECT hash FROM events WHERE seq = ?)", a-1, a-1)
				} else {
					v.exec("UPDATE head SET seq = 0, at = 0, hash = (SELECT prev_hash FROM saved WHERE seq = 1)")
				}
				check(fmt.Sprint("neatly cut at ", a), v.found(false, head), fmt.Sprint("truncated ", a))

				// The event before stands for the deleted one.
				if a > 1 {
					v.exec("DELETE FROM events WHERE seq = ?", a)
					v.exec("UPDATE events SET seq = ? WHERE seq = ?", a, a-1)
					check(fmt.Sprint("moved to ", a), v.found(false), fmt.Sprint("missing ", a-1))
				}
				for b := a + 1; b <= n; b++ {
					v.exec("UPDATE events SET seq = 100 WHERE seq = ?", a)
					v.exec("UPDATE events SET seq = ? WHERE seq = ?", a, b)
					v.exec("UPDATE events SET seq = ? WHERE seq = 100", b)
					check(fmt.Sprint("swap ", a, " ", b), v.found(false), fmt.Sprint("reordered ", a))
				}
			}
			v.exec("INSERT INTO events SELECT seq - 5, at, actor, kind, tenant, subject, body, prev_hash, hash FROM saved WHERE seq = 3")
			check("a stranger before the first", v.found(false), "changed 0")
			v.exec("INSERT INTO events SELECT seq + 3, at, actor, kind, tenant, subject, body, prev_hash, hash FROM saved WHERE seq = 3")
			check("a copy after the last", v.found(false), "reordered 6")
			if got := v.found(true); got != "nothing" {
				t.Errorf("in the end: %s", got)
			}
		})
	}
}

// TestRewritten: an event that was given the fitting hash is found where it
// is, as long as the next one is as it was.
func TestRewritten(t *testing.T) {
	t.Parallel()
	for name, address := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := open(t, address(t))
			v.fill(5)
			for seq := int64(1); seq < 5; seq++ {
				e, err := v.j.Event(t.Context(), uint64(seq))
				if err != nil {
					t.Fatal(err)
				}
				fit := journal.Rehash(e, "mallory")
				v.exec("UPDATE events SET actor = 'mallory', hash = ? WHERE seq = ?", fit[:], seq)
				if got, want := v.found(false), fmt.Sprint("changed ", seq); got != want {
					t.Errorf("rewritten %d: %s, want %s", seq, got, want)
				}
				v.exec("UPDATE events SET actor = 'a', hash = ? WHERE seq = ?", e.Hash[:], seq)
			}
		})
	}
}

// TestTables changes every column of the tables that are the events' fold.
func TestTables(t *testing.T) {
	t.Parallel()
	for name, address := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := open(t, address(t))
			v.fill(5)
			for table, columns := range map[string]string{
				"resources": "kind tenant id revision created updated body",
				"touched":   "kind tenant id seq",
				"fields":    "kind name value tenant id",
				"head":      "seq at hash",
			} {
				v.exec("CREATE TABLE saved AS SELECT * FROM " + table)
				restore := func() {
					v.exec("DELETE FROM " + table)
					v.exec("INSERT INTO " + table + " SELECT * FROM saved")
				}
				for column := range strings.FieldsSeq(columns) {
					var value any
					v.read(&value, "SELECT "+column+" FROM "+table+" WHERE ? = 1 LIMIT 1", 1)
					for bit := 0; bit < bits(value); bit += 11 {
						if v.try("UPDATE "+table+" SET "+column+" = ? WHERE "+column+" = ?", flipped(value, bit), value) && v.found(true) == "nothing" {
							t.Errorf("bit %d of %s of %s was not found", bit, column, table)
						}
						restore()
					}
				}
				if table != "head" {
					v.exec("DELETE FROM " + table + " WHERE id = '1'")
					if got := v.found(true); got != "state 0" {
						t.Errorf("a deleted row of %s: %s", table, got)
					}
					if err := v.j.Rebuild(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				if got := v.found(true); got != "nothing" {
					t.Errorf("%s in the end: %s", table, got)
				}
				v.exec("DROP TABLE saved")
			}
		})
	}
}

// TestLongFlips flips bits here and there in a long journal.
func TestLongFlips(t *testing.T) {
	t.Parallel()
	for name, address := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := open(t, address(t))
			n, samples := 2000, 4
			if *every {
				n, samples = 10000, 500
			}
			concurrently(64, n, func(i int) {
				if _, err := v.j.Commit(t.Context(), journal.Change{Actor: "a", Kind: "k", Tenant: "t", Subject: "s", Why: fmt.Sprint(i)}); err != nil {
					t.Error(err)
				}
			})
			for range samples {
				seq, column := rand.Int64N(int64(n))+1, eventColumns[1+rand.IntN(len(eventColumns)-1)]
				var value any
				v.read(&value, "SELECT "+column+" FROM events WHERE seq = ?", seq)
				other := flipped(value, rand.IntN(bits(value)))
				if !v.try("UPDATE events SET "+column+" = ? WHERE seq = ?", other, seq) {
					continue
				}
				if got, want := v.found(false), fmt.Sprint("changed ", seq); got != want {
					t.Errorf("%s of event %d: %s", column, seq, got)
				}
				v.exec("UPDATE events SET "+column+" = ? WHERE seq = ?", value, seq)
			}
			if got := v.found(false); got != "nothing" {
				t.Errorf("in the end: %s", got)
			}
		})
	}
}
