package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering"
)

// The gateways of cells that no gateway has counted; no gateway's name has
// such a character.
const (
	FromEvents      = "(events)"
	FromAdjustments = "(adjustments)"
)

// TenantCells returns all usage of one tenant in [from, to), from one
// snapshot, in no certain order: the cells of gateways, then what events came
// to in each minute and series, and then adjustments, whose value may be
// negative. It ends with an error if one comes.
func (l *Ledger) TenantCells(ctx context.Context, tenant gatehouse.TenantID, from, to time.Time) iter.Seq2[metering.Cell, error] {
	return func(yield func(metering.Cell, error) bool) {
		err := l.view(ctx, func(tx *sql.Tx) error {
			return l.tenantCells(ctx, tx, tenant, from, to, func(c metering.Cell) error {
				if !yield(c, nil) {
					return errEnough
				}
				return nil
			})
		})
		if err != nil && !errors.Is(err, errEnough) {
			yield(metering.Cell{}, fmt.Errorf("read the cells of %s: %w", tenant, err))
		}
	}
}

// tenantCells follows the kept sums down to the hours and series that have usage at all:
// what other tenants have used is not read.
func (l *Ledger) tenantCells(ctx context.Context, tx *sql.Tx, tenant gatehouse.TenantID, from, to time.Time, each func(metering.Cell) error) error {
	var meters []int64
	err := scan(ctx, tx, "SELECT id FROM metering_meter ORDER BY id", nil, func(rows *sql.Rows) error {
		var id int64
		err := rows.Scan(&id)
		meters = append(meters, id)
		return err
	})
	if err != nil {
		return err
	}
	first, end := from.Unix()/60, to.Unix()/60
	for _, meter := range meters {
		var days [][2]int64
		for day := first / minutesPerDay; day*minutesPerDay < end; day++ {
			days = append(days, [2]int64{day})
		}
		if days, err = l.present(ctx, tx, tenant, meter, "day", days); err != nil {
			return err
		}
		var hours [][2]int64
		for i, day := range days {
			for n := range int64(minutesPerDay / minutesPerHour) {
				if i == 0 || day[0] != days[i-1][0] {
					hours = append(hours, [2]int64{day[0]*(minutesPerDay/minutesPerHour) + n})
				}
			}
		}
		if hours, err = l.present(ctx, tx, tenant, meter, "hour", hours); err != nil {
			return err
		}
		for part := range slices.Chunk(hours, maxSlots/10) {
			if err := l.cellsIn(ctx, tx, meter, part, first, end, each); err != nil {
				return err
			}
		}
	}
	return l.adjusted(ctx, tx, tenant, first, end, each)
}

// present returns which days or hours have usage of a meter, each with the
// series that has it.
func (l *Ledger) present(ctx context.Context, tx *sql.Tx, tenant gatehouse.TenantID, meter int64, step string, places [][2]int64) ([][2]int64, error) {
	var out [][2]int64
	for part := range slices.Chunk(places, maxSlots) {
		from := l.engine.lookup(l.engine.pairs("$1")+" b", " AND s.tenant = $2", "metering_"+step, "u."+step+" = b.at AND u.meter = $3")
		err := scan(ctx, tx, "SELECT u."+step+", u.series FROM "+from+" ORDER BY 1, 2", []any{array(part), string(tenant), meter}, func(rows *sql.Rows) error {
			var place [2]int64
			err := rows.Scan(&place[0], &place[1])
			out = append(out, place)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// cellsIn reads the usage of a meter in hours of series: a look-up for each of
// their minutes, for the tables' keys begin with it.
func (l *Ledger) cellsIn(ctx context.Context, tx *sql.Tx, meter int64, hours [][2]int64, first, end int64, each func(metering.Cell) error) error {
	minutes := make([][2]int64, minutesPerHour)
	for i := range minutes {
		minutes[i][0] = int64(i)
	}
	args := []any{array(hours), array(minutes), meter, first, end}
	read := func(rows *sql.Rows) error {
		var c metering.Cell
		var nonce, minute int64
		k := &c.Series
		if err := rows.Scan(&c.Gateway, &c.Epoch.Counter, &nonce, &minute, &k.Tenant, &k.Route, &k.Consumer, &k.Plan, &c.Meter, &c.Value); err != nil {
			return err
		}
		c.Epoch.Nonce, c.Window = uint64(nonce), timeOf(minute)
		return each(c)
	}
	rows := func(table string) string {
		on := "u.minute = b.at * 60 + n.at AND u.meter = $3 AND u.series = b.bucket AND u.minute >= $4 AND u.minute < $5"
		from := l.engine.pairs("$1") + " b CROSS JOIN " + l.engine.pairs("$2") + " n CROSS JOIN "
		if l.engine == postgres { // OFFSET 0: as in lookup
			return from + "LATERAL (SELECT * FROM " + table + " u WHERE " + on + " OFFSET 0) u"
		}
		return from + table + " u ON " + on
	}
	err := scan(ctx, tx, `SELECT g.name, e.counter, e.nonce, u.minute, s.tenant, s.route, s.consumer, s.plan, m.name, u.value
		FROM `+rows("metering_cell")+l.engine.join()+`metering_series s ON s.id = u.series`+l.engine.join()+`metering_meter m ON m.id = u.meter`+
		l.engine.join()+`metering_epoch e ON e.id = u.epoch`+l.engine.join()+`metering_gateway g ON g.id = e.gateway`, args, read)
	if err != nil {
		return err
	}
	return scan(ctx, tx, `SELECT '`+FromEvents+`', 0, 0, u.minute, s.tenant, s.route, s.consumer, s.plan, m.name, CAST(sum(u.value) AS bigint)
		FROM `+rows("metering_event")+l.engine.join()+`metering_series s ON s.id = u.series`+l.engine.join()+`metering_meter m ON m.id = u.meter
		WHERE EXISTS (SELECT 1 FROM metering_event WHERE minute >= $4 AND minute < $5)
		GROUP BY u.minute, s.tenant, s.route, s.consumer, s.plan, m.name`, args, read)
}

// adjusted reads the adjustments of a tenant. There are few of anyone's.
func (l *Ledger) adjusted(ctx context.Context, tx *sql.Tx, tenant gatehouse.TenantID, first, end int64, each func(metering.Cell) error) error {
	return scan(ctx, tx, `SELECT u.minute, s.tenant, s.route, s.consumer, s.plan, m.name, CAST(sum(u.value) AS bigint)
		FROM metering_adjustment u`+l.engine.join()+`metering_series s ON s.id = u.series`+l.engine.join()+`metering_meter m ON m.id = u.meter
		WHERE u.minute >= $1 AND u.minute < $2 AND s.tenant = $3
		GROUP BY u.minute, s.tenant, s.route, s.consumer, s.plan, m.name`, []any{first, end, string(tenant)}, func(rows *sql.Rows) error {
		c := metering.Cell{Gateway: FromAdjustments}
		var minute int64
		k := &c.Series
		if err := rows.Scan(&minute, &k.Tenant, &k.Route, &k.Consumer, &k.Plan, &c.Meter, &c.Value); err != nil {
			return err
		}
		c.Window = timeOf(minute)
		return each(c)
	})
}
