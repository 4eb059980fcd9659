package journal_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse/control/journal"
	"github.com/gatehouse-gateway/gatehouse/metering/servertest"
)

// Processes of one PostgreSQL ask each other, whatever the length of the
// answer; one that has gone is not waited for, one that does not answer is
// missed.
func TestPeers(t *testing.T) {
	address := servertest.Postgres(t)
	var running sync.WaitGroup
	defer running.Wait()
	join := func(answer func([]byte) ([]byte, error)) (*journal.Peers, func()) {
		j, err := journal.Open(t.Context(), journal.Config{Address: address, Index: index})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		t.Cleanup(stop)
		p := j.Peers()
		running.Go(func() {
			p.Run(ctx, slog.New(slog.DiscardHandler), func(_ context.Context, q []byte) ([]byte, error) { return answer(q) })
			if err := j.Close(); err != nil {
				t.Error(err)
			}
		})
		return p, stop
	}
	long := bytes.Repeat([]byte{0, 1, 254}, 300_000)
	refused := errors.New("no")
	a, leaveA := join(func([]byte) ([]byte, error) { return nil, errors.New("it asks itself") })
	_, leaveB := join(func([]byte) ([]byte, error) { return long, nil })
	_, leaveC := join(func(q []byte) ([]byte, error) {
		if string(q) == "odd" {
			return nil, refused
		}
		return append([]byte{}, q...), nil
	})
	var got [][]byte
	var err error
	until := func(answers int) {
		t.Helper()
		for len(got) != answers || err != nil {
			if t.Context().Err() != nil {
				t.Fatal(err)
			}
			// One that is leaving may have been counted.
			ctx, stop := context.WithTimeout(t.Context(), time.Second)
			got, err = a.Ask(ctx, []byte("even"))
			stop()
		}
	}
	err = journal.ErrUnheard
	until(2)
	if len(got[0]) > len(got[1]) {
		got[0], got[1] = got[1], got[0]
	}
	if string(got[0]) != "even" || !bytes.Equal(got[1], long) {
		t.Errorf("answers of %d and %d bytes", len(got[0]), len(got[1]))
	}
	ctx, stop := context.WithTimeout(t.Context(), time.Second)
	defer stop()
	if got, err := a.Ask(ctx, []byte("odd")); !errors.Is(err, journal.ErrUnheard) || len(got) != 1 || !bytes.Equal(got[0], long) {
		t.Errorf("one of two: %d answers, %v", len(got), err)
	}
	leaveB()
	until(1)
	leaveC()
	until(0)
	if _, err := a.Ask(t.Context(), make([]byte, 5001)); !errors.Is(err, journal.ErrInvalid) {
		t.Error("a long question:", err)
	}
	leaveA()
	for err == nil { // its connection ends with it
		_, err = a.Ask(t.Context(), []byte("late")) // nobody is left to answer
	}
	if !errors.Is(err, journal.ErrUnheard) {
		t.Error("who does not listen:", err)
	}

	j, err := journal.Open(t.Context(), journal.Config{Address: filepath.Join(t.TempDir(), "journal.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if j.Peers() != nil {
		t.Error("SQLite has peers")
	}
}
