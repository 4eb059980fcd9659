package identity

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// Whatever the edits, every index holds what a map would, then and later, and
// two of them differ by what was changed between.
func TestIndexAgreesWithMap(t *testing.T) {
	secrets := make([]secret, 3000)
	at := func(n int) entry { return entry{uint64(n) * 0x9e3779b97f4a7c15 >> 20, &secrets[n]} }
	set := func(x *index) map[entry]bool {
		m := map[entry]bool{}
		for e := range x.all() {
			m[e] = true
		}
		return m
	}
	rapid.Check(t, func(rt *rapid.T) {
		x, model := &index{}, map[entry]bool{}
		for range rapid.IntRange(1, 6).Draw(rt, "edits") {
			next := maps.Clone(model)
			e := x.edit(rapid.SampledFrom([]int{0, len(model), 3000}).Draw(rt, "hint"))
			from, n := rapid.IntRange(0, 2999).Draw(rt, "from"), rapid.SampledFrom([]int{1, 5, 100, 2000}).Draw(rt, "n")
			for i := from; i < min(from+n, 3000); i++ {
				if rapid.Bool().Draw(rt, "put") && !next[at(i)] {
					e.put(at(i))
					next[at(i)] = true
				} else if e.remove(at(i)) != next[at(i)] {
					rt.Fatalf("remove %d: was there %v", i, next[at(i)])
				} else {
					delete(next, at(i))
				}
			}
			y := &e.index
			if !maps.Equal(set(y), next) || y.count != len(next) {
				rt.Fatalf("%d entries, want %d", y.count, len(next))
			}
			for i := range secrets {
				if y.has(at(i)) != next[at(i)] {
					rt.Fatalf("has %d: want %v", i, next[at(i)])
				}
			}
			if !maps.Equal(set(x), model) {
				rt.Fatal("the edit changed the index that it came from")
			}
			gone, come := x.diff(y)
			for _, e := range gone {
				if !model[e] || next[e] {
					rt.Fatal("not gone")
				}
			}
			for _, e := range come {
				if model[e] || !next[e] {
					rt.Fatal("not come")
				}
			}
			if len(model)-len(gone)+len(come) != len(next) {
				rt.Fatalf("%d - %d + %d entries are not %d", len(model), len(gone), len(come), len(next))
			}
			x, model = y, next
		}
	})
}

// One entry changed leaves all but one page shared.
func TestIndexShares(t *testing.T) {
	secrets := make([]secret, 10_000)
	e := (&index{}).edit(len(secrets))
	for i := range secrets {
		e.put(entry{uint64(i) * 0x9e3779b97f4a7c15, &secrets[i]})
	}
	x := e.index
	e = x.edit(x.count)
	e.remove(entry{0, &secrets[0]})
	own := 0
	for i, p := range e.pages {
		if !slices.Contains(x.pages, p) {
			own++
		} else if x.pages[i] != p {
			t.Errorf("page %d moved", i)
		}
	}
	if own != 1 || len(x.pages) < 8 {
		t.Errorf("%d of %d pages copied", own, len(x.pages))
	}
}
