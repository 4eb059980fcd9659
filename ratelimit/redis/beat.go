package redis

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	beatEvery = 250 * time.Millisecond
	// settleAfter is how long after its first sign every other gateway has
	// heard of one: two of their beats.
	settleAfter = 2 * beatEvery
	// deadAfter is how long after its last sign a gateway is held for dead.
	deadAfter = 5 * time.Second
	// gatewaysKey holds the gateways that live. It belongs to no tenant.
	gatewaysKey = "gh:gateways"
)

// beat says that this gateway lives, and learns how many do, until ctx ends;
// then it says that it goes. While Redis does not answer the last number
// holds.
func (s *Store) beat(ctx context.Context) {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	script := redis.NewScript(beatSource)
	say := func(what string) error {
		n, err := script.Run(context.WithoutCancel(ctx), s.client, []string{gatewaysKey}, s.gateway, deadAfter.Microseconds(), what).Int64()
		if err == nil {
			s.gateways.Store(max(n, 1))
		}
		return err
	}
	var heard time.Time // since when the others can know of this one
	err := say("here")
	if err == nil {
		heard = time.Now()
	} else if len(s.shards) == 1 {
		// No request needs to find out. Of a Cluster it is not known which
		// shards it is true of.
		s.shards[0].trip(s, 0, gatewaysKey+":probe", err)
	}
	for {
		select {
		case <-ctx.Done():
			_ = say("leave") // the others find out by themselves
			return
		case <-tick.C:
			// Where it fails the breaker sees it at the next question.
			if err := say("here"); err == nil && heard.IsZero() {
				heard = time.Now()
			}
			if !heard.IsZero() && time.Since(heard) >= settleAfter {
				s.settled.Store(true)
			}
		}
	}
}
