package redis

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	beatEvery = time.Second
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
	if err := say("here"); err != nil && len(s.shards) == 1 {
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
			_ = say("here") // the breaker sees it at the next question
		}
	}
}
