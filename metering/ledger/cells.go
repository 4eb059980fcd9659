package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/gatehouse-gateway/gatehouse/metering"
)

var errEnough = errors.New("the reader wants no more")

// Cells returns the cells of [from, to) in the order of their minutes, from
// one snapshot. It ends with an error if one comes.
func (l *Ledger) Cells(ctx context.Context, from, to time.Time) iter.Seq2[metering.Cell, error] {
	return func(yield func(metering.Cell, error) bool) {
		err := l.view(ctx, func(tx *sql.Tx) error {
			return scan(ctx, tx, `SELECT g.name, e.counter, e.nonce, c.minute, s.tenant, s.route, s.consumer, s.plan, m.name, c.value
				FROM metering_cell c`+l.engine.join()+`metering_epoch e ON e.id = c.epoch`+l.engine.join()+`metering_gateway g ON g.id = e.gateway`+
				l.engine.join()+`metering_series s ON s.id = c.series`+l.engine.join()+`metering_meter m ON m.id = c.meter
				WHERE c.minute >= $1 AND c.minute < $2 ORDER BY c.minute, c.meter, c.series, c.epoch`,
				[]any{from.Unix() / 60, to.Unix() / 60}, func(rows *sql.Rows) error {
					var c metering.Cell
					var nonce, minute int64
					k := &c.Series
					if err := rows.Scan(&c.Gateway, &c.Epoch.Counter, &nonce, &minute, &k.Tenant, &k.Route, &k.Consumer, &k.Plan,
						&c.Meter, &c.Value); err != nil {
						return err
					}
					c.Epoch.Nonce, c.Window = uint64(nonce), timeOf(minute)
					if !yield(c, nil) {
						return errEnough
					}
					return nil
				})
		})
		if err != nil && !errors.Is(err, errEnough) {
			yield(metering.Cell{}, fmt.Errorf("read cells: %w", err))
		}
	}
}

// Final returns every cell that a seal is the first to cover, at its last
// value: those of its minute, and of the minutes since the seal before. It
// fails while the ledger has not been told of the seal.
func (l *Ledger) Final(ctx context.Context, s metering.Seal) ([]metering.Cell, error) {
	var cells []metering.Cell
	err := l.view(ctx, func(tx *sql.Tx) error {
		until := s.Window.Unix() / 60
		var epoch, after int64
		if err := tx.QueryRowContext(ctx, `SELECT coalesce(max(e.id), 0),
				coalesce(max((SELECT max(minute) FROM metering_seal b WHERE b.epoch = e.id AND b.minute < $4)), max(e.first) - 1, $4)
			FROM metering_gateway g JOIN metering_epoch e ON e.gateway = g.id JOIN metering_seal s ON s.epoch = e.id
			WHERE g.name = $1 AND e.counter = $2 AND e.nonce = $3 AND s.minute = $4`,
			s.Gateway, int64(s.Epoch.Counter), int64(s.Epoch.Nonce), until).Scan(&epoch, &after); err != nil {
			return err
		}
		if epoch == 0 {
			return fmt.Errorf("the minute %s of %s %s is not sealed yet", s.Window.UTC().Format(time.RFC3339), s.Gateway, s.Epoch)
		}
		return scan(ctx, tx, `SELECT c.minute, s.tenant, s.route, s.consumer, s.plan, m.name, c.value FROM metering_cell c`+
			l.engine.join()+`metering_series s ON s.id = c.series`+l.engine.join()+`metering_meter m ON m.id = c.meter
			WHERE c.minute > $1 AND c.minute <= $2 AND c.epoch = $3 ORDER BY c.minute, c.meter, c.series`,
			[]any{after, until, epoch}, func(rows *sql.Rows) error {
				c := metering.Cell{Gateway: s.Gateway, Epoch: s.Epoch}
				var minute int64
				k := &c.Series
				err := rows.Scan(&minute, &k.Tenant, &k.Route, &k.Consumer, &k.Plan, &c.Meter, &c.Value)
				c.Window = timeOf(minute)
				cells = append(cells, c)
				return err
			})
	})
	if err != nil {
		return nil, fmt.Errorf("read what a seal covers: %w", err)
	}
	return cells, nil
}
