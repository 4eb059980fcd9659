package ledger

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/gatehouse-gateway/gatehouse/metering"
)

// ids are the numbers of names that are in the database, committed.
type ids struct {
	series  map[metering.SeriesKey]int64
	meters  map[string]int64
	epochs  map[epochKey]int64
	gateway map[string]int64
}

type epochKey struct {
	gateway string
	epoch   metering.Epoch
}

// maxIDs bounds each map: beyond it the map begins anew.
const maxIDs = 100_000

func newIDs() ids {
	return ids{map[metering.SeriesKey]int64{}, map[string]int64{}, map[epochKey]int64{}, map[string]int64{}}
}

// naming finds the numbers of names within one transaction. What it adds to
// the database is known to the ledger only by keep, after the commit.
type naming struct {
	ctx    context.Context
	tx     *sql.Tx
	engine engine
	known  *ids
	added  ids
}

func (l *Ledger) naming(ctx context.Context, tx *sql.Tx) *naming {
	return &naming{ctx, tx, l.engine, &l.ids, newIDs()}
}

func (n *naming) keep() {
	merge(n.known.series, n.added.series)
	merge(n.known.meters, n.added.meters)
	merge(n.known.epochs, n.added.epochs)
	merge(n.known.gateway, n.added.gateway)
}

func merge[K comparable](to, from map[K]int64) {
	if len(to)+len(from) > maxIDs {
		clear(to)
	}
	for k, id := range from {
		to[k] = id
	}
}

// number returns the id of key, asking the database where it is new.
func number[K comparable](n *naming, known, added map[K]int64, key K, insert, find string, args ...any) (int64, error) {
	if id, ok := known[key]; ok {
		return id, nil
	}
	if id, ok := added[key]; ok {
		return id, nil
	}
	var id int64
	err := n.tx.QueryRowContext(n.ctx, find, args...).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		if _, err := n.tx.ExecContext(n.ctx, insert, args...); err != nil {
			return 0, err
		}
		err = n.tx.QueryRowContext(n.ctx, find, args...).Scan(&id)
	}
	if err != nil {
		return 0, fmt.Errorf("number %v: %w", key, err)
	}
	added[key] = id
	return id, nil
}

func (n *naming) meter(name string) (int64, error) {
	return number(n, n.known.meters, n.added.meters, name,
		"INSERT INTO metering_meter (name) VALUES ($1)",
		"SELECT id FROM metering_meter WHERE name = $1", name)
}

func (n *naming) epoch(gateway string, e metering.Epoch) (int64, error) {
	key := epochKey{gateway, e}
	if id, ok := n.known.epochs[key]; ok {
		return id, nil
	}
	g, err := number(n, n.known.gateway, n.added.gateway, gateway,
		"INSERT INTO metering_gateway (name) VALUES ($1)",
		"SELECT id FROM metering_gateway WHERE name = $1", gateway)
	if err != nil {
		return 0, err
	}
	return number(n, n.known.epochs, n.added.epochs, key,
		"INSERT INTO metering_epoch (gateway, counter, nonce) VALUES ($1, $2, $3)",
		"SELECT id FROM metering_epoch WHERE gateway = $1 AND counter = $2 AND nonce = $3",
		g, int64(e.Counter), int64(e.Nonce))
}

// one returns the number of one series.
func (n *naming) one(k metering.SeriesKey) (int64, error) {
	if err := n.series(func(yield func(metering.SeriesKey) bool) { yield(k) }); err != nil {
		return 0, err
	}
	return n.id(k), nil
}

// id returns the number of a series that series was asked for.
func (n *naming) id(k metering.SeriesKey) int64 {
	if id, ok := n.known.series[k]; ok {
		return id
	}
	return n.added.series[k]
}

// series numbers all keys, the new ones by two statements.
func (n *naming) series(keys func(func(metering.SeriesKey) bool)) error {
	missing := [][4]string{}
	for k := range keys {
		if n.id(k) != 0 {
			continue
		}
		n.added.series[k] = 0
		missing = append(missing, [4]string{string(k.Tenant), string(k.Route), k.Consumer, string(k.Plan)})
	}
	if len(missing) == 0 {
		return nil
	}
	rows, err := json.Marshal(missing)
	if err != nil {
		return err
	}
	list := "json_each($1)"
	if n.engine == postgres {
		list = "jsonb_array_elements($1::jsonb)"
	}
	if _, err := n.tx.ExecContext(n.ctx, `INSERT INTO metering_series (tenant, route, consumer, plan)
		SELECT DISTINCT value->>0, value->>1, value->>2, value->>3 FROM `+list+` WHERE true ON CONFLICT DO NOTHING`, string(rows)); err != nil {
		return fmt.Errorf("number series: %w", err)
	}
	err = scan(n.ctx, n.tx, `SELECT s.id, s.tenant, s.route, s.consumer, s.plan FROM `+list+`
		JOIN metering_series s ON s.tenant = value->>0 AND s.route = value->>1 AND s.consumer = value->>2 AND s.plan = value->>3`,
		[]any{string(rows)}, func(r *sql.Rows) error {
			var id int64
			var k metering.SeriesKey
			err := r.Scan(&id, &k.Tenant, &k.Route, &k.Consumer, &k.Plan)
			n.added.series[k] = id
			return err
		})
	if err != nil {
		return fmt.Errorf("number series: %w", err)
	}
	return nil
}
