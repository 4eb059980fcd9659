package control

import (
	"bytes"
	"compress/flate"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"time"
	"weak"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
)

// Bounds of one part of a snapshot.
const (
	partTenants = 200
	partKeys    = 2000
)

// everything calls f with the whole state in parts, each a full update, plans
// first; the last part may be empty.
func (p *Plane) everything(ctx context.Context, f func(part gatehouse.Update) error) (Position, error) {
	var at Position
	err := p.journal.Snapshot(ctx, func(s *journal.Snapshot) error {
		at = Position{s.Head.Seq, s.Head.Hash.String()}
		fresh := func() gatehouse.Update { return gatehouse.Update{Revision: at.Revision, Full: true, Hash: at.Hash} }
		u := fresh()
		gone := map[string]bool{} // deleted tenants, whose keys are not told
		for _, kind := range []string{kindPlan, kindTenant, kindKey} {
			for r, err := range s.All(ctx, kind) {
				if err != nil {
					return err
				}
				if gone[r.Tenant] && kind == kindKey {
					continue
				}
				if err := p.add(&u, r.Ref, r.Body); err != nil {
					return err
				}
				if len(u.RemovedTenants) > 0 {
					gone[r.ID], u.RemovedTenants = true, nil
				}
				if len(u.Tenants) == partTenants || len(u.Keys) == partKeys {
					if err := f(u); err != nil {
						return err
					}
					u = fresh()
				}
			}
		}
		return f(u)
	})
	if err != nil {
		return at, fmt.Errorf("read the snapshot: %w", err)
	}
	return at, nil
}

// snapshot is everything that data planes hold, as one full update.
func (p *Plane) snapshot(ctx context.Context) (gatehouse.Update, error) {
	var u gatehouse.Update
	at, err := p.everything(ctx, func(part gatehouse.Update) error {
		u.Plans = append(u.Plans, part.Plans...)
		u.Tenants = append(u.Tenants, part.Tenants...)
		u.Keys = append(u.Keys, part.Keys...)
		return nil
	})
	u.Revision, u.Full, u.Hash = at.Revision, true, at.Hash
	return u, err
}

// Snapshot is the state at one revision, packed for the way to data planes. It
// is immutable and may be read by many at once.
type Snapshot struct {
	Position
	// Made is when it was begun.
	Made time.Time
	// parts are JSON of full updates, compressed: the state of 100,000 tenants
	// is far smaller so, and a slow follower may hold it for long.
	parts [][]byte
}

// Parts yields the JSON of one full update after another, which make the state
// together. A part is valid until the next is asked for. last tells whether it
// is the last.
func (s *Snapshot) Parts() iter.Seq2[[]byte, bool] {
	return func(yield func([]byte, bool) bool) {
		var text bytes.Buffer
		for i, packed := range s.parts {
			text.Reset()
			if _, err := io.Copy(&text, flate.NewReader(bytes.NewReader(packed))); err != nil {
				panic("control: " + err.Error()) // it was packed here
			}
			if !yield(text.Bytes(), i == len(s.parts)-1) {
				return
			}
		}
	}
}

// Size is the memory that it takes, in bytes.
func (s *Snapshot) Size() int {
	n := 0
	for _, packed := range s.parts {
		n += len(packed)
	}
	return n
}

// snapshots shares one snapshot between those who ask at about the same time.
type snapshots struct {
	// turn holds a token while one is made; it guards last.
	turn chan struct{}
	// last is the newest one while somebody reads it.
	last weak.Pointer[Snapshot]
}

// A snapshot is shared while it is not older than this, in time and events:
// what came since is told as deltas.
const (
	sharedFor    = 30 * time.Second
	sharedEvents = 1000
)

// Snapshot returns the state as it is now, or was a moment ago, but not before
// the revision least, which whoever asks has: it would go back, and be without
// what came since for a moment. One is made at a time; who asks meanwhile gets
// the same.
func (p *Plane) Snapshot(ctx context.Context, least uint64) (*Snapshot, error) {
	select {
	case p.shared.turn <- struct{}{}:
		defer func() { <-p.shared.turn }()
	case <-ctx.Done():
		return nil, coded(ctx.Err())
	}
	head, err := p.journal.Head(ctx)
	if err != nil {
		return nil, coded(err)
	}
	if s := p.shared.last.Value(); s != nil && p.now().Sub(s.Made) < sharedFor && head.Seq-s.Revision < sharedEvents && s.Revision >= min(least, head.Seq) {
		return s, nil
	}
	s := &Snapshot{Made: p.now()}
	packer, err := flate.NewWriter(nil, flate.BestSpeed)
	if err != nil {
		return nil, err
	}
	s.Position, err = p.everything(ctx, func(part gatehouse.Update) error {
		text, err := json.Marshal(part)
		if err != nil {
			return err
		}
		var packed bytes.Buffer
		packer.Reset(&packed)
		if _, err := packer.Write(text); err != nil {
			return err
		}
		if err := packer.Close(); err != nil {
			return err
		}
		s.parts = append(s.parts, bytes.Clone(packed.Bytes()))
		return nil
	})
	if err != nil {
		return nil, coded(err)
	}
	p.shared.last = weak.Make(s)
	return s, nil
}
