package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
)

// Usage answers q from one snapshot of the ledger. It fails with
// gatehouse.CodeInvalid where q makes no sense.
func (l *Ledger) Usage(ctx context.Context, q Query) (Usage, error) {
	a, err := q.check()
	if err != nil {
		return Usage{}, err
	}
	u := Usage{
		Meter: a.Meter, Unit: unit(a.Meter), From: timeOf(a.from), To: timeOf(a.to), Window: a.Window,
		Items: []Item{}, AsOf: l.now().UTC(),
	}
	err = l.view(ctx, func(tx *sql.Tx) error {
		sealed, err := sealedUntil(ctx, tx)
		if err != nil {
			return err
		}
		if sealed > 0 {
			u.SealedUntil = timeOf(sealed)
		}
		u.Complete = sealed >= a.to
		r, err := l.reader(ctx, tx, a)
		if err != nil {
			return err
		}
		if u.Total, err = r.total(); err != nil {
			return err
		}
		if a.Window == None && len(a.GroupBy) == 0 {
			return nil
		}
		u.Items, u.Next, err = r.items()
		return err
	})
	if err != nil {
		return Usage{}, fmt.Errorf("read usage: %w", err)
	}
	return u, nil
}

// reader sums on one snapshot.
type reader struct {
	*asked
	ctx    context.Context
	tx     *sql.Tx
	engine engine
	meter  int64
	// few: the filter keeps a small share of the series, so that each is
	// looked up in each slot, instead of reading the slots whole.
	few bool
}

func (l *Ledger) reader(ctx context.Context, tx *sql.Tx, a *asked) (*reader, error) {
	r := &reader{asked: a, ctx: ctx, tx: tx, engine: l.engine}
	err := tx.QueryRowContext(ctx, "SELECT coalesce(max(id), 0) FROM metering_meter WHERE name = $1", a.Meter).Scan(&r.meter)
	if err != nil {
		return nil, err
	}
	const enough = 100_000 // series; counting more would take longer than it saves
	where, args := r.where(0)
	var all, kept int
	if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM (SELECT 1 FROM metering_series LIMIT $1) s", enough).Scan(&all); err != nil {
		return nil, err
	}
	if where == "" {
		return r, nil
	}
	query := fmt.Sprintf("SELECT count(*) FROM (SELECT 1 FROM metering_series s WHERE %s LIMIT %d) s",
		strings.TrimPrefix(where, " AND "), enough)
	if err := tx.QueryRowContext(ctx, query, args...).Scan(&kept); err != nil {
		return nil, err
	}
	const lookup = 8 // times what it costs to read on
	r.few = kept*lookup < all
	return r, nil
}

// where is the condition on series s, with the parameters after n.
func (r *reader) where(n int) (text string, args []any) {
	in := func(column string, values any) {
		args = append(args, array(values))
		text += " AND s." + column + " IN " + r.engine.list(fmt.Sprintf("$%d", n+len(args)))
	}
	if !r.AllTenants {
		in("tenant", r.Tenants)
	}
	for _, d := range []Dimension{Tenant, Route, Consumer, Plan} {
		if values, ok := r.Filter[d]; ok {
			in(string(d), append([]string{}, values...))
		}
	}
	return text, args
}

// base lists, for each kind of slot, the tables that hold its usage.
var base = []struct{ slot, table, hi, lo string }{
	{"day", "metering_day", "u.hi", "u.lo"},
	{"hour", "metering_hour", "u.hi", "u.lo"},
	{"minute", "metering_cell", "u.value >> 32", "u.value & 4294967295"},
	{"minute", "metering_event", "u.value >> 32", "u.value & 4294967295"},
	{"minute", "metering_adjustment", "u.value >> 32", "u.value & 4294967295"},
}

// statement sums slots by bucket and the dimensions. more is a condition on
// those, end goes after the grouping, and args are their parameters.
func (r *reader) statement(s *slots, dimensions []Dimension, more, end string, args []any) (string, []any) {
	columns := ""
	for _, d := range dimensions {
		columns += ", s." + string(d)
	}
	where, filter := r.where(len(args))
	args = append(args, filter...)
	args = append(args, r.meter)
	meter := fmt.Sprintf("$%d", len(args))
	var lists, parts []string
	for _, kind := range []struct {
		name string
		at   [][2]int64
	}{{"day", s.days}, {"hour", s.hours}, {"minute", s.minutes}} {
		if len(kind.at) == 0 {
			continue
		}
		args = append(args, array(kind.at))
		lists = append(lists, fmt.Sprintf("%ss AS MATERIALIZED %s", kind.name, r.engine.pairs(fmt.Sprintf("$%d", len(args)))))
		for _, t := range base {
			if t.slot == kind.name {
				on := fmt.Sprintf("u.%s = b.at AND u.meter = %s", t.slot, meter)
				parts = append(parts, "SELECT b.bucket"+columns+", "+t.hi+" AS hi, "+t.lo+" AS lo FROM "+
					r.joined(t.slot+"s b", t.table, on, where, len(dimensions) > 0))
			}
		}
	}
	if len(parts) == 0 {
		return "", nil
	}
	keys := "bucket" + strings.ReplaceAll(columns, "s.", "")
	return "WITH " + strings.Join(lists, ", ") + " SELECT " + keys + ", CAST(sum(hi) AS bigint), CAST(sum(lo) AS bigint) FROM (" +
		strings.Join(parts, " UNION ALL ") + ") t WHERE true" + more + " GROUP BY " + keys + end, args
}

// joined joins slots, series s and the rows u of a table.
func (r *reader) joined(slots, table, on, where string, grouped bool) string {
	switch {
	case where == "" && !grouped: // whose usage it is does not matter
		return slots + r.engine.join() + table + " u ON " + on
	case r.few:
		return r.engine.lookup(slots, where, table, on)
	}
	return slots + r.engine.join() + table + " u ON " + on + r.engine.join() + "metering_series s ON s.id = u.series WHERE true" + where
}

func (r *reader) total() (Quantity, error) {
	var s slots
	s.add(0, span{r.from, r.to})
	var hi, lo int64
	query, args := r.statement(&s, nil, "", "", nil)
	err := scan(r.ctx, r.tx, query, args, func(rows *sql.Rows) error {
		var bucket int64
		return rows.Scan(&bucket, &hi, &lo)
	})
	return quantity(r.Meter, hi, lo), err
}
