package journal

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// line is an event in an export. Body has the bytes that are hashed.
type line struct {
	Seq     int64           `json:"seq"`
	At      string          `json:"at"` // RFC 3339, UTC, six decimals
	Actor   string          `json:"actor"`
	Kind    string          `json:"kind"`
	Tenant  string          `json:"tenant"`
	Subject string          `json:"subject"`
	Body    json.RawMessage `json:"body"`
	Prev    Hash            `json:"prev_hash"`
	Hash    Hash            `json:"hash"`
}

const lineTime = "2006-01-02T15:04:05.000000Z"

// Export writes the events after a number, one JSON object a line, and returns
// the place of the last one. It does not verify them.
func (j *Journal) Export(ctx context.Context, w io.Writer, after uint64) (Checkpoint, error) {
	var head Checkpoint
	err := j.Snapshot(ctx, func(s *Snapshot) error {
		head = s.Head
		out := bufio.NewWriter(w)
		enc := json.NewEncoder(out)
		enc.SetEscapeHTML(false) // the body's bytes stay as they are
		err := s.chain(ctx, int64(after), func(r *record) error {
			l := line{
				Seq: r.seq, At: micros(r.at).Format(lineTime), Actor: r.actor, Kind: r.kind,
				Tenant: r.tenant, Subject: r.subject, Body: r.body,
			}
			copy(l.Prev[:], r.prev)
			copy(l.Hash[:], r.hash)
			if err := enc.Encode(l); err != nil {
				return fmt.Errorf("export event %d: %w", r.seq, err)
			}
			return nil
		})
		return errors.Join(err, out.Flush())
	})
	return head, err
}

// Import adds the events of an Export, which must be those that follow the
// last one here: each is verified and folded. What was imported before an
// error stays; the place returned is that of the last event taken. The
// idempotency keys of the events count here too.
func (j *Journal) Import(ctx context.Context, r io.Reader) (Checkpoint, error) {
	d := json.NewDecoder(r)
	for {
		var records []record
		var end error
		for size := 0; len(records) < foldSize && size < batchBytes; size += len(records[len(records)-1].body) {
			var l line
			if end = d.Decode(&l); end != nil {
				break
			}
			at, err := time.Parse(lineTime, l.At)
			if err != nil {
				end = fmt.Errorf("event %d: %w", l.Seq, err)
				break
			}
			records = append(records, record{
				seq: l.Seq, at: at.UnixMicro(), actor: l.Actor, kind: l.Kind,
				tenant: l.Tenant, subject: l.Subject, body: l.Body, prev: l.Prev[:], hash: l.Hash[:],
			})
		}
		if err := j.take(ctx, records); err != nil {
			end = err
		}
		if end != nil {
			if errors.Is(end, io.EOF) {
				end = nil
			} else {
				end = fmt.Errorf("import: %w", end)
			}
			head, err := j.Head(ctx)
			return head, errors.Join(end, err)
		}
	}
}

// take makes the records the next events, all or none.
func (j *Journal) take(ctx context.Context, records []record) error {
	b := newBatch(j.index)
	events := make([]Event, len(records))
	for i := range records {
		var err error
		if events[i], err = records[i].event(); err != nil {
			return err
		}
		for _, d := range events[i].Edits {
			b.before[d.Ref] = nil
		}
	}
	j.turn <- struct{}{}
	defer func() { <-j.turn }()
	err := j.transact(ctx, b, func(tx) error {
		for i := range records {
			if _, err := b.follow(&records[i]); err != nil {
				return err
			}
			if err := b.check(&events[i]); err != nil {
				return err
			}
			b.records = append(b.records, records[i])
			b.fold(&events[i])
		}
		return nil
	})
	if err == nil {
		j.wake()
	}
	return err
}
