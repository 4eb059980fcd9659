package upstream

import (
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/gatehouse-gateway/gatehouse"
)

func growing(balance gatehouse.Balance) gatehouse.Backend {
	return gatehouse.Backend{Balance: balance, SlowStart: seconds(100)}
}

// parts is how much of its weight each member has.
func parts(b *Backend) (s string) {
	for _, e := range b.Stats().Endpoints {
		s += fmt.Sprintf(" %.2f", e.SlowStart)
	}
	return s
}

// What slow start is for: endpoints added, healthy again, back from ejection,
// and of a circuit that closes. Not for those a backend begins with.
func TestSlowStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(Config{Dial: nowhere})
		defer c.Close()
		wait := func(s int) { <-time.After(time.Duration(s) * time.Second) }
		doc := growing(gatehouse.RoundRobin)
		doc.Circuit = gatehouse.Circuit{FailureRatio: 100 * 100, MinRequests: 10}
		b := numbered(t, c, nil, doc, 0, 1)
		want(t, parts(b), " 1.00 1.00")
		b = numbered(t, c, b, doc, 0, 1, 2)
		want(t, parts(b), " 1.00 1.00 0.10")
		wait(10)
		want(t, parts(b), " 1.00 1.00 0.19")
		wait(40)
		b = numbered(t, c, b, doc, 2, 1, 3)
		want(t, parts(b), " 0.55 1.00 0.10")
		wait(50)
		want(t, parts(b), " 1.00 1.00 0.55")
		wait(50)
		want(t, parts(b), " 1.00 1.00 1.00")

		fail(b, 0, 5)
		wait(10)
		want(t, parts(b), " 1.00 1.00 1.00") // it grows from its first pick
		turns(b, 1)
		want(t, parts(b), " 0.10 1.00 1.00")
		wait(1000)

		k := &check{endpoint: b.members[1].endpoint, rules: b.health, log: b.log()}
		k.judge(9, 0, nil)
		want(t, parts(b), " 1.00 1.00 1.00") // it always was
		k.judge(0, 9, nil)
		k.judge(9, 0, nil)
		want(t, parts(b), " 1.00 0.10 1.00")
		wait(1000)

		fail(b, 2, 10)
		want(t, b.Stats().Endpoints[2].Circuit, "open")
		wait(1000)
		turns(b, 1) // the ejection, which there was as well, is over
		wait(1000)
		want(t, parts(b), " 1.00 1.00 1.00")
		b.members[0].sick.Store(true)
		b.members[1].sick.Store(true)
		chosen(b)(good)
		want(t, parts(b), " 1.00 1.00 0.10")

		b = numbered(t, c, b, gatehouse.Backend{}, 0, 1, 2, 3)
		want(t, parts(b), " 1.00 1.00 1.00 1.00")
	})
}

// At any moment of any slow start, picks in turn and by hash are shared by the
// weights as they are then.
func TestSlowStartShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(bubbled{t}, func(rt *rapid.T) {
			c := New(Config{Dial: nowhere})
			defer c.Close()
			balance := rapid.SampledFrom([]gatehouse.Balance{gatehouse.RoundRobin, gatehouse.ConsistentHash}).Draw(rt, "balance")
			b := numbered(t, c, nil, growing(balance), []int{0, 1, 2, 3, 4}[:rapid.IntRange(2, 5).Draw(rt, "members")]...)
			ages := make([]int, len(b.members))
			for i := range ages {
				ages[i] = rapid.IntRange(-1, 120).Draw(rt, "age")
			}
			<-time.After(200 * time.Second)
			now := b.client.clock.now()
			total, weights := 0.0, make([]float64, len(ages))
			for i, age := range ages {
				b.members[i].weight = int64(rapid.IntRange(1, 9).Draw(rt, "weight"))
				part := 1.0
				if age >= 0 {
					b.members[i].rise(now - time.Duration(age)*time.Second)
					part = min(0.1+0.9*float64(age)/100, 1)
				}
				weights[i] = float64(b.members[i].weight) * part
				total += weights[i]
			}
			const picks = 4000
			got := make([]float64, len(ages))
			for key := range uint64(picks) {
				got[b.pick(key, nil)]++
			}
			for i := range got {
				expected := picks * weights[i] / total
				off := 0.01*picks + 1 // thousandths are cut off
				if balance == gatehouse.ConsistentHash {
					off = 6 * math.Sqrt(expected) // and keys fall at random
				}
				if math.Abs(got[i]-expected) > off {
					rt.Fatalf("%s: weights %v: picked %v", balance, weights, got)
				}
			}
		})
	})
}

// As an endpoint grows, keys come to it and to no other, and stay.
func TestSlowStartOfKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(Config{Dial: nowhere})
		defer c.Close()
		b := numbered(t, c, nil, growing(gatehouse.ConsistentHash), 0, 1, 2)
		b = numbered(t, c, b, growing(gatehouse.ConsistentHash), 0, 1, 2, 3)
		const keys = 4000
		place, had := make([]int, keys), 0
		for step := range 12 {
			n := 0
			for key := range place {
				i := b.pick(uint64(key), nil)
				if step > 0 && i != place[key] && i != 3 {
					t.Fatalf("key %d moved from %d to %d", key, place[key], i)
				}
				place[key] = i
				if i == 3 {
					n++
				}
			}
			if n < had {
				t.Errorf("%d keys, and before %d", n, had)
			}
			had = n
			if step == 0 && (n < 50 || n > 250) || step == 11 && (n < 850 || n > 1150) {
				t.Errorf("%d keys of %d at step %d", n, keys, step)
			}
			<-time.After(10 * time.Second)
		}
	})
}

// By least requests an endpoint that is new, and idle, does not get all.
func TestSlowStartOfLeast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(Config{Dial: nowhere})
		defer c.Close()
		b := numbered(t, c, nil, growing(gatehouse.LeastRequests), 0)
		b = numbered(t, c, b, growing(gatehouse.LeastRequests), 0, 1)
		f := func(inFlight0, inFlight1 int64, expected float64) {
			t.Helper()
			b.members[0].inFlight.Store(inFlight0)
			b.members[1].inFlight.Store(inFlight1)
			const picks = 40_000
			n := 0.0
			for range picks {
				n += float64(b.pick(0, nil))
			}
			if got := n / picks; math.Abs(got-expected) > 0.02 {
				t.Errorf("%d and %d in flight: it gets %.3f, want %.3f", inFlight0, inFlight1, got, expected)
			}
		}
		f(5, 5, 1/11.0)             // it is drawn first
		f(5, 4, 1/11.0+10/11.0*0.1) // or second
		f(5, 6, 0)
		<-time.After(50 * time.Second)
		f(5, 4, 0.55/1.55+1/1.55*0.55)
		<-time.After(50 * time.Second)
		f(5, 5, 0.5)
		f(5, 4, 1)
	})
}
