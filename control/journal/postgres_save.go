package journal

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// save sends all statements at once, each for all rows of its table.
func (t *postgresTx) save(ctx context.Context, b *batch) error {
	var all pgx.Batch
	queueEvents(&all, b.records)
	if len(b.touched) > 0 {
		var refs columns
		seqs := make([]int64, len(b.touched))
		for i := range b.touched {
			refs.add(b.touched[i].Ref)
			seqs[i] = b.touched[i].seq
		}
		all.Queue(`INSERT INTO touched (kind, tenant, id, seq) SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[])`,
			refs.kinds, refs.tenants, refs.ids, seqs)
	}
	queueState(&all, b)
	queueFields(&all, b)
	for _, id := range b.keys {
		r := b.replays[id]
		all.Queue(`INSERT INTO replays (actor, key, request, seq, at) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (actor, key) DO UPDATE SET request = excluded.request, seq = excluded.seq, at = excluded.at`,
			id.actor, id.key, r.request, r.seq, r.at)
	}
	if len(b.keys) > 0 {
		all.Queue(`DELETE FROM replays WHERE at <= $1`, b.at-replayWindow)
	}
	all.Queue(`UPDATE head SET seq = $1, at = $2, hash = $3`, b.seq, b.at, b.hash[:])
	all.Queue(`SELECT pg_notify($1, '')`, channel)
	return t.raw(func(c *pgx.Conn) error { return c.SendBatch(ctx, &all).Close() })
}

// columns holds the parts of refs as unnest takes them.
type columns struct{ kinds, tenants, ids []string }

func (c *columns) add(r Ref) {
	c.kinds, c.tenants, c.ids = append(c.kinds, r.Kind), append(c.tenants, r.Tenant), append(c.ids, r.ID)
}

func queueEvents(all *pgx.Batch, records []record) {
	if len(records) == 0 {
		return
	}
	var seqs, ats []int64
	var actors, kinds, tenants, subjects []string
	var bodies, prevs, hashes [][]byte
	for i := range records {
		r := &records[i]
		seqs, ats = append(seqs, r.seq), append(ats, r.at)
		actors, kinds = append(actors, r.actor), append(kinds, r.kind)
		tenants, subjects = append(tenants, r.tenant), append(subjects, r.subject)
		bodies, prevs, hashes = append(bodies, r.body), append(prevs, r.prev), append(hashes, r.hash)
	}
	all.Queue(`INSERT INTO events (seq, at, actor, kind, tenant, subject, body, prev_hash, hash)
		SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bytea[], $8::bytea[], $9::bytea[])`,
		seqs, ats, actors, kinds, tenants, subjects, bodies, prevs, hashes)
}

func queueState(all *pgx.Batch, b *batch) {
	var puts, gone columns
	var revisions, created, updated []int64
	var bodies [][]byte
	b.state(func(r Ref, w *row) {
		puts.add(r)
		revisions, created, updated = append(revisions, int64(w.revision)), append(created, w.created), append(updated, w.updated)
		bodies = append(bodies, w.body)
	}, gone.add)
	if len(revisions) > 0 {
		all.Queue(`INSERT INTO resources (kind, tenant, id, revision, created, updated, body)
			SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bytea[])
			ON CONFLICT (kind, tenant, id) DO UPDATE SET revision = excluded.revision, created = excluded.created,
				updated = excluded.updated, body = excluded.body`,
			puts.kinds, puts.tenants, puts.ids, revisions, created, updated, bodies)
	}
	if len(gone.ids) > 0 {
		all.Queue(`DELETE FROM resources r USING unnest($1::text[], $2::text[], $3::text[]) AS w (kind, tenant, id)
			WHERE r.kind = w.kind AND r.tenant = w.tenant AND r.id = w.id`, gone.kinds, gone.tenants, gone.ids)
	}
}

func queueFields(all *pgx.Batch, b *batch) {
	type list struct {
		columns
		names, values []string
	}
	var puts, gone list
	to := func(l *list) func(Ref, Field) {
		return func(r Ref, f Field) {
			l.add(r)
			l.names, l.values = append(l.names, f.Name), append(l.values, f.Value)
		}
	}
	b.fieldChanges(to(&puts), to(&gone))
	if len(gone.ids) > 0 {
		all.Queue(`DELETE FROM fields f USING unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) AS w (kind, name, value, tenant, id)
			WHERE f.kind = w.kind AND f.name = w.name AND f.value = w.value AND f.tenant = w.tenant AND f.id = w.id`,
			gone.kinds, gone.names, gone.values, gone.tenants, gone.ids)
	}
	if len(puts.ids) > 0 {
		all.Queue(`INSERT INTO fields (kind, name, value, tenant, id)
			SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) ON CONFLICT DO NOTHING`,
			puts.kinds, puts.names, puts.values, puts.tenants, puts.ids)
	}
}
