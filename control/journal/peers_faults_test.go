package journal_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/gatehouse-gateway/gatehouse/control/journal"
	"github.com/gatehouse-gateway/gatehouse/metering/servertest"
	"github.com/jackc/pgx/v5"
)

// peersOf opens a journal, and returns its peers.
func peersOf(t *testing.T, address string) *journal.Peers {
	t.Helper()
	j, err := journal.Open(t.Context(), journal.Config{Address: address, Index: index})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	return j.Peers()
}

// runs has p run until the test ends.
func runs(t *testing.T, p *journal.Peers, log *slog.Logger, answer func(context.Context, []byte) ([]byte, error)) {
	t.Helper()
	var running sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	running.Go(func() { p.Run(ctx, log, answer) })
	t.Cleanup(func() { stop(); running.Wait() })
}

func connected(t *testing.T, address string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// listeners waits until so many listen.
func listeners(t *testing.T, conn *pgx.Conn, want int) {
	t.Helper()
	for n := -1; n != want; {
		err := conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objid = $1 AND objsubid = 1", int64(0x70656572)).Scan(&n)
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A peer that one has been told of is waited for, whoever else answers.
func TestPeersByName(t *testing.T) {
	address := servertest.Postgres(t)
	a, b := peersOf(t, address), peersOf(t, address)
	other := connected(t, address)
	if _, err := other.Exec(t.Context(), "LISTEN gatehouse_peers"); err != nil {
		t.Fatal(err)
	}
	may := make(chan struct{})
	quiet := slog.New(slog.DiscardHandler)
	runs(t, a, quiet, func(context.Context, []byte) ([]byte, error) { return nil, errors.New("it asks itself") })
	runs(t, b, quiet, func(ctx context.Context, _ []byte) ([]byte, error) {
		if _, ok := ctx.Deadline(); !ok {
			t.Error("an answer may take forever")
		}
		<-may
		return []byte("b"), nil
	})
	listeners(t, connected(t, address), 2)
	type outcome struct {
		texts [][]byte
		err   error
	}
	asked := make(chan outcome, 1)
	go func() {
		texts, err := a.Ask(t.Context(), []byte("q"))
		for errors.Is(err, journal.ErrUnheard) && t.Context().Err() == nil { // it may not know yet that it listens
			texts, err = a.Ask(t.Context(), []byte("q"))
		}
		asked <- outcome{texts, err}
	}()
	told, err := other.WaitForNotification(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var n map[string]any
	if err := json.Unmarshal([]byte(told.Payload), &n); err != nil {
		t.Fatal(err)
	}
	// One that began to listen after the question was put.
	late, err := json.Marshal(map[string]any{"from": "late", "session": other.PgConn().PID(), "to": n["from"], "question": n["question"], "last": true, "text": []byte("late")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Exec(t.Context(), "SELECT pg_notify('gatehouse_peers', $1)", string(late)); err != nil {
		t.Fatal(err)
	}
	close(may)
	if got := <-asked; got.err != nil || string(bytes.Join(got.texts, []byte(" "))) != "late b" {
		t.Errorf("%q, %v", got.texts, got.err)
	}
}

// A connection that breaks is told of once, as is the next one; who listens
// has PostgreSQL look whether it is there.
func TestPeersBreak(t *testing.T) {
	address := servertest.Postgres(t)
	p, conn := peersOf(t, address), connected(t, address)
	read, write := newLines()
	runs(t, p, slog.New(slog.NewTextHandler(write, nil)), func(context.Context, []byte) ([]byte, error) { return nil, nil })
	for range 2 {
		listeners(t, conn, 1)
		if _, err := conn.Exec(t.Context(), "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND objsubid = 1", int64(0x70656572)); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"other control planes are not heard", "other control planes are heard again"} {
			if line := <-read; !strings.Contains(line, want) {
				t.Errorf("%s, not %q", line, want)
			}
		}
	}
	own, err := p.Join(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close(t.Context())
	var set int
	if err := own.QueryRow(t.Context(), "SELECT count(*) FROM pg_settings WHERE name LIKE 'tcp\\_keepalives\\_%' AND source = 'session'").Scan(&set); err != nil || set != 3 {
		t.Errorf("%d settings, %v", set, err)
	}
}

// lines are what is written, a line at a time.
type lines chan string

func newLines() (<-chan string, lines) {
	l := make(lines, 100)
	return l, l
}

func (l lines) Write(b []byte) (int, error) {
	l <- string(b)
	return len(b), nil
}

// Questions and answers are kept nowhere, so that none of them waits for the
// disk.
func TestPeersOfNoDisk(t *testing.T) {
	address := servertest.Postgres(t)
	conn := connected(t, address)
	for _, statement := range []string{
		"CREATE TABLE public.seen (setting text)",
		`CREATE FUNCTION public.pg_notify(text, text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
			INSERT INTO public.seen VALUES (current_setting('synchronous_commit')); PERFORM pg_catalog.pg_notify($1, $2); END $$`,
		`DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = public, pg_catalog', current_database()); END $$`,
	} {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	a, b := peersOf(t, address), peersOf(t, address)
	for _, p := range []*journal.Peers{a, b} {
		runs(t, p, slog.New(slog.DiscardHandler), func(_ context.Context, q []byte) ([]byte, error) { return q, nil })
	}
	listeners(t, conn, 2)
	for err := journal.ErrUnheard; err != nil && t.Context().Err() == nil; { // it may not know yet that it listens
		_, err = a.Ask(t.Context(), []byte("q"))
	}
	var settings string
	if err := conn.QueryRow(t.Context(), "SELECT string_agg(setting, ' ') FROM public.seen").Scan(&settings); err != nil || settings != "off off" {
		t.Errorf("%q, %v", settings, err)
	}
}
