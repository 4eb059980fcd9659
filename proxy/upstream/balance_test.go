package upstream

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/gatehouse-gateway/gatehouse"
)

// weighted returns a backend whose endpoints, http://0 and so on, have the
// weights. It is never connected.
func weighted(t testing.TB, balance gatehouse.Balance, weights ...int) *Backend {
	doc := gatehouse.Backend{Balance: balance, Health: gatehouse.Health{Path: "/"}}
	for i, w := range weights {
		doc.Endpoints = append(doc.Endpoints, gatehouse.Endpoint{URL: fmt.Sprintf("http://%d", i), Weight: w})
	}
	return version(t, client(t, Config{Dial: nowhere}), nil, doc)
}

func TestRoundRobin(t *testing.T) {
	f := func(order string, sick []int, weights ...int) {
		t.Helper()
		b := weighted(t, gatehouse.RoundRobin, weights...)
		for _, i := range sick {
			b.members[i].sick.Store(true)
		}
		var got strings.Builder
		for range len(order) {
			fmt.Fprint(&got, b.pick(0, nil))
		}
		want(t, got.String(), order)
	}
	f("000", nil, 1)
	f("012012", nil, 1, 1, 1)
	f("00102000010200", nil, 5, 1, 1)
	f("0202", []int{1}, 1, 1, 1)
	f("111", []int{0, 2}, 1, 1, 1)
	f("012012", []int{0, 1, 2}, 1, 1, 1)
	f("01", nil, 0, 0)
}

// In any run of picks each share is within one pick of its weight's.
func TestRoundRobinIsSmooth(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		weights := rapid.SliceOfN(rapid.IntRange(1, 20), 2, 6).Draw(rt, "weights")
		b := weighted(t, gatehouse.RoundRobin, weights...)
		total := 0
		for _, w := range weights {
			total += w
		}
		got := make([]int, len(weights))
		for n := 1; n <= 2*total; n++ {
			got[b.pick(0, nil)]++
			for i, w := range weights {
				// Compared times total, so that nothing is rounded.
				if off := got[i]*total - n*w; off > total*len(weights) || -off > total*len(weights) {
					rt.Fatalf("after %d picks: %v", n, got)
				}
			}
			if n%total == 0 {
				for i, w := range weights {
					if got[i] != w*n/total {
						rt.Fatalf("after %d picks: %v for %v", n, got, weights)
					}
				}
			}
		}
	})
}

func TestLeastRequests(t *testing.T) {
	share := func(b *Backend, tried ...int) []int {
		got := make([]int, len(b.members))
		for range 30_000 {
			got[b.pick(0, tried)]++
		}
		return got
	}
	near := func(what string, got []int, expected ...int) {
		t.Helper()
		for i := range got {
			if diff := got[i] - expected[i]; diff < -900 || diff > 900 {
				t.Errorf("%s: %v, want about %v", what, got, expected)
				return
			}
		}
	}
	near("by weight", share(weighted(t, gatehouse.LeastRequests, 4, 1, 1)), 20_000, 5_000, 5_000)

	b := weighted(t, gatehouse.LeastRequests, 1, 1, 1)
	b.members[0].inFlight.Store(5)
	near("the busiest of three never wins", share(b), 0, 15_000, 15_000)

	b.members[1].inFlight.Store(3)
	// Drawn pairs are 01, 02 and 12, each a third.
	near("the idlest wins where it is drawn", share(b), 0, 10_000, 20_000)

	b.members[2].sick.Store(true)
	near("the sick are not drawn", share(b), 0, 30_000, 0)
	near("nor the tried", share(b, 1), 30_000, 0, 0)
}

func TestConsistentHash(t *testing.T) {
	const keys = 40_000
	placed := func(b *Backend) (urls []string, shares map[string]int) {
		shares = map[string]int{}
		for key := range uint64(keys) {
			u := b.members[b.pick(key, nil)].url
			urls = append(urls, u)
			shares[u]++
		}
		return urls, shares
	}
	before, shares := placed(weighted(t, gatehouse.ConsistentHash, 1, 1, 2))
	for u, expected := range map[string]int{"http://0": keys / 4, "http://1": keys / 4, "http://2": keys / 2} {
		if diff := shares[u] - expected; diff < -keys/50 || diff > keys/50 {
			t.Errorf("%s has %d keys, want about %d", u, shares[u], expected)
		}
	}

	grown, shares := placed(weighted(t, gatehouse.ConsistentHash, 1, 1, 2, 1))
	moved := 0
	for i := range before {
		if before[i] != grown[i] {
			moved++
			if grown[i] != "http://3" {
				t.Fatalf("key %d moved from %s to %s, not to the new endpoint", i, before[i], grown[i])
			}
		}
	}
	if moved != shares["http://3"] || moved < keys/6 || moved > keys/4 {
		t.Errorf("%d keys moved", moved)
	}

	b := weighted(t, gatehouse.ConsistentHash, 1, 1, 2)
	b.members[1].sick.Store(true)
	without, _ := placed(b)
	for i := range before {
		if before[i] != "http://1" && before[i] != without[i] {
			t.Fatalf("key %d moved from %s, which is well, to %s", i, before[i], without[i])
		}
	}

	reversed := version(t, client(t, Config{Dial: nowhere}), nil, gatehouse.Backend{Balance: gatehouse.ConsistentHash}, "http://b", "http://a")
	forward := version(t, client(t, Config{Dial: nowhere}), nil, gatehouse.Backend{Balance: gatehouse.ConsistentHash}, "http://a", "http://b")
	first, _ := placed(reversed)
	second, _ := placed(forward)
	if fmt.Sprint(first) != fmt.Sprint(second) {
		t.Error("placement goes by the order of the document")
	}
}

// A retry goes elsewhere while there is an elsewhere, whatever the balance.
func TestPickAvoidsTried(t *testing.T) {
	for _, balance := range []gatehouse.Balance{"", gatehouse.RoundRobin, gatehouse.LeastRequests, gatehouse.ConsistentHash} {
		f := func(sick, tried []int, expected ...int) {
			t.Helper()
			b := weighted(t, balance, 1, 100, 1)
			for _, i := range sick {
				b.members[i].sick.Store(true)
			}
			got := map[int]bool{}
			for key := range uint64(10_000) {
				got[b.pick(key, tried)] = true
			}
			for _, i := range expected {
				if !got[i] {
					t.Errorf("%s: sick %v, tried %v: %d is never picked", balance, sick, tried, i)
				}
			}
			if len(got) != len(expected) {
				t.Errorf("%s: sick %v, tried %v: picked %v", balance, sick, tried, got)
			}
		}
		f(nil, nil, 0, 1, 2)
		f(nil, []int{1}, 0, 2)
		f(nil, []int{1, 0}, 2)
		f(nil, []int{0, 1, 2}, 0, 1, 2)
		f([]int{0}, []int{1}, 2)
		f([]int{0, 2}, []int{1}, 1) // the one that is well, though tried
		f([]int{0, 1, 2}, []int{1}, 0, 2)
	}
}
