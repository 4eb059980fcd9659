package journal

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"fmt"
)

// folded is the fold of the events in digests, to hold the tables against.
type folded struct {
	index Index
	live  map[Hash]Hash // a ref's digest -> its row's
	// touched and fields are sums of digests, which do not depend on order.
	touched, fields Hash
}

func digest(parts ...any) Hash {
	h := sha256.New()
	var n [8]byte
	number := func(v uint64) {
		binary.BigEndian.PutUint64(n[:], v)
		h.Write(n[:])
	}
	for _, p := range parts {
		switch p := p.(type) {
		case uint64:
			number(p)
		case int64:
			number(uint64(p))
		case string:
			number(uint64(len(p)))
			h.Write([]byte(p))
		case []byte:
			number(uint64(len(p)))
			h.Write(p)
		default:
			panic(fmt.Sprintf("digest of a %T", p))
		}
	}
	return Hash(h.Sum(nil))
}

func (r Ref) digest() Hash { return digest(r.Kind, r.Tenant, r.ID) }

func (h *Hash) xor(o Hash) {
	for i := range h {
		h[i] ^= o[i]
	}
}

func (v *Resource) digest() Hash {
	return digest(v.Revision, v.Created.UnixMicro(), v.Updated.UnixMicro(), []byte(v.Body))
}

// add folds in the next event.
func (f *folded) add(e *Event) {
	for _, d := range e.Edits {
		f.touched.xor(digest(d.Kind, d.Tenant, d.ID, e.Seq))
		if d.After == nil {
			delete(f.live, d.digest())
			continue
		}
		v := Resource{d.Ref, e.Seq, d.Created, e.At, d.After}
		f.live[d.digest()] = v.digest()
	}
}

// compare uses f up.
func (f *folded) compare(ctx context.Context, r *Reader) (*Fault, error) {
	for v, err := range r.All(ctx) {
		if err != nil {
			return nil, err
		}
		id := v.Ref.digest()
		want, ok := f.live[id]
		switch {
		case !ok:
			return &Fault{State, v.Revision, fmt.Sprintf("%s is in the tables and not in the events", v.Ref)}, nil
		case want != v.digest():
			return &Fault{State, v.Revision, fmt.Sprintf("%s is not what its event left", v.Ref)}, nil
		}
		delete(f.live, id)
		for _, x := range f.index.fields(v.Kind, v.Body) {
			f.fields.xor(digest(v.Kind, x.Name, x.Value, v.Tenant, v.ID))
		}
	}
	if n := len(f.live); n > 0 {
		return &Fault{State, 0, fmt.Sprintf("%d resources are missing from the tables", n)}, nil
	}
	touched, err := r.sum(ctx, `SELECT kind, tenant, id, '', '', seq FROM touched`, func(s *[5]string, seq uint64) Hash {
		return digest(s[0], s[1], s[2], seq)
	})
	if err != nil {
		return nil, err
	}
	fields, err := r.sum(ctx, `SELECT kind, name, value, tenant, id, 0 FROM fields`, func(s *[5]string, _ uint64) Hash {
		return digest(s[0], s[1], s[2], s[3], s[4])
	})
	switch {
	case err != nil:
		return nil, err
	case touched != f.touched:
		return &Fault{State, 0, "the index of histories is not that of the events"}, nil
	case fields != f.fields:
		return &Fault{State, 0, "the index of fields is not that of the resources"}, nil
	}
	return nil, nil
}

func (r *Reader) sum(ctx context.Context, statement string, f func(*[5]string, uint64) Hash) (Hash, error) {
	var total Hash
	rows, err := r.q.query(ctx, statement)
	err = scan(rows, err, func(rows *sql.Rows) error {
		var s [5]string
		var seq int64
		if err := rows.Scan(&s[0], &s[1], &s[2], &s[3], &s[4], &seq); err != nil {
			return err
		}
		total.xor(f(&s, uint64(seq)))
		return nil
	})
	return total, err
}
