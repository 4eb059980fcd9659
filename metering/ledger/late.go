package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering"
)

// LateUsage says what was written of a tenant's usage after it was billed.
type LateUsage struct {
	// Note is the number of the last note; notes of a tenant count from 1.
	Note int64
	// First is the begin of the first UTC day of which something was written,
	// zero if nothing was. That something was written does not say that it
	// changed anything.
	First time.Time
}

// Watch notes from now on what is written of tenants' usage before an instant
// each, and every interruption, for those are dated after the minutes whose
// requests they are of. It never ends: an earlier instant than before changes nothing. Whoever
// watches, reads Late and then the cells has what was written before, and is
// told by a later note of everything that is written after.
func (l *Ledger) Watch(ctx context.Context, until map[gatehouse.TenantID]time.Time) error {
	missing := map[gatehouse.TenantID]int64{}
	for tenant, t := range until {
		missing[tenant] = (t.Unix() + 59) / 60
	}
	err := l.view(ctx, func(tx *sql.Tx) error {
		return watched(ctx, tx, l.engine, missing, func(tenant gatehouse.TenantID, minute int64) {
			if minute >= missing[tenant] {
				delete(missing, tenant)
			}
		})
	})
	if err == nil && len(missing) > 0 {
		l.mu.Lock()
		defer l.mu.Unlock()
		err = l.change(ctx, func(tx *sql.Tx) error {
			for tenant, minute := range missing {
				if _, err := tx.ExecContext(ctx, `INSERT INTO metering_watched AS w (tenant, minute) VALUES ($1, $2)
					ON CONFLICT (tenant) DO UPDATE SET minute = excluded.minute WHERE excluded.minute > w.minute`, string(tenant), minute); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err != nil {
		return fmt.Errorf("watch the usage of %d tenants: %w", len(until), err)
	}
	return nil
}

// watched calls f with those of some tenants that are watched.
func watched[V any](ctx context.Context, tx *sql.Tx, e engine, tenants map[gatehouse.TenantID]V, f func(gatehouse.TenantID, int64)) error {
	names := slices.Sorted(maps.Keys(tenants))
	return scan(ctx, tx, "SELECT tenant, minute FROM metering_watched WHERE tenant IN "+e.list("$1"), []any{array(names)}, func(rows *sql.Rows) error {
		var tenant gatehouse.TenantID
		var minute int64
		err := rows.Scan(&tenant, &minute)
		f(tenant, minute)
		return err
	})
}

// Late returns what was noted of a tenant after a note.
func (l *Ledger) Late(ctx context.Context, tenant gatehouse.TenantID, after int64) (LateUsage, error) {
	var late LateUsage
	err := l.view(ctx, func(tx *sql.Tx) error {
		var day int64
		err := tx.QueryRowContext(ctx, `SELECT notes, coalesce((SELECT min(day) FROM metering_late WHERE tenant = $1 AND note > $2), 0)
			FROM metering_watched WHERE tenant = $1`, string(tenant), after).Scan(&late.Note, &day)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if day > 0 {
			late.First = timeOf(day * minutesPerDay)
		}
		return err
	})
	if err != nil {
		return LateUsage{}, fmt.Errorf("read the late usage of %s: %w", tenant, err)
	}
	return late, nil
}

// Noted returns the last note of every tenant that has one.
func (l *Ledger) Noted(ctx context.Context) (map[gatehouse.TenantID]int64, error) {
	notes := map[gatehouse.TenantID]int64{}
	err := l.view(ctx, func(tx *sql.Tx) error {
		return scan(ctx, tx, "SELECT tenant, notes FROM metering_watched WHERE notes > 0", nil, func(rows *sql.Rows) error {
			var tenant gatehouse.TenantID
			var note int64
			err := rows.Scan(&tenant, &note)
			notes[tenant] = note
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read late usage: %w", err)
	}
	return notes, nil
}

// touched are the first minutes that a transaction writes, by tenant and day;
// anyMinute where it writes an interruption.
type touched map[touchedDay]int64

type touchedDay struct {
	tenant gatehouse.TenantID
	day    int64
}

// anyMinute is before every instant that is watched for.
const anyMinute = 0

func (t touched) add(tenant gatehouse.TenantID, meter string, minute int64) {
	key := touchedDay{tenant, minute / minutesPerDay}
	if meter == metering.MeterInterrupted {
		minute = anyMinute
	}
	if least, ok := t[key]; !ok || minute < least {
		t[key] = minute
	}
}

// note notes what is written of watched usage. It runs in the transaction that
// writes, of which there is one at a time: a tenant's notes are in the order
// of the commits.
func (n *naming) note(t touched) error {
	until := map[gatehouse.TenantID]int64{}
	for key := range t {
		until[key.tenant] = 0
	}
	if len(until) == 0 {
		return nil
	}
	err := watched(n.ctx, n.tx, n.engine, until, func(tenant gatehouse.TenantID, minute int64) { until[tenant] = minute })
	if err != nil {
		return err
	}
	counted := map[gatehouse.TenantID]bool{}
	for key, minute := range t {
		if minute >= until[key.tenant] {
			continue
		}
		if !counted[key.tenant] {
			counted[key.tenant] = true
			if _, err := n.tx.ExecContext(n.ctx, "UPDATE metering_watched SET notes = notes + 1 WHERE tenant = $1", string(key.tenant)); err != nil {
				return err
			}
		}
		if _, err := n.tx.ExecContext(n.ctx, `INSERT INTO metering_late (tenant, day, note) SELECT tenant, $2, notes FROM metering_watched WHERE tenant = $1
			ON CONFLICT (tenant, day) DO UPDATE SET note = excluded.note`, string(key.tenant), key.day); err != nil {
			return err
		}
	}
	return nil
}
