package ledger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering"
)

// Adjustment corrects usage by a signed amount. What it corrects stays in the
// ledger as it was.
type Adjustment struct {
	// ID names it for ever; whoever adjusts chooses it, so that the call can
	// be repeated.
	ID     string             `json:"id"`
	Tenant gatehouse.TenantID `json:"tenant"`
	// Meter is whose usage is corrected; Route, Consumer and Plan narrow it down.
	Meter    string            `json:"meter"`
	Route    gatehouse.RouteID `json:"route,omitempty"`
	Consumer string            `json:"consumer,omitempty"`
	Plan     gatehouse.PlanID  `json:"plan,omitempty"`
	// Time is the instant whose usage is corrected; it counts in that minute.
	Time time.Time `json:"time"`
	// Value is a decimal number of the meter's unit, as that of an Event, but
	// may be negative. It is not zero.
	Value string `json:"value"`
	// Reason and Approver are for the audit: why, and who agreed.
	Reason   string `json:"reason"`
	Approver string `json:"approver"`
	// EventSource and EventID name the event that is corrected, if it is one.
	EventSource string `json:"event_source,omitempty"`
	EventID     string `json:"event_id,omitempty"`
	// Recorded is when it came into the ledger; Adjust does not read it.
	Recorded time.Time `json:"recorded,omitzero"`
}

// Faults says what makes no sense in an adjustment, whatever the ledger holds.
func (a *Adjustment) Faults() gatehouse.Faults {
	var fs gatehouse.Faults
	bad := func(field, reason string) {
		fs = append(fs, gatehouse.Fault{Pointer: gatehouse.Pointer(field), Reason: reason})
	}
	for _, s := range [][2]string{{"id", a.ID}, {"meter", a.Meter}, {"tenant", string(a.Tenant)}, {"reason", a.Reason}, {"approver", a.Approver}} {
		if reason := text(s[0], s[1]); reason != "" {
			bad(s[0], strings.TrimPrefix(reason, s[0]+" "))
		}
	}
	for _, s := range [][2]string{{"route", string(a.Route)}, {"consumer", a.Consumer}, {"plan", string(a.Plan)}} {
		if len(s[1]) > maxText || !plain(s[1]) {
			bad(s[0], "is not text of at most 256 bytes")
		}
	}
	if _, err := minuteOf(a.Time); err != nil {
		bad("time", "is not from 2000 to 2500")
	}
	if v, err := parseBase(a.Meter, a.Value); err != nil {
		bad("value", err.Error())
	} else if v == 0 {
		bad("value", "is zero")
	}
	if (a.EventSource == "") != (a.EventID == "") {
		bad("event_id", "an event is named by its source and its id")
	}
	return fs
}

// Adjust puts an adjustment into the ledger. The verdict is Recorded,
// Duplicate or Conflict. One that makes no sense, or names an event that is
// not there, is an error with gatehouse.CodeInvalid.
func (l *Ledger) Adjust(ctx context.Context, a Adjustment) (Verdict, error) {
	return l.AdjustIf(ctx, a, func(metering.Cell, Cells) error { return nil })
}

// Cells reads the cells of a tenant in [from, to), as TenantCells.
type Cells func(from, to time.Time) ([]metering.Cell, error)

// Agree agrees to an adjustment, which is c among the cells, or returns why
// not. It must not use the ledger but by cells.
type Agree func(c metering.Cell, cells Cells) error

// AdjustIf is Adjust for what check agrees to. It is asked about an adjustment
// that is not in the ledger yet, in the transaction that would write it: the
// cells that it reads are all there is when the adjustment comes to them. After
// an error of it, which is returned, nothing is written.
func (l *Ledger) AdjustIf(ctx context.Context, a Adjustment, check Agree) (Verdict, error) {
	u, reason := usage{
		meter: a.Meter, at: a.Time, value: a.Value,
		key: metering.SeriesKey{Tenant: a.Tenant, Route: a.Route, Consumer: a.Consumer, Plan: a.Plan},
	}.read()
	if reason == "" {
		reason = text("id", a.ID, "reason", a.Reason, "approver", a.Approver)
	}
	if reason == "" && u.value == 0 {
		reason = "value is zero"
	}
	if reason == "" && (a.EventSource == "") != (a.EventID == "") {
		reason = "an event is named by its source and its id"
	}
	invalid := &gatehouse.Error{Code: gatehouse.CodeInvalid, Message: reason}
	if reason != "" {
		return Invalid, invalid
	}
	hash := sha256.Sum256([]byte(array([]any{
		a.Tenant, a.Meter, a.Route, a.Consumer, a.Plan,
		a.Time.UTC().Format(time.RFC3339Nano), u.value, a.Reason, a.Approver, a.EventSource, a.EventID,
	})))
	l.mu.Lock()
	defer l.mu.Unlock()
	var verdict Verdict
	var n *naming
	err := l.change(ctx, func(tx *sql.Tx) error {
		n = l.naming(ctx, tx)
		if a.EventID != "" {
			var found int
			if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM metering_event WHERE source = $1 AND id = $2",
				a.EventSource, a.EventID).Scan(&found); err != nil {
				return err
			}
			if found == 0 {
				invalid.Message = "no such event: " + a.EventSource + " " + a.EventID
				return invalid
			}
		}
		var there []byte
		switch err := tx.QueryRowContext(ctx, "SELECT hash FROM metering_adjustment WHERE id = $1", a.ID).Scan(&there); {
		case err == nil:
			if verdict = Conflict; bytes.Equal(there, hash[:]) {
				verdict = Duplicate
			}
			return nil
		case !errors.Is(err, sql.ErrNoRows):
			return err
		}
		cell := metering.Cell{Gateway: FromAdjustments, Window: timeOf(u.minute), Series: u.key, Meter: a.Meter, Value: u.value}
		err := check(cell, func(from, to time.Time) (cells []metering.Cell, err error) {
			err = l.tenantCells(ctx, tx, a.Tenant, from, to, func(c metering.Cell) error {
				cells = append(cells, c)
				return nil
			})
			return cells, err
		})
		if err != nil {
			return err
		}
		meter, err := n.meter(a.Meter)
		if err != nil {
			return err
		}
		series, err := n.one(u.key)
		if err != nil {
			return err
		}
		written := touched{}
		written.add(a.Tenant, a.Meter, u.minute)
		if err := n.note(written); err != nil {
			return err
		}
		verdict = Recorded
		_, err = tx.ExecContext(ctx, `INSERT INTO metering_adjustment
			(id, hash, minute, meter, series, value, reason, approver, event_source, event_id, recorded)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
			a.ID, hash[:], u.minute, meter, series, u.value, a.Reason, a.Approver, a.EventSource, a.EventID, l.now().UnixMicro())
		return err
	})
	if err != nil {
		return "", fmt.Errorf("adjust %s: %w", a.ID, err)
	}
	n.keep()
	return verdict, nil
}

// Adjustments returns those of a tenant that count in [from, to), by time and
// then id, at most MaxLimit of them. Time is the minute in which they count.
func (l *Ledger) Adjustments(ctx context.Context, tenant gatehouse.TenantID, from, to time.Time) ([]Adjustment, error) {
	adjustments := []Adjustment{}
	err := l.view(ctx, func(tx *sql.Tx) error {
		return scan(ctx, tx, fmt.Sprintf(`SELECT a.id, s.tenant, m.name, s.route, s.consumer, s.plan, a.minute, a.value,
			a.reason, a.approver, a.event_source, a.event_id, a.recorded
			FROM metering_adjustment a JOIN metering_series s ON s.id = a.series JOIN metering_meter m ON m.id = a.meter
			WHERE s.tenant = $1 AND a.minute >= $2 AND a.minute < $3 ORDER BY a.minute, a.id LIMIT %d`, MaxLimit),
			[]any{string(tenant), from.Unix() / 60, to.Unix() / 60}, func(rows *sql.Rows) error {
				var a Adjustment
				var minute, value, recorded int64
				if err := rows.Scan(&a.ID, &a.Tenant, &a.Meter, &a.Route, &a.Consumer, &a.Plan, &minute, &value,
					&a.Reason, &a.Approver, &a.EventSource, &a.EventID, &recorded); err != nil {
					return err
				}
				q := quantity(a.Meter, 0, value)
				a.Time, a.Value, a.Recorded = timeOf(minute), q.String(), time.UnixMicro(recorded).UTC()
				adjustments = append(adjustments, a)
				return nil
			})
	})
	if err != nil {
		return nil, fmt.Errorf("read adjustments of %s: %w", tenant, err)
	}
	return adjustments, nil
}
