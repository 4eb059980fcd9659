package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"strings"
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

// tenantCells follows the kept sums down to the minutes that have usage: what
// other tenants have used is not read, and no minute that has none.
func (l *Ledger) tenantCells(ctx context.Context, tx *sql.Tx, tenant gatehouse.TenantID, from, to time.Time, each func(metering.Cell) error) error {
	first, end := from.Unix()/60, to.Unix()/60
	args := []any{string(tenant), first / minutesPerDay, (end - 1) / minutesPerDay, first, end}
	read := func(rows *sql.Rows) error {
		var c metering.Cell
		var nonce, minute int64
		k := &c.Series
		if err := rows.Scan(&c.Gateway, &c.Epoch.Counter, &nonce, &minute, &k.Route, &k.Consumer, &k.Plan, &c.Meter, &c.Value); err != nil {
			return err
		}
		k.Tenant, c.Epoch.Nonce, c.Window = tenant, uint64(nonce), timeOf(minute)
		return each(c)
	}
	err := scan(ctx, tx, numbers+`SELECT g.name, e.counter, e.nonce, u.minute, s.route, s.consumer, s.plan, m.name, u.value
		FROM `+l.engine.found("metering_cell")+l.engine.join()+`metering_meter m ON m.id = u.meter`+
		l.engine.join()+`metering_epoch e ON e.id = u.epoch`+l.engine.join()+`metering_gateway g ON g.id = e.gateway`, args, read)
	if err != nil {
		return err
	}
	err = scan(ctx, tx, numbers+`SELECT '`+FromEvents+`', 0, 0, u.minute, s.route, s.consumer, s.plan, m.name, CAST(sum(u.value) AS bigint)
		FROM `+l.engine.found("metering_event")+l.engine.join()+`metering_meter m ON m.id = u.meter
		WHERE EXISTS (SELECT 1 FROM metering_event WHERE minute >= $4 AND minute < $5)
		GROUP BY u.minute, s.route, s.consumer, s.plan, m.name`, args, read)
	if err != nil {
		return err
	}
	return l.adjusted(ctx, tx, tenant, first, end, each)
}

// numbers names the numbers from 0 to 7 as n (n).
const numbers = "WITH n (n) AS (VALUES (0), (1), (2), (3), (4), (5), (6), (7)) "

// found joins the series s of tenant $1 and their rows u of a table in the
// minutes from $4 up to $5, which lie in the days from $2 to $3: the days that
// a series has, the hours of these, their minutes. Each step is a look-up of
// the row that the step before names. Bits are looked for in bytes that are not
// zero, so that what is sparse is found by 32 steps and not by 84.
func (e engine) found(table string) string {
	join := func(from, on string) string { return " CROSS JOIN " + from + " ON " + on }
	if e == postgres { // OFFSET 0: as in lookup
		join = func(from, on string) string {
			alias := from[strings.LastIndexByte(from, ' ')+1:]
			return " CROSS JOIN LATERAL (SELECT * FROM " + from + " WHERE " + on + " OFFSET 0) " + alias
		}
	}
	return "(SELECT * FROM metering_series WHERE tenant = $1) s" +
		join("metering_day d", "d.series = s.id AND d.day BETWEEN $2 AND $3") +
		join("n a", "a.n < 3 AND (d.hours >> (8 * a.n)) & 255 <> 0") +
		join("n b", "(d.hours >> (8 * a.n + b.n)) & 1 = 1") +
		join("metering_hour o", "o.hour = d.day * 24 + 8 * a.n + b.n AND o.meter = d.meter AND o.series = d.series") +
		join("n p", "(o.minutes >> (8 * p.n)) & 255 <> 0") +
		join("n q", "(o.minutes >> (8 * p.n + q.n)) & 1 = 1") +
		join(table+" u", "u.minute = o.hour * 60 + 8 * p.n + q.n AND u.meter = o.meter AND u.series = o.series AND u.minute >= $4 AND u.minute < $5")
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
