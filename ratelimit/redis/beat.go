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
	say := func(what string) {
		n, err := script.Run(context.WithoutCancel(ctx), s.client, []string{gatewaysKey}, s.gateway, deadAfter.Microseconds(), what).Int64()
		if err == nil {
			s.gateways.Store(max(n, 1))
		}
	}
	say("here")
	for {
		select {
		case <-ctx.Done():
			say("leave")
			return
		case <-tick.C:
			say("here")
		}
	}
}
