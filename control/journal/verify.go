package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
)

// FaultKind says how a journal was tampered with or damaged.
type FaultKind string

// The kinds of faults.
const (
	// Changed: an event's columns do not give its hash, or the next event
	// names another hash for it.
	Changed FaultKind = "changed"
	// Missing: there are later events, but not this one.
	Missing FaultKind = "missing"
	// Reordered: an event stands at another's number.
	Reordered FaultKind = "reordered"
	// Truncated: the journal was longer.
	Truncated FaultKind = "truncated"
	// Rewritten: the chain holds, but a checkpoint kept elsewhere has another
	// hash.
	Rewritten FaultKind = "rewritten"
	// State: the events are whole, but the tables are not their fold. Rebuild
	// mends it.
	State FaultKind = "state"
)

// Fault is the first thing found wrong.
type Fault struct {
	Kind FaultKind `json:"kind"`
	// Seq is the number of the event that is changed, missing or elsewhere,
	// or of the first one that was cut off. For State it is the revision of
	// the resource, where one is meant.
	Seq uint64 `json:"seq"`
	// Detail is for a reader.
	Detail string `json:"detail"`
}

// Report is what verification found.
type Report struct {
	// Events is how many were found whole, from the first on; Head is the
	// last of them.
	Events uint64     `json:"events"`
	Head   Checkpoint `json:"head"`
	// Fault is nil when all is as it was written.
	Fault *Fault `json:"fault,omitempty"`
}

// errFault ends a pass that has found something.
var errFault = errors.New("fault found")

// Verify follows the chain from the first event to the last and holds it
// against checkpoints kept elsewhere. Without a checkpoint a tail that was cut
// off together with the head's own record, or that was hashed anew, cannot be
// told from one that never was. It reads a snapshot and blocks nobody.
func (j *Journal) Verify(ctx context.Context, against ...Checkpoint) (Report, error) {
	var v verifier
	err := j.Snapshot(ctx, func(s *Snapshot) error { return v.chain(ctx, s, against, nil) })
	return v.report, err
}

// VerifyState is Verify, and compares the tables with the fold of the events.
// It needs about 150 bytes of memory a resource.
func (j *Journal) VerifyState(ctx context.Context, against ...Checkpoint) (Report, error) {
	var v verifier
	err := j.Snapshot(ctx, func(s *Snapshot) error {
		index, err := storedIndex(ctx, s.q)
		if err != nil {
			return err
		}
		f := folded{index: index, live: map[Hash]Hash{}}
		if err := v.chain(ctx, s, against, f.add); err != nil || v.report.Fault != nil {
			return err
		}
		fault, err := f.compare(ctx, &s.Reader)
		v.report.Fault = fault
		return err
	})
	return v.report, err
}

type verifier struct{ report Report }

func (v *verifier) fault(kind FaultKind, seq uint64, format string, args ...any) error {
	v.report.Fault = &Fault{kind, seq, fmt.Sprintf(format, args...)}
	return errFault
}

// chain verifies the events and calls each, when it is not nil, with those
// that are whole.
func (v *verifier) chain(ctx context.Context, s *Snapshot, against []Checkpoint, each func(*Event)) error {
	checkpoints := map[uint64]Hash{}
	for _, c := range against {
		checkpoints[c.Seq] = c.Hash
	}
	err := s.chain(ctx, 0, func(r *record) error {
		if err := v.next(r, s.Head.Seq); err != nil {
			return err
		}
		head := &v.report.Head
		if want, ok := checkpoints[head.Seq]; ok && want != head.Hash {
			return v.fault(Rewritten, head.Seq, "event %d has hash %s, the checkpoint %s", head.Seq, head.Hash, want)
		}
		if each == nil {
			return nil
		}
		e, err := r.event()
		if err != nil { // whole, but not of our making
			return v.fault(Changed, head.Seq, "%v", err)
		}
		each(&e)
		return nil
	})
	if err == nil {
		err = v.end(ctx, s, against)
	}
	if errors.Is(err, errFault) {
		return nil
	}
	return err
}

// next holds r against the event before it.
func (v *verifier) next(r *record, total uint64) error {
	head := &v.report.Head
	seq := head.Seq + 1
	if uint64(r.seq) != seq {
		return v.fault(Missing, seq, "event %d is followed by event %d", head.Seq, r.seq)
	}
	sum := r.sum(r.seq)
	switch {
	case !bytes.Equal(sum[:], r.hash):
		for other := uint64(1); other <= total; other++ {
			if sum := r.sum(int64(other)); bytes.Equal(sum[:], r.hash) {
				return v.fault(Reordered, seq, "event %d stands in the place of event %d", other, seq)
			}
		}
		return v.fault(Changed, seq, "event %d does not have the content that its hash is of", seq)
	case !bytes.Equal(r.prev, head.Hash[:]) && seq == 1:
		return v.fault(Changed, seq, "event 1 names a predecessor")
	case !bytes.Equal(r.prev, head.Hash[:]):
		v.report.Events--
		return v.fault(Changed, head.Seq, "event %d was written anew with a hash of its own; event %d still names the one before", head.Seq, seq)
	}
	v.report.Events++
	v.report.Head = Checkpoint{seq, micros(r.at), sum}
	return nil
}

// end holds the last event against what else tells where the journal ends.
func (v *verifier) end(ctx context.Context, s *Snapshot, against []Checkpoint) error {
	head := &v.report.Head
	for _, c := range append(against, s.Head) {
		if c.Seq > head.Seq {
			return v.fault(Truncated, head.Seq+1, "the journal ends at event %d and once had %d", head.Seq, c.Seq)
		}
	}
	if head.Seq > s.Head.Seq {
		return v.fault(Changed, s.Head.Seq+1, "event %d was not written by the journal, which ends at %d", s.Head.Seq+1, s.Head.Seq)
	}
	if head.Hash != s.Head.Hash || head.Seq > 0 && !head.At.Equal(s.Head.At) {
		return v.fault(Changed, head.Seq, "the record of the head does not name event %d as it is", head.Seq)
	}
	strange, err := s.records(ctx, `WHERE seq < 1 LIMIT 1`)
	if err == nil && len(strange) > 0 {
		return v.fault(Changed, 0, "there is an event of number %d", strange[0].seq)
	}
	return err
}
