package insight

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/gatehouse-gateway/gatehouse/control"
)

// Groups of a query.
const (
	byRoute  = "route"
	byStatus = "status"
	byMethod = "method"
)

// grain returns the span to read for a query: the longest that its bounds and
// step are multiples of, and that is not too fine to be there still.
func grain(q *control.AnalyticsQuery, now time.Time) time.Duration {
	least := len(spans) - 1
	for i, r := range spans {
		if !q.From.Before(now.Add(-r.kept)) {
			least = i
			break
		}
	}
	for i := len(spans) - 1; i > least; i-- {
		span := spans[i].span
		if q.Step%span == 0 && q.From.Equal(q.From.Truncate(span)) && q.To.Equal(q.To.Truncate(span)) {
			return span
		}
	}
	return spans[least].span
}

// Series answers a query at the instant now. From is taken back and To forward
// to whole buckets of what is kept, and Step is rounded up to a multiple of
// them. Points without requests are left out; groups are in the order of their
// names.
func (s *Store) Series(ctx context.Context, q control.AnalyticsQuery, now time.Time) (control.Analytics, error) {
	span := grain(&q, now)
	from := q.From.Truncate(span)
	to := q.To.Add(span - 1).Truncate(span)
	step := (q.Step + span - 1) / span * span
	out := control.Analytics{Tenant: q.Tenant, From: from.UTC(), To: to.UTC(), Step: int(step / time.Second), Series: []control.Analytic{}}
	rows, err := s.db.Read.QueryContext(ctx, `SELECT at, route, method, class, requests, denied, limited, bytes_in, bytes_out, times
		FROM insight_series WHERE tenant = $1 AND span = $2 AND at >= $3 AND at < $4`,
		string(q.Tenant), int64(span/time.Second), from.Unix(), to.Unix())
	if err != nil {
		return out, fmt.Errorf("read analytics: %w", err)
	}
	defer rows.Close()
	groups := map[string]map[int64]*bucket{}
	for rows.Next() {
		var at int64
		var route, method string
		var class int
		sum, err := scanSums(rows, &at, &route, &method, &class)
		if err != nil {
			return out, fmt.Errorf("read analytics: %w", err)
		}
		name := ""
		switch q.GroupBy {
		case byRoute:
			name = cmp.Or(route, "(none)")
		case byMethod:
			name = method
		case byStatus:
			if name = "gone"; class > 0 {
				name = strconv.Itoa(class) + "xx"
			}
		}
		points := groups[name]
		if points == nil {
			points = map[int64]*bucket{}
			groups[name] = points
		}
		n := (at - from.Unix()) / int64(step/time.Second)
		b := points[n]
		if b == nil {
			b = &bucket{}
			points[n] = b
		}
		b.add(&sum)
		if class == 5 {
			b.errors += sum.requests
		}
	}
	if err := rows.Err(); err != nil {
		return out, fmt.Errorf("read analytics: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		series := control.Analytic{Group: name}
		for _, n := range slices.Sorted(maps.Keys(groups[name])) {
			b := groups[name][n]
			series.Points = append(series.Points, control.Point{At: from.Add(time.Duration(n) * step).UTC(), Load: b.load(b.errors)})
		}
		out.Series = append(out.Series, series)
	}
	return out, nil
}

// bucket is one point in the making.
type bucket struct {
	sums
	errors int64
}
