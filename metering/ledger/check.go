package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Check recomputes the sums of the UTC days that [from, to) touches from
// cells, events and adjustments, and returns an error that names the first
// sums that differ from those that are kept. It reads everything: it is for
// an audit, not for every day.
func (l *Ledger) Check(ctx context.Context, from, to time.Time) error {
	first, last := from.Unix()/(60*minutesPerDay), (to.Unix()-1)/(60*minutesPerDay)
	var faults []error
	err := l.view(ctx, func(tx *sql.Tx) error {
		for _, kept := range []struct {
			table, column string
			minutes       int64
		}{{"metering_hour", "hour", minutesPerHour}, {"metering_day", "day", minutesPerDay}} {
			per := minutesPerDay / kept.minutes
			query := fmt.Sprintf(`SELECT at, meter, series, CAST(sum(hi) AS bigint), CAST(sum(lo) AS bigint) FROM (
					SELECT %[2]s AS at, meter, series, hi, lo FROM %[1]s WHERE %[2]s >= $3 AND %[2]s < $4`, kept.table, kept.column)
			for _, t := range []string{"metering_cell", "metering_event", "metering_adjustment"} {
				query += fmt.Sprintf(" UNION ALL SELECT minute / %d, meter, series, -(value >> 32), -(value & 4294967295)"+
					" FROM %s WHERE minute >= $1 AND minute < $2", kept.minutes, t)
			}
			query += ") d GROUP BY at, meter, series HAVING sum(hi) <> 0 OR sum(lo) <> 0 ORDER BY at, meter, series LIMIT 10"
			err := scan(ctx, tx, query, []any{first * minutesPerDay, (last + 1) * minutesPerDay, first * per, (last + 1) * per},
				func(rows *sql.Rows) error {
					var at, meter, series, hi, lo int64
					err := rows.Scan(&at, &meter, &series, &hi, &lo)
					faults = append(faults, fmt.Errorf("the %s from %s of meter %d and series %d is off by %d * 2^32 + %d",
						kept.column, timeOf(at*kept.minutes).Format(time.RFC3339), meter, series, hi, lo))
					return err
				})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("check ledger: %w", err)
	}
	return errors.Join(faults...)
}
