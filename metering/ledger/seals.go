package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// Gateway is one that has written to the ledger.
type Gateway struct {
	Name string `json:"name"`
	// SealedUntil is the instant before which it has reported all that it
	// counted, in each of its epochs that is not over: the end of the last
	// minute that is sealed, or the begin of the first that is not. Between two
	// epochs it is the begin of the last minute, in which the next may count.
	SealedUntil time.Time `json:"sealed_until,omitzero"`
	// Retired is when it was said not to be waited for any more; zero if not.
	Retired time.Time `json:"retired,omitzero"`
}

const gatewaysQuery = `SELECT name, coalesce(retired, 0),
	coalesce(min(CASE WHEN final = 0 THEN coalesce(sealed + 1, first) END), max(sealed), 0)
	FROM (SELECT g.name, g.retired, e.first, e.final,
			(SELECT max(minute) FROM metering_seal s WHERE s.epoch = e.id) AS sealed
		FROM metering_gateway g JOIN metering_epoch e ON e.gateway = g.id) e
	GROUP BY name, retired ORDER BY name`

// Gateways returns every gateway that has ever written, by name.
func (l *Ledger) Gateways(ctx context.Context) ([]Gateway, error) {
	gateways := []Gateway{}
	err := l.view(ctx, func(tx *sql.Tx) error {
		return scan(ctx, tx, gatewaysQuery, nil, func(rows *sql.Rows) error {
			var g Gateway
			var retired, sealed int64
			err := rows.Scan(&g.Name, &retired, &sealed)
			if sealed > 0 {
				g.SealedUntil = timeOf(sealed)
			}
			if retired > 0 {
				g.Retired = time.Unix(retired, 0).UTC()
			}
			gateways = append(gateways, g)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read gateways: %w", err)
	}
	return gateways, nil
}

// sealedUntil is the least of the gateways that are waited for; 0 if there is
// none, or one has sealed nothing.
func sealedUntil(ctx context.Context, tx *sql.Tx) (int64, error) {
	var least int64
	first := true
	err := scan(ctx, tx, gatewaysQuery, nil, func(rows *sql.Rows) error {
		var name string
		var retired, sealed int64
		if err := rows.Scan(&name, &retired, &sealed); err != nil {
			return err
		}
		if retired == 0 && (first || sealed < least) {
			least, first = sealed, false
		}
		return nil
	})
	return least, err
}

// Retire says that a gateway is gone for good, so that no query waits for its
// seals. What it still reports counts. found is false for one that never
// wrote.
func (l *Ledger) Retire(ctx context.Context, gateway string) (found bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	err = l.change(ctx, func(tx *sql.Tx) error {
		r, err := tx.ExecContext(ctx, "UPDATE metering_gateway SET retired = coalesce(retired, $2) WHERE name = $1",
			gateway, l.now().Unix())
		if err != nil {
			return err
		}
		n, err := r.RowsAffected()
		found = n > 0
		return err
	})
	if err != nil {
		return false, fmt.Errorf("retire gateway %s: %w", gateway, err)
	}
	return found, nil
}
