package ledger

import (
	"database/sql"
	"fmt"
	"strings"
)

// maxSlots bounds the slots that one statement reads.
const maxSlots = 5_000

// items returns at most Limit items from the cursor on, and the cursor of
// those that follow. Windows are read in runs, each longer than the one
// before: a page of a month of minutes does not read the month.
func (r *reader) items() ([]Item, string, error) {
	items := []Item{}
	var run []span
	var s slots
	length, after := 1, r.cursor.After
	more := ""
	read := func() error {
		found, err := r.run(run, &s, after, r.Limit+1-len(items))
		items = append(items, found...)
		run, s, after, length = nil, slots{}, nil, length*2
		return err
	}
	for w := range windows(r.Window, r.Zone, r.cursor.At, r.to) {
		s.add(int64(len(run)), w)
		run = append(run, w)
		if len(run) < length && s.len() < maxSlots {
			continue
		}
		if err := read(); err != nil {
			return nil, "", err
		}
		if len(items) > r.Limit {
			break
		}
	}
	if len(run) > 0 {
		if err := read(); err != nil {
			return nil, "", err
		}
	}
	if len(items) > r.Limit {
		items = items[:r.Limit]
		more = r.after(&items[r.Limit-1])
	}
	return items, more, nil
}

// after is the cursor of what follows an item.
func (r *reader) after(i *Item) string {
	c := r.cursor
	if len(r.GroupBy) == 0 {
		c.At, c.After = i.End.Unix()/60, nil
		return c.String()
	}
	c.At, c.After = i.Start.Unix()/60, []string{}
	for _, d := range r.GroupBy {
		c.After = append(c.After, i.Group[d])
	}
	return c.String()
}

// run returns the first items of consecutive windows, in order; those of the
// first window after the group.
func (r *reader) run(run []span, s *slots, after []string, limit int) ([]Item, error) {
	more, end := "", " ORDER BY bucket"
	var args []any
	if after != nil {
		var columns, values strings.Builder
		for i, d := range r.GroupBy {
			fmt.Fprintf(&columns, ", %s", d)
			fmt.Fprintf(&values, ", $%d", i+1)
			args = append(args, after[i])
		}
		more = fmt.Sprintf(" AND (bucket%s) > (0%s)", columns.String(), values.String())
	}
	for _, d := range r.GroupBy {
		end += ", " + string(d)
	}
	query, args := r.statement(s, r.GroupBy, more, fmt.Sprintf("%s LIMIT %d", end, limit), args)
	var items []Item
	err := scan(r.ctx, r.tx, query, args, func(rows *sql.Rows) error {
		var bucket, hi, lo int64
		group := make([]string, len(r.GroupBy))
		to := []any{&bucket}
		for i := range group {
			to = append(to, &group[i])
		}
		if err := rows.Scan(append(to, &hi, &lo)...); err != nil {
			return err
		}
		w := run[bucket]
		i := Item{Start: timeOf(w.start), End: timeOf(w.end), Value: quantity(r.Meter, hi, lo)}
		for n, d := range r.GroupBy {
			if i.Group == nil {
				i.Group = make(map[Dimension]string, len(r.GroupBy))
			}
			i.Group[d] = group[n]
		}
		items = append(items, i)
		return nil
	})
	return items, err
}
