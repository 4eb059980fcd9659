package journal

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// Rehash returns the hash that e would have with another actor.
func Rehash(e Event, actor string) Hash {
	r := record{
		seq: int64(e.Seq), at: e.At.UnixMicro(), actor: actor, kind: e.Kind, tenant: e.Tenant, subject: e.Subject,
		body: e.Body, prev: e.Prev[:],
	}
	return r.sum(r.seq)
}

// Join returns a connection that listens for p.
func (p *Peers) Join(ctx context.Context) (*pgx.Conn, error) { return p.join(ctx) }
