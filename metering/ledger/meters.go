package ledger

import (
	"context"
	"database/sql"
	"fmt"
)

// Meters returns the names of all meters by which anything was ever counted or
// adjusted, in order.
func (l *Ledger) Meters(ctx context.Context) ([]string, error) {
	names := []string{}
	err := l.view(ctx, func(tx *sql.Tx) error {
		return scan(ctx, tx, "SELECT name FROM metering_meter ORDER BY name", nil, func(rows *sql.Rows) error {
			var name string
			err := rows.Scan(&name)
			names = append(names, name)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read the meters: %w", err)
	}
	return names, nil
}
