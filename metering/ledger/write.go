package ledger

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gatehouse-gateway/gatehouse/metering"
)

// rowsAtOnce is how many cells one statement of SQLite takes.
const rowsAtOnce = 200

// Write keeps the cells and seals of b in one transaction. Of two values of
// one cell the larger stays, whichever came first.
func (l *Ledger) Write(ctx context.Context, b metering.Batch) error {
	if err := Check(&b); err != nil {
		return fmt.Errorf("write to ledger: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var n *naming
	err := l.change(ctx, func(tx *sql.Tx) error {
		n = l.naming(ctx, tx)
		if err := l.writeCells(n, b.Cells); err != nil {
			return err
		}
		return writeSeals(n, &b)
	})
	if err != nil {
		return fmt.Errorf("write %d cells to ledger: %w", len(b.Cells), err)
	}
	n.keep()
	return nil
}

// Check says why Write would refuse a batch, whatever is in the ledger.
func Check(b *metering.Batch) error {
	for i := range b.Cells {
		c := &b.Cells[i]
		switch {
		case c.Value < 0:
			return fmt.Errorf("cell %d of %s: value %d is negative", i, c.Series.Tenant, c.Value)
		case c.Gateway == "" || c.Meter == "" || c.Series.Tenant == "":
			return fmt.Errorf("cell %d: gateway %q, meter %q or tenant %q is missing", i, c.Gateway, c.Meter, c.Series.Tenant)
		case !plain(c.Gateway) || !plain(c.Meter) || !plainKey(c.Series):
			return fmt.Errorf("cell %d of %q: a name is not text", i, c.Series.Tenant)
		}
		if err := whole(c.Window); err != nil {
			return fmt.Errorf("cell %d of %s: %w", i, c.Series.Tenant, err)
		}
	}
	for i, s := range b.Seals {
		if s.Gateway == "" || !plain(s.Gateway) {
			return fmt.Errorf("seal %d: gateway %q is not a name", i, s.Gateway)
		}
		if err := whole(s.Window); err != nil {
			return fmt.Errorf("seal %d of %s: %w", i, s.Gateway, err)
		}
	}
	return nil
}

// plain reports whether both databases keep s as it is.
func plain(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, "\x00") }

func plainKey(k metering.SeriesKey) bool {
	return plain(string(k.Tenant)) && plain(string(k.Route)) && plain(k.Consumer) && plain(string(k.Plan))
}

// Times that the ledger takes. Since 1972 every zone is whole minutes from
// UTC; before 2000 nobody was metered.
const (
	firstMinute = 946_684_800 / 60    // 2000-01-01
	lastMinute  = 16_725_225_600 / 60 // 2500-01-01
)

func whole(t time.Time) error {
	m, err := minuteOf(t)
	if err == nil && !t.Equal(timeOf(m)) {
		err = fmt.Errorf("%s is not a whole minute", t.UTC().Format(time.RFC3339Nano))
	}
	return err
}

// minuteOf returns the Unix time in minutes, rounded down.
func minuteOf(t time.Time) (int64, error) {
	s := t.Unix()
	if s < firstMinute*60 || s > lastMinute*60 {
		return 0, errors.New("a time is from 2000 to 2500")
	}
	return s / 60, nil
}

func timeOf(minute int64) time.Time { return time.Unix(minute*60, 0).UTC() }

const keepLarger = ` ON CONFLICT (minute, meter, series, epoch) DO UPDATE SET value = excluded.value
	WHERE excluded.value > metering_cell.value`

// row is a cell with its names numbered.
type row struct{ minute, meter, series, epoch, value int64 }

func (l *Ledger) writeCells(n *naming, cells []metering.Cell) error {
	if len(cells) == 0 {
		return nil
	}
	err := n.series(func(yield func(metering.SeriesKey) bool) {
		for i := range cells {
			if !yield(cells[i].Series) {
				return
			}
		}
	})
	if err != nil {
		return err
	}
	rows := make([]row, len(cells))
	written := touched{}
	for i := range cells {
		c := &cells[i]
		written.add(c.Series.Tenant, c.Meter, c.Window.Unix()/60)
		meter, err := n.meter(c.Meter)
		if err != nil {
			return err
		}
		epoch, err := n.epoch(c.Gateway, c.Epoch)
		if err != nil {
			return err
		}
		rows[i] = row{c.Window.Unix() / 60, meter, n.id(c.Series), epoch, c.Value}
	}
	if err := n.note(written); err != nil {
		return err
	}
	if l.engine == postgres {
		return upsertArrays(n, rows)
	}
	slices.SortFunc(rows, func(a, b row) int { // in the order of the key: neighbours are on one page
		return cmp.Or(cmp.Compare(a.minute, b.minute), cmp.Compare(a.meter, b.meter), cmp.Compare(a.series, b.series), cmp.Compare(a.epoch, b.epoch))
	})
	return upsertTuples(n, rows)
}

// upsertTuples writes rows by statements of rowsAtOnce and of one.
func upsertTuples(n *naming, rows []row) error {
	for _, size := range []int{rowsAtOnce, 1} {
		if len(rows) < size {
			continue
		}
		s, err := n.tx.PrepareContext(n.ctx, "INSERT INTO metering_cell (minute, meter, series, epoch, value) VALUES "+
			tuples(5, size)+keepLarger)
		if err != nil {
			return err
		}
		defer s.Close()
		args := make([]any, 5*size)
		for len(rows) >= size {
			for i, r := range rows[:size] {
				args[5*i], args[5*i+1], args[5*i+2], args[5*i+3], args[5*i+4] = r.minute, r.meter, r.series, r.epoch, r.value
			}
			if _, err := s.ExecContext(n.ctx, args...); err != nil {
				return err
			}
			rows = rows[size:]
		}
	}
	return nil
}

// upsertArrays writes all rows by one statement, in the order of the key. A
// statement may not touch a row twice, hence max.
func upsertArrays(n *naming, rows []row) error {
	var columns [5][]int64
	for _, r := range rows {
		for i, v := range [5]int64{r.minute, r.meter, r.series, r.epoch, r.value} {
			columns[i] = append(columns[i], v)
		}
	}
	_, err := n.tx.ExecContext(n.ctx, `INSERT INTO metering_cell (minute, meter, series, epoch, value)
		SELECT m, t, s, e, max(v) FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[]) r (m, t, s, e, v)
		GROUP BY m, t, s, e ORDER BY m, t, s, e`+keepLarger,
		columns[0], columns[1], columns[2], columns[3], columns[4])
	return err
}

// writeSeals notes with which minute each epoch begins, which are complete,
// and which epochs are over.
func writeSeals(n *naming, b *metering.Batch) error {
	first := map[int64]int64{}
	for i := range b.Cells {
		c := &b.Cells[i]
		epoch, err := n.epoch(c.Gateway, c.Epoch)
		if err != nil {
			return err
		}
		minute := c.Window.Unix() / 60
		if least, ok := first[epoch]; !ok || minute < least {
			first[epoch] = minute
		}
	}
	for epoch, minute := range first {
		if _, err := n.tx.ExecContext(n.ctx, "UPDATE metering_epoch SET first = $2 WHERE id = $1 AND (first IS NULL OR first > $2)",
			epoch, minute); err != nil {
			return err
		}
	}
	for _, s := range b.Seals {
		epoch, err := n.epoch(s.Gateway, s.Epoch)
		if err != nil {
			return err
		}
		if _, err := n.tx.ExecContext(n.ctx, "INSERT INTO metering_seal (epoch, minute) VALUES ($1, $2) ON CONFLICT DO NOTHING",
			epoch, s.Window.Unix()/60); err != nil {
			return err
		}
		if !s.Final {
			continue
		}
		if _, err := n.tx.ExecContext(n.ctx, "UPDATE metering_epoch SET final = 1 WHERE id = $1", epoch); err != nil {
			return err
		}
	}
	return nil
}
