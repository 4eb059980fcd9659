package journaltest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/gatehouse-gateway/gatehouse/control/journal"
)

func snapshot(t *testing.T, address Address) {
	j := Open(t, journal.Config{Address: address(t), Clock: NewClock().Now})
	const n = 2500 // more than are read at a time
	c := change()
	for i := range n {
		c.Puts = append(c.Puts, journal.Put{Ref: journal.Ref{Kind: []string{"k", "l", "m"}[i%3], Tenant: "a", ID: fmt.Sprintf("%04d", i)}, Body: []byte("1")})
	}
	if _, err := j.Commit(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	err := j.Snapshot(t.Context(), func(s *journal.Snapshot) error {
		do(t, j, `k/a/0000=2`, `-m/a/0002`, `k/a/9999=2`)
		seen, ofL := 0, 0
		for v, err := range s.All(t.Context()) {
			if err != nil {
				return err
			}
			if v.Revision != 1 {
				t.Errorf("%s is of revision %d", v.Ref, v.Revision)
			}
			seen++
		}
		for _, err := range s.All(t.Context(), "l", "none") {
			if err != nil {
				return err
			}
			ofL++
		}
		if s.Head.Seq != 1 || seen != n || ofL != n/3 {
			t.Errorf("snapshot of %d has %d resources, %d of kind l", s.Head.Seq, seen, ofL)
		}
		v, err := s.Get(t.Context(), ref("m/a/0002"))
		same(t, "deleted since", fmt.Sprint(v.Revision, err), "1 <nil>")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := j.Get(t.Context(), ref("m/a/0002")); !errors.Is(err, journal.ErrNotFound) {
		t.Errorf("outside of the snapshot: %v", err)
	}
}

// fill commits events of all sorts.
func fill(t testing.TB, j *journal.Journal, n int) {
	t.Helper()
	for i := range n {
		words := []string{fmt.Sprintf(`tenant/t%d/t={"plan":"p%d","domains":["d%d.example"]}`, i%7, i%3, i), fmt.Sprintf(`key/t%d/k%d={"<":%d}`, i%7, i, i)}
		if i > 3 && i%5 == 0 {
			words = append(words, fmt.Sprintf(`-key/t%d/k%d`, (i-2)%7, i-2))
		}
		c := change(words...)
		c.Why, c.Idempotency = "because \"of\" <this>", journal.Idempotency{Key: fmt.Sprint(i), Request: "r"}
		if _, err := j.Commit(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
}

func transfer(t *testing.T, address Address) {
	from := Open(t, journal.Config{Address: address(t), Index: tenants})
	to := Open(t, journal.Config{Address: address(t), Index: tenants})
	fill(t, from, 30)
	var first, rest bytes.Buffer
	if _, err := from.Export(t.Context(), &first, 0); err != nil {
		t.Fatal(err)
	}
	fill2 := change(`tenant/t1/t={"plan":"last"}`)
	if _, err := from.Commit(t.Context(), fill2); err != nil {
		t.Fatal(err)
	}
	if _, err := from.Export(t.Context(), &rest, 30); err != nil {
		t.Fatal(err)
	}
	if _, err := to.Import(t.Context(), bytes.NewReader(rest.Bytes())); err == nil {
		t.Error("a tail was imported without its beginning")
	}
	forged := bytes.Replace(first.Bytes(), []byte(`"plan":"p2"`), []byte(`"plan":"p1"`), 1)
	if head, err := to.Import(t.Context(), bytes.NewReader(forged)); err == nil || head.Seq != 0 {
		t.Errorf("a forged export was imported up to %d: %v", head.Seq, err)
	}
	for _, part := range []*bytes.Buffer{&first, &rest} {
		if _, err := to.Import(t.Context(), part); err != nil {
			t.Fatal(err)
		}
	}
	same(t, "state", State(t, to), State(t, from))
	same(t, "head", fmt.Sprint(Sound(t, to)), fmt.Sprint(Sound(t, from)))
	c := change()
	c.Idempotency = journal.Idempotency{Key: "29", Request: "r"}
	if e, err := to.Commit(t.Context(), c); e.Seq != 30 || !errors.Is(err, journal.ErrReplayed) {
		t.Errorf("an imported idempotency key: %d %v", e.Seq, err)
	}
}

func verify(t *testing.T, address Address) {
	j := Open(t, journal.Config{Address: address(t)})
	r, err := j.Verify(t.Context())
	same(t, "empty", fmt.Sprint(r.Events, r.Fault, err), "0 <nil> <nil>")
	fill(t, j, 20)
	mid, err := j.Event(t.Context(), 10)
	if err != nil {
		t.Fatal(err)
	}
	head, err := j.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r, err = j.Verify(t.Context(), mid.Checkpoint(), head)
	same(t, "whole", fmt.Sprint(r.Events, r.Head == head, r.Fault, err), "20 true <nil> <nil>")
	other := mid.Checkpoint()
	other.Hash[0] ^= 1
	r, err = j.Verify(t.Context(), head, other)
	same(t, "another history", fmt.Sprintln(r.Fault.Kind, r.Fault.Seq, err), "rewritten 10 <nil>\n")
	longer := head
	longer.Seq = 25
	r, err = j.Verify(t.Context(), longer)
	same(t, "cut", fmt.Sprintln(r.Fault.Kind, r.Fault.Seq, err), "truncated 21 <nil>\n")
}

func rebuild(t *testing.T, address Address) {
	j := Open(t, journal.Config{Address: address(t), Index: tenants, Clock: NewClock().Now})
	fill(t, j, 40)
	before, head := State(t, j), Sound(t, j)
	if err := j.Rebuild(t.Context()); err != nil {
		t.Fatal(err)
	}
	same(t, "state", State(t, j), before)
	same(t, "head", fmt.Sprint(Sound(t, j)), fmt.Sprint(head))
	c := change()
	c.Idempotency = journal.Idempotency{Key: "39", Request: "r"}
	if e, err := j.Commit(t.Context(), c); e.Seq != 40 || !errors.Is(err, journal.ErrReplayed) {
		t.Errorf("a rebuilt idempotency key: %d %v", e.Seq, err)
	}
}

// updates: control planes that share a store lose no update.
func updates(t *testing.T, address Address) {
	at := address(t)
	planes := []*journal.Journal{Open(t, journal.Config{Address: at}), Open(t, journal.Config{Address: at})}
	do(t, planes[0], `n/a/count=0`)
	const writers, each = 4, 10
	var wg sync.WaitGroup
	var mu sync.Mutex
	refused := 0
	for w := range writers {
		j := planes[w%len(planes)]
		wg.Go(func() {
			for done := 0; done < each; {
				v, err := j.Get(t.Context(), ref("n/a/count"))
				if err != nil {
					t.Error(err)
					return
				}
				var n int
				fmt.Sscan(string(v.Body), &n) //nolint:errcheck // the tests' own number
				_, err = j.Commit(t.Context(), change(fmt.Sprintf("n/a/count=%d", n+1), fmt.Sprintf("n/a/count@%d", v.Revision)))
				if _, stale := errors.AsType[*journal.StaleError](err); stale {
					mu.Lock()
					refused++
					mu.Unlock()
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				done++
			}
		})
	}
	wg.Wait()
	v, err := planes[1].Get(t.Context(), ref("n/a/count"))
	same(t, "count", fmt.Sprintln(string(v.Body), v.Revision, err), fmt.Sprintln(writers*each, 1+writers*each, nil))
	if refused == 0 {
		t.Error("no update was stale: the test shows nothing")
	}
	Sound(t, planes[0])
}

// wholeEvents: readers see an event whole or not at all.
func wholeEvents(t *testing.T, address Address) {
	at := address(t)
	j, other := Open(t, journal.Config{Address: at}), Open(t, journal.Config{Address: at})
	do(t, j, `n/a/x=0`, `n/b/y=0`)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, r := range []*journal.Journal{j, other} {
		wg.Go(func() {
			for ctx.Err() == nil {
				p, err := r.List(t.Context(), journal.Query{Kind: "n"})
				if err != nil || len(p.Items) != 2 || !bytes.Equal(p.Items[0].Body, p.Items[1].Body) {
					t.Errorf("list: %v %v", p.Items, err)
					return
				}
				err = r.Snapshot(t.Context(), func(s *journal.Snapshot) error {
					x, err := s.Get(t.Context(), ref("n/a/x"))
					if err != nil {
						return err
					}
					y, err := s.Get(t.Context(), ref("n/b/y"))
					if !bytes.Equal(x.Body, y.Body) || x.Revision != s.Head.Seq {
						t.Errorf("snapshot of %d: %v %v", s.Head.Seq, x, y)
					}
					return err
				})
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := range 100 {
		do(t, j, fmt.Sprintf(`n/a/x=%d`, i), fmt.Sprintf(`n/b/y=%d`, i))
	}
	cancel()
	wg.Wait()
}

// model holds the journal against a map, over changes of any sort.
func model(t *testing.T, address Address) {
	at := address(t)
	j := Open(t, journal.Config{Address: at, Index: tenants})
	state := map[journal.Ref]string{}
	past := []map[journal.Ref]string{{}} // by seq
	revision := map[journal.Ref]int64{}
	rapid.Check(t, func(rt *rapid.T) { // one journal grows through all the runs
		seq := int64(len(past))
		next := maps.Clone(state)
		c := change()
		want := true
		for _, i := range rapid.SliceOfNDistinct(rapid.IntRange(0, 8), 0, 4, rapid.ID).Draw(rt, "refs") {
			r := journal.Ref{Kind: "tenant", Tenant: string(rune('a' + i/3)), ID: fmt.Sprint(i % 3)}
			expect := rapid.SampledFrom([]int64{journal.Any, journal.Any, revision[r], revision[r], journal.Absent}).Draw(rt, "expect")
			if expect != journal.Any {
				want = want && expect == revision[r]
				c.Expect[r] = expect
			}
			if rapid.IntRange(0, 3).Draw(rt, "delete") == 0 {
				want = want && revision[r] != 0
				c.Deletes = append(c.Deletes, r)
				delete(next, r)
				continue
			}
			body := fmt.Sprintf(`{"plan":%q,"domains":[%q,"all"]}`, rapid.SampledFrom([]string{"x", "y"}).Draw(rt, "plan"), fmt.Sprint(seq))
			c.Puts = append(c.Puts, journal.Put{Ref: r, Body: []byte(body)})
			next[r] = body
		}
		e, err := j.Commit(t.Context(), c)
		if want != (err == nil) {
			rt.Fatalf("commit %+v: %v", c, err)
		}
		if err == nil {
			for _, d := range e.Edits {
				revision[d.Ref] = 0
				if d.After != nil {
					revision[d.Ref] = seq
				}
			}
			state = next
			past = append(past, next)
		}
		asOf := rapid.IntRange(0, len(past)-1).Draw(rt, "as of")
		if got, want := bodies(t, j, uint64(asOf)), text(past[asOf]); got != want {
			rt.Fatalf("as of %d:\n%s\nwant:\n%s", asOf, got, want)
		}
		plan := rapid.SampledFrom([]string{"x", "y"}).Draw(rt, "filter")
		n, err := j.Count(t.Context(), journal.Query{Kind: "tenant", Where: []journal.Field{{Name: "domain", Value: "all"}, {Name: "plan", Value: plan}}})
		if want := strings.Count(text(state), `"plan":"`+plan+`"`); n != want || err != nil {
			rt.Fatalf("%d of plan %s, want %d, %v", n, plan, want, err)
		}
	})
	head, before := Sound(t, j), State(t, j)
	if int(head.Seq) != len(past)-1 {
		t.Errorf("%d events, want %d", head.Seq, len(past)-1)
	}
	if err := j.Rebuild(t.Context()); err != nil {
		t.Fatal(err)
	}
	same(t, "rebuilt", State(t, j), before)
	Sound(t, j)
}

func bodies(t testing.TB, j *journal.Journal, seq uint64) string {
	t.Helper()
	got := map[journal.Ref]string{}
	for v, err := range j.AllAsOf(t.Context(), "tenant", nil, seq) {
		if err != nil {
			t.Fatal(err)
		}
		got[v.Ref] = string(v.Body)
	}
	return text(got)
}

func text(state map[journal.Ref]string) string {
	var lines []string
	for r, body := range state {
		lines = append(lines, r.String()+" "+body)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
