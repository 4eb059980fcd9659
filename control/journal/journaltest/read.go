package journaltest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse/control/journal"
)

func lists(t *testing.T, address Address) {
	j := Open(t, journal.Config{Address: address(t), Index: tenants})
	do(t, j, `tenant/a/a={"plan":"free","domains":["x.example","y.example"]}`)
	do(t, j, `tenant/b/b={"plan":"gold","domains":["x.example"]}`, `tenant/B/B={"plan":"free"}`)
	do(t, j, `tenant/ö/ö={"plan":"free"}`, `key/a/k1={"plan":"free"}`, `key/a/k2={}`, `key/b/k1={}`)
	do(t, j, `tenant/a/a={"plan":"gold","domains":["y.example"]}`)
	do(t, j, `tenant/c/c={"plan":"gold"}`)
	do(t, j, `-tenant/c/c`)
	one, none := "a", ""
	field := func(name, value string) []journal.Field { return []journal.Field{{Name: name, Value: value}} }
	for _, c := range []struct {
		q    journal.Query
		want string
	}{
		{journal.Query{Kind: "tenant"}, "B/B a/a b/b ö/ö"}, // by bytes, not by locale
		{journal.Query{Kind: "tenant", Order: journal.ByRevision}, "B/B b/b ö/ö a/a"},
		{journal.Query{Kind: "tenant", Order: journal.ByNewest}, "a/a ö/ö b/b B/B"},
		{journal.Query{Kind: "tenant", Where: field("plan", "gold")}, "a/a b/b"},
		{journal.Query{Kind: "tenant", Where: field("plan", "free")}, "B/B ö/ö"},
		{journal.Query{Kind: "tenant", Where: field("domain", "x.example")}, "b/b"},
		{journal.Query{Kind: "tenant", Where: append(field("plan", "gold"), field("domain", "y.example")...)}, "a/a"},
		{journal.Query{Kind: "tenant", Where: append(field("plan", "free"), field("domain", "y.example")...)}, ""},
		{journal.Query{Kind: "tenant", Where: field("plan", "gold"), Order: journal.ByNewest}, "a/a b/b"},
		{journal.Query{Kind: "tenant", Where: field("plan", "gold"), Tenant: &one}, "a/a"},
		{journal.Query{Kind: "key"}, "a/k1 a/k2 b/k1"},
		{journal.Query{Kind: "key", Tenant: &one}, "a/k1 a/k2"},
		{journal.Query{Kind: "key", Tenant: &none}, ""},
		{journal.Query{Kind: "key", Prefix: "k1"}, "a/k1 b/k1"},
		{journal.Query{Kind: "key", TenantPrefix: "a"}, "a/k1 a/k2"},
		{journal.Query{Kind: "tenant", Where: field("plan", "free"), TenantPrefix: "ö"}, "ö/ö"},
		{journal.Query{Kind: "nothing"}, ""},
	} {
		for limit := 1; limit < 6; limit++ { // however it is cut into pages
			q := c.q
			q.Limit = limit
			var got []journal.Resource
			for pages := 0; pages < 10; pages++ {
				p, err := j.List(t.Context(), q)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, p.Items...)
				if q.After = p.Next; q.After == "" {
					break
				}
			}
			same(t, fmt.Sprintf("%+v", q), names(got), c.want)
		}
		n, err := j.Count(t.Context(), c.q)
		if want := len(strings.Fields(c.want)); n != want || err != nil {
			t.Errorf("%+v: count %d, want %d, %v", c.q, n, want, err)
		}
	}
	for _, q := range []journal.Query{
		{}, {Kind: "tenant", After: "?"}, {Kind: "tenant", After: "e30"}, {Kind: "key", Where: field("plan", "free")},
	} {
		if _, err := j.List(t.Context(), q); !errors.Is(err, journal.ErrInvalid) {
			t.Errorf("%+v: %v", q, err)
		}
	}
	Sound(t, j)
}

// index: a journal opened with another index finds what was put before.
func index(t *testing.T, address Address) {
	at := address(t)
	j := Open(t, journal.Config{Address: at})
	for i := range 150 {
		do(t, j, fmt.Sprintf(`tenant/t%03d/t={"a/b":{"c":[{"n":%d},{"n":true}]},"plan":"p"}`, i, i%100))
	}
	old := j
	j = Open(t, journal.Config{Address: at, Index: journal.Index{"tenant": {"n": "/a~1b/*/*/n", "plan": "/plan"}}})
	for value, want := range map[string]int{"true": 150, "7": 2, "77": 1, "x": 0} {
		n, err := j.Count(t.Context(), journal.Query{Kind: "tenant", Where: []journal.Field{{Name: "n", Value: value}}})
		if n != want || err != nil {
			t.Errorf("n = %s: %d, want %d, %v", value, n, want, err)
		}
	}
	Sound(t, j)
	// One that knows no index, and one that was there before the index was,
	// keep it.
	do(t, Open(t, journal.Config{Address: at}), `tenant/new/t={"plan":"p"}`)
	do(t, old, `tenant/new2/t={"plan":"p"}`)
	n, err := j.Count(t.Context(), journal.Query{Kind: "tenant", Where: []journal.Field{{Name: "plan", Value: "p"}}})
	if n != 152 || err != nil {
		t.Errorf("of plan p: %d, want 152, %v", n, err)
	}
	Sound(t, j)
	Sound(t, old)
	if _, err := journal.Open(t.Context(), journal.Config{Address: at, Index: journal.Index{"tenant": {"n": "n"}}}); !errors.Is(err, journal.ErrInvalid) {
		t.Errorf("a path that is no pointer: %v", err)
	}
}

func timeTravel(t *testing.T, address Address) {
	clock := NewClock()
	j := Open(t, journal.Config{Address: address(t), Clock: clock.Now})
	for _, words := range [][]string{
		{`k/a/x={"v":1}`, `k/a/y={"v":1}`},
		{`k/a/x={"v":2,"w":[1,2]}`},
		{`-k/a/x`},
		{`k/a/x={"v":4}`, `k/b/z={}`},
	} {
		do(t, j, words...)
		clock.Add(time.Minute)
	}
	var got []string
	for seq := range uint64(6) {
		v, err := j.AsOf(t.Context(), ref("k/a/x"), seq)
		if err != nil {
			got = append(got, err.Error())
			continue
		}
		got = append(got, line(v))
	}
	same(t, "as of", strings.Join(got, "\n"), `k/a/x does not exist
k/a/x @1 03:00:00 03:00:00 {"v":1}
k/a/x @2 03:00:00 03:01:00 {"v":2,"w":[1,2]}
k/a/x does not exist
k/a/x @4 03:03:00 03:03:00 {"v":4}
k/a/x @4 03:03:00 03:03:00 {"v":4}`)
	a := "a"
	for seq, want := range []string{"", "a/x@1 a/y@1", "a/x@2 a/y@1", "a/y@1", "a/x@4 a/y@1 b/z@4"} {
		var all, ofA []string
		for v, err := range j.AllAsOf(t.Context(), "k", nil, uint64(seq)) {
			all = append(all, fmt.Sprintf("%s/%s@%d", v.Tenant, v.ID, v.Revision))
			if err != nil {
				t.Fatal(err)
			}
		}
		for v, err := range j.AllAsOf(t.Context(), "k", &a, uint64(seq)) {
			if err != nil {
				t.Fatal(err)
			}
			ofA = append(ofA, fmt.Sprintf("%s/%s@%d", v.Tenant, v.ID, v.Revision))
		}
		same(t, fmt.Sprintf("all as of %d", seq), strings.Join(all, " "), want)
		same(t, fmt.Sprintf("a's as of %d", seq), strings.Join(ofA, " "), strings.TrimSuffix(want, " b/z@4"))
	}
	history, err := j.History(t.Context(), ref("k/a/x"), 0, 3)
	if err != nil {
		t.Fatal(err)
	}
	got = nil
	for _, e := range history {
		got = append(got, fmt.Sprintf("%d from %d: %s", e.Seq, e.Edits[0].Before, e.Edits[0].After))
	}
	same(t, "history", strings.Join(got, "\n"), "4 from 0: {\"v\":4}\n3 from 2: \n2 from 1: {\"v\":2,\"w\":[1,2]}")
	start := NewClock().Now()
	for after, want := range map[time.Duration]uint64{-1000: 0, 0: 1, 59 * time.Second: 1, time.Minute: 2, time.Hour: 4} {
		if n, err := j.SeqAt(t.Context(), start.Add(after)); n != want || err != nil {
			t.Errorf("seq at +%s: %d, want %d, %v", after, n, want, err)
		}
	}
	d, err := journal.Diff(history[2].Edits[0].After, history[0].Edits[0].After)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "diff", string(text), `[{"pointer":"/v","before":2,"after":4},{"pointer":"/w","before":[1,2]}]`)
}

func undo(t *testing.T, address Address) {
	j := Open(t, journal.Config{Address: address(t), Clock: NewClock().Now})
	sign := func(c journal.Change, err error) journal.Change {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		c.Actor, c.Kind = "ann", "revert"
		return c
	}
	must := func(c journal.Change) {
		t.Helper()
		if _, err := j.Commit(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	do(t, j, `k/a/x=1`, `k/a/y=1`, `k/a/u=1`)
	do(t, j, `k/a/x=2`, `k/a/z=2`, `-k/a/y`)
	back := sign(j.Undo(t.Context(), 2))
	must(back)
	same(t, "state", State(t, j), "k/a/u @1 03:00:00 03:00:00 1\nk/a/x @3 03:00:00 03:00:00 1\nk/a/y @3 03:00:00 03:00:00 1")
	if _, err := j.Commit(t.Context(), back); err == nil {
		t.Error("undone twice")
	}
	if _, err := j.Undo(t.Context(), 2); err == nil || !strings.Contains(err.Error(), "k/a/x is at revision 3, not 2") {
		t.Errorf("undo of what has been written since: %v", err)
	}
	must(sign(j.Restore(t.Context(), ref("k/a/x"), 2)))
	must(sign(j.Restore(t.Context(), ref("k/a/y"), 0)))
	must(sign(j.Restore(t.Context(), ref("k/a/none"), 0)))
	same(t, "state", State(t, j), "k/a/u @1 03:00:00 03:00:00 1\nk/a/x @4 03:00:00 03:00:00 2")
	Sound(t, j)
}

func events(t *testing.T, address Address) {
	clock := NewClock()
	j := Open(t, journal.Config{Address: address(t), Clock: clock.Now})
	for i, kind := range []string{"tenant.create", "tenant.update", "tenants", "key.create", "tenant.delete"} {
		_, err := j.Commit(t.Context(), journal.Change{
			Actor: []string{"ann", "bob"}[i%2], Kind: kind, Tenant: []string{"a", "b", "c"}[i%3], Subject: fmt.Sprint("s", i%4),
		})
		if err != nil {
			t.Fatal(err)
		}
		clock.Add(time.Second)
	}
	start := NewClock().Now()
	for _, c := range []struct {
		f            journal.Filter
		want, newest string
	}{
		{journal.Filter{}, "1 2 3", "5 4 3"},
		{journal.Filter{After: 2}, "3 4 5", "5 4 3"},
		{journal.Filter{Before: 3}, "1 2", "2 1"},
		{journal.Filter{Tenant: "a"}, "1 4", "4 1"},
		{journal.Filter{Actor: "bob"}, "2 4", "4 2"},
		{journal.Filter{Subject: "s0"}, "1 5", "5 1"},
		{journal.Filter{Kinds: []string{"tenant.*", "key.create"}, After: 1}, "2 4 5", "5 4 2"},
		{journal.Filter{Kinds: []string{"tenants"}}, "3", "3"},
		{journal.Filter{From: start.Add(time.Second), To: start.Add(3 * time.Second)}, "2 3", "3 2"},
		{journal.Filter{Actor: "ann", Tenant: "b"}, "5", "5"},
	} {
		for read, want := range map[string]string{"events": c.want, "newest": c.newest} {
			f := j.Events
			if read == "newest" {
				f = j.Newest
			}
			found, err := f(t.Context(), c.f, 3)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range found {
				got = append(got, fmt.Sprint(e.Seq))
			}
			same(t, fmt.Sprintf("%s %+v", read, c.f), strings.Join(got, " "), want)
		}
	}
	if _, err := j.Event(t.Context(), 6); !errors.Is(err, journal.ErrNotFound) {
		t.Errorf("event 6: %v", err)
	}
}

// watch: every event arrives once and in order, of this process and of
// another.
func watch(t *testing.T, address Address) {
	at := address(t)
	here, there := Open(t, journal.Config{Address: at}), Open(t, journal.Config{Address: at})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	do(t, here)
	const each = 40
	done := make(chan string, 2)
	for _, j := range []*journal.Journal{here, there} {
		go func() {
			want := uint64(1)
			for e, err := range j.Watch(ctx, 0) {
				if err != nil || e.Seq != want {
					done <- fmt.Sprintf("event %d instead of %d: %v", e.Seq, want, err)
					return
				}
				if want++; want > 1+2*each {
					break
				}
			}
			done <- ""
		}()
	}
	for range each {
		do(t, here)
		do(t, there)
	}
	for range 2 {
		same(t, "watch", <-done, "")
	}
	cancel()
	for _, err := range here.Watch(ctx, 0) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("watch after the context's end: %v", err)
		}
	}
}

// Prompt fails the test when what from commits reaches a watch of to by its
// polling only.
func Prompt(t testing.TB, from, to *journal.Journal) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	arrived := make(chan uint64)
	go func() {
		defer close(arrived)
		for e, err := range to.Watch(ctx, 0) {
			if err != nil {
				return
			}
			arrived <- e.Seq
		}
	}()
	deadline := time.After(10 * time.Second) // polling would take 30
	for seq := uint64(1); seq <= 30; seq++ {
		do(t, from)
		select {
		case got := <-arrived:
			if got != seq {
				t.Errorf("event %d instead of %d", got, seq)
			}
		case <-deadline:
			t.Errorf("event %d has not come", seq)
			seq = 30
		}
	}
	cancel()
	for range arrived {
	}
}
