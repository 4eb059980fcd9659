package ratelimit

import (
	"encoding/binary"
	"math"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// Users beyond those told apart are counted within the error that is stated,
// and forgotten after a minute and the span of a sketch.
func TestCrowd(t *testing.T) {
	const bound = 50_000
	s := NewLocal("acme", 0).Stack(noon, nil, Scope{Kind: TenantScope, Limits: gatehouse.Limits{MaxConcurrentUsers: bound}})
	now := noon
	come := func(n int) (passed int) {
		var who [8]byte
		for i := range n {
			binary.LittleEndian.PutUint64(who[:], uint64(i))
			var tk Ticket
			now = now.Add(200 * time.Microsecond)
			if s.Take(&Request{Now: now, Principal: who[:]}, &tk).Allowed {
				passed++
			}
			tk.Done(now)
		}
		return passed
	}
	used := func() float64 { return float64(s.Levels(nil, &Request{Now: now})[0].Used) }
	if n := come(30_000); n != 30_000 {
		t.Errorf("%d of 30000 passed", n)
	}
	now = now.Add(estimateEvery)
	if got := used(); math.Abs(got-30_000) > 30_000*0.0081*4 {
		t.Errorf("30000 users are counted as %g", got)
	}
	if n := come(70_000); math.Abs(float64(n)-bound) > bound*0.05 {
		t.Errorf("%d users passed the bound of %d", n, bound)
	}
	now = now.Add(userWindow + sketchSpan)
	if got := used(); got != 0 {
		t.Errorf("after a minute of silence %g are counted", got)
	}
}
