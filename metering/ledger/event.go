package ledger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering"
)

// Event is usage that was measured elsewhere. Source and ID together name it
// for ever.
type Event struct {
	ID     string
	Source string
	// Meter is the event's type.
	Meter string
	// Tenant is the event's subject.
	Tenant gatehouse.TenantID
	// Time is when the usage was, however long ago. Absent: when it is
	// recorded.
	Time time.Time
	// Value is a decimal number of the meter's unit, not negative: whole, or
	// for custom units with at most 6 decimals, up to 2^53 of the smallest
	// unit.
	Value string
	// Route, Consumer and Plan may be empty.
	Route    gatehouse.RouteID
	Consumer string
	Plan     gatehouse.PlanID
}

// Verdict is what became of an event or an adjustment.
type Verdict string

// The verdicts.
const (
	// Recorded ones are in the ledger, and were not before.
	Recorded Verdict = "recorded"
	// Duplicate ones were there already, the same.
	Duplicate Verdict = "duplicate"
	// Conflict: another one of the same name is there; it stays.
	Conflict Verdict = "conflict"
	// Invalid ones cannot be recorded, now or later.
	Invalid Verdict = "invalid"
)

// EventResult is the verdict on one event.
type EventResult struct {
	// Source and ID are the event's.
	Source  string  `json:"source"`
	ID      string  `json:"id"`
	Verdict Verdict `json:"verdict"`
	// Reason says what is wrong with an invalid event.
	Reason string `json:"reason,omitempty"`
}

// MaxEvents bounds one call of Record.
const MaxEvents = 1_000

// maxText bounds each text of an event or adjustment, in bytes.
const maxText = 256

// Record puts events into the ledger, in one transaction, and returns a
// verdict on each, in their order. Invalid ones do not keep the others out;
// they are counted. After an error no event was recorded, or nobody knows
// whether they were: the call may be repeated.
func (l *Ledger) Record(ctx context.Context, events []Event) ([]EventResult, error) {
	if len(events) > MaxEvents {
		return nil, &gatehouse.Error{Code: gatehouse.CodeInvalid, Message: fmt.Sprintf("at most %d events at once", MaxEvents)}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var results []EventResult
	var n *naming
	err := l.change(ctx, func(tx *sql.Tx) error {
		n = l.naming(ctx, tx)
		results = make([]EventResult, 0, len(events))
		t := touched{}
		for i := range events {
			r, err := l.record(n, &events[i], t)
			if err != nil {
				return err
			}
			results = append(results, r)
		}
		return n.note(t)
	})
	if err != nil {
		return nil, fmt.Errorf("record %d events: %w", len(events), err)
	}
	n.keep()
	return results, nil
}

// record puts one event into the ledger, and what it touches into t.
func (l *Ledger) record(n *naming, e *Event, t touched) (EventResult, error) {
	r := EventResult{Source: e.Source, ID: e.ID}
	now := l.now().UTC()
	at := e.Time
	if at.IsZero() {
		at = now
	}
	u, reason := usage{
		meter: e.Meter, at: at, value: e.Value,
		key: metering.SeriesKey{Tenant: e.Tenant, Route: e.Route, Consumer: e.Consumer, Plan: e.Plan},
	}.read()
	if reason == "" {
		reason = text("source", e.Source, "id", e.ID)
	}
	if reason == "" && u.value < 0 {
		reason = "value is negative: that is for an adjustment"
	}
	if reason == "" && at.After(now.Add(maxAhead)) {
		reason = "time is in the future"
	}
	if reason != "" {
		r.Verdict, r.Reason = Invalid, reason
		return r, l.reject(n, e.Tenant, reason)
	}
	sent := ""
	if !e.Time.IsZero() {
		sent = e.Time.UTC().Format(time.RFC3339Nano)
	}
	hash := sha256.Sum256([]byte(array([]any{e.Meter, e.Tenant, sent, u.value, e.Route, e.Consumer, e.Plan})))
	meter, err := n.meter(e.Meter)
	if err != nil {
		return r, err
	}
	series, err := n.one(u.key)
	if err != nil {
		return r, err
	}
	r.Verdict, err = insert(n, `INSERT INTO metering_event (source, id, hash, minute, meter, series, value, at, recorded)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING`,
		"SELECT hash FROM metering_event WHERE source = $1 AND id = $2",
		[]any{e.Source, e.ID}, hash[:], u.minute, meter, series, u.value, at.UnixMicro(), now.UnixMicro())
	if err == nil && r.Verdict == Recorded {
		t.add(e.Tenant, e.Meter, u.minute)
	}
	return r, err
}

// maxAhead is how far the clock of an event's source may be ahead of ours.
const maxAhead = 24 * time.Hour

// insert adds a row whose key and hash come first, unless its key is there.
func insert(n *naming, statement, find string, key []any, hash []byte, rest ...any) (Verdict, error) {
	result, err := n.tx.ExecContext(n.ctx, statement, append(append(key[:len(key):len(key)], hash), rest...)...)
	if err != nil {
		return "", err
	}
	if rows, err := result.RowsAffected(); err != nil || rows == 1 {
		return Recorded, err
	}
	var old []byte
	if err := n.tx.QueryRowContext(n.ctx, find, key...).Scan(&old); err != nil {
		return "", err
	}
	if bytes.Equal(old, hash) {
		return Duplicate, nil
	}
	return Conflict, nil
}

// usage is what an event and an adjustment have in common, as it came.
type usage struct {
	key   metering.SeriesKey
	meter string
	at    time.Time
	value string
}

// amount is usage that was read.
type amount struct {
	key           metering.SeriesKey
	minute, value int64
}

// read returns the reason why u makes no sense, or "".
func (u usage) read() (amount, string) {
	a := amount{key: u.key}
	if reason := text("meter", u.meter, "tenant", string(u.key.Tenant)); reason != "" {
		return a, reason
	}
	for _, s := range []string{string(u.key.Route), u.key.Consumer, string(u.key.Plan)} {
		if len(s) > maxText || !plain(s) {
			return a, "route, consumer or plan is not text of at most 256 bytes"
		}
	}
	var err error
	if a.minute, err = minuteOf(u.at); err != nil {
		return a, "time is not from 2000 to 2500"
	}
	if a.value, err = parseBase(u.meter, u.value); err != nil {
		return a, "value: " + err.Error()
	}
	return a, ""
}

// text checks pairs of a name and a text that may not be empty.
func text(pairs ...string) string {
	for i := 0; i < len(pairs); i += 2 {
		if s := pairs[i+1]; s == "" || len(s) > maxText || !plain(s) {
			return pairs[i] + " is not text of 1 to 256 bytes"
		}
	}
	return ""
}

// reject counts an event that was not taken.
func (l *Ledger) reject(n *naming, tenant gatehouse.TenantID, reason string) error {
	if text("tenant", string(tenant)) != "" {
		tenant = ""
	}
	_, err := n.tx.ExecContext(n.ctx, `INSERT INTO metering_reject (day, tenant, reason, n) VALUES ($1, $2, $3, 1)
		ON CONFLICT (day, tenant, reason) DO UPDATE SET n = metering_reject.n + 1`,
		l.now().Unix()/(60*minutesPerDay), string(tenant), reason)
	return err
}

// Reject is how many events of a tenant were refused for one reason on one
// UTC day.
type Reject struct {
	Day    time.Time          `json:"day"`
	Tenant gatehouse.TenantID `json:"tenant"`
	Reason string             `json:"reason"`
	Count  int64              `json:"count"`
}

// Rejects returns what was refused since a day, the newest first, at most
// MaxLimit of them.
func (l *Ledger) Rejects(ctx context.Context, since time.Time) ([]Reject, error) {
	rejects := []Reject{}
	err := l.view(ctx, func(tx *sql.Tx) error {
		return scan(ctx, tx, fmt.Sprintf(`SELECT day, tenant, reason, n FROM metering_reject WHERE day >= $1
			ORDER BY day DESC, tenant, reason LIMIT %d`, MaxLimit), []any{since.Unix() / (60 * minutesPerDay)},
			func(rows *sql.Rows) error {
				var r Reject
				var day int64
				err := rows.Scan(&day, &r.Tenant, &r.Reason, &r.Count)
				r.Day = timeOf(day * minutesPerDay)
				rejects = append(rejects, r)
				return err
			})
	})
	if err != nil {
		return nil, fmt.Errorf("read rejects: %w", err)
	}
	return rejects, nil
}
