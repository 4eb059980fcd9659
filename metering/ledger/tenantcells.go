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

// tenantCells follows the kept sums down to the minutes that have usage at all:
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
		var places []int64
		for day := first / minutesPerDay; day*minutesPerDay < end; day++ {
			places = append(places, day)
		}
		if places, err = l.present(ctx, tx, tenant, meter, "day", places); err != nil {
			return err
		}
		if places, err = l.present(ctx, tx, tenant, meter, "hour", finer(places, minutesPerDay/minutesPerHour)); err != nil {
			return err
		}
		minutes := slices.DeleteFunc(finer(places, minutesPerHour), func(m int64) bool { return m < first || m >= end })
		for part := range slices.Chunk(minutes, maxSlots) {
			if err := l.cellsAt(ctx, tx, tenant, meter, part, each); err != nil {
				return err
			}
		}
	}
	return nil
}

// present returns which days or hours have usage of a meter.
func (l *Ledger) present(ctx context.Context, tx *sql.Tx, tenant gatehouse.TenantID, meter int64, step string, places []int64) ([]int64, error) {
	var out []int64
	for part := range slices.Chunk(places, maxSlots) {
		from := l.engine.lookup(l.engine.pairs("$1")+" b", " AND s.tenant = $2", "metering_"+step, "u."+step+" = b.at AND u.meter = $3")
		err := scan(ctx, tx, "SELECT DISTINCT u."+step+" FROM "+from+" ORDER BY 1", []any{array(paired(part)), string(tenant), meter}, func(rows *sql.Rows) error {
			var at int64
			err := rows.Scan(&at)
			out = append(out, at)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// cellsAt reads the usage of a meter in certain minutes.
func (l *Ledger) cellsAt(ctx context.Context, tx *sql.Tx, tenant gatehouse.TenantID, meter int64, minutes []int64, each func(metering.Cell) error) error {
	args := []any{array(paired(minutes)), string(tenant), meter}
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
	rows := func(columns, table string) string {
		return "(SELECT " + columns + ", u.minute, s.tenant, s.route, s.consumer, s.plan, u.value FROM " +
			l.engine.lookup(l.engine.pairs("$1")+" b", " AND s.tenant = $2", table, "u.minute = b.at AND u.meter = $3") + ") v"
	}
	err := scan(ctx, tx, `SELECT g.name, e.counter, e.nonce, v.minute, v.tenant, v.route, v.consumer, v.plan, m.name, v.value
		FROM `+rows("u.epoch", "metering_cell")+` JOIN metering_epoch e ON e.id = v.epoch JOIN metering_gateway g ON g.id = e.gateway
		JOIN metering_meter m ON m.id = $3`, args, read)
	if err != nil {
		return err
	}
	for _, other := range [...][2]string{{"metering_event", FromEvents}, {"metering_adjustment", FromAdjustments}} {
		err := scan(ctx, tx, `SELECT '`+other[1]+`', 0, 0, v.minute, v.tenant, v.route, v.consumer, v.plan, m.name, CAST(sum(v.value) AS bigint)
			FROM `+rows("0 AS epoch", other[0])+` JOIN metering_meter m ON m.id = $3
			GROUP BY v.minute, v.tenant, v.route, v.consumer, v.plan, m.name`, args, read)
		if err != nil {
			return err
		}
	}
	return nil
}

// finer divides each place into n.
func finer(places []int64, n int64) []int64 {
	out := make([]int64, 0, int64(len(places))*n)
	for _, p := range places {
		for i := range n {
			out = append(out, p*n+i)
		}
	}
	return out
}

func paired(places []int64) [][2]int64 {
	out := make([][2]int64, len(places))
	for i, p := range places {
		out[i][0] = p
	}
	return out
}
