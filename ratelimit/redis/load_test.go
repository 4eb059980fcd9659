package redis

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse/ratelimit"
)

func (s *Store) background() context.Context { return context.Background() }

// tally is what came of a load.
type tally struct {
	passed, refused, away atomic.Int64
	longest               atomic.Int64 // ns that a request took
}

func (y *tally) String() string {
	return fmt.Sprintf("%d passed, %d refused, %d of them while away, longest wait %s", y.passed.Load(), y.refused.Load(), y.away.Load(), time.Duration(y.longest.Load()).Round(100*time.Microsecond))
}

// hit takes once and notes what came of it.
func (y *tally) hit(s *ratelimit.Stack) ratelimit.Verdict {
	var tk ratelimit.Ticket
	began := time.Now()
	v := s.Take(&ratelimit.Request{Now: began}, &tk)
	took := int64(time.Since(began))
	for old := y.longest.Load(); took > old && !y.longest.CompareAndSwap(old, took); old = y.longest.Load() {
	}
	tk.Done(time.Now())
	if v.Allowed {
		y.passed.Add(1)
	} else {
		y.refused.Add(1)
	}
	if v.Away {
		y.away.Add(1)
	}
	return v
}

// press hits the stacks with workers each until the returned function is
// called; each worker pauses between two hits.
func press(y *tally, workers int, pause time.Duration, stacks ...*ratelimit.Stack) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for i, s := range stacks {
		for j := range workers {
			wg.Go(func() {
				if pause > 0 { // they come one after the other, not all at once
					select {
					case <-time.After(pause * time.Duration(j*len(stacks)+i) / time.Duration(workers*len(stacks))):
					case <-ctx.Done():
					}
				}
				tick := time.NewTicker(max(pause, time.Nanosecond))
				defer tick.Stop()
				for ctx.Err() == nil {
					y.hit(s)
					if pause > 0 {
						<-tick.C
					}
				}
			})
		}
	}
	return sync.OnceFunc(func() { cancel(); wg.Wait() })
}

// become waits until f holds.
func become(t testing.TB, what string, f func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for !f() {
		select {
		case <-time.After(2 * time.Millisecond):
		case <-deadline:
			t.Fatalf("not in time: %s", what)
		}
	}
}
