package ledger

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/gatehouse-gateway/gatehouse"
)

// Meters returns the names of all meters by which anything was ever counted or
// adjusted, in order.
func (l *Ledger) Meters(ctx context.Context) ([]string, error) {
	names, err := l.names(ctx, "SELECT name FROM metering_meter ORDER BY name")
	if err != nil {
		return nil, fmt.Errorf("read the meters: %w", err)
	}
	return names, nil
}

// TenantMeters is Meters of one tenant. It looks through the days of the
// tenant's series: others' are not read.
func (l *Ledger) TenantMeters(ctx context.Context, tenant gatehouse.TenantID) ([]string, error) {
	names, err := l.names(ctx, `SELECT name FROM metering_meter WHERE id IN (SELECT d.meter FROM metering_series s`+
		l.engine.join()+`metering_day d ON d.series = s.id WHERE s.tenant = $1) ORDER BY name`, string(tenant))
	if err != nil {
		return nil, fmt.Errorf("read the meters of %s: %w", tenant, err)
	}
	return names, nil
}

func (l *Ledger) names(ctx context.Context, query string, args ...any) ([]string, error) {
	names := []string{}
	err := l.view(ctx, func(tx *sql.Tx) error {
		return scan(ctx, tx, query, args, func(rows *sql.Rows) error {
			var name string
			err := rows.Scan(&name)
			names = append(names, name)
			return err
		})
	})
	return names, err
}
