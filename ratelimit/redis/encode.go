package redis

import (
	"context"
	"crypto/sha1"
	_ "embed" // the scripts
	"encoding/hex"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gatehouse-gateway/gatehouse/ratelimit"
)

const (
	// placeTime is how long a place is kept that nobody renews: those of a
	// gateway that was killed come back after it. Renewals come every 5s.
	placeTime = 20 * time.Second
	userTime  = time.Minute
	// exactUsers is how many users are told apart; more are estimated.
	exactUsers = 10_000
)

//go:embed take.lua
var takeSource string

//go:embed keep.lua
var keepSource string

//go:embed beat.lua
var beatSource string

// sha returns the name that Redis gives a script.
func sha(source string) string {
	sum := sha1.Sum([]byte(source))
	return hex.EncodeToString(sum[:])
}

// runsTake reports whether a is for take.lua.
func runsTake(a *ratelimit.Ask) bool {
	return a.Action == ratelimit.Take || a.Action == ratelimit.TopUp || a.Action == ratelimit.Return && !a.Kind.Capacity()
}

// encode adds the command of a call to p.
func (s *Store) encode(ctx context.Context, p redis.Pipeliner, c *ratelimit.Call, how eval) *redis.Cmd {
	source := &s.take
	if !runsTake(&c.Asks[0]) {
		source = &s.keep
	}
	script := source.sha
	if how.whole {
		script = source.source
	}
	if source == &s.keep {
		return s.encodeKeep(ctx, p, &c.Asks[0], script, how)
	}
	keys := make([]string, len(c.Asks))
	args := make([]any, 0, 12*len(c.Asks))
	at := time.UnixMicro(time.Now().UnixMicro() + s.skew.Load())
	for i := range c.Asks {
		a := &c.Asks[i]
		keys[i] = a.Key
		args = s.terms(args, a, at)
	}
	return how.run(p, ctx, script, keys, args...)
}

// terms appends the twelve values of one count.
func (s *Store) terms(args []any, a *ratelimit.Ask, at time.Time) []any {
	cost, ahead, debt := a.Cost, a.Ahead, a.Debt
	if a.Action != ratelimit.Take {
		cost, ahead, debt = 0, 0, -a.Cost
	}
	switch t := &a.Terms; a.Kind {
	case ratelimit.Rate:
		return append(args, "r", cost, ahead, debt, 0, t.Count, t.Per, t.Burst, a.Age, 0, 0, "")
	case ratelimit.Quota:
		var start, end, next int64
		if t.Length == 0 {
			start, end, next = a.Window(at)
		}
		forced := 0
		if a.Forced {
			forced = 1
		}
		return append(args, "q", cost, ahead, debt, a.Start, a.Quota, forced, t.Length, start, end, next, t.Name)
	case ratelimit.Concurrency:
		return append(args, "c", cost, ahead, 0, 0, a.Quota, a.ID, placeTime.Microseconds(), 0, 0, 0, s.gateway)
	default:
		return append(args, "u", cost, 0, 0, 0, a.Quota, userTime.Microseconds(), exactUsers, 0, 0, 0, a.User[:])
	}
}

// encodeKeep adds the command that gives back or keeps members of a set.
func (s *Store) encodeKeep(ctx context.Context, p redis.Pipeliner, a *ratelimit.Ask, script string, how eval) *redis.Cmd {
	var members []any
	if a.Kind == ratelimit.Users {
		for i := 0; i+1 < len(a.IDs); i += 2 {
			members = append(members, ratelimit.UserBytes(a.IDs[i], a.IDs[i+1]))
		}
	} else {
		for _, id := range a.IDs {
			members = append(members, s.gateway+":"+strconv.FormatUint(id, 10))
		}
	}
	if a.Action == ratelimit.Return {
		return p.Do(ctx, append([]any{"ZREM", a.Key}, members...)...)
	}
	ahead, ttl := int64(0), userTime
	if a.Kind == ratelimit.Concurrency {
		ahead, ttl = placeTime.Microseconds(), placeTime
	}
	return how.run(p, ctx, script, []string{a.Key}, append([]any{ahead, ttl.Milliseconds() + 1000}, members...)...)
}
