package journal

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"testing"
	"time"
)

// TestVerifier flips every bit of every column of every event.
func TestVerifier(t *testing.T) {
	b := newBatch(nil)
	for i := range 6 {
		c := change(i)
		b.before[c.Puts[0].Ref] = nil
		if _, err := b.add(&c, micros(1e15)); err != nil {
			t.Fatal(err)
		}
	}
	verdict := func(records []record) string {
		var v verifier
		for i := range records {
			if err := v.next(&records[i], uint64(len(records))); err != nil {
				if !errors.Is(err, errFault) {
					t.Fatal(err)
				}
				return fmt.Sprint(v.report.Fault.Kind, " ", v.report.Fault.Seq)
			}
		}
		return "nothing"
	}
	if got := verdict(b.records); got != "nothing" {
		t.Fatal(got)
	}
	flips := 0
	for i := range b.records {
		for column := range 9 {
			for bit := 0; ; bit++ {
				records := append([]record{}, b.records...)
				if !flip(&records[i], column, bit) {
					break
				}
				flips++
				want := fmt.Sprint("changed ", i+1)
				if column == 0 {
					want = fmt.Sprint("missing ", i+1)
				}
				if got := verdict(records); got != want {
					t.Errorf("bit %d of column %d of event %d: %s, want %s", bit, column, i+1, got, want)
				}
			}
		}
	}
	t.Logf("%d flips", flips)
}

// TestVerifierOfMany holds the law of tampering over a journal of 10,000 events:
// every flip of a bit, every deletion, every swap of two events and every
// truncation is found, at the event where it was done. The events before that
// one are as they were, so that each begins with it. The short form does what
// there is one of for each event, and the flips and swaps of some.
//
//	go test ./control/journal -run TestVerifierOfMany -v -args -tamper
func TestVerifierOfMany(t *testing.T) {
	t.Parallel()
	const n = 10_000
	every := 97
	if flag.Lookup("tamper").Value.String() == "true" { // of TestMain
		every = 1
	}
	b := newBatch(nil)
	for i := range n {
		c := change(i)
		b.before[c.Puts[0].Ref] = nil
		if _, err := b.add(&c, micros(1e15)); err != nil {
			t.Fatal(err)
		}
	}
	all := b.records
	began := time.Now()
	at := make([]Checkpoint, n+1) // after so many events
	var v verifier
	for i := range all {
		if err := v.next(&all[i], 0); err != nil {
			t.Fatalf("event %d: %v", i+1, v.report.Fault)
		}
		at[i+1] = v.report.Head
	}
	took := time.Since(began)
	// found tells whether r is found out in the place of event i+1.
	found := func(i int, r *record) bool {
		v := verifier{report: Report{Events: uint64(i), Head: at[i]}}
		return errors.Is(v.next(r, 0), errFault) && v.report.Fault.Seq == uint64(i+1)
	}
	flips, deletions, swaps, cuts := 0, 0, 0, 0
	for i := range all {
		if i < n-1 {
			deletions++
			if !found(i, &all[i+1]) {
				t.Errorf("event %d was deleted", i+1)
			}
		}
		cuts++
		v := verifier{report: Report{Events: uint64(i), Head: at[i]}}
		if err := v.end(context.Background(), &Snapshot{Head: at[n]}, nil); !errors.Is(err, errFault) || v.report.Fault.Kind != Truncated {
			t.Errorf("the journal was cut after %d events: %v", i, err)
		}
		if i%every != 0 {
			continue
		}
		for j := i + 1; j < n; j++ {
			swaps++
			r := all[j]
			r.seq = all[i].seq // else it is a deletion
			if !found(i, &r) {
				t.Errorf("event %d stands for event %d", j+1, i+1)
			}
		}
		for column := range 9 {
			for bit := 0; ; bit++ {
				r := all[i]
				if !flip(&r, column, bit) {
					break
				}
				if flips++; !found(i, &r) {
					t.Errorf("bit %d of column %d of event %d", bit, column, i+1)
				}
			}
		}
	}
	t.Logf("%d events, verified at %.0f a second: %d flips, %d deletions, %d swaps, %d truncations, all found", n, n/took.Seconds(), flips, deletions, swaps, cuts)
}

// flip changes one bit and tells whether there was one.
func flip(r *record, column, bit int) bool {
	number := func(n *int64) bool {
		*n ^= 1 << bit
		return bit < 64
	}
	bytes := func(b *[]byte) bool {
		if bit >= 8*len(*b) {
			return false
		}
		*b = append([]byte{}, *b...)
		(*b)[bit/8] ^= 1 << (bit % 8)
		return true
	}
	text := func(s *string) bool {
		b := []byte(*s)
		ok := bytes(&b)
		*s = string(b)
		return ok
	}
	switch column {
	case 0:
		return number(&r.seq)
	case 1:
		return number(&r.at)
	case 2:
		return text(&r.actor)
	case 3:
		return text(&r.kind)
	case 4:
		return text(&r.tenant)
	case 5:
		return text(&r.subject)
	case 6:
		return bytes(&r.body)
	case 7:
		return bytes(&r.prev)
	}
	return bytes(&r.hash)
}

func change(i int) Change {
	return Change{
		Actor: "ann", Kind: "tenant.update", Tenant: "t", Subject: "s", Why: fmt.Sprint("reason ", i),
		Puts: []Put{{Ref{"tenant", "t", fmt.Sprint(i)}, []byte(`{"plan":"p"}`)}},
	}
}

// TestCanonical holds the form of the chain: it may never change.
func TestCanonical(t *testing.T) {
	r := record{at: 1767322800000000, actor: "ann", kind: "k", tenant: "té", subject: "s", body: []byte("{}"), prev: make([]byte, 32)}
	const want = "b54d81f4d1825b2728323a95f408a8d1daac403ec3b5dfe2c29e7d07ea6beb89" // by another implementation
	if got := r.sum(7).String(); got != want {
		t.Errorf("hash %s, want %s", got, want)
	}
}

// TestCheck: an event whose hash fits is still not taken from elsewhere when
// it replaces a revision that is not the present one.
func TestCheck(t *testing.T) {
	b := newBatch(nil)
	c := change(1)
	b.before[c.Puts[0].Ref] = nil
	e, err := b.add(&c, micros(1e15))
	if err != nil {
		t.Fatal(err)
	}
	const want = "event 1 replaces revision 0 of tenant/t/1, which is at 1"
	if err := b.check(&e); err == nil || err.Error() != want {
		t.Errorf("check: %v, want %s", err, want)
	}
}
