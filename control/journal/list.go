package journal

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Order is how a list is sorted.
type Order int

// The orders of a list. Ties are broken by tenant and id.
const (
	// ByID sorts by tenant and id.
	ByID Order = iota
	// ByRevision has what changed last at the end.
	ByRevision
	// ByNewest has what changed last first.
	ByNewest
)

// Query selects resources.
type Query struct {
	Kind string
	// Tenant narrows to one tenant when not nil; the platform's own is "".
	Tenant *string
	// TenantPrefix and Prefix are what the tenant and the id begin with. The
	// latter is found fast within a Tenant only; without one all resources of
	// the kind are gone through.
	TenantPrefix, Prefix string
	// Where holds indexed fields, all of which must have the value.
	Where []Field
	Order Order
	// After is the Next of the page before.
	After string
	// Limit is the page's size: 100 when 0, at most 1,000.
	Limit int
}

// Page is one page of a list.
type Page struct {
	Items []Resource
	// Next asks for the page after; empty on the last.
	Next string
}

type cursor struct {
	Revision int64  `json:"r,omitempty"`
	Tenant   string `json:"t,omitempty"`
	ID       string `json:"i"`
}

// List returns a page of what q selects. ErrInvalid: a field is not in the
// Index, or After is not a cursor.
func (r *Reader) List(ctx context.Context, q Query) (Page, error) {
	if q.Limit <= 0 {
		q.Limit = 100
	}
	q.Limit = min(q.Limit, 1000)
	s, err := r.search(ctx, q)
	if err != nil {
		return Page{}, err
	}
	items, err := r.resources(ctx, s.text.String(), s.args...)
	if err != nil {
		return Page{}, fmt.Errorf("list %s: %w", q.Kind, err)
	}
	p := Page{Items: items}
	if len(items) > q.Limit {
		p.Items = items[:q.Limit]
		last := p.Items[q.Limit-1]
		c := cursor{Tenant: last.Tenant, ID: last.ID}
		if q.Order != ByID {
			c.Revision = int64(last.Revision)
		}
		raw, err := json.Marshal(c)
		if err != nil {
			return Page{}, err
		}
		p.Next = base64.RawURLEncoding.EncodeToString(raw)
	}
	return p, nil
}

// Count returns how many resources q selects, whatever its After, Order and
// Limit. It looks at each.
func (r *Reader) Count(ctx context.Context, q Query) (int, error) {
	if err := q.check(r.index); err != nil {
		return 0, err
	}
	where, _, err := r.rarestFirst(ctx, q.Kind, q.Where)
	if err != nil {
		return 0, err
	}
	var s statement
	s.add("SELECT count(*)")
	if len(where) > 0 {
		s.fromFields(&q, where)
	} else {
		s.add(" FROM resources r WHERE r.kind = ?", q.Kind)
		s.narrow("r", &q)
	}
	n := 0
	rows, err := r.q.query(ctx, s.text.String(), s.args...)
	err = scan(rows, err, func(rows *sql.Rows) error { return rows.Scan(&n) })
	if err != nil {
		return 0, fmt.Errorf("count %s: %w", q.Kind, err)
	}
	return n, nil
}

func (q *Query) check(x Index) error {
	if q.Kind == "" {
		return fmt.Errorf("a list of no kind: %w", ErrInvalid)
	}
	for _, f := range q.Where {
		if _, ok := x[q.Kind][f.Name]; !ok {
			return fmt.Errorf("%s is not indexed by %q: %w", q.Kind, f.Name, ErrInvalid)
		}
	}
	return nil
}

// statement is SQL in the making.
type statement struct {
	text strings.Builder
	args []any
}

func (s *statement) add(text string, args ...any) {
	s.text.WriteString(text)
	s.args = append(s.args, args...)
}

// search writes the statement of a page. Its forms do not leave the database
// a choice of plan that would read more than the page needs: neither knows how
// common a value is, PostgreSQL not even how large a table that has just been
// filled.
func (r *Reader) search(ctx context.Context, q Query) (*statement, error) {
	if err := q.check(r.index); err != nil {
		return nil, err
	}
	var after cursor
	if q.After != "" {
		raw, err := base64.RawURLEncoding.DecodeString(q.After)
		if err != nil || json.Unmarshal(raw, &after) != nil || after.ID == "" {
			return nil, fmt.Errorf("cursor: %w", ErrInvalid)
		}
	}
	where, rare, err := r.rarestFirst(ctx, q.Kind, q.Where)
	if err != nil {
		return nil, err
	}
	var s statement
	const columns = "SELECT " + resourceColumns
	switch {
	case len(where) > 0 && q.Order == ByID: // the page's ids from the index of fields, then its resources
		s.add("WITH f AS MATERIALIZED (SELECT f.kind, f.tenant, f.id")
		s.fromFields(&q, where)
		s.page("f", &q, after)
		s.add(") " + columns + " FROM f CROSS JOIN resources r WHERE r.kind = f.kind AND r.tenant = f.tenant AND r.id = f.id ORDER BY r.tenant, r.id")
	case len(where) > 0 && rare: // all that match, sorted
		s.add("WITH f AS MATERIALIZED (SELECT f.kind, f.tenant, f.id")
		s.fromFields(&q, where)
		s.add(") " + columns + " FROM f CROSS JOIN resources r WHERE r.kind = f.kind AND r.tenant = f.tenant AND r.id = f.id")
		s.page("r", &q, after)
	default: // in order of the list, leaving out what does not match
		s.add(columns+" FROM resources r WHERE r.kind = ?", q.Kind)
		s.narrow("r", &q)
		s.have("r", where)
		s.page("r", &q, after)
	}
	return &s, nil
}

// fromFields selects from the index what has the fields, led by the first.
func (s *statement) fromFields(q *Query, where []Field) {
	s.add(" FROM fields f WHERE f.kind = ? AND f.name = ? AND f.value = ?", q.Kind, where[0].Name, where[0].Value)
	s.have("f", where[1:])
	s.narrow("f", q)
}

// have keeps what has the fields. A scalar subquery, unlike EXISTS, is looked
// up for each row and never made a join.
func (s *statement) have(table string, where []Field) {
	for _, f := range where {
		s.add(" AND (SELECT 1 FROM fields g WHERE g.kind = "+table+".kind AND g.name = ? AND g.value = ? AND g.tenant = "+
			table+".tenant AND g.id = "+table+".id) = 1", f.Name, f.Value)
	}
}

func (s *statement) narrow(table string, q *Query) {
	if q.Tenant != nil {
		s.add(" AND "+table+".tenant = ?", *q.Tenant)
	}
	if q.TenantPrefix != "" {
		s.add(" AND "+table+".tenant >= ? AND "+table+".tenant < ?", q.TenantPrefix, q.TenantPrefix+"\U0010FFFF")
	}
	if q.Prefix != "" {
		s.add(" AND "+table+".id >= ? AND "+table+".id < ?", q.Prefix, q.Prefix+"\U0010FFFF")
	}
}

// page goes on after the cursor, in order, one row beyond the limit.
func (s *statement) page(table string, q *Query, after cursor) {
	order, beyond := table+".tenant, "+table+".id", ">"
	switch q.Order {
	case ByID:
		if q.After != "" {
			s.add(" AND ("+order+") > (?, ?)", after.Tenant, after.ID)
		}
		s.add(" ORDER BY "+order+" LIMIT ?", q.Limit+1)
		return
	case ByRevision:
		order = "r.revision, r.tenant, r.id"
	case ByNewest:
		order, beyond = "r.revision DESC, r.tenant DESC, r.id DESC", "<"
	}
	if q.After != "" {
		s.add(" AND (r.revision, r.tenant, r.id) "+beyond+" (?, ?, ?)", after.Revision, after.Tenant, after.ID)
	}
	s.add(" ORDER BY "+order+" LIMIT ?", q.Limit+1)
}

// rarestFirst returns the fields with the one in front that fewest resources
// have, and whether those are few. Fields that many have are as good as each
// other.
func (r *Reader) rarestFirst(ctx context.Context, kind string, where []Field) ([]Field, bool, error) {
	const many = 2000
	where = slices.Clone(where)
	fewest := many
	for i, f := range where {
		n := 0
		rows, err := r.q.query(ctx, `SELECT count(*) FROM (SELECT 1 FROM fields WHERE kind = ? AND name = ? AND value = ? LIMIT ?) AS probed`,
			kind, f.Name, f.Value, many)
		if err := scan(rows, err, func(rows *sql.Rows) error { return rows.Scan(&n) }); err != nil {
			return nil, false, fmt.Errorf("list %s: %w", kind, err)
		}
		if n < fewest {
			fewest = n
			where[0], where[i] = where[i], where[0]
		}
	}
	return where, fewest < many, nil
}
