package ratelimit

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// QuotaState is the count of one quota, to be stored and given back after a
// restart.
type QuotaState struct {
	// Key is gh:{tenant}:limit-name, and :by-value-digest for a quota `by`
	// value.
	Key string `json:"key"`
	// Start and End bound the window that Used was counted in.
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
	// Used is in units.
	Used int64 `json:"used"`
	// TopUps are the ids of the top-ups in it.
	TopUps []string `json:"top_ups,omitempty"`
}

// restored holds counts that Restore brought back and no request has asked
// for yet; Local.mu guards it.
type restored struct {
	byKey map[string]QuotaState
	keys  int // those `by` value; each has a place in the table reserved
}

// into moves the count of c's key to c, if there is one.
func (r *restored) into(c *cell) bool {
	if len(r.byKey) == 0 || c.rated || c.shared != nil {
		return false
	}
	key := c.name()
	q, ok := r.byKey[key]
	if !ok {
		return false
	}
	r.drop(key)
	c.used, c.start, c.end = q.Used, q.Start.UnixNano(), q.End.UnixNano()
	c.topUps = slices.Clone(q.TopUps)
	return true
}

func (r *restored) drop(key string) {
	delete(r.byKey, key)
	if byValue(key) {
		r.keys--
	}
}

// name returns the key of a quota's count.
func (c *cell) name() string {
	if c.sum == "" {
		return c.limit.name
	}
	if c.full == "" {
		c.full = c.limit.name + ":" + c.sum
	}
	return c.full
}

// byValue reports whether key has all four parts of the grammar.
func byValue(key string) bool { return strings.Count(key, ":") == 3 }

// Quotas returns the counts of all quotas whose window is not over, by key.
// Overflow counts are not among them.
func (l *Local) Quotas(now time.Time) []QuotaState {
	l.mu.Lock()
	defer l.mu.Unlock()
	now = l.advance(now)
	var out []QuotaState
	add := func(c *cell) {
		if c == nil || c.rated || c.shared != nil || c.limit.whole != nil || c.idle(now) {
			return
		}
		out = append(out, QuotaState{c.name(), time.Unix(0, c.start).UTC(), time.Unix(0, c.end).UTC(), c.used, slices.Clone(c.topUps)})
	}
	for _, lim := range l.limits {
		add(lim.one)
	}
	for _, c := range l.table.ring {
		add(c)
	}
	for key, q := range l.restored.byKey {
		if now.Before(q.End) {
			out = append(out, q)
		} else {
			l.restored.drop(key)
		}
	}
	// A count in use comes before what was restored too late for it.
	slices.SortStableFunc(out, func(a, b QuotaState) int { return strings.Compare(a.Key, b.Key) })
	return slices.CompactFunc(out, func(a, b QuotaState) bool { return a.Key == b.Key })
}

// Restore takes back what Quotas returned, for quotas that no request has
// used yet; it belongs before the first Take. States of windows that are
// over, of other tenants, or without a count are ignored.
func (l *Local) Restore(now time.Time, states []QuotaState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now = l.advance(now)
	if l.restored.byKey == nil {
		l.restored.byKey = map[string]QuotaState{}
	}
	mine := "gh:{" + string(l.tenant) + "}:"
	for _, q := range states {
		if !strings.HasPrefix(q.Key, mine) || !now.Before(q.End) || q.Used == 0 {
			continue
		}
		if _, known := l.restored.byKey[q.Key]; !known && byValue(q.Key) {
			l.restored.keys++
		}
		l.restored.byKey[q.Key] = q
	}
}

// maxStateLine bounds a line of what Save writes: the ids of top-ups are most
// of it.
const maxStateLine = 256 << 10

// Save writes what Quotas returns, one JSON document a line. The lines of
// several tenants may follow each other.
func (l *Local) Save(w io.Writer, now time.Time) error {
	out := json.NewEncoder(w)
	for _, q := range l.Quotas(now) {
		if err := out.Encode(q); err != nil {
			return fmt.Errorf("write quota %s: %w", q.Key, err)
		}
	}
	return nil
}

// Load reads what Save wrote, to its end, and restores this tenant's part of
// it. Lines that cannot be read are left out; the error is about the first of
// them, and what was read is in force all the same.
func (l *Local) Load(r io.Reader, now time.Time) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 4<<10), maxStateLine)
	var states []QuotaState
	var bad error
	for n := 1; lines.Scan(); n++ {
		var q QuotaState
		if err := json.Unmarshal(lines.Bytes(), &q); err != nil {
			if bad == nil {
				bad = fmt.Errorf("line %d of the quotas: %w", n, err)
			}
			continue
		}
		states = append(states, q)
	}
	l.Restore(now, states)
	return errors.Join(bad, lines.Err())
}
