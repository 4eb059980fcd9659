// Package journaltest holds what every journal must do, whatever database it
// is on.
package journaltest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse/control/journal"
)

// Address returns the address of an empty store that lasts as long as the
// test.
type Address func(testing.TB) string

// Suite runs every test on stores of its own.
func Suite(t *testing.T, address Address) {
	for _, c := range []struct {
		name string
		test func(*testing.T, Address)
	}{
		{"Commit", commit},
		{"Refusals", refusals},
		{"Idempotency", idempotency},
		{"Lists", lists},
		{"Index", index},
		{"Time", timeTravel},
		{"Undo", undo},
		{"Events", events},
		{"Watch", watch},
		{"Prompt", func(t *testing.T, address Address) {
			j := Open(t, journal.Config{Address: address(t)})
			Prompt(t, j, j)
		}},
		{"Snapshot", snapshot},
		{"Transfer", transfer},
		{"Verify", verify},
		{"Rebuild", rebuild},
		{"Updates", updates},
		{"WholeEvents", wholeEvents},
		{"Model", model},
		{"Cancelled", cancelled},
		{"Closed", closed},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t, address)
		})
	}
}

// Clock is a clock that stands still until it is set. It is safe for
// concurrent use.
type Clock struct {
	mu  sync.Mutex
	now time.Time // guarded by mu
}

// Now returns the time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Add moves the clock.
func (c *Clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// NewClock returns a clock that stands at a round time.
func NewClock() *Clock { return &Clock{now: time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)} }

var tenants = journal.Index{"tenant": {"plan": "/plan", "domain": "/domains/*"}}

// Open opens a journal and closes it when the test ends.
func Open(t testing.TB, c journal.Config) *journal.Journal {
	t.Helper()
	j, err := journal.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	return j
}

// State returns everything in the tables, one resource a line.
func State(t testing.TB, j *journal.Journal) string {
	t.Helper()
	var lines []string
	for v, err := range j.All(context.WithoutCancel(t.Context())) {
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line(v))
	}
	return strings.Join(lines, "\n")
}

func line(v journal.Resource) string {
	return fmt.Sprintf("%s @%d %s %s %s", v.Ref, v.Revision, v.Created.Format("15:04:05"), v.Updated.Format("15:04:05"), v.Body)
}

// Sound fails the test unless the journal verifies, its state included, and
// returns its head.
func Sound(t testing.TB, j *journal.Journal) journal.Checkpoint {
	t.Helper()
	r, err := j.VerifyState(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	if r.Fault != nil {
		t.Fatalf("fault: %+v", *r.Fault)
	}
	return r.Head
}

// NoSecrets fails the test when anything of the journal holds one of the
// secrets.
func NoSecrets(t testing.TB, j *journal.Journal, secrets ...string) {
	t.Helper()
	var all bytes.Buffer
	if _, err := j.Export(t.Context(), &all, 0); err != nil {
		t.Fatal(err)
	}
	all.WriteString(State(t, j))
	for i, s := range secrets {
		if bytes.Contains(all.Bytes(), []byte(s)) {
			t.Errorf("secret %d is in the journal", i)
		}
	}
}

func ref(s string) journal.Ref {
	p := strings.Split(s, "/")
	return journal.Ref{Kind: p[0], Tenant: p[1], ID: p[2]}
}

// change returns a change written as words: "tenant/a/a={…}" puts,
// "-tenant/a/a" deletes, "tenant/a/a@3" expects.
func change(words ...string) journal.Change {
	c := journal.Change{Actor: "ann", Kind: "test", Tenant: "a", Subject: "s", Expect: map[journal.Ref]int64{}}
	for _, w := range words {
		if name, body, ok := strings.Cut(w, "="); ok {
			c.Puts = append(c.Puts, journal.Put{Ref: ref(name), Body: []byte(body)})
		} else if name, ok := strings.CutPrefix(w, "-"); ok {
			c.Deletes = append(c.Deletes, ref(name))
		} else if name, revision, ok := strings.Cut(w, "@"); ok {
			var n int64
			fmt.Sscan(revision, &n) //nolint:errcheck // the tests' own words
			c.Expect[ref(name)] = n
		}
	}
	return c
}

func do(t testing.TB, j *journal.Journal, words ...string) journal.Event {
	t.Helper()
	e, err := j.Commit(t.Context(), change(words...))
	if err != nil {
		t.Fatalf("%v: %v", words, err)
	}
	return e
}

func same(t testing.TB, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s:\n%s\nwant:\n%s", what, got, want)
	}
}

func names(vs []journal.Resource) string {
	var out []string
	for _, v := range vs {
		out = append(out, v.Tenant+"/"+v.ID)
	}
	return strings.Join(out, " ")
}

func commit(t *testing.T, address Address) {
	clock := NewClock()
	j := Open(t, journal.Config{Address: address(t), Clock: clock.Now, Index: tenants})
	c := change(`tenant/a/a={ "plan" : "free", "n": 1e400 }`, `key/a/k1={"hash":"<&>\u0000é"}`)
	c.Why = "asked for"
	e, err := j.Commit(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "body", string(e.Body), `{"why":"asked for","edits":[`+
		`{"kind":"tenant","tenant":"a","id":"a","created":1767322800000000,"after":{"plan":"free","n":1e400}},`+
		`{"kind":"key","tenant":"a","id":"k1","created":1767322800000000,"after":{"hash":"<&>\u0000é"}}]}`)
	clock.Add(time.Minute)
	do(t, j, `tenant/a/a={"plan":"gold"}`, `tenant/a/a@1`, `-key/a/k1`)
	clock.Add(-time.Hour) // set back: times do not decrease
	do(t, j, `key/a/k1={}`, `key/a/k1@0`)
	do(t, j) // an event that changes nothing
	same(t, "state", State(t, j), `key/a/k1 @3 03:01:00 03:01:00 {}
tenant/a/a @2 03:00:00 03:01:00 {"plan":"gold"}`)
	stored, err := j.Event(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "event", fmt.Sprintf("%+v", stored), fmt.Sprintf("%+v", e))
	if head := Sound(t, j); head.Seq != 4 || head.At.Minute() != 1 {
		t.Errorf("head %+v", head)
	}
}

func refusals(t *testing.T, address Address) {
	guard := errors.New("a secret in clear")
	j := Open(t, journal.Config{Address: address(t), Clock: NewClock().Now, Guard: func(c journal.Change) error {
		for _, p := range c.Puts {
			if bytes.Contains(p.Body, []byte("hunter2")) {
				return guard
			}
		}
		return nil
	}})
	do(t, j, `k/a/x={}`)
	do(t, j, `k/a/x={"v":2}`, `k/a/y={}`)
	before := State(t, j)
	for _, c := range []struct {
		change journal.Change
		want   string
	}{
		{change(`k/a/x={}`, `k/a/x@1`), "*journal.StaleError k/a/x is at revision 2, not 1"},
		{change(`k/a/z={}`, `k/a/x@1`), "*journal.StaleError k/a/x is at revision 2, not 1"}, // one it only depends on
		{change(`k/a/x={}`, `k/a/x@0`), "*journal.ExistsError k/a/x exists at revision 2"},
		{change(`k/a/z={}`, `k/a/z@1`), "*journal.NotFoundError k/a/z does not exist"},
		{change(`-k/a/z`), "*journal.NotFoundError k/a/z does not exist"},
		{change(`k/a/q={}`, `-k/a/z`), "*journal.NotFoundError k/a/z does not exist"}, // as a whole or not at all
		{change(`k/a/q={}`, `k/a/q={}`), "*fmt.wrapError k/a/q is named twice: not valid"},
		{change(`k/a/q={}`, `-k/a/q`), "*fmt.wrapError k/a/q is named twice: not valid"},
		{change(`k/a/q={`), "*fmt.wrapError k/a/q: the body is not JSON: not valid"},
		{change(`k/a/q=null`), "*fmt.wrapError k/a/q: the body is null: not valid"},
		{change("k/a/q=\"\xff\""), "*fmt.wrapError k/a/q: the body is not JSON: not valid"},
		{change(`k/a/={}`), "*fmt.wrapError k/a/: a resource without kind or id: not valid"},
		{change("k/a\x00/q={}"), "*errors.joinError text of 2 bytes that is not UTF-8, holds NUL or is longer than 255: not valid"},
		{journal.Change{Kind: "x"}, "*fmt.wrapError a change without actor or kind: not valid"},
		{change(`k/a/q="hunter2"`), "*errors.errorString a secret in clear"},
	} {
		_, err := j.Commit(t.Context(), c.change)
		same(t, "error", fmt.Sprintf("%T %v", err, err), c.want)
	}
	if _, err := j.Get(t.Context(), ref("k/a/q")); !errors.Is(err, journal.ErrNotFound) {
		t.Errorf("get: %v", err)
	}
	same(t, "state", State(t, j), before)
	if head := Sound(t, j); head.Seq != 2 {
		t.Errorf("refused changes left %d events", head.Seq)
	}
	NoSecrets(t, j, "hunter2")
}

func idempotency(t *testing.T, address Address) {
	clock := NewClock()
	j := Open(t, journal.Config{Address: address(t), Clock: clock.Now})
	ask := func(actor, key, request string) string {
		c := change(`k/a/x={}`)
		c.Actor, c.Idempotency = actor, journal.Idempotency{Key: key, Request: request}
		e, err := j.Commit(t.Context(), c)
		return fmt.Sprintf("%d %s %v", e.Seq, e.Idempotency.Request, err)
	}
	for _, c := range []struct {
		after               time.Duration
		actor, key, request string
		want                string
	}{
		{0, "ann", "1", "r", "1 r <nil>"},
		{0, "ann", "1", "r", "1 r done before"},
		{0, "ann", "1", "other", "0  idempotency key used for another request"},
		{0, "bob", "1", "other", "2 other <nil>"},
		{24*time.Hour - 1000, "ann", "1", "r", "1 r done before"},
		{1000, "ann", "1", "other", "3 other <nil>"}, // forgotten after a day
		{0, "ann", "1", "other", "3 other done before"},
	} {
		clock.Add(c.after)
		same(t, "answer", ask(c.actor, c.key, c.request), c.want)
	}
	// Asked for many times at once, it happens once.
	var wg sync.WaitGroup
	var mu sync.Mutex
	var got []string
	for range 20 {
		wg.Go(func() {
			a := ask("ann", "2", "r")
			mu.Lock()
			defer mu.Unlock()
			got = append(got, a)
		})
	}
	wg.Wait()
	slices.Sort(got)
	same(t, "answers", strings.Join(slices.Compact(got), ", "), "4 r <nil>, 4 r done before")
	Sound(t, j)
}

func cancelled(t *testing.T, address Address) {
	j := Open(t, journal.Config{Address: address(t)})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 { // whether its turn has come or not
		if _, err := j.Commit(ctx, change(`k/a/x={}`)); !errors.Is(err, context.Canceled) {
			t.Fatalf("commit: %v", err)
		}
	}
	same(t, "state", State(t, j), "")
	do(t, j, `k/a/x={}`)
}

func closed(t *testing.T, address Address) {
	j := Open(t, journal.Config{Address: address(t)})
	ended := make(chan error)
	go func() {
		for _, err := range j.Watch(context.Background(), 0) {
			ended <- err
		}
	}()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err == nil {
			t.Error("a watch of a closed journal yielded an event")
		}
	case <-time.After(10 * time.Second):
		t.Error("the watch goes on")
	}
	if _, err := j.Commit(t.Context(), change()); err == nil {
		t.Error("a closed journal took an event")
	}
}
